"""Wars with other writers: few writes however long they last, one Event and one metric each, and calm when it stops."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from reconciler.controller.conflicts import Conflicts, Side
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.keeping import Keeper, Kept
from reconciler.controller.proof import Proof, Verdict
from reconciler.controller.reconcile import target_of
from reconciler.settings import Adaptive, FailurePolicy, ReconcilerConfiguration, Registration
from reconciler.settings import Conflicts as Settings
from tests.cluster.enforced import EVENTS, LEASE, NAME, History, House, Running, housed, policy_of
from tests.cluster.field import document
from tests.cluster.patience import until
from tests.seed import RUN
from tests.simulators import (
    CONTROL_PLANE,
    Argo,
    Enforcer,
    InTurn,
    Opposition,
    Pruner,
    Remediator,
    Restless,
    Writer,
    old_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.cluster import Cluster
    from reconciler.registration.identity import Manifest
    from tests.cluster.field import Field
    from tests.seed import Seed
    from tests.simulators import Object

    Change = Callable[[Object], None]
    Record = Callable[[str, object], None]

HOUR: Final = 3600.0
MOST_AN_HOUR: Final = 20
TIMEOUT, POLICY = "webhooks[0].timeoutSeconds", "webhooks[0].failurePolicy"
SINCE, REASON = (
    f"metadata.annotations[seccomp-reconciler.gardener.cloud/failure-policy-{one}]" for one in ("since", "reason")
)


# An hour, by arithmetic


@pytest.mark.parametrize("writes", [1, 2, 3])
@pytest.mark.parametrize("fields", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("comes_back_after", [0.01, 1.0, 60.0])
def test_by_default_no_hour_of_a_war_takes_more_than_twenty_writes(
    writes: int, fields: int, comes_back_after: float
) -> None:
    """The other side takes `fields` in turn; a repair takes up to two writes, and one more closes its window."""
    conflicts, now, turn = Conflicts(Settings()), 0.0, 0
    written: list[float] = []
    while now < 5 * HOUR:
        turn += 1
        sides = frozenset({Side("argocd-controller", f"field-{turn % fields}")})
        if now >= conflicts.next_repair(sides):
            conflicts.repaired(sides, now=now, writes=writes)
            written += [now] * writes
            now += comes_back_after
        else:
            now += max(comes_back_after, 1.0)
        conflicts.calmed(now=now)
    worst = max(sum(start <= at < start + HOUR for at in written) for start in written)
    assert worst <= MOST_AN_HOUR
    assert written[-1] > 4 * HOUR, "it is never given up"


# An hour, on the API server: the clock is ours, requests and objects are real


@dataclass
class Clock:
    """Both clocks of a pass; `now` counts from zero."""

    now: float = 0.0
    epoch: float = field(default_factory=time.time)

    def wall(self) -> float:
        return self.epoch + self.now

    def monotonic(self) -> float:
        return self.now


class Passes:
    """Passes of one process with the default settings of wars, one after the other."""

    def __init__(self, playing: Field, cluster: Cluster, clock: Clock, *, at: str, timeout_seconds: int = 10) -> None:
        policy = FailurePolicy.ADAPTIVE if at == "Fail" else FailurePolicy.IGNORE
        adaptive = Adaptive.model_validate({"proofs": 1, "soak": "0s", "floor": "0s"})
        registration = Registration(failure_policy=policy, timeout_seconds=timeout_seconds)
        self.settings = ReconcilerConfiguration(registration=registration, adaptive=adaptive)
        self._enforcement = Enforcement(self.settings, wall=clock.wall, monotonic=clock.monotonic)
        self._playing, self._cluster, self._clock = playing, cluster, clock
        self.keeper = Keeper(
            self.settings, cluster, self._enforcement, prove=_nothing, lint=_nothing, monotonic=clock.monotonic
        )
        self.is_wanted = True
        self.written: list[str] = []
        self.begun: list[Side] = []

    async def one(self) -> Kept:
        """Make one pass; a proof came just before."""
        self._enforcement.saw(Proof(Verdict.PROVED, ""))
        observed = await self._cluster.get(target_of(self.settings.registration))
        if self.is_wanted:
            kept = await self.keeper.keep(observed, self._bundle, annotations={}, last_renewal=None)
        else:
            kept = await self.keeper.remove(observed)
        self.written += [f"{action} {why}" for action, why in kept.written]
        self.begun += kept.wars
        self.keeper.conflicts.calmed(now=self._clock.now)
        return kept

    async def _bundle(self, _: Manifest | None) -> bytes | None:
        return self._playing.plane.ca_pem


async def _nothing() -> None:
    return


def _old_timeout(manifest: Object) -> None:
    manifest["webhooks"][0]["timeoutSeconds"] = 29


def _old_policy(manifest: Object) -> None:
    manifest["webhooks"][0]["failurePolicy"] = "Fail"


def _old_annotations(manifest: Object) -> None:
    manifest["metadata"]["annotations"].update(
        {name[len("metadata.annotations[") : -1]: "2020-01-01T00:00:00Z" for name in (SINCE, REASON)}
    )


def _all_old(manifest: Object) -> None:
    _old_timeout(manifest)
    _old_policy(manifest)
    entry = manifest["webhooks"][0]
    entry["clientConfig"]["caBundle"] = base64.b64encode(
        base64.b64decode(entry["clientConfig"]["caBundle"]) * 2
    ).decode()
    entry["matchConditions"].append({"name": "old", "expression": "true"})


def _applied(change: Change, *, prunes: bool = False) -> Callable[[Object], Writer]:
    return lambda standing: Argo(old_manifest(standing, change), prunes=prunes)


@dataclass(frozen=True, slots=True)
class Case:
    """Who opposes whom: what we stand at, the other writer, the fields that the war is about at least."""

    at: str
    writer: Callable[[Object], Writer]
    sides: tuple[tuple[str, str], ...] = ()
    is_wanted: bool = True


HOURS = {
    "enforcer": Case("Fail", lambda _: Enforcer()),
    "remediator": Case("Fail", lambda _: Remediator(), (("gardenlet", TIMEOUT), ("gardenlet", POLICY))),
    "remediator-that-wants-fail": Case(
        "Ignore", lambda _: Remediator(failure_policy="Fail", timeout_seconds=10), (("gardenlet", POLICY),)
    ),
    "argo": Case("Fail", _applied(_old_timeout), (("argocd-controller", TIMEOUT),)),
    "argo-with-an-old-policy": Case("Ignore", _applied(_old_policy), (("argocd-controller", POLICY),)),
    "argo-with-old-annotations": Case("Fail", _applied(_old_annotations), (("argocd-controller", SINCE),)),
    "argo-with-everything-old": Case("Ignore", _applied(_all_old), (("argocd-controller", TIMEOUT),)),
    "argo-that-prunes": Case("Fail", _applied(_all_old, prunes=True), (("argocd-controller", TIMEOUT),)),
    "pruner": Case("Fail", lambda _: Pruner(), (("unknown", "deleted"),)),
    "pruner-and-argo-in-turn": Case(
        "Ignore",
        lambda standing: InTurn(Pruner(), Argo(old_manifest(standing, _all_old))),
        (("unknown", "deleted"), ("argocd-controller", TIMEOUT)),
    ),
    "another-field-each-time": Case("Fail", lambda _: Restless()),
    "argo-with-the-gate-off": Case(
        "Ignore", _applied(_old_timeout), (("argocd-controller", "created"),), is_wanted=False
    ),
}


@pytest.mark.parametrize(
    ("name", "answers_after"),
    [*((name, 1.0) for name in HOURS), ("remediator", 12.0), ("argo-that-prunes", 12.0)],
)
async def test_an_hour_of_a_war_with_the_default_settings(
    field: Field, cluster: Cluster, name: str, answers_after: float, record_property: Record
) -> None:
    """Who takes his time leaves us that to look again and to close the window."""
    case, clock = HOURS[name], Clock()
    ours = Passes(field, cluster, clock, at=case.at)
    for _ in range(3):
        await ours.one()
        clock.now += 2
    standing = field.standing()
    assert standing is not None
    assert policy_of(standing) == case.at
    writer = case.writer(standing)
    if not case.is_wanted:
        ours.is_wanted = False
        await ours.one()
    ours.written.clear()
    began, before, opposed = clock.now, len(field.writes()), 0
    while clock.now < began + HOUR:
        assert len(ours.written) <= MOST_AN_HOUR, Counter(ours.written)
        opposed += writer.act(field.other)
        kept = await ours.one()
        if kept.written and answers_after > 2:
            clock.now += 2
            await ours.one()
        step = kept.due - clock.now if kept.held else answers_after if kept.written else 30.0
        clock.now += min(max(step, 0.01), 60.0)
    record_property("writes", len(ours.written))
    assert len(ours.written) == len(field.writes()) - before
    assert len(ours.written) <= MOST_AN_HOUR
    if name == "enforcer":
        assert (ours.written, opposed) == ([], 1)
        return
    assert len(ours.written) > 4, "it is never given up"
    assert opposed >= 5
    assert set(case.sides) <= {(side.manager, side.field) for side in ours.begun}
    assert {side.manager for side in ours.begun} == set(writer.manager.split())
    assert max(Counter(ours.begun).values()) == 1


async def test_an_hour_of_two_versions_of_ours(field: Field, cluster: Cluster) -> None:
    clock = Clock()
    versions = [Passes(field, cluster, clock, at="Ignore", timeout_seconds=seconds) for seconds in (10, 7)]
    while clock.now < HOUR:
        kept = [await one.one() for one in versions]
        held = [one.due for one in kept if one.held]
        clock.now += min(max(min(held) - clock.now, 0.01), 60.0) if held else 0.01
    assert sum(len(one.written) for one in versions) <= MOST_AN_HOUR
    assert [one.begun for one in versions] == [[Side("seccomp-reconciler", TIMEOUT)]] * 2


# On the cluster, by real processes and short clocks

# Three repairs at once, then after 1 s and after 2 s each; a loaded machine may be late by four.
SHORT: Final = {"repeats": 3, "initial": "1s", "maximum": "2s", "memory": "6s"}
# The next repair would come too late for any test.
LONG: Final = {"repeats": 3, "initial": "10m", "maximum": "10m", "memory": "20m"}
OBSERVED_SECONDS: Final = 5.0
# Of an opponent that looks every 0.2 s.
UNDAMPED_WRITES: Final = OBSERVED_SECONDS / 0.2


@pytest.fixture(scope="module")
def built(shared_seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(shared_seed, tmp_path_factory.mktemp("house")) as house:
        house.serve()
        yield house


@pytest.fixture
def house(built: House) -> Iterator[House]:
    built.clean()
    yield built
    built.clean()


def at_ignore(house: House, conflicts: object, **registration: Any) -> None:  # noqa: ANN401 - JSON
    house.configure(registration={"failurePolicy": "Ignore", **registration}, conflicts=conflicts)


def wars_of(running: Running) -> set[tuple[str, str]]:
    """Return manager and field of each war that /metrics shows."""
    port = running.log("run.listening")[0]["status_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    found = [line.partition("{")[2] for line in lines if line.startswith("seccomp_reconciler_conflict{")]
    labels = [dict(part.split("=", 1) for part in line.partition("}")[0].split(",")) for line in found]
    return {(one["manager"].strip('"'), one["field"].strip('"')) for one in labels}


def begun(running: Running, event: str = "conflict.begun") -> list[tuple[str, str]]:
    """Return manager and field of each war that the log tells of."""
    return [(one["manager"], one["field"]) for one in running.log(event)]


def notes(house: House, since: float) -> list[str]:
    """Return the notes of the Events about wars since then, one for each Event."""
    found = house.field.other.request("GET", EVENTS)["items"]
    return [
        one["note"]
        for one in found
        if one["reason"] == "Conflict"
        and one["regarding"]["name"] == NAME
        and datetime.fromisoformat(one["eventTime"]).timestamp() >= since
    ]


def registered(house: House, user: str = NAME) -> int:
    """Return how many writes to our registration the audit log holds of one of ours."""
    return sum(
        event["user"].get("username") == f"system:serviceaccount:garden:{user}"
        and event["verb"] in ("create", "patch", "delete")
        and (event.get("objectRef") or {}).get("resource") == "mutatingwebhookconfigurations"
        and event.get("responseStatus", {}).get("code", 500) < 300
        for event in house.field.plane.audit_events()
    )


def bare(field: str) -> str:
    """Return a field as the metric names it."""
    return field.replace("[0]", "")


def fought(house: House, running: Running, opposition: Opposition, sides: set[tuple[str, str]], since: float) -> int:
    """See a war through, from its beginning until it is calm; return the writes that it took while it was watched."""
    with opposition:
        until(lambda: sides <= set(begun(running)), told=running.words)
        before = registered(house)
        time.sleep(OBSERVED_SECONDS)
        writes = registered(house) - before
        until(lambda: {(manager, bare(field)) for manager, field in sides} <= wars_of(running), told=running.words)
    until(lambda: set(begun(running)) == set(begun(running, "conflict.calmed")), told=running.words)
    until(lambda: not wars_of(running), told=running.words)
    assert 1 <= writes < UNDAMPED_WRITES / 2
    # Each war was told of once, in the log and by an Event.
    assert max(Counter(begun(running)).values()) == 1
    told = until(lambda: found if len(found := notes(house, since)) >= len(begun(running)) else None)
    assert len(told) == len(begun(running))
    assert all(any(note.startswith(f"{manager} changes {field} back") for note in told) for manager, field in sides)
    return writes


def in_sync(house: House, *, timeout_seconds: int = 10) -> None:
    until(lambda: (found := house.standing()) and found["webhooks"][0]["timeoutSeconds"] == timeout_seconds)


def test_the_term_of_the_admissions_enforcer_costs_no_write(house: House) -> None:
    house.configure()
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        time.sleep(1.5)
        before = registered(house)
        with Opposition(house.seed, Enforcer(), every_seconds=0.2) as enforcer:
            until(lambda: running.log("registration.tolerated"), told=running.words)
            time.sleep(3)
            assert registered(house) == before
            # It is carried along where we must write for another reason, and need not be added again.
            house.field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
            in_sync(house)
            generation = house.standing()["metadata"]["generation"]
            assert CONTROL_PLANE in house.standing()["webhooks"][0]["namespaceSelector"]["matchExpressions"]
            time.sleep(1)
        assert house.standing()["metadata"]["generation"] == generation
        assert (enforcer.changes, wars_of(running)) == (1, set())
        assert registered(house) - before <= 2  # the repair, and the end of its window


def test_gardeners_remediator(house: House, record_property: Record) -> None:
    """It wants Ignore where we stand at Fail: each time that it has its way is a window."""
    house.configure(conflicts=SHORT)
    since = time.time()
    with house.running() as running, History(house.seed) as history:
        house.reaches("Fail", told=running.words)
        opposition = Opposition(house.seed, Remediator(), every_seconds=0.2)
        sides = {("gardenlet", TIMEOUT), ("gardenlet", POLICY)}
        record_property("writes", fought(house, running, opposition, sides, since))
        assert set(begun(running)) == sides
        in_sync(house)
        assert policy_of(house.standing()) == "Fail"
        until(lambda: not house.remembered().is_open)
        windows = house.remembered().windows
        raised = next(number for number, sight in enumerate(history.sights) if sight.policy == "Fail")
        lowered = [sight.at for sight in history.sights[raised:] if sight.policy == "Ignore"]
        assert len(lowered) > 3
        assert all(any(one.start <= at <= (one.end or at) for one in windows) for at in lowered)


def test_a_gitops_controller_with_an_old_manifest_that_prunes(house: House, record_property: Record) -> None:
    at_ignore(house, SHORT)
    since = time.time()
    with house.running() as running:
        until(lambda: house.field.standing() is not None, told=running.words)
        writer = Argo(old_manifest(house.standing(), _old_timeout), prunes=True)
        opposition = Opposition(house.seed, writer, every_seconds=0.2)
        writes = fought(house, running, opposition, {("argocd-controller", TIMEOUT)}, since)
        record_property("writes", writes)
        owners = ("argocd-controller", "metadata.ownerReferences")  # in none of its manifests
        assert set(begun(running)) <= {("argocd-controller", TIMEOUT), owners, ("unknown", "deleted")}
        in_sync(house)


def test_a_gitops_controller_that_creates_what_shall_not_stand(house: House, record_property: Record) -> None:
    at_ignore(house, SHORT)
    since = time.time()
    with house.running() as running:
        until(lambda: house.field.standing() is not None, told=running.words)
        writer = Argo(old_manifest(house.standing(), _old_timeout))
        house.seed.configure(document(gate="false"))
        until(lambda: house.field.standing() is None, told=running.words)
        opposition = Opposition(house.seed, writer, every_seconds=0.2)
        record_property("writes", fought(house, running, opposition, {("argocd-controller", "created")}, since))
        until(lambda: house.field.standing() is None, told=running.words)


@contextmanager
def another_version(house: House) -> Iterator[Running]:
    """Start a second sidecar: other settings, another Lease."""
    lease = "another-version"
    role = "/apis/rbac.authorization.k8s.io/v1/namespaces/garden"
    rules = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "patch"]}]
    house.field.put(f"{role}/roles", {"metadata": {"name": lease}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": lease}
    subjects = [{"kind": "ServiceAccount", "name": NAME, "namespace": "garden"}]
    house.field.put(f"{role}/rolebindings", {"metadata": {"name": lease}, "roleRef": reference, "subjects": subjects})
    ours = house.settings.read_text()
    other = json.loads(ours)
    other["registration"]["timeoutSeconds"] = 7
    other["leaderElection"]["name"] = lease
    settings = house.settings.with_name("another.yaml")
    settings.write_text(json.dumps(other))
    argv = [*RUN, "--config", str(settings), "--gardenlet-config", str(house.seed.gardenlet)]
    with house.seed.process(argv) as process:
        yield Running(process)
    house.field.other.request("DELETE", LEASE.replace(NAME, lease))


def test_a_second_sidecar_of_another_version(house: House, record_property: Record) -> None:
    """Both are ours, and neither knows of the other but by what stands."""
    at_ignore(house, SHORT)
    since = time.time()
    with house.running() as running:
        in_sync(house)
        with another_version(house) as other:
            both = (running, other)
            until(lambda: all(begun(one) for one in both), told=lambda: running.words() + other.words())
            before = registered(house)
            time.sleep(OBSERVED_SECONDS)
            writes = registered(house) - before
            assert [wars_of(one) for one in both] == [{(NAME, bare(TIMEOUT))}] * 2
        record_property("writes", writes)
        assert 1 <= writes < UNDAMPED_WRITES
        until(lambda: begun(running, "conflict.calmed"), told=running.words)
        assert begun(running) == [(NAME, TIMEOUT)]
        assert wars_of(running) == set()
        assert len(notes(house, since)) == 2  # of each of them one
        in_sync(house)


def test_a_change_of_ours_is_not_kept_waiting_by_a_war(house: House) -> None:
    at_ignore(house, LONG)
    with house.running() as running, Opposition(house.seed, Remediator(), every_seconds=0.2):
        until(lambda: begun(running) and running.log("registration.held"), told=running.words)
        # The gate.
        house.seed.configure(document(gate="false"))
        until(lambda: running.log("registration.removed"), told=running.words)
        assert house.field.standing() is None
        house.seed.configure(document(gate="true"))
        until(lambda: len(running.log("registration.registered")) == 2, told=running.words)
        until(lambda: running.log("registration.held"), told=running.words)
        # The settings.
        at_ignore(house, LONG, timeoutSeconds=5)
        until(lambda: any(_desires(entry, TIMEOUT, "5") for entry in running.log("registration.updated")))
        # The trust.
        bundle = house.standing()["webhooks"][0]["clientConfig"]["caBundle"]
        until(lambda: len(begun(running)) == 2, told=running.words)
        assert house.command("certificates", "rotate").returncode == 0
        until(lambda: house.standing()["webhooks"][0]["clientConfig"]["caBundle"] != bundle, told=running.words)


def _desires(entry: dict[str, Any], path: str, value: str) -> bool:
    return any((one["path"], one["desired"]) == (path, value) for one in entry["differences"])
