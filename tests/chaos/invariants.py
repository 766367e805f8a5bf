"""What must hold all along, judged from what was seen from outside. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tests.chaos.traffic import Fate
from tests.seed import MANAGED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.spans import Spans
    from tests.chaos.terms import Bound
    from tests.chaos.traffic import Outcome

# creationTimestamps and windows are whole seconds.
WINDOW_SLACK_SECONDS: Final = 2.0
_PASSED: Final = frozenset((Fate.MUTATED, Fate.UNMUTATED))


class Invariant(StrEnum):
    """The rules, in words."""

    FOREIGN = "no foreign object is changed"
    REFUSALS = "no pod creation is refused by the webhook for longer than the automaton's bound"
    WINDOWS = "every unmutated pod in a managed namespace lies in a recorded window"
    CONVERGENCE = "the end state converges within the limit after the last fault"
    DEFECTS = "no process of ours ends by itself or reports a defect"


class ViolationError(Exception):
    """One of the rules was broken."""

    def __init__(self, invariant: Invariant, words: str) -> None:
        super().__init__(f"{invariant}: {words}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which every creation that was decided was refused by the webhook; began and ended are monotonic.

    `able_seconds` of it a reconciler could do its work; `undisturbed_seconds` it could since the last disturbance
    ended, none while one lasts; None: there was none.
    """

    began: float
    ended: float
    able_seconds: float
    undisturbed_seconds: float | None
    bound: Bound

    @property
    def is_too_long(self) -> bool:
        """Whether it breaks the rule."""
        is_over = self.able_seconds > self.bound.seconds
        return is_over and (self.undisturbed_seconds is None or self.undisturbed_seconds > self.bound.disturbed_seconds)

    def __str__(self) -> str:
        """Return it in words."""
        undisturbed = self.undisturbed_seconds
        disturbed = "undisturbed" if undisturbed is None else f"{undisturbed:.1f} s since the last disturbance"
        return f"{self.able_seconds:.1f} s in a stretch ({self.ended - self.began:.1f} s by the clock; {disturbed})"


class Refusals:
    """Follows the creations in the managed namespace in the order of their answers."""

    def __init__(self, bound: Bound, able: Spans, disturbances: Spans) -> None:
        self.longest: Stretch | None = None
        self._bound = bound
        self._able = able
        self._disturbances = disturbances
        self._began: float | None = None
        self._passed = float("-inf")

    def saw(self, outcome: Outcome) -> Stretch | None:
        """Take one in; returns the stretch that it lengthened."""
        if outcome.namespace != MANAGED:
            return None
        if outcome.fate in _PASSED:
            self._began, self._passed = None, max(self._passed, outcome.answered)
        if outcome.fate is not Fate.REFUSED_BY_WEBHOOK:
            return None
        # One that was sent before another passed began to be refused after that.
        sent = max(outcome.sent, self._passed)
        self._began = sent if self._began is None else min(self._began, sent)
        stretch = self._stretch(self._began, outcome.answered)
        if self.longest is None or stretch.able_seconds > self.longest.able_seconds:
            self.longest = stretch
        return stretch

    def _stretch(self, began: float, ended: float) -> Stretch:
        # One that was over just before may still be making itself felt.
        earliest = began - self._bound.disturbed_seconds
        last = self._disturbances.last_end(earliest, ended)
        undisturbed = self._able.seconds(min(last, ended), ended) if last > earliest else None
        return Stretch(began, ended, self._able.seconds(began, ended), undisturbed, self._bound)


@dataclass(frozen=True, slots=True)
class Excuses:
    """When an unmutated pod is as it should be (wall clock): before the first Fail, with the gate off, in a window.

    While a reconciler's clock was wrong nobody can say which times it recorded.
    """

    first_fail: float
    gate_off: Spans
    unseen: Spans
    clock_wrong: Spans
    windows: Spans

    def of(self, created: float) -> str:
        """Return why a pod created then may be unmutated; empty where nothing excuses it."""
        if created <= self.first_fail + WINDOW_SLACK_SECONDS:
            return "before the first Fail"
        if self.windows.holds(created, slack_seconds=WINDOW_SLACK_SECONDS):
            return "in a recorded window"
        if self.gate_off.holds(created, slack_seconds=WINDOW_SLACK_SECONDS):
            return "with the gate off, or on again and not yet at Fail"
        if self.unseen.holds(created, slack_seconds=WINDOW_SLACK_SECONDS):
            return "with nobody leading until the gate went off"
        if self.clock_wrong.holds(created, slack_seconds=WINDOW_SLACK_SECONDS):
            return "while a clock was wrong"
        return ""


def excused(unmutated: Iterable[tuple[str, float]], excuses: Excuses) -> dict[str, list[tuple[str, float]]]:
    """Return the unmutated pods (name and time of creation) by what excuses them; under "" nothing does."""
    found: dict[str, list[tuple[str, float]]] = {}
    for name, created in unmutated:
        found.setdefault(excuses.of(created), []).append((name, created))
    return found
