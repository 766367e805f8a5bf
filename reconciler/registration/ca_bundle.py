"""Which bytes may become a caBundle: PEM certificates and nothing else. Pure."""

import re
from typing import Final

from reconciler.errors import InvalidConfigurationError

MAX_BYTES: Final = 1024 * 1024  # a Secret holds no more
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


def parse(content: bytes, *, origin: str) -> bytes:
    """Return the certificates in `content`, one PEM block after the other, without the text between them.

    Raises InvalidConfigurationError where there is none, one cannot be read, or a private key lies beside them: that
    file must not be published to everybody who may read a webhook configuration.
    """
    if b"PRIVATE KEY-----" in content:
        raise InvalidConfigurationError(f"{origin}: holds a private key; expected certificates alone, such as ca.crt")
    import ssl  # noqa: PLC0415 - rendering without a bundle does without it

    blocks = _BLOCK.findall(content)
    if not blocks:
        raise InvalidConfigurationError(f"{origin}: holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
    bundle = b"".join(re.sub(rb"\s*\r?\n\s*", b"\n", block) + b"\n" for block in blocks)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bundle.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise InvalidConfigurationError(f"{origin}: a certificate in it cannot be read: {error}") from error
    return bundle
