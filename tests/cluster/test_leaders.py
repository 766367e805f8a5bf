"""Three `run` processes on one seed: one writes, whatever becomes of it another takes over, and none undoes another."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import yaml

from reconciler import settings as configuration
from reconciler.controller.oneshot import one_pass
from reconciler.controller.reconcile import Result, act, target_of
from reconciler.errors import ConflictError
from reconciler.registration import drift
from reconciler.registration.desired import render
from reconciler.registration.drift import Action
from reconciler.settings import GardenletConfigurationSource, Registration
from tests.cluster.enforced import LEASE, History, House, Running, housed, policy_of
from tests.cluster.field import stand
from tests.cluster.patience import until
from tests.seed import ROOT, RUN, collection
from tests.simulators import Opposition, Remediator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from reconciler.cluster import Cluster
    from tests.cluster.field import Field
    from tests.seed import Seed

    Record = Callable[[str, object], None]

pytestmark = pytest.mark.main

T = TypeVar("T")
NAMES: Final = ("anna", "berta", "clara")
LEASE_SECONDS: Final = 3.0  # of tests.backend.ELECTION
# A third party changes the same field many times here: that is to be put right each time.
UNDAMPED: Final = {"repeats": 1000}
TIMEOUT: Final = "/webhooks/0/timeoutSeconds"
WRITING: Final = frozenset(("create", "update", "patch", "delete", "deletecollection"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A `run` process with a ServiceAccount of its own, by which the audit log knows it."""

    name: str
    running: Running

    @property
    def identity(self) -> str:
        """What the Lease calls it."""
        started = self.running.log("run.started")
        return str(started[-1]["identity"]) if started else ""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.running.process.process.send_signal(number)


class Trio:
    """Those who stand for election on one seed."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.field = house.field
        self.candidates: list[Candidate] = []

    def lease(self) -> dict[str, Any]:
        """Return the Lease's spec; empty where there is none."""
        found = self.field.other.request("GET", LEASE)
        return {} if found is None else dict(found["spec"])

    def holder(self) -> Candidate | None:
        """Return whom the Lease names now."""
        name = self.lease().get("holderIdentity")
        return next((one for one in self.candidates if name and one.identity == name), None)

    def leader(self, *, but: Candidate | None = None) -> Candidate:
        """Wait until the Lease names somebody, and another one than `but`."""
        return until(lambda: found if (found := self.holder()) not in (None, but) else None, told=self.words)

    def at_work(self) -> Candidate:
        """Wait until one leads and the registration stands at Fail; return the leader."""
        self.house.reaches("Fail", told=self.words)
        return self.leader()

    def drift(self) -> None:
        """Change our object as a third party."""
        self.field.patch(("replace", TIMEOUT, 3))

    def repaired(self) -> None:
        """Wait until the drift is gone."""
        until(
            lambda: (found := self.field.standing()) and found["webhooks"][0]["timeoutSeconds"] == 10, told=self.words
        )

    def writes(self, name: str, *, since: float = 0.0) -> list[float]:
        """Return when the API server took each write of that one to our registration (seconds since the epoch)."""
        user = f"system:serviceaccount:garden:{name}"
        times = [
            _seconds(event["requestReceivedTimestamp"])
            for event in self.field.plane.audit_events()
            if event["user"].get("username") == user
            and event["verb"] in WRITING
            and event.get("objectRef", {}).get("resource") == "mutatingwebhookconfigurations"
            and event.get("responseStatus", {}).get("code", 500) < 300
        ]
        return [at for at in times if at >= since]

    def words(self) -> str:
        """Return what they said last."""
        return "\n".join(f"{one.name}: {one.running.process.last_words(6)}" for one in self.candidates)


