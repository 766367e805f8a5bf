"""config/rbac.yaml is enough, and each of its rules is needed: without it the documented error comes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import yaml

from reconciler.backoff import Backoff
from reconciler.certificates.rotation import Facts
from reconciler.cluster import CONFIG_MAPS, DEPLOYMENTS, SECRETS, Cluster, Target
from reconciler.controller import linting, trust
from reconciler.controller.reconcile import Result, reconcile, target_of
from reconciler.controller.running import Options, run
from reconciler.errors import ForbiddenError
from reconciler.registration import memory
from reconciler.registration.desired import render
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import API_VERSION, KIND, ReconcilerConfiguration, Registration, SelfSigned
from reconciler.sources import FileSource
from tests.backend import ADAPTIVE, ELECTION
from tests.cluster.answered import remove_secrets
from tests.cluster.field import stand
from tests.seed import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.cluster.field import Field

REGISTERED = Registration()
DOCUMENTS = {
    (item["kind"], item["metadata"]["name"]): item
    for item in yaml.safe_load_all((ROOT / "config" / "rbac.yaml").read_text())
}
CLUSTER_RULES: list[dict[str, Any]] = DOCUMENTS["ClusterRole", "seccomp-reconciler"]["rules"]
ROLE_RULES: list[dict[str, Any]] = DOCUMENTS["Role", "seccomp-reconciler"]["rules"]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def without(verb: str) -> list[dict[str, Any]]:
    """Return the ClusterRole's rules without one verb."""
    rules = copy.deepcopy(CLUSTER_RULES)
    for rule in rules:
        rule["verbs"] = [item for item in rule["verbs"] if item != verb]
    return [rule for rule in rules if rule["verbs"]]


