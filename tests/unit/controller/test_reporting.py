"""What the loop says: windows are counted, each once, however alike they look."""

from __future__ import annotations

from reconciler.controller.reporting import Report
from reconciler.registration import memory
from reconciler.registration.memory import Memory, State, Window
from reconciler.telemetry.metrics import Metrics

BEGAN = 1_800_000_000.7
CHANGED, LOST = "changed by somebody", "proof lost for a while"


def counted(*sights: tuple[Window, ...]) -> float:
    """Return how many windows are counted where each of these memories is written, the first after no window."""
    report = Report(Metrics())
    known: Memory | None = None
    for windows in sights:
        remembered = Memory(State.FAIL, BEGAN, "3 proofs over 30 s", windows=windows)
        report.recorded(remembered, known=known)
        known = remembered
    found: float = report.metrics.fail_open_windows._value.get()
    return found


def test_a_window_is_counted_once_open_and_closed_and_read_back_from_the_object() -> None:
    opened = Memory(State.FAIL, BEGAN, "", windows=(Window(BEGAN, None, CHANGED),))
    closed = opened.closed(BEGAN + 5)
    read_back = memory.from_text(memory.to_text(closed))
    assert read_back is not None
    assert read_back.windows != closed.windows, "whole seconds"
    assert counted(opened.windows, closed.windows, read_back.windows) == 1


def test_two_of_the_same_second_and_reason_are_two() -> None:
    first, between = Window(BEGAN, BEGAN + 0.1, CHANGED), Window(BEGAN, BEGAN + 0.2, LOST)
    again = Window(BEGAN + 0.2, None, CHANGED)
    assert counted((first,), (first, between), (first, between, again)) == 3


def test_one_that_is_found_to_have_begun_sooner_is_the_same() -> None:
    opened = Memory(State.FAIL, BEGAN, "", windows=(Window(BEGAN, None, CHANGED),))
    assert counted(opened.windows, opened.reaching_back(BEGAN - 30).windows) == 1


def test_one_of_the_first_pass_counts_and_one_that_another_recorded_does_not() -> None:
    assert counted((Window(BEGAN, None, CHANGED),)) == 1
    report = Report(Metrics())
    theirs = Memory(State.FAIL, BEGAN, "", windows=(Window(BEGAN, BEGAN + 1, CHANGED),))
    report.recorded(theirs, known=theirs)
    assert report.metrics.fail_open_windows._value.get() == 0


def test_what_falls_out_of_the_list_is_not_counted_again() -> None:
    windows = tuple(Window(BEGAN + 100 * number, BEGAN + 100 * number + 1, CHANGED) for number in range(12))
    most = memory.MOST_WINDOWS
    assert counted(*(windows[max(0, end - most) : end] for end in range(1, 13))) == 12
