"""Whether a pod is protected, exempt or unprotected: the one definition, for explain, audit, status and run. Pure.

A pod is protected where it names a profile that filters system calls, exempt where it is left alone on purpose, and
unprotected where it should have the profile and has none. Why an unprotected pod has none is not decided here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.pods import profile
from reconciler.pods.profile import ContainerProfile, Source
from reconciler.registration import selectors
from reconciler.registration.identity import Manifest
from reconciler.registration.subjects import APP_LABEL, STATIC_LABEL

MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"


class Verdict(StrEnum):
    """What a pod is."""

    PROTECTED = "protected"
    EXEMPT = "exempt"
    UNPROTECTED = "unprotected"


class Reason(StrEnum):
    """Why a pod is protected or exempt; `NO_PROFILE` is all that is known of an unprotected one here."""

    POD_FIELD = "pod-field"
    CONTAINER_FIELDS = "container-fields"
    UNCONFINED_POD = "unconfined-pod"
    UNCONFINED_CONTAINER = "unconfined-container"
    WINDOWS = "windows"
    MIRROR = "mirror-pod"
    LEGACY_ANNOTATION = "legacy-annotation"
    NAMESPACE = "namespace-not-selected"
    SKIP_LABEL = "skip-label"
    OWN_APP = "own-app-label"
    STATIC = "static-pod-label"
    OBJECT_SELECTOR = "object-selector"
    NO_PROFILE = "no-profile"


UNCONFINED: Final = (Reason.UNCONFINED_POD, Reason.UNCONFINED_CONTAINER)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a pod is, and why."""

    verdict: Verdict
    reason: Reason


def of_pod(
    pod: Manifest,
    entry: Manifest,
    *,
    is_selected: bool = True,
    containers: Iterable[ContainerProfile] | None = None,
) -> Coverage:
    """Return what `pod` is; `entry` is the webhook that should cover it, `is_selected` whether its namespace is.

    `containers` are what `profile.of_pod` returned for it, if that was asked for before.
    """
    if (own := _of_fields(pod, profile.of_pod(pod) if containers is None else containers)) is not None:
        return own
    if (reason := _exemption(pod)) is not None:
        return Coverage(Verdict.EXEMPT, reason)
    if not is_selected:
        return Coverage(Verdict.EXEMPT, Reason.NAMESPACE)
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if not selectors.matches(entry.get("objectSelector"), labels):
        return Coverage(Verdict.EXEMPT, _by_labels(entry, labels))
    return Coverage(Verdict.UNPROTECTED, Reason.NO_PROFILE)


def _of_fields(pod: Manifest, containers: Iterable[ContainerProfile]) -> Coverage | None:
    """Return what the pod's own fields make it; None where they leave the profile of a container open."""
    kind = profile.pod_type(pod)
    if kind == profile.UNCONFINED:
        return Coverage(Verdict.EXEMPT, Reason.UNCONFINED_POD)
    found = [one for one in containers if one.source not in (Source.PRIVILEGED, Source.WINDOWS)]
    by_container = [one for one in found if one.source is Source.CONTAINER]
    if kind is None and (not by_container or len(by_container) < len(found)):
        return None
    if any(one.is_unconfined for one in by_container):
        return Coverage(Verdict.EXEMPT, Reason.UNCONFINED_CONTAINER)
    return Coverage(Verdict.PROTECTED, Reason.CONTAINER_FIELDS if kind is None else Reason.POD_FIELD)


def _exemption(pod: Manifest) -> Reason | None:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    if profile.is_windows(pod):
        return Reason.WINDOWS
    if MIRROR_ANNOTATION in annotations:
        return Reason.MIRROR
    return None if profile.is_compatible(pod) else Reason.LEGACY_ANNOTATION


def _by_labels(entry: Manifest, labels: Mapping[str, str]) -> Reason:
    """Return which purpose the first term that leaves the pod out has."""
    for term in (entry.get("objectSelector") or {}).get("matchExpressions") or ():
        if selectors.matches({"matchExpressions": [term]}, labels):
            continue
        if term["operator"] == "DoesNotExist":
            return Reason.SKIP_LABEL
        return {APP_LABEL: Reason.OWN_APP, STATIC_LABEL: Reason.STATIC}.get(term["key"], Reason.OBJECT_SELECTOR)
    return Reason.OBJECT_SELECTOR
