"""A small world in which a failurePolicy goes up and down: one registration, a path, reconcilers, and a clock for each.

A reconciler looks, decides and writes as the loop does, out of the product's own pure functions; it may be killed,
stopped (also between planning and writing), put to sleep, or slow. The promises are checked at every moment.
"""

from __future__ import annotations

import copy
import functools
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from reconciler.controller.failure_policy import (
    Circumstances,
    Clock,
    Knowledge,
    Policy,
    decide,
    next_proof_seconds,
    recall,
)
from reconciler.controller.proof import Verdict
from reconciler.registration import memory
from reconciler.registration.memory import MOST_WINDOWS, Memory, State
from reconciler.settings import Adaptive, FailurePolicy, Ramp

# Seconds, all of them. No whole second: what is rounded must show.
START: Final = 1_800_000_000.7
SHORTEST_PROOF: Final = 0.125
LONGEST_PROOF: Final = 5.0
LONGEST_WRITE: Final = 8.0
UNPROVED: Final = 5.0  # the first wait after a proof that did not hold, as the prover has it
SLEPT: Final = 20.0  # a clock that jumps by more is noticed at the next look, at the latest after NOTICED
NOTICED: Final = 5.0
ROUNDED: Final = 1.0
MOST_WRITES: Final = 8  # in one moment
_NEVER: Final = math.inf


def policy(
    kind: FailurePolicy = FailurePolicy.ADAPTIVE,
    ramp: Ramp = Ramp.ON_PROOF,
    *,
    period: float = 60.0,
    **adaptive: Any,  # noqa: ANN401 - fields of Adaptive
) -> Policy:
    """Return the policy of these settings; `adaptive` in seconds and without the suffix."""
    names = {name: f"{name}_seconds" if name != "proofs" else name for name in adaptive}
    return Policy(kind, ramp, Adaptive().model_copy(update={names[key]: adaptive[key] for key in adaptive}), period)


POLICIES: Final = {
    "default": policy(),
    "impatient": policy(period=10.0, proofs=1, soak=0.0, longest_soak=80.0, loss_tolerance=10.0, floor=0.0, calm=120.0),
    "rare": policy(period=60.0, proofs=2, soak=5.0, longest_soak=40.0, loss_tolerance=10.0, floor=30.0, calm=300.0),
    "many": policy(period=10.0, proofs=5, soak=15.0, longest_soak=240.0, loss_tolerance=25.0, floor=5.0, calm=600.0),
    "fail": policy(FailurePolicy.FAIL),
    "ignore": policy(FailurePolicy.IGNORE),
    "never": policy(FailurePolicy.FAIL, Ramp.NEVER),
}


class BrokenPromiseError(AssertionError):
    """The registration stood as it never should."""


def promised(*, that: bool, words: str) -> None:
    """Raise BrokenPromiseError unless `that` holds."""
    if not that:
        raise BrokenPromiseError(words)


# The product's own functions, which the world asks again and again for the same.
@functools.lru_cache(maxsize=1 << 16)
def _annotations(memory_: Memory) -> dict[str, str]:
    return memory.annotations(memory_)


@functools.lru_cache(maxsize=1 << 16)
def _remembered(found: tuple[tuple[str, str], ...]) -> Memory | None:
    return memory.from_annotations(dict(found))


