"""Events on their way to the API server: in a task of their own, and whatever becomes of them disturbs nobody."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from reconciler.backoff import Backoff, is_transient, retrying
from reconciler.cluster import EVENTS, Cluster, Target
from reconciler.errors import ConflictError, ReconcilerError, RejectedError, UnavailableError
from reconciler.telemetry.events import NAMESPACE, Announcement, Continuation, Creation, Journal

_MOST_WAITING: Final = 100
# What could not be said for this long is no news any more.
_PATIENCE_SECONDS: Final = 600.0
_BACKOFF: Final = Backoff(1.0, 30.0)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Said:
    announcement: Announcement
    uid: str
    wall: float
    monotonic: float


class Announcer:
    """Says what happened to one registration; `identity` is who says it. `dropped` counts what nobody will read."""

    def __init__(self, cluster: Cluster, registration: str, identity: str, *, backoff: Backoff = _BACKOFF) -> None:
        self.dropped = 0
        self._cluster = cluster
        self._journal = Journal(registration, identity)
        self._waiting: deque[_Said] = deque()
        self._news = asyncio.Event()
        self._refusals: set[str] = set()
        self._policy = retrying(
            backoff,
            deadline_seconds=_PATIENCE_SECONDS,
            retry_on=lambda error: isinstance(error, UnavailableError),
            before_sleep=lambda error, _: self._refused("create", error),
        )

    def announce(self, announcement: Announcement, uid: str | None = None) -> None:
        """Have it said; `uid` is the registration's, where it stands. Never waits, never raises."""
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(_Said(announcement, uid or "", time.time(), time.monotonic()))
        self._news.set()

    async def run(self) -> NoReturn:
        """Say what is announced until cancelled; what is still waiting then is not said."""
        while True:
            await self._news.wait()
            while self._waiting:
                await self._say(self._waiting.popleft())
            self._news.clear()

    async def _say(self, said: _Said) -> None:
        step = self._step(said)
        if isinstance(step, Continuation) and not await self._continued(step):
            # The Event is gone, or never came to be: this one stands for itself.
            self._journal.forget(step.name)
            step = self._step(said)
        if isinstance(step, Creation) and not await self._created(step):
            self.dropped += 1
            self._journal.forget(step.name)

    def _step(self, said: _Said) -> Creation | Continuation | None:
        return self._journal.record(said.announcement, uid=said.uid, wall=said.wall, monotonic=said.monotonic)

    async def _created(self, step: Creation) -> bool:
        try:
            await self._policy(self._cluster.post, _target(step.name), step.manifest)
        except ConflictError:
            return True  # the answer to an earlier attempt was lost
        except ReconcilerError as error:
            self._refused("create", error)
            return False
        return True

    async def _continued(self, step: Continuation) -> bool:
        """Return whether the Event may still be there: what cannot be told now, the next patch of the series tells.

        Without the right to patch it is taken to be there too: repetitions must not become an Event each.
        """
        try:
            await self._cluster.merge(_target(step.name), step.patch)
        except ReconcilerError as error:
            self._refused("patch", error)
            return not isinstance(error, RejectedError)
        return True

    def _refused(self, verb: str, error: BaseException) -> None:
        """Log the first refusal of each kind."""
        kind = f"{verb} {type(error).__name__}"
        if kind not in self._refusals:
            self._refusals.add(kind)
            level = log.debug if is_transient(error) else log.warning
            level("event.refused", error=str(error), kind=type(error).__name__)


def _target(name: str) -> Target:
    return Target(EVENTS, name, NAMESPACE)
