"""Certificates: issued, read, and judged. Pure but for randomness: bytes in, bytes out, times given.

Everything is ECDSA P-256 with SHA-256. Times are seconds since the epoch.
"""

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A client whose clock is behind must believe a new certificate at once: clocks of nodes differ by minutes where time is
# not synchronized, and by an hour where a clock was set to the wrong zone.
BACKDATED_SECONDS: Final = 3600.0
# What cryptography calls a certificate that is one, and breaks the rules: none of these is a ValueError.
_ODD: Final = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """What decides about one certificate. `der` tells it from every other."""

    der: bytes
    not_before: float
    not_after: float
    is_authority: bool
    names: frozenset[str]

    def is_valid_at(self, now: float) -> bool:
        """Return whether `now` lies in its validity."""
        return self.not_before <= now < self.not_after

    @property
    def pem(self) -> bytes:
        """It as one PEM block."""
        return x509.load_der_x509_certificate(self.der).public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of its SHA-256, as the admission server's log and the proof show it."""
        return x509.load_der_x509_certificate(self.der).fingerprint(hashes.SHA256()).hex()[:16]


def issue_authority(*, now: float, lifetime_seconds: float, ahead_seconds: float = 0.0) -> Pair:
    """Return a new certificate authority that may sign serving certificates and nothing below.

    `ahead_seconds` is how far another clock that judges it is ahead of `now`: it is valid for both.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of a rotation have two names: a client never tries the wrong one.
    name = _name(f"seccomp-reconciler-ca-{int(now)}")
    begin, end = _life(now, lifetime_seconds, ahead_seconds)
    builder = _builder(name, name, key.public_key(), begin, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return _pair(builder.add_extension(identity, critical=False).sign(key, hashes.SHA256()), key)


def issue_serving(
    authority: Pair, *, names: Sequence[str], now: float, lifetime_seconds: float, ahead_seconds: float = 0.0
) -> Pair:
    """Return a serving certificate for these DNS names and addresses; it ends with the authority at the latest.

    `ahead_seconds` is as for `issue_authority`.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = _private(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    begin, end = _life(now, lifetime_seconds, ahead_seconds)
    end = min(end, issuer.not_valid_after_utc.timestamp())
    builder = _builder(_name(names[0][:64]), issuer.subject, key.public_key(), begin, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
    from_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return _pair(builder.add_extension(from_issuer, critical=False).sign(issuer_key, hashes.SHA256()), key)


@functools.lru_cache(maxsize=64)  # a pass reads the same few again and again
def read(pem: bytes) -> tuple[Certificate, ...]:
    """Return the certificates in `pem`; none where it holds none or one of them is unreadable."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        return tuple(_certificate(one) for one in found)
    except (ValueError, UnsupportedAlgorithm, *_ODD):
        return ()


def fits(certificate: Certificate, key: bytes) -> bool:
    """Return whether `key` (PEM) is readable and the certificate's own."""
    try:
        public = _private(key).public_key()
        return public == x509.load_der_x509_certificate(certificate.der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


@functools.lru_cache(maxsize=64)
def signed(certificate: Certificate, authority: Certificate) -> bool:
    """Return whether `authority` signed `certificate`."""
    try:
        parsed = x509.load_der_x509_certificate(certificate.der)
        parsed.verify_directly_issued_by(x509.load_der_x509_certificate(authority.der))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def canonical(name: str) -> str:
    """Return a DNS name or an address as `Certificate.names` has it: an address short and without a zone."""
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return name


def _certificate(parsed: x509.Certificate) -> Certificate:
    try:
        is_authority = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    try:
        alternatives = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names: frozenset[str] = frozenset()
    else:
        addresses = (str(address) for address in alternatives.get_values_for_type(x509.IPAddress))
        names = frozenset((*alternatives.get_values_for_type(x509.DNSName), *addresses))
    return Certificate(
        parsed.public_bytes(serialization.Encoding.DER),
        parsed.not_valid_before_utc.timestamp(),
        parsed.not_valid_after_utc.timestamp(),
        is_authority,
        names,
    )


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    found = serialization.load_pem_private_key(key, password=None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ValueError("expected an elliptic-curve key")  # noqa: TRY004 - as for every other unreadable key
    return found


def _life(now: float, lifetime_seconds: float, ahead_seconds: float) -> tuple[float, float]:
    """Return begin and end of a life that either clock may judge."""
    return now + min(ahead_seconds, 0.0), now + max(ahead_seconds, 0.0) + lifetime_seconds


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, end: float
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=datetime.fromtimestamp(now - BACKDATED_SECONDS, UTC),
        not_valid_after=datetime.fromtimestamp(end, UTC),
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(canonical(name)))
    except ValueError:
        return x509.DNSName(name)
