"""Who leads, on a real API server: takeover after release, death and partition; what the Lease keeps."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest
import structlog

from reconciler.backoff import Backoff
from reconciler.cluster import MUTATING_WEBHOOK_CONFIGURATIONS, Cluster, Target
from reconciler.controller import alone
from reconciler.controller.alone import Alone, read_annotations
from reconciler.controller.leadership import Leadership, new_identity
from reconciler.errors import ForbiddenError, NotLeadingError, UnavailableError
from reconciler.kube.server_clock import monotonic
from reconciler.settings import LeaderElection
from tests.faults import Fault, FaultProxy, Match

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.cluster.field import Field

LEASES = "/apis/coordination.k8s.io/v1/namespaces/garden/leases"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE_PATCH = "application/merge-patch+json"
LEASE, DEADLINE, PERIOD = 3.0, 2.0, 0.4
PROMPTLY_SECONDS = 60.0
SLACK_SECONDS = 15.0  # of a loaded machine, where a time is bounded from above


@dataclass
class Candidate:
    """A candidate of its own connection; its clock is its own, too."""

    name: str
    cluster: Cluster
    leadership: Leadership
    changes: int = 0
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        def changed() -> None:
            self.changes += 1

        self.task = asyncio.create_task(self.leadership.run(changed))

    async def kill(self) -> None:
        """End it as a crash does: nothing is released."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    @property
    def may_write(self) -> bool:
        try:
            self.leadership.check()
        except NotLeadingError:
            return False
        return True


@dataclass
class House:
    """Candidates for one Lease, and its admin; nobody ever saw two of them lead at the same time."""

    playing: Field
    settings: LeaderElection
    stack: AsyncExitStack
    candidates: list[Candidate] = field(default_factory=list)
    together: list[list[str]] = field(default_factory=list)
    watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        for candidate in self.candidates:
            if candidate.task is not None and candidate.task.done():
                candidate.task.result()
            await candidate.kill()
        if self.watching is not None:
            self.watching.cancel()
        await asyncio.to_thread(self.admin, "DELETE")
        assert self.together == [], "two led at the same time"

    async def _watch(self) -> None:
        while True:
            leaders = [candidate.name for candidate in self.candidates if candidate.may_write]
            if len(leaders) > 1:
                self.together.append(leaders)
            await asyncio.sleep(0.002)

    async def add(self, name: str, *, kubeconfig: Path | None = None, offset: float = 0.0) -> Candidate:
        cluster = await self.stack.enter_async_context(
            Cluster(kubeconfig=kubeconfig or admin(self.playing), backoff=Backoff(0.02, 0.2))
        )
        leadership = Leadership(cluster, self.settings, name, clock=lambda: monotonic() + offset)
        candidate = Candidate(name, cluster, leadership)
        self.candidates.append(candidate)
        candidate.start()
        return candidate

    async def three(self) -> list[Candidate]:
        return [await self.add(name, offset=offset) for name, offset in (("a", 0.0), ("b", 1e6), ("c", -1e6))]

    async def leader(self, *, other_than: Candidate | None = None) -> Candidate:
        def leaders() -> list[Candidate]:
            return [one for one in self.candidates if one.may_write and one is not other_than]

        await until(leaders)
        return leaders()[0]

    def admin(self, method: str, body: object = None) -> Any:  # noqa: ANN401 - whatever JSON the API server answers
        """Do something to the Lease, or look at it, as somebody with every right."""
        content = MERGE_PATCH if method == "PATCH" else "application/json"
        return self.playing.other.request(method, f"{LEASES}/{self.settings.name}", body, content)

    async def asked(self, method: str, body: object = None) -> Any:  # noqa: ANN401 - likewise
        return await asyncio.to_thread(self.admin, method, body)

    async def annotate(self, **annotations: str | None) -> None:
        await self.asked("PATCH", {"metadata": {"annotations": annotations}})

    async def annotations(self) -> dict[str, str]:
        found = await self.asked("GET")
        annotations: dict[str, str] = {} if found is None else found["metadata"].get("annotations", {})
        return annotations

    async def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.asked("GET"))["spec"]
        return found