@pytest.fixture(scope="module")
def built(shared_seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(shared_seed, tmp_path_factory.mktemp("house")) as house:
        _bind(house.field)
        house.serve()
        yield house


@pytest.fixture
def house(built: House) -> Iterator[House]:
    built.clean()
    built.configure(conflicts=UNDAMPED)
    yield built
    built.clean()


@pytest.fixture
def trio(house: House) -> Iterator[Trio]:
    found = Trio(house)
    with ExitStack() as stack:
        for name in NAMES:
            found.candidates.append(stack.enter_context(candidate(house, name)))
        yield found
        for one in found.candidates:
            if one.running.process.process.poll() is None:
                one.send(signal.SIGCONT)
            assert "Traceback" not in one.running.process.last_words(100_000)


@contextmanager
def candidate(house: House, name: str, kubeconfig: Path | None = None) -> Iterator[Candidate]:
    """Start `run` as that ServiceAccount."""
    chosen = kubeconfig or house.field.plane.kubeconfig_for_service_account("garden", name)
    with house.seed.process([*RUN, *house.inputs, "--kubeconfig", str(chosen)]) as process:
        yield Candidate(name, Running(process))


def _bind(field: Field) -> None:
    """Give each candidate's ServiceAccount exactly the documented rights."""
    subjects = [{"kind": "ServiceAccount", "name": one, "namespace": "garden"} for one in NAMES]
    for name in ("rbac.yaml", "canary.yaml"):
        for document in yaml.safe_load_all((ROOT / "config" / name).read_text()):
            if document["kind"] in ("RoleBinding", "ClusterRoleBinding"):
                metadata = {**document["metadata"], "name": f"{document['metadata']['name']}-candidates"}
                manifest = {**document, "metadata": metadata, "subjects": subjects}
                field.put(collection(manifest), manifest)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_of_three_exactly_one_writes_and_a_killed_one_is_followed_when_its_lease_is_over(
    trio: Trio, record_property: Record
) -> None:
    old = trio.at_work()
    trio.drift()
    trio.repaired()
    until(lambda: sum(one.running.metric("leader") for one in trio.candidates) == 1, told=trio.words)
    assert {name: len(trio.writes(name)) > 0 for name in NAMES} == {name: name == old.name for name in NAMES}
    old.send(signal.SIGKILL)
    old.running.process.process.wait()
    killed, last = time.time(), trio.lease()
    trio.drift()
    trio.repaired()
    repaired, new = time.time(), trio.leader(but=old)
    acquired = _seconds(trio.lease()["acquireTime"])
    measured = {"takeover_seconds": acquired - killed, "repair_seconds": repaired - killed}
    for name, seconds in measured.items():
        record_property(name, round(seconds, 2))
    assert acquired - _seconds(last["renewTime"]) >= LEASE_SECONDS, f"before the lease was over: {measured}"
    assert trio.writes(old.name, since=killed) == []
    assert trio.writes(new.name, since=killed) != []
    assert policy_of(trio.field.standing()) == "Fail"


def test_a_stopped_leader_that_goes_on_writes_nothing_before_it_leads_again(
    trio: Trio, record_property: Record
) -> None:
    old = trio.at_work()
    old.send(signal.SIGSTOP)
    stopped = time.time()
    new = trio.leader(but=old)
    record_property("takeover_seconds", round(_seconds(trio.lease()["acquireTime"]) - stopped, 2))
    trio.drift()
    trio.repaired()
    trio.drift()  # both see this one
    old.send(signal.SIGCONT)
    until(lambda: old.running.log("leadership.lost"), told=trio.words)
    trio.repaired()
    trio.drift()
    trio.repaired()
    assert trio.holder() == new
    assert trio.writes(old.name, since=stopped) == []
    # When nobody else is left it leads, and writes, again.
    for one in trio.candidates:
        if one != old:
            one.running.process.stop()
    assert trio.leader() == old
    acquired = _seconds(trio.lease()["acquireTime"])
    trio.drift()
    trio.repaired()
    writes = trio.writes(old.name, since=stopped)
    assert writes
    assert min(writes) >= acquired


STALE = {
    Action.APPLY: Registration(timeout_seconds=5),
    Action.REPLACE: Registration(timeout_seconds=5),
    Action.DELETE: None,
}


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "made-anew"])
@pytest.mark.parametrize("action", STALE)
async def test_a_write_that_was_planned_before_another_one_is_refused(
    field: Field, cluster: Cluster, action: Action, *, gone: bool
) -> None:
    """What a leader that was stopped between look and write would send."""
    registration, wanted = Registration(), STALE[action]
    await stand(cluster, registration, ca_bundle=field.plane.ca_pem)
    if action is Action.REPLACE:
        field.patch(("add", "/webhooks/0/matchConditions/-", {"name": "theirs", "expression": "true"}))
    target = target_of(registration)
    observed = await cluster.get(target)
    desired = None if wanted is None else render(wanted, ca_bundle=field.plane.ca_pem)
    plan = drift.compare(desired=desired, observed=observed)
    assert plan.action is action
    if gone:
        field.delete()
        await stand(cluster, registration, ca_bundle=field.plane.ca_pem)
    else:
        field.patch(("replace", TIMEOUT, 7))
    before = field.standing()
    with pytest.raises(ConflictError):
        await act(cluster, target, plan, observed)
    assert field.standing() == before


