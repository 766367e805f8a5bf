"""A seed that slept until its certificates expired: nothing may depend on what only the next write can mend."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

from reconciler import settings as configuration
from reconciler.backoff import Backoff
from reconciler.certificates.authority import read
from reconciler.cluster import Cluster
from reconciler.controller import observing, oneshot
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.loop import Loop
from reconciler.controller.oneshot import OneShot
from reconciler.controller.reporting import Known, Report
from reconciler.kube.server_clock import ServerClock
from reconciler.registration import memory
from reconciler.registration.memory import State
from reconciler.telemetry.metrics import Metrics
from tests.backend import pod, profile_of
from tests.cluster.answered import remove_secrets
from tests.cluster.enforced import NAME, PODS, History, House
from tests.cluster.patience import until
from tests.controlplane.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from reconciler.settings import ReconcilerConfiguration

pytestmark = pytest.mark.main

SHORT = {"authorityLifetime": "12s", "servingLifetime": "10s", "propagation": "1s", "overlap": "2s"}
SLEPT_SECONDS = 400 * 24 * 3600.0  # an authority lives a year
REGISTRATION = ("patch", "mutatingwebhookconfigurations", NAME)


@pytest.fixture
def house(built: House) -> Iterator[House]:
    built.clean()
    remove_secrets(built.field)  # the last test's are expired, or of another year
    built.issue()
    built.serve()
    yield built
    built.kill_server()
    built.clean()


class Waiting:
    """A pod that somebody wants, asked for again and again, as gardenlet's ReplicaSet does; a context manager."""

    def __init__(self, house: House) -> None:
        self.refusals: list[str] = []
        self.came_at: float | None = None
        self.profile: str | None = None
        self._house = house
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with self._house.seed.writer("replicaset-controller") as writer:
            while not self._stop.wait(0.1):
                try:
                    self.profile = profile_of(writer.request("POST", PODS, pod("gardenlet-like")))
                except ApiError as error:
                    self.refusals.append(str(error))
                    continue
                self.came_at = time.time()
                writer.request("DELETE", f"{PODS}/gardenlet-like?gracePeriodSeconds=0")
                return


def expired(house: House) -> None:
    """Have it stand at Fail, with an authority that has expired, and nobody running."""
    remove_secrets(house.field)
    house.configure(registration={"failurePolicy": "Fail"}, selfSigned=SHORT)
    done = house.command("reconcile", "--wait", "--timeout", "45")
    assert done.returncode == 0, done.stderr
    house.kill_server()
    content = (house.volume.folder / "ca.crt").read_bytes()
    until(lambda: all(one.not_after < time.time() for one in read(content)))
    house.configure()


def test_what_expired_while_everything_was_stopped_locks_nobody_out(house: House) -> None:
    expired(house)
    with History(house.seed) as history, Waiting(house) as waiting:
        until(lambda: len(waiting.refusals) >= 3)
        assert "failed calling webhook" in waiting.refusals[-1]
        before, began = len(house.writes()), time.time()
        with house.running() as running:
            came_at = until(lambda: waiting.came_at, told=running.words)
            assert waiting.profile is None
            secrets = until(lambda: [one for one in house.writes()[before:] if one[1] == "secrets"])
            first = house.writes()[before]
            assert first == REGISTRATION
            assert history.sights[0].policy == "Ignore"
            assert len(secrets) >= 1
            assert history.sights[0].memory is not None
            assert "every authority in the caBundle is expired" in history.sights[0].memory.reason
            until(lambda: running.log("proof.failed"), told=running.words)
            house.serve()
            house.reaches("Fail", told=running.words)
            assert house.create_pod() == "RuntimeDefault"
            until(lambda: not house.remembered().is_open, told=running.words)
    (window,) = house.remembered().windows
    assert window.end is not None
    assert window.start <= came_at <= window.end
    print(f"start of run -> the pod comes through: {came_at - began:.1f} s")


class Clocks:
    """The wall clock as the product reads it; a sleep moves it on, and the monotonic one stands still meanwhile."""

    def __init__(self) -> None:
        self.slept = 0.0
        self._real = time.time

    def wall(self) -> float:
        return self._real() + self.slept


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks()
    monkeypatch.setattr(time, "time", found.wall)
    # A sleep of this machine moves its own clock and the API server's alike; the one here did not sleep.
    monkeypatch.setattr(ServerClock, "heard", lambda *_: None)
    return found


