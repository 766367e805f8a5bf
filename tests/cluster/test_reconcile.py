"""One pass on a real API server: what it makes stand, and what it says."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler.controller.reconcile import Outcome, Result, target_of
from reconciler.errors import ConflictError, ForeignObjectError
from reconciler.registration.desired import render
from reconciler.settings import FailurePolicy, Ramp, ReconcilerConfiguration, Registration
from tests.cluster.field import Field, document, proxied, stand
from tests.faults import Fault, Match
from tests.seed import REGISTRATION

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.cluster import Cluster
    from tests.seed import Seed

pytestmark = pytest.mark.main

REGISTERED = Registration()


async def one_pass(cluster: Cluster, field: Field, *, gate: bool = True, adopt: bool = False) -> Outcome:
    bundle = field.plane.ca_pem if gate else None
    return await stand(cluster, REGISTERED, ca_bundle=bundle, adopt=adopt)


def run(field: Field, *arguments: str) -> tuple[int, str, str]:
    done = field.seed.command(*arguments)
    return done.returncode, done.stdout, done.stderr


def test_the_five_results_in_their_order(field: Field) -> None:
    inputs = field.seed.inputs
    assert run(field, "reconcile", *inputs) == (0, "registered mutatingwebhookconfiguration/seccomp-reconciler\n", "")
    assert run(field, "reconcile", *inputs) == (0, "unchanged mutatingwebhookconfiguration/seccomp-reconciler\n", "")
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
    code, out, _ = run(field, "reconcile", *inputs)
    assert (code, out) == (
        0,
        "updated mutatingwebhookconfiguration/seccomp-reconciler (webhooks[0].timeoutSeconds)\n",
    )
    field.seed.configure(document(gate="false"))
    assert run(field, "reconcile", *inputs) == (0, "removed mutatingwebhookconfiguration/seccomp-reconciler\n", "")
    assert field.standing() is None
    assert run(field, "reconcile", *inputs) == (0, "absent mutatingwebhookconfiguration/seccomp-reconciler\n", "")


def test_json_says_the_same_to_a_machine(field: Field) -> None:
    code, out, _ = run(field, "reconcile", *field.seed.inputs, "--output", "json")
    assert code == 0
    found = json.loads(out)
    policy = {"state": "Ignore", "reason": "registered, not proved yet", "flaps": 0, "windows": []}
    policy["since"] = found["failurePolicy"]["since"]
    assert found == {
        "result": "registered",
        "name": "seccomp-reconciler",
        "gate": {"gate": "DefaultSeccompProfile", "enabled": True, "reason": "explicit", "warnings": []},
        "dryRun": False,
        "differences": [],
        "addedByOthers": [],
        "certificates": [],
        "failurePolicy": {
            **policy,
            "state": "Ignore",
            "reason": "registered, not proved yet",
            "flaps": 0,
            "windows": [],
        },
        "proof": None,
        "paused": None,
    }


async def test_what_stands_is_upstreams_entry_field_by_field(field: Field, cluster: Cluster) -> None:
    parity = REGISTERED.model_copy(update={"failure_policy": FailurePolicy.FAIL, "ramp": Ramp.NEVER})
    await stand(cluster, parity, ca_bundle=field.plane.ca_pem)
    webhook = field.webhook()
    assert {key: value for key, value in webhook.items() if key not in ("matchConditions", "clientConfig")} == {
        "name": "seccomp-profile.resources.gardener.cloud",
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*"}
        ],
        "failurePolicy": "Fail",
        "matchPolicy": "Exact",
        "sideEffects": "None",
        "timeoutSeconds": 10,
        "admissionReviewVersions": ["v1beta1", "v1"],
        "reinvocationPolicy": "Never",  # what the API server makes of an unset one
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "gardener.cloud/role", "operator": "Exists"},
                {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": ["kube-system", "kubernetes-dashboard"],
                },
            ]
        },
        "objectSelector": {
            "matchExpressions": [
                {"key": "seccompprofile.resources.gardener.cloud/skip", "operator": "DoesNotExist"},
                {"key": "app", "operator": "NotIn", "values": ["seccomp-reconciler"]},
                {"key": "static-pod", "operator": "NotIn", "values": ["true"]},
            ]
        },
    }
    assert webhook["clientConfig"]["service"] == {
        "namespace": "garden",
        "name": "seccomp-reconciler",
        "path": "/webhooks/seccomp-profile",
        "port": 443,
    }
    assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == field.plane.ca_pem
    standing = field.standing()
    assert standing is not None
    assert standing["metadata"]["labels"]["remediation.webhook.shoot.gardener.cloud/exclude"] == "true"
    assert standing["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "seccomp-reconciler"


async def test_a_foreign_object_is_left_alone_and_adopted_only_when_asked(field: Field, cluster: Cluster) -> None:
    foreign = field.create(foreign_manifest())
    with pytest.raises(ForeignObjectError, match="not ours"):
        await one_pass(cluster, field)
    assert (await one_pass(cluster, field, gate=False)).result is Result.ABSENT
    assert field.standing() == foreign
    code, _, err = run(field, "reconcile", *field.seed.inputs)
    assert code == 73
    assert "--adopt" in err
    assert (await one_pass(cluster, field, adopt=True)).result is Result.UPDATED
    assert field.webhook()["name"] == "seccomp-profile.resources.gardener.cloud"
    assert (await one_pass(cluster, field)).result is Result.UNCHANGED


async def test_an_object_that_appears_between_look_and_write_is_not_overwritten(field: Field, cluster: Cluster) -> None:
    foreign = field.create(foreign_manifest())
    manifest = render(REGISTERED, ca_bundle=field.plane.ca_pem)
    with pytest.raises(ConflictError):
        await cluster.create(target_of(REGISTERED), manifest)
    assert field.standing() == foreign


async def test_a_stale_plan_neither_writes_nor_resurrects(field: Field, cluster: Cluster) -> None:
    await one_pass(cluster, field)
    stale = field.standing()
    assert stale is not None
    manifest = render(REGISTERED, ca_bundle=field.plane.ca_pem)
    target = target_of(REGISTERED)
    field.patch(("add", "/metadata/labels/their", "own"))
    changed = field.standing()
    with pytest.raises(ConflictError):
        await cluster.apply(target, manifest, observed=stale)
    with pytest.raises(ConflictError):
        await cluster.replace_webhooks(target, manifest, observed=stale)
    with pytest.raises(ConflictError):
        await cluster.delete(target, observed=stale)
    assert field.standing() == changed
    field.delete()
    with pytest.raises(ConflictError):
        await cluster.apply(target, manifest, observed=stale)
    assert field.standing() is None


async def test_an_object_that_waits_for_a_finalizer_is_waited_for(field: Field, cluster: Cluster) -> None:
    await one_pass(cluster, field)
    field.patch(("add", "/metadata/finalizers", ["example.com/wait"]))
    with pytest.raises(ConflictError, match=r"example\.com/wait"):
        await one_pass(cluster, field, gate=False)
    with pytest.raises(ConflictError, match=r"example\.com/wait"):
        await one_pass(cluster, field)
    code, _, _ = run(field, "reconcile", *field.seed.inputs, "--timeout", "5")
    assert code == 75
    field.patch(("remove", "/metadata/finalizers", None))
    assert (await one_pass(cluster, field)).result is Result.REGISTERED


async def test_many_passes_write_nothing(field: Field, cluster: Cluster) -> None:
    await one_pass(cluster, field)
    before, writes = field.standing(), len(field.writes())
    for _ in range(200):
        assert (await one_pass(cluster, field)).result is Result.UNCHANGED
    assert field.standing() == before
    assert len(field.writes()) == writes


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ("featureGates: [", 65),
        ("", 65),
        ("apiVersion: v1\nkind: Pod\n", 65),
        ("config: {featureGates: {DefaultSeccompProfile: true}}\nresources: {}\n", 65),
        (None, 66),
    ],
    ids=["not-yaml", "empty", "another-kind", "values-of-a-chart", "missing"],
)
def test_an_unreadable_configuration_changes_nothing(field: Field, broken: str | None, code: int) -> None:
    run(field, "reconcile", *field.seed.inputs)
    before = field.standing()
    if broken is None:
        field.seed.gardenlet.unlink()
    else:
        field.seed.configure(broken)
    found, _, err = run(field, "reconcile", *field.seed.inputs)
    assert found == code
    assert str(field.seed.gardenlet) in err
    assert before is not None
    assert field.standing() == before


def test_an_unusable_ca_changes_nothing(field: Field) -> None:
    run(field, "reconcile", *field.seed.inputs)
    before = field.standing()
    field.seed.ca.write_text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    code, _, err = run(field, "reconcile", *field.seed.inputs)
    assert code == 65
    assert "private key" in err
    assert field.standing() == before


def test_a_dry_run_and_a_diff_write_nothing(field: Field) -> None:
    code, out, _ = run(field, "reconcile", *field.seed.inputs, "--dry-run")
    assert (code, out.split()[0]) == (0, "registered")
    code, out, _ = run(field, "diff", *field.seed.inputs)
    assert code == 1
    assert "+kind: MutatingWebhookConfiguration" in out
    assert "\x1b" not in out
    assert field.standing() is None
    run(field, "reconcile", *field.seed.inputs)
    assert run(field, "diff", *field.seed.inputs) == (0, "", "")
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
    before = field.standing()
    code, out, _ = run(field, "diff", *field.seed.inputs)
    assert code == 1
    assert "-  timeoutSeconds: 3" in out
    assert "+  timeoutSeconds: 10" in out
    field.seed.configure(document(gate="false"))
    code, out, _ = run(field, "diff", *field.seed.inputs)
    assert (code, "-kind: MutatingWebhookConfiguration" in out) == (1, True)
    assert run(field, "reconcile", *field.seed.inputs, "--dry-run")[1].split()[0] == "removed"
    assert field.standing() == before


def test_sources_in_the_cluster(field: Field, tmp_path: Path) -> None:
    """CA from a Secret, GardenletConfiguration from the ConfigMap that the Deployment gardenlet mounts, or by name."""
    plane = field.plane
    secret = {
        "metadata": {"name": "seccomp-reconciler-tls"},
        "data": {"ca.crt": base64.b64encode(plane.ca_pem).decode()},
    }
    field.put("/api/v1/namespaces/garden/secrets", secret)
    config_map = {"metadata": {"name": "gardenlet-config-1a2b"}, "data": {"config.yaml": document(gate="true")}}
    field.put("/api/v1/namespaces/garden/configmaps", config_map)
    field.put("/apis/apps/v1/namespaces/garden/deployments", gardenlet_deployment("gardenlet-config-1a2b"))
    settings = tmp_path / "settings.yaml"
    for source in (
        {"deployment": {"name": "gardenlet"}},
        {"configMap": {"name": "gardenlet-config-1a2b"}},
    ):
        chosen = {"gardenletConfiguration": source, "registration": {"ca": {"secret": {}}}}
        settings.write_text(yaml.safe_dump({**header(), **chosen}))
        code, out, err = run(field, "reconcile", "--config", str(settings))
        assert (code, err) == (0, "")
        assert out.startswith("registered")
        assert base64.b64decode(field.webhook()["clientConfig"]["caBundle"]) == plane.ca_pem
        field.delete()
    settings.write_text(yaml.safe_dump({**header(), "gardenletConfiguration": {"configMap": {"name": "nope"}}}))
    code, _, err = run(field, "reconcile", "--config", str(settings))
    assert code == 66
    assert "configmaps/nope" in err


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Gardenlet", lambda config: {"config": config}),
        ("ManagedSeed", lambda config: {"gardenlet": {"config": config}}),
    ],
    ids=["Gardenlet", "ManagedSeed"],
)
def test_an_object_that_embeds_the_configuration_decides_likewise(field: Field, kind: str, spec: object) -> None:
    assert callable(spec)
    embedded = {
        "apiVersion": "seedmanagement.gardener.cloud/v1alpha1",
        "kind": kind,
        "metadata": {"name": "one", "namespace": "garden"},
        "spec": spec(yaml.safe_load(document(gate="true"))),
    }
    field.seed.configure(yaml.safe_dump(embedded))
    assert run(field, "reconcile", *field.seed.inputs)[1].startswith("registered")


FAULTS = {
    "dropped-write": Fault.drop(times=1, match=Match(write=True)),
    "429": Fault.too_many_requests(1, times=2),
    "429-as-text": Fault.overloaded(1, times=1),
    "lost-answer": Fault.lost_answer(times=1, match=Match(write=True)),
    "conflicts": Fault.refuse_status(409, times=4, match=Match(write=True)),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_passing_fault_is_lived_through(field: Field, shared_seed: Seed, name: str) -> None:
    async with proxied(shared_seed) as (proxy, kubeconfig):
        with proxy.fault(FAULTS[name]) as armed:
            done = await cli(field, kubeconfig, "reconcile", *shared_seed.inputs)
            assert armed.hits > 0
        assert done[0] == 0, done
        assert done[1].split()[0] in ("registered", "unchanged")  # unchanged: the write whose answer was lost counted
        assert field.webhook()["failurePolicy"] == "Ignore"


async def test_retry_after_is_the_shortest_wait(field: Field, shared_seed: Seed) -> None:
    async with proxied(shared_seed) as (proxy, kubeconfig):
        with proxy.fault(Fault.too_many_requests(2, times=1)):
            await cli(field, kubeconfig, "reconcile", *shared_seed.inputs)
        first, second = proxy.requests[:2]
        assert second.at_seconds - first.at_seconds >= 2.0


@pytest.mark.parametrize(("status", "words"), [(401, "credentials"), (403, "forbidden")])
async def test_a_refused_identity_is_not_retried(field: Field, shared_seed: Seed, status: int, words: str) -> None:
    async with proxied(shared_seed) as (proxy, kubeconfig):
        with proxy.fault(Fault.refuse_status(status)):
            code, _, err = await cli(field, kubeconfig, "reconcile", *shared_seed.inputs)
        assert code == 77
        assert words in err
        assert len(proxy.requests) == 1


async def test_an_api_server_that_stays_away_ends_with_69_at_the_deadline(field: Field, shared_seed: Seed) -> None:
    async with proxied(shared_seed) as (proxy, kubeconfig):
        for fault in (Fault.refuse_connections(), Fault.half_open(), Fault.refuse_status(503)):
            with proxy.fault(fault):
                code, _, err = await cli(field, kubeconfig, "reconcile", *shared_seed.inputs, "--timeout", "1")
            assert code == 69
            assert "gave up after 1 s" in err
    assert field.standing() is None


async def cli(field: Field, kubeconfig: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command through the proxy, which lives in this very event loop."""
    return await asyncio.to_thread(run, field, *arguments, "--kubeconfig", str(kubeconfig))


def foreign_manifest() -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": REGISTRATION.rsplit("/", 1)[1], "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "webhooks": [
            {
                "name": "another.example.com",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://127.0.0.1:9/never"},
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ],
            }
        ],
    }


def header() -> dict[str, str]:
    defaults = ReconcilerConfiguration()
    return {"apiVersion": defaults.api_version, "kind": defaults.kind}


def gardenlet_deployment(config_map: str) -> dict[str, Any]:
    """Return a Deployment of the shape of gardenlet's chart."""
    labels = {"app": "gardener", "role": "gardenlet"}
    container = {
        "name": "gardenlet",
        "image": "gardenlet",
        "args": ["--config=/etc/gardenlet/config/config.yaml"],
        "volumeMounts": [{"name": "gardenlet-config", "mountPath": "/etc/gardenlet/config"}],
    }
    volumes = [{"name": "gardenlet-config", "configMap": {"name": config_map}}]
    return {
        "metadata": {"name": "gardenlet"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}},
        },
    }
