"""How long work is shown: a bar on a terminal, an occasional plain line in a pipe or a CI log."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.progress import TaskID

    Completed = Callable[[float], None]

_PLAIN_EVERY_SECONDS = 15.0


class Display(Protocol):
    """Where words and progress go."""

    def say(self, text: str) -> None:
        """Show one line."""

    def task(self, title: str, total: float | None) -> AbstractContextManager[Completed]:
        """Show work with a known or unknown total; the value within takes how much is done."""


class Plain:
    """Lines for a pipe: at the start, every 15 seconds, at the end."""

    def __init__(self, stream: TextIO, *, every_seconds: float = _PLAIN_EVERY_SECONDS) -> None:
        self._stream = stream
        self._every_seconds = every_seconds

    def say(self, text: str) -> None:
        """Write one line."""
        print(text, file=self._stream, flush=True)

    @contextmanager
    def task(self, title: str, total: float | None) -> Iterator[Completed]:
        """Write how far it is now and then."""
        began = told = time.monotonic()
        self.say(f"{title} …")

        def completed(done: float) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= self._every_seconds:
                told = now
                share = f"{100 * done / total:.0f} %" if total else f"{done:.0f} done"
                self.say(f"{title}: {share} after {now - began:.0f} s")

        yield completed
        self.say(f"{title}: done in {time.monotonic() - began:.0f} s")


class Rich:
    """Bars for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Write one line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: float | None) -> Iterator[Completed]:
        """Show a bar with the time elapsed."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        with Progress(*columns, TimeElapsedColumn(), console=self._console) as bars:
            bar: TaskID = bars.add_task(title, total=total)

            def completed(done: float) -> None:
                bars.update(bar, completed=done)

            yield completed
            if total is not None:
                bars.update(bar, completed=total)


def display(stream: TextIO | None = None) -> Display:
    """Return what suits the stream (stderr where none is given)."""
    target = stream or sys.stderr
    return Rich(Console(file=target)) if target.isatty() else Plain(target)