def admin(field: Field) -> Path:
    return field.plane.kubeconfig_for_user("candidate", ["system:masters"])


async def until(fact: Callable[[], object], *, seconds: float = PROMPTLY_SECONDS) -> float:
    """Wait until `fact` holds; return how long that took."""
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < seconds, "it did not happen"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def events(log: list[Any], name: str) -> list[Any]:
    return [entry for entry in log if entry["event"] == name]


@pytest.fixture
async def house(field: Field, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    name = (
        f"lease-{request.node.name.lower().replace('_', '-').translate({ord(c): '-' for c in '[] '})[:60].strip('-')}"
    )
    chosen = LeaderElection.model_validate(
        {"name": name, "leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "400ms"}
    )
    async with AsyncExitStack() as stack, House(field, chosen, stack) as found:
        yield found


@asynccontextmanager
async def candidate_proxy(field: Field) -> AsyncIterator[tuple[FaultProxy, Path]]:
    """Yield a fault proxy and a kubeconfig through it, of an identity with every right that Leases know."""
    plane = field.plane
    token = plane.token_for_service_account("garden", "candidate")
    subject = {"kind": "ServiceAccount", "name": "candidate", "namespace": "garden"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "candidate"}, "roleRef": role, "subjects": [subject]}
    field.put(f"{RBAC}/clusterrolebindings", binding)
    pair = plane.issue_serving_certificate()
    async with FaultProxy(upstream=plane.url, upstream_ca=plane.ca_file, certificate=pair) as proxy:
        yield proxy, plane.kubeconfig_with(server=proxy.url, token=token)


async def test_one_of_three_leads_and_goes_on_leading(house: House, log: list[Any]) -> None:
    candidates = await house.three()
    leader = await house.leader()
    await asyncio.sleep(2 * LEASE)
    assert await house.leader() is leader
    assert [entry["identity"] for entry in events(log, "leadership.acquired")] == [leader.name]
    assert [entry["holder"] for entry in events(log, "leadership.observed")] == [leader.name] * 2
    assert events(log, "leadership.lost") == []
    for candidate in candidates:
        assert candidate.leadership.holder == leader.name
        assert candidate.leadership.leading is (candidate is leader)
        if candidate is not leader:
            with pytest.raises(
                NotLeadingError, match=f"{house.settings.name} in namespace garden: {leader.name} holds"
            ):
                candidate.leadership.check()
    spec = await house.spec()
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (leader.name, 3, 0)
    assert spec["renewTime"] > spec["acquireTime"]


async def test_the_next_one_takes_over_at_once_from_a_leader_that_ends(house: House, log: list[Any]) -> None:
    await house.three()
    first = await house.leader()
    await first.kill()
    assert first.leadership.leading, "a leader that is ending may write until it releases"
    began = time.monotonic()
    await first.leadership.release()
    assert not first.may_write
    second = await house.leader(other_than=first)
    took = time.monotonic() - began
    print(f"takeover after a release: {took:.3f} s of at most {PERIOD} s")
    assert took < PERIOD + SLACK_SECONDS
    assert (await house.spec())["leaseTransitions"] >= 1
    assert len(events(log, "leadership.released")) == 1
    assert second.leadership.last_renewed_by_others() is not None


async def test_whoever_is_released_does_not_come_back(house: House) -> None:
    only = await house.add("only")
    await house.leader()
    await only.leadership.release()
    await asyncio.sleep(4 * PERIOD)
    assert not only.may_write
    assert (await house.spec())["holderIdentity"] == ""
    with pytest.raises(NotLeadingError, match="this process is ending"):
        only.leadership.check()


async def test_a_leader_that_died_is_followed_when_its_lease_has_run_out(house: House) -> None:
    await house.three()
    first = await house.leader()
    await first.kill()
    died = time.monotonic()
    await until(lambda: not first.may_write)
    assert time.monotonic() - died < DEADLINE + SLACK_SECONDS
    second = await house.leader(other_than=first)
    took = time.monotonic() - died
    print(f"takeover after a death: {took:.3f} s of at most {LEASE + PERIOD} s")
    # It was last renewed up to a period before it died.
    assert LEASE - PERIOD - 0.1 <= took <= LEASE + PERIOD + SLACK_SECONDS
    assert second is not first


async def test_an_old_leader_without_network_stops_before_the_new_one_begins(house: House, log: list[Any]) -> None:
    async with candidate_proxy(house.playing) as (proxy, kubeconfig):
        first = await house.add("cut-off", kubeconfig=kubeconfig)
        assert await house.leader() is first
        second = await house.add("next")
        await until(lambda: second.leadership.holder == "cut-off")
        with proxy.partition():
            cut = time.monotonic()
            stopped = await until(lambda: not first.may_write)
            assert await house.leader() is second
            took = time.monotonic() - cut
            print(f"partition: the old leader stopped after {stopped:.3f} s, the new one began after {took:.3f} s")
            with pytest.raises(NotLeadingError, match=r"not renewed for \d\.\d s, allowed are 2 s"):
                first.leadership.check()
            await until(lambda: events(log, "leadership.lost"))
        # What was held back arrives late, and does nothing.
        await until(lambda: first.leadership.holder == "next")
        await asyncio.sleep(2 * PERIOD)
        assert await house.leader() is second
        await until(lambda: len(events(log, "leadership.observed")) == 2)
        assert len(events(log, "leadership.lost")) == 1
        await first.kill()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.refuse_status(503, times=2, match=Match(write=True)),
        Fault.lost_answer(times=2, match=Match(write=True)),
    ],
    ids=lambda fault: fault.name.replace("_", "-"),
)
async def test_the_lead_survives_what_is_shorter_than_its_deadline(house: House, log: list[Any], fault: Fault) -> None:
    # Long: on a loaded machine two faults and their retries take longer than the others' deadline.
    house.settings = house.settings.model_copy(update={"lease_duration_seconds": 60.0, "renew_deadline_seconds": 50.0})
    async with candidate_proxy(house.playing) as (proxy, kubeconfig):
        only = await house.add("only", kubeconfig=kubeconfig)
        await house.leader()
        with proxy.fault(fault) as armed:
            await armed.hit(fault.times or 1)
            await until(lambda: events(log, "leadership.recovered"))
        await asyncio.sleep(2 * PERIOD)
        assert only.may_write
        assert events(log, "leadership.lost") == []
        assert (await house.spec())["leaseTransitions"] == 0
        await only.kill()


