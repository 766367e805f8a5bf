"""Which certificates of an API server are trusted: those that Go trusts, also where Python verifies strictly (3.13)."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reconciler.cluster import Cluster
from reconciler.errors import UnavailableError
from tests.unit.kube import test_connection as connection

if TYPE_CHECKING:
    from pathlib import Path

HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Made:
    """How an authority and its leaf are made; the defaults are what openssl and Go write today."""

    authority_has_id: bool = True
    authority_usage: str | None = "signs"
    authority_constraints: str = "critical"
    path_length: int | None = None
    leaf_names_authority: str | None = "key"
    leaf_has_id: bool = True
    leaf_constraints: bool = True
    leaf_usage: bool = True
    is_signed_by_it: bool = True
    begins: dt.timedelta = -HOUR
    ends: dt.timedelta = HOUR
    address: str = "127.0.0.1"
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH


def usage(*, signs: bool) -> x509.KeyUsage:
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    others = dict.fromkeys((*names, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **others)


def chain(folder: Path, made: Made) -> tuple[Path, Path, Path]:
    """Write authority, leaf and the leaf's key; return their paths."""
    now = dt.datetime.now(dt.UTC)
    ours, theirs, stranger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    identity = x509.SubjectKeyIdentifier.from_public_key(ours.public_key())

    def builder(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made_ = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(key)
        return made_.serial_number(x509.random_serial_number())

    authority = builder(name, ours.public_key()).not_valid_before(now - HOUR).not_valid_after(now + 24 * HOUR)
    constraints = x509.BasicConstraints(ca=made.authority_constraints != "no", path_length=made.path_length)
    authority = authority.add_extension(constraints, critical=made.authority_constraints != "plain")
    if made.authority_usage:
        authority = authority.add_extension(usage(signs=made.authority_usage == "signs"), critical=True)
    if made.authority_has_id:
        authority = authority.add_extension(identity, critical=False)
    signed = authority.sign(ours, hashes.SHA256())

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    leaf = builder(subject, theirs.public_key()).not_valid_before(now + made.begins).not_valid_after(now + made.ends)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(made.address))])
    leaf = leaf.add_extension(names, critical=False)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([made.purpose]), critical=False)
    if made.leaf_constraints:
        leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if made.leaf_usage:
        leaf = leaf.add_extension(usage(signs=False), critical=True)
    if made.leaf_has_id:
        leaf = leaf.add_extension(x509.SubjectKeyIdentifier.from_public_key(theirs.public_key()), critical=False)
    if made.leaf_names_authority:
        by_key = x509.AuthorityKeyIdentifier(identity.digest, None, None)
        by_name = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name)], signed.serial_number)
        leaf = leaf.add_extension(by_key if made.leaf_names_authority == "key" else by_name, critical=False)
    paths = (folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    signer = ours if made.is_signed_by_it else stranger
    paths[1].write_bytes(leaf.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[2].write_bytes(theirs.private_bytes(*form))
    return paths


NO_IDS = {"authority_has_id": False, "leaf_names_authority": None, "leaf_has_id": False}
TRUSTED = {
    "as made today": Made(),
    "no key identifiers at all": Made(**NO_IDS),  # type: ignore[arg-type] # of several types
    "authority without identifier": Made(authority_has_id=False),
    "authority without identifier, not named by it": Made(authority_has_id=False, leaf_names_authority=None),
    "leaf that does not name its authority": Made(leaf_names_authority=None),
    "leaf that names its authority by name and serial": Made(leaf_names_authority="name"),
    "leaf without identifier": Made(leaf_has_id=False),
    "authority without usage": Made(authority_usage=None),
    "authority without usage and identifiers": Made(authority_usage=None, authority_has_id=False),
    "constraints that are not critical": Made(authority_constraints="plain"),
    "authority of leaves alone": Made(path_length=0),
    "leaf without constraints": Made(leaf_constraints=False),
    "leaf without usage": Made(leaf_usage=False),
    "leaf without all of it": Made(leaf_constraints=False, leaf_usage=False, leaf_has_id=False),
}
REFUSED = {
    "signed by another key": Made(is_signed_by_it=False),
    "signed by another key, no identifiers": Made(is_signed_by_it=False, **NO_IDS),  # type: ignore[arg-type]
    "expired": Made(begins=-2 * HOUR, ends=-HOUR),
    "not valid yet": Made(begins=HOUR, ends=2 * HOUR),
    "for another address": Made(address="127.0.0.2"),
    "for clients": Made(purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
    "authority that may not sign": Made(authority_usage="other"),
    "authority that is none": Made(authority_constraints="no"),
}


@pytest.fixture(autouse=True)
def _as_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ssl.create_default_context

    def strict(*arguments: Any, **keywords: Any) -> ssl.SSLContext:  # noqa: ANN401 - handed through
        context = plain(*arguments, **keywords)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("made", TRUSTED.values(), ids=TRUSTED)
async def test_what_go_trusts_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    monkeypatch.setattr(connection, "chain", lambda folder, **_: chain(folder, made))
    async with connection.Api(tmp_path) as api, Cluster(kubeconfig=api.kubeconfig({"token": "good"})) as cluster:
        assert await cluster.get(connection.TARGET) is not None


@pytest.mark.parametrize("made", REFUSED.values(), ids=REFUSED)
async def test_what_go_refuses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    monkeypatch.setattr(connection, "chain", lambda folder, **_: chain(folder, made))
    async with connection.Api(tmp_path) as api, Cluster(kubeconfig=api.kubeconfig({"token": "good"})) as cluster:
        with pytest.raises(UnavailableError, match=r"its certificate is not trusted: "):
            await cluster.get(connection.TARGET)
        assert api.seen == []
