"""What is issued, as every TLS client must be able to believe it; and what is read, whoever wrote it."""

from __future__ import annotations

import base64
import ipaddress
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from reconciler.certificates.authority import Pair, fits, issue_authority, issue_serving, read, signed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = 1_800_000_000.0
HOUR = 3600.0
NAMES = ("seccomp-reconciler.garden.svc", "seccomp-reconciler", "*.example.org", "192.0.2.7", "2001:db8::7")
AUTHORITY = issue_authority(now=NOW, lifetime_seconds=10 * HOUR)
LEAF = issue_serving(AUTHORITY, names=NAMES, now=NOW, lifetime_seconds=HOUR)
OTHER = issue_authority(now=NOW, lifetime_seconds=10 * HOUR)


def parsed(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("pair", [AUTHORITY, LEAF], ids=["authority", "leaf"])
def test_everything_is_p256_with_sha256_and_the_key_is_its_own(pair: Pair) -> None:
    certificate = parsed(pair)
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert pair.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert fits(read(pair.certificate)[0], pair.key)


@pytest.mark.parametrize(("pair", "hours"), [(AUTHORITY, 10), (LEAF, 1)], ids=["authority", "leaf"])
def test_it_is_valid_from_an_hour_ago_to_its_end(pair: Pair, hours: int) -> None:
    certificate = read(pair.certificate)[0]
    assert (certificate.not_before, certificate.not_after) == (NOW - HOUR, NOW + hours * HOUR)
    for now, is_valid in ((NOW - HOUR - 1, False), (NOW - HOUR, True), (certificate.not_after - 1, True)):
        assert certificate.is_valid_at(now) is is_valid
    assert not certificate.is_valid_at(certificate.not_after)


def test_an_authority_signs_serving_certificates_and_nothing_below() -> None:
    extensions = parsed(AUTHORITY).extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert parsed(AUTHORITY).issuer == parsed(AUTHORITY).subject
    assert read(AUTHORITY.certificate)[0].is_authority


def test_a_leaf_serves_and_signs_nothing() -> None:
    extensions = parsed(LEAF).extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (basic.critical, basic.value.ca) == (True, False)
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (False, False, True)
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not read(LEAF.certificate)[0].is_authority


def test_a_leaf_names_its_authority_by_key_too() -> None:
    """Two authorities with one name, issued in the same second, are told apart."""
    identity = parsed(AUTHORITY).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = parsed(LEAF).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == identity.key_identifier
    assert parsed(AUTHORITY).subject == parsed(OTHER).subject
    later = issue_authority(now=NOW + 1, lifetime_seconds=HOUR)
    assert parsed(later).subject != parsed(AUTHORITY).subject


def test_names_and_addresses_are_told_apart() -> None:
    found = parsed(LEAF).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == list(NAMES[:3])
    assert found.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(address) for address in NAMES[3:]]
    assert read(LEAF.certificate)[0].names == set(NAMES)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 253])
def test_a_long_name_is_cut_where_a_common_name_ends_and_nowhere_else(length: int) -> None:
    name = ("a" * 60 + ".") * 5
    leaf = issue_serving(AUTHORITY, names=[name[:length], "second"], now=NOW, lifetime_seconds=HOUR)
    common = parsed(leaf).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [one.value for one in common] == [name[: min(length, 64)]]
    assert read(leaf.certificate)[0].names == {name[:length], "second"}


@pytest.mark.parametrize("age_hours", [0, 8, 9, 9.5, 9.9997])
def test_a_leaf_never_outlives_its_authority(age_hours: float) -> None:
    leaf = issue_serving(AUTHORITY, names=NAMES, now=NOW + age_hours * HOUR, lifetime_seconds=2 * HOUR)
    expected = min(NOW + (age_hours + 2) * HOUR, NOW + 10 * HOUR)
    assert read(leaf.certificate)[0].not_after == expected


