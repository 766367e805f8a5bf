"""What happens to a pod: AdmissionReview bytes in, AdmissionReview bytes out, one JSON-patch operation at most. Pure.

Only the few fields that decide are decoded; everything else of the pod, whatever a newer Kubernetes adds, is skipped
and so can never be lost. The selectors of the registration are the first line; the rules here are the second.
"""

import base64
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from msgspec import DecodeError, Meta, Struct, ValidationError, field
from msgspec.json import Decoder

from reconciler import legacy

# 7 MiB: two objects of at most 3 MiB each (an AdmissionReview carries old and new) plus 1 MiB of envelope.
MAX_REVIEW_BYTES: Final = 7 * 1024 * 1024
PROFILE: Final = "RuntimeDefault"
SKIP_LABEL: Final = "seccompprofile.resources.gardener.cloud/skip"
# A pod that carries it, with a nonce, asks to be told by a warning what was done: the canary of `prove`.
CANARY_ANNOTATION: Final = "seccomp-reconciler.gardener.cloud/canary"
VERSIONS: Final = ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")

# What a decoder raises: DecodeError for what is no JSON, ValidationError for what is no review.
_UNREADABLE: Final = (DecodeError, ValidationError, UnicodeDecodeError, RecursionError)
_NONCE = re.compile(r"[0-9a-f]{16,64}")


class Reason(StrEnum):
    """Why a pod got the profile, or why it was left alone."""

    DEFAULTED = "defaulted"
    ALREADY_TYPED = "already-typed"
    SKIP_LABEL = "skip-label"
    WINDOWS = "windows"
    MIRROR_POD = "mirror-pod"
    LEGACY_ANNOTATION = "legacy-annotation"
    NOT_A_POD_CREATE = "not-a-pod-create"
    # Without a type it is no valid profile; the API server refuses it in its own words.
    LOCALHOST_PROFILE = "untyped-localhost-profile"


class UntypedProfile(StrEnum):
    """What is done with a profile that has a localhostProfile and no type."""

    LEAVE = "Leave"
    # As gardener-resource-manager does: the whole profile is replaced.
    OVERRIDE = "Override"


class MalformedReviewError(Exception):
    """The body is no AdmissionReview that can be answered; the message holds no value of the body."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator may choose; the defaults are upstream's but for `untyped_profile`."""

    skip_label: str = SKIP_LABEL
    untyped_profile: UntypedProfile = UntypedProfile.LEAVE


class Answer(NamedTuple):
    """The body to send, and why it says so."""

    body: bytes
    reason: Reason


class _Partial(Struct, frozen=True, gc=False):
    """Fields that are not named here are skipped without being decoded."""


class _Profile(_Partial, frozen=True, gc=False):
    type: str | None = None
    localhost_profile: str | None = field(default=None, name="localhostProfile")


class _SecurityContext(_Partial, frozen=True, gc=False):
    profile: _Profile | None = field(default=None, name="seccompProfile")


class _OperatingSystem(_Partial, frozen=True, gc=False):
    name: str | None = None


class _Spec(_Partial, frozen=True, gc=False):
    security_context: _SecurityContext | None = field(default=None, name="securityContext")
    os: _OperatingSystem | None = None


class _Annotations(_Partial, frozen=True, gc=False):
    mirror: str | None = field(default=None, name="kubernetes.io/config.mirror")
    canary: str | None = field(default=None, name=CANARY_ANNOTATION)
    legacy: str | None = field(default=None, name=legacy.POD_ANNOTATION)


class _Metadata(_Partial, frozen=True, gc=False):
    labels: dict[str, str] | None = None
    annotations: _Annotations | None = None


class _Pod(_Partial, frozen=True, gc=False):
    spec: _Spec
    metadata: _Metadata | None = None


class _Resource(_Partial, frozen=True, gc=False):
    version: str
    resource: str
    group: str | None = None


class _About(_Partial, frozen=True, gc=False):
    """The part of a request that says what it is about."""

    uid: Annotated[str, Meta(min_length=1, max_length=256)]
    operation: str
    resource: _Resource
    sub_resource: str | None = field(default=None, name="subResource")

    @property
    def is_pod_create(self) -> bool:
        named = (self.resource.group or "", self.resource.version, self.resource.resource)
        return self.operation == "CREATE" and named == ("", "v1", "pods") and not self.sub_resource


class _AboutPod(_About, frozen=True, gc=False, kw_only=True):
    object: _Pod


class _PodReview(_Partial, frozen=True, gc=False):
    version: str = field(name="apiVersion")
    kind: str
    request: _AboutPod


class _AnyReview(_Partial, frozen=True, gc=False):
    version: str = field(name="apiVersion")
    kind: str
    request: _About


_POD_REVIEW: Final = Decoder(_PodReview)
_ANY_REVIEW: Final = Decoder(_AnyReview)


