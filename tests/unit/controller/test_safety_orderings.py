"""The six orderings that safety depends on: docs/architecture.md says why, and names the test that holds each.

The product runs in this process against an API server over HTTP (seedapi.py). What is asserted is what arrives there,
so these tests hold for any code behind it.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.registration import memory
from tests.unit.controller.seedapi import (
    ANNOTATION,
    AUTHORITY,
    CANARIES,
    GARDENLET,
    LEASE,
    LEASES,
    OWNER,
    REGISTRATION,
    SECRETS,
    SERVING,
    SeedApi,
    gardenlet,
    lease,
    recorded_state,
    registration,
    running,
    secret,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from reconciler.registration.identity import Manifest
    from tests.unit.controller.seedapi import Request

# No object has this resourceVersion: an apply that carries it creates what is absent, and is refused elsewhere.
CREATES_ONLY = (None, "1")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[SeedApi]:
    """A seed whose gardenlet asks for the profile, and that has nothing else."""
    async with SeedApi(tmp_path) as api:
        api.put(GARDENLET, gardenlet(gate=True))
        api.put(OWNER, {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"})
        yield api
        bound = [one for one in api.writes() if one.method != "POST" and one.precondition != CREATES_ONLY]
        assert [one for one in bound if None in one.precondition] == [], "a write without uid or resourceVersion"


def _is_read_of(path: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "GET" and request.path == path


def _failure_policy(write: Request) -> str | None:
    body = write.body if isinstance(write.body, dict) else {}
    found: str | None = next((one.get("failurePolicy") for one in body.get("webhooks", ())), None)
    return found


def _windows(manifest: Manifest) -> list[dict[str, str | None]]:
    text = manifest["metadata"].get("annotations", {}).get(f"{ANNOTATION}fail-open-windows", "[]")
    found: list[dict[str, str | None]] = json.loads(text)
    return found


def _seconds(text: str | None) -> float:
    assert text is not None
    return datetime.fromisoformat(text).timestamp()


# 1


@pytest.mark.parametrize("readable", [True, False], ids=["readable-secrets", "unreadable-secrets"])
async def test_fail_is_lowered_before_the_secrets_are_touched(api: SeedApi, *, readable: bool) -> None:
    """At Fail without a path, every moment until Ignore refuses pods; the Secrets may take long, or not be readable."""
    api.put(REGISTRATION, registration("Fail"))
    api.put(AUTHORITY, secret("Opaque"))
    api.is_proving = False
    seen: list[str | None] = []
    api.listen(lambda request: seen.append(api.standing()) if request.path in (AUTHORITY, SERVING) else None)
    if not readable:
        api.refuse(lambda request: request.path == AUTHORITY, most=float("inf"))
    async with running(api):
        await until(lambda: len(seen) > 1)
    assert set(seen) == {"Ignore"}
    assert _failure_policy(api.writes(REGISTRATION)[0]) == "Ignore"


# 2


def _stale_timeout(manifest: Any) -> None:  # noqa: ANN401 - JSON
    manifest["webhooks"][0]["timeoutSeconds"] = 3


def _second_entry(manifest: Any) -> None:  # noqa: ANN401 - JSON
    manifest["webhooks"].append({**manifest["webhooks"][0], "name": "second.example.com"})


def _label(manifest: Any) -> None:  # noqa: ANN401 - JSON
    manifest["metadata"].setdefault("labels", {})["somebody"] = str(time.monotonic_ns())


def _drifted(api: SeedApi) -> None:
    api.put(REGISTRATION, registration("Ignore"))
    api.edit(REGISTRATION, _stale_timeout)


def _with_a_second_entry(api: SeedApi) -> None:
    api.put(REGISTRATION, registration("Ignore"))
    api.edit(REGISTRATION, _second_entry)


def _switched_off(api: SeedApi) -> None:
    api.put(REGISTRATION, registration("Ignore"))
    api.put(GARDENLET, gardenlet(gate=False))


def _without_a_path(api: SeedApi) -> None:
    api.put(REGISTRATION, registration("Fail"))
    api.is_proving = False


@pytest.mark.parametrize(
    ("prepare", "path"),
    [
        (_drifted, REGISTRATION),
        (_with_a_second_entry, REGISTRATION),
        (_switched_off, REGISTRATION),
        (_without_a_path, REGISTRATION),
        (lambda api: api.put(AUTHORITY, secret("Opaque")), AUTHORITY),
        (lambda api: api.put(SERVING, secret("kubernetes.io/tls")), SERVING),
        (lambda api: api.put(LEASE, lease("")), LEASE),
    ],
    ids=["repair", "replace", "delete", "lower", "authority-secret", "serving-secret", "lease"],
)
async def test_each_write_carries_uid_and_resource_version_of_what_it_was_planned_from(
    api: SeedApi, prepare: Callable[[SeedApi], None], path: str
) -> None:
    """Another writer changes the object after it was read: the write is refused, and planned anew from a new read."""
    prepare(api)
    read = api.hold(_is_read_of(path), most=1)
    async with running(api):
        await read.arrives()
        planned_from = api.objects[path]["metadata"]
        api.edit(path, _label)
        newer = api.objects[path]["metadata"]
        read.open()
        await until(lambda: any(one.status == 200 for one in api.writes(path)))
    first, *later = api.writes(path)
    assert first.precondition == (planned_from["uid"], planned_from["resourceVersion"])
    assert first.status == 409
    assert later[0].precondition == (newer["uid"], newer["resourceVersion"])


async def test_a_creation_overwrites_nothing_that_appeared_since_the_read(api: SeedApi) -> None:
    read = api.hold(_is_read_of(REGISTRATION), most=1)
    async with running(api):
        await read.arrives()
        theirs = registration("Fail")
        api.put(REGISTRATION, theirs)
        read.open()
        await until(lambda: bool(api.writes(REGISTRATION)))
        first = api.writes(REGISTRATION)[0]
        await until(lambda: first.status != 0)
    assert (first.precondition, first.status) == (CREATES_ONLY, 409)


# 3


async def test_a_probe_that_ends_while_something_else_is_awaited_is_not_lost(api: SeedApi) -> None:
    """It ends while a write is awaited that was planned without it; no other probe ends after it."""
    probe = api.hold(lambda request: request.path == CANARIES, most=2)  # the canary and its control
    api.hold(lambda request: request.path == CANARIES)
    async with running(api) as product:
        await probe.arrives(2)
        await product.rests()
        repair = api.hold(lambda request: request.is_write and request.path == REGISTRATION, most=1)
        api.edit(REGISTRATION, _stale_timeout)
        await repair.arrives()
        probe.open()
        await until(lambda: product.probes == 1)
        assert _failure_policy(repair.arrived[0]) == "Ignore"
        repair.open()
        await until(lambda: api.standing() == "Fail" or product.probes > 1)
        assert (api.standing(), product.probes) == ("Fail", 1)


# 4


@pytest.fixture
def boot_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return how to have the machine sleep: of the monotonic clocks, only the one that counts sleep goes on."""
    if sys.platform != "linux":
        pytest.skip("only Linux has a monotonic clock that counts sleep")
    real, slept = time.clock_gettime, [0.0]
    monkeypatch.setattr(
        time, "clock_gettime", lambda which: real(which) + (slept[0] if which == time.CLOCK_BOOTTIME else 0.0)
    )

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    return sleep


