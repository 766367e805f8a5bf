"""Proofs for ever: after each change, periodically, and sooner while the path is not proved; its changes are logged."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

from reconciler.backoff import Backoff
from reconciler.certificates.rotation import Proved
from reconciler.cluster import Cluster
from reconciler.controller.proof import Proof, Verdict, prove
from reconciler.errors import ReconcilerError
from reconciler.settings import ReconcilerConfiguration

# While the path is not proved, proofs begin this often and grow rarer up to the period.
_UNPROVED_SECONDS: Final = 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Prover:
    """Proves in its own time, so that a webhook that hangs never holds up a repair."""

    def __init__(self, settings: ReconcilerConfiguration, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._due = asyncio.Event()
        self._last: Proof | None = None
        self._written = 0.0

    def written(self) -> None:
        """Note that the registration was written: older proofs say nothing about it, and a new one is due."""
        self._written = time.time()
        self._due.set()

    def hurry(self) -> None:
        """Have the next proof begin at once."""
        self._due.set()

    @property
    def proved(self) -> Proved | None:
        """The last proof, if it is one, and of what stands now."""
        last = self._last
        if last is None or last.verdict is not Verdict.PROVED or last.began < self._written:
            return None
        return Proved(last.began, last.fingerprint)

    async def run(self, stands: Callable[[], bool], proved: Callable[[], None]) -> NoReturn:
        """Prove while `stands` says that there is something to prove; `proved` is called after each success."""
        settings = self._settings.proof
        rarer = Backoff(min(_UNPROVED_SECONDS, settings.period_seconds), settings.period_seconds)
        failures = 0
        while True:
            await self._wait(rarer.delay(failures) if failures else settings.period_seconds)
            if not stands():
                continue
            try:
                found = await prove(self._cluster, self._settings.registration, settings)
            except ReconcilerError as error:
                found = Proof(Verdict.INCONCLUSIVE, str(error), began=time.time())
            failures = 0 if found.holds else failures + 1
            self._report(found)
            self._last = found
            if found.verdict is Verdict.PROVED:
                proved()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return
        finally:
            self._due.clear()

    def _report(self, found: Proof) -> None:
        last = self._last
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
