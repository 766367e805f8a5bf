"""Where kube-apiserver and etcd come from: five places, in one order, and a report of all of them when none had it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import cache, envtest, gobuild
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.progress import display
from tests.controlplane.versions import (
    KNOWN_TO_BUILD,
    VERSION_VARIABLE,
    Version,
    Wanted,
    parse_version,
    platform_name,
    version_or_none,
)

if TYPE_CHECKING:
    from tests.controlplane.progress import Display

ETCD_VERSION = "3.7.3"
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True, slots=True)
class Binaries:
    """Two programs, their version and where they were found."""

    version: Version
    kube_apiserver: Path
    etcd: Path
    source: str


def obtain(wanted: Wanted, show: Display | None = None) -> Binaries:
    """Return binaries from the first place that has them; the first time that may download or build for minutes."""
    show = show or display()
    tried: list[str] = []
    for place in (from_environment, from_cache, from_setup_envtest):
        try:
            return place(wanted)
        except ControlPlaneError as error:
            tried.append(str(error))
    with cache.locked(entry(wanted.preferred), show):
        try:
            return from_cache(wanted)  # another process may have been faster
        except ControlPlaneError:
            pass
        for source in (from_download, from_modules):
            try:
                return source(wanted, show)
            except ControlPlaneError as error:
                tried.append(str(error))
    places = "\n".join(f"  {number}. {reason}" for number, reason in enumerate(tried, start=1))
    raise ControlPlaneError(
        f"no kube-apiserver and etcd for Kubernetes {wanted} on {platform_name()}. Tried, in this order:\n{places}\n"
        f"What helps: set {ASSETS_VARIABLE} to a folder with both programs (setup-envtest use -p path), or make the Go "
        f"module proxy or the envtest index reachable, or take a version known to build: {', '.join(KNOWN_TO_BUILD)}."
    )


def controller_manager(version: Version, show: Display | None = None) -> Path:
    """Return kube-controller-manager of that release: from our cache, else built; envtest's archives have none."""
    show = show or display()
    program = cache.directory() / entry(version) / "kube-controller-manager"
    if not program.exists():
        with cache.locked(entry(version), show), cache.workbench(entry(version)) as bench:
            if not program.exists():
                cache.install(gobuild.build_kubernetes("kube-controller-manager", version, bench, show), program)
    return program


def entry(version: Version) -> str:
    """Return the name of a version's folder in our cache and in setup-envtest's store."""
    return f"{version}-{platform_name()}"


def from_environment(wanted: Wanted) -> Binaries:
    """Return what KUBEBUILDER_ASSETS points to, where its version will do."""
    folder = os.environ.get(ASSETS_VARIABLE)
    if not folder:
        raise ControlPlaneError(f"{ASSETS_VARIABLE} is not set")
    where = f"{ASSETS_VARIABLE}={folder}"
    programs = Path(folder) / "kube-apiserver", Path(folder) / "etcd"
    missing = [program.name for program in programs if not program.is_file()]
    if missing:
        raise ControlPlaneError(f"{where} holds no {' and no '.join(missing)}")
    version = _ask_version(programs[0])
    if not (wanted.any_version or wanted.accepts(version)):
        raise ControlPlaneError(f"{where} holds {version}, and {wanted} was asked for (unset {VERSION_VARIABLE}?)")
    return Binaries(version, *programs, source=where)


def from_cache(wanted: Wanted) -> Binaries:
    """Return what an earlier download or build left in our cache."""
    return _from_folders(wanted, cache.directory(), "our cache", shared_etcd=_etcd_program())


def from_setup_envtest(wanted: Wanted) -> Binaries:
    """Return what setup-envtest has downloaded on this machine.

    Source: controller-runtime, tools/setup-envtest/store/helpers.go.
    """
    if sys.platform == "darwin":
        store = Path.home() / "Library" / "Application Support" / "io.kubebuilder.envtest"
    else:
        store = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "kubebuilder-envtest"
    return _from_folders(wanted, store / "k8s", "setup-envtest's store", shared_etcd=None)


def from_download(wanted: Wanted, show: Display) -> Binaries:
    """Return the programs of the envtest release archive, downloaded into our cache."""
    archive = envtest.find(wanted)
    folder = cache.directory() / entry(archive.version)
    with cache.workbench(entry(wanted.preferred)) as bench:
        envtest.download(archive, bench, show)
        # kube-apiserver last: a folder is complete once it is there.
        for name in ("etcd", "kube-apiserver"):
            cache.install(bench / name, folder / name)
    return Binaries(archive.version, folder / "kube-apiserver", folder / "etcd", source=archive.address)


def from_modules(wanted: Wanted, show: Display) -> Binaries:
    """Return programs built from their Go modules into our cache; etcd is shared by all versions."""
    etcd = _etcd_program()
    if not etcd.exists():
        with cache.locked(etcd.parent.name, show), cache.workbench(etcd.parent.name) as bench:
            if not etcd.exists():
                cache.install(gobuild.build_etcd(ETCD_VERSION, bench, show), etcd)
    program = cache.directory() / entry(wanted.preferred) / "kube-apiserver"
    if not program.exists():
        with cache.workbench(entry(wanted.preferred)) as bench:
            cache.install(gobuild.build_kubernetes("kube-apiserver", wanted.preferred, bench, show), program)
    return Binaries(wanted.preferred, program, etcd, source="built from Go modules")


def _from_folders(wanted: Wanted, root: Path, what: str, *, shared_etcd: Path | None) -> Binaries:
    found = []
    for folder in root.glob(f"*-{platform_name()}"):
        version = version_or_none(folder.name.removesuffix(f"-{platform_name()}"))
        if version is None:
            continue  # etcd's or Go's folder, or a pre-release
        apiserver, etcd = folder / "kube-apiserver", folder / "etcd"
        if not etcd.is_file() and shared_etcd is not None:
            etcd = shared_etcd
        if wanted.accepts(version) and apiserver.is_file() and etcd.is_file():
            found.append(Binaries(version, apiserver, etcd, source=str(folder)))
    if not found:
        raise ControlPlaneError(f"{what} ({root}) holds no {wanted} with both programs")
    return max(found, key=lambda binaries: (binaries.version == wanted.preferred, binaries.version))


def _etcd_program() -> Path:
    return cache.directory() / f"etcd-{ETCD_VERSION}-{platform_name()}" / "etcd"


def _ask_version(program: Path) -> Version:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ControlPlaneError(f"{program} --version does not run here: {error}") from error
    match = re.search(r"v(\d+\.\d+\.\d+)", said)
    if match is None:
        raise ControlPlaneError(f"{program} --version said {said.strip()!r}: no version in it")
    return parse_version(match[1])
