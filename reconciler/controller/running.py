"""`run`: a loop for the settings as they are, begun anew with each good change; health and metrics beside it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NoReturn

import structlog

from reconciler.cluster import Cluster
from reconciler.controller.announcing import Announcer
from reconciler.controller.leadership import new_identity
from reconciler.controller.loop import Loop
from reconciler.controller.reporting import Known, Report
from reconciler.errors import ReconcilerError
from reconciler.settings import ReconcilerConfiguration, parse
from reconciler.sources import Source
from reconciler.telemetry.health import Health
from reconciler.telemetry.metrics import Input, Metrics

_LOOK_SECONDS: Final = 2.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says: how to reach the cluster, what it lays over the settings, and the status port."""

    connect: Callable[[ReconcilerConfiguration], Cluster]
    adapt: Callable[[ReconcilerConfiguration], ReconcilerConfiguration]
    bind_address: str
    status_port: int


class _Current:
    """The loop that runs now, as health and metrics see it."""

    loop: Loop | None = None
    cluster: Cluster | None = None

    def trouble(self) -> str:
        return "" if self.loop is None else self.loop.trouble

    def not_well(self, report: Report) -> Iterator[str]:
        if self.cluster is not None and self.cluster.trouble:
            yield self.cluster.trouble
        yield from report.not_well()

    def clock_ahead_seconds(self) -> float:
        return 0.0 if self.cluster is None else self.cluster.clock.ahead_seconds

    def queue_age_seconds(self) -> float:
        return 0.0 if self.loop is None else self.loop.queue_age_seconds


async def run(source: Source, options: Options) -> NoReturn:
    """Run until cancelled. Nothing is done before the first good settings; later the last good ones stay."""
    current = _Current()
    metrics = Metrics()
    metrics.queue_age.set_function(current.queue_age_seconds)
    metrics.clock_ahead.set_function(current.clock_ahead_seconds)
    report = Report(metrics)
    async with Health(
        options.bind_address,
        options.status_port,
        metrics,
        alive=current.trouble,
        not_well=partial(current.not_well, report),
    ) as health:
        log.info("run.listening", status_port=health.port)
        await _loops(_Settings(source, options.adapt, report), options, report, current)


async def _loops(inputs: "_Settings", options: Options, report: Report, current: _Current) -> NoReturn:
    known = Known()
    identity = new_identity()
    settings = await inputs.first()
    async with aclosing(inputs.newer()) as newer:
        while True:
            async with options.connect(settings) as cluster:
                current.cluster = cluster
                report.announcer = Announcer(cluster, settings.registration.name, identity)
                current.loop = loop = Loop(settings, cluster, report, identity=identity, known=known)
                log.info("run.started", name=settings.registration.name, identity=identity)
                running = asyncio.create_task(loop.run())
                announcing = asyncio.create_task(report.announcer.run())
                changed = asyncio.ensure_future(anext(newer))
                try:
                    await asyncio.wait({running, announcing, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (running, announcing, changed):
                        task.cancel()
                    await asyncio.wait({running, announcing, changed})
                for task in (running, announcing):
                    if not task.cancelled():
                        task.result()  # only a defect ends them
                settings, known = _carry(settings, changed.result(), loop.known)


class _Settings:
    """The settings as they were last good; why they cannot be read is said once for each new reason."""

    def __init__(
        self, source: Source, adapt: Callable[[ReconcilerConfiguration], ReconcilerConfiguration], report: Report
    ) -> None:
        self._source = source
        self._adapt = adapt
        self._metrics = report.metrics
        self._good: ReconcilerConfiguration | None = None
        self._complaint = ""

    async def first(self) -> ReconcilerConfiguration:
        """Return the first good ones: a process that ended without them would make gardenlet's pod unready.

        They are looked at again and again: an error of the disk passes without any change of the file.
        """
        while True:
            found = await self._read()
            if found is not None:
                return found
            await asyncio.sleep(_LOOK_SECONDS)

    async def newer(self) -> AsyncGenerator[ReconcilerConfiguration, None]:
        """Yield each new and good version."""
        async with aclosing(self._source.changes()) as changes:
            async for _ in changes:
                if (found := await self._read()) is not None:
                    log.info("settings.changed", origin=self._source.origin)
                    yield found

    async def _read(self) -> ReconcilerConfiguration | None:
        """Return the settings where they are good and new."""
        unreadable = self._metrics.configuration_unreadable[Input.SETTINGS]
        try:
            found = self._adapt(parse(await self._source.read(), origin=self._source.origin))
        except ReconcilerError as error:
            unreadable.set(True)
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._metrics.configuration_errors[Input.SETTINGS].inc()
                kept = "nothing: waiting" if self._good is None else "last good"
                log.error("settings.invalid", error=self._complaint, kept=kept)  # noqa: TRY400 - the message is the point
            return None
        self._complaint = ""
        unreadable.set(False)
        if found == self._good:
            return None
        self._good = found
        return found


def _carry(
    old: ReconcilerConfiguration, new: ReconcilerConfiguration, known: Known
) -> tuple[ReconcilerConfiguration, Known]:
    """Return the new settings and those inputs that still come from the same source."""
    if old.registration.name != new.registration.name:
        log.warning("registration.left_behind", name=old.registration.name, now=new.registration.name)
    if old.gardenlet_configuration != new.gardenlet_configuration:
        known = replace(known, decision=None)
    if old.registration.ca != new.registration.ca:
        known = replace(known, ca_bundle=None)
    return new, known
