"""Prometheus' own judge of rules and metrics: the promtool in PATH, else the one of Debian's package `prometheus`.

The package is only unpacked, into our cache: nothing is installed, and no right is needed.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from tests.controlplane import cache
from tests.controlplane.progress import display

_NAME = "promtool"
_PACKAGE = "prometheus"
_LAST_CHARACTERS = 1500


class PromtoolError(RuntimeError):
    """There is no promtool; the message says what was tried and what to do."""


@functools.cache
def promtool() -> Path:
    """Return the path of promtool; the first time it is downloaded where PATH has none (19 MB)."""
    found = shutil.which(_NAME)
    return _from_debian() if found is None else Path(found)


def judge(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool to its end, whatever it says; stdout and stderr are texts."""
    return subprocess.run(
        [promtool(), *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def _from_debian() -> Path:
    program = cache.directory() / _NAME / _NAME
    with cache.locked(_NAME, display()):
        if program.exists():
            return program
        with cache.workbench(_NAME) as folder:
            _download(folder)
            (package,) = folder.glob("*.deb")
            _run(["dpkg-deb", "-x", str(package), str(folder / "unpacked")], folder)
            unpacked = folder / "unpacked" / "usr" / "bin" / _NAME
            _run([str(unpacked), "--version"], folder)
            cache.install(unpacked, program)
    return program


def _download(folder: Path) -> None:
    """Put the package into `folder`: as this machine's apt knows it, or by lists of our own where it knows none."""
    ours = [f"-oDir::State={folder / 'state'}", f"-oDir::Cache={folder / 'cache'}"]
    try:
        _run(["apt-get", "download", _PACKAGE], folder)
    except PromtoolError:
        for name in ("state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        _run(["apt-get", *ours, "update"], folder)
        _run(["apt-get", *ours, "download", _PACKAGE], folder)


def _run(argv: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PromtoolError(_advice(argv, str(error))) from error
    if done.returncode:
        raise PromtoolError(_advice(argv, done.stderr.strip()[-_LAST_CHARACTERS:]))


def _advice(argv: list[str], said: str) -> str:
    return (
        f"promtool is needed, PATH has none, and Debian's package {_PACKAGE} could not be unpacked: "
        f"`{' '.join(argv)}` failed: {said}. Install Prometheus, any version from 2.42 on, and put promtool in PATH"
    )
