"""The process between the tests and the control plane: when the tests are gone, however they went, all is gone.

It owns the temporary directory and the children, takes one JSON command a line on stdin and answers one on stdout.
End of stdin or a lost parent means: kill the children, remove the directory, end. Only the standard library is used,
so it starts in milliseconds; it is run by path, not imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

PREFIX = "seccomp-controlplane-"
LOCK = "supervisor.lock"
# A parent that forked without exec may leave its end of the pipe open in a child: so its identity is looked at too.
PARENT_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1

Message = dict[str, Any]  # JSON object: the fields differ by command


def die_with_parent() -> None:
    """Let the kernel kill the calling child when the supervisor itself is killed (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def sweep(root: Path) -> list[Path]:
    """Remove directories whose supervisor was itself killed: their lock is free. Returns what was removed."""
    removed = []
    for directory in root.glob(f"{PREFIX}*"):
        try:
            if directory.stat().st_uid != os.getuid():
                continue
            descriptor = os.open(directory / LOCK, os.O_RDWR)
        except OSError:
            continue  # being made right now, or just removed by its owner
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(directory)
        finally:
            os.close(descriptor)
    return removed


class Supervisor:
    """The children by name, and the commands about them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: list[str]) -> Message:
        """Start a child with its output appended to `<name>.log` in the directory."""
        with (self.directory / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                argv,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        self.children[name] = child
        return {"pid": child.pid}

    def end(self, name: str, signal_number: int, grace_seconds: float) -> Message:
        """Send a signal and wait; after the grace SIGKILL. Answers whether it went by itself."""
        child = self.children[name]
        graceful = True
        if child.poll() is None:
            child.send_signal(signal_number)
        try:
            child.wait(timeout=grace_seconds)
        except subprocess.TimeoutExpired:
            graceful = False
            child.kill()
            child.wait()
        return {"returncode": child.returncode, "graceful": graceful}

    def poll(self, name: str) -> Message:
        """Answer the child's exit status, null while it runs."""
        return {"returncode": self.children[name].poll()}

    def answer(self, command: Message) -> Message:
        """Do one command."""
        match command:
            case {"op": "start", "name": str(name), "argv": list(argv)}:
                return self.start(name, argv)
            case {"op": "end", "name": str(name), "signal": int(number), "grace_seconds": int() | float() as grace}:
                return self.end(name, number, grace)
            case {"op": "poll", "name": str(name)}:
                return self.poll(name)
            case _:
                return {"error": f"unknown command {command}"}

    def clear(self) -> None:
        """Kill what runs and remove the directory."""
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        for child in self.children.values():
            child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def serve(supervisor: Supervisor, parent: int) -> None:
    """Take commands until stdin ends or the parent is another process than at the start."""
    pending = b""
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], PARENT_CHECK_SECONDS)
        if not readable:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            try:
                reply = supervisor.answer(json.loads(line))
            except (OSError, KeyError) as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            os.write(1, json.dumps(reply).encode() + b"\n")


def _leave(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)


def main(root: Path, parent: int) -> None:
    """Make the directory, tell its name, serve, and leave nothing behind."""
    signal.signal(signal.SIGTERM, _leave)
    sweep(root)
    supervisor = Supervisor(Path(tempfile.mkdtemp(prefix=PREFIX, dir=root)))
    try:
        lock = os.open(supervisor.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The tests' own stderr may be a pipe that somebody reads to its end: it must not be held open from here.
        log = os.open(supervisor.directory / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 2)
        os.write(1, json.dumps({"directory": str(supervisor.directory)}).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):
            serve(supervisor, parent)
    finally:
        supervisor.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
