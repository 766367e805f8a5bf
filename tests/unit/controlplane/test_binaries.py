"""Where the programs come from, and in which order."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from tests.controlplane import binaries, envtest, gobuild
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.progress import Plain
from tests.controlplane.versions import VERSION_VARIABLE, platform_name, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.versions import Version

SHOW = Plain(io.StringIO())


class Machine:
    """Folders of a machine that has nothing yet; `put` adds programs that only tell their version."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.assets = root / "assets"
        self.cache = root / "cache" / "seccomp-reconciler" / "controlplane"
        if sys.platform == "darwin":
            self.store = root / "Library" / "Application Support" / "io.kubebuilder.envtest" / "k8s"
        else:
            self.store = root / "data" / "kubebuilder-envtest" / "k8s"
        self.built: list[str] = []
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("HOME", str(root))
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        monkeypatch.setenv("XDG_DATA_HOME", str(root / "data"))
        monkeypatch.setenv(envtest.INDEX_VARIABLE, "")
        monkeypatch.delenv(binaries.ASSETS_VARIABLE, raising=False)
        monkeypatch.delenv(VERSION_VARIABLE, raising=False)
        monkeypatch.setattr(gobuild, "build_kubernetes", self._build_kubernetes)
        monkeypatch.setattr(gobuild, "build_etcd", self._build_etcd)

    def put(self, folder: Path, version: str = "1.36.3", *, etcd: bool = True) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        _program(folder / "kube-apiserver", f"Kubernetes v{version}")
        if etcd:
            _program(folder / "etcd", "etcd Version: 3.7.3")
        return folder

    def use_assets(self) -> None:
        self._monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(self.assets))

    def _build_kubernetes(self, program: str, version: Version, folder: Path, _show: object) -> Path:
        self.built.append(f"{program} {version}")
        return _program(folder / program, f"Kubernetes v{version}")

    def _build_etcd(self, version: str, folder: Path, _show: object) -> Path:
        self.built.append(f"etcd {version}")
        return _program(folder / "etcd", version)


def _program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param({"assets", "cache", "store"}, "assets", id="assets-first"),
        pytest.param({"cache", "store"}, "cache", id="then-our-cache"),
        pytest.param({"store"}, "store", id="then-setup-envtest"),
        pytest.param(set(), "build", id="then-a-build"),
    ],
)
def test_places_are_searched_in_order(machine: Machine, present: set[str], expected: str) -> None:
    entry = f"1.36.3-{platform_name()}"
    places = {"assets": machine.assets, "cache": machine.cache / entry, "store": machine.store / entry}
    for place in present:
        machine.put(places[place])
    machine.use_assets()
    found = binaries.obtain(wanted("1.36.3"), SHOW)
    assert found.kube_apiserver.parent == places.get(expected, machine.cache / entry)
    assert bool(machine.built) == (expected == "build")


def test_a_download_comes_before_a_build(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = envtest.Archive(wanted("1.36.3").preferred, "a.tar.gz", "http://127.0.0.1/a", "00")
    monkeypatch.setattr(envtest, "find", lambda _wanted: archive)
    monkeypatch.setattr(envtest, "download", lambda _archive, folder, _show: machine.put(folder))
    found = binaries.obtain(wanted("1.36.3"), SHOW)
    assert found.source == archive.address
    assert found.etcd.parent == found.kube_apiserver.parent == machine.cache / f"1.36.3-{platform_name()}"
    assert not machine.built
    assert not [path for path in machine.cache.iterdir() if path.name.startswith(".")], "a workbench was left"


def test_what_was_built_once_is_found_again_and_etcd_is_shared(machine: Machine) -> None:
    for _ in range(2):
        for version in ("1.36.3", "1.32.2"):
            assert str(binaries.obtain(wanted(version), SHOW).version) == version
    assert machine.built == ["etcd 3.7.3", "kube-apiserver 1.36.3", "kube-apiserver 1.32.2"]


def test_assets_of_another_version_are_not_taken_for_the_one_asked_for(machine: Machine) -> None:
    machine.put(machine.assets, "1.34.0")
    machine.use_assets()
    assert str(binaries.obtain(wanted("1.36.3"), SHOW).version) == "1.36.3"
    assert str(binaries.obtain(wanted(None), SHOW).version) == "1.34.0"


def test_half_an_entry_is_none(machine: Machine) -> None:
    machine.put(machine.store / f"1.36.3-{platform_name()}", etcd=False)
    with pytest.raises(ControlPlaneError, match=r"no 1\.36\.3 with both programs"):
        binaries.from_setup_envtest(wanted("1.36.3"))


def test_the_preferred_patch_wins_over_a_newer_one(machine: Machine) -> None:
    for version in ("1.36.9", "1.36.3", "1.36.0"):
        machine.put(machine.cache / f"{version}-{platform_name()}", version)
    assert str(binaries.from_cache(wanted("1.36")).version) == "1.36.3"


def test_other_platforms_and_pre_releases_are_passed_over(machine: Machine) -> None:
    machine.put(machine.cache / "1.36.3-plan9-mips")
    machine.put(machine.cache / f"1.36.0-rc.1-{platform_name()}")
    with pytest.raises(ControlPlaneError):
        binaries.from_cache(wanted("1.36"))


def test_a_failure_tells_every_place_in_order_and_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> Path:
        raise ControlPlaneError("the Go module proxy is gone")

    machine.put(machine.assets, etcd=False)
    machine.use_assets()
    monkeypatch.setattr(gobuild, "build_etcd", refuse)
    with pytest.raises(ControlPlaneError) as raised:
        binaries.obtain(wanted("1.36.3"), SHOW)
    said = str(raised.value)
    clues = ["1. KUBEBUILDER_ASSETS", "no etcd", "2. our cache", "3. setup-envtest", "\n  4. ", "5. the Go module"]
    positions = [said.find(clue) for clue in [*clues, "What helps"]]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_assets_that_do_not_run_are_reported(machine: Machine) -> None:
    machine.put(machine.assets)
    (machine.assets / "kube-apiserver").chmod(0o644)
    machine.use_assets()
    with pytest.raises(ControlPlaneError, match="does not run here"):
        binaries.from_environment(wanted(None))
