"""Times during which something held, on one clock, and how much of a stretch they cover. Pure."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Spans:
    """Stretches of time in the order in which they began; the last may be open: it still holds."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def note(self, *, holds: bool, at: float) -> None:
        """Note whether it holds from now on; the same as before changes nothing."""
        if holds and not self.is_open:
            self._spans.append((at, math.inf))
        elif not holds and self.is_open:
            self._spans[-1] = (self._spans[-1][0], at)

    def add(self, start: float, end: float) -> None:
        """Add one that is known whole."""
        self._spans.append((start, end))

    @contextmanager
    def during(self) -> Iterator[None]:
        """Add the time of the block, by the monotonic clock; from its beginning on it counts as open."""
        index = len(self._spans)
        started = time.monotonic()
        self._spans.append((started, math.inf))
        try:
            yield
        finally:
            self._spans[index] = (started, time.monotonic())

    @property
    def is_open(self) -> bool:
        """Whether it holds now."""
        return bool(self._spans) and self._spans[-1][1] == math.inf

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._spans)

    def seconds(self, start: float, end: float) -> float:
        """Return for how much of the time between the two it held."""
        return sum(max(min(last, end) - max(first, start), 0.0) for first, last in self._spans)

    def last_end(self, start: float, end: float) -> float:
        """Return when the last of those ended that reach into the time between the two; `start` where none does.

        Infinity: it lasts.
        """
        return max((last for first, last in self._spans if first <= end and start <= last), default=start)

    def reaching(self, start: float, end: float) -> float:
        """Return when the first of those began that reach into the time between the two; `end` where none does."""
        return min((first for first, last in self._spans if first <= end and start <= last), default=end)

    def holds(self, at: float, *, slack_seconds: float = 0.0) -> bool:
        """Return whether it held at that time, give or take the slack."""
        return any(first - slack_seconds <= at <= last + slack_seconds for first, last in self._spans)
