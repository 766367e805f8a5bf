"""Keeping it so: triggers, a queue of one, passes that are retried for ever, and the last good inputs.

Every change of an input and every change of our own object wakes one pass; while a pass runs, wakes add up to one
more. In a steady state nothing is sent but the watches and, once a resync period, the reads of one pass.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeAlias

import structlog

from reconciler.backoff import Backoff, is_reportable, is_transient, retrying
from reconciler.certificates.rotation import Phase
from reconciler.cluster import Cluster
from reconciler.controller import inputs
from reconciler.controller.issuing import Issuer
from reconciler.controller.proving import Prover
from reconciler.controller.reconcile import Outcome, Result, reconcile, target_of
from reconciler.errors import ForeignObjectError, ReconcilerError
from reconciler.gardenlet.featuregates import Decision
from reconciler.registration.drift import Difference
from reconciler.registration.identity import Manifest
from reconciler.settings import ReconcilerConfiguration, parse
from reconciler.sources import Source

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Trigger(StrEnum):
    """Why a pass is due."""

    CONFIGURATION = "configuration"
    CA = "ca"
    REGISTRATION = "registration"
    RESYNC = "resync"


# uid and resourceVersion; nothing where there is no object.
_Version: TypeAlias = tuple[str, ...]
_UNKNOWN: Final[_Version] = ("unknown",)
_EVENTS: Final = {
    Result.REGISTERED: "registration.registered",
    Result.UPDATED: "registration.updated",
    Result.REMOVED: "registration.removed",
}
# A resync, and the start, read everything afresh.
_EVERYTHING: Final = frozenset(Trigger)


@dataclass(slots=True)
class Known:
    """The last good inputs: what stays in force while a source cannot be read. None: not known yet."""

    decision: Decision | None = None
    ca_bundle: bytes | None = None


@dataclass(slots=True)
class _Wake:
    """The queue of one: triggers that no pass has taken yet."""

    due: set[Trigger] = field(default_factory=lambda: set(_EVERYTHING))
    event: asyncio.Event = field(default_factory=asyncio.Event)
    news: set[Trigger] = field(default_factory=set)  # what came since the last pass began

    def add(self, trigger: Trigger) -> None:
        self.due.update(_EVERYTHING if trigger is Trigger.RESYNC else {trigger})
        self.news.add(trigger)
        self.event.set()

    def take(self) -> set[Trigger]:
        """Return what is due; what comes from now on, the same trigger too, is due again."""
        self.event.clear()
        self.news.clear()
        taken, self.due = self.due, set()
        return taken


class Loop:
    """The loop for one set of settings; `known` carries the last good inputs from one to the next."""

    def __init__(self, settings: ReconcilerConfiguration, cluster: Cluster, *, known: Known | None = None) -> None:
        self._settings = settings
        self._cluster = cluster
        self.known = known or Known()
        self._configuration = inputs.configuration_source(settings.gardenlet_configuration, cluster)
        self._ca = inputs.ca_source(settings.registration.ca, cluster)
        own = settings.registration.ca.self_signed
        self._issuer = Issuer(own, settings.registration, cluster) if own is not None else None
        self._prover = Prover(settings, cluster)
        self._wake = _Wake()
        self._watched: Manifest | None = None  # our object as the watch last saw it
        self._settled: _Version = _UNKNOWN  # what the last pass left, as long as passes succeed
        self._tolerated: tuple[Difference, ...] = ()
        self._complaints: dict[str, str] = {}
        self._failing = False
        self._last_error: BaseException | None = None

    async def run(self) -> NoReturn:
        """Run until cancelled; the registration stays as it is then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_source(self._configuration, Trigger.CONFIGURATION))
            for source in inputs.ca_sources(self._settings.registration.ca, self._cluster):
                group.create_task(self._follow_source(source, Trigger.CA))
            if self._issuer is not None:
                group.create_task(self._issuer.run(self._certificates_are_due))
            group.create_task(self._prover.run(self._stands, self._proved))
            group.create_task(self._follow_registration())
            group.create_task(self._resync())
            await self._pass_for_ever()

    async def _pass_for_ever(self) -> NoReturn:
        backoff = self._settings.backoff
        policy = retrying(
            Backoff(backoff.initial, backoff.maximum),
            deadline_seconds=None,
            retry_on=is_reportable,
            before_sleep=self._report_failure,
            sleep=self._sleep_unless_woken,
        )
        self._wake.event.set()
        while True:
            await self._wake.event.wait()
            await policy(self._pass)

    async def _pass(self) -> None:
        due = self._wake.take()
        try:
            await self._answer(due)
        except BaseException:
            self._settled = _UNKNOWN
            self._wake.due |= due  # only a pass that came to its end has answered what it was woken for
            raise
        if self._failing:
            self._failing = False
            log.info("pass.recovered")

    async def _answer(self, due: set[Trigger]) -> None:
        if due == {Trigger.REGISTRATION} and _version(self._watched) == self._settled:
            return  # the watch tells us of our own write
        if Trigger.CONFIGURATION in due:
            await self._refresh_decision()
        decision = self.known.decision
        if decision is not None and decision.enabled and (Trigger.CA in due or self.known.ca_bundle is None):
            await self._refresh_ca_bundle()
        if decision is not None and (not decision.enabled or self.known.ca_bundle is not None):
            bundle = self.known.ca_bundle if decision.enabled else None
            self._settle(await reconcile(self._cluster, self._settings.registration, ca_bundle=bundle))

    async def _refresh_decision(self) -> None:
        try:
            decision = await inputs.read_decision(self._configuration)
        except ReconcilerError as error:
            self._complain("configuration.invalid", error, kept=_gate(self.known.decision))
            return
        self._content("configuration.invalid")
        if decision != self.known.decision:
            log.info(
                "configuration.read",
                origin=self._configuration.origin,
                gate=decision.gate,
                enabled=decision.enabled,
                reason=decision.reason.value,
            )
            for warning in decision.warnings:
                log.warning("configuration.warning", origin=self._configuration.origin, warning=warning)
        self.known.decision = decision

    async def _refresh_ca_bundle(self) -> None:
        try:
            bundle = await (inputs.read_ca_bundle(self._ca) if self._issuer is None else self._issued(self._issuer))
        except ReconcilerError as error:
            self._complain("ca.invalid", error, kept="last good" if self.known.ca_bundle else "nothing")
            return
        self._content("ca.invalid")
        if bundle != self.known.ca_bundle:
            log.info("ca.read", origin=self._ca.origin, certificates=bundle.count(b"-----BEGIN"))
        self.known.ca_bundle = bundle

    async def _issued(self, issuer: Issuer) -> bytes:
        bundle, moved = await issuer.bundle(self._prover.proved, retry_seconds=self._settings.backoff.maximum)
        if moved:
            self._prover.hurry()
        return bundle

    def _certificates_are_due(self) -> None:
        if self.known.decision is None or not self.known.decision.enabled:
            return  # the pass that follows the gate asks for them
        self._wake.add(Trigger.CA)
        if self._issuer is not None and self._issuer.phase is not Phase.STABLE:
            self._prover.hurry()

    def _stands(self) -> bool:
        decision = self.known.decision
        return decision is not None and decision.enabled and self._watched is not None

    def _proved(self) -> None:
        if self._issuer is not None and self._issuer.phase is not Phase.STABLE:
            self._wake.add(Trigger.CA)

    def _complain(self, event: str, error: ReconcilerError, *, kept: str) -> None:
        """Log an unreadable input once for each new reason; what the API server may answer later is raised instead."""
        if is_transient(error):
            raise error
        if self._complaints.get(event) != str(error):
            self._complaints[event] = str(error)
            log.error(event, error=str(error), kept=kept)

    def _content(self, event: str) -> None:
        if self._complaints.pop(event, None) is not None:
            log.info(event.replace(".invalid", ".recovered"))

    def _settle(self, outcome: Outcome) -> None:
        self._settled = _version(outcome.observed)
        if outcome.result in _EVENTS:
            self._prover.written()
            log.info(
                _EVENTS[outcome.result],
                name=self._settings.registration.name,
                differences=[_plain(difference) for difference in outcome.differences],
            )
        if outcome.tolerated != self._tolerated:
            self._tolerated = outcome.tolerated
            terms = [_plain(difference) for difference in outcome.tolerated]
            log.warning("registration.tolerated", name=self._settings.registration.name, added_by_others=terms)

    def _report_failure(self, error: BaseException, delay_seconds: float) -> None:
        repeated = self._failing and str(error) == str(self._last_error)
        self._failing, self._last_error = True, error
        level = log.debug if repeated else log.warning if is_transient(error) else log.error
        level("pass.failed", error=str(error), kind=type(error).__name__, retry_in_seconds=round(delay_seconds, 3))

    async def _sleep_unless_woken(self, seconds: float) -> None:
        """Wait `seconds`, or until an input changes; the change of a foreign object is one, our own drift is not."""
        deadline = asyncio.get_running_loop().time() + seconds
        urgent = {Trigger.CONFIGURATION, Trigger.CA}
        if isinstance(self._last_error, ForeignObjectError):
            urgent.add(Trigger.REGISTRATION)
        # News may have come while the failed pass was under way, after it had looked.
        while not self._wake.news & urgent and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._wake.event.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.event.wait()
            except TimeoutError:
                return

    async def _follow_source(self, source: Source, trigger: Trigger) -> None:
        async with aclosing(source.changes()) as changes:
            async for _ in changes:
                self._wake.add(trigger)

    async def _follow_registration(self) -> None:
        async with aclosing(self._cluster.follow(target_of(self._settings.registration))) as states:
            async for state in states:
                if isinstance(state, ReconcilerError):
                    level = log.debug if is_transient(state) else log.error
                    level("watch.failed", error=str(state))
                    continue
                self._watched = state
                if _version(state) != self._settled:
                    self._wake.add(Trigger.REGISTRATION)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_period_seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
            self._wake.add(Trigger.RESYNC)


