"""The bootstrap Job under the real Job controller: what it brings about, what ends it at once, what is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tests.charts.test_install import GATE_ON, named
from tests.seed import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.charts.world import World

JOBS = "/apis/batch/v1/namespaces/garden/jobs"
COMPONENT = "app.kubernetes.io/component"
ONE_TRY = {"bootstrap": {"timeoutSeconds": 10, "backoffLimit": 1}}


def job(world: World) -> dict[str, Any]:
    found = [one for one in world.get(JOBS)["items"] if one["metadata"]["labels"].get(COMPONENT) == "bootstrap"]
    assert len(found) == 1
    return dict(found[0])


def condition(world: World, kind: str) -> dict[str, Any] | None:
    """Return the Job's condition of that type, where it holds."""
    conditions = job(world)["status"].get("conditions", [])
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def test_an_empty_seed_comes_to_fail(seed_world: World) -> None:
    seed_world.install("own-server", GATE_ON)
    seed_world.until(lambda: condition(seed_world, "Complete"), "the Job's end")
    assert seed_world.policy() == "Fail"
    assert seed_world.pod_of_gardener()["spec"]["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert job(seed_world)["status"]["succeeded"] == 1
    assert job(seed_world)["status"].get("failed", 0) == 0


def test_a_document_that_cannot_be_read_ends_the_job_at_once(seed_world: World, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("featureGates: {DefaultSeccompProfile: 'yes'}\n")
    seed_world.install("own-server", f"--set-file=gardenletDocument={tmp_path / 'bad.yaml'}")
    seed_world.until(lambda: condition(seed_world, "Failed"), "the Job's end")
    failed = condition(seed_world, "Failed")
    assert failed is not None
    assert failed["reason"] == "PodFailurePolicy"
    assert "exit code 65" in failed["message"]
    assert job(seed_world)["status"]["failed"] == 1
    assert seed_world.policy() is None


def test_where_gardenlet_is_missing_the_job_ends_at_once_and_says_so(seed_world: World) -> None:
    seed_world.install("own-server")
    seed_world.until(lambda: condition(seed_world, "Failed"), "the Job's end")
    failed = condition(seed_world, "Failed")
    assert failed is not None
    assert "exit code 66" in failed["message"]
    assert "there is no deployments/gardenlet in namespace garden" in seed_world.node.logs()


def test_what_cannot_be_proved_is_tried_again_and_blocks_nobody(seed_world: World) -> None:
    secret = {"ca.crt": seed_world.plane.ca_pem.decode()}
    metadata = named("seccomp-reconciler-client-ca")
    seed_world.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
    nobody = {"server": {"clientCA": {"secretName": "seccomp-reconciler-client-ca", "names": ["nobody"]}}}
    seed_world.install("own-server", GATE_ON, values={**ONE_TRY, **nobody})
    seed_world.until(lambda: condition(seed_world, "Failed"), "the Job's end", seconds=150.0)
    failed = condition(seed_world, "Failed")
    assert failed is not None
    assert failed["reason"] == "BackoffLimitExceeded"
    assert job(seed_world)["status"]["failed"] == 2
    assert seed_world.policy() == "Ignore"
    seed_world.pod_of_gardener()


def test_a_job_that_is_killed_goes_on_where_it_was(seed_world: World) -> None:
    seed_world.install("own-server", GATE_ON)
    seed_world.until(lambda: seed_world.policy() == "Ignore", "a registration")
    seed_world.node.pod("seccomp-reconciler-bootstrap").containers[0].kill()
    seed_world.until(lambda: condition(seed_world, "Complete"), "the Job's end")
    assert job(seed_world)["status"]["failed"] == 1
    assert seed_world.policy() == "Fail"


def test_with_the_gate_off_it_leaves_nothing_registered_and_succeeds(seed_world: World, tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "config" / "gardenlet.yaml").read_text())
    document["featureGates"]["DefaultSeccompProfile"] = False
    (tmp_path / "off.yaml").write_text(yaml.safe_dump(document))
    seed_world.install("own-server", f"--set-file=gardenletDocument={tmp_path / 'off.yaml'}")
    seed_world.until(lambda: condition(seed_world, "Complete"), "the Job's end")
    assert seed_world.policy() is None
