"""Events reach the real API server, as one where they repeat, and disturb nobody where they do not."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from reconciler.backoff import Backoff
from reconciler.cluster import Cluster
from reconciler.controller import announcing
from reconciler.controller.announcing import Announcer
from reconciler.errors import NotLeadingError
from reconciler.telemetry.events import Announcement, Reason
from tests.cluster import patience
from tests.faults import Fault, FaultProxy, Match

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.cluster.field import Field

EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
NAME = "seccomp-reconciler"
QUICK = Backoff(0.05, 0.2)
_PATIENCE_SECONDS = 30.0


@pytest.fixture
def uid() -> str:
    """The registration's; each test has another one, and so Events of its own."""
    return str(uuid.uuid4())


@pytest.fixture
async def admin(field: Field, uid: str) -> AsyncIterator[Cluster]:
    async with Cluster(kubeconfig=field.plane.kubeconfig_for_user(uid, ["system:masters"])) as connection:
        yield connection


@asynccontextmanager
async def running(cluster: Cluster, identity: str = "gardenlet-0_3f2a") -> AsyncIterator[Announcer]:
    """Yield an Announcer that says what it is told; that it raises is a failure of the test."""
    announcer = Announcer(cluster, NAME, identity, backoff=QUICK)
    task = asyncio.create_task(announcer.run())
    try:
        yield announcer
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})


