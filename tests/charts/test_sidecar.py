"""The sidecar in gardenlet's pods: args, env, files and account as rendered, gardenlet's rights and our few more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests import kustomize
from tests.charts.test_install import protected, server_of_gardener
from tests.charts.test_sidecar_render import fixture, overlay
from tests.charts.world import LEASE, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.pod import Pod

# gardenlet mounts the gate itself; the webhook is answered by our own server, and no Job helps.
WITHOUT_JOB = {"bootstrap": {"enabled": False}}
VARIANTS = ("plain", "native")


def install_gardenlet(world: World, folder: Path, variant: str) -> None:
    """gardenlet's objects with the sidecar, as kustomize renders them from what its chart would."""
    built = kustomize.build(overlay(folder, variant, image=""))
    world.create(*(dict(one) for one in built if one["kind"] != "PriorityClass"))


def at_fail(world: World, folder: Path, variant: str) -> None:
    """The chart, then gardenlet with the sidecar, which brings the registration to Fail."""
    world.install("own-server", values=WITHOUT_JOB)
    install_gardenlet(world, folder, variant)
    world.until(lambda: world.policy() == "Fail", "Fail")


def gardenlets(world: World) -> list[Pod]:
    pods = world.node.of(role="gardenlet")
    return [pod for pod in pods if not pod.manifest["metadata"].get("deletionTimestamp")]


def all_ready(world: World) -> bool:
    """Whether the Deployment says so, and it is true by now."""
    found = world.get("/apis/apps/v1/namespaces/garden/deployments/gardenlet")
    pods = gardenlets(world)
    are_seen = all(one.ready for pod in pods for one in pod.containers) and all(
        pod.container("seccomp-reconciler").peak_memory_bytes for pod in pods
    )
    return bool(found["status"].get("readyReplicas", 0) == len(pods) == 2 and are_seen)


def leader(world: World) -> str:
    """Return the name of the pod that leads."""
    lease = world.get(LEASE)
    return "" if lease is None else str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_sidecars_protect_the_seed_and_the_next_one_leads_when_a_pod_goes(
    seed_world: World, tmp_path: Path, variant: str
) -> None:
    at_fail(seed_world, tmp_path, variant)
    assert seed_world.pod_of_gardener()["spec"]["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    seed_world.until(lambda: all_ready(seed_world), "both gardenlets ready")
    seed_world.until(lambda: leader(seed_world) in {pod.name for pod in gardenlets(seed_world)}, "a leader")
    first = leader(seed_world)
    pod = seed_world.node.pod(first)
    began = time.monotonic()
    seed_world.admin.request("DELETE", pod.path)
    seed_world.until(lambda: leader(seed_world) not in (first, ""), "another leader")
    print(f"{variant}: another sidecar led {time.monotonic() - began:.2f} s after the pod was told to go")
    seed_world.until(lambda: all_ready(seed_world), "both gardenlets ready again")
    seed_world.until(lambda: seed_world.policy() == "Fail", "Fail")
    for one in gardenlets(seed_world):
        assert one.container("gardenlet").restarts == 0
        ours = one.container("seccomp-reconciler")
        print(f"{one.name}: peak {ours.peak_memory_bytes / 2**20:.0f} MiB of 256")
        assert 0 < ours.peak_memory_bytes < 128 * 2**20


def test_a_sidecar_that_is_killed_starts_again_and_gardenlet_goes_on(seed_world: World, tmp_path: Path) -> None:
    at_fail(seed_world, tmp_path, "native")
    seed_world.until(lambda: all_ready(seed_world), "both gardenlets ready")
    pods = gardenlets(seed_world)
    for pod in pods:
        pod.container("seccomp-reconciler").kill()
    seed_world.until(lambda: all(one.container("seccomp-reconciler").restarts == 1 for one in pods), "restarts")
    seed_world.until(lambda: all_ready(seed_world), "both gardenlets ready again")
    assert [pod.container("gardenlet").restarts for pod in pods] == [0, 0]
    # The new processes know of no proof: down first, and up again by proofs.
    seed_world.until(lambda: seed_world.policy() == "Fail" and leader(seed_world), "Fail")


def test_the_sidecar_alone_needs_no_pod_of_ours_where_gardener_resource_manager_answers(
    seed_world: World, tmp_path: Path
) -> None:
    server_of_gardener(seed_world)
    seed_world.install("sidecar")
    install_gardenlet(seed_world, tmp_path, "plain")
    protected(seed_world)
    assert seed_world.running() == []


def test_before_the_chart_is_there_the_sidecar_waits_and_gardenlet_is_ready(seed_world: World, tmp_path: Path) -> None:
    install_gardenlet(seed_world, tmp_path, "plain")
    seed_world.until(lambda: all_ready(seed_world), "both gardenlets ready")
    pods = gardenlets(seed_world)
    seed_world.until(lambda: "settings.invalid" in seed_world.node.logs(), "it says what it lacks")
    seed_world.install("own-server", values=WITHOUT_JOB)
    seed_world.until(lambda: seed_world.policy() == "Fail", "Fail")
    assert [one.restarts for pod in pods for one in pod.containers] == [0, 0, 0, 0]


def test_an_uninstall_before_the_sidecar_is_out_ends_with_its_name_and_all_stays_paused(
    seed_world: World, tmp_path: Path
) -> None:
    seed_world.install("own-server", values={**WITHOUT_JOB, "cleanup": {"timeoutSeconds": 30}})
    install_gardenlet(seed_world, tmp_path, "plain")
    seed_world.until(lambda: seed_world.policy() == "Fail", "Fail")
    holder = leader(seed_world)
    with pytest.raises(AssertionError, match="seccomp-reconciler-cleanup-end"):
        seed_world.uninstall("--timeout=45s")
    assert seed_world.policy() is None
    assert "seccomp-reconciler.gardener.cloud/pause" in str(seed_world.get(LEASE)["metadata"]["annotations"])
    assert holder in seed_world.node.logs()
    seed_world.pod_of_gardener()
    seed_world.admin.request("DELETE", "/apis/apps/v1/namespaces/garden/deployments/gardenlet")
    seed_world.until(lambda: gardenlets(seed_world) == [], "no gardenlet")
    done = seed_world.command("cleanup")
    assert done.returncode == 0, done.stderr
    assert seed_world.get(LEASE) is None


def test_gardenlets_own_gate_is_followed(seed_world: World, tmp_path: Path) -> None:
    at_fail(seed_world, tmp_path, "plain")
    # A new ConfigMap and a new revision of the Deployment, as gardenlet's chart makes them.
    off = fixture()["ConfigMap", "gardenlet-config-0a1b2c3d"]
    text = off["data"]["config.yaml"].replace("DefaultSeccompProfile: true", "DefaultSeccompProfile: false")
    assert text != off["data"]["config.yaml"]
    seed_world.create(
        {**off, "metadata": {**off["metadata"], "name": "gardenlet-config-off"}, "data": {"config.yaml": text}}
    )
    path = "/apis/apps/v1/namespaces/garden/deployments/gardenlet"
    volume = {"name": "gardenlet-config", "configMap": {"name": "gardenlet-config-off"}}
    patch = {"spec": {"template": {"spec": {"volumes": [volume]}}}}
    seed_world.admin.request("PATCH", path, patch, "application/strategic-merge-patch+json")
    seed_world.until(lambda: seed_world.policy() is None, "no registration")
