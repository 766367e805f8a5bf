"""Nothing outlives its owner: the processes here are sleeps, the rule is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.controlplane import supervisor
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWNER = """
import json, os, sys, time
from tests.controlplane.supervision import Supervision
supervision = Supervision()
supervision.start("sleeper", ["sleep", "600"])
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(600)  # holds the pipe open, as a forked worker would
print(json.dumps({"directory": str(supervision.directory), "pids": supervision.pids, "pid": supervision.pid}))
sys.stdout.flush()
time.sleep(600)
"""


def soon(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def supervision() -> Iterator[Supervision]:
    started = Supervision()
    yield started
    started.close()


def test_closing_ends_the_children_and_removes_the_directory(supervision: Supervision) -> None:
    pid = supervision.start("sleeper", ["sleep", "600"])
    assert not gone(pid)
    supervision.close()
    assert gone(pid)
    assert gone(supervision.pid)
    assert not supervision.directory.exists()
    supervision.close()
    with pytest.raises(ControlPlaneError, match="has been stopped"):
        supervision.exit_status("sleeper")


def test_ending_tells_whether_it_went_by_itself(supervision: Supervision) -> None:
    supervision.start("polite", ["sleep", "600"])
    assert supervision.end("polite")
    supervision.start("stubborn", [sys.executable, "-c", STUBBORN])
    assert soon(lambda: "ready" in supervision.log("stubborn"))
    assert not supervision.end("stubborn", grace_seconds=0.2)
    assert supervision.pids == {}


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def test_exit_status_and_output_are_kept(supervision: Supervision) -> None:
    supervision.start("brief", ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert soon(lambda: supervision.exit_status("brief") is not None)
    assert supervision.exit_status("brief") == 3
    assert supervision.log("brief").splitlines() == ["out", "err"]
    assert supervision.log("never-started") == "(no output)"


def test_a_program_that_does_not_exist_is_reported_and_the_supervisor_stays(supervision: Supervision) -> None:
    with pytest.raises(ControlPlaneError, match="FileNotFoundError"):
        supervision.start("nothing", ["/no/such/program"])
    assert supervision.start("sleeper", ["sleep", "600"])


@pytest.mark.parametrize("mode", ["plain", "fork"])
def test_a_killed_owner_leaves_no_process_and_no_directory(mode: str) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, mode], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = json.loads(owner.stdout.readline())
        forked = [child.pid for child in psutil.Process(owner.pid).children() if child.pid != left["pid"]]
        pids = [left["pid"], *left["pids"].values()]
        assert not any(map(gone, pids))
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert soon(lambda: all(map(gone, pids)))
        assert soon(lambda: not Path(left["directory"]).exists())
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
    assert len(forked) == (mode == "fork")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_supervisor_leaves_no_process_and_the_next_one_sweeps_its_directory() -> None:
    first = Supervision()
    pid = first.start("sleeper", ["sleep", "600"])
    os.kill(first.pid, signal.SIGKILL)
    assert soon(lambda: gone(pid))
    with pytest.raises(ControlPlaneError, match="supervisor"):
        first.exit_status("sleeper")
    first.close()
    assert first.directory.exists()
    second = Supervision()
    assert not first.directory.exists()
    assert second.directory.exists()
    second.close()


def test_a_supervisor_told_to_end_ends_clean(supervision: Supervision) -> None:
    pid = supervision.start("sleeper", ["sleep", "600"])
    os.kill(supervision.pid, signal.SIGTERM)
    assert soon(lambda: gone(pid))
    assert soon(lambda: not supervision.directory.exists())


def test_sweeping_leaves_the_living_and_the_unfinished_alone(supervision: Supervision) -> None:
    root = supervision.directory.parent
    assert supervision.directory not in supervisor.sweep(root)
    assert supervision.directory.exists()


def test_sweeping_leaves_a_directory_without_a_lock_alone(tmp_path: Path) -> None:
    young = tmp_path / f"{supervisor.PREFIX}young"
    young.mkdir()
    assert supervisor.sweep(tmp_path) == []
    (young / supervisor.LOCK).touch()
    assert supervisor.sweep(tmp_path) == [young]
