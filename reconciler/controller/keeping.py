"""One pass over the registration: look, decide on the failurePolicy, lower first, then trust, then the rest."""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.cluster import Cluster
from reconciler.controller import inputs
from reconciler.controller.conflicts import CREATED, DELETED, Conflicts, Side, opponent
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.reconcile import Outcome, Result, reconcile, target_of
from reconciler.errors import ForbiddenError
from reconciler.registration import drift, memory, owner
from reconciler.registration.desired import render
from reconciler.registration.drift import Action, Difference
from reconciler.registration.identity import SELECTORS_ANNOTATION, Manifest, is_ours
from reconciler.registration.memory import Memory, State
from reconciler.registration.owner import Owner
from reconciler.registration.retiring import with_retiring
from reconciler.settings import ReconcilerConfiguration, Registration

_LOOK_AGAIN_SECONDS: Final = 1.0
# A wrong one refuses pods, and lets none through.
_CA_BUNDLE: Final = "webhooks[0].clientConfig.caBundle"
_FAILURE_POLICY: Final = "webhooks[0].failurePolicy"


class Why(StrEnum):
    """Why something was written."""

    REGISTERED = "registered"
    REMOVED = "removed"
    RAISED = "raised"
    LOWERED = "lowered"
    # What was asked for stayed the same: somebody else had changed it.
    REPAIRED = "repaired"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a pass came to: each write with its reason, who was put right, and when to come again (monotonic)."""

    outcome: Outcome
    memory: Memory | None = None
    written: tuple[tuple[Action, Why], ...] = ()
    sides: frozenset[Side] = frozenset()
    wars: frozenset[Side] = frozenset()  # that began with this pass
    held: tuple[Difference, ...] = ()  # left as it is for now: a war
    due: float = float("inf")
    ownerless: str = ""  # why no owner could be read


# What is to be trusted (PEM), given the registration as it stands; None where nobody knows yet.
Bundle = Callable[[Manifest | None], Awaitable[bytes | None]]


class Keeper:
    """Keeps one registration; what it asked for last tells a change of ours from a change of somebody else."""

    def __init__(
        self,
        settings: ReconcilerConfiguration,
        cluster: Cluster,
        enforcement: Enforcement,
        *,
        prove: Callable[[], Awaitable[None]],
        lint: Callable[[], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registration = settings.registration
        self._target = target_of(settings.registration)
        self._cluster = cluster
        self._enforcement = enforcement
        self._prove = prove
        self._lint = lint
        self._monotonic = monotonic
        self._asked: Manifest | None = None
        self._was_owned = False  # this process has read the owner
        self._is_gone = False  # by us, who want nothing to stand
        self._is_mending = False  # a repair opened the window that is open
        self._looked = 0.0  # when what is planned from was read, by the wall clock
        self.conflicts = Conflicts(settings.conflicts)

    async def remove(self, observed: Manifest | None, *, dry_run: bool = False) -> Kept:
        """Make the registration not stand; who creates it again and again has a war, too."""
        self._asked = None
        now = self._monotonic()
        is_back = self._is_gone and observed is not None and is_ours(observed)
        back = (Difference(CREATED, None, "present"),) if is_back else ()
        sides = frozenset(opponent(observed, one.path) for one in back)
        if not dry_run and now < (due := self.conflicts.next_repair(sides)):
            wars = self.conflicts.held(sides)
            return Kept(Outcome(Result.UNCHANGED, observed=observed), sides=sides, wars=wars, held=back, due=due)
        outcome = await reconcile(self._cluster, self._target, desired=None, observed=observed, dry_run=dry_run)
        written = tuple((action, Why.REMOVED) for action in outcome.actions)
        if dry_run:
            return Kept(outcome, written=written)
        self._is_gone = True
        wars = self.conflicts.repaired(sides, now=now, writes=len(written) if sides else 0)
        return Kept(outcome, written=written, sides=sides, wars=wars, due=self.conflicts.next_calm)

    async def keep(
        self,
        observed: Manifest | None,
        bundle: Bundle,
        *,
        annotations: Mapping[str, str],
        last_renewal: float | None,
        adopt: bool = False,
        dry_run: bool = False,
    ) -> Kept:
        """Make the registration stand; `annotations` are those of our Lease. Raises as `reconcile` does."""
        enforcement = self._enforcement
        self._looked = enforcement.now()
        if not dry_run and enforcement.is_due_for_a_look(observed):
            enforcement.is_asked = True
            await self._prove()
        on_lease = memory.from_text(annotations.get(memory.MEMORY_ANNOTATION))
        decision = enforcement.decide(observed, on_lease=on_lease, last_renewal=last_renewal)
        if not dry_run and decision.memory.state is State.FAIL and memory.standing(observed) is not State.FAIL:
            await self._lint()
            decision = enforcement.decide(observed, on_lease=on_lease, last_renewal=last_renewal)
        first = Kept(Outcome(Result.UNCHANGED, observed=observed), decision.memory)
        if not dry_run:
            self._is_gone = False
            if decision.memory.state is State.IGNORE and memory.standing(observed) is State.FAIL:
                first = await self._lowered(observed, decision.memory, last_renewal)
        observed = first.outcome.observed
        if (pem := await bundle(observed)) is None:
            return replace(first, due=min(first.due, decision.due))
        found = await inputs.read_owner(self._cluster, self._registration)
        reference = self._owner(found, observed)
        kept = await self._settled(
            pem, decision.memory, observed, last_renewal, reference=reference, adopt=adopt, dry_run=dry_run
        )
        kept = replace(kept, ownerless=found.trouble)
        return _joined(first, kept, due=min(decision.due, self.conflicts.next_calm))

    def _owner(self, found: Owner, observed: Manifest | None) -> Manifest | None:
        """Return the ownerReference to ask for: what was read, else what the object carries.

        An owner that cannot be read is kept as it is: taken away while the ClusterRole is being removed, the garbage
        collector would not remove the registration. For the same reason an object that it has removed is not created
        again, where the right to do so is still there for a moment.
        """
        if found.reference is not None:
            self._was_owned = True
            return found.reference
        if not found.trouble:
            return None
        if observed is None and self._was_owned:
            raise ForbiddenError(f"not registered again without the ClusterRole that owns it: {found.trouble}")
        return owner.standing(observed, self._registration.owner_cluster_role)

    async def _lowered(self, observed: Manifest | None, decided: Memory, last_renewal: float | None) -> Kept:
        """Write Ignore before anything else is looked at, with the caBundle that stands."""
        # What somebody else raised is put right as a whole, or a war would take more writes than one.
        is_foreign = memory.standing(self._asked) is State.IGNORE
        pem = standing_bundle(self._asked if is_foreign else observed)
        reference = owner.standing(self._asked if is_foreign else observed, self._registration.owner_cluster_role)
        kept = await self._settled(pem, decided, observed, last_renewal, reference=reference)
        return replace(kept, written=tuple((action, Why.LOWERED) for action, _ in kept.written))

    async def _settled(
        self,
        pem: bytes | None,
        decided: Memory,
        observed: Manifest | None,
        last_renewal: float | None,
        *,
        reference: Manifest | None,
        adopt: bool = False,
        dry_run: bool = False,
    ) -> Kept:
        desired = self._desired(pem, decided, observed, reference)
        now = self._monotonic()
        differences = _differences(desired, observed, adopt=adopt)
        is_as_asked = self._is_as_asked(desired, observed)
        foreign = self._foreign(differences, observed) if is_as_asked else ()
        is_repair = bool(foreign)
        sides = frozenset(opponent(observed, one.path) for one in foreign)
        if not dry_run and now < (due := self.conflicts.next_repair(sides)):
            unchanged = Outcome(Result.UNCHANGED, observed=observed)
            wars = self.conflicts.held(sides)
            return Kept(unchanged, decided, sides=sides, wars=wars, held=differences, due=due)
        if is_repair and decided.state is State.FAIL and any(map(_lets_through, foreign)):
            # Whatever was narrowed or taken away meanwhile, pods may have come through.
            seen = self._enforcement.last_seen(decided, last_renewal)
            who = ", ".join(sorted({side.manager for side in sides}))
            decided = decided.opened(seen, f"changed by {who}")  # closed when Fail is seen to stand
            desired = self._desired(pem, decided, observed, reference)
        outcome = await reconcile(
            self._cluster, self._target, desired=desired, observed=observed, adopt=adopt, dry_run=dry_run
        )
        why = _why(observed, decided, is_repair=is_repair)
        if dry_run:
            return Kept(outcome, decided, tuple((action, why) for action in outcome.actions))
        self._asked = desired
        # A write is bound to the version that it was planned from; without one, that is all that was seen.
        self._enforcement.wrote(decided, seen=None if outcome.actions else self._looked)
        is_of_repair = is_as_asked and (bool(sides) or self._is_mending)
        wars = self.conflicts.repaired(sides, now=now, writes=len(outcome.actions) if is_of_repair else 0)
        self._is_mending = decided.is_open and (bool(sides) or self._is_mending)
        # A window ends when Fail is seen to stand.
        due = now + _LOOK_AGAIN_SECONDS if decided.state is State.FAIL and decided.is_open else float("inf")
        return Kept(outcome, decided, tuple((action, why) for action in outcome.actions), sides, wars, due=due)

    def _is_as_asked(self, desired: Manifest, observed: Manifest | None) -> bool:
        """Return whether a difference is somebody else's doing: what we ask for has not changed."""
        if self._asked is not None:
            return _core(desired) == _core(self._asked)
        kept = ((observed or {}).get("metadata") or {}).get("annotations") or {}
        return bool(kept.get(SELECTORS_ANNOTATION) == desired["metadata"]["annotations"][SELECTORS_ANNOTATION])

    def _foreign(self, differences: tuple[Difference, ...], observed: Manifest | None) -> tuple[Difference, ...]:
        """Return those differences that are somebody else's doing: what we remember anew is not."""
        if observed is None:
            return differences
        left = None if self._asked is None else self._asked["metadata"]["annotations"]
        found = observed["metadata"].get("annotations") or {}
        ours = {
            f"metadata.annotations[{key}]" for key in memory.ANNOTATIONS if left is None or found.get(key) == left[key]
        }
        if left is None:
            ours |= {_FAILURE_POLICY, owner.PATH}  # who knows nothing yet can only have lowered it, or is newer
        return tuple(difference for difference in differences if difference.path not in ours)

    def _desired(
        self, pem: bytes | None, decided: Memory, observed: Manifest | None, reference: Manifest | None
    ) -> Manifest:
        return desired_of(self._registration, pem, decided, observed, reference)