@pytest.mark.parametrize("leads", [False, True], ids=["deleted-before-it-leads", "deleted-before-its-first-pass"])
async def test_a_new_leader_starts_from_the_lease_as_last_read(
    api: SeedApi, boot_clock: Callable[[float], None], *, leads: bool
) -> None:
    """The registration is gone: only the Lease tells that it was at Fail, so that the time without it is recorded."""
    before = recorded_state("Fail", flaps=2)
    api.put(LEASE, lease("" if leads else "another", **{memory.MEMORY_ANNOTATION: memory.to_text(before)}))
    first_pass = api.hold(_is_read_of(REGISTRATION), most=1)
    async with running(api):
        if leads:
            await first_pass.arrives()
        else:
            await until(lambda: len([one for one in api.requests if one.path == LEASE and one.status == 200]) > 1)
        api.remove(LEASE)
        deleted = len(api.requests)
        await until(lambda: any(one.path == LEASE and one.status == 404 for one in api.requests[deleted:]))
        boot_clock(0.0 if leads else 60.0)
        await until(lambda: any(one.path == LEASES and one.status == 201 for one in api.requests[deleted:]))
        await first_pass.arrives()
        renewals = len(api.writes(LEASE))
        await until(lambda: len(api.writes(LEASE)) > renewals)  # the new Lease is known
        first_pass.open()
        await until(lambda: api.standing() is not None)
    created = api.writes(REGISTRATION)[0].body
    assert created["metadata"]["annotations"][f"{ANNOTATION}failure-policy-flaps"] == "2"
    assert _seconds(_windows(created)[0]["start"]) <= before.since


