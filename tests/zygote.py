"""The product's processes, without the second of imports that each of them costs.

A zygote has imported every module of the product and waits for orders. An order is a command line, an environment, a
directory and three files: the zygote forks, and its child runs the product's `main` as the program would. That is a
process of its own, to be killed, stopped and waited for. What an order cannot show is the start of the program itself,
its interpreter and its imports: the unit tests of the command line, `make demo` and `make chaos` start the program.

`python -m tests.zygote FD` serves the orders that come on that socket.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.controlplane.supervisor import die_with_parent

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
_ORDER_BYTES = 1 << 20
_STANDARD_FILES = 3


class Child:
    """A process that the zygote forked; what it offers of `subprocess.Popen` means the same."""

    def __init__(self, argv: list[str], pid: int, status: int) -> None:
        self.args = argv
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._turn = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status; subprocess.TimeoutExpired when it does not come."""
        if (found := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return found

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            # In slices: another thread may have read it meanwhile.
            slice_seconds = 0.2 if end is None else min(0.2, max(0.0, end - time.monotonic()))
            with self._turn:
                if self.returncode is None and select.select([self._status], [], [], slice_seconds)[0]:
                    said = os.read(self._status, 16)
                    os.close(self._status)
                    # Without a word the zygote itself was killed, and its children with it.
                    self.returncode = int(said) if said else -signal.SIGKILL
            if end is not None and time.monotonic() >= end:
                break
        return self.returncode


class Zygote:
    """A context manager; what it forked ends with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-m", "tests.zygote", str(theirs.fileno())]
        self._process = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C reaches us, and we decide the order in which things end
            preexec_fn=die_with_parent,  # noqa: PLW1509 - also when we are killed; no thread holds a lock here
        )
        theirs.close()
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait()

    def start(
        self, argv: list[str], *, environment: dict[str, str], directory: Path, stdout: int, stderr: int
    ) -> Child:
        """Start `seccomp-reconciler`, which is `argv[0]`, with these arguments and files, in a session of its own."""
        order = {"argv": argv, "environment": environment, "directory": str(directory)}
        status, told = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        answer = b""
        with self._turn, contextlib.suppress(ConnectionError):
            socket.send_fds(self._socket, [json.dumps(order).encode()], [nothing, stdout, stderr, told])
            answer = self._socket.recv(64)
        os.close(nothing)
        os.close(told)
        if not answer:
            raise AssertionError(f"the zygote ended with {self._process.wait()}: its stderr says why")
        return Child(argv, int(answer), status)


def _load() -> None:
    """Import everything that a command could."""
    package = importlib.import_module("reconciler")
    for module in pkgutil.walk_packages(package.__path__, "reconciler."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # else the children's collections would copy every page


def _serve(orders: socket.socket) -> bool:
    """Fork for each order. Returns True in each child; in the zygote False, when its owner is gone."""
    ended, wakeup = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([orders.fileno(), ended], [], [])
        if ended in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(ended, 4096)
            _tell_the_dead(waiting)
        if orders.fileno() not in readable:
            continue
        message, files, _, _ = socket.recv_fds(orders, _ORDER_BYTES, _STANDARD_FILES + 1)
        if not message:
            for pid in waiting:
                os.kill(pid, signal.SIGKILL)
            return False
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            orders.close()
            for inherited in (ended, wakeup, *waiting.values(), files[_STANDARD_FILES]):
                os.close(inherited)
            _become(json.loads(message), files[:_STANDARD_FILES])
            return True
        waiting[pid] = files.pop()
        for file in files:
            os.close(file)
        orders.send(str(pid).encode())


def _tell_the_dead(waiting: dict[int, int]) -> None:
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        file = waiting.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(file, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(file)


def _become(order: dict[str, Any], files: list[int]) -> None:
    """Make the forked child what a started program would be."""
    os.setsid()
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["argv"]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it, and a child would
    _load()
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        importlib.import_module("reconciler.cli").main()
