"""Whether a protected pod names its profile in its own spec, or got it at admission. Pure.

The API server notes in managedFields which fields the creator of a pod sent, before mutating webhooks and policies run.
So a `seccompProfile` that no field manager owns was set at admission: by us, by the upstream webhook, or by another
webhook or policy that sets the same. Source: k8s.io/apiserver, pkg/endpoints/handlers/create.go.

Where managedFields are not given (kubectl leaves them out unless asked with --show-managed-fields), it is not known.
"""

from enum import StrEnum
from typing import Final

from reconciler.pods import profile
from reconciler.registration.identity import Manifest


class Origin(StrEnum):
    """What set the profile of a protected pod."""

    ADMISSION = "admission"
    OWN_SPEC = "own-spec"
    UNKNOWN = "unknown"


ORIGINS: Final = {
    Origin.ADMISSION: "at admission: by us, the upstream webhook or a like one",
    Origin.OWN_SPEC: "by their own spec",
    Origin.UNKNOWN: "not known by which: their managedFields are not given",
}


def of_pod(pod: Manifest) -> Origin:
    """Return what set the profile of `pod`, which is protected."""
    if profile.pod_type(pod) != profile.RUNTIME_DEFAULT:
        return Origin.OWN_SPEC  # nothing else is set at admission
    managed = (pod.get("metadata") or {}).get("managedFields") or ()
    specs = [spec for one in managed if (spec := (one.get("fieldsV1") or {}).get("f:spec")) is not None]
    if not specs:
        return Origin.UNKNOWN
    owned = any("f:seccompProfile" in (spec.get("f:securityContext") or {}) for spec in specs)
    return Origin.OWN_SPEC if owned else Origin.ADMISSION
