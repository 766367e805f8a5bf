"""`status`: everything that one screen should show, gathered by reads and one dry-run; and the conditions, judged."""

import time
from dataclasses import dataclass
from enum import StrEnum

from reconciler.certificates.authority import read, signed
from reconciler.certificates.rotation import Facts, next_step
from reconciler.cluster import Cluster
from reconciler.controller import inputs, managed_seed, observing, trust
from reconciler.controller.enforcement import policy_of
from reconciler.controller.keeping import standing_bundle
from reconciler.controller.leadership import lease_of
from reconciler.controller.lease import annotations_of
from reconciler.controller.proof import Proof, Way, prove
from reconciler.controller.reconcile import target_of
from reconciler.controller.survey import Survey, survey
from reconciler.errors import ReconcilerError
from reconciler.gardenlet.featuregates import Decision
from reconciler.pods.kubelet import Kubelets
from reconciler.registration import drift, memory, owner, pausing, twin, writers
from reconciler.registration.desired import render
from reconciler.registration.identity import Manifest, is_ours
from reconciler.registration.memory import Memory, State
from reconciler.registration.pausing import Mode, Pause
from reconciler.registration.writers import Writer
from reconciler.settings import FailurePolicy, OnTwin, ReconcilerConfiguration
from reconciler.timestamps import utc


