"""Resident memory after the start and through drift: it must stay flat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from benchmarks.figures import Sheet, verdict
from benchmarks.watching import Drift, undamped, until_ready

if TYPE_CHECKING:
    from tests.seed import Seed

_EVENTS, _QUICK_EVENTS, _STEPS = 10_000, 500, 10
_TARGET_MEGABYTES = 90.0


def resident_memory(stage: Seed, *, quick: bool) -> Sheet:
    """Make drift, wait for each repair, and look at the process's resident memory after each tenth."""
    step = (_QUICK_EVENTS if quick else _EVENTS) // _STEPS
    sheet = Sheet("Resident memory of `run`", ("drift events", "RSS MB", "since start", "target"))
    with stage.running(*undamped(stage)) as reconciler, Drift(stage) as drift:
        until_ready(drift)
        process = psutil.Process(reconciler.pid)
        start = now = process.memory_info().rss / 1e6
        sheet.rows.append(("0 (registered)", f"{start:.1f}", "", ""))
        for number in range(1, _STEPS + 1):
            for _ in range(step):
                drift.edited()
            now = process.memory_info().rss / 1e6
            sheet.rows.append((str(number * step), f"{now:.1f}", f"{now - start:+.1f}", ""))
        sheet.rows.append(("at the end", f"{now:.1f}", "", verdict(now, _TARGET_MEGABYTES, "< 90 MB")))
        drift.remove()
    sheet.notes.append("Each event is an edit of failurePolicy that was repaired before the next; MB = 10^6 bytes.")
    return sheet
