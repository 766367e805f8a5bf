"""`cleanup`: everything of ours that is no manifest goes, in an order in which nobody of ours puts it back.

A pause comes first, so that a reconciler that still runs neither registers nor issues; then the registration, the
Secrets, and last the Lease with the pause, once nobody renews it. Killed anywhere, the next run goes on from there.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from reconciler.cluster import Cluster, Target
from reconciler.controller import pause, trust
from reconciler.controller.leadership import lease_of
from reconciler.controller.lease import Step, Terms, View, annotations_of
from reconciler.controller.reconcile import foreign, reconcile, target_of
from reconciler.errors import ConflictError
from reconciler.kube.server_clock import monotonic
from reconciler.registration import pausing
from reconciler.registration.identity import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, Manifest, is_ours
from reconciler.registration.pausing import Mode, Pause
from reconciler.settings import ReconcilerConfiguration

# No candidate's name: we only look.
_NOBODY = "cleanup"
# A pause that ends by so much sooner than the one that is wanted will do: who is killed again and again after its first
# write must not write that one each time, and come no further.
_NEAR_SECONDS = 60.0


class Result(StrEnum):
    """What became of an object."""

    REMOVED = "removed"
    ABSENT = "absent"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Removal:
    """An object, what became of it, and why it was left."""

    target: Target
    result: Result
    why: str = ""


class Cleanup:
    """One cleaning; passes that fail are begun anew by `run`, and what was removed once counts as removed.

    With `leaves_paused` the Lease stays, with the pause. `waits_for` says who holds the Lease while it is waited for.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: ReconcilerConfiguration,
        wanted: Pause,
        *,
        leaves_paused: bool = False,
        dry_run: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._wanted = wanted
        self._leaves_paused = leaves_paused
        self._dry_run = dry_run
        self._clock = clock
        self.waits_for = ""
        self._found: dict[Target, Removal] = {}
        self._lease = lease_of(settings.leader_election)
        self._registration = target_of(settings.registration)
        own = settings.registration.ca.self_signed
        self._secrets = () if own is None else trust.targets(own)
        election = settings.leader_election
        self._view = View(Terms(_NOBODY, election.lease_duration_seconds, election.renew_deadline_seconds))

    @property
    def removals(self) -> tuple[Removal, ...]:
        """What was found so far, in the order in which it goes."""
        return tuple(self._found.values())

    async def run(self) -> None:
        """Make one pass over everything.

        Raises ForeignObjectError, with nothing touched, where the registration is not ours; ConflictError where another
        writer or a finalizer is in the way. It waits for as long as somebody renews the Lease.
        """
        stood = await self._own_registration()
        if not self._dry_run:
            await self._paused()
        await self._unregistered(stood)
        for target in self._secrets:
            await self._remove(target, await self._cluster.get(target), is_mine=is_ours)
        if self._leaves_paused:
            await self._left_paused()
        else:
            await self._lease_ended()
        if not self._dry_run:
            await self._nothing_is_back()

    async def _own_registration(self) -> Manifest | None:
        observed = await self._cluster.get(self._registration)
        if observed is not None and not is_ours(observed):
            raise foreign(self._registration, observed)
        return observed

    async def _unregistered(self, stood: Manifest | None) -> None:
        """Remove the registration, which `stood` before the pause: a reconciler that runs may have been faster."""
        observed = await self._own_registration()
        await reconcile(self._cluster, self._registration, desired=None, observed=observed, dry_run=self._dry_run)
        self._note(self._registration, Result.REMOVED if stood or observed else Result.ABSENT)

    async def _remove(self, target: Target, observed: Manifest | None, *, is_mine: Callable[[Manifest], bool]) -> None:
        """Remove exactly the `observed` object, if it is ours, and see that it is gone."""
        if observed is None:
            self._note(target, Result.ABSENT)
        elif not is_mine(observed):
            self._note(target, Result.LEFT, _not_ours(observed))
        else:
            if not observed["metadata"].get("deletionTimestamp"):
                await self._cluster.delete(target, observed=observed, dry_run=self._dry_run)
            if not self._dry_run and (still := await self._cluster.get(target)) is not None:
                finalizers = ", ".join(still["metadata"].get("finalizers") or ()) or "none"
                raise ConflictError(f"{target}: deleted, and still there; its finalizers: {finalizers}")
            self._note(target, Result.REMOVED)

    async def _nothing_is_back(self) -> None:
        """Raise ConflictError where somebody made anew what was removed."""
        if not self._view.was_seen and any(one.result is Result.REMOVED for one in self.removals):
            # Without a Lease nothing was paused, and nothing was waited for: whoever writes without one has this time.
            await asyncio.sleep(self._settings.leader_election.retry_period_seconds)
        for target in self._found:
            is_mine = _is_our_lease if target == self._lease else is_ours
            observed = await self._cluster.get(target)
            if self._found[target].result is not Result.LEFT and observed is not None and is_mine(observed):
                raise ConflictError(
                    f"{target}: removed, and back again. A reconciler without leader election runs, or a `reconcile` "
                    "is under way: end it"
                )

    def _note(self, target: Target, result: Result, why: str = "") -> None:
        before = self._found.get(target)
        if result is not Result.ABSENT or before is None or before.result is not Result.REMOVED:
            self._found[target] = Removal(target, result, why)

    # the Lease

    async def _paused(self) -> None:
        """Have a removing pause stand, and whoever leads know of it."""
        observed = await self._look_at_lease()
        if observed is None and not self._leaves_paused:
            return  # who leads, or wants to, would have one
        if observed is not None and not _is_our_lease(observed):
            return
        if not self._is_paused(observed):
            wanted = self._beside(pausing.of(annotations_of(observed), now=time.time()))
            observed = await pause.written(self._cluster, self._settings.leader_election, wanted, observed)
            self._view = self._view.saw(observed, at=self._clock())
        # A renewal is bound to the version that it was planned on: the next one tells that its writer has seen it.
        written = self._view.record
        while self._view.record is not None and self._view.record == written:
            if self._view.next_step(self._clock())[0] is not Step.WAIT:
                break
            await self._rest("has not been seen to renew it since the pause was written")
        self.waits_for = ""
        if self._view.record is None:
            raise ConflictError(f"{self._lease}: removed by somebody while the pause was to be seen")

    def _beside(self, standing: Pause | None) -> Pause:
        """Return the pause that is wanted; where somebody's own lasts longer, with its end and its reason."""
        if standing is None or standing.until <= self._wanted.until:
            return self._wanted
        return Pause(standing.until, standing.reason, Mode.REMOVE)

    def _is_paused(self, observed: Manifest | None) -> bool:
        """Return whether a pause stands that removes, and lasts for about as long as the one that is wanted."""
        now = time.time()
        standing = pausing.of(annotations_of(observed), now=now)
        near = min(_NEAR_SECONDS, (self._wanted.until - now) / 2)
        return standing is not None and standing.mode is Mode.REMOVE and standing.until >= self._wanted.until - near

    async def _left_paused(self) -> None:
        observed = await self._look_at_lease()
        if observed is None:
            self._note(self._lease, Result.ABSENT)
        elif not _is_our_lease(observed):
            self._note(self._lease, Result.LEFT, _not_ours(observed))
        else:
            self._note(self._lease, Result.LEFT, str(self._wanted if self._dry_run else self._pause_of(observed)))

    async def _lease_ended(self) -> None:
        """Remove the Lease once nobody renews it, and no candidate takes it over."""
        observed = await self._look_at_lease()
        while observed is not None and _is_our_lease(observed) and not self._dry_run:
            if self._clock() >= self._view.abandoned_at:
                break
            observed = await self._rest("holds it")
        self.waits_for = ""
        await self._remove(self._lease, observed, is_mine=_is_our_lease)
        if self._dry_run and self._view.record is not None and (holder := self._view.record.holder):
            self._note(self._lease, Result.REMOVED, f"once {holder} does not renew it any more")

    async def _look_at_lease(self) -> Manifest | None:
        observed = await self._cluster.get(self._lease)
        self._view = self._view.saw(observed, at=self._clock())
        return observed

    async def _rest(self, what: str) -> Manifest | None:
        """Wait for a moment and look again."""
        self.waits_for = self._held(what)
        left = max(self._view.abandoned_at - self._clock(), 0.0)
        await asyncio.sleep(min(self._settings.leader_election.retry_period_seconds, left + 0.01))
        return await self._look_at_lease()

    def _held(self, what: str) -> str:
        observed, record = self._view.observed, self._view.record
        holder = record.holder if record is not None else None
        until = "" if observed is None else f"; everything is {self._pause_of(observed)}"
        if not holder:
            return (
                f"{self._lease}: nobody holds it, and whether a candidate takes it over is not known yet: run "
                f"`cleanup` again with a longer --timeout{until}"
            )
        return (
            f"{self._lease}: {holder} {what}. End it (take the sidecar out of gardenlet, delete the Deployment) "
            f"and run `cleanup` again{until}"
        )

    def _pause_of(self, observed: Manifest) -> Pause:
        return pausing.of(annotations_of(observed), now=time.time()) or self._wanted


def _is_our_lease(observed: Manifest) -> bool:
    """Return whether a reconciler, or somebody who paused one, made it: who leads never applies it."""
    label = (observed["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL)
    if label is not None:
        return bool(label == MANAGED_BY)
    return any(entry.get("manager") == FIELD_MANAGER for entry in observed["metadata"].get("managedFields") or ())


def _not_ours(observed: Manifest) -> str:
    label = (observed["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL)
    return (
        f"not ours: {f'its label {MANAGED_BY_LABEL} says {label}' if label else f'it has no label {MANAGED_BY_LABEL}'}"
    )
