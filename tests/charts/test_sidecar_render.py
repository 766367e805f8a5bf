"""config/sidecar on what gardenlet's chart renders, by the real kustomize and Helm, and on a real API server."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from reconciler.cluster import DEPLOYMENTS, Target
from reconciler.sources import mounted_config_map
from tests import kustomize
from tests.controlplane.errors import ApiError
from tests.helm import helm
from tests.kustomize import KustomizeError
from tests.seed import ROOT, Connection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.registration.identity import Manifest
    from tests.controlplane.plane import ControlPlane

SIDECAR: Final = ROOT / "config" / "sidecar"
FIXTURE: Final = ROOT / "tests" / "charts" / "gardenlet.yaml"
LISTS: Final = {"plain": "containers", "native": "initContainers"}
IMAGE: Final = "registry.example/ours@sha256:" + "0" * 64
DEPLOYMENT: Final = ("Deployment", "gardenlet")
Objects = dict[tuple[str, str], "Manifest"]


def indexed(objects: Iterable[Manifest]) -> Objects:
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def fixture() -> Objects:
    return indexed(yaml.safe_load_all(FIXTURE.read_text()))


def overlay(folder: Path, *variants: str, resources: str = "", image: str = IMAGE) -> Path:
    """A kustomization in `folder`: gardenlet's manifests with `variants` laid over, and the image, where said."""
    folder.mkdir(exist_ok=True)
    (folder / "gardenlet.yaml").write_text(resources or FIXTURE.read_text())
    name, _, digest = image.partition("@")
    images = [{"name": "seccomp-reconciler", "newName": name, "digest": digest}] if image else []
    kustomization = {
        "resources": ["gardenlet.yaml"],
        "components": [os.path.relpath(SIDECAR / variant, folder.resolve()) for variant in variants],
        "images": images,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


def taken_out(objects: Objects, variant: str) -> tuple[Objects, dict[str, Any], dict[str, Any]]:
    """`objects` without the sidecar, and the container and the volume that it was."""
    rest = copy.deepcopy(objects)
    pod = rest[DEPLOYMENT]["spec"]["template"]["spec"]
    (container,) = (one for one in pod[LISTS[variant]] if one["name"] == "seccomp-reconciler")
    (volume,) = (one for one in pod["volumes"] if one["name"] == "seccomp-reconciler-config")
    pod[LISTS[variant]].remove(container)
    pod["volumes"].remove(volume)
    if not pod[LISTS[variant]]:
        del pod[LISTS[variant]]
    return rest, container, volume


@pytest.mark.parametrize("variant", LISTS)
def test_a_container_and_a_volume_are_added_and_nothing_else_changes(variant: str, tmp_path: Path) -> None:
    rest, container, volume = taken_out(indexed(kustomize.build(overlay(tmp_path, variant))), variant)
    assert rest == fixture()
    (patch,) = yaml.safe_load_all((SIDECAR / variant / "patch.yaml").read_text())
    pod = patch["spec"]["template"]["spec"]
    assert container == {**pod[LISTS[variant]][-1], "image": IMAGE}
    assert [volume] == pod["volumes"]


@pytest.mark.parametrize("variant", LISTS)
def test_a_second_time_changes_nothing(variant: str, tmp_path: Path) -> None:
    once = kustomize.build(overlay(tmp_path / "once", variant))
    assert kustomize.build(overlay(tmp_path / "twice", variant, variant)) == once
    again = overlay(tmp_path / "again", variant, resources=yaml.safe_dump_all(once))
    assert indexed(kustomize.build(again)) == indexed(once)


@pytest.mark.parametrize("variant", LISTS)
def test_without_gardenlet_it_is_refused(variant: str, tmp_path: Path) -> None:
    others = yaml.safe_dump_all(one for key, one in fixture().items() if key != DEPLOYMENT)
    with pytest.raises(KustomizeError, match=r"no matches for Id Deployment\.v1\.apps/gardenlet\.garden"):
        kustomize.build(overlay(tmp_path, variant, resources=others))


@pytest.mark.parametrize("variant", LISTS)
def test_gardenlets_container_is_the_first_and_its_configuration_is_still_found(variant: str, tmp_path: Path) -> None:
    """The sidecar has a `--config` in a ConfigMap, too: a Job beside it must not read that one for gardenlet's."""
    deployment = indexed(kustomize.build(overlay(tmp_path, variant)))[DEPLOYMENT]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["name"] == "gardenlet"
    found, key = mounted_config_map(deployment, Target(DEPLOYMENTS, "gardenlet", "garden"))
    assert (found.name, key) == ("gardenlet-config-0a1b2c3d", "config.yaml")


def test_kustomize_of_our_own_renders_the_same(tmp_path: Path) -> None:
    """Where PATH has neither kustomize nor kubectl it is built from its module."""
    folder = overlay(tmp_path, "plain")
    done = subprocess.run([kustomize.built(), "build", folder], capture_output=True, check=True)
    assert list(yaml.safe_load_all(done.stdout)) == kustomize.build(folder)


# The post-renderer


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart that renders the fixture."""
    folder = tmp_path / "gardenlet"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: gardenlet\nversion: 0.1.0\n")
    shutil.copy(FIXTURE, folder / "templates")
    return folder


def rendered(chart: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`helm template`; the post-renderer finds kustomize, and has a folder of its own for its files."""
    scratch = chart.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    path = os.pathsep.join((str(Path(kustomize.command()[0]).parent), os.environ["PATH"]))
    done = subprocess.run(
        [helm(), "template", "gardenlet", chart, "--namespace=garden", *options],
        env={**os.environ, "PATH": path, "TMPDIR": str(scratch), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert list(scratch.iterdir()) == []
    return done


def through(chart: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return rendered(chart, f"--post-renderer={SIDECAR / 'post-renderer' / 'post-render.sh'}", **environment)


@pytest.mark.parametrize("variant", LISTS)
@pytest.mark.parametrize("image", [IMAGE, "registry.example:5000/ours:1.2"])
def test_helm_renders_through_it(variant: str, image: str, chart: Path) -> None:
    plain = indexed(yaml.safe_load_all(rendered(chart).stdout))
    done = through(chart, SIDECAR_IMAGE=image, SIDECAR_VARIANT=variant)
    assert done.returncode == 0, done.stderr
    rest, container, _ = taken_out(indexed(yaml.safe_load_all(done.stdout)), variant)
    assert rest == plain == fixture()
    assert container["image"] == image


def test_helm_renders_the_plain_variant_where_none_is_named(chart: Path) -> None:
    done = through(chart, SIDECAR_IMAGE=IMAGE)
    assert done.stdout == through(chart, SIDECAR_IMAGE=IMAGE, SIDECAR_VARIANT="plain").stdout != ""


def test_helm_stops_where_the_chart_has_no_gardenlet(chart: Path) -> None:
    (chart / "templates" / "gardenlet.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n")
    done = through(chart, SIDECAR_IMAGE=IMAGE)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "no matches for Id Deployment.v1.apps/gardenlet.garden" in done.stderr


def test_helm_stops_where_no_image_is_named(chart: Path) -> None:
    done = through(chart, SIDECAR_IMAGE="")
    assert done.returncode != 0
    assert "expected REPOSITORY:TAG or REPOSITORY@DIGEST" in done.stderr


# kubectl patch


@pytest.mark.parametrize("variant", LISTS)
def test_a_patch_adds_it_to_what_runs_and_another_takes_it_out(
    variant: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    namespace = f"sidecar-{variant}"
    control_plane.ensure_namespace(namespace)
    collection = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    admin = Connection(control_plane.admin_kubeconfig)
    original = fixture()[DEPLOYMENT]
    original = {**original, "metadata": {**original["metadata"], "namespace": namespace}}
    before = admin.request("POST", collection, original)["spec"]

    def patched(file: str) -> Any:  # noqa: ANN401 - a Deployment's spec
        (patch,) = yaml.safe_load_all((SIDECAR / variant / file).read_text())
        patch.get("metadata", {}).pop("namespace", None)
        path = f"{collection}/gardenlet"
        return admin.request("PATCH", path, patch, "application/strategic-merge-patch+json")["spec"]

    after = patched("patch.yaml")
    assert patched("patch.yaml") == after
    rest, container, _ = taken_out({DEPLOYMENT: {"spec": after}}, variant)
    assert rest[DEPLOYMENT]["spec"] == before
    assert after["template"]["spec"]["containers"][0] == before["template"]["spec"]["containers"][0]
    assert container.get("restartPolicy") == ("Always" if variant == "native" else None)
    # The API server has no more to complete, and refuses nothing, in what kustomize renders.
    built = indexed(kustomize.build(overlay(tmp_path, variant)))[DEPLOYMENT]
    built = {**built, "metadata": {"name": "rendered", "namespace": namespace}}
    posted = admin.request("POST", f"{collection}?dryRun=All&fieldValidation=Strict", built)["spec"]
    _, same, _ = taken_out({DEPLOYMENT: {"spec": posted}}, variant)
    assert same == {**container, "image": IMAGE}
    assert patched("remove.yaml") == before


@pytest.mark.parametrize("variant", LISTS)
@pytest.mark.parametrize("volume", ["gardenlet-config", "kube-api-access-gardener"])
def test_a_gardenlet_that_lacks_the_volume_is_refused_by_its_name(
    variant: str, volume: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Nothing is rolled out beside a gardenlet of another shape: no pod starts without the file or the token."""
    control_plane.ensure_namespace("garden")
    deployment = indexed(kustomize.build(overlay(tmp_path, variant)))[DEPLOYMENT]
    deployment["metadata"]["name"] = "another-shape"
    pod = deployment["spec"]["template"]["spec"]
    pod["volumes"] = [one for one in pod["volumes"] if one["name"] != volume]
    own = pod["containers"][0]
    own["volumeMounts"] = [one for one in own["volumeMounts"] if one["name"] != volume]
    where = rf"{LISTS[variant]}\[\d\]\.volumeMounts\[\d\]\.name: Not found: \\\"{volume}\\\""
    with pytest.raises(ApiError, match=where):
        Connection(control_plane.admin_kubeconfig).request(
            "POST", "/apis/apps/v1/namespaces/garden/deployments?dryRun=All", deployment
        )
