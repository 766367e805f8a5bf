"""How the client connects: against a small API server of our own, with TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reconciler.cluster import CONFIG_MAPS, Cluster, Target
from reconciler.errors import (
    CredentialPluginError,
    ForbiddenError,
    InvalidConfigurationError,
    ReconcilerError,
    UnavailableError,
)
from reconciler.kube import login as logins
from tests.unit.kube.test_credential_plugin import V1, answer, asked, counting, script

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import Certificate

TARGET = Target(CONFIG_MAPS, "one", "default")


def chain(folder: Path, *, with_key_ids: bool) -> tuple[Path, Path, Path]:
    """Write an authority, and a leaf with its key, with or without key identifiers; return their paths."""
    now = dt.datetime.now(dt.UTC)

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, signer: tuple[str, ec.EllipticCurvePrivateKey]
    ) -> Certificate:
        is_authority = name == signer[0]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, signer[0])]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        if with_key_ids:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return builder.sign(signer[1], hashes.SHA256())

    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    paths = (folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
    paths[0].write_bytes(certificate("authority", ours, ("authority", ours)).public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(certificate("server", theirs, ("authority", ours)).public_bytes(serialization.Encoding.PEM))
    key = theirs.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[2].write_bytes(key)
    return paths


@dataclass
class Api:
    """Answers every GET with a ConfigMap to whoever shows a token in `good`, else 401."""

    folder: Path
    with_key_ids: bool = True
    good: set[str] = field(default_factory=lambda: {"good"})
    seen: list[str | None] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        self.ca, certificate, key = chain(self.folder, with_key_ids=self.with_key_ids)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("Authorization"))
        if (self.seen[-1] or "").removeprefix("Bearer ") not in self.good:
            return web.json_response({"kind": "Status", "message": "Unauthorized"}, status=401)
        return web.json_response({"kind": "ConfigMap", "metadata": {"name": "one", "uid": "u", "resourceVersion": "1"}})

    def kubeconfig(self, user: dict[str, Any], **cluster: object) -> Path:
        """Write a kubeconfig of context `ctx`, user `jane`, and return its path."""
        return kubeconfig(
            self.folder,
            user,
            server=f"https://127.0.0.1:{self.port}",
            **{"certificate-authority": str(self.ca)},
            **cluster,
        )


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: object) -> Path:
    document = {
        "current-context": "ctx",
        "contexts": [{"name": "ctx", "context": {"cluster": "c", "user": "jane"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "jane", "user": user}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    return folder / "kubeconfig"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "_KEPT", {})
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("with_key_ids", [True, False])
async def test_authorities_without_key_identifiers_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_key_ids: bool
) -> None:
    plain = ssl.create_default_context

    def as_python_3_13_does(*arguments: Any, **keywords: Any) -> ssl.SSLContext:  # noqa: ANN401 - handed through
        context = plain(*arguments, **keywords)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async with Api(tmp_path, with_key_ids=with_key_ids) as api:
        monkeypatch.setattr(ssl, "create_default_context", as_python_3_13_does)
        async with Cluster(kubeconfig=api.kubeconfig({"token": "good"})) as cluster:
            assert await cluster.get(TARGET) is not None


async def test_a_leaf_may_be_the_anchor_itself_as_in_go(tmp_path: Path) -> None:
    async with Api(tmp_path) as api:
        path = api.kubeconfig({"token": "good"}, **{"certificate-authority-data": None})
        path.write_text(path.read_text().replace("ca.crt", "tls.crt"))
        async with Cluster(kubeconfig=path) as cluster:
            assert await cluster.get(TARGET) is not None


async def error_of(path: Path) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as found:
        async with Cluster(kubeconfig=path) as cluster:
            await cluster.get(TARGET)
    return found.value


async def test_401_names_user_and_context(tmp_path: Path) -> None:
    async with Api(tmp_path) as api:
        error = await error_of(api.kubeconfig({"token": "bad"}))
    assert isinstance(error, ForbiddenError)
    assert f"credentials of user jane at https://127.0.0.1:{api.port} (context ctx) (401)" in str(error)


async def test_an_authority_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    chain(other, with_key_ids=True)
    async with Api(tmp_path) as api:
        path = api.kubeconfig({"token": "good"})
        path.write_text(path.read_text().replace(str(api.ca), str(other / "ca.crt")))
        error = await error_of(path)
    assert isinstance(error, UnavailableError)
    assert "its certificate is not trusted: " in str(error)
    assert "check certificate-authority" in str(error)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        found: int = one.getsockname()[1]
        return found


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"server": "https://127.0.0.1:PORT"}, "PORT (context ctx): connection refused; check that it runs"),
        ({"server": "https://nowhere.invalid"}, "no such host: nowhere.invalid; check the server of the kubeconfig"),
        ({"server": "https://a", "proxy-url": "http://127.0.0.1:PORT"}, "its proxy 127.0.0.1:PORT is not reached: "),
        ({"server": "https://a", "proxy-url": "socks5://127.0.0.1:PORT"}, "its SOCKS proxy 127.0.0.1:PORT failed: "),
    ],
)  # fmt: skip
async def test_connection_errors_say_what_happened_and_what_to_do(
    tmp_path: Path, cluster: dict[str, Any], words: str
) -> None:
    port = str(free_port())
    cluster = json.loads(json.dumps(cluster).replace("PORT", port))
    error = await error_of(kubeconfig(tmp_path, {"token": "t"}, **cluster))
    assert isinstance(error, UnavailableError)
    assert words.replace("PORT", port) in str(error)
    assert "ctx" in str(error)


@pytest.mark.parametrize("scheme", ["socks4", "ftp"])
async def test_a_proxy_that_is_not_supported_is_refused_at_once(tmp_path: Path, scheme: str) -> None:
    error = await error_of(kubeconfig(tmp_path, {"token": "t"}, server="https://a", **{"proxy-url": f"{scheme}://p:1"}))
    assert isinstance(error, InvalidConfigurationError)
    assert f"scheme {scheme}" in str(error)


def plugin(command: str) -> dict[str, Any]:
    return {"exec": {"apiVersion": V1, "command": command, "interactiveMode": "Never"}}


async def test_a_plugin_that_fails_never_becomes_a_request(tmp_path: Path) -> None:
    async with Api(tmp_path) as api:
        error = await error_of(api.kubeconfig(plugin(script(tmp_path / "p", "echo log in again >&2; exit 1"))))
        assert isinstance(error, CredentialPluginError)
        assert "log in again" in str(error)
        assert api.seen == []


async def test_a_token_is_renewed_without_a_new_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"token": "good", "expirationTimestamp": "2100-01-01T00:00:00Z"}
    async with Api(tmp_path, good={"good", "better"}) as api:
        path = api.kubeconfig(plugin(counting(tmp_path, f"echo '{answer(status)}'")))
        async with Cluster(kubeconfig=path) as cluster:
            await cluster.get(TARGET)
            before = cluster._client
            counting(tmp_path, f"echo '{answer(status | {'token': 'better'})}'")
            await cluster.get(TARGET)
            monkeypatch.setattr(logins, "now", lambda: 4102444800.0)
            await cluster.get(TARGET)
            assert cluster._client is before
        assert api.seen == ["Bearer good", "Bearer good", "Bearer better"]


async def test_a_token_that_is_refused_is_asked_for_again(tmp_path: Path) -> None:
    async with Api(tmp_path) as api:
        path = api.kubeconfig(plugin(counting(tmp_path, f"echo '{answer({'token': 'bad'})}'")))
        async with Cluster(kubeconfig=path) as cluster:
            with pytest.raises(ForbiddenError):
                await cluster.get(TARGET)
            counting(tmp_path, f"echo '{answer({'token': 'good'})}'")
            assert await cluster.get(TARGET) is not None
        assert asked(tmp_path) == 2


async def test_environment_and_netrc_are_not_read_by_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with Api(tmp_path) as api, Cluster(kubeconfig=api.kubeconfig({"token": "good"})) as cluster:
        assert await cluster.get(TARGET) is not None