def desired_of(
    registration: Registration,
    pem: bytes | None,
    decided: Memory,
    observed: Manifest | None,
    reference: Manifest | None,
) -> Manifest:
    """Return what should stand with this caBundle (PEM; None: without) and this decision, given what stands."""
    remembered = memory.annotations(decided)
    if pem is not None and (secret := registration.ca.secret) is not None:
        bundle = with_retiring(pem, observed, now=time.time(), overlap_seconds=secret.overlap_seconds)
        pem, remembered = bundle.pem, remembered | bundle.annotations
    return render(registration, ca_bundle=pem, state=decided.state, annotations=remembered, owner=reference)


def _differences(desired: Manifest, observed: Manifest | None, *, adopt: bool) -> tuple[Difference, ...]:
    """Return what a write would change; the absent object is one difference."""
    if observed is None:
        return (Difference(DELETED, "present", None),)
    return drift.compare(desired=desired, observed=observed, adopt=adopt).differences


def _lets_through(difference: Difference) -> bool:
    """Return whether pods may have come through because of it."""
    return difference.path.startswith("webhooks") and difference.path != _CA_BUNDLE


def _joined(first: Kept, then: Kept, *, due: float) -> Kept:
    """Return both as one pass, whose first write tells what it came to."""
    outcome = replace(then.outcome, actions=first.outcome.actions + then.outcome.actions)
    if first.outcome.actions:
        outcome = replace(outcome, result=first.outcome.result, differences=first.outcome.differences)
    return replace(
        then,
        outcome=outcome,
        written=first.written + then.written,
        sides=first.sides | then.sides,
        wars=first.wars | then.wars,
        due=min(first.due, then.due, due),
    )


def _core(desired: Manifest) -> Manifest:
    """Return what is asked for, without what is only remembered."""
    annotations = desired["metadata"]["annotations"]
    kept = {key: value for key, value in annotations.items() if key not in memory.ANNOTATIONS}
    return {**desired, "metadata": {**desired["metadata"], "annotations": kept}}


def _why(observed: Manifest | None, decided: Memory, *, is_repair: bool) -> Why:
    if observed is None:
        return Why.REGISTERED
    before = memory.of(observed)
    if before is not None and before.state is not decided.state:
        return Why.RAISED if decided.state is State.FAIL else Why.LOWERED
    return Why.REPAIRED if is_repair else Why.UPDATED


def standing_bundle(observed: Manifest | None) -> bytes | None:
    """Return the caBundle that is registered (PEM); None where there is none or it is unreadable."""
    entries = (observed or {}).get("webhooks") or ()
    try:
        encoded = (entries[0].get("clientConfig") or {}).get("caBundle") if entries else None
        return base64.b64decode(encoded, validate=True) if encoded else None
    except binascii.Error:
        return None
