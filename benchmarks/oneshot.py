"""Commands that start, do one thing and end: wall time of whole processes, in alternating runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figures import TIMES, Sheet, percentile, verdict
from tests.seed import PROGRAM

if TYPE_CHECKING:
    from tests.seed import Seed

_RUNS, _QUICK_RUNS = 20, 5
_TARGET_RATIO = 2.0


def one_shot(stage: Seed, *, quick: bool) -> Sheet:
    """`reconcile` on an unchanged state beside `kubectl apply --server-side` of the same manifest."""
    manifest = stage.directory / "manifest.yaml"
    manifest.write_text(stage.command("render", *stage.inputs).stdout)
    reconcile = [str(PROGRAM), "reconcile", *stage.inputs]
    commands = {"seccomp-reconciler reconcile": reconcile}
    kubectl = shutil.which("kubectl")
    if kubectl is not None:
        commands["kubectl apply --server-side"] = [
            kubectl,
            "apply",
            "--server-side",
            "--field-manager=seccomp-reconciler",
            f"--cache-dir={stage.directory / 'kubectl-cache'}",
            f"--filename={manifest}",
        ]
    times = _alternate(stage, commands, _QUICK_RUNS if quick else _RUNS)
    sheet = Sheet("One shot, unchanged state (wall time of the process)", TIMES)
    if kubectl is None:
        sheet.times("seccomp-reconciler reconcile", times["seccomp-reconciler reconcile"], to="")
        sheet.notes.append("kubectl: not found, skipped")
    else:
        peer = times["kubectl apply --server-side"]
        sheet.times("seccomp-reconciler reconcile", times["seccomp-reconciler reconcile"], ratio_to=peer, to="")
        sheet.times("kubectl apply --server-side", peer, to="")
        sheet.notes.append(
            "Alternating runs after one of each that is not counted; kubectl's discovery is cached then."
        )
    return sheet


def without_cluster(stage: Seed, *, quick: bool) -> Sheet:
    """`check-config` and `render` beside an interpreter that only imports the libraries which they cannot do without.

    `from pydantic import BaseModel` is the least that a model needs; `import pydantic` alone loads almost nothing.
    """
    imports = "imports alone"
    commands = {
        "check-config": [str(PROGRAM), "check-config", str(stage.gardenlet)],
        "render": [str(PROGRAM), "render", *stage.inputs],
        imports: [sys.executable, "-c", "import click, yaml; from pydantic import BaseModel"],
    }
    times = _alternate(stage, commands, _QUICK_RUNS if quick else _RUNS)
    sheet = Sheet("Commands without a cluster (wall time of the process)", TIMES)
    for name in ("check-config", "render"):
        ratio = percentile(times[name], 0.5) / percentile(times[imports], 0.5)
        target = verdict(ratio, _TARGET_RATIO, "at most twice the imports")
        sheet.times(name, times[name], ratio_to=times[imports], to=target)
    sheet.times(imports, times[imports], to="")
    sheet.notes.append(f"{imports}: click, PyYAML and pydantic's BaseModel, and nothing done with them.")
    return sheet


def _alternate(stage: Seed, commands: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, argv in commands.items():
            began = time.perf_counter()
            done = subprocess.run(argv, env=stage.environment, capture_output=True, text=True, timeout=60, check=False)
            took = time.perf_counter() - began
            if done.returncode != 0:
                raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip()}")
            if number > 0:  # the first run warms the files' cache and kubectl's discovery
                times[name].append(took)
    return times