async def test_passes_without_a_lease_beside_a_running_loop_undo_nothing(
    house: House, cluster: Cluster, record_property: Record
) -> None:
    """A third party drifts all the while; loop, one-shot passes and the command put it right, and nothing else."""
    trio = Trio(house)
    own = configuration.parse(house.settings.read_bytes(), origin="test").model_copy(
        update={"gardenlet_configuration": GardenletConfigurationSource(file=str(house.seed.gardenlet))}
    )
    with candidate(house, "anna") as anna:
        trio.candidates.append(anna)
        trio.at_work()
        refused = passes = repairs = 0
        third = Opposition(house.seed, Remediator(failure_policy="Fail", timeout_seconds=3), every_seconds=0.2)
        with History(house.seed) as history:
            began, before = time.time(), house.standing()
            with third:
                command = asyncio.create_task(asyncio.to_thread(house.command, "reconcile"))
                while time.time() < began + 6 or not command.done() or not repairs:
                    assert time.time() < began + 60, "no pass repaired anything"
                    # Else the loop, which watches, is nearly always first. A second does not cost it the lead.
                    anna.send(signal.SIGSTOP if (time.time() - began) % 3 > 2 else signal.SIGCONT)
                    try:
                        repairs += (await one_pass(cluster, own)).outcome.result is Result.UPDATED
                    except ConflictError:
                        refused += 1
                    passes += 1
                    await asyncio.sleep(0.01)
                anna.send(signal.SIGCONT)
            assert (await command).returncode == 0
            await asyncio.to_thread(trio.repaired)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(until, lambda: not house.remembered().is_open)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(until, lambda: not house.remembered().is_open)
            settled = house.standing()
        by_loop, by_passes = trio.writes("anna", since=began), trio.writes("seccomp-reconciler", since=began)
        counts = {"drifts": third.changes, "loop": len(by_loop), "passes": len(by_passes), "refused": refused}
        record_property("writes", counts)
        assert third.changes >= 3, counts
        assert by_loop, counts
        assert by_passes, counts
        assert {sight.policy for sight in history.sights} == {"Fail"}
        # Every change of an entry is counted: each drift and its repair, and no third one.
        assert settled["metadata"]["generation"] - before["metadata"]["generation"] == 2 * third.changes, counts
        # A repair, and the end of its window; now and then a proof was faster than the API server, a window of its own.
        assert len(by_loop) + len(by_passes) <= 2 * third.changes + 4, counts
        assert (await one_pass(cluster, own)).outcome.actions == ()
        await asyncio.sleep(1.0)
        assert house.standing()["metadata"]["resourceVersion"] == settled["metadata"]["resourceVersion"]
