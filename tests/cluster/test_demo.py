"""`make demo` does what it says, leaves nothing, and ends clean when it is interrupted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

DEMO = [sys.executable, "-m", "tests.demo"]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of its own: whatever the demo leaves is seen there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def of_the_demo(directory: Path) -> list[psutil.Process]:
    """Return the processes whose command line or working directory lies in its folder for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(directory) in " ".join([*process.cmdline(), process.cwd()]):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.usefixtures("controlplane_binaries")
def test_every_step_happens_and_nothing_is_left(environment: Path) -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^(\d+)\. (.*)$", done.stdout, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, 17))
    assert len(re.findall(r"put back in  \d+ ms$", done.stdout, re.MULTILINE)) == 4
    for said in (
        r"registered, counted from the start of the process  \d+ ms",
        r"untouched: same uid, same resourceVersion",
        r"removed, counted from the change of the file .*  \d+ ms",
        r"exit status 0  \d+ ms",
        r"shoot--demo/etcd-before: seccompProfile.type: none",
        r"proved by `run`: our server answered and the pod has the profile",
        r"shoot--demo/etcd-after: seccompProfile.type: RuntimeDefault",
        r"shoot--demo/etcd-labelled: seccompProfile.type: none",
        r"shoot--demo/etcd-unconfined: seccompProfile.type: Unconfined",
        r"\d+ pods created meanwhile: each has its profile",
        r"failurePolicy: Fail \(\d+ proofs over \d+ s\)  \d+ ms",
        r"failurePolicy: Ignore  \d+ ms",
        r"Enforced +True +Fail since",
        r"shoot--demo/etcd-in-between, created .*, in-window",
        r"All 16 steps happened",
    ):
        assert re.search(said, done.stdout), said
    assert "\x1b" not in done.stdout, "no colours in a pipe"
    assert list(environment.iterdir()) == []
    assert of_the_demo(environment) == []


@pytest.mark.usefixtures("controlplane_binaries")
def test_interrupted_in_the_middle_it_leaves_nothing(environment: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert any("registered, counted" in line for line in demo.stdout)
        assert len(of_the_demo(environment)) >= 3  # both servers and the reconciler
        demo.send_signal(signal.SIGINT)
        _, complaint = demo.communicate(timeout=120)
        assert demo.returncode == 130
    assert "interrupted" in complaint
    assert "Traceback" not in complaint
    assert list(environment.iterdir()) == []
    assert of_the_demo(environment) == []


@pytest.mark.usefixtures("controlplane_binaries")
def test_a_reader_that_goes_away_ends_it_clean(environment: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert any(line.startswith("2.") for line in demo.stdout)
        demo.stdout.close()
        assert demo.wait(timeout=120) == 141
        assert demo.stderr is not None
        assert "Traceback" not in demo.stderr.read()
    assert list(environment.iterdir()) == []
    assert of_the_demo(environment) == []