def believed(leaf: Pair, authorities: Sequence[Pair], name: str, now: float) -> bool:
    """Return what cryptography's verification says, which is stricter than TLS asks."""
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    store = Store([parsed(one) for one in authorities])
    assert isinstance(subject, x509.DNSName | x509.IPAddress)
    try:
        PolicyBuilder().store(store).time(utc(now)).build_server_verifier(subject).verify(parsed(leaf), [])
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("authorities", "name", "now", "expected"),
    [
        *[([AUTHORITY], name, NOW, True) for name in ("seccomp-reconciler.garden.svc", "192.0.2.7", "2001:db8::7")],
        ([AUTHORITY], "any.example.org", NOW, True),
        ([AUTHORITY], "other.garden.svc", NOW, False),
        ([AUTHORITY], "192.0.2.8", NOW, False),
        ([OTHER], "seccomp-reconciler", NOW, False),
        ([OTHER, AUTHORITY], "seccomp-reconciler", NOW, True),
        ([AUTHORITY], "seccomp-reconciler", NOW - HOUR, True),
        ([AUTHORITY], "seccomp-reconciler", NOW - HOUR - 1, False),
        ([AUTHORITY], "seccomp-reconciler", NOW + HOUR - 1, True),
        ([AUTHORITY], "seccomp-reconciler", NOW + HOUR + 1, False),
    ],
    ids=["dns", "ip4", "ip6", "wildcard", "name", "address", "other", "both", "behind", "early", "late", "expired"],
)
def test_who_believes_it(authorities: list[Pair], name: str, now: float, *, expected: bool) -> None:
    assert believed(LEAF, authorities, name, now) is expected


