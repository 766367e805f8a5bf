"""Who we are on an object: field manager, labels, annotations, and whether an object is ours. Pure."""

from collections.abc import Mapping
from typing import Any, Final

FIELD_MANAGER: Final = "seccomp-reconciler"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "seccomp-reconciler"
NAME_LABEL: Final = "app.kubernetes.io/name"
# Source: Gardener's webhook remediator leaves objects with this label alone (facts of upstream's registration).
REMEDIATION_EXCLUDE_LABEL: Final = "remediation.webhook.shoot.gardener.cloud/exclude"
ANNOTATION_PREFIX: Final = "seccomp-reconciler.gardener.cloud/"
# A digest of the two selectors as we last applied them: tells a term that somebody added from one that was ours.
SELECTORS_ANNOTATION: Final = f"{ANNOTATION_PREFIX}selectors"

# A digest of the caBundle as we last wrote it: what stands and has it is ours, so that a certificate in it that is
# asked for no longer may retire in peace; and until when.
CA_BUNDLE_ANNOTATION: Final = f"{ANNOTATION_PREFIX}ca-bundle"
RETIRING_ANNOTATION: Final = f"{ANNOTATION_PREFIX}ca-retiring-until"

Manifest = Mapping[str, Any]  # a Kubernetes object as JSON: its fields are the API server's business


def is_ours(observed: Manifest) -> bool:
    """Return whether the reconciler may change `observed`.

    Ours is what carries our managed-by label. Where the label is gone altogether, the server-side apply entry of our
    field manager is the witness: somebody stripped the label off an object that we wrote. A managed-by label with
    another value hands the object over: it is foreign from then on.
    """
    label = (observed["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL)
    if label is not None:
        return bool(label == MANAGED_BY)
    return applied_fields(observed) is not None


def applied_fields(observed: Manifest) -> Manifest | None:
    """Return the fieldsV1 set that we own by server-side apply on `observed`; None where there is none."""
    for entry in observed["metadata"].get("managedFields") or ():
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Manifest = entry.get("fieldsV1") or {}
            return fields
    return None
