"""Reviews on one core: requests a second, latency and resident memory of ours beside a controller-runtime peer."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from benchmarks import backends, pods
from benchmarks.capturing import reviews
from benchmarks.figures import Sheet
from benchmarks.peerbuild import programs
from tests.controlplane.progress import display

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.backends import Backend
    from benchmarks.peerbuild import Programs
    from tests.seed import Seed

OURS, PEER, SILENT = "serve", "peer", "peer, no log"
_CONNECTIONS = 16
_TIMEOUT_SECONDS = 120.0
# The least ratio of requests a second, by the size of the body.
_SIZES = ((pods.minimal, 3.0), (pods.controlplane, 7.0), (pods.crowded, 20.0))
_BUSY = 0.9


class Load(BaseModel):
    """What the load generator prints about one block; times are in ms."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    requests: int
    seconds: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    first_error: str = ""
    load_cpu_seconds: float


@dataclass(slots=True)
class Figures:
    """All blocks of one server with one body."""

    resident_at_rest: int
    resident_after: int = 0
    blocks: list[Load] = field(default_factory=list)

    def middle(self, name: str) -> float:
        """Return the median of the blocks: one that another job disturbed does not count."""
        return median(float(getattr(block, name)) for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all blocks have in common; the cores are None where there are not two."""

    stage: Seed
    certificates: Path
    built: Programs
    server_core: int | None
    load_core: int | None
    blocks: int
    warm_up_seconds: float
    seconds: float

    def measure(self, body: Path) -> dict[str, Figures]:
        """Start the servers and load one after the other, in turns."""
        settings = (self.stage, self.certificates)
        with ExitStack() as stack:
            ours = backends.ours(*settings, core=self.server_core)
            peer = backends.peer(*settings, self.built, core=self.server_core)
            silent = backends.peer(*settings, self.built, logging=False, core=self.server_core)
            servers = {OURS: ours, PEER: peer, SILENT: silent}
            running = {name: stack.enter_context(server) for name, server in servers.items()}
            figures = {name: Figures(server.resident_bytes()) for name, server in running.items()}
            for _ in range(self.blocks):
                for name, server in running.items():
                    figures[name].blocks.append(self._load(name, server, body))
                    figures[name].resident_after = server.resident_bytes()
        return figures

    def _load(self, name: str, server: Backend, body: Path) -> Load:
        argv = ["env", "GOMAXPROCS=1", str(self.built.load), f"-url={server.url}", f"-body={body}"]
        argv += [f"-ca={self.stage.ca}", f"-connections={_CONNECTIONS}"]
        argv += [f"-warm-up={self.warm_up_seconds}s", f"-duration={self.seconds}s"]
        with backends.on_core(self.load_core):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"the load generator ended with {done.returncode}: {done.stderr.strip()}")
        load = Load.model_validate(json.loads(done.stdout))
        if load.errors or not load.requests:
            raise RuntimeError(f"{name}: {load.errors} of {load.requests} requests failed: {load.first_error}")
        return load


def throughput(stage: Seed, *, quick: bool) -> Sheet:
    """Load each server with bodies of three sizes that the API server itself has sent."""
    server_core, load_core = backends.cores()
    bench = Bench(
        stage=stage,
        certificates=backends.certificates(stage),
        built=programs(display()),
        server_core=server_core,
        load_core=load_core,
        blocks=2 if quick else 4,
        warm_up_seconds=1.0 if quick else 2.0,
        seconds=2.0 if quick else 6.0,
    )
    columns = ("", "requests/s", "p50 ms", "p99 ms", "max ms", "MB at rest", "after", "ours is", "target")
    sheet = Sheet("Admission on one core", columns)
    busiest = 0.0
    bodies = reviews(stage, bench.certificates, [make() for make, _ in _SIZES])
    for content, (_, least) in zip(bodies, _SIZES, strict=True):
        body = stage.directory / "review.json"
        body.write_bytes(content)
        figures = bench.measure(body)
        sheet.rows.append((f"{len(content) / 1000:.1f} KB", *[""] * (len(columns) - 1)))
        sheet.rows += [_row(name, one, figures[OURS], least) for name, one in figures.items()]
        shares = [each.load_cpu_seconds / each.seconds for one in figures.values() for each in one.blocks]
        busiest = max(busiest, *shares)
    sheet.notes += _conditions(bench, stage.plane.version)
    note = f"The load generator was busy {100 * busiest:.0f} % of its time at most"
    sheet.notes.append(f"{note}: IT, NOT THE SERVER, WAS MEASURED." if busiest > _BUSY else f"{note}.")
    return sheet


def _row(name: str, figures: Figures, ours: Figures, least: float) -> tuple[str, ...]:
    rate = figures.middle("requests_per_second")
    ratio = ours.middle("requests_per_second") / rate
    target = ""
    if name == PEER:
        reached = {
            f">= {least:g}x": ratio >= least,
            "p99 below": ours.middle("p99_ms") < figures.middle("p99_ms"),
            "MB at rest": ours.resident_at_rest <= figures.resident_at_rest,
            "MB after": ours.resident_after <= figures.resident_after,
        }
        target = "\n".join(f"{text}: {'reached' if good else 'MISSED'}" for text, good in reached.items())
    return (
        f"  {name}",
        f"{rate:.0f}",
        *(f"{figures.middle(each):.1f}" for each in ("p50_ms", "p99_ms", "max_ms")),
        *(f"{each / 1e6:.1f}" for each in (figures.resident_at_rest, figures.resident_after)),
        "" if name == OURS else f"{ratio:.2f}x",
        target,
    )


def _conditions(bench: Bench, version: str) -> list[str]:
    where = "anywhere: there are not two cores to choose from"
    if bench.server_core is not None:
        where = f"on core {bench.server_core} alone (GOMAXPROCS=1), the load on core {bench.load_core}"
    blocks = (
        f"{bench.blocks} blocks of {bench.seconds:g} s, in turns, each after {bench.warm_up_seconds:g} s not counted"
    )
    return [
        f"Bodies as Kubernetes {version} sent them; TLS, {_CONNECTIONS} kept connections, each waits for its answer.",
        f"Medians of {blocks}; MB: 10^6 bytes resident.",
        f"Servers {where}; their logs go to files.",
        f"Peer: {bench.built.built_with}; the webhook alone. Amid all of gardener-resource-manager it would hold more",
        "  memory, and so collect garbage less often: with GOGC=400 it answers up to a fifth more.",
    ]
