"""`make chaos` in its short form; that its rules can be broken; that it leaves nothing, however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.chaos.faults import INFLICTIONS
from tests.chaos.invariants import Excuses, Refusals, Stretch, excused
from tests.chaos.plan import KINDS, draw
from tests.chaos.spans import Spans
from tests.chaos.terms import Bound
from tests.chaos.traffic import Fate, Outcome
from tests.seed import MANAGED

if TYPE_CHECKING:
    from pathlib import Path

CHAOS = [sys.executable, "-m", "tests.chaos"]
SEED = "29"
FAULTS = "12"


def spans(*times: tuple[float, float]) -> Spans:
    found = Spans()
    for start, end in times:
        found.add(start, end)
    return found


def created(fate: Fate, sent: float, answered: float, namespace: str = MANAGED) -> Outcome:
    return Outcome("pod", namespace, fate, sent, answered)


def test_the_same_seed_draws_the_same_plan_and_another_one_another() -> None:
    assert draw(1, 300) == draw(1, 300)
    assert draw(1, 300) != draw(2, 300)


def test_the_long_form_has_every_kind_of_fault() -> None:
    assert {step.kind.name for step in draw(3, 220)} == {kind.name for kind in KINDS} == set(INFLICTIONS)


ALWAYS = spans((0.0, 1000.0))


def refused(refusals: Refusals, sent: float, answered: float) -> Stretch:
    stretch = refusals.saw(created(Fate.REFUSED_BY_WEBHOOK, sent, answered))
    assert stretch is not None
    return stretch


def test_a_stretch_of_refusals_is_too_long_beyond_the_bound() -> None:
    refusals = Refusals(Bound(10.0, 15.0), ALWAYS, spans())
    assert not any(refused(refusals, at, at + 0.5).is_too_long for at in range(10))
    late = refused(refusals, 10.0, 10.5)
    assert late.is_too_long
    assert late.able_seconds == 10.5


def test_a_pod_that_passes_ends_the_stretch_and_one_without_an_answer_does_not() -> None:
    refusals = Refusals(Bound(10.0, 15.0), ALWAYS, spans())
    refused(refusals, 0.0, 1.0)
    refusals.saw(created(Fate.NO_ANSWER, 1.0, 9.0))
    assert refused(refusals, 11.0, 12.0).is_too_long
    refusals.saw(created(Fate.UNMUTATED, 12.0, 12.1))
    assert refused(refusals, 13.0, 14.0).able_seconds == 1.0


def test_the_clock_of_refusals_stands_still_while_nobody_of_ours_can_work() -> None:
    refusals = Refusals(Bound(10.0, 15.0), spans((0.0, 2.0), (20.0, 100.0)), spans())
    refused(refusals, 0.0, 1.0)
    assert not refused(refusals, 27.0, 28.0).is_too_long
    assert refused(refusals, 28.0, 29.0).is_too_long


@pytest.mark.parametrize(
    ("disturbed", "ended", "is_too_long"),
    [
        pytest.param((3.0, 6.0), 20.9, False, id="during-and-soon-after"),
        pytest.param((3.0, 6.0), 21.1, True, id="too-long-after"),
        pytest.param((3.0, float("inf")), 40.0, False, id="still-disturbed"),
        pytest.param((-9.0, -4.0), 10.9, False, id="over-just-before"),
        pytest.param((-9.0, -4.0), 11.1, True, id="over-before-and-too-long-after"),
        pytest.param((-90.0, -40.0), 10.1, True, id="over-long-ago"),
    ],
)
def test_a_disturbance_starts_the_clock_anew(
    disturbed: tuple[float, float], ended: float, *, is_too_long: bool
) -> None:
    refusals = Refusals(Bound(10.0, 15.0), spans((-100.0, 1000.0)), spans(disturbed))
    refused(refusals, 0.0, 1.0)
    assert refused(refusals, ended - 0.5, ended).is_too_long is is_too_long


def test_an_unmutated_pod_needs_a_window_or_another_excuse() -> None:
    excuses = Excuses(100.0, spans((300.0, 310.0)), spans(), spans(), spans((200.0, 205.0)))
    pods = [("early", 99.0), ("edge", 207.0), ("after", 208.0), ("off", 305.0)]
    assert excused(pods, excuses) == {
        "before the first Fail": [("early", 99.0)],
        "in a recorded window": [("edge", 207.0)],
        "": [("after", 208.0)],
        "with the gate off, or on again and not yet at Fail": [("off", 305.0)],
    }


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of its own: whatever is left is seen there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def left(directory: Path) -> list[psutil.Process]:
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
def test_every_rule_holds_in_the_short_form_and_nothing_is_left(environment: Path) -> None:
    argv = [*CHAOS, "--seed", SEED, "--faults", FAULTS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr, "no colours in a pipe"
    for said in (
        rf"^\d+ of {FAULTS} faults in \d+ s, seed {SEED}, on \d",
        r"^  pods, managed +\d+: \d+ mutated",
        r"^  convergence +\d+\.\d s after the last fault",
    ):
        assert re.search(said, done.stdout, re.MULTILINE), done.stdout
    assert list(environment.iterdir()) == []
    assert left(environment) == []


@pytest.mark.usefixtures("controlplane_binaries")
def test_interrupted_under_fire_it_leaves_nothing(environment: Path) -> None:
    with subprocess.Popen([*CHAOS, "--seed", SEED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as chaos:
        assert chaos.stderr is not None
        assert any(line.startswith("faults:") for line in chaos.stderr)
        chaos.send_signal(signal.SIGTERM)
        chaos.send_signal(signal.SIGTERM)  # who is impatient must not cut it short
        _, complaint = chaos.communicate(timeout=150)
        assert chaos.returncode == 130
    assert "interrupted" in complaint
    assert "Traceback" not in complaint
    assert list(environment.iterdir()) == []
    assert left(environment) == []
