"""Every preset installed by the real Helm: what runs then, what it protects, and that nothing stays of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.charts.world import LEASE, MANAGED, World, merged
from tests.controlplane.errors import ApiError
from tests.helm import PRESETS, render
from tests.load import Load
from tests.seed import ROOT, collection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.node.pod import Pod

GATE_ON = f"--set-file=gardenletDocument={ROOT / 'config' / 'gardenlet.yaml'}"
COMPONENT = "app.kubernetes.io/component"
EVERYTHING = {"monitoring": {"enabled": True}, "verticalPodAutoscaler": {"enabled": True}}


def server_of_gardener(world: World) -> None:
    """What answers the same webhook in a stock seed: here our server by another name, with certificates of another."""
    certificate, key = world.plane.issue_serving_certificate("gardener-resource-manager.garden.svc")
    labels = {"app": "gardener-resource-manager"}
    secret = {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
    container = {
        "name": "server",
        "image": "seccomp-reconciler:test",
        "args": ["serve", "--drain-delay=1"],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}},
        "volumeMounts": [{"name": "tls", "mountPath": "/etc/seccomp-reconciler/tls", "readOnly": True}],
    }
    pod = {"containers": [container], "volumes": [{"name": "tls", "secret": {"secretName": "grm-tls"}}]}
    world.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": named("grm-tls"), "stringData": secret},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": named("ca-seed-bundle"),
            "stringData": {"bundle.crt": world.plane.ca_pem.decode()},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named("gardener-resource-manager"),
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 9443}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": named("gardener-resource-manager"),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": {**labels, "seccompprofile.resources.gardener.cloud/skip": "true"}},
                    "spec": pod,
                },
            },
        },
    )


def named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "garden"}


def servers(world: World) -> list[Pod]:
    return [pod for pod in world.running() if pod.manifest["metadata"]["labels"][COMPONENT] == "server"]


def images(world: World) -> set[str]:
    return {one["image"] for pod in world.running() for one in pod.manifest["spec"]["containers"]}


def eviction(pod: Pod) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named(pod.name)}


def protected(world: World) -> None:
    """Wait for Fail, and see that a pod gets its profile, and one with the skip label does not."""
    world.until(lambda: world.policy() == "Fail", "Fail")
    assert world.pod_of_gardener()["spec"]["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    skipped = world.pod_of_gardener({"seccompprofile.resources.gardener.cloud/skip": "x"})
    assert "seccompProfile" not in skipped["spec"].get("securityContext", {})


def within_limits(world: World) -> None:
    """No container of ours ever used half of the memory that it may have."""
    pods = world.node.of(app="seccomp-reconciler")
    world.until(lambda: all(one.peak_memory_bytes for pod in pods for one in pod.main), "a look at each")
    for pod in pods:
        for one, spec in zip(pod.main, pod.manifest["spec"]["containers"], strict=True):
            limit = int(spec["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
            print(f"{pod.name}: peak {one.peak_memory_bytes / 2**20:.0f} MiB of {limit / 2**20:.0f}")
            assert one.peak_memory_bytes < limit / 2


@pytest.mark.parametrize("preset", PRESETS)
def test_the_api_server_accepts_every_object_of_every_preset(seed_world: World, preset: str) -> None:
    values = merged(EVERYTHING, {"bootstrap": {"hook": True}})
    for found in render(preset, values=values, set_file=[GATE_ON.removeprefix("--set-file=")]):
        manifest = dict(found)
        if manifest["metadata"].get("namespace") == "seccomp-canary":
            continue  # its namespace is in the same release: the install below creates both
        path = f"{collection(manifest)}?dryRun=All&fieldValidation=Strict"
        assert seed_world.admin.request("POST", path, manifest) is not None


@pytest.mark.main
def test_standalone_goes_from_nothing_to_fail_and_leaves_nothing(seed_world: World) -> None:
    before = seed_world.everything()
    seed_world.install("standalone", GATE_ON, values=EVERYTHING)
    protected(seed_world)
    within_limits(seed_world)
    assert {pod.manifest["spec"]["serviceAccountName"] for pod in seed_world.node.of(app="seccomp-reconciler")} == {
        "seccomp-reconciler",
        "seccomp-reconciler-server",
    }
    seed_world.uninstall("--wait")
    seed_world.until(lambda: seed_world.everything() == before, "nothing of ours")


def test_high_security_answers_the_api_server_alone(seed_world: World) -> None:
    secret = {"ca.crt": seed_world.client_authority.read_text()}
    metadata = named("seccomp-reconciler-client-ca")
    seed_world.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
    seed_world.install("high-security", GATE_ON)
    protected(seed_world)
    server = seed_world.node.of(**{COMPONENT: "server"})[0]  # the proof may be another one's
    seed_world.until(
        lambda: "seccomp_reconciler_admission_reviews_total" in seed_world.node.page(server, 8080, "/metrics")[1],
        "its metrics",
    )


def test_another_client_certificate_reaches_no_review_and_fail_is_never_reached(seed_world: World) -> None:
    metadata = named("seccomp-reconciler-client-ca")
    secret = {"ca.crt": seed_world.plane.ca_pem.decode()}
    seed_world.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
    seed_world.install("high-security", GATE_ON)
    seed_world.until(lambda: seed_world.policy() == "Ignore", "a registration")
    seed_world.until(
        lambda: seed_world.proofs("not-mutated") + seed_world.proofs("unreachable") > 2, "proofs that fail"
    )
    assert seed_world.proofs("proved") == 0
    assert seed_world.policy() == "Ignore"
    seed_world.pod_of_gardener()  # and blocks nobody


def test_a_drain_takes_one_server_at_a_time(seed_world: World) -> None:
    seed_world.install("standalone", GATE_ON)
    protected(seed_world)
    budget = "/apis/policy/v1/namespaces/garden/poddisruptionbudgets/seccomp-reconciler-server"
    seed_world.until(lambda: seed_world.get(budget)["status"].get("disruptionsAllowed") == 1, "a budget")
    first, second = servers(seed_world)
    seed_world.admin.request("POST", f"{first.path}/eviction", eviction(first))
    with pytest.raises(ApiError) as refused:
        seed_world.admin.request("POST", f"{second.path}/eviction", eviction(second))
    assert refused.value.status == HTTPStatus.TOO_MANY_REQUESTS
    seed_world.until(lambda: seed_world.get(budget)["status"]["disruptionsAllowed"] == 1, "another server")
    seed_world.until(lambda: seed_world.policy() == "Fail", "Fail")


def test_the_servers_have_no_token(seed_world: World) -> None:
    seed_world.install("standalone", GATE_ON)
    seed_world.until(lambda: len(servers(seed_world)) == 2, "two servers")
    for pod in servers(seed_world):
        # As admitted: here the API server adds tokens wherever nobody says that it must not.
        assert [volume["name"] for volume in pod.manifest["spec"]["volumes"]] == ["tls"]
    for pod in seed_world.node.of(**{COMPONENT: "reconciler"}):
        assert any(volume["name"].startswith("kube-api-access-") for volume in pod.manifest["spec"]["volumes"])


def test_an_upgrade_under_load_fails_no_pod_and_misses_none(seed_world: World) -> None:
    seed_world.install("standalone", GATE_ON, values={"server": {"drainDelay": 10}})  # the chart's own
    protected(seed_world)
    with Load(seed_world) as load:
        seed_world.install("standalone", GATE_ON, "--wait", "--timeout=3m", values={"image": {"tag": "next"}})
        # Helm does not wait for the end of the old pods.
        seed_world.until(lambda: images(seed_world) == {"seccomp-reconciler:next"}, "only new pods")
    print(f"{load.created} pods in {load.seconds:.0f} s")
    assert load.created > 20
    assert load.failures == []
    seed_world.until(lambda: seed_world.policy() == "Fail", "Fail, by the new reconcilers' proofs")


def test_an_upgrade_that_takes_the_server_away_takes_the_registration_first(seed_world: World) -> None:
    server_of_gardener(seed_world)
    seed_world.install("standalone", GATE_ON)
    protected(seed_world)
    with Load(seed_world) as load:
        values = {"cleanup": {"timeoutSeconds": 15, "upgradePauseSeconds": 45}}
        seed_world.install("gardener-resource-manager", GATE_ON, values=values)
        seed_world.until(lambda: seed_world.policy() == "Fail", "Fail, by the other backend")
    assert load.refused == []
    protected(seed_world)


def test_an_upgrade_that_takes_the_last_reconciler_away_takes_the_registration_first(seed_world: World) -> None:
    server_of_gardener(seed_world)
    seed_world.install("gardener-resource-manager", GATE_ON)
    protected(seed_world)
    assert seed_world.node.of(**{COMPONENT: "server"}) == []
    values = {"reconciler": {"enabled": False}, "cleanup": {"timeoutSeconds": 30}}
    seed_world.install("gardener-resource-manager", values=values)
    assert seed_world.policy() is None


def test_another_name_is_refused_while_the_old_registration_stands(seed_world: World) -> None:
    seed_world.install("standalone", GATE_ON)
    protected(seed_world)
    with pytest.raises(AssertionError, match="cleanup --leave-paused"):
        seed_world.install("standalone", GATE_ON, values={"settings": {"registration": {"name": "zz-another"}}})
    assert seed_world.policy() == "Fail"


def test_uninstalling_under_load_fails_no_pod(seed_world: World) -> None:
    seed_world.install("standalone", GATE_ON)
    protected(seed_world)
    with Load(seed_world) as load:
        seed_world.uninstall("--wait")
    assert load.created > 20
    assert load.refused == []
    assert seed_world.get(LEASE) is None


def test_removal_without_hooks_under_load_leaves_nothing_that_refuses_a_pod(seed_world: World) -> None:
    """As Gardener and GitOps tools remove a chart: the registration goes with the ClusterRole that owns it."""
    seed_world.install("standalone", GATE_ON)
    protected(seed_world)
    gone_for_good(seed_world, lambda: seed_world.uninstall("--no-hooks"))


def test_removal_of_the_plain_manifests_under_load_leaves_nothing_that_refuses_a_pod(seed_world: World) -> None:
    """As `kubectl delete -f` does: the documents of config/rbac.yaml one after the other."""
    plain = list(yaml.safe_load_all((ROOT / "config" / "rbac.yaml").read_text()))
    canary = [
        one
        for one in yaml.safe_load_all((ROOT / "config" / "canary.yaml").read_text())
        if one["kind"] in ("Role", "RoleBinding")
    ]
    seed_world.create(*(one for one in plain if one["kind"] != "ServiceAccount"))
    seed_world.install("standalone", GATE_ON, values={"rbac": {"enabled": False}})
    seed_world.create(*canary)
    protected(seed_world)
    program = [{"apiVersion": "v1", "kind": "Service", "metadata": named("seccomp-reconciler")}]
    program += [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named(name)}
        for name in ("seccomp-reconciler-server", "seccomp-reconciler")
    ]

    def delete() -> None:
        for one in (*program, *plain):
            path = f"{collection(one)}/{one['metadata']['name']}"
            seed_world.admin.request("DELETE", path, {"propagationPolicy": "Background"})

    gone_for_good(seed_world, delete)


def gone_for_good(world: World, remove: Callable[[], object]) -> None:
    """Remove server, reconciler and rights under load: the registration goes, too, and does not come back.

    Between the Service's end and the registration's a pod may be refused: that moment ends, whatever was deleted first.
    """
    with Load(world) as load:
        world.until(lambda: load.created > 40, "load")
        remove()
        world.until(lambda: world.policy() is None, "no registration")
        world.until(lambda: not world.node.of(app="seccomp-reconciler"), "no pod of ours")
        before = load.created
        world.until(lambda: load.created > before + 50, "load")
        refused = len(load.refused)
        world.until(lambda: load.created > before + 150, "load")
        assert len(load.refused) == refused, load.refused[refused:]
    assert world.policy() is None, "it came back"
    print(f"{refused} pods refused while the Service was gone and the registration was not, {load.created} created")


def test_a_foreign_registration_of_our_name_stops_the_uninstall_and_stays(seed_world: World) -> None:
    theirs = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "seccomp-reconciler", "labels": {"whose": "theirs"}},
    }
    seed_world.create(theirs)
    seed_world.install("standalone", GATE_ON)
    with pytest.raises(AssertionError, match="seccomp-reconciler-cleanup"):
        seed_world.uninstall("--timeout=20s")
    assert seed_world.get(f"{collection(theirs)}/seccomp-reconciler")["metadata"]["labels"]["whose"] == "theirs"
    seed_world.admin.request("DELETE", f"{collection(theirs)}/seccomp-reconciler")
    seed_world.uninstall()


def test_the_gate_off_removes_the_registration_and_leaves_the_rest(seed_world: World, tmp_path: Path) -> None:
    seed_world.install("standalone", GATE_ON)
    protected(seed_world)
    document = yaml.safe_load((ROOT / "config" / "gardenlet.yaml").read_text())
    document["featureGates"]["DefaultSeccompProfile"] = False
    (tmp_path / "off.yaml").write_text(yaml.safe_dump(document))
    seed_world.install("standalone", f"--set-file=gardenletDocument={tmp_path / 'off.yaml'}")
    seed_world.until(lambda: seed_world.policy() is None, "no registration")
    seed_world.until(
        lambda: "seccompProfile" not in seed_world.pod_of_gardener()["spec"].get("securityContext", {}),
        "a pod as it was asked for, once the API server knows",
    )
    assert seed_world.get(f"/api/v1/namespaces/{MANAGED}") is not None