async def test_a_creation_whose_answer_was_lost_is_found_to_be_ours(house: House) -> None:
    async with candidate_proxy(house.playing) as (proxy, kubeconfig):
        with proxy.fault(Fault.lost_answer(times=1, match=Match(write=True))):
            only = await house.add("only", kubeconfig=kubeconfig)
            await house.leader()
        assert (await house.spec())["leaseTransitions"] == 0
        assert only.leadership.last_renewed_by_others() is None
        await only.kill()


@pytest.mark.main
async def test_a_process_that_slept_past_its_lease_plans_no_write_when_it_wakes(house: House) -> None:
    """As after SIGSTOP and SIGCONT: its clock went on, and nothing of it has run since."""
    slept = 0.0
    cluster = await house.stack.enter_async_context(Cluster(kubeconfig=admin(house.playing)))
    leadership = Leadership(cluster, house.settings, "sleeper", clock=lambda: monotonic() + slept)
    cluster.fence = leadership.check
    sleeper = Candidate("sleeper", cluster, leadership)
    house.candidates.append(sleeper)
    sleeper.start()
    await house.leader()
    slept = DEADLINE
    before = len(audited(house))
    target = Target(MUTATING_WEBHOOK_CONFIGURATIONS, "never-written")
    with pytest.raises(NotLeadingError):
        await cluster.create(target, {"metadata": {"name": "never-written"}})
    assert len(audited(house)) == before
    # Nobody else wanted it: it leads again by a renewal, in a new term.
    await until(lambda: sleeper.changes >= 3)
    assert sleeper.may_write