def settings_of(house: House) -> ReconcilerConfiguration:
    found = configuration.parse(house.settings.read_bytes(), origin="test")
    source = configuration.GardenletConfigurationSource(file=str(house.seed.gardenlet))
    return found.model_copy(update={"gardenlet_configuration": source})


def ordered(house: House, before: int) -> list[str]:
    """Return the resources that were written since then, repetitions left out."""
    resources = [resource for _, resource, _ in house.writes()[before:]]
    return [one for index, one in enumerate(resources) if index == 0 or resources[index - 1] != one]


async def test_one_pass_after_a_year_lowers_then_issues_then_registers(
    house: House, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oneshot, "Enforcement", lambda settings: Enforcement(settings, wall=clocks.wall))
    house.configure(registration={"failurePolicy": "Fail"})
    assert (await asyncio.to_thread(house.command, "reconcile", "--wait", "--timeout", "45")).returncode == 0
    house.configure()
    await asyncio.to_thread(house.kill_server)
    clocks.slept = SLEPT_SECONDS
    before = len(house.writes())
    async with Cluster(kubeconfig=house.seed.kubeconfig) as cluster:
        done = await OneShot(cluster, settings_of(house)).run()
    assert ordered(house, before) == ["mutatingwebhookconfigurations", "secrets", "mutatingwebhookconfigurations"]
    assert done.memory is not None
    assert done.memory.reason == "no proof can come: every authority in the caBundle is expired"
    assert done.proof is None, "it would have waited for a webhook that cannot answer"
    assert memory.standing(house.standing()) is State.IGNORE


async def test_a_loop_that_wakes_after_a_year_begins_anew(
    house: House, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same process goes on: what it knew of the path is worth nothing now."""
    monkeypatch.setattr("reconciler.controller.loop.Enforcement", lambda one: Enforcement(one, wall=clocks.wall))
    monkeypatch.setattr(observing, "_LOOK_SECONDS", 0.2)
    report = Report(Metrics())
    async with Cluster(kubeconfig=house.seed.kubeconfig, backoff=Backoff(0.02, 0.2)) as cluster:
        loop = Loop(settings_of(house), cluster, report, identity="sleeper", known=Known())
        running = asyncio.create_task(loop.run())
        try:
            await asyncio.to_thread(house.reaches, "Fail")
            await asyncio.to_thread(house.kill_server)
            before = len(house.writes())
            clocks.slept = SLEPT_SECONDS
            await asyncio.to_thread(house.reaches, "Ignore")
            await asyncio.to_thread(until, lambda: len(ordered(house, before)) >= 3)
            assert ordered(house, before)[:2] == ["mutatingwebhookconfigurations", "secrets"]
            assert house.remembered().reason == "no proof can come: every authority in the caBundle is expired"
            assert not running.done()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.mark.parametrize(
    ("wall", "monotonic", "is_jump"),
    [(5.0, 5.0, False), (24.0, 5.0, False), (26.0, 5.0, True), (3600.0, 5.0, True), (-3600.0, 5.0, True)],
    ids=["as-ever", "corrected", "nap", "sleep", "set-back"],
)
async def test_a_jump_of_the_wall_clock_against_the_monotonic_one_is_noticed_once(
    monkeypatch: pytest.MonkeyPatch, wall: float, monotonic: float, *, is_jump: bool
) -> None:
    walls, monotonics = [1000.0, 1005.0], [100.0, 105.0]
    walls += [walls[-1] + wall, walls[-1] + wall + 5]
    monotonics += [monotonics[-1] + monotonic, monotonics[-1] + monotonic + 5]
    clock: Any = SimpleNamespace(time=iter(walls).__next__, monotonic=iter(monotonics).__next__)
    monkeypatch.setattr(observing, "time", clock)
    monkeypatch.setattr(observing, "_LOOK_SECONDS", 0.0)
    woken: list[str] = []
    with pytest.raises(RuntimeError):  # the clocks have nothing more to tell
        await observing.follow_clock(observing.Sleep(), lambda: woken.append("woken"))
    assert len(woken) == (1 if is_jump else 0)
