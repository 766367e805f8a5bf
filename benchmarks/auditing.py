"""The audit of a large seed: `audit` beside a raw paginated list of the same pods, as whole processes in turn."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Sheet, verdict
from benchmarks.pods import crowded
from tests.seed import PROGRAM, ROOT

if TYPE_CHECKING:
    from benchmarks.pods import Object
    from tests.seed import Seed

_NAMESPACES, _QUICK_NAMESPACES = 200, 20
_PODS = 50  # in each namespace
_CONTAINERS = 5  # with them a pod weighs about 11.6 KB in a list
_ROUNDS = 3
_WRITERS = 6
_RATIO, _MEGABYTES = 1.5, 120.0


def audit(stage: Seed, *, quick: bool) -> Sheet:
    """Time and peak memory of `audit` on 10,000 pods in 200 namespaces (quick: 1,000 in 20)."""
    names = [f"shoot--audit--{number}" for number in range(_QUICK_NAMESPACES if quick else _NAMESPACES)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        shares = [names[first::_WRITERS] for first in range(_WRITERS)]
        list(pool.map(lambda number: _fill(stage, number, shares[number]), range(_WRITERS)))
    commands = {
        "seccomp-reconciler audit": [str(PROGRAM), "audit", *stage.inputs, "--output", "json"],
        "raw paginated list": [sys.executable, "-m", "benchmarks.listing", str(stage.kubeconfig)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    own: dict[str, list[float]] = {name: [] for name in commands}
    megabytes: dict[str, float] = dict.fromkeys(commands, 0.0)
    for _ in range(_ROUNDS):
        for name, argv in commands.items():
            took, busy, peak = _measured(stage, name, argv)
            seconds[name].append(took)
            own[name].append(busy)
            megabytes[name] = max(megabytes[name], peak)
    sheet = Sheet(
        f"Audit of {len(names) * _PODS} pods in {len(names)} namespaces",
        ("", "n", "min s", "max s", "min CPU s", "best ratio", "peak MB", "target"),
    )
    fastest = min(seconds["raw paginated list"])
    for name, times in seconds.items():
        ratio = min(times) / fastest
        target = ""
        if name != "raw paginated list":
            time_target = verdict(ratio, _RATIO, f"at most {_RATIO} times the list")
            target = f"{time_target}; {verdict(megabytes[name], _MEGABYTES, f'at most {_MEGABYTES:g} MB')}"
        figures = (
            f"{min(times):.1f}",
            f"{max(times):.1f}",
            f"{min(own[name]):.1f}",
            f"{ratio:.2f}",
            f"{megabytes[name]:.0f}",
        )
        sheet.rows.append((name, str(len(times)), *figures, target))
    sheet.notes.append(
        "CPU s are those of the process alone; the API server on this machine needs as much for each list."
    )
    sheet.notes.append("The list is read page by page with one kept connection, and no page is parsed.")
    return sheet


def _fill(stage: Seed, number: int, namespaces: list[str]) -> None:
    """Create the namespaces of one writer, and the pods in them."""
    template = crowded()
    template["spec"]["containers"] = template["spec"]["containers"][:_CONTAINERS]
    with stage.writer(f"filler-{number}") as connection:
        for namespace in namespaces:
            labels = {"gardener.cloud/role": "shoot"}
            manifest: Object = {"metadata": {"name": namespace, "labels": labels}}
            connection.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", **manifest})
            for index in range(_PODS):
                pod = copy.deepcopy(template)
                pod["metadata"]["name"] = f"pod-{index}"
                connection.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)


def _measured(stage: Seed, name: str, argv: list[str]) -> tuple[float, float, float]:
    """Return wall seconds, its own CPU seconds and peak resident MB of one process."""
    log = stage.directory / "audit.out"
    with Path(log).open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(argv, env=stage.environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{name} ended with {process.returncode}: {log.read_text()[-500:]}")
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000