def audited(house: House) -> list[dict[str, Any]]:
    return [event for event in house.playing.plane.audit_events() if "never-written" in event["requestURI"]]


async def test_no_write_comes_from_one_who_lost_the_lead(house: House) -> None:
    first = await house.add("first")
    await house.leader()
    first.cluster.fence = first.leadership.check
    await house.asked("PATCH", {"spec": {"holderIdentity": "usurper", "renewTime": "2030-01-01T00:00:00.000000Z"}})
    await until(lambda: first.leadership.holder == "usurper")
    target = Target(MUTATING_WEBHOOK_CONFIGURATIONS, "never-written")
    with pytest.raises(NotLeadingError, match="usurper holds it"):
        await first.cluster.create(target, {"metadata": {"name": "never-written"}})
    assert audited(house) == []
    # Times of other machines are never compared: the usurper's lies in the future, and its lease runs out all the same.
    await house.leader()
    assert (await house.spec())["leaseTransitions"] == 1
    assert math.isclose(first.leadership.last_renewed_by_others() or 0, 1893456000.0)


async def test_annotations_and_labels_of_others_survive_renewal_takeover_and_release(house: House) -> None:
    candidates = await house.three()
    first = await house.leader()
    await until(lambda: all(candidate.leadership.holder == first.name for candidate in candidates))
    changes = [candidate.changes for candidate in candidates]
    await house.asked("PATCH", {"metadata": {"annotations": {"paused": "2h"}, "labels": {"team": "x"}}})
    await until(lambda: all(candidate.leadership.annotations.get("paused") == "2h" for candidate in candidates))
    await until(lambda: all(one.changes == before + 1 for one, before in zip(candidates, changes, strict=True)))
    await asyncio.sleep(2 * PERIOD)
    await first.kill()
    await first.leadership.release()
    await house.leader(other_than=first)
    lease = await house.asked("GET")
    assert lease["metadata"]["annotations"] == {"paused": "2h"}
    assert lease["metadata"]["labels"]["team"] == "x"


async def test_what_is_remembered_stands_and_is_put_back(house: House) -> None:
    only = await house.add("only")
    only.leadership.remember({"memory": "of one who does not lead"})
    await house.leader()
    only.leadership.remember({"memory": "1", "more": "x"})
    await until(lambda: only.leadership.annotations.get("memory") == "1")
    await house.annotate(memory="edited", foreign="kept")
    await until(lambda: only.leadership.annotations.get("foreign") == "kept")
    await stands(house, {"memory": "1", "more": "x", "foreign": "kept"})
    only.leadership.remember({"more": None, "foreign": None})
    await stands(house, {"memory": "1"})
    await house.annotate(more="by somebody else")
    await until(lambda: "more" in only.leadership.annotations)
    await asyncio.sleep(2 * PERIOD)
    await stands(house, {"memory": "1", "more": "by somebody else"})
    await house.asked("DELETE")
    await stands(house, {"memory": "1"})
    assert only.may_write
    only.leadership.remember({"memory": "2"})
    await only.kill()
    await only.leadership.release()
    assert await house.annotations() == {"memory": "2"}, "what is new goes out with the release"


