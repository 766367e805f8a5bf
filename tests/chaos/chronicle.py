"""What happened when: a line for each fault's begin and end and each change seen, told where a rule breaks."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Chronicle:
    """Lines with their times; written from several threads."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """Write a line."""
        now = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        self._lines.append(f"{time.monotonic() - self.began:8.2f} s  {now}  {text}")

    def last(self, count: int) -> str:
        """Return the last lines."""
        return "\n".join(self._lines[-count:])
