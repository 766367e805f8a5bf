"""A command that is killed right after one write: the API server has taken it, and the process never hears so."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from tests.faults import Fault, FaultProxy, Match
from tests.seed import PROGRAM, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.seed import Process, Seed

_PERSISTED = Match(write=True, dry_run=False)
_FOR_EVER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: killed after the write `after` (`PATCH name`), or by itself, with `code` and its output."""

    after: str
    code: int | None
    out: str
    err: str


class Deadly:
    """Commands of the product through a proxy that holds back the answer to each first write, and kills."""

    def __init__(self, stage: Seed, proxy: FaultProxy, kubeconfig: Path) -> None:
        self._stage = stage
        self._proxy = proxy
        self._kubeconfig = kubeconfig

    async def command(self, *arguments: str) -> Ended:
        """Run it until its first write has been taken, and kill it then; or to its end, where it writes nothing."""
        argv = [str(PROGRAM), *arguments, "--kubeconfig", str(self._kubeconfig)]
        with (
            self._proxy.fault(Fault.delay(after_seconds=_FOR_EVER_SECONDS, match=_PERSISTED, times=1)),
            TemporaryFile() as out,
            TemporaryFile() as err,
        ):
            before = len(self._proxy.writes(dry_run=False))
            process = start(argv, self._stage.environment, self._stage.zygote, stdout=out.fileno(), stderr=err.fileno())
            try:
                after = await self._killed(process, before)
            finally:
                process.kill()
                code = process.wait()
            texts = [(file.seek(0), file.read().decode())[1] for file in (out, err)]
            return Ended(after, None if after else code, *texts)

    async def _killed(self, process: Process, before: int) -> str:
        """Kill it after its first write, and return what that was; return nothing where it ended by itself.

        The first `before` writes are those of earlier commands: the proxy may not know yet that they are over.
        """
        while process.poll() is None:
            written = [one for one in self._proxy.writes(dry_run=False)[before:] if one.upstream_status is not None]
            if written and written[-1].is_running:
                process.kill()
                return f"{written[-1].method} {written[-1].path.rpartition('/')[2]}"
            await asyncio.sleep(0.005)
        return ""


@asynccontextmanager
async def deadly(stage: Seed, token: str) -> AsyncIterator[Deadly]:
    """Yield commands that are killed, as the identity of `token`."""
    plane = stage.plane
    pair = plane.issue_serving_certificate()
    async with FaultProxy(upstream=plane.url, upstream_ca=plane.ca_file, certificate=pair) as proxy:
        yield Deadly(stage, proxy, plane.kubeconfig_with(server=proxy.url, token=token))
