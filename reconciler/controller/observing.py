"""What the loop follows besides the registration: the twin, the Service's endpoints, and a clock that jumps."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, NoReturn

import structlog

from reconciler.backoff import is_transient
from reconciler.cluster import ENDPOINT_SLICES, MUTATING_WEBHOOK_CONFIGURATIONS, Cluster, Selection, Target
from reconciler.errors import ReconcilerError
from reconciler.registration.identity import Manifest
from reconciler.settings import Registration, ServiceBackend

# The wall clock is held against the monotonic one this often; more than that apart and the machine slept.
_LOOK_SECONDS: Final = 5.0
_SLEPT_SECONDS: Final = 20.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def twin_target(registration: Registration) -> Target:
    """Return the object in which gardenlet keeps its own entry."""
    return Target(MUTATING_WEBHOOK_CONFIGURATIONS, registration.twin_name)


async def follow_twin(cluster: Cluster, registration: Registration, saw: Callable[[Manifest | None], None]) -> None:
    """Call `saw` with the twin's object as it stands, for ever; without the right to see it, nobody is told."""
    async with aclosing(cluster.follow(twin_target(registration))) as states:
        async for state in states:
            if isinstance(state, ReconcilerError):
                _complain(state)
            else:
                saw(state)


async def follow_endpoints(cluster: Cluster, service: ServiceBackend, saw: Callable[[int], None]) -> None:
    """Call `saw` with the number of ready endpoints of `service`, for ever; without the right, nobody is told."""
    slices = Selection(ENDPOINT_SLICES, service.namespace, f"kubernetes.io/service-name={service.name}")
    async with aclosing(cluster.follow_all(slices)) as states:
        async for state in states:
            if isinstance(state, ReconcilerError):
                _complain(state)
            else:
                saw(sum(_ready(one) for one in state.values()))


class Sleep:
    """Tells whether the machine slept: its wall clock went on, its monotonic one did not; or somebody set the first."""

    def __init__(self) -> None:
        self._apart = time.time() - time.monotonic()

    def is_over(self) -> bool:
        """Return whether a sleep came to its end since the last look."""
        before, self._apart = self._apart, time.time() - time.monotonic()
        jumped = self._apart - before
        if abs(jumped) <= _SLEPT_SECONDS:
            return False
        log.warning("clock.jumped", seconds=round(jumped, 1))
        return True


async def follow_clock(sleep: Sleep, woke: Callable[[], None]) -> NoReturn:
    """Call `woke` after each sleep."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if sleep.is_over():
            woke()


def _ready(endpoint_slice: Manifest) -> int:
    # Source: discovery.k8s.io/v1: an unknown readiness counts as ready.
    return sum(
        1
        for endpoint in endpoint_slice.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    )


def _complain(error: ReconcilerError) -> None:
    level = log.debug if is_transient(error) else log.warning
    level("watch.failed", error=str(error))
