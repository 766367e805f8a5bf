"""Certificates and kubeconfigs: a real TLS handshake, in memory, says whether they are right."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.controlplane import kubeconfig, pki

if TYPE_CHECKING:
    from pathlib import Path


def handshake(authority: pki.Authority, serving: tuple[Path, Path], client: tuple[Path, Path], name: str) -> str:
    """Return the client's subject as the server sees it; raises SSLError when one side refuses."""
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    server_side.load_cert_chain(*serving)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cafile=str(authority.file))
    # RFC 5280 to the letter, as Python 3.13 asks by default.
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    client_side.load_cert_chain(*client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    caller = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (caller, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    certificate = server.getpeercert()
    assert certificate is not None
    return str(certificate["subject"])


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    return pki.Authority(tmp_path)


@pytest.mark.parametrize("name", ["127.0.0.1", "proxy.test"])
def test_what_the_authority_signs_is_believed(authority: pki.Authority, tmp_path: Path, name: str) -> None:
    serving = pki.write_pair(tmp_path, "serving", authority.issue_serving([name]))
    client = pki.write_pair(tmp_path, "client", authority.issue_client("jane", ["readers", "writers"]))
    subject = handshake(authority, serving, client, name)
    for part in ("jane", "readers", "writers"):
        assert part in subject


def test_a_certificate_for_another_name_is_not_believed(authority: pki.Authority, tmp_path: Path) -> None:
    serving = pki.write_pair(tmp_path, "serving", authority.issue_serving(["127.0.0.1"]))
    client = pki.write_pair(tmp_path, "client", authority.issue_client("jane"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, serving, client, "127.0.0.2")


def test_a_client_certificate_serves_nobody(authority: pki.Authority, tmp_path: Path) -> None:
    client = pki.write_pair(tmp_path, "client", authority.issue_client("127.0.0.1"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, client, client, "127.0.0.1")


def test_private_keys_are_their_owner_s_alone(authority: pki.Authority, tmp_path: Path) -> None:
    _, key = pki.write_pair(tmp_path, "pair", authority.issue_client("jane"))
    signing, _ = pki.write_signing_key(tmp_path)
    path = kubeconfig.write(tmp_path / "kubeconfig", "x")
    assert {file.stat().st_mode & 0o777 for file in (key, signing, path)} == {0o600}


def test_a_kubeconfig_embeds_what_it_was_given() -> None:
    text = kubeconfig.document(server="https://x:1", ca=b"CA", user="jane", client=(b"CERT", b"KEY"))
    parsed = yaml.safe_load(text)
    cluster, user = parsed["clusters"][0]["cluster"], parsed["users"][0]["user"]
    assert cluster["server"] == "https://x:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"CA"
    assert base64.b64decode(user["client-certificate-data"]) == b"CERT"
    assert base64.b64decode(user["client-key-data"]) == b"KEY"
    context = parsed["contexts"][0]
    assert parsed["current-context"] == context["name"]
    assert context["context"]["cluster"] == parsed["clusters"][0]["name"]
    assert context["context"]["user"] == parsed["users"][0]["name"]


def test_a_kubeconfig_by_token_carries_no_certificate() -> None:
    parsed = yaml.safe_load(kubeconfig.document(server="https://x:1", ca=b"CA", user="sa", token="a.b.c"))  # noqa: S106 - no secret
    assert parsed["users"][0]["user"] == {"token": "a.b.c"}
