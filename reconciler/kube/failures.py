"""What a connection error means, in the words of kubectl: which server, what happened, what to do. Pure."""

import ssl

import aiohttp


def told(error: BaseException, place: str) -> str:
    """Return the words for `error` of a request to `place`, which names the server and the context."""
    happened, advice = _read(error)
    return f"cannot reach {place}: {happened}" + (f"; {advice}" if advice else "")


def _read(error: BaseException) -> tuple[str, str]:  # noqa: PLR0911 - a table
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return (
                f"its certificate is not trusted: {reason}",
                "check certificate-authority and server of the kubeconfig's cluster",
            )
        case aiohttp.ClientProxyConnectionError():
            return (f"its proxy {error.host}:{error.port} is not reached: {_reason(error.os_error)}", _PROXY)
        case aiohttp.ClientHttpProxyError():
            return f"its proxy answered {error.status} {error.message}", _PROXY
        case aiohttp.ClientConnectorDNSError():
            return f"no such host: {error.host}", "check the server of the kubeconfig's cluster, DNS and VPN"
        case aiohttp.ClientConnectorSSLError():
            return f"no TLS connection: {_reason(error.os_error)}", "check that the server speaks HTTPS"
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionRefusedError):
            return "connection refused", "check that it runs, and that this is the right host and port"
        case aiohttp.ClientConnectorError():
            return _reason(error.os_error), "check the network and the server of the kubeconfig's cluster"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | aiohttp.ClientOSError():
            return f"it closed the connection ({_named(error)})", ""
        case aiohttp.ClientConnectionError() if "proxy" in str(error):
            return str(error), _PROXY
        case _:
            return _named(error), ""


_PROXY = "check proxy-url of the kubeconfig's cluster, HTTPS_PROXY and NO_PROXY"


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "reason", None) or error)
    return str(getattr(error, "strerror", None) or error)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
