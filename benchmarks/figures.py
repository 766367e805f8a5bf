"""Figures and how they are shown: percentiles, tables, targets that are printed and never asserted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` (0 to 1) of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def milliseconds(seconds: float) -> str:
    """Return the time as it is printed."""
    return f"{1000 * seconds:.1f}"


def verdict(value: float, limit: float, text: str) -> str:
    """Return a target and whether it was reached."""
    return f"{text}: {'reached' if value < limit else 'MISSED'}"


@dataclass(slots=True)
class Sheet:
    """One table with a title and the conditions that its reader must know."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def times(self, label: str, seconds: Sequence[float], *, ratio_to: Sequence[float] | None = None, to: str) -> None:
        """Add a row: n, min, median, p99, max in ms, the ratio of the medians, and the target."""
        ratio = "1.00" if ratio_to is None else f"{median(seconds) / median(ratio_to):.2f}"
        figures = (min(seconds), median(seconds), percentile(seconds, 0.99), max(seconds))
        self.rows.append((label, str(len(seconds)), *map(milliseconds, figures), ratio, to))

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index in (0, len(self.columns) - 1) else "right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)
        console.print()


TIMES = ("", "n", "min ms", "p50 ms", "p99 ms", "max ms", "p50 ratio", "target")
