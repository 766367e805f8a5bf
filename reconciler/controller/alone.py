"""Leadership where no election is asked for: always leading. The Lease is only read: it carries what people ask for."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import structlog

from reconciler.cluster import Cluster
from reconciler.controller.leadership import lease_of
from reconciler.controller.lease import annotations_of
from reconciler.errors import ForbiddenError, ReconcilerError
from reconciler.settings import LeaderElection

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Alone:
    """As Leadership, for one who always leads."""

    leading: Final = True
    holder: Final = ""

    def __init__(self, cluster: Cluster, settings: LeaderElection) -> None:
        self._cluster = cluster
        self._settings = settings
        self.annotations: Mapping[str, str] = {}

    @property
    def last_read(self) -> Mapping[str, str]:
        """The same as `annotations`: nothing is ever written there."""
        return self.annotations

    def last_renewed_by_others(self) -> float | None:
        """Return None: nobody else is known."""

    def check(self) -> None:
        """Let every write pass."""

    def remember(self, annotations: Mapping[str, str | None]) -> None:
        """Do nothing: the Lease is its leader's."""

    async def look(self) -> None:
        """Read the annotations before a pass: nobody else brings them. Raises as `cluster` does."""
        self.annotations = await read_annotations(self._cluster, self._settings)

    async def run(self, changed: Callable[[], None]) -> NoReturn:
        """Look at the Lease every renewDeadline until cancelled; `changed` is called when its annotations changed."""
        while True:
            try:
                found = await read_annotations(self._cluster, self._settings)
            except ReconcilerError as error:
                log.debug("leadership.failed", error=str(error), kind=type(error).__name__)
                found = self.annotations
            if found != self.annotations:
                self.annotations = found
                changed()
            await asyncio.sleep(self._settings.renew_deadline_seconds)

    async def release(self) -> None:
        """Do nothing: there is nothing to release."""


async def read_annotations(cluster: Cluster, settings: LeaderElection) -> Mapping[str, str]:
    """Return the Lease's annotations; none where it is absent.

    Where no election is asked for, none either where it may not be read, which is logged once: no right to Leases is
    needed then, and no pause is known.
    """
    try:
        return annotations_of(await cluster.get(lease_of(settings)))
    except ForbiddenError as error:
        if settings.enabled:
            raise
        _warn_once(str(error))
        return {}


@functools.cache
def _warn_once(error: str) -> None:
    log.warning("leadership.unreadable", error=error)