def answer(body: bytes, rules: Rules, *, witness: str = "") -> Answer:
    """Return the answer to the AdmissionReview in `body`, in the version that it asks in.

    `witness` is what the canary's warning says about the answering server. MalformedReviewError where there is no
    answer to give: an API server never sends such a body.
    """
    review: _PodReview | _AnyReview
    try:
        review = _POD_REVIEW.decode(body)
    except _UNREADABLE as error:
        review = _without_object(body, error)
    if review.kind != "AdmissionReview" or review.version not in VERSIONS:
        raise MalformedReviewError(f"expected kind AdmissionReview of {' or '.join(VERSIONS)}")
    request = review.request
    if not isinstance(request, _AboutPod) or not request.is_pod_create:
        return _answered(review, Reason.NOT_A_POD_CREATE, None, "")
    reason, patch = _decide(request.object, rules)
    return _answered(review, reason, patch, _warning(request.object, reason, witness))


def _without_object(body: bytes, error: Exception) -> _AnyReview:
    """Return the review of something else, whose object may look like anything; else raise what is wrong."""
    try:
        review = _ANY_REVIEW.decode(body)
    except _UNREADABLE as second:
        raise MalformedReviewError(_explain(second)) from None
    if review.request.is_pod_create:
        raise MalformedReviewError(_explain(error)) from None
    return review


def _explain(error: Exception) -> str:
    """Return what is wrong, and where; msgspec names types and fields of ours, and never a value or a key."""
    if isinstance(error, ValidationError):
        return str(error)
    return "nested too deeply" if isinstance(error, RecursionError) else "expected JSON"


def _decide(pod: _Pod, rules: Rules) -> tuple[Reason, bytes | None]:
    """Return why, and the JSON patch in base64 (None: the pod stays as it is)."""
    context = pod.spec.security_context
    profile = context.profile if context is not None else None
    if profile is not None and profile.type:
        return Reason.ALREADY_TYPED, None
    if (exempt := _exemption(pod, rules)) is not None:
        return exempt, None
    if context is None:
        return Reason.DEFAULTED, _ADD_CONTEXT
    if profile is not None and profile.localhost_profile is None:
        return Reason.DEFAULTED, _ADD_TYPE
    if profile is None or rules.untyped_profile is UntypedProfile.OVERRIDE:
        return Reason.DEFAULTED, _ADD_PROFILE
    return Reason.LOCALHOST_PROFILE, None


def _exemption(pod: _Pod, rules: Rules) -> Reason | None:
    """Return why such a pod is never changed; None where it is one like any other."""
    metadata, system = pod.metadata, pod.spec.os
    if metadata is not None and metadata.labels is not None and rules.skip_label in metadata.labels:
        return Reason.SKIP_LABEL
    if metadata is not None and metadata.annotations is not None and metadata.annotations.mirror is not None:
        return Reason.MIRROR_POD
    # Validation refuses a Windows pod that has a seccomp profile, and one whose annotation says another.
    if system is not None and system.name == "windows":
        return Reason.WINDOWS
    said = metadata.annotations.legacy if metadata is not None and metadata.annotations is not None else None
    return None if (said or "") in legacy.COMPATIBLE_VALUES else Reason.LEGACY_ANNOTATION


def _patch(path: str, value: object) -> bytes:
    # `add` replaces what is there (RFC 6902, 4.1): a null, or an empty type.
    operation = {"op": "add", "path": path, "value": value}
    return base64.b64encode(json.dumps([operation], separators=(",", ":")).encode())


_ADD_CONTEXT: Final = _patch("/spec/securityContext", {"seccompProfile": {"type": PROFILE}})
_ADD_PROFILE: Final = _patch("/spec/securityContext/seccompProfile", {"type": PROFILE})
_ADD_TYPE: Final = _patch("/spec/securityContext/seccompProfile/type", PROFILE)


def _warning(pod: _Pod, reason: Reason, witness: str) -> str:
    """Return what the canary is told; empty for every other pod."""
    annotations = pod.metadata.annotations if pod.metadata is not None else None
    nonce = annotations.canary if annotations is not None else None
    if nonce is None or not _NONCE.fullmatch(nonce):
        return ""
    return f"seccomp-reconciler canary {nonce} {reason.value} {witness}".rstrip()


def _answered(review: _PodReview | _AnyReview, reason: Reason, patch: bytes | None, warning: str) -> Answer:
    uid = json.dumps(review.request.uid)
    # The rest is our own constants: nothing in it needs quoting.
    head = f'{{"apiVersion":"{review.version}","kind":"AdmissionReview","response":{{"uid":{uid},"allowed":true'
    why = f',"auditAnnotations":{{"reason":"{reason.value}"}}'
    if patch is not None:
        why = f',"auditAnnotations":{{"profile":"{PROFILE}","reason":"{reason.value}"}}'
        head += f',"patchType":"JSONPatch","patch":"{patch.decode()}"'
    words = f',"warnings":[{json.dumps(warning)}]' if warning else ""
    return Answer(f"{head}{why}{words}}}}}\n".encode(), reason)
