"""Keeping it so: triggers, a queue of one, passes that are retried for ever, and the last good inputs.

Every change of an input and every change of our own object wakes one pass; while a pass runs, wakes add up to one
more. In a steady state nothing is sent but the watches, the proofs, the Lease, and once a resync period the reads of
one pass. Whoever does not lead follows everything and writes nothing.
"""

import asyncio
import random
import time
from contextlib import aclosing
from typing import Final, NoReturn, TypeAlias

from reconciler.backoff import Backoff, is_reportable, retrying
from reconciler.cluster import WATCH_SILENCE_SECONDS, Cluster
from reconciler.controller import inputs, linting, observing
from reconciler.controller.alone import Alone
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.keeping import Keeper, Kept
from reconciler.controller.leadership import Leadership
from reconciler.controller.proof import Proof, Way
from reconciler.controller.proving import Prover
from reconciler.controller.reading import Reading
from reconciler.controller.reconcile import Result, target_of
from reconciler.controller.reporting import Known, Report
from reconciler.controller.survey import survey
from reconciler.controller.wake import EVERYTHING, Trigger, Wake
from reconciler.errors import ForbiddenError, ForeignObjectError, ReconcilerError, UnavailableError
from reconciler.registration import memory, pausing, twin
from reconciler.registration.desired import render
from reconciler.registration.identity import Manifest
from reconciler.registration.pausing import Mode
from reconciler.settings import OnTwin, ReconcilerConfiguration
from reconciler.sources import Source

# uid and resourceVersion; nothing where there is no object.
_Version: TypeAlias = tuple[str, ...]
_UNKNOWN: Final[_Version] = ("unknown",)
# A pass that takes longer than this hangs, whatever the deadlines of its requests say.
_LONGEST_PASS_SECONDS: Final = 300.0
_LINT_SECONDS: Final = 60.0
_NEVER: Final = float("-inf")


