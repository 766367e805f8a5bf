"""`python -m tests.chaos`: the long form by default; exit status 0 when every rule held, 1 when one was broken."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from tests.chaos import report
from tests.chaos.campaign import Results, campaign
from tests.chaos.chronicle import Chronicle
from tests.chaos.invariants import ViolationError
from tests.chaos.plan import draw
from tests.controlplane import binaries
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.plane import ControlPlane
from tests.controlplane.progress import display
from tests.controlplane.versions import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.plan import Step
    from tests.chaos.world import World

LONG: Final = 220
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED: Final = 130
_READER_GONE: Final = 141

_EPILOG: Final = """\
The plan follows from the seed and the number of faults alone; when which of them meets what does not, quite.
Exit status: 0 every rule held, 1 one was broken (seed, time line and logs are told), 2 wrong usage, 130 interrupted.
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run, and where the logs go (None: nowhere)."""

    seed: int
    steps: Sequence[Step]
    keep_logs: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do it; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Faults in a random order under load, on a control plane of its own, and what must hold all along.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: a random one, which is told")
    parser.add_argument("--faults", type=_count, default=LONG, metavar="N", help=f"how many (default {LONG})")
    parser.add_argument("--plan", action="store_true", help="only print the plan")
    parser.add_argument("--keep-logs", type=Path, metavar="FOLDER", help="copy the processes' logs there at the end")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    order = Order(seed, draw(seed, options.faults), options.keep_logs)
    for number in _ENDS:
        signal.signal(number, _interrupt)
    try:
        if options.plan:
            print(f"seed {seed}, {len(order.steps)} faults", *order.steps, sep="\n", flush=True)
            return 0
        return _run(order)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"interrupted (seed {seed}): everything was ended and removed", file=sys.stderr)
        return _INTERRUPTED
    except ControlPlaneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(order: Order) -> int:
    show = display()
    found = binaries.obtain(wanted(None), show)
    results = Results()
    with ControlPlane.start_from(found, audit=False) as plane:
        show.say(f"seed {order.seed}, {len(order.steps)} faults, Kubernetes {plane.version}")
        # An exception out of a signal handler could hit asyncio anywhere: from here on signals are only noted.
        asked: list[int] = []
        for number in _ENDS:
            signal.signal(number, lambda number, _: asked.append(number))
        try:
            with show.task("faults", len(order.steps)) as progress:
                complaint = asyncio.run(_unless_ended(order, plane, results, progress, asked))
        finally:
            _ignore_signals()
    print(report.told(results, seed=order.seed, version=plane.version), flush=True)
    if complaint:
        print(complaint, file=sys.stderr, flush=True)
    return 1 if complaint else 0


async def _unless_ended(
    order: Order, plane: ControlPlane, results: Results, progress: Callable[[float], None], asked: Sequence[int]
) -> str:
    """Return what is to be said of a broken rule, empty where none was.

    SIGTERM and SIGINT, those `asked` before as well, end it in good order, and one is enough: a second one does not cut
    the clean-up short.
    """
    chronicle = Chronicle()
    task = asyncio.create_task(_chaos(order, plane, results, progress, chronicle))
    loop = asyncio.get_running_loop()
    # Connections that are reset in the middle of everything make asyncio complain where nobody can do anything.
    loop.set_exception_handler(lambda _, context: chronicle.say(f"asyncio: {context.get('message')}"))

    def end() -> None:
        for number in _ENDS:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in _ENDS:
        loop.add_signal_handler(number, end)
    if asked:
        end()
    return await task


async def _chaos(
    order: Order, plane: ControlPlane, results: Results, progress: Callable[[float], None], chronicle: Chronicle
) -> str:
    async with campaign(plane, chronicle, results, progress=progress) as (running, seen):
        try:
            await running.run(order.steps)
            running.judge_logs()
        except ViolationError as error:
            return report.failed(error, chronicle, seen, seed=order.seed, faults=len(order.steps))
        except Exception as error:  # a defect of the harness: what it saw helps all the same
            print(
                report.failed(error, chronicle, seen, seed=order.seed, faults=len(order.steps)),
                file=sys.stderr,
                flush=True,
            )
            raise
        finally:
            if order.keep_logs is not None:
                _keep(seen, chronicle, order.keep_logs)
    return ""


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)


def _keep(seen: World, chronicle: Chronicle, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for member in seen.members:
        (folder / f"{member.name.replace(' ', '-')}.log").write_text("\n--- next life ---\n".join(member.logs))
    (folder / "time-line.txt").write_text(chronicle.last(1_000_000) + "\n")
    for log in seen.plane.directory.glob("*.log"):
        shutil.copy(log, folder)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least one fault")
    return count


if __name__ == "__main__":
    sys.exit(main())