async def stands(house: House, annotations: dict[str, str]) -> None:
    deadline = time.monotonic() + PROMPTLY_SECONDS
    while (found := await house.annotations()) != annotations:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_what_is_remembered_does_not_wait_for_the_next_renewal(house: House) -> None:
    house.settings = house.settings.model_copy(
        update={"lease_duration_seconds": 60.0, "renew_deadline_seconds": 50.0, "retry_period_seconds": 20.0}
    )
    only = await house.add("only")
    await house.leader()
    await asyncio.sleep(1.2)
    began = time.monotonic()
    for value in range(50):
        only.leadership.remember({"memory": str(value)})
        await asyncio.sleep(0.01)
    took = await until(lambda: only.leadership.annotations.get("memory") == "49")
    assert took < 3
    elapsed = time.monotonic() - began
    uri = f"{LEASES}/{house.settings.name}"
    patches = {
        e["auditID"] for e in house.playing.plane.audit_events() if e["verb"] == "patch" and uri in e["requestURI"]
    }
    assert 1 <= len(patches) <= 2 + elapsed, "at most one write a second"


async def test_one_who_leads_again_has_forgotten_what_the_other_may_know_better(house: House) -> None:
    first = await house.add("first")
    await house.leader()
    first.leadership.remember({"memory": "old"})
    await stands(house, {"memory": "old"})
    taken = {"holderIdentity": "other", "renewTime": "2026-01-01T00:00:00.000000Z"}
    await house.asked("PATCH", {"metadata": {"annotations": {"memory": "newer"}}, "spec": taken})
    await until(lambda: not first.may_write)
    await house.leader()
    await asyncio.sleep(2 * PERIOD)
    assert await house.annotations() == {"memory": "newer"}


@pytest.mark.main
async def test_what_another_left_is_known_though_the_lease_is_deleted_before_we_lead(house: House) -> None:
    first = await house.add("first")
    await house.leader()
    first.leadership.remember({"memory": "theirs"})
    await stands(house, {"memory": "theirs"})
    second = await house.add("second")
    await until(lambda: second.leadership.last_read == {"memory": "theirs"})
    await first.kill()
    await house.asked("DELETE")
    await until(lambda: second.may_write)
    assert second.leadership.last_read == {"memory": "theirs"}
    assert await house.annotations() == {}, "whoever leads decides what is remembered"


async def test_a_deleted_lease_comes_back_and_has_one_leader(house: House) -> None:
    await house.three()
    first = await house.leader()
    await until(lambda: all(one.leadership.holder == first.name for one in house.candidates))
    await house.asked("DELETE")
    await until(lambda: all(one.leadership.holder == first.name for one in house.candidates))
    await asyncio.sleep(LEASE)
    assert await house.leader() is first, "who leads puts it back, and nobody else is faster"


async def test_of_two_who_find_no_lease_exactly_one_creates_it(house: House, log: list[Any]) -> None:
    await house.add("a")
    await house.add("b")
    await house.leader()
    await asyncio.sleep(2 * PERIOD)
    assert len(events(log, "leadership.acquired")) == 1
    assert (await house.spec())["leaseTransitions"] == 0


@pytest.mark.parametrize("spec", [None, {"leaseDurationSeconds": 2}], ids=["no spec", "no holder"])
async def test_a_damaged_lease_is_taken_over_after_a_leases_time(house: House, spec: dict[str, Any] | None) -> None:
    body = {"metadata": {"name": house.settings.name, "annotations": {"foreign": "kept"}}}
    await asyncio.to_thread(
        house.playing.plane.admin_request, "POST", LEASES, body if spec is None else {**body, "spec": spec}
    )
    began = time.monotonic()
    await house.add("a")
    await house.leader()
    assert LEASE - 0.1 <= time.monotonic() - began <= LEASE + PERIOD + SLACK_SECONDS
    assert await house.annotations() == {"foreign": "kept"}


async def test_a_lease_that_is_stripped_while_led_is_put_right(house: House, log: list[Any]) -> None:
    await house.three()
    first = await house.leader()
    await until(lambda: all(one.leadership.holder == first.name for one in house.candidates))
    await house.asked("PATCH", {"spec": None})
    await asyncio.sleep(LEASE)
    assert await house.leader() is first
    assert (await house.spec())["holderIdentity"] == first.name
    assert events(log, "leadership.lost") == []


