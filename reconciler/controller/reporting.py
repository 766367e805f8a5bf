"""What the loop says: each change once, in the log, as a metric and as an Event; nothing for an idle pass."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from reconciler.backoff import is_transient
from reconciler.certificates.authority import read
from reconciler.controller.conflicts import Side
from reconciler.controller.keeping import Kept, Why
from reconciler.controller.proof import Proof
from reconciler.controller.reconcile import Result
from reconciler.controller.survey import Survey
from reconciler.controller.trust import Trust
from reconciler.errors import ReconcilerError
from reconciler.gardenlet.featuregates import Decision
from reconciler.registration.drift import Difference
from reconciler.registration.memory import ANNOTATIONS, Memory, State, Window
from reconciler.registration.pausing import Pause
from reconciler.telemetry.events import Announcement, Reason
from reconciler.telemetry.metrics import Certificate, Input, Metrics

if TYPE_CHECKING:
    from reconciler.controller.announcing import Announcer

_EVENTS: Final = {
    Result.REGISTERED: "registration.registered",
    Result.UPDATED: "registration.updated",
    Result.REMOVED: "registration.removed",
}
_REASONS: Final = {
    Why.REGISTERED: Reason.REGISTERED,
    Why.REMOVED: Reason.REMOVED,
    Why.REPAIRED: Reason.REPAIRED,
    Why.RAISED: Reason.RAISED,
    Why.LOWERED: Reason.LOWERED,
}
# What the registration remembers is told by events of its own.
_REMEMBERED: Final = frozenset(f"metadata.annotations[{key}]" for key in ANNOTATIONS)
# Paths named in one Event.
_NAMED: Final = 5
# Characters of a window's reason that are compared.
_COMPARED: Final = 100

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Known:
    """The last good inputs: what stays in force while a source cannot be read. None: not known yet."""

    decision: Decision | None = None
    ca_bundle: bytes | None = None


class Report:
    """One for the whole life of `run`: new settings begin a new loop, and what was said stays said."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.announcer: Announcer | None = None
        self._uid: str | None = None
        self._complaints: dict[str, str] = {}
        self._tolerated: tuple[Difference, ...] = ()
        self._held: tuple[Difference, ...] = ()
        self._memory: Memory | None = None
        self._pause: Pause | None = None
        self._refused = ""
        self._clock_differs = False
        self._failure = ""
        self._survey: Survey | None = None
        self._is_leading = False

    # inputs

    def read_configuration(self, origin: str, decision: Decision, known: Known) -> None:
        """Say what the GardenletConfiguration asks, where that is new."""
        self._content("configuration.invalid")
        self.metrics.configuration_unreadable[Input.CONFIGURATION].set(False)
        self.metrics.gate_enabled.set(decision.enabled)
        if decision == known.decision:
            return
        log.info(
            "configuration.read",
            origin=origin,
            gate=decision.gate,
            enabled=decision.enabled,
            reason=decision.reason.value,
        )
        for warning in decision.warnings:
            log.warning("configuration.warning", origin=origin, warning=warning)

    def read_ca(self, origin: str, bundle: bytes, known: Known) -> None:
        """Say what is to be trusted, where that is new."""
        self._content("ca.invalid")
        self.metrics.configuration_unreadable[Input.CA].set(False)
        if bundle != known.ca_bundle:
            log.info("ca.read", origin=origin, certificates=bundle.count(b"-----BEGIN"))
        lives = ((certificate.not_after, certificate.not_before) for certificate in read(bundle))
        not_after, not_before = max(lives, default=(float("nan"), float("nan")))
        self.metrics.certificate_is(Certificate.AUTHORITY, not_before=not_before, not_after=not_after)

    def unreadable(self, what: Input, error: ReconcilerError, known: Known) -> None:
        """Say once for each new reason that an input is unreadable; what may pass by itself is raised instead."""
        if is_transient(error):
            raise error
        self.metrics.configuration_errors[what].inc()
        self.metrics.configuration_unreadable[what].set(True)
        event = f"{what.value}.invalid"
        if self._complaints.get(event) == str(error):
            return
        self._complaints[event] = str(error)
        about_ca = "last good" if known.ca_bundle else "nothing"
        kept = about_ca if what is Input.CA else _gate(known.decision)
        log.error(event, error=str(error), kept=kept)
        self._announce(Reason.INVALID_CONFIGURATION, f"{what.value}: {error}; kept: {kept}", warning=True)

    def issued(self, found: Trust) -> None:
        """Say which steps were taken with our own certificates, and whether our clock is the API server's."""
        if bool(found.clock) != self._clock_differs:
            self._clock_differs = bool(found.clock)
            if found.clock:
                log.warning("clock.differed", difference=found.clock)
            else:
                log.info("clock.agreed")
        for step in found.steps:
            log.info("certificates.advanced", action=step.action.value, reason=step.reason, phase=found.phase.value)
            self._announce(Reason.ROTATED, f"{step.action.value}: {step.reason}")
        leaf = next(iter(read(found.standing.serving.certificate)), None)
        if leaf is not None:
            self.metrics.certificate_is(Certificate.SERVING, not_before=leaf.not_before, not_after=leaf.not_after)

    # passes

    def passed(self, result: Result | None, seconds: float) -> None:
        """Count a pass; `result` None: it failed."""
        self.metrics.pass_ended("failed" if result is None else result.value, seconds=seconds)

    def kept(self, name: str, kept: Kept) -> None:
        """Say what a pass changed, and why."""
        outcome = kept.outcome
        observed = outcome.observed
        self._uid = None if observed is None else observed["metadata"].get("uid")
        self.metrics.registration_desired.set(kept.memory is not None)
        self.metrics.registration_present.set(observed is not None)
        if kept.memory is not None:
            self._remembered(kept.memory)
        elif observed is None:
            self._memory = None
            self.metrics.failure_policy_is("Absent", since=None, flaps=0)
        self._wrote(name, kept)
        self._owned(kept)
        if outcome.tolerated != self._tolerated:
            self._tolerated = outcome.tolerated
            terms = [_plain(difference) for difference in outcome.tolerated]
            log.warning("registration.tolerated", name=name, added_by_others=terms)
        if kept.held != self._held:
            self._held = kept.held
            if kept.held:
                log.warning("registration.held", name=name, differences=[_plain(one) for one in kept.held])
        for side in kept.wars:
            log.warning("conflict.begun", manager=side.manager, field=side.field)
            note = f"{side.manager} changes {side.field} back again and again: it is put right rarely from now on"
            self._announce(Reason.CONFLICT, note, warning=True)

    def _wrote(self, name: str, kept: Kept) -> None:
        if not kept.written:
            return
        for action, why in kept.written:
            self.metrics.wrote(action.value, why.value)
        for side in kept.sides:
            self.metrics.drifted(side.field, side.manager)
        reasons = tuple(dict.fromkeys(why for _, why in kept.written))
        for why in reasons:
            if why in _REASONS:
                self._announce(_REASONS[why], _note(why, kept), warning=why in (Why.LOWERED, Why.REPAIRED))
        event = _EVENTS.get(kept.outcome.result, "registration.updated")
        changed = [_plain(difference) for difference in kept.outcome.differences if difference.path not in _REMEMBERED]
        if changed or reasons != (Why.UPDATED,):
            log.info(event, name=name, reasons=[why.value for why in reasons], differences=changed)

    def _owned(self, kept: Kept) -> None:
        """Say once for each reason that the registration has no owner that could be read."""
        if not kept.ownerless:
            self._content("owner.invalid")
        elif self._complaints.get("owner.invalid") != kept.ownerless:
            self._complaints["owner.invalid"] = kept.ownerless
            log.warning("owner.unknown", error=kept.ownerless)

    def recorded(self, memory: Memory, *, known: Memory | None) -> None:
        """Count the windows that were written now; `known` is what was remembered before."""
        before = () if known is None else known.windows
        # Two may look the same, where a proof was lost twice within a second.
        seen = Counter(map(_identity, memory.windows))
        new = (seen - Counter(map(_identity, before))).total()
        # One that is open may be found to have begun sooner.
        is_moved = bool(before) and before[-1].end is None and _identity(before[-1]) not in seen
        self.metrics.fail_open_windows.inc(max(new - is_moved, 0))

    def remembers(self, memory: Memory | None) -> None:
        """Show whether a window is open; without a memory (the gate is off) there is none, nor a pod in one."""
        self.metrics.fail_open.set(memory is not None and memory.is_open)
        if memory is None and self._survey is not None:
            self._survey = None
            self.metrics.fail_open_pods.set(float("nan"))
            self.metrics.unprofiled_pods_outside_windows.set(float("nan"))

    def wars(self, calmed: frozenset[Side], on: frozenset[Side]) -> None:
        """Say which wars are over, and show those that are on."""
        for side in calmed:
            log.info("conflict.calmed", manager=side.manager, field=side.field)
        self.metrics.wars_are((side.manager, side.field) for side in on)

    def _remembered(self, memory: Memory) -> None:
        before, self._memory = self._memory, memory
        self.metrics.failure_policy_is(memory.state.value, since=memory.since, flaps=memory.flaps)
        if before is None or before.state is memory.state:
            return
        event = "failure_policy.raised" if memory.state is State.FAIL else "failure_policy.lowered"
        level = log.info if memory.state is State.FAIL else log.warning
        level(event, reason=memory.reason, flaps=memory.flaps)

    def failed(self, error: BaseException, delay_seconds: float, *, is_repeated: bool) -> None:
        """Say that a pass failed, and when it is tried again."""
        self._failure = str(error)
        if isinstance(error, ReconcilerError):
            self.metrics.failed(error)
        self.metrics.retries.inc()
        level = log.debug if is_repeated else log.warning if is_transient(error) else log.error
        level("pass.failed", error=str(error), kind=type(error).__name__, retry_in_seconds=round(delay_seconds, 3))
        if not is_repeated and not is_transient(error):
            self._announce(Reason.CONFLICT, str(error), warning=True)

    def recovered(self) -> None:
        """Say that a pass succeeded after one that failed."""
        self._failure = ""
        log.info("pass.recovered")

    def watch_failed(self, error: ReconcilerError) -> None:
        """Say that the watch on our object failed."""
        level = log.debug if is_transient(error) else log.error
        level("watch.failed", error=str(error))

    # the rest

    def proved(self, proof: Proof) -> None:
        """Count a proof."""
        self.metrics.proof_ended(proof.verdict.value, seconds=proof.seconds, at=proof.began + proof.seconds)

    def paused(self, pause: Pause | None) -> None:
        """Say that a pause began or ended."""
        self.metrics.paused.set(pause is not None)
        if pause == self._pause:
            return
        self._pause = pause
        if pause is None:
            log.info("pause.ended")
            self._announce(Reason.RESUMED, "the pause is over")
        else:
            log.warning("pause.begun", until=pause.until, reason=pause.reason, mode=pause.mode.value)
            self._announce(Reason.PAUSED, str(pause), warning=True)

    def twin(self, name: str, *, stands: bool) -> None:
        """Say that gardenlet's own entry appeared or went."""
        self.metrics.twin.set(stands)
        if stands:
            log.warning("twin.found", name=name)
            self._announce(Reason.TWIN_FOUND, f"gardenlet's own entry stands in {name}", warning=True)
        else:
            log.info("twin.gone", name=name)
            self._announce(Reason.TWIN_GONE, f"gardenlet's own entry is gone from {name}")

    def leads(self, *, is_leading: bool) -> bool:
        """Show whether we lead; returns whether we began to."""
        began = is_leading and not self._is_leading
        self._is_leading = is_leading
        self.metrics.leader.set(self._is_leading)
        return began

    def linted(self, refused: str, findings: int) -> None:
        """Say that the linter refuses Fail, or does so no longer."""
        self.metrics.lint_findings.set(findings)
        if refused == self._refused:
            return
        self._refused = refused
        if not refused:
            log.info("lint.passed")
            return
        log.error("lint.refused", error=refused)
        self._announce(Reason.LINT_REFUSED, refused, warning=True)

    def not_linted(self, error: ReconcilerError) -> None:
        """Say that the linter could not look."""
        log.debug("lint.failed", error=str(error))

    def surveyed(self, found: Survey) -> None:
        """Show how many pods run without a profile, and name them where there are more than before."""
        before, self._survey = self._survey, found
        self.metrics.fail_open_pods.set(found.in_windows)
        self.metrics.unprofiled_pods_outside_windows.set(found.unexplained)
        if before is None or (found.in_windows, found.unexplained) != (before.in_windows, before.unexplained):
            level = log.warning if found.named else log.info
            names = [f"{pod.namespace}/{pod.name}" for pod in found.named[:_NAMED]]
            level("pods.surveyed", in_windows=found.in_windows, unexplained=found.unexplained, first=names)

    def not_surveyed(self, error: ReconcilerError) -> None:
        """Say once for each reason that nobody can tell which pods run without a profile."""
        if self._complaints.get("pods.invalid") != str(error):
            self._complaints["pods.invalid"] = str(error)
            log.warning("pods.unknown", error=str(error))

    def not_well(self) -> Iterator[str]:
        """Yield what is not as it should be, a line each, for /readyz."""
        yield from self._complaints.values()
        if self._failure:
            yield f"the last pass failed: {self._failure}"
        if self._refused:
            yield f"the linter refuses Fail: {self._refused}"
        if self._pause is not None:
            yield str(self._pause)
        elif self._memory is not None and self._memory.state is State.IGNORE:
            yield f"failurePolicy is Ignore: {self._memory.reason}"

    def _announce(self, reason: Reason, note: str, *, warning: bool = False) -> None:
        if self.announcer is not None and self._is_leading:
            self.announcer.announce(Announcement(reason, note, warning), self._uid)

    def _content(self, event: str) -> None:
        if self._complaints.pop(event, None) is not None:
            log.info(event.replace(".invalid", ".recovered"))


def _identity(window: Window) -> tuple[int, str]:
    """Return what tells a window from others; read back from the object its start is a whole second, its reason cut."""
    return int(window.start), window.reason[:_COMPARED]


def _note(why: Why, kept: Kept) -> str:
    if kept.memory is not None and why in (Why.RAISED, Why.LOWERED):
        return f"failurePolicy {kept.memory.state.value}: {kept.memory.reason}"
    paths = [difference.path for difference in kept.outcome.differences if difference.path not in _REMEMBERED]
    named = ", ".join(paths[:_NAMED]) + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")
    who = ", ".join(sorted({side.manager for side in kept.sides}))
    return " ".join(part for part in (named, f"changed by {who}" if who else "") if part) or why.value


def _gate(decision: Decision | None) -> str:
    return "nothing known yet" if decision is None else f"last good: gate {'on' if decision.enabled else 'off'}"


def _plain(difference: Difference) -> dict[str, Any]:
    return {"path": difference.path, "desired": difference.desired, "observed": difference.observed}
