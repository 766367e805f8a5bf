"""Proofs for ever: after each change, periodically, and sooner while the path is not proved; its changes are logged."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

from reconciler.backoff import Backoff
from reconciler.certificates.rotation import Proved
from reconciler.cluster import Cluster
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.proof import Proof, Verdict, Way, prove
from reconciler.errors import ReconcilerError
from reconciler.settings import ReconcilerConfiguration

# While the path is not proved, proofs begin this often and grow rarer up to the period.
_UNPROVED_SECONDS: Final = 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Prover:
    """Proves in its own time, so that a webhook that hangs never holds up a repair."""

    def __init__(
        self,
        settings: ReconcilerConfiguration,
        cluster: Cluster,
        enforcement: Enforcement,
        *,
        way: Callable[[], Way | None],
        saw: Callable[[Proof], None],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._enforcement = enforcement
        self._way = way  # None: nothing stands that could be proved
        self._saw = saw
        self._due = asyncio.Event()
        self._written = 0.0
        self.last: Proof | None = None

    def written(self) -> None:
        """Note that the registration was written: older proofs say nothing about it, and a new one is due."""
        self._written = self._cluster.clock.now()
        self._due.set()

    def hurry(self) -> None:
        """Have the next proof begin at once."""
        self._due.set()

    @property
    def proved(self) -> Proved | None:
        """The last proof, if it is one, and of what stands now."""
        last = self.last
        if last is None or last.verdict is not Verdict.PROVED or last.began < self._written:
            return None
        return Proved(last.began, last.fingerprint)

    async def run(self) -> NoReturn:
        """Prove for ever, while there is something to prove."""
        period = self._settings.proof.period_seconds
        rarer = Backoff(min(_UNPROVED_SECONDS, period), period)
        failures = 0
        while True:
            await self._wait(rarer.delay(failures) if failures else self._enforcement.next_proof_seconds())
            if (way := self._way()) is not None:
                found = await self.prove_now(way)
                failures = 0 if found.holds else failures + 1

    async def prove_now(self, way: Way) -> Proof:
        """Prove once, and take the verdict in."""
        try:
            found = await prove(self._cluster, self._settings.registration, self._settings.proof, way)
        except ReconcilerError as error:
            found = Proof(Verdict.INCONCLUSIVE, str(error), began=self._cluster.clock.now())
        self._report(found)
        self.last = found
        self._enforcement.saw(found)
        self._saw(found)
        return found

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return
        finally:
            self._due.clear()

    def _report(self, found: Proof) -> None:
        last = self.last
        if last is not None and (last.verdict, last.skip, last.witness) == (found.verdict, found.skip, found.witness):
            return
        level = log.info if found.holds else log.warning
        level(
            "proof.held" if found.holds else "proof.failed",
            verdict=found.verdict.value,
            skip=found.skip.value,
            witness=found.witness.value if found.witness else None,
            words=found.words,
            certificate=found.fingerprint or None,
        )
