"""Proof through the API server: a dry-run pod that must come back with the profile, and one that must not.

`judge` decides from the API server's answers alone; `prove` asks for them. A dry-run persists nothing. The canary lies
in a namespace where PodSecurity enforces `restricted`: a pod that nobody mutated is refused there, which is the second
witness where no object comes back.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from reconciler.cluster import PODS, Attempt, Cluster, Target
from reconciler.errors import UnavailableError
from reconciler.registration.identity import Manifest
from reconciler.registration.subjects import CANARY_POD_LABELS
from reconciler.settings import Proof as ProofSettings
from reconciler.settings import Registration

CANARY_ANNOTATION: Final = "seccomp-reconciler.gardener.cloud/canary"
_ANSWER_SECONDS: Final = 3.0
_PROFILE: Final = "RuntimeDefault"
_WARNING: Final = re.compile(r"seccomp-reconciler canary ([0-9a-f]+) (\S+)(?: (\S+))?")
_VIOLATION: Final = re.compile(r'violates PodSecurity "[^"]*": (.*)', re.DOTALL)
_QUOTA: Final = re.compile(r"(?:exceeded quota|status unknown for quota): (\S+),")
_FAILED_CALL: Final = re.compile(r'failed calling webhook "([^"]+)": (.*)', re.DOTALL)


class Verdict(StrEnum):
    """What a proof came to."""

    PROVED = "proved"
    NOT_MUTATED = "not-mutated"
    UNREACHABLE = "unreachable"
    # Something else was in the way: neither proof nor loss.
    INCONCLUSIVE = "inconclusive"


class Witness(StrEnum):
    """Who says that the pod was mutated."""

    OUR_SERVER = "our-server"
    RETURNED_POD = "returned-pod"
    POD_SECURITY = "pod-security"


class Skip(StrEnum):
    """What became of the pod with the skip label."""

    LEFT_ALONE = "left-alone"
    MUTATED = "mutated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof: its verdict, the words of the API server, and when it began (seconds, by the cluster's clock).

    `fingerprint` names the certificate of our server that answered; it is empty where another one did.
    """

    verdict: Verdict
    words: str
    skip: Skip = Skip.UNKNOWN
    witness: Witness | None = None
    fingerprint: str = ""
    began: float = 0.0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether pods get the profile and those with the skip label do not."""
        return self.verdict is Verdict.PROVED and self.skip is not Skip.MUTATED


@dataclass(frozen=True, slots=True)
class Way:
    """Which way the canary takes: labels that keep a twin from it, or the twin's own entry where ours defers to it."""

    labels: Mapping[str, str] = field(default_factory=dict)
    is_twins: bool = False


async def prove(cluster: Cluster, registration: Registration, settings: ProofSettings, way: Way | None = None) -> Proof:
    """Return what the path through the API server does now; ForbiddenError where we may not create the canary."""
    way = way or Way()
    began, started = cluster.clock.now(), time.monotonic()
    nonce = secrets.token_hex(16)
    patience = longest_seconds(registration)
    try:
        target = Target(PODS, f"seccomp-canary-{nonce[:12]}", settings.namespace)
        skipped = canary(target.name, nonce, {**way.labels, registration.skip_label: "true"})
        control, attempt = await asyncio.gather(
            cluster.attempt(target, skipped, timeout_seconds=patience),
            cluster.attempt(target, canary(target.name, nonce, way.labels), timeout_seconds=patience),
        )
    except UnavailableError as error:
        return Proof(Verdict.INCONCLUSIVE, str(error), began=began, seconds=time.monotonic() - started)
    found = judge(attempt, control, nonce=nonce, registration=registration, settings=settings, way=way)
    return Proof(
        found.verdict, found.words, found.skip, found.witness, found.fingerprint, began, time.monotonic() - started
    )


def longest_seconds(registration: Registration) -> float:
    """Return how long one probe waits for its answers.

    The API server waits for the webhook; the probe must still be waiting then, to hear its words. Not much longer:
    while an answer is lost it is not known that the path is, too.
    """
    return registration.timeout_seconds + _ANSWER_SECONDS


