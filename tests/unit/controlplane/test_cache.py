"""The cache: one filler at a time, and never anything half made."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.controlplane import cache
from tests.controlplane.progress import Plain

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import io, sys, time
from tests.controlplane import cache
from tests.controlplane.progress import Plain
with cache.locked("entry", Plain(io.StringIO())), cache.workbench("entry") as bench:
    (bench / "half-made").write_text("x")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.directory()


def hold() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_waits_for_the_lock_and_says_so() -> None:
    said = io.StringIO()
    entered = threading.Event()

    def enter() -> None:
        with cache.locked("entry", Plain(said)):
            entered.set()

    with hold() as holder:
        waiter = threading.Thread(target=enter)
        waiter.start()
        end = time.monotonic() + 10
        while not said.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        assert not entered.wait(0.3)
        holder.communicate()
        assert entered.wait(10)
        waiter.join()
    assert "waiting" in said.getvalue()


def test_other_entries_are_not_waited_for() -> None:
    with hold() as holder:
        said = io.StringIO()
        with cache.locked("other", Plain(said)):
            assert not said.getvalue()
        holder.communicate()


def test_a_killed_holder_leaves_no_lock_and_its_workbench_is_cleared(empty_cache: Path) -> None:
    with hold() as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    abandoned = list(empty_cache.glob(".entry.*"))
    assert len(abandoned) == 1
    with cache.locked("entry", Plain(io.StringIO())), cache.workbench("entry") as bench:
        assert not abandoned[0].exists()
        assert list(bench.iterdir()) == []
    assert not bench.exists()


def test_a_workbench_is_removed_after_an_error_too(empty_cache: Path) -> None:
    empty_cache.mkdir(parents=True)
    with pytest.raises(RuntimeError), cache.workbench("entry") as bench:
        raise RuntimeError
    assert not bench.exists()


def test_installing_replaces_in_one_step_and_makes_executable(tmp_path: Path, empty_cache: Path) -> None:
    target = empty_cache / "1.36.3" / "kube-apiserver"
    for content in ("old", "new"):
        made = tmp_path / "made"
        made.write_text(content)
        cache.install(made, target)
        assert target.read_text() == content
        assert target.stat().st_mode & 0o111
        assert not made.exists()
