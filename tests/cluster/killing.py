"""A command that is killed right after one write: the API server has taken it, and the process never hears so."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults import Fault, FaultProxy, Match
from tests.seed import PROGRAM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.seed import Seed

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
        with self._proxy.fault(Fault.delay(after_seconds=_FOR_EVER_SECONDS, match=_PERSISTED, times=1)):
            process = await asyncio.create_subprocess_exec(
                *argv, env=self._stage.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            output = asyncio.create_task(process.communicate())
            try:
                while not output.done():
                    written = [one for one in self._proxy.writes(dry_run=False) if one.upstream_status is not None]
                    if written and written[-1].is_running:
                        process.kill()
                        out, err = await output
                        name = written[-1].path.rpartition("/")[2]
                        return Ended(f"{written[-1].method} {name}", None, out.decode(), err.decode())
                    await asyncio.sleep(0.005)
                out, err = await output
                return Ended("", process.returncode, out.decode(), err.decode())
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@asynccontextmanager
async def deadly(stage: Seed, token: str) -> AsyncIterator[Deadly]:
    """Yield commands that are killed, as the identity of `token`."""
    plane = stage.plane
    pair = plane.issue_serving_certificate()
    async with FaultProxy(upstream=plane.url, upstream_ca=plane.ca_file, certificate=pair) as proxy:
        yield Deadly(stage, proxy, plane.kubeconfig_with(server=proxy.url, token=token))
