"""Who of several reconcilers writes: the holder of a Lease of our own, as long as it renews in time.

The Lease carries annotations, too: what people ask of whoever leads, and what the leader remembers. Every write is
bound to the version that it was planned on and touches nobody else's fields.
"""

import asyncio
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from reconciler import timestamps
from reconciler.backoff import is_transient
from reconciler.cluster import LEASES, Cluster, Target
from reconciler.controller.lease import Amendments, Step, Terms, View, annotations_of, released
from reconciler.errors import (
    ConflictError,
    NotLeadingError,
    ReconcilerError,
    RejectedError,
    UnavailableError,
)
from reconciler.kube.server_clock import monotonic
from reconciler.registration.identity import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from reconciler.settings import LeaderElection

# Others may write the Lease at the same time; after so many refusals in a row the next try has to do.
_MOST_ROUNDS: Final = 5
# What is to be remembered is written at once, but not more often.
_LEAST_BETWEEN_WRITES_SECONDS: Final = 1.0
_LEAST_REST_SECONDS: Final = 0.01
_RELEASE_SECONDS: Final = 1.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def new_identity() -> str:
    """Return a name that no other process has, nor the next one in the same pod; it begins with the pod's name."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"


def lease_of(settings: LeaderElection) -> Target:
    """Return the Lease."""
    return Target(LEASES, settings.name, settings.namespace)


@dataclass(frozen=True, slots=True)
class _Told:
    """What was last said to the log and the caller: `term` is 0 while we do not lead."""

    term: int = 0
    holder: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


class Leadership:
    """One candidate. `check` is what every write must pass; `run` keeps it true where it can."""

    def __init__(
        self, cluster: Cluster, settings: LeaderElection, identity: str, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._target = lease_of(settings)
        self._view = View(Terms(identity, settings.lease_duration_seconds, settings.renew_deadline_seconds))
        self._is_current = False  # whether what we know is the answer to our own last write
        self._has_sent = False
        self._is_released = False
        self._memory = Amendments()
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        self._told = _Told()
        self._others_renewed: float | None = None
        self._last_read: Mapping[str, str] = {}
        self._complaint = ""

    @property
    def leading(self) -> bool:
        """Whether we may write now."""
        return not self._is_released and self._view.leads(self._clock())

    @property
    def holder(self) -> str:
        """Whom the Lease named when it was last seen; empty: nobody."""
        return (self._view.record.holder or "") if self._view.record else ""

    @property
    def annotations(self) -> Mapping[str, str]:
        """The Lease's annotations as last seen."""
        return annotations_of(self._view.observed)

    @property
    def last_read(self) -> Mapping[str, str]:
        """The annotations of the Lease when it was last read, be it gone since then or made anew by us."""
        return self._last_read

    def last_renewed_by_others(self) -> float | None:
        """Return the renewTime (seconds since the epoch, its writer's clock) that another leader last left; or None."""
        return self._others_renewed

    def check(self) -> None:
        """Raise NotLeadingError unless our own last renewal is recent enough that nobody else can lead."""
        if not self.leading:
            raise NotLeadingError(self._why_not())

    def remember(self, annotations: Mapping[str, str | None]) -> None:
        """Keep these annotations on the Lease while we lead, None: remove what stands now; nothing while we do not.

        They are forgotten with the lead, since the next leader may know better.
        """
        if not self.leading:
            return
        self._memory.add(annotations, self.annotations)
        if self._memory.patch(self.annotations):
            self._asked.set()

    async def run(self, changed: Callable[[], None]) -> NoReturn:
        """Stand for election until cancelled; `changed`: we began or ceased to lead, or the annotations changed."""
        while True:
            self._tell(changed)
            wait = await self._try()
            self._tell(changed)
            await self._rest(wait)

    async def release(self) -> None:
        """Stop leading at once and for good, and tell the others so within a second; never raises."""
        self._is_released = True
        try:
            async with asyncio.timeout(_RELEASE_SECONDS), self._turn:
                await self._step_down()
        except (ReconcilerError, TimeoutError) as error:
            log.warning("leadership.unreleased", lease=str(self._target), error=str(error) or type(error).__name__)

    async def _step_down(self) -> None:
        for _ in range(_MOST_ROUNDS):
            if not self._is_current:
                self._view = self._view.saw(await self._cluster.get(self._target), at=self._clock())
            observed = self._view.observed
            if observed is None or not self._view.is_held:
                return
            self._is_current = False
            patch = {"metadata": {"annotations": self._amendments()}, "spec": released(wall=time.time())}
            try:
                await self._cluster.merge(self._target, patch, observed=observed)
            except (ConflictError, RejectedError):
                continue
            log.info("leadership.released", lease=str(self._target))
            return

    async def _try(self) -> float:
        """Look and do what is due; return the seconds until the next try."""
        # Two tries fit into the deadline, and none lasts beyond it.
        limit = self._settings.renew_deadline_seconds / 2
        left = self._view.deadline - self._clock()
        period = self._settings.retry_period_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - jitter is no secret
        try:
            async with asyncio.timeout(min(limit, left) if left > 0 else limit), self._turn:
                due = await self._stand()
        except TimeoutError:
            error: ReconcilerError = UnavailableError(f"{self._target}: no answer within {limit:g} s")
        except ReconcilerError as failure:
            error = failure
        else:
            self._content()
            return min(period, max(due - self._clock(), _LEAST_REST_SECONDS))
        self._is_current = False
        self._complain(error)
        if self.leading:
            return period
        # What only somebody's action can end is not asked for all the time.
        patient = self._settings.renew_deadline_seconds
        asked = error.retry_after_seconds if isinstance(error, UnavailableError) else 0.0
        return max(period, min(asked, patient) if is_transient(error) else patient)

    async def _stand(self) -> float:
        """Take the next step, anew where another writer was faster; return when the one after it is due."""
        refusal: ReconcilerError | None = None
        for _ in range(_MOST_ROUNDS):
            if self._is_released:
                break
            if not self._is_current:
                self._saw(await self._cluster.get(self._target))
            step, due = self._view.next_step(self._clock())
            self._is_current = False
            if step is Step.WAIT:
                return due
            sent = self._clock()
            try:
                written = await self._write(step)
            except ConflictError as error:
                refusal = error
                continue
            except RejectedError as error:  # it is gone, unless that happens again
                if step is Step.CREATE or isinstance(refusal, RejectedError):
                    raise
                refusal = error
                continue
            self._view = self._view.wrote(written, sent=sent, at=self._clock())
            self._memory.settle(self.annotations)
            self._is_current = True
            return float("inf")
        if refusal is not None:
            raise refusal
        return float("inf")

    async def _write(self, step: Step) -> Manifest:
        annotations, spec = self._amendments(), self._view.claim(step, wall=time.time())
        self._has_sent = True
        if (observed := self._view.observed) is not None:
            patch = {"metadata": {"annotations": annotations}, "spec": spec}
            return await self._cluster.merge(self._target, patch, observed=observed)
        metadata = {
            "name": self._target.name,
            "namespace": self._target.namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": annotations,
        }
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        return await self._cluster.post(self._target, lease)

    def _amendments(self) -> dict[str, str | None]:
        """Return the annotations to write along; who has ceased to lead, be it for a moment, has forgotten them."""
        if not self._view.leads(self._clock()):
            self._memory.clear()
        return self._memory.patch(self.annotations)

    def _saw(self, observed: Manifest | None) -> None:
        self._view = self._view.saw(observed, at=self._clock())
        if observed is not None:
            self._last_read = annotations_of(observed)
        record = self._view.record
        # Under our name it may be a write of ours whose answer was lost; before the first it is our predecessor's.
        if record is not None and not (self._view.is_held and self._has_sent):
            self._others_renewed = timestamps.seconds(record.renewed) or self._others_renewed

    async def _rest(self, seconds: float) -> None:
        """Wait, at most until the lead ends; shorter where there is something to remember."""
        if self.leading:
            seconds = min(seconds, max(self._view.deadline - self._clock(), 0.0))
        at_least = min(seconds, _LEAST_BETWEEN_WRITES_SECONDS)
        await asyncio.sleep(at_least)
        try:
            async with asyncio.timeout(seconds - at_least):
                await self._asked.wait()
        except TimeoutError:
            pass
        finally:
            self._asked.clear()

    def _tell(self, changed: Callable[[], None]) -> None:
        """Say what is new since the last time, to the log and to the caller."""
        told = self._told
        self._told = now = _Told(self._view.term if self.leading else 0, self.holder, dict(self.annotations))
        if now.term != told.term:
            if told.term and not self._is_released:
                log.warning("leadership.lost", lease=str(self._target), why=self._why_not())
            if now.term:
                log.info("leadership.acquired", lease=str(self._target), identity=self._view.terms.identity)
        if now.holder not in ("", told.holder, self._view.terms.identity):
            log.info("leadership.observed", lease=str(self._target), holder=now.holder)
        if (now.term, now.annotations) != (told.term, told.annotations):
            changed()

    def _why_not(self) -> str:
        record = self._view.record
        if self._is_released:
            return f"{self._target}: released, this process is ending"
        if record is None or not record.holder:
            return f"{self._target}: nobody holds it yet"
        if not self._view.is_held:
            return f"{self._target}: {record.holder} holds it since {record.acquired or 'nobody knows when'}"
        allowed = self._settings.renew_deadline_seconds
        if self._view.deadline == float("-inf"):
            return f"{self._target}: ours again in a moment"
        age = self._clock() - self._view.deadline + allowed
        complaint = f": {self._complaint}" if self._complaint else ""
        return f"{self._target}: ours, but not renewed for {age:.1f} s, allowed are {allowed:g} s{complaint}"

    def _complain(self, error: ReconcilerError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            level = log.warning if is_transient(error) else log.error
            level("leadership.failed", error=self._complaint, kind=type(error).__name__)

    def _content(self) -> None:
        if self._complaint:
            self._complaint = ""
            log.info("leadership.recovered", lease=str(self._target))