@dataclass
class World:
    """Everything there is; `now` is the true time, which nobody reads."""

    policy: Policy
    now: float = START
    # The object: its version counts its absence too.
    version: int = 0
    standing: State | None = None
    kept: dict[str, str] = field(default_factory=dict)
    on_lease: str | None = None
    is_forged: bool = False
    backup: tuple[State | None, dict[str, str]] = (None, {})
    # The path, and what else counts.
    is_working: bool = True
    is_conclusive: bool = True
    is_impossible: bool = False
    is_paused: bool = False
    is_removed: bool = False  # by the pause
    is_refused: bool = False
    proof_seconds: float = SHORTEST_PROOF
    # What really happened.
    gaps: list[list[float]] = field(default_factory=list)  # from when to when it did not stand at Fail
    was_fail: bool = False  # by a decision of ours
    flaps: int | None = 0  # None: somebody took away what was remembered
    broken_since: float | None = None
    dead_since: float | None = None  # whatever the probes say
    steady_since: float | None = START
    unwell_at: float = -_NEVER  # the last time at which the path was not surely good
    foreign_at: float = -_NEVER
    lowered_at: float = -_NEVER
    jumped_at: float = -_NEVER
    fail_since: float = START
    stale_at: float = -_NEVER  # the last write of one who was stopped before it
    is_skewed: bool = False
    written_at: float = -_NEVER
    writes: int = 0  # at that moment
    counts: Counter[str] = field(default_factory=Counter)
    reconcilers: list[Reconciler] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reconcilers = [Reconciler(self, number) for number in range(2)]

    @property
    def remembered(self) -> Memory | None:
        """What the object remembers; what somebody else wrote there does not count (managedFields tell)."""
        return None if self.is_forged else _remembered(tuple(self.kept.items()))

    def fork(self) -> World:
        """Return a world that goes its own way from here."""
        other = copy.copy(self)
        other.gaps, other.counts = [list(gap) for gap in self.gaps], Counter(self.counts)
        other.reconcilers = [copy.copy(one) for one in self.reconcilers]
        for one in other.reconcilers:
            one.world, one.row = other, list(one.row)
        return other

    # Time.

    def advance(self, seconds: float) -> None:
        """Let time pass; everybody does what is due, in order."""
        end = self.now + seconds
        for _ in range(100_000):
            mover = min(self.reconcilers, key=lambda one: one.next_at)
            if mover.next_at > end:
                break
            self._to(max(self.now, mover.next_at))
            mover.move()
            self.check()
        else:
            raise AssertionError("a busy loop")
        self._to(end)
        self.check()

    def _to(self, time: float) -> None:
        self.now = time
        if self.steady_since is None:
            self.unwell_at = self.now

    def changed(self) -> None:
        """Note what of the path and the rest changed, and tell those who look."""
        self.writes = 0
        is_broken = self.is_conclusive and not self.is_working
        self.broken_since = (self.broken_since or self.now) if is_broken else None
        self.dead_since = None if self.is_working else (self.dead_since or self.now)
        is_good = self.is_working and self.is_conclusive
        is_steady = is_good and not (self.is_impossible or self.is_paused or self.is_refused)
        if not is_steady or self.steady_since is None:
            self.unwell_at = self.now
        self.steady_since = (self.steady_since or self.now) if is_steady else None
        self.tell()

    def tell(self) -> None:
        """Wake everybody who runs."""
        for reconciler in self.reconcilers:
            reconciler.look()
        self.check()

    # The object.

    def stand(self, standing: State | None, kept: dict[str, str]) -> None:
        """Have the object stand so."""
        if self.was_fail and self.standing is State.FAIL is not standing:
            self.gaps.append([self.now, _NEVER])
        if standing is State.FAIL and self.gaps and self.gaps[-1][1] == _NEVER:
            self.gaps[-1][1] = self.now
        self.fail_since = self.now if standing is State.FAIL is not self.standing else self.fail_since
        self.standing, self.kept = standing, kept
        self.version += 1

    def back_up(self) -> None:
        """Have somebody else keep a copy."""
        self.backup = self.standing, dict(self.kept)

    def restore(self) -> None:
        """Have somebody else put the copy back."""
        standing, kept = self.backup
        if standing is not None:
            self.meddle(standing, kept=kept)

    def meddle(self, standing: State | None, *, kept: dict[str, str] | None = None) -> None:
        """Have somebody else change or delete the object, or write his own into what it remembers."""
        if self.standing is None:
            return  # whoever creates it makes an object of his own
        self.counts["meddled"] += 1
        is_lost = standing is None or kept is not None
        remembered = self.remembered
        if is_lost and (remembered is None or self.on_lease != memory.to_text(remembered)):
            self.gaps.clear()  # nobody can know
            self.was_fail = False
        is_raised = standing is State.FAIL is not self.standing
        if is_raised and remembered is not None and remembered.state is State.FAIL and not remembered.is_open:
            del self.gaps[-1:]  # lowered and raised, and nobody looked
        self.foreign_at, self.writes = self.now, 0
        self.flaps = None if is_lost else self.flaps
        self.is_forged |= kept is not None
        self.stand(standing, (kept or {}) if is_lost else self.kept)
        self.tell()

    def write(self, plan: Plan, writer: Reconciler) -> None:
        """Write what was planned, on exactly what it was planned on."""
        before, after, kind = self.standing, plan.memory, self.policy.kind
        standing = plan.standing
        self.written_at, self.writes = self.now, self.writes + 1 if self.written_at == self.now else 1
        promised(that=self.writes < MOST_WRITES, words="a war among reconcilers")
        is_raised = after.state is State.FAIL is not before
        is_lowered = before is State.FAIL is not standing
        if is_raised:
            self.counts["raised"] += 1
            promised(that=kind is not FailurePolicy.IGNORE, words="Fail with failurePolicy: Ignore")
            promised(that=plan.has_proved or self.policy.ramp is Ramp.NEVER, words="raised without a proof")
        if is_lowered:
            self.counts["lowered"] += 1
            self._check_lowering(plan, writer)
        if plan.before is not None:
            self._check_flaps(plan, plan.before, is_flap=is_lowered and not plan.is_unwanted)
        if plan.before is not None and plan.before.state is not after.state:
            if after.state is State.FAIL and self.policy.ramp is Ramp.ON_PROOF:
                self._check_ramp(plan, plan.before)
            if after.state is State.IGNORE:
                self.lowered_at = plan.at
        if plan.up_since != writer.up_since:
            self.stale_at = self.now
        self.was_fail |= after.state is State.FAIL
        self.is_forged = False
        self.stand(standing, {} if standing is None else dict(_annotations(after)))
        self._check_windows()
        for other in self.reconcilers:
            if other is not writer:
                other.look()

    # The promises.

    @property
    def proofs(self) -> int:
        """How many proofs Fail takes."""
        return 1 if self.policy.kind is FailurePolicy.FAIL else self.policy.adaptive.proofs

    def soak(self, flaps: int) -> float:
        """Return over how long they must lie after so many flaps: twice as long after each, and never nothing."""
        adaptive = self.policy.adaptive
        if self.policy.kind is FailurePolicy.FAIL:
            return 0.0
        soak = adaptive.soak_seconds
        for _ in range(min(flaps, 20)):
            soak = max(soak, 1.0) * 2
        return min(soak, adaptive.longest_soak_seconds)

    def check(self) -> None:
        """Check what holds at every moment."""
        for one in self.reconcilers:
            if one.is_running:
                self._check_fail(one)
                self._check_ignore(one)

    def _check_fail(self, one: Reconciler) -> None:
        """Fail never stands longer than the tolerance and a period without a path; nor a moment, if none can be."""
        kind, adaptive = self.policy.kind, self.policy.adaptive
        if self.standing is not State.FAIL:
            return
        is_unwanted = self.is_paused or self.is_refused or kind is FailurePolicy.IGNORE
        promised(that=not one.is_idle or not is_unwanted, words="Fail though it is not wanted")
        if self.policy.ramp is Ramp.NEVER:
            return
        if one.is_idle and (kind is FailurePolicy.ADAPTIVE or not one.has_proved):
            promised(that=not self.is_impossible, words="Fail though no proof can come")
        tolerance = adaptive.loss_tolerance_seconds
        longest = LONGEST_PROOF + 2 * LONGEST_WRITE + 1
        unknown = 0.0 if one.has_proved else self.now - max(one.up_since, self.fail_since)
        promised(that=unknown <= tolerance + longest, words="at Fail, and nobody knows whether there is a path")
        if self.dead_since is not None and kind is FailurePolicy.ADAPTIVE:
            since = max(self.dead_since, one.up_since, self.foreign_at, self.stale_at)
            most = self.policy.longest_without_success_seconds + longest
            promised(that=self.now - since <= most, words=f"at Fail for {self.now - since:g} s, no probe successful")
        if self.broken_since is None:
            return
        since = max(self.broken_since, one.up_since, self.foreign_at, self.stale_at)
        if kind is FailurePolicy.ADAPTIVE:
            longest += tolerance + self.policy.period_seconds
        elif one.has_proved:
            return
        promised(that=self.now - since <= longest, words=f"at Fail for {self.now - since:g} s without a path")

    def _check_ignore(self, one: Reconciler) -> None:
        """Ignore never stands longer than the soak and a period with a path."""
        if self.standing is State.FAIL or self.policy.kind is FailurePolicy.IGNORE or self.steady_since is None:
            return
        since = max(self.steady_since, one.up_since, self.foreign_at, self.jumped_at, self.lowered_at)
        longest = 2 * LONGEST_WRITE + 1
        if self.policy.ramp is Ramp.ON_PROOF:
            flaps = 0 if (remembered := self.remembered) is None else remembered.flaps
            soak = self.soak(flaps)
            apart = abs(self.reconcilers[0].skew - self.reconcilers[1].skew)
            most = soak + min(apart, soak) + self.policy.period_seconds + 3 * LONGEST_PROOF
            longest += max(most, self.policy.adaptive.floor_seconds + apart) + ROUNDED
        promised(that=self.now - since <= longest, words=f"at Ignore for {self.now - since:g} s with a path")

    def _check_lowering(self, plan: Plan, writer: Reconciler) -> None:
        """Fail is not given up for nothing."""
        if plan.is_held_down or plan.at == self.foreign_at:
            return
        if self.policy.kind is FailurePolicy.FAIL and plan.before is not None and plan.before.state is State.FAIL:
            promised(that=not plan.has_proved, words="lowered with failurePolicy: Fail after a proof")
        tolerance = self.policy.adaptive.loss_tolerance_seconds
        if plan.has_proved and not plan.is_held_down and plan.before is not None and plan.before.state is State.FAIL:
            lost = 0.0 if plan.lost_at is None else plan.at - plan.lost_at
            longest = self.policy.longest_without_success_seconds
            is_due = lost >= tolerance - 1e-3 or plan.at - plan.succeeded_at >= longest - 1e-3
            promised(that=is_due, words=f"lowered {lost:g} s after the first loss")
        horizon = self.policy.longest_without_success_seconds + self.policy.period_seconds + 2 * LONGEST_PROOF
        last = max(plan.unwell_at, plan.up_since, self.foreign_at)
        promised(that=plan.at - last <= horizon + ROUNDED, words=f"{writer.number} lowered for nothing")

    def _check_ramp(self, plan: Plan, before: Memory) -> None:
        """Fail is reached by enough proofs over the soak, all since it was lowered, and after the floor."""
        wanted, row = self.proofs, plan.row
        soak = self.soak(before.flaps)
        floor = self.policy.adaptive.floor_seconds if self.policy.kind is FailurePolicy.ADAPTIVE else 0.0
        is_one_time = self.reconcilers[0].skew == self.reconcilers[1].skew
        is_known = self.lowered_at > max(self.jumped_at, self.foreign_at)
        if is_known:
            row = tuple(proof for proof in row if proof >= self.lowered_at)
        promised(that=len(row) >= wanted, words=f"raised after {len(row)} proofs")
        promised(that=row[-1] - row[0] >= soak - 1e-3, words=f"raised after {row[-1] - row[0]:g} s of proofs")
        longest = max(self.policy.adaptive.loss_tolerance_seconds, 2 * self.policy.period_seconds) + 1e-3
        promised(that=plan.at - row[-1] <= longest, words="raised on an old proof")
        near = all(later - earlier <= longest for earlier, later in zip(row[-wanted:], row[1 - wanted :], strict=False))
        promised(that=near or wanted == 1, words="raised on proofs that lie far apart")
        if is_known and is_one_time:
            since = plan.at - self.lowered_at
            promised(that=since >= floor - ROUNDED, words=f"raised {since:g} s after it was lowered")

    def _check_flaps(self, plan: Plan, before: Memory, *, is_flap: bool) -> None:
        """Flaps are counted, and forgotten once Fail has stood calm; nothing else changes their number."""
        flaps = before.flaps
        promised(that=self.flaps in (None, flaps), words=f"{self.flaps} flaps became {flaps}")
        if is_flap and before.state is State.FAIL:
            stood = plan.wall - before.since
            flaps = 1 if stood >= self.policy.adaptive.calm_seconds else flaps + 1
        promised(that=plan.memory.flaps == flaps, words=f"{plan.memory.flaps} flaps instead of {flaps}")
        self.flaps = flaps

    def _check_windows(self) -> None:
        """Every moment without Fail after the first one lies in a window; but for those that were pushed out."""
        windows = () if (remembered := self.remembered) is None else remembered.windows
        promised(that=len(windows) <= MOST_WINDOWS, words="too many windows")
        if self.is_skewed or self.standing is None:
            return
        oldest = min(window.start for window in windows) if len(windows) == MOST_WINDOWS else -_NEVER
        covered = sorted((window.start, _NEVER if window.end is None else window.end) for window in windows)
        for start, end in self.gaps:
            reached = max(start, oldest)
            for opened, closed in covered:
                if opened <= reached < closed:
                    reached = closed
            promised(that=reached >= min(end, self.now), words=f"no window from {reached - START:g} s")


