"""Our own folder of binaries: one process at a time fills it, and nothing half made is ever seen in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.progress import Display


def directory() -> Path:
    """Return the folder of our own binaries."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seccomp-reconciler" / "controlplane"


@contextmanager
def locked(name: str, show: Display) -> Iterator[None]:
    """Hold the lock of one cache entry; waits, and says so, while another process has it.

    The kernel frees it when its holder dies, so a stale lock does not exist.
    """
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            show.say(f"another process is getting {name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def workbench(name: str) -> Iterator[Path]:
    """Give an empty folder on the cache's own file system, removed at the end; needs the lock of the same name.

    What a killed process left of it is removed first.
    """
    for abandoned in directory().glob(f".{name}.*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=directory()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(program: Path, target: Path) -> None:
    """Move a finished program to its place in one step; readers see all of it or nothing."""
    program.chmod(0o755)
    target.parent.mkdir(parents=True, exist_ok=True)
    program.replace(target)