class Truth(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition and why; `is_well` is whether it is as it should be."""

    type: str
    status: Truth
    words: str
    is_well: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found; what could not be read is None, and `troubles` says why."""

    decision: Decision | None
    observed: Manifest | None
    entry: Manifest | None  # gardenlet's own
    pause: Pause | None
    proof: Proof | None
    certificates: tuple[bool, str] | None
    survey: Survey | None
    kubelets: Kubelets | None
    troubles: dict[str, str]


@dataclass(frozen=True, slots=True)
class Status:
    """What the command prints."""

    conditions: tuple[Condition, ...]
    memory: Memory | None
    survey: Survey | None
    kubelets: Kubelets | None
    last_writer: Writer | None
    next_step: str
    troubles: dict[str, str]

    @property
    def is_well(self) -> bool:
        """Whether every condition is as it should be, and no pod came through without anything that tells of it."""
        is_explained = self.survey is None or not self.survey.unexplained
        return is_explained and all(condition.is_well for condition in self.conditions)


async def look(cluster: Cluster, settings: ReconcilerConfiguration) -> Seen:
    """Gather. What cannot be read becomes a trouble; only the registration itself must be readable."""
    registration = settings.registration
    troubles: dict[str, str] = {}
    decision: Decision | None = None
    entry: Manifest | None = None
    pause: Pause | None = None
    certificates: tuple[bool, str] | None = None
    found: Survey | None = None
    observed = await cluster.get(target_of(registration))
    try:
        source = inputs.configuration_source(settings.gardenlet_configuration, cluster)
        decision = await inputs.read_decision(source)
    except ReconcilerError as error:
        troubles["configuration"] = str(error)
    try:
        entry = twin.entry_of(await cluster.get(observing.twin_target(registration)), registration)
    except ReconcilerError as error:
        troubles["twin"] = str(error)
    election = settings.leader_election
    try:
        lease = await cluster.get(lease_of(election))
        pause = pausing.of(annotations_of(lease), now=time.time())
    except ReconcilerError as error:
        troubles["pause"] = str(error)
    is_deferred = entry is not None and registration.on_twin is OnTwin.DEFER
    way = Way(is_twins=True) if is_deferred else Way(twin.past(entry, registration))
    proof: Proof | None = None
    try:
        proof = await prove(cluster, registration, settings.proof, way)
    except ReconcilerError as error:
        troubles["proof"] = str(error)
    try:
        certificates = await _certificates(cluster, settings, observed)
    except ReconcilerError as error:
        troubles["certificates"] = str(error)
    try:
        if trouble := (await inputs.read_owner(cluster, registration)).trouble:
            troubles["owner"] = trouble
    except ReconcilerError as error:
        troubles["owner"] = str(error)
    remembered = memory.of(observed)
    if remembered is not None and observed is not None and is_ours(observed):
        try:
            # By what we ask for, not by what somebody may have narrowed.
            found = await survey(cluster, render(registration, ca_bundle=None)["webhooks"][0], remembered)
            troubles |= found.troubles
        except ReconcilerError as error:
            troubles["pods"] = str(error)
    kubelets = await _kubelets(settings, troubles)
    return Seen(decision, observed, entry, pause, proof, certificates, found, kubelets, troubles)


async def _kubelets(settings: ReconcilerConfiguration, troubles: dict[str, str]) -> Kubelets | None:
    source = settings.managed_seed.shoot
    try:
        return None if source is None else await managed_seed.kubelets(source, settings)
    except ReconcilerError as error:
        troubles["shoot"] = str(error)
        return None


async def _certificates(
    cluster: Cluster, settings: ReconcilerConfiguration, observed: Manifest | None
) -> tuple[bool, str]:
    registration, now = settings.registration, cluster.clock.now()
    trusted = [one for one in trust.registered(observed) if one.is_valid_at(now)]
    until = (
        f"authority until {utc(max(one.not_after for one in trusted))}" if trusted else "no valid authority registered"
    )
    own = registration.ca.self_signed
    clock = f"; {cluster.clock.words}" if cluster.clock.words else ""
    if own is None:
        return bool(trusted), until + clock
    standing = await trust.look(cluster, own)
    leaf = next(iter(read(standing.serving.certificate)), None)
    if leaf is None:
        return False, f"no serving certificate; {until}{clock}"
    facts = Facts(now, trust.registered(observed), None, trust.registered_since(observed))
    step = next_step(standing, facts, trust.policy_of(own, registration.backend))
    is_good = leaf.is_valid_at(now) and any(signed(leaf, one) for one in trusted)
    return is_good, f"serving until {utc(leaf.not_after)}, {until}, next: {step.action.value} ({step.reason}){clock}"


def judge(seen: Seen, settings: ReconcilerConfiguration) -> Status:
    """Return the conditions, and what comes next."""
    remembered = memory.of(seen.observed)
    conditions = (
        _gate(seen),
        _registered(seen, settings),
        _proved(seen),
        _enforced(seen, settings, remembered),
        _certified(seen, settings),
        _alone(seen, settings),
        _unpaused(seen),
    )
    return Status(
        conditions,
        remembered,
        seen.survey,
        seen.kubelets,
        writers.last_writer(seen.observed),
        _next(seen, settings, remembered),
        seen.troubles,
    )


def _is_wanted(seen: Seen, settings: ReconcilerConfiguration) -> bool | None:
    """Return whether the registration should stand; None where nobody knows."""
    if seen.decision is None:
        return None
    is_deferred = seen.entry is not None and settings.registration.on_twin is OnTwin.DEFER
    is_removed = seen.pause is not None and seen.pause.mode is Mode.REMOVE
    return seen.decision.enabled and not is_deferred and not is_removed


def _is_off(seen: Seen) -> bool:
    return seen.decision is not None and not seen.decision.enabled


def _gate(seen: Seen) -> Condition:
    if seen.decision is None:
        return Condition("GateEnabled", Truth.UNKNOWN, seen.troubles.get("configuration", ""), is_well=False)
    status = Truth.TRUE if seen.decision.enabled else Truth.FALSE
    return Condition("GateEnabled", status, f"{seen.decision.gate} ({seen.decision.reason.value})", is_well=True)


def _registered(seen: Seen, settings: ReconcilerConfiguration) -> Condition:
    wanted, observed = _is_wanted(seen, settings), seen.observed
    if observed is None:
        return Condition("Registered", Truth.FALSE, "absent" + ("" if wanted else ", as it should be"), not wanted)
    if not is_ours(observed):
        return Condition("Registered", Truth.FALSE, "the object of that name is somebody else's", is_well=False)
    if wanted is False:
        return Condition("Registered", Truth.TRUE, "stands, and should not", is_well=False)
    # The caBundle is CertificatesValid's business, and what is remembered was read from there.
    state = memory.standing(observed)
    desired = render(settings.registration, ca_bundle=standing_bundle(observed), state=state)
    plan = drift.compare(desired=desired, observed=observed)
    differing = [one.path for one in plan.differences if one.path.startswith("webhooks")]
    added = [f"{one.path.rpartition('.')[2]}: {one.observed}" for one in plan.tolerated]
    words = "stands"
    role = settings.registration.owner_cluster_role
    if role and owner.standing(observed, role) is None:
        words += f", not owned by clusterroles/{role}"
    if differing:
        words += f", but somebody changed {', '.join(differing)}"
    if added:
        words += f"; terms of others: {', '.join(added)}"
    return Condition("Registered", Truth.TRUE, words, is_well=not differing)


def _proved(seen: Seen) -> Condition:
    proof = seen.proof
    if proof is None:
        return Condition("Proved", Truth.UNKNOWN, seen.troubles.get("proof", ""), is_well=_is_off(seen))
    status = Truth.TRUE if proof.holds else Truth.UNKNOWN if proof.verdict == "inconclusive" else Truth.FALSE
    return Condition("Proved", status, f"{proof.verdict.value}: {proof.words}", proof.holds or _is_off(seen))


def _enforced(seen: Seen, settings: ReconcilerConfiguration, remembered: Memory | None) -> Condition:
    state = memory.standing(seen.observed)
    why = "" if remembered is None else f" since {utc(remembered.since)}: {remembered.reason}"
    if state is State.FAIL:
        return Condition("Enforced", Truth.TRUE, f"Fail{why}", is_well=not _is_off(seen))
    is_fine = _is_off(seen) or settings.registration.failure_policy is FailurePolicy.IGNORE
    words = "absent" if state is None else f"Ignore{why}"
    return Condition("Enforced", Truth.FALSE, words, is_fine or _is_wanted(seen, settings) is False)


def _certified(seen: Seen, settings: ReconcilerConfiguration) -> Condition:
    is_needed = _is_wanted(seen, settings) is not False
    if seen.certificates is None:
        words = seen.troubles.get("certificates", "")
        return Condition("CertificatesValid", Truth.UNKNOWN, words, is_well=not is_needed)
    is_good, words = seen.certificates
    status = Truth.TRUE if is_good else Truth.FALSE
    return Condition("CertificatesValid", status, words, is_good or not is_needed)


def _alone(seen: Seen, settings: ReconcilerConfiguration) -> Condition:
    name = settings.registration.twin_name
    if "twin" in seen.troubles:
        return Condition("NoTwin", Truth.UNKNOWN, seen.troubles["twin"], is_well=True)
    if seen.entry is None:
        return Condition("NoTwin", Truth.TRUE, f"{name} has no entry for seccomp profiles", is_well=True)
    what = "is called after it" if settings.registration.on_twin is OnTwin.BESIDE else "is left to it"
    return Condition("NoTwin", Truth.FALSE, f"gardenlet's own entry stands in {name}; ours {what}", is_well=True)


def _unpaused(seen: Seen) -> Condition:
    if "pause" in seen.troubles:
        return Condition("NotPaused", Truth.UNKNOWN, seen.troubles["pause"], is_well=False)
    if seen.pause is None:
        return Condition("NotPaused", Truth.TRUE, "no pause", is_well=True)
    return Condition("NotPaused", Truth.FALSE, f"{seen.pause} ({seen.pause.mode.value})", is_well=False)


def _next(seen: Seen, settings: ReconcilerConfiguration, remembered: Memory | None) -> str:
    """Return what a reconciler does next, and when."""
    wanted = _is_wanted(seen, settings)
    if seen.pause is not None:
        return f"nothing before {utc(seen.pause.until)}: paused"
    if wanted is None:
        return "nothing: what the gate asks is not known"
    if not wanted:
        return "none" if seen.observed is None else "remove the registration"
    return "register as Ignore" if seen.observed is None else _next_change(seen, settings, remembered)


def _next_change(seen: Seen, settings: ReconcilerConfiguration, remembered: Memory | None) -> str:
    policy = policy_of(settings)
    if memory.standing(seen.observed) is State.FAIL:
        tolerance = settings.adaptive.loss_tolerance_seconds
        if not policy.is_adaptive:
            return "none"
        longest = policy.longest_without_success_seconds
        return f"lower to Ignore once the proof is lost for {tolerance:g} s, or no probe succeeded for {longest:g} s"
    if policy.kind is FailurePolicy.IGNORE:
        return "none"
    flaps = 0 if remembered is None else remembered.flaps
    return f"raise to Fail after {policy.proofs} proofs in a row over {policy.soak_seconds(flaps):g} s"
