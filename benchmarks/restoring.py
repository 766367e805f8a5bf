"""How long drift lives: delete-to-restored and edit-to-restored, ours beside the floor, in alternating blocks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.figures import TIMES, Sheet, percentile, verdict
from benchmarks.watching import Drift, undamped, until_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.seed import Seed

_ROUNDS, _QUICK_ROUNDS, _BLOCKS = 200, 40, 4
_TARGET_SECONDS = 0.1


def restore_after_delete(stage: Seed, *, quick: bool) -> Sheet:
    """Measure from the DELETE's answer to the new object."""
    return _restore(stage, "Delete to restored", Drift.deleted, quick=quick)


def restore_after_edit(stage: Seed, *, quick: bool) -> Sheet:
    """Measure from the PATCH's answer to the old value."""
    return _restore(stage, "Edit (failurePolicy) to restored", Drift.edited, quick=quick)


def _restore(stage: Seed, title: str, make_drift: Callable[[Drift], float], *, quick: bool) -> Sheet:
    rounds = (_QUICK_ROUNDS if quick else _ROUNDS) // _BLOCKS
    manifest = stage.directory / "manifest.json"
    manifest.write_text(stage.command("render", "-o", "json", *stage.inputs).stdout)
    floor = [sys.executable, "-m", "benchmarks.floor", str(manifest)]
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(_BLOCKS):
        with stage.running(*undamped(stage)), Drift(stage) as drift:
            until_ready(drift)
            ours += [make_drift(drift) for _ in range(rounds)]
        with stage.process(floor), Drift(stage) as drift:
            until_ready(drift)
            peer += [make_drift(drift) for _ in range(rounds)]
            drift.remove()
    sheet = Sheet(title, TIMES)
    p99 = percentile(ours, 0.99)
    sheet.times("seccomp-reconciler run", ours, ratio_to=peer, to=verdict(p99, _TARGET_SECONDS, "p99 < 100 ms"))
    sheet.times("floor: bare watch + blind apply", peer, to="")
    sheet.notes.append(
        f"From the answer to the other writer until an independent watch saw it restored; {_BLOCKS} alternating blocks."
    )
    sheet.notes.append("Below zero: the watch told of the repair before the other writer had its answer.")
    return sheet
