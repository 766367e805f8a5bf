"""Which pods run without a profile, counted by namespace and by workload, and what to restart. Pure.

Pods are added one by one and not kept: what grows is the number of namespaces and workloads, not that of pods.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from reconciler.pods import coverage, exposure, origin, profile
from reconciler.pods.coverage import Verdict
from reconciler.pods.exposure import Cause, Registered
from reconciler.pods.matching import match
from reconciler.pods.origin import Origin
from reconciler.pods.profile import Source
from reconciler.registration import memory, twin
from reconciler.registration.desired import render
from reconciler.registration.identity import Manifest
from reconciler.settings import Registration
from reconciler.timestamps import seconds

# Gardener names the namespace of a shoot's control plane so. Source: docs/concepts/gardenlet.md of Gardener.
_SHOOT: Final = re.compile(r"shoot--.+")
# Stateless workloads first; one that holds data is restarted last, one that runs once not at all.
_RESTART_ORDER: Final = ("Deployment", "DaemonSet", "ReplicaSet", "ReplicationController", "StatefulSet", "Job", "Pod")
_K = TypeVar("_K")
_ROLLED: Final = ("Deployment", "DaemonSet", "StatefulSet")


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """What owns a pod: its namespace, kind and name. A pod without an owner owns itself."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass(slots=True)
class Tally:
    """Counts of pods: each in one verdict and one reason, and beside that of some properties."""

    pods: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    # Of protected and exempt pods.
    reasons: Counter[str] = field(default_factory=Counter)
    # Of unprotected pods.
    causes: Counter[str] = field(default_factory=Counter)
    # Of protected pods.
    origins: Counter[Origin] = field(default_factory=Counter)
    localhost: int = 0
    with_privileged: int = 0
    unconfined_pods: int = 0
    unconfined_containers: int = 0

    @property
    def unprotected(self) -> int:
        """Pods that should have a profile and have none."""
        return self.verdicts[Verdict.UNPROTECTED]

    @property
    def unconfined(self) -> int:
        """Pods whose own spec asks for Unconfined, as a whole or in a container."""
        return self.reasons[coverage.Reason.UNCONFINED_POD] + self.reasons[coverage.Reason.UNCONFINED_CONTAINER]


@dataclass(frozen=True, slots=True)
class Restart:
    """One workload with unprotected pods, and the command that replaces them; empty where it is no matter of one."""

    workload: Workload
    pods: int
    command: str
    advice: str = ""


