"""The tests' end of the supervisor: start, end and look at the processes of one control plane."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.controlplane.errors import ControlPlaneError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_END_SECONDS = 20.0


class Supervision:
    """One supervisor process with its temporary directory; usable from several threads."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        # Its own session: Ctrl-C reaches the tests, and they decide the order in which things end.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_SUPERVISOR), tempfile.gettempdir(), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.directory = Path(str(self._reply()["directory"]))
        self.pids: dict[str, int] = {}

    @property
    def pid(self) -> int:
        """The supervisor's own process id."""
        return self._process.pid

    def start(self, name: str, argv: list[str]) -> int:
        """Start a process; its output goes to `<name>.log`. Returns its id."""
        pid = int(self._ask({"op": "start", "name": name, "argv": argv})["pid"])
        self.pids[name] = pid
        return pid

    def end(self, name: str, *, signal_number: int = signal.SIGTERM, grace_seconds: float = 20.0) -> bool:
        """End a process and wait until it is gone; False when it had to be killed after the grace."""
        command = {"op": "end", "name": name, "signal": int(signal_number), "grace_seconds": grace_seconds}
        reply = self._ask(command)
        self.pids.pop(name, None)
        return bool(reply["graceful"])

    def exit_status(self, name: str) -> int | None:
        """Return the exit status of a process, None while it runs."""
        status = self._ask({"op": "poll", "name": name})["returncode"]
        return None if status is None else int(status)

    def log(self, name: str, *, last_lines: int = 25) -> str:
        """Return the end of a process's log."""
        path = self.directory / f"{name}.log"
        if not path.exists():
            return "(no output)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-last_lines:]) or "(no output)"

    def close(self) -> None:
        """Kill everything and remove the directory; more than once is fine."""
        with self._turn:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process.wait(timeout=_END_SECONDS)
        self.pids.clear()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        with self._turn:
            if self._process.stdin is None or self._process.stdin.closed:
                raise ControlPlaneError("this control plane has been stopped: start another one")
            try:
                self._process.stdin.write(json.dumps(command).encode() + b"\n")
                self._process.stdin.flush()
            except OSError as error:
                raise ControlPlaneError(f"the supervisor of the control plane is gone ({error})") from error
            return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise ControlPlaneError(
                f"the supervisor of the control plane ended by itself (exit status {self._process.poll()})"
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ControlPlaneError(f"the supervisor of the control plane could not do it: {reply['error']}")
        return reply
