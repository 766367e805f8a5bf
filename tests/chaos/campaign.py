"""One run from the first pod to the last look: faults in their order, and the rules judged all along."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from reconciler import timestamps
from tests.backend import profile_of
from tests.chaos import terms
from tests.chaos.convergence import Converged
from tests.chaos.faults import inflict
from tests.chaos.invariants import Excuses, Invariant, Refusals, ViolationError, excused
from tests.chaos.observer import Observer
from tests.chaos.traffic import Traffic
from tests.chaos.world import World, world
from tests.seed import MANAGED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.chaos.chronicle import Chronicle
    from tests.chaos.invariants import Stretch
    from tests.chaos.plan import Step
    from tests.controlplane.plane import ControlPlane

Object = dict[str, Any]  # a Kubernetes object as JSON

_LOOK_SECONDS: Final = 0.25
_REST_SECONDS: Final = 20.0
_PAGE: Final = 500
_DEFECTS: Final = ("Traceback (most recent call last)", "Task exception was never retrieved")


@dataclass(slots=True)
class Results:
    """What the report tells; filled as the run goes on, so that a run that breaks off has them, too."""

    steps: Sequence[Step] = ()
    done: list[Step] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)
    rests: int = 0
    rests_at_fail: int = 0
    longest: Stretch | None = None
    unmutated: dict[str, int] = field(default_factory=dict)
    windows: int = 0
    raised: int = 0
    lowered: int = 0
    at_fail_share: float = 0.0
    able_share: float = 0.0
    deaths: list[str] = field(default_factory=list)
    starts: int = 0
    seconds: float = 0.0
    convergence_seconds: float | None = None
    surveyed: Object | None = None
    fates: dict[tuple[str, str], int] = field(default_factory=dict)


class Campaign:
    """Faults on one world. ViolationError where a rule is broken."""

    def __init__(
        self,
        found: World,
        observer: Observer,
        traffic: Traffic,
        chronicle: Chronicle,
        results: Results,
        *,
        progress: Callable[[float], None],
    ) -> None:
        self._world = found
        self._observer = observer
        self._traffic = traffic
        self._chronicle = chronicle
        self._results = results
        self._progress = progress
        self._converged = Converged(found, traffic)
        self._refusals = Refusals(terms.bound(), found.able, found.disturbances)
        self._seen = 0
        self._began = time.monotonic()
        self._running: dict[asyncio.Task[None], Step] = {}

    async def run(self, steps: Sequence[Step]) -> None:
        """Inflict them all, and look at the end state."""
        self._results.steps = steps
        guard = asyncio.create_task(self._guard())
        script = asyncio.create_task(self._script(steps))
        try:
            await asyncio.wait({guard, script}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = {guard, script, *self._running}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._take_stock()
        for task in (guard, script):
            if not task.cancelled():
                task.result()

    async def _script(self, steps: Sequence[Step]) -> None:
        await self._settled("before the first fault", self._began)
        for step in steps:
            await self._free(step)
            self._running[asyncio.create_task(self._inflict(step))] = step
            await asyncio.sleep(step.pause_seconds)
            self._progress(step.number)
            if step.rests:
                await self._over(list(self._running))
                if step is not steps[-1]:
                    await self._rest()
        last = time.monotonic()
        self._chronicle.say("the last fault is over")
        self._results.convergence_seconds = await self._settled("after the last fault", last)
        await asyncio.to_thread(self._traffic.stop)
        self._judge_pods(await asyncio.to_thread(self._unmutated))

    async def _inflict(self, step: Step) -> None:
        if step.kind.name == "reconciler-clock" and not self._world.clocks["a"].works:
            self._results.skipped.append(step)
            self._chronicle.say(f"[{step.number}] skipped: no libfaketime here")
            return
        self._chronicle.say(f"[{step.number}] begins: {step}")
        try:
            await inflict(self._world, step)
        finally:
            self._chronicle.say(f"[{step.number}] is over")
        self._results.done.append(step)

    async def _free(self, step: Step) -> None:
        """Wait for the end of every fault that has hold of the same."""
        await self._over([task for task, other in self._running.items() if other.subjects & step.subjects])

    async def _over(self, tasks: list[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks)
        for task in [one for one in self._running if one.done()]:
            del self._running[task]
            task.result()

    async def _rest(self) -> None:
        """Let everything come to rest, so that the next faults hit a seed that is at Fail."""
        self._results.rests += 1
        since = time.monotonic()
        missing = "nothing looked at"
        while time.monotonic() - since < _REST_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._world.clock_wrong.is_open or self._world.gate_off.is_open:
                continue
            missing = await asyncio.to_thread(self._converged.missing, since, thoroughly=False)
            if not missing:
                self._results.rests_at_fail += 1
                self._judge_pods(self._created_unmutated(before=time.time() - 2 * terms.PERIOD_SECONDS))
                return
        self._chronicle.say(f"no rest after {_REST_SECONDS:g} s: {missing}")

    async def _settled(self, when: str, since: float) -> float:
        """Return the seconds from `since` until everything is as it should be."""
        missing = "nothing looked at"
        while time.monotonic() - since < terms.CONVERGENCE_SECONDS:
            missing = await asyncio.to_thread(self._converged.missing, since)
            if not missing:
                self._chronicle.say(f"converged {when}")
                return time.monotonic() - since
            await asyncio.sleep(_LOOK_SECONDS)
        raise ViolationError(Invariant.CONVERGENCE, f"{when}: after {terms.CONVERGENCE_SECONDS:g} s {missing}")

    async def _guard(self) -> None:
        """Judge all along what can be judged at once."""
        policy: str | None = None
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if policy != self._observer.policy:
                policy = self._observer.policy
                self._chronicle.say(f"the registration stands at {policy}" if policy else "no registration stands")
            if policy == "Fail":
                self._world.seen_at_fail()
            if self._observer.foreign_changes:
                raise ViolationError(Invariant.FOREIGN, "; ".join(self._observer.foreign_changes))
            if deaths := [death for member in self._world.members for death in member.deaths]:
                raise ViolationError(Invariant.DEFECTS, "; ".join(deaths))
            self._judge_refusals()

    def _judge_refusals(self) -> None:
        new = self._traffic.outcomes[self._seen :]
        self._seen += len(new)
        for outcome in new:
            stretch = self._refusals.saw(outcome)
            if stretch is not None and stretch.is_too_long:
                raise ViolationError(
                    Invariant.REFUSALS,
                    f"refused for {stretch}, allowed are {terms.bound()}; "
                    f"from {stretch.began - self._chronicle.began:.2f} s on; last: {outcome.words:.300}",
                )

    def _created_unmutated(self, *, before: float) -> list[tuple[str, float]]:
        return [
            (one.name, one.created)
            for one in list(self._traffic.outcomes)
            if one.namespace == MANAGED and one.fate == "unmutated" and one.created is not None and one.created < before
        ]

    def _unmutated(self) -> list[tuple[str, float]]:
        """Return the unmutated pods as the API server has them: also those whose creation got no answer."""
        found: list[tuple[str, float]] = []
        more = ""
        while True:
            page: Object = self._world.other(
                "auditor", "GET", f"/api/v1/namespaces/{MANAGED}/pods?limit={_PAGE}&continue={more}"
            )
            for pod in page["items"]:
                if profile_of(pod) is None:
                    created = timestamps.seconds(pod["metadata"]["creationTimestamp"])
                    found.append((pod["metadata"]["name"], created or 0.0))
            more = page["metadata"].get("continue", "")
            if not more:
                return found

    def _judge_pods(self, unmutated: list[tuple[str, float]]) -> None:
        first_fail = self._observer.first_fail
        excuses = Excuses(
            float("inf") if first_fail is None else first_fail,
            self._world.gate_off,
            self._world.unseen,
            self._world.clock_wrong,
            self._observer.recorded,
        )
        by_excuse = excused(unmutated, excuses)
        self._results.unmutated = {excuse: len(pods) for excuse, pods in by_excuse.items()}
        if slipped := by_excuse.get(""):
            named = ", ".join(f"{name} at {timestamps.utc(created)}" for name, created in slipped[:5])
            raise ViolationError(Invariant.WINDOWS, f"{len(slipped)} pods outside of every window: {named}")

    def _take_stock(self) -> None:
        results, observer, members = self._results, self._observer, self._world.members
        now = time.monotonic()
        results.seconds = now - self._began
        results.longest = self._refusals.longest
        results.surveyed = self._converged.surveyed
        results.windows = len(observer.windows)
        results.raised, results.lowered = observer.raised, observer.lowered
        results.at_fail_share = observer.at_fail.seconds(self._began, now) / results.seconds
        results.able_share = self._world.able.seconds(self._began, now) / results.seconds
        results.starts = sum(member.starts for member in members)
        for outcome in list(self._traffic.outcomes):
            key = (outcome.namespace, outcome.fate.value)
            results.fates[key] = results.fates.get(key, 0) + 1

    def judge_logs(self) -> None:
        """Raise ViolationError where a process wrote of a defect; after its end, when nothing more comes."""
        for member in self._world.members:
            for log in member.logs:
                if any(defect in log for defect in _DEFECTS):
                    raise ViolationError(Invariant.DEFECTS, f"{member.name} wrote of a defect")


@asynccontextmanager
async def campaign(
    plane: ControlPlane, chronicle: Chronicle, results: Results, *, progress: Callable[[float], None]
) -> AsyncIterator[tuple[Campaign, World]]:
    """Prepare everything on `plane`; all of it is gone on leaving."""
    async with world(plane) as found:
        with Observer(found.stage) as observer, Traffic(found.stage) as traffic:
            yield Campaign(found, observer, traffic, chronicle, results, progress=progress), found
