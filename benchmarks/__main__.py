"""`make bench`: speed, requests and memory on a real API server, beside a peer in the same run.

Figures are printed beside their targets and never asserted: a busy machine is no defect. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from benchmarks.admission import throughput
from benchmarks.auditing import audit
from benchmarks.creating import creation
from benchmarks.memory import resident_memory
from benchmarks.oneshot import one_shot, without_cluster
from benchmarks.restoring import restore_after_delete, restore_after_edit
from benchmarks.steady import requests_per_hour
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.plane import ControlPlane
from tests.controlplane.progress import display
from tests.seed import seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Sheet

BENCHMARKS: dict[str, tuple[Callable[..., Sheet], str]] = {
    "delete": (restore_after_delete, "delete-to-restored latency, 200 rounds (quick 40), beside a bare loop"),
    "edit": (restore_after_edit, "edit-to-restored latency, likewise"),
    "requests": (requests_per_hour, "requests in steady state, over 60 s (quick 15 s)"),
    "memory": (resident_memory, "resident memory through 10 000 drift events (quick 500)"),
    "oneshot": (one_shot, "`reconcile` on an unchanged state beside `kubectl apply --server-side`"),
    "commands": (without_cluster, "`check-config` and `render` beside importing their libraries"),
    "admission": (throughput, "reviews a second on one core, in three sizes, beside a controller-runtime server"),
    "create": (creation, "what creating a pod costs: without a webhook, with ours, with the peer"),
    "audit": (audit, "`audit` of 10 000 pods in 200 namespaces (quick 1 000 in 20), beside a raw paginated list"),
}


def main() -> int:
    """Run the chosen benchmarks; returns the exit status."""
    listing = "\n".join(f"  {name:<11}{text}" for name, (_, text) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Benchmarks on a control plane of their own, as the ServiceAccount of config/rbac.yaml.",
        epilog=f"benchmarks:\n{listing}\n\nAll of them take about twelve minutes, with --quick about two. "
        "The peer of `admission` and `create` is built once, in half a minute.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help="may be repeated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        missed = _measure(console, options.only or list(BENCHMARKS), quick=options.quick)
    except (ControlPlaneError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: everything was ended and removed", file=sys.stderr)
        return 130
    if missed:
        print(f"error: not measured: {', '.join(missed)}; the reasons are above", file=sys.stderr)
    return 1 if missed else 0


def _measure(console: Console, names: list[str], *, quick: bool) -> list[str]:
    """Run the benchmarks of these names, each whether or not another failed; returns those that could not measure."""
    missed = []
    with ControlPlane.start(show=display()) as plane, seed(plane) as stage:
        console.print(
            f"Kubernetes {plane.version}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
            f"load {os.getloadavg()[0]:.2f}, control plane on the same machine{', quick' if quick else ''}\n",
            highlight=False,
        )
        for name in names:
            began = time.monotonic()
            try:
                sheet = BENCHMARKS[name][0](stage, quick=quick)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are still measured
                print(f"{name}: not measured: {type(error).__name__}: {error}\n", file=sys.stderr)
                missed.append(name)
                continue
            sheet.notes.append(f"took {time.monotonic() - began:.0f} s; load now {os.getloadavg()[0]:.2f}")
            sheet.show(console)
    return missed


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
