"""Whom the linter judges: pods that must start while nobody answers the webhook, and the canary. Pure.

They are told by their labels, owners and namespaces; where nobody can be asked, what our own manifests and gardenlet's
chart say stands in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.registration.identity import NAME_LABEL, Manifest
from reconciler.settings import Proof, Registration

KUBE_SYSTEM: Final = "kube-system"
STATIC_LABEL: Final = "static-pod"
APP_LABEL: Final = "app"
# The labels of config/canary.yaml's namespace.
CANARY_LABELS: Final = {
    NAME_LABEL: "seccomp-reconciler",
    "gardener.cloud/role": "seccomp-canary",
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
# Webhooks of gardener-resource-manager with failurePolicy Fail match every namespace with `gardener.cloud/role`, the
# canary's included. While their server is away they would refuse the canary, and a probe would say nothing about ours.
CANARY_POD_LABELS: Final = {
    "projected-token-mount.resources.gardener.cloud/skip": "true",
    "topology-spread-constraints.resources.gardener.cloud/skip": "true",
}
_OURS: Final = "seccomp-reconciler"
_MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
WORKLOADS: Final = ("DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet")
# Where each keeps the pods that it makes.
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": (),
    **dict.fromkeys(WORKLOADS, ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}


class Why(StrEnum):
    """Why a pod is judged: all but the canary must start while nobody answers the webhook."""

    SERVER = "webhook-server"
    RECONCILER = "reconciler"
    GARDENLET = "gardenlet"
    KUBE_SYSTEM = "kube-system"
    STATIC = "static-pod"
    # No selector can tell it, and the kubelet runs its static pod without it.
    MIRROR = "mirror-pod"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Subject:
    """A pod, or with labels that are None any pod, in a namespace (None: in any).

    `namespace_labels` are None where they are not known. `typed` says that the pod has a profile type of its own.
    """

    why: Why
    name: str
    namespace: str | None
    labels: Mapping[str, str] | None
    namespace_labels: Mapping[str, str] | None = None
    typed: bool = False

    def __str__(self) -> str:
        where = f"namespace {self.namespace}" if self.namespace else "any namespace"
        return f"{self.name} in {where} ({self.why.value})"


def expected(
    registration: Registration, proof: Proof, *, own_namespace: str = "garden", gardenlet_namespace: str = "garden"
) -> tuple[Subject, ...]:
    """Return the subjects as our manifests and gardenlet's chart make them, for where no cluster is asked."""
    # Literally the default, whatever the settings say: the manifests do not follow them.
    skip = {Registration().skip_label: "true"}
    ours = {NAME_LABEL: _OURS, APP_LABEL: _OURS, **skip}
    gardenlet = {APP_LABEL: "gardener", "role": "gardenlet", **skip}
    service = registration.backend.service
    server = () if service is None else (Subject(Why.SERVER, "pods", service.namespace, ours, typed=True),)
    return (
        *server,
        Subject(Why.RECONCILER, "pods", own_namespace, ours, typed=True),
        Subject(Why.GARDENLET, "pods", gardenlet_namespace, gardenlet, typed=True),
        Subject(Why.KUBE_SYSTEM, "any pod", KUBE_SYSTEM, None),
        Subject(Why.STATIC, "any pod", None, {STATIC_LABEL: "true"}),
        Subject(Why.CANARY, "the canary", proof.namespace, CANARY_POD_LABELS, CANARY_LABELS),
    )


def completed(
    found: Iterable[Subject], built_in: Iterable[Subject], namespaces: Mapping[str, Mapping[str, str]]
) -> tuple[Subject, ...]:
    """Return `found`, and of `built_in` what it lacks, with the labels of `namespaces` where they are known.

    What is built in for any pod or any namespace stays: the next pod may come tomorrow.
    """
    found = tuple(found)
    kinds = {subject.why for subject in found}
    kept = [one for one in built_in if one.why not in kinds or one.labels is None or one.namespace is None]
    return tuple(
        replace(one, namespace_labels=namespaces.get(one.namespace or "", one.namespace_labels))
        for one in (*found, *kept)
    )


def recognised(workload: Manifest, *, server: Mapping[str, str] | None = None) -> Subject | None:
    """Return the subject that a pod, or a workload by its template, is; None where it may depend on the webhook.

    `server` is the selector of the webhook's Service, where that stands in the same namespace.
    """
    if workload.get("kind", "Pod") not in _TEMPLATES:
        return None
    why = _why(pod_of(workload).get("metadata") or {}, workload["metadata"], server or {})
    return None if why is None else subject(why, workload)


def subject(why: Why, workload: Manifest) -> Subject:
    """Return the pod, or the pods of the workload, as the subject that they are said to be."""
    pod, metadata = pod_of(workload), workload["metadata"]
    context = (pod.get("spec") or {}).get("securityContext") or {}
    return Subject(
        why,
        f"{workload.get('kind', 'Pod').lower()}/{_name(metadata)}",
        metadata.get("namespace"),
        (pod.get("metadata") or {}).get("labels") or {},
        typed=bool((context.get("seccompProfile") or {}).get("type")),
    )


def pod_of(workload: Manifest) -> Manifest:
    """Return the template of the pods that a workload makes, the pod itself where it is one."""
    for part in _TEMPLATES[workload.get("kind", "Pod")]:
        workload = workload.get(part) or {}
    return workload


def _name(metadata: Manifest) -> str:
    return str(metadata.get("name") or metadata.get("generateName") or "")


def _why(metadata: Manifest, workload: Manifest, server: Mapping[str, str]) -> Why | None:
    """Return why the pod with `metadata` is judged; `workload` is that of the object which makes it, or the same."""
    labels = metadata.get("labels") or {}
    if labels.get(STATIC_LABEL) == "true":
        return Why.STATIC
    owners = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
    if "Node" in owners or _MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
        return Why.MIRROR
    if server and server.items() <= labels.items():
        return Why.SERVER
    if labels.get(NAME_LABEL) == _OURS:
        return Why.RECONCILER
    if labels.get("role") == "gardenlet" and _name(workload).startswith("gardenlet"):
        return Why.GARDENLET
    return Why.KUBE_SYSTEM if workload.get("namespace") == KUBE_SYSTEM else None
