"""The failurePolicy in one process: what it has seen, what else counts, and what the registration should say now."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.certificates.authority import read
from reconciler.cluster import WATCH_SILENCE_SECONDS
from reconciler.controller import failure_policy, trust
from reconciler.controller.failure_policy import Circumstances, Clock, Decision, Knowledge, Policy
from reconciler.controller.proof import Proof, Verdict, longest_seconds
from reconciler.registration import memory, writers
from reconciler.registration.identity import FIELD_MANAGER, Manifest
from reconciler.registration.memory import Memory, State
from reconciler.settings import FailurePolicy, Ramp, ReconcilerConfiguration
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from reconciler.registration.pausing import Pause

# Whole seconds of the API server, and a change that was already under way when it was looked at.
_UNCERTAIN_SECONDS = 2.0
_WORDS_CHARACTERS = 160
_SINCE = f"metadata.annotations[{memory.SINCE_ANNOTATION}]"


class Enforcement:
    """What this process knows of the path and its registration; the clocks tell seconds."""

    def __init__(
        self,
        settings: ReconcilerConfiguration,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy_of(settings)
        self.memory: Memory | None = None
        self._read: Memory | None = None  # what the object said when it was last read, whatever became of that pass
        self.pause: Pause | None = None
        self.refused = ""  # by the linter
        self.ready_endpoints: int | None = None  # None: nobody tells
        self.serving_expires = float("inf")
        self.is_asked = False  # the first proof since the start, a sleep or a new leadership
        self.looked_at: float | None = None
        # Since when, and why, pods came through for a while though it stood at Fail: to be remembered.
        self._gap: tuple[float, str] | None = None
        self._decided_gap: tuple[float, str] | None = None  # the one that the last decision remembers
        self.known: Memory | None = None  # what was remembered before the last decision
        self._comes_through = False  # since the last proof pods came through though it stands at Fail: nobody is called
        self._wall = wall
        self._monotonic = monotonic
        self.certificates_now = wall  # the time that certificates are judged by
        self.knowledge = Knowledge(monotonic())

    def begin(self, memory: Memory | None = None) -> None:
        """Forget what was seen but `memory`: of another leader's time, a sleep, or what is registered no more."""
        self.knowledge = Knowledge(self._monotonic())
        self.memory, self.looked_at, self.is_asked = memory, None, False
        self._read = None
        self._comes_through, self._gap, self._decided_gap = False, None, None

    def saw(self, proof: Proof) -> None:
        """Take a verdict in."""
        at = self._monotonic() - proof.seconds
        # What comes before it names the webhook and says that it failed: everybody knows.
        words = proof.words.rpartition("failed to call webhook: ")[2][:_WORDS_CHARACTERS]
        before, self.knowledge = self.knowledge, self.knowledge.saw(proof.verdict, words, at=at, policy=self.policy)
        if proof.verdict is Verdict.PROVED and self._comes_through:
            self._comes_through = False
            if before.was_ever_proved:
                good = _last_good(before, Clock(self._wall(), self._monotonic()))
                start = good if self._gap is None else min(good, self._gap[0])
                self._gap = (start, f"proof lost for a while: {before.words}")
        elif proof.verdict is Verdict.NOT_MUTATED and at >= self.knowledge.began:
            self._comes_through = True

    def is_due_for_a_look(self, observed: Manifest | None) -> bool:
        """Whether to prove before anything is written: it stands at Fail, and this process has not looked yet."""
        is_lowered = self.policy.ramp is Ramp.ON_PROOF and self.policy.kind is not FailurePolicy.IGNORE
        standing = memory.standing(observed) is State.FAIL
        return is_lowered and standing and not self.is_asked and not self.circumstances(observed).impossible

    def decide(self, observed: Manifest | None, *, on_lease: Memory | None, last_renewal: float | None) -> Decision:
        """Return what the registration should say now; `on_lease` is the copy there, `last_renewal` its renewTime."""
        self.known = remembered = self._remembered(observed, on_lease)
        now, seen = self._wall(), self.last_seen(remembered, last_renewal)
        recalled = failure_policy.recall(
            remembered,
            memory.standing(observed),
            self.knowledge,
            now=now,
            looked_at=seen,
            by="" if observed is None else writers.of_field(observed, "webhooks[0].failurePolicy"),
        )
        clock = Clock(now, self._monotonic())
        decision = failure_policy.decide(recalled, self.knowledge, self.circumstances(observed), self.policy, clock)
        decided = decision.memory
        # By us or, as `recall` found, by somebody else.
        is_lowered = remembered is not None and (remembered.state, decided.state) == (State.FAIL, State.IGNORE)
        if is_lowered and self._comes_through:
            good = _last_good(self.knowledge, clock) if self.knowledge.was_ever_proved else seen
            decided = decided.reaching_back(good)
        self._decided_gap = self._gap
        if self._gap is not None and (decided.state is State.FAIL or is_lowered):
            decided = decided.opened(*self._gap).reaching_back(self._gap[0])
        return replace(decision, memory=decided)

    def _remembered(self, observed: Manifest | None, on_lease: Memory | None) -> Memory | None:
        """Return what was decided last: of what somebody else stripped off the object, or put there, we know better."""
        standing = memory.of(observed)
        if standing is not None and writers.of_field(observed, _SINCE) == FIELD_MANAGER:
            self._read = standing
            return standing
        return self.memory or self._read or on_lease or standing

    def last_seen(self, remembered: Memory | None, last_renewal: float | None) -> float:
        """Return until when the registration surely stood as it was decided (seconds since the epoch)."""
        now = self._wall()
        if self.looked_at is not None:
            return min(self.looked_at, now)
        # Whoever led before looked by a watch, which may have been dead without anybody noticing.
        decided = now if remembered is None else remembered.since
        unseen = max(self.policy.period_seconds, WATCH_SILENCE_SECONDS)
        return min(decided if last_renewal is None else max(decided, last_renewal - unseen), now)

    def circumstances(self, observed: Manifest | None) -> Circumstances:
        """Return what else counts now."""
        impossible, now, certified = "", self._wall(), self.certificates_now()
        registered = trust.registered(observed)
        if self.ready_endpoints == 0:
            impossible = "no endpoint of the Service is ready"
        elif registered and all(certificate.not_after <= certified for certificate in registered):
            impossible = "every authority in the caBundle is expired"
        elif self.serving_expires <= certified:
            impossible = f"the serving certificate expired at {utc(self.serving_expires)}"
        pause = self.pause
        paused = str(pause) if pause is not None and pause.until > now else ""
        return Circumstances(impossible, paused, self.refused)

    def serves(self, certificate: bytes) -> None:
        """Take in the certificate (PEM) that the server was given; empty where none is known."""
        leaf = next(iter(read(certificate)), None)
        self.serving_expires = float("inf") if leaf is None else leaf.not_after

    def wrote(self, decided: Memory, *, seen: float | None = None) -> None:
        """Note that the registration stands as decided, now or when it was `seen`, where nothing had to be written.

        Proofs may have come meanwhile.
        """
        self.memory = decided
        if self._gap == self._decided_gap:
            self._gap = None
        self.knowledge = self.knowledge.looked(decided, at=self._monotonic())
        self.seen_as_decided(seen)

    def seen_as_decided(self, at: float | None = None) -> None:
        """Note that the registration was seen as it was decided, `at` (seconds since the epoch; None: now)."""
        if at is None or self.looked_at is None:
            self.looked_at = (self.now() if at is None else at) - _UNCERTAIN_SECONDS
        else:
            self.looked_at = max(self.looked_at, at - _UNCERTAIN_SECONDS)

    def now(self) -> float:
        """Return the wall clock's time."""
        return self._wall()

    @property
    def is_at_rest(self) -> bool:
        """Whether what is known changes nothing: at Fail no loss, doubt, gap or open window; at Ignore no proof."""
        if self.memory is None:
            return False
        if self.memory.state is State.FAIL:
            is_lost = self.knowledge.lost_since is not None
            return not (self.memory.is_open or is_lost or self.knowledge.doubt or self._gap)
        return self.policy.kind is FailurePolicy.IGNORE or not self.knowledge.is_proved

    def next_proof_seconds(self) -> float:
        """Return how long to wait with the next proof after one that held."""
        return failure_policy.next_proof_seconds(self.memory, self.knowledge, self.policy)


def policy_of(settings: ReconcilerConfiguration) -> Policy:
    """Return what `settings` ask of the failurePolicy."""
    registration = settings.registration
    return Policy(
        registration.failure_policy,
        registration.ramp,
        settings.adaptive,
        settings.proof.period_seconds,
        longest_seconds(registration),
    )


def _last_good(knowledge: Knowledge, clock: Clock) -> float:
    """Return when the path was last proved (seconds since the epoch)."""
    return clock.wall - (clock.monotonic - max(knowledge.last_proof, knowledge.began))
