"""The failurePolicy that follows proof: Absent, Ignore, Fail, up by proofs and down by their loss. Pure.

What was decided is kept on the object (`registration.memory`); what one process saw since it started, or woke, is its
Knowledge. Times of the memory are wall clock, those of the knowledge monotonic.
"""

from dataclasses import dataclass, replace
from typing import Final

from reconciler.controller.proof import Verdict
from reconciler.registration.memory import Memory, State
from reconciler.settings import Adaptive, FailurePolicy, Ramp

# What the API server needs to learn of a registration that was raised: until then pods may still slip through.
_LEARNED_SECONDS: Final = 2.0
_NEVER: Final = float("inf")
_LOSSES: Final = frozenset((Verdict.NOT_MUTATED, Verdict.UNREACHABLE))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings ask."""

    kind: FailurePolicy
    ramp: Ramp
    adaptive: Adaptive
    period_seconds: float  # between proofs, where nothing depends on them
    probe_seconds: float = 13.0  # how long one of them may take

    @property
    def is_adaptive(self) -> bool:
        """Whether a loss lowers it while a reconciler looks on."""
        return self.kind is FailurePolicy.ADAPTIVE

    @property
    def longest_gap_seconds(self) -> float:
        """How far apart two proofs in a row may lie, and how old the last of them may be."""
        return max(self.adaptive.loss_tolerance_seconds, 2 * self.period_seconds)

    @property
    def longest_without_success_seconds(self) -> float:
        """How old the last successful probe may be at Fail: the longest gap, and one probe that takes all its time."""
        return self.longest_gap_seconds + self.probe_seconds

    def soak_seconds(self, flaps: int) -> float:
        """Return how long proofs must go on before Fail: twice as long after each flap."""
        if self.kind is FailurePolicy.FAIL:
            return 0.0
        # Nothing, doubled, would be nothing.
        shortest = max(self.adaptive.soak_seconds, 1.0) if flaps else self.adaptive.soak_seconds
        return min(shortest * 2.0 ** min(flaps, 30), self.adaptive.longest_soak_seconds)

    @property
    def proofs(self) -> int:
        """How many proofs in a row Fail takes."""
        return 1 if self.kind is FailurePolicy.FAIL else self.adaptive.proofs


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What was seen since `began`: proofs in a row, or since when they are lost. Monotonic seconds."""

    began: float
    proofs: int = 0
    first_proof: float = 0.0
    last_proof: float = 0.0
    lost_since: float | None = None
    words: str = ""
    was_ever_proved: bool = False
    last_success: float = 0.0  # when the last successful probe began, whether or not it counts towards Fail
    doubt: str = ""  # the words of the last probe, where that was inconclusive
    decided: tuple[State, int] | None = None  # at the last look, and since when (seconds since the epoch)
    counted_from: float = -_NEVER  # proofs from before that do not count

    @property
    def is_proved(self) -> bool:
        """Whether the last verdict that says anything is a proof."""
        return self.proofs > 0

    @property
    def stretch_seconds(self) -> float:
        """From the first to the last of the proofs in a row."""
        return self.last_proof - self.first_proof if self.is_proved else 0.0

    def saw(self, verdict: Verdict, words: str, *, at: float, policy: Policy) -> "Knowledge":
        """Return what is known after a proof that began `at`.

        An inconclusive one is neither proof nor loss; but it makes nothing younger, and `decide` bounds that.
        """
        if at < self.began:
            return self  # from before a sleep, which may have changed everything
        if verdict is Verdict.PROVED:
            proved = replace(self, lost_since=None, words="", doubt="", was_ever_proved=True, last_success=at)
            if at < self.counted_from:
                return proved
            is_next = self.is_proved and at - self.last_proof <= policy.longest_gap_seconds
            first, proofs = (self.first_proof, self.proofs + 1) if is_next else (at, 1)
            return replace(proved, proofs=proofs, first_proof=first, last_proof=at)
        if verdict in _LOSSES:
            since = at if self.lost_since is None else self.lost_since
            return replace(self, proofs=0, lost_since=since, words=words, doubt="")
        return replace(self, doubt=words or "inconclusive")

    def looked(self, memory: Memory, *, at: float) -> "Knowledge":
        """Return what is known after a look at `memory`: once that was lowered, by whomever, proofs are counted anew.

        Those from before say nothing about what lowered it: another process, or no endpoint for a moment.
        """
        decided = (memory.state, int(memory.since))
        if memory.state is State.IGNORE and self.decided != decided:
            return replace(self, proofs=0, decided=decided, counted_from=at)
        return self if self.decided == decided else replace(self, decided=decided)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else counts now, each as a reason in words; empty where it does not hold.

    `impossible`: no proof can come at all (certificates expired, no endpoint ready). `paused` and `refused` (by the
    linter): Fail is not wanted.
    """

    impossible: str = ""
    paused: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    """Now, by both clocks, in seconds."""

    wall: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What to remember and register, what to know from now on, and when to ask again.

    `due` is monotonic; infinity: at the next news.
    """

    memory: Memory
    knowledge: Knowledge
    due: float = _NEVER


