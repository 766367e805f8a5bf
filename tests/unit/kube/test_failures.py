"""The words for a connection error: which server was asked, what happened, and what to do."""

from __future__ import annotations

import socket
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from reconciler.kube.failures import told

PLACE = "https://api.example.com (context prod)"


def key(host: str = "api.example.com", port: int = 443) -> ConnectionKey:
    return ConnectionKey(host, port, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


def certificate(text: str, **more: str) -> aiohttp.ClientConnectorCertificateError:
    error = ssl.SSLCertVerificationError(1, text)
    for name, value in more.items():
        setattr(error, name, value)
    return aiohttp.ClientConnectorCertificateError(key(), error)


def answered(status: int, message: str) -> aiohttp.ClientHttpProxyError:
    info: Any = SimpleNamespace(real_url="https://api.example.com")
    return aiohttp.ClientHttpProxyError(info, (), status=status, message=message)


ERRORS = {
    "refused": (
        aiohttp.ClientConnectorError(key(), ConnectionRefusedError(111, "Connection refused")),
        "connection refused; check that it runs, and that this is the right host and port",
    ),
    "no such host": (
        aiohttp.ClientConnectorDNSError(key("nowhere.invalid"), socket.gaierror(-2, "Name or service not known")),
        "no such host: nowhere.invalid; check the server of the kubeconfig's cluster, DNS and VPN",
    ),
    "unreachable": (
        aiohttp.ClientConnectorError(key(), OSError(113, "No route to host")),
        "No route to host; check the network and the server of the kubeconfig's cluster",
    ),
    "no words": (
        aiohttp.ClientConnectorError(key(), OSError("odd")),
        "odd; check the network and the server of the kubeconfig's cluster",
    ),
    "not trusted": (
        certificate("a", verify_message="self-signed certificate"),
        "its certificate is not trusted: self-signed certificate; check certificate-authority and server",
    ),
    "not trusted, no words": (certificate("odd"), "its certificate is not trusted: "),
    "no TLS": (
        aiohttp.ClientConnectorSSLError(key(), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")),
        "no TLS connection: ",
    ),
    "proxy refused": (
        aiohttp.ClientProxyConnectionError(key("proxy", 3128), ConnectionRefusedError(111, "Connection refused")),
        "its proxy proxy:3128 is not reached: Connection refused; check proxy-url",
    ),
    "proxy wants a password": (
        answered(407, "Proxy Authentication Required"),
        "its proxy answered 407 Proxy Authentication Required; check proxy-url",
    ),
    "proxy fails": (answered(502, "Bad Gateway"), "its proxy answered 502 Bad Gateway; check proxy-url"),
    "SOCKS proxy": (
        aiohttp.ClientConnectionError("its SOCKS proxy p:1080 failed: host unreachable"),
        "its SOCKS proxy p:1080 failed: host unreachable; check proxy-url",
    ),
    "closed": (aiohttp.ServerDisconnectedError(), "it closed the connection (ServerDisconnectedError"),
    "reset": (ConnectionResetError(104, "Connection reset by peer"), "it closed the connection (ConnectionResetError"),
    "broken": (aiohttp.ClientPayloadError("half an answer"), "ClientPayloadError: half an answer"),
}


@pytest.mark.parametrize(("error", "words"), ERRORS.values(), ids=ERRORS)
def test_a_connection_error_names_the_server_and_what_to_do(error: BaseException, words: str) -> None:
    assert told(error, PLACE).startswith(f"cannot reach {PLACE}: {words}")