class Loop:
    """The loop for one set of settings; `known` carries the last good inputs from one to the next."""

    def __init__(
        self,
        settings: ReconcilerConfiguration,
        cluster: Cluster,
        report: Report,
        *,
        identity: str,
        known: Known,
    ) -> None:
        self._settings = settings
        self._registration = settings.registration
        self._cluster = cluster
        self._report = report
        self.known = known
        self._reading = Reading(settings, cluster, report, known)
        self._enforcement = Enforcement(settings)
        self._enforcement.certificates_now = cluster.clock.now
        self._prover = Prover(settings, cluster, self._enforcement, way=self._way, saw=self._saw_proof)
        self._keeper = Keeper(settings, cluster, self._enforcement, prove=self._prove, lint=self._lint)
        election = settings.leader_election
        self._leadership: Leadership | Alone = (
            Leadership(cluster, election, identity) if election.enabled else Alone(cluster, election)
        )
        self._wake = Wake()
        self._sleep = observing.Sleep()
        self._watched: Manifest | None = None  # our object as the watch last saw it
        self._is_watch_whole = False  # no gap since the last event
        self._twin: Manifest | None = None  # gardenlet's own entry
        self._is_twin_known = False  # whether anybody has looked for it
        self._is_wanted = False  # whether anything is to be proved
        self._settled: _Version = _UNKNOWN  # what the last pass left, as long as passes succeed
        self._is_held = False  # it left something as somebody else wants it: a war
        self._again: asyncio.TimerHandle | None = None
        self._linted = _NEVER
        self._recorded_before: memory.Memory | None = None  # from the Lease, until a pass has taken it in
        self._surveyed: tuple[memory.Window, ...] = ()
        self._survey_due = asyncio.Event()
        self._is_failing = False
        self._last_error: BaseException | None = None
        self._pass_began: float | None = None

    async def run(self) -> NoReturn:
        """Run until cancelled; the registration stays as it is then, and the Lease is given back."""
        self._cluster.fence = self._leadership.check
        self._saw_lease()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_source(self._reading.configuration, Trigger.CONFIGURATION))
                for source in inputs.ca_sources(self._registration.ca, self._cluster):
                    group.create_task(self._follow_source(source, Trigger.CA))
                if (issuer := self._reading.issuer) is not None:
                    group.create_task(issuer.run(self._certificates_are_due))
                if (service := self._registration.backend.service) is not None:
                    group.create_task(observing.follow_endpoints(self._cluster, service, self._saw_endpoints))
                group.create_task(observing.follow_twin(self._cluster, self._registration, self._saw_twin))
                group.create_task(observing.follow_clock(self._sleep, self._woke))
                group.create_task(self._leadership.run(self._saw_lease))
                group.create_task(self._prover.run())
                group.create_task(self._follow_registration())
                group.create_task(self._resync())
                group.create_task(self._survey())
                await self._pass_for_ever()
        finally:
            await self._leadership.release()

    @property
    def trouble(self) -> str:
        """Why the loop does not live any more; empty while it does."""
        if self._pass_began is not None and time.monotonic() - self._pass_began > _LONGEST_PASS_SECONDS:
            return f"a pass has been under way for more than {_LONGEST_PASS_SECONDS:g} s"
        return ""

    @property
    def queue_age_seconds(self) -> float:
        """How long the oldest trigger has been waiting for its pass."""
        return self._wake.age_seconds

    # passes

    async def _pass_for_ever(self) -> NoReturn:
        backoff = self._settings.backoff
        policy = retrying(
            Backoff(backoff.initial, backoff.maximum),
            deadline_seconds=None,
            retry_on=is_reportable,
            before_sleep=self._failed,
            sleep=self._sleep_unless_woken,
        )
        self._wake.event.set()
        while True:
            await self._wake.event.wait()
            await policy(self._pass)

    async def _pass(self) -> None:
        if self._sleep.is_over():
            self._woke()
        due = self._wake.take()
        self._pass_began = time.monotonic()
        result: Result | None = None
        try:
            result = await self._answer(due)
        except BaseException:
            self._settled = _UNKNOWN
            self._wake.due |= due  # only a pass that came to its end has answered what it was woken for
            raise
        finally:
            self._report.passed(result, time.monotonic() - self._pass_began)
            self._pass_began = None
        self._wake.answered()
        if self._is_failing:
            self._is_failing = False
            self._report.recovered()

    async def _answer(self, due: set[Trigger]) -> Result:
        if due == {Trigger.REGISTRATION} and _version(self._watched) == self._settled:
            return Result.UNCHANGED  # the watch tells us of our own write
        if due >= EVERYTHING:
            self._linted = _NEVER
        if Trigger.CONFIGURATION in due:
            await self._reading.refresh_decision()
        decision = self.known.decision
        if decision is None or not self._leadership.leading:
            self._is_wanted = False
            return Result.UNCHANGED
        if isinstance(self._leadership, Alone):
            await self._leadership.look()
        pause = pausing.of(self._leadership.annotations, now=time.time())
        self._enforcement.pause = pause
        self._report.paused(pause)
        is_removed = pause is not None and pause.mode is Mode.REMOVE
        if not self._is_twin_known:
            await self._look_for_twin()  # its watch may come later than the first pass
        is_deferred = self._twin is not None and self._registration.on_twin is OnTwin.DEFER
        self._is_wanted = decision.enabled and not is_removed
        observed = await self._cluster.get(target_of(self._registration))
        if not decision.enabled or is_removed or is_deferred:
            kept = await self._removed(observed, is_paused=decision.enabled and is_removed)
        else:
            kept = await self._kept(observed, is_due=Trigger.CA in due or self.known.ca_bundle is None)
        self._settle(kept)
        self._come_again(kept.due, None if pause is None else pause.until)
        return kept.outcome.result

    async def _removed(self, observed: Manifest | None, *, is_paused: bool) -> Kept:
        """Make nothing stand; a pause is a window, and what was remembered goes on after it."""
        remembered: memory.Memory | None = None
        if is_paused:
            remembered = self._decided(observed)
        kept = await self._keeper.remove(observed)
        self._enforcement.begin(remembered)
        text = None if remembered is None else memory.to_text(remembered)
        self._leadership.remember({memory.MEMORY_ANNOTATION: text})
        return kept

    async def _kept(self, observed: Manifest | None, *, is_due: bool) -> Kept:
        if self._enforcement.refused or self._linted == _NEVER:
            try:
                await self._lint()  # what it named may be mended by now, or the settings be new
            except ReconcilerError as error:
                self._report.not_linted(error)  # a repair does not wait for it; a raise does
        kept = await self._keeper.keep(
            observed,
            lambda found: self._bundle(found, is_due=is_due),
            annotations=self._leadership.annotations,
            last_renewal=self._leadership.last_renewed_by_others(),
        )
        if kept.memory is not None:
            self._leadership.remember({memory.MEMORY_ANNOTATION: memory.to_text(kept.memory)})
        return kept

    def _decided(self, observed: Manifest | None) -> memory.Memory:
        on_lease = memory.from_text(self._leadership.annotations.get(memory.MEMORY_ANNOTATION))
        last_renewal = self._leadership.last_renewed_by_others()
        return self._enforcement.decide(observed, on_lease=on_lease, last_renewal=last_renewal).memory

    def _settle(self, kept: Kept) -> None:
        self._settled = _version(kept.outcome.observed)
        self._recorded_before = None
        self._is_held = bool(kept.held)
        if kept.written:
            self._prover.written()
        remembered = kept.memory or self._enforcement.memory  # a pause that removes it is a window, too
        windows = () if remembered is None else remembered.windows
        if windows != self._surveyed:
            self._surveyed = windows
            self._survey_due.set()
        self._report.kept(self._registration.name, kept)
        if kept.written and remembered is not None:
            self._report.recorded(remembered, known=self._enforcement.known)
        self._report.remembers(remembered)
        self._report.wars(self._keeper.conflicts.calmed(now=time.monotonic()), self._keeper.conflicts.wars)

    def _come_again(self, due: float, pause_ends: float | None) -> None:
        """Have a pass decide anew when it is time, by the monotonic clock or when a pause ends."""
        if self._again is not None:
            self._again.cancel()
        waits = [due - time.monotonic()]
        if pause_ends is not None:
            # The wall clock may jump: it is looked at again after a while.
            waits.append(min(pause_ends - time.time(), 60.0))
        if (wait := min(waits)) != float("inf"):
            self._again = asyncio.get_running_loop().call_later(max(wait, 0.0) + 0.01, self._wake.add, Trigger.POLICY)

    # inputs

    async def _bundle(self, observed: Manifest | None, *, is_due: bool) -> bytes | None:
        before = self._reading.issued
        bundle = await self._reading.bundle(observed, self._prover.proved, is_due=is_due)
        issued = self._reading.issued
        if issued is not None and issued is not before:
            self._enforcement.serves(issued.standing.serving.certificate)
            if issued.steps:
                self._prover.hurry()
        return bundle

    def _certificates_are_due(self) -> None:
        if self.known.decision is None or not self.known.decision.enabled:
            return  # the pass that follows the gate asks for them
        self._wake.add(Trigger.CA)
        if self._reading.is_rotating:
            self._prover.hurry()

    # proofs

    def _way(self) -> Way | None:
        if not self._is_wanted or not self._leadership.leading:
            return None
        if self._twin is not None and self._registration.on_twin is OnTwin.DEFER:
            return Way(is_twins=True)
        # The watch tells of our own write a moment later.
        stands = self._watched is not None or self._settled not in ((), _UNKNOWN)
        return Way(twin.past(self._twin, self._registration)) if stands else None

    async def _prove(self) -> None:
        await self._prover.prove_now(Way(twin.past(self._twin, self._registration)))

    def _saw_proof(self, proof: Proof) -> None:
        self._report.proved(proof)
        if proof.holds and self._is_watch_whole and self._is_as_decided:
            # The canary is called; whether others are, a watch would have told, unless its connection is dead.
            self._enforcement.seen_as_decided(self._enforcement.now() - WATCH_SILENCE_SECONDS)
        if not self._enforcement.is_at_rest:
            self._wake.add(Trigger.POLICY)
        if proof.holds and self._reading.is_rotating:
            self._wake.add(Trigger.CA)

    @property
    def _is_as_decided(self) -> bool:
        """Whether our object was last seen as the last pass left it, and nothing that should be put right waits."""
        return not self._is_held and _version(self._watched) == self._settled

    async def _lint(self) -> None:
        """Ask the linter whether Fail would lock anybody out; not again and again while one thing waits for it."""
        if time.monotonic() < self._linted + _LINT_SECONDS:
            return
        refused, findings = await linting.refusal(self._cluster, self._settings)
        self._linted = time.monotonic()
        self._report.linted(refused, findings)
        self._enforcement.refused = refused

    async def _survey(self) -> NoReturn:
        """Look for pods that came through without a profile, whenever a window was closed, and at each resync."""
        while True:
            await self._survey_due.wait()
            self._survey_due.clear()
            remembered = self._enforcement.memory
            if remembered is None or not self._leadership.leading:
                continue
            entry = render(self._registration, ca_bundle=None)["webhooks"][0]
            try:
                found = await survey(self._cluster, entry, remembered)
                self._report.surveyed(found)
                for trouble in found.troubles.values():
                    self._report.not_surveyed(UnavailableError(trouble))
            except ReconcilerError as error:
                self._report.not_surveyed(error)

    # news

    def _saw_lease(self) -> None:
        if self._report.leads(is_leading=self._leadership.leading):
            # The Lease may be deleted before the first pass, as the registration may have been before; and the lead
            # may be lost before it, so that the last Lease read is our own new one.
            found = memory.from_text(self._leadership.last_read.get(memory.MEMORY_ANNOTATION))
            self._recorded_before = found or self._recorded_before
            self._enforcement.begin(self._recorded_before)
            self._wake.add(Trigger.RESYNC)
        else:
            self._wake.add(Trigger.LEASE)

    async def _look_for_twin(self) -> None:
        try:
            self._saw_twin(await self._cluster.get(observing.twin_target(self._registration)))
        except ForbiddenError:
            self._is_twin_known = True  # nobody will tell, and the watch says so

    def _saw_twin(self, observed: Manifest | None) -> None:
        self._is_twin_known = True
        entry = None if observed is None else twin.entry_of(observed, self._registration)
        if (entry is None) != (self._twin is None):
            self._report.twin(self._registration.twin_name, stands=entry is not None)
            self._wake.add(Trigger.TWIN)
        self._twin = entry

    def _saw_endpoints(self, ready: int) -> None:
        before, self._enforcement.ready_endpoints = self._enforcement.ready_endpoints, ready
        if (before == 0) != (ready == 0):
            self._wake.add(Trigger.POLICY)
            self._prover.hurry()

    def _woke(self) -> None:
        self._enforcement.begin()
        self._wake.add(Trigger.RESYNC)
        self._prover.hurry()

    async def _follow_source(self, source: Source, trigger: Trigger) -> None:
        async with aclosing(source.changes()) as changes:
            async for _ in changes:
                self._wake.add(trigger)

    async def _follow_registration(self) -> None:
        async with aclosing(self._cluster.follow(target_of(self._registration))) as states:
            async for state in states:
                if isinstance(state, ReconcilerError):
                    self._is_watch_whole = False
                    self._report.watch_failed(state)
                    continue
                if self._is_watch_whole and self._is_as_decided:
                    self._enforcement.seen_as_decided()  # until this very moment
                self._is_watch_whole = True
                self._watched = state
                if _version(state) != self._settled:
                    self._wake.add(Trigger.REGISTRATION)

    async def _resync(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.resync_period_seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
            self._wake.add(Trigger.RESYNC)
            if self._surveyed:
                self._survey_due.set()

    # failures

    def _failed(self, error: BaseException, delay_seconds: float) -> None:
        is_repeated = self._is_failing and str(error) == str(self._last_error)
        self._is_failing, self._last_error = True, error
        self._report.failed(error, delay_seconds, is_repeated=is_repeated)

    async def _sleep_unless_woken(self, seconds: float) -> None:
        """Wait `seconds`, or until an input changes; the change of a foreign object is one, our own drift is not."""
        deadline = asyncio.get_running_loop().time() + seconds
        urgent = {Trigger.CONFIGURATION, Trigger.CA, Trigger.LEASE, Trigger.POLICY}
        if isinstance(self._last_error, ForeignObjectError):
            urgent.add(Trigger.REGISTRATION)
        # News may have come while the failed pass was under way, after it had looked.
        while not self._wake.news & urgent and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._wake.event.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.event.wait()
            except TimeoutError:
                return


def _version(observed: Manifest | None) -> _Version:
    return () if observed is None else (observed["metadata"]["uid"], observed["metadata"]["resourceVersion"])
