"""What is shown where."""

from __future__ import annotations

import io

from rich.console import Console

from tests.controlplane.progress import Plain, Rich, display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_lines_and_a_terminal_bars() -> None:
    assert isinstance(display(io.StringIO()), Plain)
    assert isinstance(display(Terminal()), Rich)


def test_a_pipe_hears_of_progress_only_now_and_then() -> None:
    stream = io.StringIO()
    with Plain(stream, every_seconds=3600).task("Building", 1000) as completed:
        for done in range(1000):
            completed(done)
    assert len(stream.getvalue().splitlines()) == 2


def test_a_pipe_hears_shares_of_a_known_total_and_counts_of_an_unknown_one() -> None:
    stream = io.StringIO()
    for total in (200.0, None):
        with Plain(stream, every_seconds=0).task("Building", total) as completed:
            completed(50)
    assert "25 %" in stream.getvalue()
    assert "50 done" in stream.getvalue()


def test_a_bar_ends_full() -> None:
    stream = io.StringIO()
    show = Rich(Console(file=stream, force_terminal=True, width=100))
    with show.task("Building", 10) as completed:
        completed(3)
    show.say("done [with] brackets")
    assert "100 %" in stream.getvalue()
    assert "done [with] brackets" in stream.getvalue()