def canary(name: str, nonce: str, labels: Mapping[str, str] | None = None) -> Manifest:
    """Return the pod: everything that `restricted` asks for but the profile; the image is never pulled."""
    metadata = {
        "name": name,
        "annotations": {CANARY_ANNOTATION: nonce},
        "labels": {**CANARY_POD_LABELS, **(labels or {})},
    }
    container = {
        "name": "canary",
        "image": "canary.invalid/canary:none",
        "resources": {kind: {"cpu": "1m", "memory": "1Mi"} for kind in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def judge(
    attempt: Attempt,
    control: Attempt,
    *,
    nonce: str,
    registration: Registration,
    settings: ProofSettings,
    way: Way,
) -> Proof:
    """Return the verdict on the canary's `attempt` and on the `control` with the skip label."""
    skip = _skip(control)
    reason, fingerprint = _said_by_our_server(attempt, nonce)
    if attempt.returned is not None:
        return _returned(_type_of(attempt.returned), skip, reason, fingerprint)
    if (violation := _VIOLATION.search(attempt.message)) is not None:
        return _refused_by_pod_security(violation[1], skip, attempt.message, reason)
    if (quota := _QUOTA.search(attempt.message)) is not None and quota[1] == settings.namespace:
        return _stopped_by_quota(control, skip, reason, fingerprint)
    if (failed := _FAILED_CALL.search(attempt.message)) is not None and _is_entry(failed, registration, way):
        return Proof(Verdict.UNREACHABLE, attempt.message, skip)
    advice = f"; apply config/canary.yaml for the namespace {settings.namespace}" if attempt.status == 404 else ""  # noqa: PLR2004 - HTTP
    return Proof(Verdict.INCONCLUSIVE, f"{attempt.status} {attempt.message}{advice}", skip)


def _returned(kind: str, skip: Skip, reason: str, fingerprint: str) -> Proof:
    if kind == _PROFILE:
        witness = Witness.OUR_SERVER if reason == "defaulted" else Witness.RETURNED_POD
        return Proof(Verdict.PROVED, _told(witness), skip, witness, fingerprint)
    words = f"the pod came back with the type {kind}" if kind else "the pod came back without a profile"
    return Proof(Verdict.NOT_MUTATED, words, skip, fingerprint=fingerprint)


def _stopped_by_quota(control: Attempt, skip: Skip, reason: str, fingerprint: str) -> Proof:
    """Return the verdict where our own quota of no pods refused, which looks last: everybody else let the pod pass."""
    if reason == "defaulted":
        return Proof(Verdict.PROVED, _told(Witness.OUR_SERVER), skip, Witness.OUR_SERVER, fingerprint)
    if _is_about_seccomp_alone(_VIOLATION.search(control.message)):
        return Proof(Verdict.PROVED, _told(Witness.POD_SECURITY), skip, Witness.POD_SECURITY)
    words = (
        "the pod passed, and so did the one with the skip label: either PodSecurity does not enforce restricted there, "
        "or both were mutated"
    )
    return Proof(Verdict.INCONCLUSIVE, words, skip)


def _refused_by_pod_security(violations: str, skip: Skip, message: str, reason: str) -> Proof:
    if not _is_about_seccomp_alone(_VIOLATION.search(message)):
        return Proof(Verdict.INCONCLUSIVE, f"something made the canary violate more than its profile: {message}", skip)
    if reason == "defaulted":
        words = "our server set the profile, and another webhook or policy took it away again"
    else:
        words = "nobody set the profile: the webhook is not registered or not called for the canary, or it failed open"
    return Proof(Verdict.NOT_MUTATED, f"{words} ({violations})", skip)


def _skip(control: Attempt) -> Skip:
    if control.returned is not None:
        return Skip.MUTATED if _type_of(control.returned) else Skip.LEFT_ALONE
    violation = _VIOLATION.search(control.message)
    if violation is None:
        return Skip.UNKNOWN
    return Skip.LEFT_ALONE if "seccompProfile" in violation[1] else Skip.MUTATED


def _said_by_our_server(attempt: Attempt, nonce: str) -> tuple[str, str]:
    """Return reason and certificate from the warning that only our server can have written; empty without one."""
    for warning in attempt.warnings:
        found = _WARNING.fullmatch(warning)
        if found is not None and found[1] == nonce:
            return found[2], found[3] or ""
    return "", ""


def _is_about_seccomp_alone(violation: re.Match[str] | None) -> bool:
    return violation is not None and violation[1].startswith("seccompProfile (") and violation[1].count("(") == 1


def _is_entry(failed: re.Match[str], registration: Registration, way: Way) -> bool:
    """Return whether the call that failed was to our backend: gardenlet's own entry has the same name."""
    if way.is_twins:
        return failed[1] == registration.webhook_name
    service = registration.backend.service
    where = f"https://{service.name}.{service.namespace}.svc" if service else str(registration.backend.url)
    address = re.search(r'Post "([^"]+)"', failed[2])
    return failed[1] == registration.webhook_name and (address is None or address[1].startswith(where))


def _type_of(pod: Manifest) -> str:
    context = (pod.get("spec") or {}).get("securityContext") or {}
    return str((context.get("seccompProfile") or {}).get("type") or "")


def _told(witness: Witness) -> str:
    return {
        Witness.OUR_SERVER: "our server answered and the pod has the profile",
        Witness.RETURNED_POD: "the pod has the profile; who set it does not say so (no nonce)",
        Witness.POD_SECURITY: "PodSecurity let the pod pass and refused the one with the skip label; "
        "who set the profile does not say so (no nonce)",
    }[witness]
