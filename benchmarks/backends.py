"""Admission servers as processes on 127.0.0.1, ours and the peer, each on one core where one is given."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import psutil

from benchmarks.registering import PATH
from tests.controlplane.servers import free_port
from tests.seed import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.peerbuild import Programs
    from tests.seed import Reconciler, Seed

_LIMIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Backend:
    """A server that answers reviews at `url`."""

    url: str
    pid: int

    def resident_bytes(self) -> int:
        """Return its resident memory now."""
        process = psutil.Process(self.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


def certificates(stage: Seed) -> Path:
    """Return a folder with tls.crt and tls.key for 127.0.0.1, as a mounted Secret has them."""
    folder = stage.directory / "serving"
    folder.mkdir(exist_ok=True)
    for issued, name in zip(stage.plane.issue_serving_certificate(), ("tls.crt", "tls.key"), strict=True):
        shutil.copy(issued, folder / name)
    return folder


@contextmanager
def ours(stage: Seed, folder: Path, *, core: int | None = None) -> Iterator[Backend]:
    """Start `seccomp-reconciler serve` and wait until it is ready; it is ended on leaving."""
    port, status_port = free_port(), free_port()
    argv = [str(PROGRAM), "serve", "--certificates", str(folder), "--bind-address", "127.0.0.1"]
    # Nobody sends here any more once it is ended: nothing to drain for.
    argv += ["--port", str(port), "--status-port", str(status_port), "--drain-delay", "0"]
    with _started(stage, argv, core) as process:
        _until(lambda: _says_ready(status_port), process)
        yield Backend(f"https://127.0.0.1:{port}{PATH}", process.pid)


@contextmanager
def peer(
    stage: Seed, folder: Path, programs: Programs, *, logging: bool = True, core: int | None = None
) -> Iterator[Backend]:
    """Start the controller-runtime server and wait until it takes connections; it is ended on leaving."""
    port = free_port()
    argv = [str(programs.server), f"-port={port}", f"-cert-dir={folder}", f"-log={str(logging).lower()}"]
    if core is not None:
        argv = ["env", "GOMAXPROCS=1", *argv]
    with _started(stage, argv, core) as process:
        context = ssl.create_default_context(cafile=str(stage.ca))
        _until(lambda: _shakes_hands(port, context), process)
        yield Backend(f"https://127.0.0.1:{port}{PATH}", process.pid)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Have what is started within run on this core alone; None, or a system that cannot do that, changes nothing."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> tuple[int | None, int | None]:
    """Return a core for the server and another one for the load; None for both where there are not two to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[-1], allowed[0]) if len(allowed) > 1 else (None, None)


@contextmanager
def _started(stage: Seed, argv: list[str], core: int | None) -> Iterator[Reconciler]:
    with ExitStack() as stack:
        with on_core(core):
            process = stack.enter_context(stage.process(argv))
        yield process


def _until(ready: Callable[[], bool], process: Reconciler) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while True:
        try:
            if ready():
                return
        except (OSError, HTTPException):
            pass  # not yet
        if process.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server was not ready within {_LIMIT_SECONDS:g} s: {process.last_words()}")
        time.sleep(_LOOK_SECONDS)


def _says_ready(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=_LIMIT_SECONDS)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK


def _shakes_hands(port: int, context: ssl.SSLContext) -> bool:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1"),
    ):
        return True