@dataclass(frozen=True)
class Plan:
    """A write that was decided, and what was known then."""

    version: int
    memory: Memory
    standing: State | None
    before: Memory | None
    at: float
    wall: float
    row: tuple[float, ...]  # proofs since the last loss: true times
    has_proved: bool
    lost_at: float | None
    succeeded_at: float
    is_unwanted: bool
    is_held_down: bool
    unwell_at: float
    up_since: float


@dataclass
class Reconciler:
    """A reconciler; what it schedules is in its own monotonic seconds, which stand still while it sleeps."""

    world: World
    number: int
    is_alive: bool = False
    is_stopped: bool = False
    is_asleep: bool = False
    # What may happen to its next write.
    stops_before_write: bool = False
    dies_before_lease: bool = False
    write_seconds: float = 0.0
    # Its clocks: seconds apart from the true time.
    skew: float = 0.0
    slept: float = 0.0
    apart: float = 0.0  # the one from the other, at the last look
    # What it knows.
    knowledge: Knowledge = field(default_factory=lambda: Knowledge(0.0))
    memory: Memory | None = None
    looked_at: float | None = None
    failures: int = 0
    has_asked: bool = False
    is_asking: bool = False
    proof: tuple[float, Verdict] | None = None
    plan: Plan | None = None
    is_hurried: bool = False
    has_news: bool = False
    # When it does what next.
    proof_at: float = _NEVER
    verdict_at: float = _NEVER
    write_at: float = _NEVER
    due: float = _NEVER
    looks_at: float = _NEVER
    # What really happened, in true time.
    up_since: float = START
    row: list[float] = field(default_factory=list)
    has_proved: bool = False
    lost_at: float | None = None
    succeeded_at: float = -_NEVER

    @property
    def is_running(self) -> bool:
        """Whether it does anything."""
        return self.is_alive and not self.is_stopped and not self.is_asleep

    @property
    def is_idle(self) -> bool:
        """Whether it is in no pass."""
        return self.plan is None and not self.is_asking

    @property
    def wall(self) -> float:
        return self.world.now + self.skew

    @property
    def monotonic(self) -> float:
        return self.world.now - START + 5000.0 * (self.number + 1) - self.slept

    @property
    def next_at(self) -> float:
        """The true time at which it moves next."""
        if not self.is_running:
            return _NEVER
        waits = self.is_idle  # what a pass decides when it is time
        due = self.due if waits else _NEVER
        return self.world.now + min(self.proof_at, self.verdict_at, self.write_at, due, self.looks_at) - self.monotonic

    # What others do to it.

    def start(self) -> None:
        """Start the process, or another one in its place."""
        self.kill()
        self.is_alive, self.is_stopped = True, False
        self.begin()
        self.proof_at = self.monotonic + self.world.policy.period_seconds
        self.look()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.is_alive = self.is_asking = self.is_hurried = self.has_news = False
        self.stops_before_write = self.dies_before_lease = False
        self.plan = self.proof = None
        self.proof_at = self.verdict_at = self.write_at = self.due = self.looks_at = _NEVER
        self.failures = 0

    def stop(self) -> None:
        """Stop it by SIGSTOP."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Have it go on from where it stood, by SIGCONT."""
        if self.is_alive and self.is_stopped:
            self.is_stopped = False
            self.up_since = self.world.now
            if self.plan is not None:
                self.write()
            self.look()

    def sleep(self, seconds: float) -> None:
        """Have its machine sleep, and the others go on."""
        self.is_asleep = True
        self.world.advance(seconds)
        self.is_asleep = False
        self.slept += seconds
        self.up_since = self.world.now
        self.looks_at = self.monotonic + NOTICED

    def jump(self, seconds: float) -> None:
        """Set the clock of its machine."""
        self.skew += seconds
        self.world.is_skewed = True
        self.world.jumped_at = self.world.now
        self.looks_at = self.monotonic + NOTICED

    # What it does.

    def move(self) -> None:
        """Do one thing that is due."""
        now = self.monotonic + 1e-6
        if self.write_at <= now:
            self.write()
        elif self.verdict_at <= now:
            self.take_verdict()
        elif self.proof_at <= now:
            self.prove()
        elif self.looks_at <= now:
            self.looks_at = _NEVER
            self.look()
        else:
            self.due = _NEVER
            self.look()

    def begin(self) -> None:
        """Forget what was seen: at the start and after a sleep."""
        self.knowledge = Knowledge(self.monotonic)
        self.memory, self.looked_at, self.has_asked = None, None, False
        self.has_proved, self.lost_at = False, None
        self.row.clear()
        self.up_since, self.apart = self.world.now, self.wall - self.monotonic

    def hurry(self) -> None:
        """Have the next proof begin at once."""
        if self.proof is None:
            self.proof_at = self.monotonic
        else:
            self.is_hurried = True

    def prove(self) -> None:
        """Begin a proof; where nothing stands, nothing is asked."""
        world = self.world
        self.proof_at = _NEVER
        if world.standing is None and not self.is_asking:
            self.proof_at = self.monotonic + self._wait()
            return
        if not world.is_conclusive:
            verdict = Verdict.INCONCLUSIVE
        elif world.is_working:
            verdict = Verdict.PROVED
        else:
            verdict = Verdict.UNREACHABLE if world.standing is State.FAIL else Verdict.NOT_MUTATED
        self.proof = (self.monotonic, verdict)
        self.verdict_at = self.monotonic + world.proof_seconds

    def take_verdict(self) -> None:
        """Take in what the proof came to, and decide."""
        assert self.proof is not None
        (at, verdict), self.proof, self.verdict_at = self.proof, None, _NEVER
        self.knowledge = self.knowledge.saw(verdict, verdict.value, at=at, policy=self.world.policy)
        began = self.world.now - (self.monotonic - at)
        if at >= self.knowledge.began and verdict is Verdict.PROVED:
            self.row.append(began)
            self.has_proved, self.lost_at, self.succeeded_at = True, None, began
        elif at >= self.knowledge.began and verdict is not Verdict.INCONCLUSIVE:
            self.row.clear()
            self.lost_at = began if self.lost_at is None else self.lost_at
        self.failures = 0 if verdict is Verdict.PROVED else self.failures + 1
        self.proof_at = self.monotonic + (0.0 if self.is_hurried else self._wait())
        self.is_asking = self.is_hurried = False
        self.look()

    def look(self) -> None:
        """Carry out a pass up to its write; one at a time."""
        world = self.world
        if not self.is_running:
            return
        if not self.is_idle:
            self.has_news = True
            return
        self.has_news = False
        if abs(self.wall - self.monotonic - self.apart) > SLEPT:
            self.begin()
            self.hurry()
        self.apart = self.wall - self.monotonic
        if world.standing is State.FAIL and self._asks_first():
            self.has_asked = self.is_asking = True
            self.prove()
            return
        # Clocks differ: what stands and is ours counts, whatever its time.
        remembered = world.remembered or _newer(memory.from_text(world.on_lease), self.memory)
        looked_at = self.looked_at
        if looked_at is None:
            looked_at = self.wall if remembered is None else remembered.since
        circumstances = Circumstances(
            "no endpoint" if world.is_impossible else "",
            "paused" if world.is_paused else "",
            "refused" if world.is_refused else "",
        )
        clock = Clock(self.wall, self.monotonic)
        recalled = recall(remembered, world.standing, self.knowledge, now=clock.wall, looked_at=looked_at)
        decision = decide(recalled, self.knowledge, circumstances, world.policy, clock)
        assert decision.due > clock.monotonic, "a busy loop"
        self.due, self.knowledge = decision.due, decision.knowledge
        standing = None if world.is_paused and world.is_removed else decision.memory.state
        is_written = standing is None or (_annotations(decision.memory) == world.kept and not world.is_forged)
        if is_written and standing is world.standing:
            self._settle(decision.memory)
            return
        is_unwanted = world.is_paused or world.is_refused or world.policy.kind is FailurePolicy.IGNORE
        self.plan = Plan(
            world.version,
            decision.memory,
            standing,
            remembered,
            world.now,
            self.wall,
            tuple(self.row),
            self.has_proved,
            self.lost_at,
            self.succeeded_at,
            is_unwanted,
            is_unwanted or world.is_impossible,
            world.unwell_at,
            self.up_since,
        )
        self.write_at = self.monotonic + self.write_seconds
        if self.stops_before_write:
            self.stops_before_write = False
            self.stop()
        elif self.write_seconds == 0:
            self.write()

    def write(self) -> None:
        """Write what was planned; what is refused is planned anew."""
        assert self.plan is not None
        plan, self.plan, self.write_at = self.plan, None, _NEVER
        if plan.version != self.world.version:
            self.world.counts["refused"] += 1
            self.look()
            return
        if plan.standing is None:
            self.world.on_lease = memory.to_text(plan.memory)  # it is kept nowhere else
        self.world.write(plan, self)
        if self.dies_before_lease:
            self.kill()
            return
        self.hurry()
        self._settle(plan.memory)
        if self.has_news:
            self.look()

    def _settle(self, decided: Memory) -> None:
        self.memory = decided
        if decided.state is State.FAIL:
            self.looked_at = self.wall
        self.world.on_lease = memory.to_text(decided)

    def _asks_first(self) -> bool:
        policy = self.world.policy
        is_lowered = policy.kind is not FailurePolicy.IGNORE and policy.ramp is Ramp.ON_PROOF
        return is_lowered and not self.has_asked and not self.world.is_impossible

    def _wait(self) -> float:
        period = self.world.policy.period_seconds
        if self.failures == 0:
            return next_proof_seconds(self.memory, self.knowledge, self.world.policy)
        return float(min(min(UNPROVED, period) * 2.0 ** min(self.failures - 1, 30), period))


def _newer(one: Memory | None, other: Memory | None) -> Memory | None:
    """Return what was decided last, in whole seconds; of two that say so, the first."""
    if one is None or other is None:
        return one or other
    return other if int(other.since) > int(one.since) else one