@pytest.fixture
async def limited(field: Field, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A connection of an identity whose ClusterRole lacks the verb that the test names."""
    name = f"without-{request.param}"
    kubeconfig: Path = field.plane.kubeconfig_for_service_account("garden", name)
    field.put(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": without(request.param)})
    field.put(
        f"{RBAC}/clusterrolebindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "garden"}],
        },
    )
    async with Cluster(kubeconfig=kubeconfig) as connection:
        yield connection


@pytest.mark.parametrize("limited", ["get"], indirect=True)
async def test_without_get_nothing_is_done(field: Field, limited: Cluster) -> None:
    with pytest.raises(ForbiddenError, match=r"resourceNames: \[seccomp-reconciler\], verbs: \[get\]"):
        await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)
    assert field.standing() is None


@pytest.mark.parametrize("limited", ["create"], indirect=True)
async def test_without_create_an_absent_object_stays_absent(field: Field, limited: Cluster, cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError, match=r"resources: \[mutatingwebhookconfigurations\], verbs: \[create\]"):
        await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)
    await stand(cluster, REGISTERED, ca_bundle=field.plane.ca_pem)
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
    assert (await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)).result is Result.UPDATED


@pytest.mark.parametrize("limited", ["patch"], indirect=True)
async def test_without_patch_drift_stays(field: Field, limited: Cluster, cluster: Cluster) -> None:
    await stand(cluster, REGISTERED, ca_bundle=field.plane.ca_pem)
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
    with pytest.raises(ForbiddenError, match=r"resourceNames: \[seccomp-reconciler\], verbs: \[patch\]"):
        await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)


@pytest.mark.parametrize("limited", ["delete"], indirect=True)
async def test_without_delete_it_cannot_be_removed(field: Field, limited: Cluster, cluster: Cluster) -> None:
    await stand(cluster, REGISTERED, ca_bundle=field.plane.ca_pem)
    with pytest.raises(ForbiddenError, match=r"resourceNames: \[seccomp-reconciler\], verbs: \[delete\]"):
        await stand(limited, REGISTERED, ca_bundle=None)
    assert field.standing() is not None


@pytest.mark.parametrize(("limited", "verb"), [("list", "list"), ("watch", "watch")], indirect=["limited"])
async def test_without_list_or_watch_following_says_so(limited: Cluster, verb: str) -> None:
    async for state in limited.follow(target_of(REGISTERED)):
        if state is None:
            continue  # the list was allowed, the watch is next
        assert isinstance(state, ForbiddenError)
        assert f"verbs: [{verb}]" in str(state)
        return


@pytest.mark.parametrize("resource", [SECRETS, CONFIG_MAPS, DEPLOYMENTS], ids=lambda resource: resource.plural)
@pytest.mark.parametrize("limited", ["nothing"], indirect=True)
async def test_without_the_role_sources_in_the_cluster_are_forbidden(limited: Cluster, resource: Any) -> None:  # noqa: ANN401 - a Resource
    with pytest.raises(ForbiddenError, match=rf"Role in namespace garden.*resources: \[{resource.plural}\]"):
        await limited.get(Target(resource, "any", "garden"))


@pytest.fixture
async def without_secrets(field: Field, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A connection of an identity whose Role lacks the verb on Secrets that the test names."""
    name = f"without-secrets-{request.param}"
    kubeconfig = field.plane.kubeconfig_for_service_account("garden", name)
    rules = copy.deepcopy(ROLE_RULES)
    for rule in rules:
        if rule["resources"] == ["secrets"]:
            rule["verbs"] = [item for item in rule["verbs"] if item != request.param]
    namespaced = f"{RBAC}/namespaces/garden"
    field.put(f"{namespaced}/roles", {"metadata": {"name": name}, "rules": [rule for rule in rules if rule["verbs"]]})
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "garden"}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    field.put(f"{namespaced}/rolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects})
    async with Cluster(kubeconfig=kubeconfig) as connection:
        yield connection


@pytest.mark.parametrize(
    ("without_secrets", "verb"), [(verb, verb) for verb in ("get", "create", "patch")], indirect=["without_secrets"]
)
async def test_without_a_right_to_the_secrets_no_certificate_is_issued(
    field: Field, without_secrets: Cluster, cluster: Cluster, verb: str
) -> None:
    own = SelfSigned()
    policy = trust.policy_of(own, REGISTERED.backend)
    remove_secrets(field)
    if verb == "patch":
        await trust.ensure(cluster, own, policy, Facts(time.time()))
        field.put(
            "/api/v1/namespaces/garden/secrets", {"metadata": {"name": own.serving_secret}, "data": {"ca.crt": ""}}
        )
    with pytest.raises(ForbiddenError, match=rf"Role in namespace garden.*resources: \[secrets\].*verbs: \[{verb}\]"):
        await trust.ensure(without_secrets, own, policy, Facts(time.time()))
    remove_secrets(field)


async def test_another_secret_is_out_of_reach(cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError):
        await cluster.get(Target(SECRETS, "another", "garden"))


async def test_another_object_is_out_of_reach(cluster: Cluster) -> None:
    other = target_of(Registration(name="another"))
    with pytest.raises(ForbiddenError):
        await cluster.get(other)


def test_the_command_ends_with_77(field: Field, limited_kubeconfig: Path) -> None:
    done = field.seed.command("reconcile", *field.seed.inputs, "--kubeconfig", str(limited_kubeconfig))
    assert done.returncode == 77
    assert "config/rbac.yaml" in done.stderr


@pytest.fixture
def limited_kubeconfig(field: Field) -> Path:
    return field.plane.kubeconfig_for_service_account("garden", "without-any-right")


# Rules of `run`: without them it goes on and says what it cannot do; without the Lease's it writes nothing.

MANIFESTS = [*DOCUMENTS.values(), *yaml.safe_load_all((ROOT / "config" / "canary.yaml").read_text())]
TWIN = ("mutatingwebhookconfigurations", "gardener-resource-manager")
PATIENCE_SECONDS = 30.0


def lacking(field: Field, resource: str, verb: str, name: str | None = None) -> Path:
    """Return the kubeconfig of an identity with every rule of ours but this verb on this resource (of this name)."""
    account = f"lacks-{verb}-{resource}" + ("-of-the-twin" if name else "")
    kubeconfig = field.plane.kubeconfig_for_service_account("garden", account)
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": "garden"}]
    found = 0
    for manifest in MANIFESTS:
        if (kind := manifest["kind"]) not in ("ClusterRole", "Role"):
            continue
        rules = copy.deepcopy(manifest["rules"])
        for rule in rules:
            if resource in rule["resources"] and verb in rule["verbs"] and (not name or name in rule["resourceNames"]):
                rule["verbs"].remove(verb)
                found += 1
        namespace = manifest["metadata"].get("namespace")
        where = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        kept = [rule for rule in rules if rule["verbs"]]
        field.put(f"{where}/{kind.lower()}s", {"metadata": {"name": account}, "rules": kept})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": account}
        binding = {"metadata": {"name": account}, "roleRef": reference, "subjects": subjects}
        field.put(f"{where}/{kind.lower()}bindings", binding)
    assert found == 1, "a rule that is not in the files proves nothing"
    return kubeconfig


@asynccontextmanager
async def running(field: Field, kubeconfig: Path, **registration: Any) -> AsyncIterator[list[Any]]:  # noqa: ANN401 - JSON
    """Run the loop as that identity, with short clocks; yields its log. It must still be running at the end."""
    settings = field.seed.directory / "least.yaml"
    url = {"url": "https://127.0.0.1:9/webhooks/seccomp-profile"}
    asked = {"ca": {"file": str(field.seed.ca)}, "backend": url, **registration}
    content = {"registration": asked, "proof": {"period": "1s"}, "adaptive": ADAPTIVE, "leaderElection": ELECTION}
    header = {"apiVersion": API_VERSION, "kind": KIND, "gardenletConfiguration": {"file": str(field.seed.gardenlet)}}
    settings.write_text(json.dumps({**header, **content}))
    wishes = Options(
        lambda _: Cluster(kubeconfig=kubeconfig, backoff=Backoff(0.05, 0.2)), lambda read: read, "127.0.0.1", 0
    )
    with structlog.testing.capture_logs() as log:
        task = asyncio.create_task(run(FileSource(settings, most_bytes=1 << 20), wishes))
        try:
            yield log
            assert not task.done(), "it ended by itself"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(fact: Callable[[], object], log: list[Any]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(fact):
        assert time.monotonic() < end, log
        await asyncio.sleep(0.05)


def said(log: list[Any], event: str, rule: str) -> bool:
    """Return whether that event named the missing rule."""
    return any(entry["event"] == event and rule in entry.get("error", "") for entry in log)


@pytest.fixture
def lease(field: Field) -> Iterator[str]:
    """The Lease's path; there is none before and after."""
    path = "/apis/coordination.k8s.io/v1/namespaces/garden/leases/seccomp-reconciler"
    if field.other.request("GET", path) is not None:
        field.other.request("DELETE", path)
    yield path
    if field.other.request("GET", path) is not None:
        field.other.request("DELETE", path)


@pytest.mark.parametrize("verb", ["get", "create", "patch"])
async def test_without_a_right_to_the_lease_run_writes_nothing_and_names_the_rule(
    field: Field, lease: str, verb: str
) -> None:
    if verb == "patch":
        manifest = {"metadata": {"name": "seccomp-reconciler"}, "spec": {"holderIdentity": ""}}
        field.other.request("POST", lease.rpartition("/")[0], manifest)
    kubeconfig = lacking(field, "leases", verb)
    async with running(field, kubeconfig) as log:
        names = "" if verb == "create" else ", resourceNames: [seccomp-reconciler]"
        rule = f'{{apiGroups: ["coordination.k8s.io"], resources: [leases]{names}, verbs: [{verb}]}}'
        await until(lambda: said(log, "leadership.failed", rule), log)
        await asyncio.sleep(1.0)
        assert [entry for entry in log if entry["event"] in ("leadership.acquired", "registration.registered")] == []
        assert [entry["log_level"] for entry in log if entry["event"] == "leadership.failed"] == ["error"]
    assert field.standing() is None
    account = f"system:serviceaccount:garden:lacks-{verb}-leases"
    writes = [
        event
        for event in field.plane.audit_events()
        if event.get("user", {}).get("username") == account and event["verb"] in ("create", "patch", "update", "delete")
    ]
    assert {event["objectRef"]["resource"] for event in writes} <= {"leases"}


async def test_without_any_right_to_the_lease_it_still_works_without_an_election(field: Field, lease: str) -> None:
    kubeconfig = lacking(field, "leases", "get")
    assert field.other.request("GET", lease) is None
    done = await asyncio.to_thread(field.seed.command, "reconcile", *field.seed.inputs, "--kubeconfig", str(kubeconfig))
    assert done.returncode == 0, done.stderr
    assert "verbs: [get]" in done.stderr
    assert done.stdout == "registered mutatingwebhookconfiguration/seccomp-reconciler\n"


@pytest.mark.parametrize("verb", ["create", "patch"])
async def test_without_a_right_to_events_everything_else_goes_on(field: Field, lease: str, verb: str) -> None:
    kubeconfig = lacking(field, "events", verb)
    async with running(field, kubeconfig) as log:
        await until(field.standing, log)
        if verb == "create":
            rule = '{apiGroups: ["events.k8s.io"], resources: [events], verbs: [create]}'
            await until(lambda: said(log, "event.refused", rule), log)
        await asyncio.to_thread(field.patch, ("replace", "/webhooks/0/timeoutSeconds", 3))
        await until(lambda: field.webhook()["timeoutSeconds"] == 10, log)
        refused = [entry["log_level"] for entry in log if entry["event"] == "event.refused"]
        assert refused == (["warning"] if verb == "create" else [])
        assert [entry for entry in log if entry["event"] == "pass.failed"] == []
    assert field.other.request("GET", lease) is not None


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_without_a_right_to_endpoints_it_registers_and_names_the_rule(
    field: Field, lease: str, verb: str
) -> None:
    kubeconfig = lacking(field, "endpointslices", verb)
    async with running(field, kubeconfig, backend={"service": {}}) as log:
        await until(field.standing, log)
        rule = f'{{apiGroups: ["discovery.k8s.io"], resources: [endpointslices], verbs: [{verb}]}}'
        await until(lambda: said(log, "watch.failed", rule), log)
        assert [entry for entry in log if entry["event"] == "pass.failed"] == []
    assert field.other.request("GET", lease) is not None


@pytest.mark.parametrize("verb", ["get", "list", "watch"])
async def test_without_a_right_to_the_twin_ours_stands_all_the_same(field: Field, lease: str, verb: str) -> None:
    kubeconfig = lacking(field, TWIN[0], verb, TWIN[1])
    async with running(field, kubeconfig) as log:
        await until(field.standing, log)
        if verb != "get":
            rule = f"resourceNames: [gardener-resource-manager], verbs: [{verb}]"
            await until(lambda: said(log, "watch.failed", rule), log)
        assert [entry for entry in log if entry["event"] == "pass.failed"] == []
    done = await asyncio.to_thread(
        field.seed.command, "status", "-o", "json", *field.seed.inputs, "--kubeconfig", str(kubeconfig)
    )
    condition = next(one for one in json.loads(done.stdout)["conditions"] if one["type"] == "NoTwin")
    assert condition["status"] == ("Unknown" if verb == "get" else "True")
    assert field.other.request("GET", lease) is not None


@pytest.mark.parametrize(("resource", "verb"), [("namespaces", "list"), ("pods", "list")])
async def test_without_a_right_to_list_pods_nobody_can_tell_who_came_through(
    field: Field, lease: str, cluster: Cluster, resource: str, verb: str
) -> None:
    window = Window(time.time() - 60, None, "for a test")
    remembered = memory.annotations(Memory(State.IGNORE, time.time() - 60, "for a test", windows=(window,)))
    desired = render(REGISTERED, ca_bundle=field.plane.ca_pem, annotations=remembered)
    await reconcile(cluster, target_of(REGISTERED), desired=desired, observed=None)
    kubeconfig = lacking(field, resource, verb)
    async with running(field, kubeconfig) as log:
        rule = f'{{apiGroups: [""], resources: [{resource}], verbs: [{verb}]}}'
        await until(lambda: said(log, "pods.unknown", rule), log)
        assert [entry for entry in log if entry["event"] == "pass.failed"] == []
        assert len([entry for entry in log if entry["event"] == "pods.unknown"]) == 1
    assert field.other.request("GET", lease) is not None


@pytest.mark.parametrize(
    ("resource", "verb"), [("namespaces", "get"), ("pods", "list"), ("services", "get"), ("deployments", "get")]
)
async def test_without_a_right_to_its_subjects_the_linter_judges_by_our_manifests_and_notes_it(
    field: Field, resource: str, verb: str
) -> None:
    async with Cluster(kubeconfig=lacking(field, resource, verb)) as limited:
        refused, findings = await linting.refusal(limited, ReconcilerConfiguration())
        subjects, notes = await linting.gather(limited, ReconcilerConfiguration())
    assert (refused, findings) == ("", 0)
    assert {"webhook-server", "reconciler", "gardenlet", "canary"} <= {subject.why.value for subject in subjects}
    assert any(f"resources: [{resource}]" in note for note in notes), notes


async def test_without_a_right_to_the_canary_nobody_can_tell_and_fail_is_lowered_after_the_tolerance(
    field: Field, lease: str, cluster: Cluster
) -> None:
    decided = Memory(State.FAIL, time.time() - 60, "for a test")
    desired = render(
        REGISTERED, ca_bundle=field.plane.ca_pem, state=State.FAIL, annotations=memory.annotations(decided)
    )
    await reconcile(cluster, target_of(REGISTERED), desired=desired, observed=None)
    async with running(field, lacking(field, "pods", "create")) as log:
        await until(lambda: field.webhook()["failurePolicy"] == "Ignore", log)
        failed = [entry for entry in log if entry["event"] == "proof.failed"]
        assert [entry["verdict"] for entry in failed] == ["inconclusive"]
        assert '{apiGroups: [""], resources: [pods], verbs: [create]}' in failed[0]["words"]
    remembered = memory.of(field.standing())
    assert remembered is not None
    assert remembered.reason == "no verdict for 3 s after the start"
    assert remembered.is_open
    assert field.other.request("GET", lease) is not None
