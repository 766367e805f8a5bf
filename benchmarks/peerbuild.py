"""The admission benchmark's peer and its load generator (benchmarks/peer), built once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import cache, toolchain
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import platform_name

if TYPE_CHECKING:
    from tests.controlplane.progress import Display

SOURCES = Path(__file__).resolve().parent / "peer"
_NAMES = ("load", "server")
_FLAGS = ("-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags=-s -w")
_LIBRARY = re.compile(r"\bcontroller-runtime v\S+")
_LINES_OF_GO = 20


@dataclass(frozen=True, slots=True)
class Programs:
    """The two programs, and what they were built with: Go's version, and the library's."""

    server: Path
    load: Path
    built_with: str


def programs(show: Display) -> Programs:
    """Return the programs from the cache; ControlPlaneError carries go's own words where they cannot be built.

    A change of the sources or of Go means another folder in the cache, and a build of half a minute.
    """
    go = toolchain.go(show)
    version = _go(go, "version").stdout.strip()
    entry = f"peer-{_digest(version)}-{platform_name()}"
    folder = cache.directory() / entry
    with cache.locked(entry, show):
        if not all((folder / name).exists() for name in _NAMES):
            with cache.workbench(entry) as bench:
                _build(go, bench, show)
                for name in _NAMES:
                    cache.install(bench / name, folder / name)
    built_with = f"{version.removeprefix('go version ')}, {_LIBRARY.findall((SOURCES / 'go.mod').read_text())[0]}"
    return Programs(folder / "server", folder / "load", built_with)


def _digest(version: str) -> str:
    """Return what names this state of the sources, built by this Go."""
    digest = hashlib.sha256(f"{version}\n{_FLAGS}\n".encode())
    for source in sorted(path for path in SOURCES.rglob("*") if path.suffix == ".go" or path.name[:3] == "go."):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(SOURCES)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _build(go: Path, folder: Path, show: Display) -> None:
    packages = [f"./{name}" for name in _NAMES]
    with show.task("Fetching the modules of the admission benchmark's peer", None):
        stale = _go(go, "list", *_FLAGS, "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *packages).stdout.split()
    total = len(stale)
    output: list[str] = []
    with (
        show.task(f"Building the peer and its load generator (once; {total} packages to compile)", total) as completed,
        # A group of its own, so that an interrupt ends the compilers too.
        subprocess.Popen(
            [go, "build", *_FLAGS, "-v", "-o", f"{folder}{os.sep}", *packages],
            cwd=SOURCES,
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
        said = "".join(output[-_LINES_OF_GO:])
        raise ControlPlaneError(f"{SOURCES} could not be built (go's status {build.returncode}):\n{said}")


def _go(go: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [go, *arguments], cwd=SOURCES, env=toolchain.environment(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        said = "\n".join(result.stderr.strip().splitlines()[:_LINES_OF_GO])
        raise ControlPlaneError(f"go {arguments[0]} in {SOURCES} ended with {result.returncode}:\n{said}")
    return result
