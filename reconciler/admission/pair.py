"""The serving certificate and its key, as they lie in a folder: loaded beside the pair in use, and tried out.

A pair is good once a TLS handshake with it, in memory, has succeeded: that covers a key that does not match, a broken
or incomplete chain file, a wrong usage, and a certificate that is expired or not valid yet.
"""

import hashlib
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError

CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_HANDSHAKE_STEPS: Final = 10

Mark: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate that serves. `der` is the leaf, times are seconds since the epoch."""

    context: ssl.SSLContext
    der: bytes
    not_before: float
    not_after: float

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the leaf's SHA-256: names a certificate in logs and in a proof."""
        return fingerprint(self.der)


def fingerprint(der: bytes) -> str:
    """Return the first 16 hexadecimal digits of the certificate's SHA-256."""
    return hashlib.sha256(der).hexdigest()[:16]


def mark(folder: Path, client_ca: Path | None) -> Mark:
    """Return what changes when one of the files does; missing files are part of it."""
    found: list[object] = []
    for path in (folder / CERTIFICATE_FILE, folder / KEY_FILE, *([client_ca] if client_ca else ())):
        try:
            status = path.stat()
        except OSError as error:
            found.append(error.errno)
        else:
            found.append((os.path.realpath(path), status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(found)


def load(folder: Path, client_ca: Path | None = None) -> Pair:
    """Return the pair in `folder` (tls.crt, tls.key), ready to serve.

    With `client_ca` (PEM) only clients with a certificate of that CA get through the handshake. Raises
    ConfigurationNotFoundError or InvalidConfigurationError that say what is wrong with which file.
    """
    # The kubelet swaps a symlink: both files are taken from the folder that it leads to now.
    certificate = Path(os.path.realpath(folder / CERTIFICATE_FILE))
    key = certificate.with_name(KEY_FILE)
    if not key.exists():
        key = folder / KEY_FILE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A session that is resumed shows no certificate: not our new one, and none that the new client CA must have signed.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        leaf = _BLOCK.search(certificate.read_text(encoding="ascii", errors="replace"))
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except FileNotFoundError as error:
        raise ConfigurationNotFoundError(
            f"{folder}: expected {CERTIFICATE_FILE} and {KEY_FILE}, as a mounted kubernetes.io/tls Secret has them"
        ) from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidConfigurationError(f"{folder}: certificate and key cannot be used: {_words(error)}") from error
    if leaf is None:
        raise InvalidConfigurationError(f"{certificate}: holds no PEM certificate")
    der, not_before, not_after = _tried(context, leaf[0], certificate)
    if client_ca is not None:
        _require_clients(context, client_ca)
    return Pair(context, der, not_before, not_after)


def _require_clients(context: ssl.SSLContext, client_ca: Path) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(client_ca)
    except FileNotFoundError as error:
        raise ConfigurationNotFoundError(f"{client_ca}: no such file; expected the CA of the clients, PEM") from error
    except (OSError, ValueError) as error:
        raise InvalidConfigurationError(f"{client_ca}: expected PEM certificates: {_words(error)}") from error


def _tried(context: ssl.SSLContext, leaf: str, origin: Path) -> tuple[bytes, float, float]:
    """Return the leaf as a handshake presents it, with its validity."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the leaf itself is the anchor
    try:
        client.load_verify_locations(cadata=leaf)
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            client.wrap_bio(to_client, to_server, server_side=False),
            context.wrap_bio(to_server, to_client, server_side=True),
        ]
        peer = ends[0]
        for _ in range(_HANDSHAKE_STEPS):
            for end in tuple(ends):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                ends.remove(end)
            if not ends:
                break
        said = peer.getpeercert()
        der = peer.getpeercert(binary_form=True)
    except (OSError, ValueError) as error:
        raise InvalidConfigurationError(f"{origin}: cannot serve: {_words(error)}") from error
    if not said or not der:
        raise InvalidConfigurationError(f"{origin}: cannot serve: the handshake does not come to its end")
    times = [ssl.cert_time_to_seconds(str(said[name])) for name in ("notBefore", "notAfter")]
    return der, float(times[0]), float(times[1])


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error) or type(error).__name__
