from __future__ import annotations

import pytest

from reconciler.errors import InvalidConfigurationError
from reconciler.kube.proxies import proxy_for

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("server", "no_proxy", "is_direct"),
    [
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3:6443", "192.168.0.0/16, 10.1.2.0/24", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://api.10.1.2.3.nip.io", "10.0.0.0/8", False),
        ("https://[2001:db8::1]:6443", "2001:db8::/32", True),
        ("https://[2001:db9::1]:6443", "2001:db8::/32", False),
        ("https://10.1.2.3", "10.1.2.3/255.0.0.0", False),  # Go knows no netmasks
        ("https://10.1.2.3", "10.0.0.0/33", False),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "10.1.2", False),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3:6443", "10.1.2.3:443", False),
        ("https://10.1.2.3", "10.1.2.3:443", True),  # the port of the scheme
        ("https://[2001:db8::1]:6443", "[2001:db8::1]:6443", True),
        ("https://[2001:db8::1]:6443", "2001:db8::1", True),
        ("https://[2001:db8::1]:6443", "2001:db8:0:0::1", True),
        ("https://[::ffff:10.1.2.3]", "10.1.2.3", True),
        ("https://api.example.org", "example.org", True),
        ("https://example.org", "example.org", True),
        ("https://notexample.org", "example.org", False),
        ("https://api.example.org", ".example.org", True),
        ("https://example.org", ".example.org", False),
        ("https://api.example.org", "*.example.org", True),
        ("https://example.org", "*.example.org", False),
        ("https://API.Example.ORG", "example.org", True),
        ("https://api.example.org", "EXAMPLE.org", True),
        ("https://api.example.org:6443", "example.org:6443", True),
        ("https://api.example.org:6443", ".example.org:443", False),
        ("https://api.example.org", " , ,example.org", True),
        ("https://api.example.org", "*", True),
        ("https://10.1.2.3", "example.org, *", True),
        ("https://api.example.org", "ex*mple.org", False),
        ("https://api.example.org", ":443", False),  # no host: ignored
        ("https://bücher.example", "bücher.example", False),  # httpproxy compares the ASCII form
        ("https://xn--bcher-kva.example", "bücher.example", True),
        ("https://127.0.0.1:6443", "", True),
        ("https://127.9.9.9:6443", "", True),
        ("https://localhost:6443", "", True),
        ("https://[::1]:6443", "", True),
        ("https://localhost.example.org", "", False),
        ("https://0.0.0.0:6443", "", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(server: str, no_proxy: str, *, is_direct: bool) -> None:
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert proxy_for(server, None, environment) == (None if is_direct else PROXY)


@pytest.mark.parametrize(
    ("server", "environment", "expected"),
    [
        ("https://a", {}, None),
        ("https://a", {"HTTP_PROXY": PROXY}, None),
        ("http://a", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://a", {"HTTPS_PROXY": PROXY}, None),
        ("https://a", {"https_proxy": PROXY}, PROXY),
        ("https://a", {"https_proxy": "http://b:1", "HTTPS_PROXY": PROXY}, PROXY),
        ("https://a", {"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY),
        ("https://a", {"HTTPS_PROXY": PROXY, "no_proxy": "a"}, None),
        ("https://a", {"HTTPS_PROXY": PROXY, "NO_PROXY": "b", "no_proxy": "a"}, PROXY),
        ("https://a", {"ALL_PROXY": PROXY}, None),  # Go does not know it
        ("https://a", {"HTTPS_PROXY": "proxy:3128"}, PROXY),
        ("https://a", {"HTTPS_PROXY": "proxy"}, "http://proxy"),
        ("https://a", {"HTTPS_PROXY": "https://u:p@proxy"}, "https://u:p@proxy"),
        ("https://a", {"HTTPS_PROXY": "socks5://proxy:1080"}, "socks5://proxy:1080"),
        ("https://a", {"HTTPS_PROXY": "socks5h://proxy:1080"}, "socks5h://proxy:1080"),
    ],
)
def test_the_environment_names_a_proxy(server: str, environment: dict[str, str], expected: str | None) -> None:
    assert proxy_for(server, None, environment) == expected


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", "https://a", "https://localhost"])
def test_proxy_url_beats_the_environment(server: str) -> None:
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}
    assert proxy_for(server, "socks5://b:1", environment) == "socks5://b:1"


@pytest.mark.parametrize("scheme", ["socks4", "socks", "socks4a", "ftp", "quic", "ssh"])
@pytest.mark.parametrize("place", ["proxy-url", "HTTPS_PROXY"])
def test_a_scheme_that_is_not_supported_is_named(scheme: str, place: str) -> None:
    url = f"{scheme}://user:secret@proxy:1"
    given = (url, {}) if place == "proxy-url" else (None, {"HTTPS_PROXY": url})
    with pytest.raises(InvalidConfigurationError, match=rf"{place}.*: scheme {scheme} of") as found:
        proxy_for("https://a", *given)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("url", ["http://", "http://proxy:port", "://x", "proxy"])
def test_a_proxy_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="proxy-url"):
        proxy_for("https://a", url, {})
