"""config/sidecar: both variants say the same, go with the chart, and ask nothing of gardenlet that it does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.helm import CHART, render
from tests.seed import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from reconciler.registration.identity import Manifest

SIDECAR: Final = ROOT / "config" / "sidecar"
SCRIPT: Final = SIDECAR / "post-renderer" / "post-render.sh"
LISTS: Final = {"plain": "containers", "native": "initContainers"}
# Verb, group, resource, and its name and namespace where there are any.
Right = tuple[str, str, str, str, str]


def documents(path: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def pod(variant: str, file: str = "patch.yaml") -> dict[str, Any]:
    (patch,) = documents(SIDECAR / variant / file)
    spec = patch["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(variant: str) -> dict[str, Any]:
    (found,) = (one for one in pod(variant)[LISTS[variant]] if one["name"] == "seccomp-reconciler")
    assert isinstance(found, dict)
    return found


def gardenlet() -> dict[str, Any]:
    (found,) = (one for one in documents(ROOT / "tests/charts/gardenlet.yaml") if one["kind"] == "Deployment")
    spec = found["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def reconciler() -> dict[str, Any]:
    (found,) = (
        one
        for one in render("standalone")
        if (one["kind"], one["metadata"]["name"]) == ("Deployment", "seccomp-reconciler")
    )
    (only,) = found["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def rights(objects: Iterable[Manifest], account: str) -> set[Right]:
    """What `objects` grant the ServiceAccount `account` of garden, one verb of one name at a time."""
    objects = list(objects)
    rules = {(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")): one for one in objects}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "garden"}
    return {
        (verb, group, resource, name, binding["metadata"].get("namespace") or "")
        for binding in objects
        if binding["kind"].endswith("Binding") and subject in binding["subjects"]
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"], binding["metadata"].get("namespace")][
            "rules"
        ]
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for name in rule.get("resourceNames", [""])
    }


def covered(right: Right, held: set[Right]) -> bool:
    verb, group, resource, name, namespace = right
    return any((verb, group, resource, n, s) in held for n in {name, ""} for s in {namespace, ""})


def test_the_variants_differ_in_what_makes_an_init_container_a_sidecar_alone() -> None:
    native = container("native")
    assert native.pop("restartPolicy") == "Always"
    assert native == container("plain")
    assert pod("plain")["volumes"] == pod("native")["volumes"]
    assert pod("plain").keys() == {"containers", "volumes"}
    assert pod("native").keys() == {"initContainers", "volumes"}


@pytest.mark.parametrize("variant", LISTS)
def test_a_component_has_its_patch_and_nothing_else(variant: str) -> None:
    (component,) = documents(SIDECAR / variant / "kustomization.yaml")
    assert component == {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"path": "patch.yaml"}],
    }
    (patch,) = documents(SIDECAR / variant / "patch.yaml")
    assert (patch["kind"], patch["metadata"]) == ("Deployment", {"name": "gardenlet", "namespace": "garden"})
    assert (patch["spec"].keys(), patch["spec"]["template"].keys()) == ({"template"}, {"spec"})


def test_gardenlets_container_stays_the_first_and_nothing_is_said_of_it() -> None:
    assert pod("plain")["containers"][0] == {"name": "gardenlet"}
    assert len(pod("plain")["containers"]) == 2


@pytest.mark.parametrize("variant", LISTS)
def test_what_is_added_is_what_is_taken_out(variant: str) -> None:
    removed = pod(variant, "remove.yaml")
    assert removed == {
        LISTS[variant]: [{"name": "seccomp-reconciler", "$patch": "delete"}],
        "volumes": [{"name": one["name"], "$patch": "delete"} for one in pod(variant)["volumes"]],
    }


@pytest.mark.parametrize("variant", LISTS)
def test_it_is_the_container_of_the_standalone_reconciler(variant: str) -> None:
    """Confined, limited, pulled and named in the same way."""
    found, expected = container(variant), reconciler()
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for same in ("image", "imagePullPolicy", "env", "resources", "securityContext", "terminationMessagePolicy"):
        assert found[same] == expected[same], same
    assert found["resources"]["limits"] == {"memory": "256Mi"}


@pytest.mark.parametrize("variant", LISTS)
def test_it_is_never_asked_whether_it_is_ready_or_has_started(variant: str) -> None:
    found = container(variant)
    assert not {"readinessProbe", "startupProbe", "lifecycle", "command"} & found.keys()
    probe = found["livenessProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": "seccomp-metrics"}
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 180
    assert found["ports"] == [{"name": "seccomp-metrics", "containerPort": 8081}]


@pytest.mark.parametrize("variant", LISTS)
def test_it_mounts_gardenlets_own_token_and_configuration(variant: str) -> None:
    mounts = {one["name"]: one for one in container(variant)["volumeMounts"]}
    assert all(one["readOnly"] for one in mounts.values())
    (theirs,) = (one for one in gardenlet()["containers"] if one["name"] == "gardenlet")
    for mount in theirs["volumeMounts"]:
        assert mounts.pop(mount["name"])["mountPath"] == mount["mountPath"]
    assert mounts.keys() == {one["name"] for one in pod(variant)["volumes"]}
    assert mounts.keys().isdisjoint(one["name"] for one in gardenlet()["volumes"])


@pytest.mark.parametrize("variant", LISTS)
def test_its_settings_are_those_of_the_chart_and_may_be_missing(variant: str) -> None:
    (volume,) = pod(variant)["volumes"]
    source = volume["configMap"]
    assert source["optional"] is True
    (item,) = source["items"]
    (config,) = (
        one for one in render("own-server") if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", source["name"])
    )
    settings = yaml.safe_load(config["data"][item["key"]])
    found = container(variant)
    (mount,) = (one for one in found["volumeMounts"] if one["name"] == volume["name"])
    assert found["args"] == ["run", f"--config={mount['mountPath']}/{item['path']}"]
    (theirs,) = (one for one in found["volumeMounts"] if one["name"] == "gardenlet-config")
    assert settings["gardenletConfiguration"] == {"file": f"{theirs['mountPath']}/config.yaml"}


def test_the_image_is_that_of_the_charts_release() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert {container(variant)["image"] for variant in LISTS} == {f"seccomp-reconciler:{version}"}


def test_gardenlets_own_rights_lack_three_rules_and_the_chart_grants_them() -> None:
    needed = rights(
        [*documents(ROOT / "config" / "rbac.yaml"), *documents(ROOT / "config" / "canary.yaml")], "seccomp-reconciler"
    )
    own = rights(documents(ROOT / "tests/charts/gardenlet.yaml"), "gardenlet")
    lacking = {right for right in needed if not covered(right, own)}
    assert lacking == {
        ("patch", "coordination.k8s.io", "leases", "seccomp-reconciler", "garden"),
        ("list", "discovery.k8s.io", "endpointslices", "", "garden"),
        ("watch", "discovery.k8s.io", "endpointslices", "", "garden"),
        ("create", "", "pods", "", "seccomp-canary"),
    }
    assert rights(render("own-server"), "gardenlet") == lacking


# The post-renderer, as far as it gets without kustomize


def refused(tools: Path, **environment: str) -> str:
    """What it says on standard error where it fails; `tools` is all that it finds in PATH."""
    done = subprocess.run(
        [SCRIPT], env={"PATH": str(tools), **environment}, input="", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "")
    return tmp_path


def test_the_post_renderer_is_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert SCRIPT.read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("image", ["", "untagged", "a:", ":b", "a:1 b", "a:1|b", 'a:1"'])
def test_the_post_renderer_wants_an_image_with_its_tag(tools: Path, image: str) -> None:
    assert refused(tools, SIDECAR_IMAGE=image) == (
        f"post-render.sh: SIDECAR_IMAGE is '{image}': expected REPOSITORY:TAG or REPOSITORY@DIGEST\n"
    )


def test_the_post_renderer_names_the_variants(tools: Path) -> None:
    said = refused(tools, SIDECAR_IMAGE="a:1", SIDECAR_VARIANT="../x")
    assert said == "post-render.sh: SIDECAR_VARIANT is '../x': expected plain or native\n"


def test_the_post_renderer_says_which_tools_it_needs(tools: Path) -> None:
    assert "neither kustomize nor kubectl is in PATH" in refused(tools, SIDECAR_IMAGE="a:1")
