"""The two Secrets: what stands in them, and how they are written. Pure; reading and writing is the controller's.

Whatever is unreadable reads as missing: it is issued again, in the right order, instead of being complained about for
ever.
"""

import base64
import binascii
from typing import Any, Final

from reconciler import timestamps
from reconciler.certificates.authority import Pair, read
from reconciler.certificates.rotation import Authorities, Serving
from reconciler.registration.identity import MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, Manifest

PHASE_ANNOTATION: Final = "seccomp-reconciler.gardener.cloud/rotation"
SINCE_ANNOTATION: Final = "seccomp-reconciler.gardener.cloud/rotation-since"
REQUEST_ANNOTATION: Final = "seccomp-reconciler.gardener.cloud/rotation-requested"


def authorities_of(secret: Manifest | None) -> Authorities | None:
    """Return what the authority's Secret holds; None where it holds no certificate."""
    if secret is None or not read(signer := _value(secret, "ca.crt")):
        return None
    coming = Pair(_value(secret, "next.crt"), _value(secret, "next.key"))
    annotations = secret["metadata"].get("annotations") or {}
    return Authorities(
        signer=signer,
        key=_value(secret, "ca.key"),
        since=timestamps.seconds(annotations.get(SINCE_ANNOTATION)) or 0.0,
        next=coming if coming.certificate or coming.key else None,
        retiring=_value(secret, "retiring.crt"),
        requested=REQUEST_ANNOTATION in annotations,
    )


def serving_of(secret: Manifest | None) -> Serving:
    """Return what the serving Secret holds."""
    if secret is None:
        return Serving()
    return Serving(_value(secret, "tls.crt"), _value(secret, "tls.key"), _value(secret, "ca.crt"))


def authority_secret(name: str, namespace: str, held: Authorities) -> Manifest:
    """Return the Secret that holds the authorities' keys: the server never mounts it."""
    data = {"ca.crt": held.signer, "ca.key": held.key, "retiring.crt": held.retiring}
    if held.next is not None:
        data |= {"next.crt": held.next.certificate, "next.key": held.next.key}
    annotations = {PHASE_ANNOTATION: held.phase.value, SINCE_ANNOTATION: timestamps.utc(held.since)}
    if held.requested:
        annotations[REQUEST_ANNOTATION] = "true"
    return _secret(name, namespace, "Opaque", data, annotations)


def serving_secret(name: str, namespace: str, serving: Serving) -> Manifest:
    """Return the Secret that the server mounts: certificate, key, and what is to be trusted."""
    data = {"tls.crt": serving.certificate, "tls.key": serving.key, "ca.crt": serving.bundle}
    return _secret(name, namespace, "kubernetes.io/tls", data, {})


def _secret(name: str, namespace: str, kind: str, data: dict[str, bytes], annotations: dict[str, str]) -> Manifest:
    required = ("tls.crt", "tls.key") if kind == "kubernetes.io/tls" else ()
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY, NAME_LABEL: "seccomp-reconciler"},
        "annotations": annotations,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items() if value or key in required},
    }


def _value(secret: Manifest, key: str) -> bytes:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key) or "", validate=True)
    except binascii.Error:
        return b""