def handshake(leaf: Pair, authorities: bytes, name: str, folder: Path) -> None:
    """Shake hands in memory as a strict client does; raises ssl.SSLError."""
    for file, content in (("crt", leaf.certificate), ("key", leaf.key)):
        (folder / file).write_bytes(content)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "crt", folder / "key")
    client = ssl.create_default_context(cadata=authorities.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    open_ends = [asking, answering]
    for _ in range(10):
        for end in tuple(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
    assert not open_ends


@pytest.mark.parametrize("name", ["seccomp-reconciler.garden.svc", "any.example.org", "192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("order", [1, -1], ids=["old-first", "new-first"])
def test_openssl_shakes_hands_with_it_in_the_middle_of_a_rotation(name: str, order: int, tmp_path: Path) -> None:
    now = time.time()
    old, new = (issue_authority(now=now - age, lifetime_seconds=HOUR) for age in (600, 0))
    bundle = b"".join([old.certificate, new.certificate][::order])
    for signer in (old, new):
        handshake(issue_serving(signer, names=NAMES, now=now, lifetime_seconds=HOUR), bundle, name, tmp_path)


def test_openssl_refuses_one_of_an_authority_that_is_not_trusted(tmp_path: Path) -> None:
    now = time.time()
    old, new = (issue_authority(now=now - age, lifetime_seconds=HOUR) for age in (600, 0))
    leaf = issue_serving(new, names=NAMES, now=now, lifetime_seconds=HOUR)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(leaf, old.certificate, "seccomp-reconciler", tmp_path)


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("pem", "count"),
    [
        (b"", 0),
        (b"\xff\x00", 0),
        (b"no certificate", 0),
        (BROKEN, 0),
        (LEAF.certificate[:-40], 0),
        (LEAF.key, 0),
        (AUTHORITY.certificate, 1),
        (b"text\n" + AUTHORITY.certificate.replace(b"\n", b"\r\n") + b"more", 1),
        (LEAF.certificate + LEAF.key, 1),
        (AUTHORITY.certificate + LEAF.certificate, 2),
        (AUTHORITY.certificate + BROKEN, 0),
        (BROKEN + AUTHORITY.certificate, 0),
    ],
    ids=["empty", "binary", "text", "broken", "cut", "key", "one", "around", "key-too", "two", "bad-last", "bad-first"],
)
def test_all_of_it_is_read_or_nothing(pem: bytes, count: int) -> None:
    assert len(read(pem)) == count


@given(st.binary(max_size=200), st.integers(0, 300))
def test_reading_never_fails(garbage: bytes, kept: int) -> None:
    read(garbage)
    read(pem(garbage))
    read(pem(read(LEAF.certificate)[0].der[:kept] + garbage))


def foreign(*extensions: x509.ExtensionType, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> Pair:
    """Return a certificate as somebody else would issue it, signed by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, utc(NOW), utc(NOW + HOUR))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    built = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return Pair(built.public_bytes(serialization.Encoding.PEM), private)


RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA = foreign(x509.BasicConstraints(ca=True, path_length=None), key=RSA_KEY)


def test_others_are_read_for_what_they_are() -> None:
    bare = read(foreign().certificate)[0]
    assert (bare.is_authority, len(bare.names), bare.not_before, bare.not_after) == (False, 0, NOW, NOW + HOUR)
    assert read(RSA.certificate)[0].is_authority


def test_a_certificate_shows_itself_as_pem_and_by_its_fingerprint() -> None:
    certificate = read(LEAF.certificate)[0]
    assert certificate.pem == LEAF.certificate
    assert certificate.fingerprint == parsed(LEAF).fingerprint(hashes.SHA256()).hex()[:16]


def encrypted(pair: Pair) -> bytes:
    key = serialization.load_pem_private_key(pair.key, None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )


def in_the_old_form(pair: Pair) -> bytes:
    """Return the key as `openssl ecparam -genkey` writes it."""
    key = serialization.load_pem_private_key(pair.key, None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("pair", "key", "expected"),
    [
        (LEAF, LEAF.key, True),
        (LEAF, in_the_old_form(LEAF), True),
        (LEAF, AUTHORITY.key, False),
        (LEAF, RSA.key, False),
        (RSA, RSA.key, False),  # nothing of ours: it is issued again
        (RSA, LEAF.key, False),
        (LEAF, encrypted(LEAF), False),
        (LEAF, LEAF.certificate, False),
        (LEAF, LEAF.key[:-40], False),
        (LEAF, b"", False),
        (LEAF, b"\xff", False),
    ],
    ids=[
        "own", "old-form", "another", "rsa-key", "rsa-both", "rsa-certificate",
        "encrypted", "certificate", "cut", "empty", "binary",
    ],
)  # fmt: skip
def test_whose_key_it_is(pair: Pair, key: bytes, *, expected: bool) -> None:
    assert fits(read(pair.certificate)[0], key) is expected


@pytest.mark.parametrize(
    ("pair", "authority", "expected"),
    [
        (LEAF, AUTHORITY, True),
        (AUTHORITY, AUTHORITY, True),
        (RSA, RSA, True),
        (LEAF, OTHER, False),  # the name is the same
        (LEAF, LEAF, False),
        (LEAF, RSA, False),
        (AUTHORITY, LEAF, False),
    ],
    ids=["leaf", "itself", "rsa", "another-of-that-name", "by-itself", "by-rsa", "upside-down"],
)
def test_who_signed_it(pair: Pair, authority: Pair, *, expected: bool) -> None:
    assert signed(read(pair.certificate)[0], read(authority.certificate)[0]) is expected


def odd(number: str) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(number), b"\x30\x00")


def of_an_unknown_version() -> bytes:
    return pem(read(LEAF.certificate)[0].der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1))


def with_an_extension_twice() -> bytes:
    der = read(foreign(odd("1.2.3.4.5"), odd("1.2.3.4.6")).certificate)[0].der
    return pem(der.replace(b"\x2a\x03\x04\x06", b"\x2a\x03\x04\x05"))


def with_a_name_of_an_odd_type() -> bytes:
    party = bytes.fromhex("3004a5028000")  # ediPartyName
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, utc(NOW), utc(NOW + HOUR))
    extension = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, party)
    built = builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "content",
    [of_an_unknown_version(), with_an_extension_twice(), with_a_name_of_an_odd_type()],
    ids=["version", "twice", "name-type"],
)
def test_odd_certificates_are_not_read(content: bytes) -> None:
    """cryptography raises errors of three classes that are no ValueError."""
    assert read(content) == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [("bücher.example", "A-label"), ("", "length")],
    ids=["not-ascii", "empty"],
)
def test_a_name_that_no_certificate_can_carry_is_an_error(name: str, words: str) -> None:
    """The settings refuse both before they get here."""
    with pytest.raises(ValueError, match=words):
        issue_serving(AUTHORITY, names=[name], now=NOW, lifetime_seconds=HOUR)
