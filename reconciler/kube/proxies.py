"""Which proxy, if any, a request to the API server goes through: proxy-url, else the environment as Go reads it.

Pure: values in, one URL out. Source of the rules: golang.org/x/net/http/httpproxy, and client-go's `proxy-url`.
Example: HTTPS_PROXY=http://proxy:3128 and NO_PROXY=10.0.0.0/8 lead to https://10.0.0.1 directly.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from reconciler.errors import InvalidConfigurationError

SOCKS: Final = ("socks5", "socks5h")
_SCHEMES: Final = ("http", "https", *SOCKS)


def proxy_for(server: str, proxy_url: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy to `server`, None for a direct connection.

    `proxy_url` is that of the kubeconfig's cluster: it wins over the environment, NO_PROXY included.
    InvalidConfigurationError where a proxy has a scheme that is not supported.
    """
    if proxy_url:
        return _checked(proxy_url, "proxy-url of the kubeconfig", guess=False)
    url = urlsplit(server)
    name = "HTTPS_PROXY" if url.scheme == "https" else "HTTP_PROXY"
    found = environment.get(name) or environment.get(name.lower()) or ""
    if not found or not _uses_proxy(url, environment.get("NO_PROXY") or environment.get("no_proxy") or ""):
        return None
    return _checked(found, name, guess=True)


def _checked(proxy: str, origin: str, *, guess: bool) -> str:
    url = _split(proxy)
    if guess and (url is None or not url.scheme or not url.netloc):
        proxy = f"http://{proxy}"  # PROXY=host:3128 is common
        url = _split(proxy)
    if url is None or not url.hostname:
        raise InvalidConfigurationError(f"{origin}: expected a URL such as http://proxy:3128, found {_safe(proxy)}")
    if url.scheme not in _SCHEMES:
        raise InvalidConfigurationError(
            f"{origin}: scheme {url.scheme or '(none)'} of {_safe(proxy)} is not supported: use {', '.join(_SCHEMES)}"
        )
    return proxy


def _split(proxy: str) -> SplitResult | None:
    try:
        url = urlsplit(proxy)
        _ = url.port  # raises where it is no number
    except ValueError:
        return None
    return url


def _safe(proxy: str) -> str:
    """Return it without a user and a password."""
    scheme, separator, rest = proxy.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _uses_proxy(url: SplitResult, no_proxy: str) -> bool:
    host = (url.hostname or "").lower()
    port = str(url.port or (443 if url.scheme == "https" else 80))
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return "*" not in entries and not any(entry and _matches(entry, host, port, address) for entry in entries)


def _matches(entry: str, host: str, port: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    """Return whether one entry of NO_PROXY names the host: CIDR, IP[:port], domain[:port] or .domain[:port]."""
    if "/" in entry:
        try:
            return address is not None and address in _plain_network(entry)
        except ValueError:
            return False
    named, wanted_port = _host_and_port(entry)
    if not named or wanted_port not in ("", port):
        return False
    if (wanted := _address(named)) is not None:
        return wanted == address
    named = named.removeprefix("*") if named.startswith("*.") else named
    try:
        named = named.encode("ascii").decode()
    except UnicodeEncodeError:
        named = ".".join(part.encode("idna").decode() for part in named.split("."))
    return host.endswith(named) if named.startswith(".") else host == named or host.endswith(f".{named}")


def _plain_network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if not entry.rpartition("/")[2].isdigit():  # Go knows no netmasks
        raise ValueError(entry)
    return ipaddress.ip_network(entry, strict=False)


def _host_and_port(entry: str) -> tuple[str, str]:
    """Return host and port as net.SplitHostPort reads them; without a port that is the whole entry."""
    if entry.startswith("["):
        host, closing, rest = entry[1:].partition("]")
        return (host, rest[1:]) if closing and rest.startswith(":") else (entry, "")
    return (entry, "") if entry.count(":") != 1 else (entry.partition(":")[0], entry.partition(":")[2])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that `host` is, an IPv4 address in IPv6 form as the former."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
