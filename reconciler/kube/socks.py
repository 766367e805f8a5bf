"""Connections through a SOCKS5 proxy, which looks up the API server's name itself, as Go has it.

Imported only where such a proxy is configured.
"""

import ssl
from typing import Any

import aiohttp
import python_socks
from aiohttp.client_proto import ResponseHandler
from aiohttp_socks import ProxyConnector


class SocksConnector(ProxyConnector):
    """An aiohttp connector whose failures are aiohttp's own errors."""

    @classmethod
    def through(cls, proxy: str, **arguments: Any) -> "SocksConnector":  # noqa: ANN401 - those of aiohttp.TCPConnector
        """Return one for the URL socks5://[user:password@]host[:port]."""
        kind, host, port, username, password = python_socks.parse_proxy_url(proxy.replace("socks5h://", "socks5://", 1))
        return cls(proxy_type=kind, host=host, port=port, username=username, password=password, rdns=True, **arguments)

    async def _connect_via_proxy(
        self,
        host: str,
        port: int,
        ssl: ssl.SSLContext | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - inherited
    ) -> tuple[Any, ResponseHandler]:
        try:
            return await super()._connect_via_proxy(host, port, ssl, timeout)
        except TimeoutError:
            raise
        except (python_socks.ProxyError, python_socks.ProxyConnectionError) as error:
            proxy = f"{self._proxy_host}:{self._proxy_port}"
            raise aiohttp.ClientConnectionError(f"its SOCKS proxy {proxy} failed: {error}") from error