async def run(
    source: Source,
    connect: Callable[[ReconcilerConfiguration], Cluster],
    adapt: Callable[[ReconcilerConfiguration], ReconcilerConfiguration],
) -> NoReturn:
    """Run the loop, begun anew with each good change of the settings in `source`, until cancelled.

    `adapt` lays the command line's choices over the file. Settings that cannot be read at the start are raised;
    later they are reported, and the last good ones stay in force.
    """
    settings = adapt(parse(await source.read(), origin=source.origin))
    known = Known()
    async with aclosing(_settings(source, adapt, settings)) as newer:
        while True:
            async with connect(settings) as cluster:
                loop = Loop(settings, cluster, known=known)
                log.info("run.started", name=settings.registration.name)
                running = asyncio.create_task(loop.run())
                changed = asyncio.ensure_future(anext(newer))
                try:
                    await asyncio.wait({running, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (running, changed):
                        if not task.done():
                            task.cancel()
                    await asyncio.wait({running, changed})
                if running.done() and not running.cancelled():
                    running.result()  # only a defect ends the loop
                settings, known = _carry(settings, changed.result(), loop.known)


async def _settings(
    source: Source,
    adapt: Callable[[ReconcilerConfiguration], ReconcilerConfiguration],
    current: ReconcilerConfiguration,
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
                    log.error("settings.invalid", error=complaint, kept="last good")  # noqa: TRY400 - the message is the point
                continue
            complaint = ""
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


def _version(observed: Manifest | None) -> _Version:
    return () if observed is None else (observed["metadata"]["uid"], observed["metadata"]["resourceVersion"])


def _gate(decision: Decision | None) -> str:
    return "nothing known yet" if decision is None else f"last good: gate {'on' if decision.enabled else 'off'}"


def _plain(difference: Difference) -> dict[str, Any]:
    return {"path": difference.path, "desired": difference.desired, "observed": difference.observed}
