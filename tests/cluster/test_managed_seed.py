"""`audit --garden-kubeconfig` and `status`: the Shoot behind the ManagedSeed, read from a real API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.definitions import defined

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.field import Field

KUBELET = {
    "type": "object",
    "properties": {"seccompDefault": {"type": "boolean"}, "maxPods": {"type": "integer"}},
}
KUBERNETES = {"type": "object", "properties": {"version": {"type": "string"}, "kubelet": KUBELET}}
WORKER = {"type": "object", "properties": {"name": {"type": "string"}, "kubernetes": KUBERNETES}}
PROVIDER = {"type": "object", "properties": {"workers": {"type": "array", "items": WORKER}}}
SHOOT = {"spec": {"type": "object", "properties": {"kubernetes": KUBERNETES, "provider": PROVIDER}}}
REFERENCE = {"type": "object", "properties": {"name": {"type": "string"}}}
MANAGED_SEED = {"spec": {"type": "object", "properties": {"shoot": REFERENCE}}}


def put(field: Field, path: str, name: str, spec: dict[str, Any]) -> None:
    version, _, plural = path.removeprefix("/apis/").partition("/namespaces/garden/")
    kind = {"shoots": "Shoot", "managedseeds": "ManagedSeed"}[plural]
    manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    field.plane.admin_request("POST", path, manifest)


def test_the_shoot_behind_the_managed_seed_is_found(field: Field, tmp_path: Path) -> None:
    garden = str(field.plane.admin_kubeconfig)

    def asked(seed: str, kubeconfig: str = garden) -> tuple[int, str]:
        done = field.seed.command("audit", "--garden-kubeconfig", kubeconfig, "--managed-seed", seed)
        return done.returncode, done.stdout + done.stderr

    def told(source: dict[str, Any]) -> dict[str, Any]:
        path = tmp_path / "reconciler.yaml"
        settings = {
            "apiVersion": "seccomp-reconciler.config.gardener.cloud/v1alpha1",
            "kind": "ReconcilerConfiguration",
            "managedSeed": {"shoot": source},
        }
        path.write_text(yaml.safe_dump(settings))
        done = field.seed.command("status", "--config", str(path), "--output", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    code, text = asked("my-seed")
    assert (code, "expected a kubeconfig of the garden cluster" in text) == (66, True), text
    with (
        defined(field.other, "Shoot", "core.gardener.cloud", "v1beta1", SHOOT) as core,
        defined(field.other, "ManagedSeed", "seedmanagement.gardener.cloud", "v1alpha1", MANAGED_SEED) as management,
    ):
        workers = [{"name": "cpu"}, {"name": "big", "kubernetes": {"kubelet": {"maxPods": 50}}}]
        kubernetes = {"version": "1.33.4", "kubelet": {"seccompDefault": True}}
        seeds, shoots = f"{management}/namespaces/garden/managedseeds", f"{core}/namespaces/garden/shoots"
        put(field, seeds, "my-seed", {"shoot": {"name": "my-shoot"}})
        put(field, seeds, "empty", {})
        code, text = asked("other-seed")
        assert (code, "check the name of the ManagedSeed" in text) == (66, True), text
        code, text = asked("my-seed")
        assert (code, "its Shoot my-shoot is not in namespace garden" in text) == (66, True), text
        code, text = asked("empty")
        assert (code, "spec.shoot.name: expected the name of a Shoot" in text) == (65, True), text
        put(field, shoots, "my-shoot", {"kubernetes": kubernetes, "provider": {"workers": workers}})
        code, text = asked("my-seed")
        assert code == 0, text
        assert text.startswith("The gate is needed for 1 of 2 worker pools of shoot garden/my-shoot: big.\n")
        code, text = asked("my-seed", str(field.seed.kubeconfig))
        assert (code, "managedseeds" in text) == (77, True), text
        found = told({"garden": {"kubeconfig": garden, "managedSeed": "my-seed"}})["kubeletDefault"]
        assert (found["gate"], found["neededFor"]) == ("needed-for-pools", ["big"])
    unread = told({"file": str(tmp_path / "absent.yaml")})
    assert unread["kubeletDefault"] is None
    assert "no such file" in unread["notRead"]["shoot"]