async def test_a_lead_that_is_lost_before_the_first_pass_loses_nothing_that_was_recorded(
    api: SeedApi, boot_clock: Callable[[float], None]
) -> None:
    """The next Lease that it reads is the one that it created itself, which tells nothing."""
    before = recorded_state("Fail", flaps=2)
    api.put(LEASE, lease("another", **{memory.MEMORY_ANNOTATION: memory.to_text(before)}))
    first_pass = api.hold(_is_read_of(REGISTRATION), most=1)
    async with running(api) as product:
        await until(lambda: len([one for one in api.requests if one.path == LEASE and one.status == 200]) > 1)
        api.remove(LEASE)
        deleted = len(api.requests)
        await until(lambda: any(one.path == LEASE and one.status == 404 for one in api.requests[deleted:]))
        boot_clock(60.0)
        await first_pass.arrives()
        renewal = api.hold(lambda request: request.path.startswith(LEASES))
        await renewal.arrives()
        passes = product.passes
        boot_clock(60.0)
        first_pass.open()
        await until(lambda: product.passes > passes)
        api.refuse(lambda request: request.is_write and request.path == LEASE)  # so that it reads the Lease again
        renewal.open()
        await until(lambda: api.standing() is not None)
    created = api.writes(REGISTRATION)[0].body
    assert created["metadata"]["annotations"][f"{ANNOTATION}failure-policy-flaps"] == "2"
    assert _seconds(_windows(created)[0]["start"]) <= before.since


# 5


def _is_refused(api: SeedApi) -> None:
    api.refuse(lambda request: _failure_policy(request) == "Fail")


def _is_undone(api: SeedApi) -> None:
    """Have another writer set Ignore again before the write of Fail is answered."""
    answer = api.hold(lambda request: _failure_policy(request) == "Fail", most=1)

    async def undo() -> None:
        await answer.arrives()
        api.edit(REGISTRATION, lambda manifest: manifest["webhooks"][0].update(failurePolicy="Ignore"))
        answer.open()

    api.meanwhile(undo())


@pytest.mark.parametrize(
    ("happens", "answers"),
    [(lambda _: None, [200]), (_is_refused, [500, 200]), (_is_undone, [200, 200])],
    ids=["accepted", "refused-once", "undone-once"],
)
async def test_a_window_closes_when_fail_is_read_back(
    api: SeedApi, happens: Callable[[SeedApi], None], answers: list[int]
) -> None:
    """Closed by the write of Fail, it would end too soon, and also for a Fail that never came or did not last."""
    api.put(REGISTRATION, registration("Ignore", windows=((3600.0, None),)))
    happens(api)
    async with running(api):
        await until(lambda: api.standing() == "Fail" and _windows(api.objects[REGISTRATION])[-1]["end"] is not None)
    closing = [one for one in api.writes(REGISTRATION) if _windows(one.body)[-1]["end"] is not None]
    raising = [one for one in api.writes(REGISTRATION) if _failure_policy(one) == "Fail" and one not in closing]
    assert [one.status for one in raising] == answers
    for write in closing:
        planned_from = api.versions[write.precondition[1] or ""]
        assert planned_from["webhooks"][0]["failurePolicy"] == "Fail"
        assert _seconds(_windows(write.body)[-1]["end"]) >= raising[-1].arrived


# 6


@pytest.mark.parametrize(
    ("prepare", "last_read", "write"),
    [
        (lambda _: None, OWNER, REGISTRATION),
        (_drifted, OWNER, REGISTRATION),
        (_switched_off, REGISTRATION, REGISTRATION),
        (lambda _: None, SERVING, SECRETS),
    ],
    ids=["creation", "repair", "removal", "secret"],
)
async def test_the_lease_deadline_is_checked_right_before_each_write(
    api: SeedApi,
    boot_clock: Callable[[float], None],
    prepare: Callable[[SeedApi], None],
    last_read: str,
    write: str,
) -> None:
    """The machine sleeps between the last read and the write: another process may lead by then."""
    prepare(api)
    read = api.hold(_is_read_of(last_read), most=1)
    async with running(api) as product:
        await read.arrives()
        renewal = api.hold(lambda request: request.path.startswith(LEASES))
        await renewal.arrives()
        before, passes = len(api.writes(write)), product.passes
        boot_clock(60.0)
        read.open()
        await until(lambda: product.passes > passes or len(api.writes(write)) > before)
        assert api.writes(write)[before:] == [], "written after the deadline of the Lease"
        renewal.open()
        await until(lambda: len(api.writes(write)) > before)