async def test_a_missing_right_is_said_once_and_ends_when_it_is_given(house: House, log: list[Any]) -> None:
    plane = house.playing.plane
    kubeconfig = plane.kubeconfig_for_service_account("garden", "without-lease")
    only = await house.add("only", kubeconfig=kubeconfig)
    await until(lambda: events(log, "leadership.failed"))
    await asyncio.sleep(DEADLINE + PERIOD)
    assert [(e["kind"], e["log_level"]) for e in events(log, "leadership.failed")] == [("ForbiddenError", "error")]
    assert "resources: [leases]" in events(log, "leadership.failed")[0]["error"]
    subject = {"kind": "ServiceAccount", "name": "without-lease", "namespace": "garden"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "without-lease"}, "roleRef": role, "subjects": [subject]}
    await asyncio.to_thread(house.playing.put, f"{RBAC}/clusterrolebindings", binding)
    try:
        assert await house.leader() is only
    finally:
        await only.kill()
        plane.admin_request("DELETE", f"{RBAC}/clusterrolebindings/without-lease")


async def test_a_release_that_cannot_be_sent_is_given_up_in_a_second(house: House, log: list[Any]) -> None:
    async with candidate_proxy(house.playing) as (proxy, kubeconfig):
        only = await house.add("only", kubeconfig=kubeconfig)
        await house.leader()
        await only.kill()
        with proxy.partition():
            began = time.monotonic()
            await only.leadership.release()
            assert 0.9 <= time.monotonic() - began <= 1 + SLACK_SECONDS
        assert not only.may_write
        assert len(events(log, "leadership.unreleased")) == 1


async def test_a_release_by_one_who_does_not_lead_writes_nothing(house: House) -> None:
    first = await house.add("first")
    await house.leader()
    second = await house.add("second")
    await until(lambda: second.leadership.holder == "first")
    await second.kill()
    await second.leadership.release()
    assert (await house.spec())["holderIdentity"] == "first"
    assert first.may_write


async def test_alone_always_leads_and_reads_what_people_ask_for(house: House) -> None:
    cluster = await house.stack.enter_async_context(Cluster(kubeconfig=admin(house.playing)))
    settings = house.settings.model_copy(update={"enabled": False, "renew_deadline_seconds": 0.2})
    assert await read_annotations(cluster, settings) == {}
    only = Alone(cluster, settings)
    told = asyncio.Event()
    task = asyncio.create_task(only.run(told.set))
    try:
        only.check()
        assert only.leading
        await house.add("leader")
        await house.leader()
        await house.annotate(paused="2h")
        await asyncio.wait_for(told.wait(), PROMPTLY_SECONDS)
        assert only.annotations == {"paused": "2h"}
        await only.release()
        only.check()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (await house.spec())["holderIdentity"] == "leader"


async def test_annotations_that_may_not_be_read_are_none_without_an_election_which_is_said_once(
    house: House, log: list[Any]
) -> None:
    alone._warn_once.cache_clear()
    kubeconfig = house.playing.plane.kubeconfig_for_service_account("garden", "never-with-leases")
    cluster = await house.stack.enter_async_context(Cluster(kubeconfig=kubeconfig))
    alone_settings = house.settings.model_copy(update={"enabled": False})
    assert await read_annotations(cluster, alone_settings) == {}
    assert await read_annotations(cluster, alone_settings) == {}
    with pytest.raises(ForbiddenError, match=r"verbs: \[get\]"):
        await read_annotations(cluster, house.settings)
    assert len(events(log, "leadership.unreadable")) == 1


async def test_annotations_that_cannot_be_read_now_are_an_error_that_passes(house: House) -> None:
    async with candidate_proxy(house.playing) as (proxy, kubeconfig), Cluster(kubeconfig=kubeconfig) as cluster:
        with proxy.fault(Fault.refuse_status(503)), pytest.raises(UnavailableError):
            await read_annotations(cluster, house.settings)


def test_every_process_has_a_name_of_its_own() -> None:
    assert new_identity() != new_identity()