class Audit:
    """The counts so far; `namespaces` are the labels of each, those of a namespace that is not there are unknown."""

    def __init__(self, registered: Registered, namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self._registered = registered
        self._namespaces = namespaces
        self._selected: dict[str, bool | None] = {}
        self.total = Tally()
        self.by_namespace: dict[str, Tally] = {}
        self.by_workload: dict[Workload, Tally] = {}
        # Pods that cannot be judged, each with the field that has another shape.
        self.unreadable: tuple[str, ...] = ()
        # Namespaces with pods whose labels are not known: they are taken to be selected.
        self.unknown_namespaces: set[str] = set()

    def is_selected(self, namespace: str) -> bool | None:
        """Return whether the registration selects `namespace`; None where its labels are not known."""
        if namespace not in self._selected:
            entry = {"namespaceSelector": self._registered.entry.get("namespaceSelector")}
            terms = match(entry, {}, namespace, self._namespaces.get(namespace)).terms
            answers = {term.holds for term in terms if term.part == "namespaceSelector"}
            self._selected[namespace] = False if False in answers else None if None in answers else True
        return self._selected[namespace]

    def add(self, pod: Manifest) -> None:
        """Count one pod."""
        namespace = str(pod["metadata"].get("namespace") or "default")
        selected = self.is_selected(namespace)
        if selected is None:
            self.unknown_namespaces.add(namespace)
        containers = profile.of_pod(pod)
        found = coverage.of_pod(pod, self._registered.entry, is_selected=selected is not False, containers=containers)
        why = ""
        if found.verdict is Verdict.UNPROTECTED:
            why = Cause.NOT_KNOWN.value
            if self._registered.is_known:
                why = exposure.cause(pod, self._registered.memory, self._registered.since)[0].value
        set_by = origin.of_pod(pod) if found.verdict is Verdict.PROTECTED else None
        has_localhost = any(one.profile.startswith(f"{profile.LOCALHOST}/") for one in containers)
        has_privileged = any(one.source is Source.PRIVILEGED for one in containers)
        is_unconfined = profile.pod_type(pod) == profile.UNCONFINED
        has_unconfined = any(one.is_unconfined and one.source is Source.CONTAINER for one in containers)
        for tally in (self.total, _in(self.by_namespace, namespace), _in(self.by_workload, owner_of(pod))):
            tally.pods += 1
            tally.verdicts[found.verdict] += 1
            if why:
                tally.causes[why] += 1
            else:
                tally.reasons[found.reason.value] += 1
            if set_by is not None:
                tally.origins[set_by] += 1
            tally.localhost += has_localhost
            tally.with_privileged += has_privileged
            tally.unconfined_pods += is_unconfined
            tally.unconfined_containers += has_unconfined

    def restarts(self) -> tuple[tuple[str, tuple[Restart, ...]], ...]:
        """Return what to restart, by namespace: the shoots first, then the others, by name."""
        groups: dict[str, list[Restart]] = {}
        for workload, tally in self.by_workload.items():
            if tally.unprotected:
                groups.setdefault(workload.namespace, []).append(_restart(workload, tally.unprotected))
        ordered = sorted(groups, key=lambda name: (_SHOOT.fullmatch(name) is None, name))
        return tuple((name, tuple(sorted(groups[name], key=_urgency))) for name in ordered)


def _in(tallies: dict[_K, Tally], key: _K) -> Tally:
    """Return the tally of `key`, which begins empty."""
    if (found := tallies.get(key)) is None:
        found = tallies[key] = Tally()
    return found


def owner_of(pod: Manifest) -> Workload:
    """Return the workload that makes `pod`, as far as the pod itself tells it.

    A ReplicaSet whose name ends with the pod's `pod-template-hash` belongs to a Deployment. Source: Kubernetes,
    pkg/controller/deployment/sync.go, getNewReplicaSet.
    """
    metadata = pod["metadata"]
    namespace, name = str(metadata.get("namespace") or "default"), str(metadata.get("name") or "")
    owners = metadata.get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), owners[0] if owners else None)
    if owner is None:
        return Workload(namespace, "Pod", name)
    kind, owner_name = str(owner.get("kind", "")), str(owner.get("name", ""))
    suffix = f"-{(metadata.get('labels') or {}).get('pod-template-hash', '')}"
    if kind == "ReplicaSet" and len(suffix) > 1 and owner_name.endswith(suffix):
        return Workload(namespace, "Deployment", owner_name.removesuffix(suffix))
    return Workload(namespace, kind, owner_name)


def _urgency(restart: Restart) -> tuple[int, str, str]:
    kind = restart.workload.kind
    place = _RESTART_ORDER.index(kind) if kind in _RESTART_ORDER else len(_RESTART_ORDER)
    return place, kind, restart.workload.name


def _restart(workload: Workload, pods: int) -> Restart:
    if workload.kind in _ROLLED:
        # Names of a file may be anything, and the command is there to be run.
        namespace, name = shlex.quote(workload.namespace), shlex.quote(str(workload))
        return Restart(workload, pods, f"kubectl --namespace {namespace} rollout restart {name}")
    match workload.kind:
        case "Job":
            advice = "its next run gets the profile"
        case "Pod":
            advice = "create it again: it has no owner that does"
        case _:
            advice = "delete its pods: its owner creates them again"
    return Restart(workload, pods, "", advice)


def fails(found: Audit, fail_on: str) -> bool:
    """Return whether `--fail-on` asks for exit code 1: unprotected, unconfined (which includes it), or never.

    A pod that cannot be judged may be either.
    """
    match fail_on:
        case "unprotected":
            return bool(found.total.unprotected or found.unreadable)
        case "unconfined":
            return bool(found.total.unprotected or found.total.unconfined or found.unreadable)
    return False


def registered_among(configurations: Iterable[Manifest], registration: Registration) -> tuple[Registered, list[str]]:
    """Return what decides, of the MutatingWebhookConfigurations that are given, and notes.

    Which pods should be covered is what the settings ask for, not what drift may have made of it.
    """
    entry = render(registration, ca_bundle=None)["webhooks"][0]
    by_name = {str((one.get("metadata") or {}).get("name") or ""): one for one in configurations}
    ours, upstream = by_name.get(registration.name), by_name.get(registration.twin_name)
    if ours is not None:
        return Registered(entry, memory.of(ours), _created(ours)), []
    if upstream is not None and twin.entry_of(upstream, registration) is not None:
        note = f"{registration.name} is not given; the upstream webhook in {registration.twin_name} is"
        return Registered(entry, None, _created(upstream)), [note]
    note = (
        f"the MutatingWebhookConfiguration {registration.name} is not given: why a pod lacks the profile is not known"
    )
    return Registered(entry, is_known=False), [note]


def _created(configuration: Manifest) -> float | None:
    return seconds((configuration.get("metadata") or {}).get("creationTimestamp"))
