"""Kubernetes' programs and etcd from their Go modules, with exactly the dependencies that their releases have."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import toolchain
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import KNOWN_TO_BUILD

if TYPE_CHECKING:
    from tests.controlplane.progress import Display
    from tests.controlplane.versions import Version

KUBERNETES = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd/server/v3"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5"
_LINES_OF_GO = 5
_STAGED = re.compile(r"^(\s*(?:replace\s+)?)(k8s\.io/\S+)(\s+=>\s+)\./staging/src/\S+$", re.MULTILINE)
_STAGED_REQUIREMENT = re.compile(r"^\s*(?:require\s+)?(k8s\.io/\S+)\s+v0\.0\.0(?:\s*//.*)?$", re.MULTILINE)


def build_kubernetes(program: str, version: Version, folder: Path, show: Display) -> Path:
    """Build that program of a release in the folder and return it; ControlPlaneError carries go's own words."""
    go = toolchain.go(show)
    with show.task(f"Fetching the module of Kubernetes {version}", None):
        (folder / "go.mod").write_text("module controlplane\n")
        released = Path(_download(go, folder, version)["GoMod"]).read_text()
        _check_staging(go, folder, version, released)
    (folder / "go.mod").write_text(kubernetes_go_mod(version, released))
    stamp = "k8s.io/component-base/version"
    linker = (
        f"-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor={version.major} "
        f"-X {stamp}.gitMinor={version.minor} -X {stamp}.gitTreeState=clean"
    )
    package = f"{KUBERNETES}/cmd/{program}"
    return _build(go, folder, package, linker=linker, title=f"{program} {version}", show=show)


def build_etcd(version: str, folder: Path, show: Display) -> Path:
    """Build etcd in the folder and return the program."""
    (folder / "go.mod").write_text(f"module controlplane\n\ngo 1.26\n\nrequire {ETCD} v{version}\n")
    return _build(toolchain.go(show), folder, ETCD, linker="-s -w", title=f"etcd {version}", show=show)


def build_kustomize(version: str, folder: Path, show: Display) -> Path:
    """Build kustomize in the folder and return the program."""
    (folder / "go.mod").write_text(f"module controlplane\n\ngo 1.26\n\nrequire {KUSTOMIZE} v{version}\n")
    linker = f"-s -w -X sigs.k8s.io/kustomize/api/provenance.version=v{version}"
    return _build(toolchain.go(show), folder, KUSTOMIZE, linker=linker, title=f"kustomize {version}", show=show)


def kubernetes_go_mod(version: Version, released: str) -> str:
    """Return a go.mod that builds a release from outside: its own, with its staging folders turned into modules.

    `released` is k8s.io/kubernetes' go.mod. Its list of staging modules, its dependencies and its godebug line differ
    from version to version; taken from itself they are always right.
    """
    text = re.sub(r"^module\s+\S+$", "module controlplane", released, count=1, flags=re.MULTILINE)
    text = _STAGED.sub(lambda match: f"{match[1]}{match[2]}{match[3]}{match[2]} {staging_version(version)}", text)
    return f"{text}\nrequire {KUBERNETES} v{version}\n"


def staging_modules(released: str) -> list[str]:
    """Return the staging modules that a release's go.mod requires (those only replaced there are not needed)."""
    return sorted(set(_STAGED_REQUIREMENT.findall(released)))


def staging_version(version: Version) -> str:
    """Return the version of the staging modules: v0.36.3 for 1.36.3."""
    return f"v0.{version.minor}.{version.patch}"


def _download(go: Path, folder: Path, version: Version) -> dict[str, str]:
    result = _go(go, folder, "mod", "download", "-json", f"{KUBERNETES}@v{version}")
    answer: dict[str, str] = json.loads(result.stdout or "{}")
    if result.returncode or "GoMod" not in answer:
        said = answer.get("Error") or result.stderr.strip()
        raise ControlPlaneError(f"{KUBERNETES}@v{version} cannot be had from the Go module proxy: {said}")
    return answer


def _check_staging(go: Path, folder: Path, version: Version, released: str) -> None:
    """Say at once which modules a proxy lacks; go itself would name one of them after minutes."""
    modules = [f"{module}@{staging_version(version)}" for module in staging_modules(released)]
    lacking = _go(go, folder, "list", "-m", "-e", "-f", "{{if .Error}}{{.Path}}{{end}}", *modules).stdout.split()
    if lacking:
        raise ControlPlaneError(
            f"the Go module proxy lacks {staging_version(version)} of {', '.join(lacking)}; take one of "
            f"{', '.join(KNOWN_TO_BUILD)}"
        )


def _build(go: Path, folder: Path, package: str, *, linker: str, title: str, show: Display) -> Path:
    program = folder / package.rsplit("/", 1)[-1]
    flags = ["-mod=mod", "-buildvcs=false", "-trimpath", f"-ldflags={linker}"]
    with show.task(f"Fetching the modules of {title}", None):
        stale = _go(go, folder, "list", *flags, "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", package)
        if stale.returncode:
            # One line for every import that is missing: the first ones say it all.
            said = "\n".join(stale.stderr.strip().splitlines()[:_LINES_OF_GO])
            raise ControlPlaneError(f"the modules of {title} cannot be had:\n{said}")
    total = len(stale.stdout.split())
    output: list[str] = []
    with (
        show.task(f"Building {title} (once; {total} packages to compile)", total) as completed,
        # A group of its own, so that an interrupt ends the compilers too.
        subprocess.Popen(
            [go, "build", *flags, "-v", "-o", str(program), package],
            cwd=folder,
            env=toolchain.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as build,
    ):
        try:
            for number, line in enumerate(build.stderr or (), start=1):
                output.append(line)
                completed(min(number, total))
        except BaseException:
            os.killpg(build.pid, signal.SIGKILL)
            raise
    if build.returncode:
        raise ControlPlaneError(
            f"{title} could not be built (go's status {build.returncode}):\n{''.join(output[-20:])}"
        )
    return program


def _go(go: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [go, *arguments], cwd=folder, env=toolchain.environment(), capture_output=True, text=True, check=False
    )
