"""Certificates that are asked for no longer stay trusted for a while: a server may still show what they signed. Pure.

Whoever replaces CA and serving certificate at once, as cert-manager does, opens a gap: the API server learns of the new
CA in milliseconds, a server of its new certificate after the kubelet's minute. What stands says how long it is held:
a digest of the caBundle that we wrote, and a time.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from reconciler.registration.identity import CA_BUNDLE_ANNOTATION, RETIRING_ANNOTATION, Manifest
from reconciler.timestamps import seconds, utc

_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The caBundle to write (PEM), and the annotations that remember it."""

    pem: bytes
    annotations: dict[str, str] = field(default_factory=dict)


def with_retiring(asked: bytes, observed: Manifest | None, *, now: float, overlap_seconds: float) -> Bundle:
    """Return `asked` and those certificates of the caBundle that stands which retire; nothing that others put there."""
    standing = _standing(observed)
    annotations = ((observed or {}).get("metadata") or {}).get("annotations") or {}
    blocks = _BLOCK.findall(asked)
    retiring = [block for block in _BLOCK.findall(standing) if block not in blocks]
    if not retiring or annotations.get(CA_BUNDLE_ANNOTATION) != _digest(standing):
        return Bundle(asked, {CA_BUNDLE_ANNOTATION: _digest(asked)})
    pem = asked + b"".join(retiring)
    until = seconds(annotations.get(RETIRING_ANNOTATION)) if pem == standing else None
    if until is None or until > now + overlap_seconds:
        until = now + overlap_seconds  # another certificate was asked for since, or a clock was wrong
    if until <= now:
        return Bundle(asked, {CA_BUNDLE_ANNOTATION: _digest(asked)})
    return Bundle(pem, {CA_BUNDLE_ANNOTATION: _digest(pem), RETIRING_ANNOTATION: utc(until)})


def _standing(observed: Manifest | None) -> bytes:
    entries = (observed or {}).get("webhooks") or ()
    try:
        encoded = (entries[0].get("clientConfig") or {}).get("caBundle") if entries else None
        return base64.b64decode(encoded or "", validate=True)
    except binascii.Error:
        return b""


def _digest(pem: bytes) -> str:
    return hashlib.sha256(pem).hexdigest()[:32]