def recall(
    remembered: Memory | None,
    standing: State | None,
    knowledge: Knowledge,
    *,
    now: float,
    looked_at: float,
    by: str = "",
) -> Memory | None:
    """Return the memory to go on from, given what really stands (None: no object); None where there is neither.

    What somebody else lowered or removed is put right at once only by a process that holds a proof; for any other it is
    a lowering. Either way the time since `looked_at` (wall clock), when the registration was last seen as decided, is a
    window. What somebody else raised is not Fail: the caller writes Ignore again.

    A window ends when Fail is seen to stand, not when it is decided: nobody knows how long that write will take.
    """
    if remembered is None:
        return None if standing is None else Memory(standing, now, f"found at {standing.value}")
    if remembered.state is State.IGNORE:
        return remembered
    if standing is State.FAIL:
        return remembered.closed(now + _LEARNED_SECONDS)
    reason = f"{'removed' if standing is None else 'set to Ignore'} by {by or 'somebody else'}"
    opened = remembered.opened(min(looked_at, now), reason)
    return opened if knowledge.is_proved else replace(opened, state=State.IGNORE, since=now, reason=reason)


def decide(
    memory: Memory | None, knowledge: Knowledge, circumstances: Circumstances, policy: Policy, clock: Clock
) -> Decision:
    """Return what the registration should say now."""
    if memory is not None:
        knowledge = knowledge.looked(memory, at=clock.monotonic)
    decided, due = _decided(memory, knowledge, circumstances, policy, clock)
    return Decision(decided, knowledge.looked(decided, at=clock.monotonic), due)


def next_proof_seconds(memory: Memory | None, knowledge: Knowledge, policy: Policy) -> float:
    """Return how long to wait with the next proof after one that held: sooner while Fail depends on it."""
    if memory is None or memory.state is State.FAIL or policy.kind is FailurePolicy.IGNORE:
        return policy.period_seconds
    soak = policy.soak_seconds(memory.flaps)
    left = max(soak - knowledge.stretch_seconds, 0.0)
    if left == 0 and knowledge.proofs >= policy.proofs:
        return policy.period_seconds  # a pause, a refusal or a floor holds it up: more proofs change nothing
    # Evenly, so that the last of them falls on the end of the soak; none is a second's work for nothing.
    return max(min(soak / max(policy.proofs - 1, 1), left or 1.0, policy.period_seconds), 0.5)


def _decided(
    memory: Memory | None, knowledge: Knowledge, circumstances: Circumstances, policy: Policy, clock: Clock
) -> tuple[Memory, float]:
    if (reason := _held_down(circumstances, policy)) is not None:
        return _lowered(memory, reason, clock, policy, is_flap=False), _NEVER
    if policy.ramp is Ramp.NEVER:
        return _raised(memory, "failurePolicy: Fail with ramp: Never", clock), _NEVER
    if memory is None:
        return Memory(State.IGNORE, clock.wall, "registered, not proved yet"), _NEVER
    if memory.state is State.FAIL:
        reason, due = _loss(knowledge, circumstances, policy, clock)
        return (_lowered(memory, reason, clock, policy, is_flap=True), _NEVER) if reason else (memory, due)
    if circumstances.impossible:
        return memory, _NEVER
    return _rise(memory, knowledge, policy, clock)


