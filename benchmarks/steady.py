"""What standing still costs the API server: our requests in the audit log, over a window and extrapolated."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.figures import Sheet
from benchmarks.watching import Drift, until_ready
from reconciler.cluster import WATCH_TIMEOUT_SECONDS
from reconciler.settings import ReconcilerConfiguration
from tests.seed import USER

if TYPE_CHECKING:
    from tests.seed import Seed

_WINDOW_SECONDS, _QUICK_WINDOW_SECONDS = 60.0, 15.0
_HOUR_SECONDS = 3600.0


def requests_per_hour(stage: Seed, *, quick: bool) -> Sheet:
    """Count what is sent at the start and in a window, and what one pass over an unchanged state sends."""
    window = _QUICK_WINDOW_SECONDS if quick else _WINDOW_SECONDS
    before = _requests(stage)
    with stage.running(), Drift(stage) as drift:
        until_ready(drift)
        started = _requests(stage)
        time.sleep(window)
        steady = _requests(stage)
    with Drift(stage) as drift:
        stage.command("reconcile", *stage.inputs)
        ended = _requests(stage)
        stage.command("reconcile", *stage.inputs)
        one_pass = _requests(stage) - ended
        drift.remove()
    seen = steady - started
    resyncs = _HOUR_SECONDS / ReconcilerConfiguration().resync_period_seconds
    watches = _HOUR_SECONDS / WATCH_TIMEOUT_SECONDS
    by_resync = resyncs * one_pass.total()
    proofs = 2 * _HOUR_SECONDS / ReconcilerConfiguration().proof.period_seconds
    renewals = _HOUR_SECONDS / ReconcilerConfiguration().leader_election.retry_period_seconds
    measured = seen.total() * _HOUR_SECONDS / window
    sheet = Sheet("Requests of our ServiceAccount, steady state", ("", "requests", "which"))
    sheet.rows += [
        ("start, until registered", str((started - before).total()), _which(started - before)),
        (f"{window:g} s of steady state", str(seen.total()), _which(seen)),
        ("one pass over an unchanged state", str(one_pass.total()), _which(one_pass)),
        ("an hour, extrapolated from the window", f"{measured:.0f}", ""),
        ("an hour, by resync", f"{by_resync:.0f}", f"{resyncs:.0f} passes of {one_pass.total()}, by arithmetic"),
        ("an hour, by renewed watches", f"{watches:.0f}", f"one each {WATCH_TIMEOUT_SECONDS} s, by arithmetic"),
        ("an hour, by proofs", f"{proofs:.0f}", "dry-run creates, two a proof while it holds, by arithmetic"),
        ("an hour, by the Lease", f"{renewals:.0f}", "patches of the leader, reads of the others, by arithmetic"),
        (
            "an hour, in all",
            f"{measured + by_resync + watches + proofs + renewals:.0f}",
            "none but the Lease's a write that is kept",
        ),
    ]
    sheet.notes.append(
        "From the audit log, proofs and Lease left out of the counts; the target is no write and no polling read."
    )
    return sheet


def _requests(stage: Seed) -> Counter[str]:
    events = stage.plane.audit_events()
    # A watch has two events, its start is the request.
    return Counter(
        str(event["verb"])
        for event in events
        if event["user"].get("username") == USER
        and "dryRun=All" not in event["requestURI"]
        and "/leases/" not in event["requestURI"]
        and not (event["verb"] == "watch" and event["stage"] == "ResponseComplete")
    )


def _which(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {verb}" for verb, number in sorted(counted.items())) or "none"
