"""The certificate that is served now: followed in its folder, swapped in for the next handshake, never dropped.

A pair that cannot be used leaves the one in use in place; the log, a metric and, once that one is expired, readiness
say so.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from reconciler.admission import pair
from reconciler.admission.metrics import Metrics
from reconciler.errors import ReconcilerError

# A look costs two stat calls. Notices of the file system would come no sooner than the kubelet's own minute.
LOOK_SECONDS: Final = 1.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ServedCertificate:
    """What the listener presents. `clock` tells wall time in seconds since the epoch."""

    def __init__(
        self,
        folder: Path,
        metrics: Metrics,
        *,
        client_ca: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.fingerprint = ""
        self._metrics = metrics
        self._client_ca = client_ca
        self._clock = clock
        self._pair: pair.Pair | None = None
        self._context: ssl.SSLContext | None = None
        self._mark: pair.Mark = ()
        self._complaint = ""

    @property
    def context(self) -> ssl.SSLContext:
        """The context to listen with; each handshake is given the pair that is current then."""
        if self._context is None:
            raise RuntimeError("no certificate was loaded yet")
        return self._context

    @property
    def der(self) -> bytes:
        """The leaf that is to be presented; empty without one."""
        return b"" if self._pair is None else self._pair.der

    def trouble(self) -> str:
        """Return why the certificate does not serve at this moment; empty when it does."""
        if self._pair is None:
            return "no certificate yet: " + (self._complaint or str(self.folder))
        now = self._clock()
        if now >= self._pair.not_after:
            return "the certificate is expired"
        return "the certificate is not valid yet" if now < self._pair.not_before else ""

    def look(self) -> bool:
        """Take what the folder holds, if it changed and can be used; returns whether another certificate serves now."""
        mark = pair.mark(self.folder, self._client_ca)
        if mark == self._mark and not self._complaint:
            return False
        try:
            found = pair.load(self.folder, self._client_ca)
        except ReconcilerError as error:
            self._complain(mark, str(error))
            return False
        self._mark = mark
        if self._complaint:
            self._complaint = ""
            log.info("certificate.recovered", folder=str(self.folder))
        changed = found.der != self.der
        self._pair, self.fingerprint = found, found.fingerprint
        if self._context is None:
            self._context = found.context
            # It is called even when the client names no server. The context in use is never loaded again: a pair
            # that does not match would leave it unable to serve.
            self._context.sni_callback = self._present
        if changed:
            self._metrics.reloaded.inc()
            self._metrics.certificate_not_before.set(found.not_before)
            self._metrics.certificate_expiry.set(found.not_after)
            log.info("certificate.loaded", fingerprint=found.fingerprint, expires=_utc(found.not_after))
        return changed

    async def follow(self, changed: Callable[[], object]) -> None:
        """Look again and again, for ever; `changed` is called after each change."""
        expired = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            # A handshake in memory takes a millisecond or two, and only when something changed or is wrong.
            if self.look():
                changed()
            trouble = self._pair is not None and self.trouble()
            if trouble and not expired:
                log.error("certificate.unusable", error=trouble, fingerprint=self.fingerprint)
            expired = bool(trouble)

    def _present(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._pair is not None:
            connection.context = self._pair.context

    def _complain(self, mark: pair.Mark, complaint: str) -> None:
        if mark != self._mark:
            self._mark = mark
            self._metrics.refused.inc()
        if complaint != self._complaint:
            self._complaint = complaint
            kept = self.fingerprint or "nothing"
            log.error("certificate.invalid", error=complaint, kept=kept)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