def _held_down(circumstances: Circumstances, policy: Policy) -> str | None:
    if circumstances.paused:
        return circumstances.paused
    if policy.kind is FailurePolicy.IGNORE:
        return "failurePolicy: Ignore"
    return circumstances.refused or None


def _loss(knowledge: Knowledge, circumstances: Circumstances, policy: Policy, clock: Clock) -> tuple[str, float]:
    """Return why Fail cannot stay (empty: it can), and when to ask again.

    A process that has seen no proof since it started, or woke, does not know how long the loss lasts already: it lowers
    at the first sign. Inconclusive probes are no loss, but after a bounded time without a successful one they lower it,
    too: whatever is in the way may hide a path that is dead.
    """
    tolerance = policy.adaptive.loss_tolerance_seconds
    is_lowered = policy.is_adaptive or not knowledge.was_ever_proved
    if circumstances.impossible and is_lowered:
        return f"no proof can come: {circumstances.impossible}", _NEVER
    if knowledge.lost_since is not None and not knowledge.was_ever_proved:
        return f"not proved at the start: {knowledge.words}", _NEVER
    if not is_lowered:
        return "", _NEVER
    bounds: list[tuple[float, str]] = []
    if not knowledge.was_ever_proved:
        bounds.append((knowledge.began + tolerance, f"no verdict for {tolerance:g} s after the start"))
    if knowledge.lost_since is not None:
        bounds.append((knowledge.lost_since + tolerance, f"no proof for {tolerance:g} s: {knowledge.words}"))
    if knowledge.was_ever_proved and knowledge.doubt:
        longest = policy.longest_without_success_seconds
        reason = f"no successful probe for {longest:g} s, the last was inconclusive: {knowledge.doubt}"
        bounds.append((max(knowledge.last_success, knowledge.began) + longest, reason))
    reached = next((reason for due, reason in bounds if clock.monotonic >= due), "")
    return reached, _NEVER if reached else min((due for due, _ in bounds), default=_NEVER)


def _rise(memory: Memory, knowledge: Knowledge, policy: Policy, clock: Clock) -> tuple[Memory, float]:
    stretch = knowledge.stretch_seconds
    is_recent = clock.monotonic - knowledge.last_proof <= policy.longest_gap_seconds
    if knowledge.proofs < policy.proofs or stretch < policy.soak_seconds(memory.flaps) or not is_recent:
        return memory, _NEVER
    floor = policy.adaptive.floor_seconds if policy.is_adaptive else 0.0
    # A time that lies ahead is a wrong clock's, and holds up nothing.
    if 0 <= (held := clock.wall - memory.since) < floor:
        return memory, clock.monotonic + floor - held
    proofs = "one proof" if knowledge.proofs == 1 else f"{knowledge.proofs} proofs over {stretch:.0f} s"
    return _raised(memory, proofs, clock), _NEVER


def _raised(memory: Memory | None, reason: str, clock: Clock) -> Memory:
    if memory is None:
        return Memory(State.FAIL, clock.wall, reason)
    if memory.state is State.FAIL:
        return memory
    return replace(memory, state=State.FAIL, since=clock.wall, reason=reason)


def _lowered(memory: Memory | None, reason: str, clock: Clock, policy: Policy, *, is_flap: bool) -> Memory:
    if memory is None:
        return Memory(State.IGNORE, clock.wall, reason)
    if memory.state is State.IGNORE:
        return memory
    flaps = memory.flaps
    if is_flap:
        is_calm = clock.wall - memory.since >= policy.adaptive.calm_seconds
        flaps = 1 if is_calm else flaps + 1
    lowered = replace(memory, state=State.IGNORE, since=clock.wall, reason=reason, flaps=flaps)
    return lowered.opened(clock.wall, reason)
