"""`run`: a loop for the settings as they are, begun anew with each good change; health and metrics beside it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
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

    def trouble(self) -> str:
        return "" if self.loop is None else self.loop.trouble

    def queue_age_seconds(self) -> float:
        return 0.0 if self.loop is None else self.loop.queue_age_seconds


async def run(source: Source, options: Options) -> NoReturn:
    """Run until cancelled. Nothing is done before the first good settings; later the last good ones stay."""
    current = _Current()
    metrics = Metrics()
    metrics.queue_age.set_function(current.queue_age_seconds)
    report = Report(metrics)
    async with Health(
        options.bind_address, options.status_port, metrics, alive=current.trouble, not_well=report.not_well
    ) as health:
        log.info("run.listening", status_port=health.port)
        settings = await _first(source, options.adapt, report)
        await _loops(source, options, settings, report, current)


async def _loops(
    source: Source, options: Options, settings: ReconcilerConfiguration, report: Report, current: _Current
) -> NoReturn:
    known = Known()
    identity = new_identity()
    async with aclosing(_settings(source, options.adapt, settings, report)) as newer:
        while True:
            async with options.connect(settings) as cluster:
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


async def _first(
    source: Source, adapt: Callable[[ReconcilerConfiguration], ReconcilerConfiguration], report: Report
) -> ReconcilerConfiguration:
    """Return the first good settings: a process that ended without them would make gardenlet's pod unready."""
    complaint = ""
    while True:
        try:
            found = adapt(parse(await source.read(), origin=source.origin))
        except ReconcilerError as error:
            if str(error) != complaint:
                complaint = str(error)
                _complain(error, report, kept="nothing: waiting")
        else:
            report.metrics.configuration_unreadable[Input.SETTINGS].set(False)
            return found
        # Looked at again and again: an error of the disk passes without any change of the file.
        await asyncio.sleep(_LOOK_SECONDS)


def _complain(error: ReconcilerError, report: Report, *, kept: str) -> None:
    report.metrics.configuration_errors[Input.SETTINGS].inc()
    report.metrics.configuration_unreadable[Input.SETTINGS].set(True)
    log.error("settings.invalid", error=str(error), kept=kept)


async def _settings(
    source: Source,
    adapt: Callable[[ReconcilerConfiguration], ReconcilerConfiguration],
    current: ReconcilerConfiguration,
    report: Report,
) -> AsyncGenerator[ReconcilerConfiguration, None]:
    """Yield each new and good version of the settings."""
    complaint = ""
    async with aclosing(source.changes()) as changes:
        async for _ in changes:
            try:
                newer = adapt(parse(await source.read(), origin=source.origin))
            except ReconcilerError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _complain(error, report, kept="last good")
                continue
            complaint = ""
            report.metrics.configuration_unreadable[Input.SETTINGS].set(False)
            if newer != current:
                current = newer
                log.info("settings.changed", origin=source.origin)
                yield newer


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
