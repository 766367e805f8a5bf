"""The failurePolicy in one process: what it has seen, what else counts, and what the registration should say now."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.certificates.authority import read
from reconciler.controller import failure_policy, trust
from reconciler.controller.failure_policy import Circumstances, Clock, Decision, Knowledge, Policy
from reconciler.controller.proof import Proof
from reconciler.registration import memory, writers
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory, State
from reconciler.settings import FailurePolicy, Ramp, ReconcilerConfiguration
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from reconciler.registration.pausing import Pause

# Whole seconds of the API server, and a change that was already under way when it was looked at.
_UNCERTAIN_SECONDS = 2.0
_WORDS_CHARACTERS = 160


class Enforcement:
    """What this process knows of the path and its registration; the clocks tell seconds."""

    def __init__(
        self,
        settings: ReconcilerConfiguration,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        registration = settings.registration
        self.policy = Policy(
            registration.failure_policy, registration.ramp, settings.adaptive, settings.proof.period_seconds
        )
        self.memory: Memory | None = None
        self.pause: Pause | None = None
        self.refused = ""  # by the linter
        self.ready_endpoints: int | None = None  # None: nobody tells
        self.serving_expires = float("inf")
        self.is_asked = False  # the first proof since the start, a sleep or a new leadership
        self.looked_at: float | None = None
        self._wall = wall
        self._monotonic = monotonic
        self.knowledge = Knowledge(monotonic())

    def begin(self, memory: Memory | None = None) -> None:
        """Forget what was seen but `memory`: of another leader's time, a sleep, or what is registered no more."""
        self.knowledge = Knowledge(self._monotonic())
        self.memory, self.looked_at, self.is_asked = memory, None, False

    def saw(self, proof: Proof) -> None:
        """Take a verdict in."""
        at = self._monotonic() - proof.seconds
        # What comes before it names the webhook and says that it failed: everybody knows.
        words = proof.words.rpartition("failed to call webhook: ")[2][:_WORDS_CHARACTERS]
        self.knowledge = self.knowledge.saw(proof.verdict, words, at=at, policy=self.policy)

    def is_due_for_a_look(self, observed: Manifest | None) -> bool:
        """Whether to prove before anything is written: it stands at Fail, and this process has not looked yet."""
        is_lowered = self.policy.ramp is Ramp.ON_PROOF and self.policy.kind is not FailurePolicy.IGNORE
        standing = memory.standing(observed) is State.FAIL
        return is_lowered and standing and not self.is_asked and not self.circumstances(observed).impossible

    def decide(self, observed: Manifest | None, *, on_lease: Memory | None, last_renewal: float | None) -> Decision:
        """Return what the registration should say now; `on_lease` is the copy there, `last_renewal` its renewTime."""
        remembered = _newer(memory.of(observed), self.memory) or (on_lease if observed is None else None)
        writer = writers.last_foreign(observed)
        now = self._wall()
        recalled = failure_policy.recall(
            remembered,
            memory.standing(observed),
            self.knowledge,
            now=now,
            looked_at=self.last_seen(remembered, last_renewal),
            by="" if writer is None else writer.manager,
        )
        clock = Clock(now, self._monotonic())
        return failure_policy.decide(recalled, self.knowledge, self.circumstances(observed), self.policy, clock)

    def last_seen(self, remembered: Memory | None, last_renewal: float | None) -> float:
        """Return until when the registration surely stood as it was decided (seconds since the epoch)."""
        now = self._wall()
        if self.looked_at is not None:
            return min(self.looked_at, now)
        # Whoever led before looked by a watch: until its last renewal, nearly.
        decided = now if remembered is None else remembered.since
        return min(decided if last_renewal is None else max(decided, last_renewal - self.policy.period_seconds), now)

    def circumstances(self, observed: Manifest | None) -> Circumstances:
        """Return what else counts now."""
        impossible, now = "", self._wall()
        registered = trust.registered(observed)
        if self.ready_endpoints == 0:
            impossible = "no endpoint of the Service is ready"
        elif registered and all(certificate.not_after <= now for certificate in registered):
            impossible = "every authority in the caBundle is expired"
        elif self.serving_expires <= now:
            impossible = f"the serving certificate expired at {utc(self.serving_expires)}"
        pause = self.pause
        paused = str(pause) if pause is not None and pause.until > now else ""
        return Circumstances(impossible, paused, self.refused)

    def serves(self, certificate: bytes) -> None:
        """Take in the certificate (PEM) that the server was given; empty where none is known."""
        leaf = next(iter(read(certificate)), None)
        self.serving_expires = float("inf") if leaf is None else leaf.not_after

    def wrote(self, decided: Memory) -> None:
        """Note that the registration stands as decided, now; proofs may have come while it was written."""
        self.memory = decided
        self.knowledge = self.knowledge.looked(decided, at=self._monotonic())
        self.seen_as_decided()

    def seen_as_decided(self) -> None:
        """Note that the registration was seen as it was decided, now."""
        self.looked_at = self._wall() - _UNCERTAIN_SECONDS

    def next_proof_seconds(self) -> float:
        """Return how long to wait with the next proof after one that held."""
        return failure_policy.next_proof_seconds(self.memory, self.knowledge, self.policy)


def _newer(standing: Memory | None, kept: Memory | None) -> Memory | None:
    """Return what was decided last: somebody may have stripped, or put back, what the object remembers."""
    if standing is None or kept is None:
        return standing or kept
    return kept if int(kept.since) > int(standing.since) else standing