def permit(field: Field, name: str, verbs: list[str]) -> None:
    """Let the ServiceAccount `name` in garden do this with Events in default."""
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rules = [{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": verbs}]
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "garden"}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    field.put(f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
    field.put(f"{rbac}/rolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects})
    asked = {"group": "events.k8s.io", "resource": "events", "namespace": "default", "verb": verbs[-1]}
    spec = {"user": f"system:serviceaccount:garden:{name}", "resourceAttributes": asked}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    patience.until(lambda: field.plane.admin_request("POST", path, {"spec": spec})["status"]["allowed"])


def events(field: Field, uid: str) -> list[dict[str, Any]]:
    """Return the Events regarding this uid, in every namespace."""
    found: list[dict[str, Any]] = field.plane.admin_request("GET", "/apis/events.k8s.io/v1/events")["items"]
    return [one for one in found if one["regarding"].get("uid") == uid]


def time_of(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["eventTime"]).timestamp()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_state_change_is_an_event_on_the_registration(field: Field, admin: Cluster, uid: str) -> None:
    before = time.time()
    async with running(admin, "é" * 200) as announcer:
        announcer.announce(Announcement(Reason.LOWERED, "no proof for 60 s: " + "€" * 1000, warning=True), uid)
        await until(lambda: bool(events(field, uid)))
    (event,) = events(field, uid)
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"] == {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "name": NAME,
        "uid": uid,
    }
    assert (event["reason"], event["action"], event["type"]) == ("Lowered", "Lower", "Warning")
    assert event["reportingController"] == "seccomp-reconciler"
    assert event["reportingInstance"] == "é" * 64
    assert event["note"] == "no proof for 60 s: " + "€" * 335
    assert before - 1 <= time_of(event) <= time.time()
    # What `kubectl describe` reads.
    core = field.plane.admin_request("GET", f"/api/v1/events?fieldSelector=involvedObject.uid%3D{uid}")["items"]
    assert [one["message"] for one in core] == [event["note"]]


async def test_every_reason_is_accepted_with_and_without_an_object(field: Field, admin: Cluster, uid: str) -> None:
    async with running(admin) as announcer:
        for reason in Reason:
            announcer.announce(Announcement(reason, f"for {uid}"), uid)
            announcer.announce(Announcement(reason, f"for {uid}"))

        def found() -> list[str]:
            listed = field.plane.admin_request("GET", EVENTS)["items"]
            return sorted(one["reason"] for one in listed if one["note"] == f"for {uid}")

        await until(lambda: len(found()) == 2 * len(Reason))
    assert found() == sorted([*Reason, *Reason])
    assert announcer.dropped == 0


async def test_what_repeats_is_one_event_with_a_series(field: Field, admin: Cluster, uid: str) -> None:
    async with running(admin) as announcer:
        for _ in range(20):
            announcer.announce(Announcement(Reason.REPAIRED, "webhooks[0].failurePolicy, by argo"), uid)
        announcer.announce(Announcement(Reason.CONFLICT, "argo changes webhooks[0].failurePolicy"), uid)
        await until(lambda: any(one["reason"] == "Conflict" for one in events(field, uid)))
    repaired, conflict = sorted(events(field, uid), key=lambda one: str(one["reason"]), reverse=True)
    assert repaired["series"]["count"] == 2  # one patch a minute; the rest is counted for the next
    assert "series" not in conflict
    requests = [event for event in field.plane.audit_events() if event["user"].get("username") == uid]
    assert [event["verb"] for event in requests] == ["create", "patch", "create"]


async def test_an_event_that_somebody_deleted_is_made_anew(field: Field, admin: Cluster, uid: str) -> None:
    async with running(admin) as announcer:
        announcer.announce(Announcement(Reason.RAISED, "3 proofs over 30 s"), uid)
        await until(lambda: bool(events(field, uid)))
        (first,) = events(field, uid)
        field.plane.admin_request("DELETE", f"{EVENTS}/{first['metadata']['name']}")
        announcer.announce(Announcement(Reason.RAISED, "3 proofs over 30 s"), uid)
        await until(lambda: bool(events(field, uid)))
    assert [one["metadata"]["name"] for one in events(field, uid)] != [first["metadata"]["name"]]
    assert announcer.dropped == 0


async def test_without_the_right_it_is_said_once_and_nothing_else_happens(field: Field, uid: str) -> None:
    kubeconfig = field.plane.kubeconfig_for_service_account("garden", "announces-nothing")
    async with Cluster(kubeconfig=kubeconfig) as cluster:
        with capture_logs() as logs:
            async with running(cluster) as announcer:
                for number in range(5):
                    announcer.announce(Announcement(Reason.REGISTERED, str(number)), uid)
                await until(lambda: announcer.dropped == 5)
    (said,) = [line for line in logs if line["event"] == "event.refused"]
    assert said["log_level"] == "warning"
    assert "Missing rule of the Role in namespace default" in said["error"]
    assert '{apiGroups: ["events.k8s.io"], resources: [events], verbs: [create]}' in said["error"]
    assert events(field, uid) == []


async def test_without_the_right_to_patch_repetitions_are_still_one_event(field: Field, uid: str) -> None:
    name = "creates-events"
    kubeconfig = field.plane.kubeconfig_for_service_account("garden", name)
    permit(field, name, ["create"])
    async with Cluster(kubeconfig=kubeconfig) as cluster:
        with capture_logs() as logs:
            async with running(cluster) as announcer:
                for _ in range(5):
                    announcer.announce(Announcement(Reason.REPAIRED, "by argo"), uid)
                announcer.announce(Announcement(Reason.CONFLICT, "argo"), uid)
                await until(lambda: len(events(field, uid)) == 2)
    assert sorted(one["reason"] for one in events(field, uid)) == ["Conflict", "Repaired"]
    assert [line["log_level"] for line in logs if line["event"] == "event.refused"] == ["warning"]


async def test_who_does_not_lead_says_nothing(field: Field, admin: Cluster, uid: str) -> None:
    def refuse() -> None:
        raise NotLeadingError("another reconciler leads")

    admin.fence = refuse
    with capture_logs() as logs:
        async with running(admin) as announcer:
            announcer.announce(Announcement(Reason.RAISED, "3 proofs over 30 s"), uid)
            await until(lambda: announcer.dropped == 1)
    assert events(field, uid) == []
    assert [line["log_level"] for line in logs if line["event"] == "event.refused"] == ["debug"]


@pytest.fixture
async def proxy(field: Field) -> AsyncIterator[FaultProxy]:
    pair = field.plane.issue_serving_certificate()
    async with FaultProxy(upstream=field.plane.url, upstream_ca=field.plane.ca_file, certificate=pair) as found:
        yield found


@pytest.fixture
def behind(field: Field, proxy: FaultProxy) -> Path:
    """A kubeconfig through the proxy, whose bearer may create Events."""
    name = "announces"
    token = field.plane.token_for_service_account("garden", name)
    permit(field, name, ["create", "patch"])
    return field.plane.kubeconfig_with(server=proxy.url, token=token)


async def test_what_was_said_while_the_api_server_was_away_arrives_with_its_own_time(
    field: Field, proxy: FaultProxy, behind: Path, uid: str
) -> None:
    async with Cluster(kubeconfig=behind) as cluster, running(cluster) as announcer:
        with capture_logs() as logs:
            with proxy.fault(Fault.refuse_status(503)) as armed:
                announcer.announce(Announcement(Reason.INVALID_CONFIGURATION, "no YAML", warning=True), uid)
                announcer.announce(Announcement(Reason.RAISED, "3 proofs over 30 s"), uid)
                said = time.time()
                await armed.hit(4)
            await until(lambda: len(events(field, uid)) == 2)
    assert all(time_of(one) <= said + 0.1 for one in events(field, uid))
    assert [line["log_level"] for line in logs if line["event"] == "event.refused"] == ["debug"]
    assert announcer.dropped == 0


async def test_a_lost_answer_makes_no_second_event(field: Field, proxy: FaultProxy, behind: Path, uid: str) -> None:
    async with Cluster(kubeconfig=behind) as cluster, running(cluster) as announcer:
        with proxy.fault(Fault.lost_answer(times=1, match=Match(write=True))) as armed:
            announcer.announce(Announcement(Reason.RAISED, "3 proofs over 30 s"), uid)
            await armed.hit(1)
            announcer.announce(Announcement(Reason.LOWERED, "afterwards"), uid)
            await until(lambda: any(one["reason"] == "Lowered" for one in events(field, uid)))
    assert sorted(one["reason"] for one in events(field, uid)) == ["Lowered", "Raised"]
    assert announcer.dropped == 0


async def test_what_nobody_can_say_is_bounded_and_counted() -> None:
    announcer = Announcer(Cluster(), NAME, "x")
    for number in range(announcing._MOST_WAITING + 50):
        announcer.announce(Announcement(Reason.RAISED, str(number)))
    assert announcer.dropped == 50
    assert announcer._waiting[0].announcement.note == "50"  # the oldest are dropped
