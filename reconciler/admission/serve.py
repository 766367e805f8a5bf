"""`serve`: certificate, admission port and status port put together, from the start to the end of draining."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from reconciler.admission.certificate import LOOK_SECONDS, ServedCertificate
from reconciler.admission.listener import Limits, Listener
from reconciler.admission.metrics import Metrics
from reconciler.admission.review import Rules
from reconciler.admission.server import Reviews, Status
from reconciler.errors import UsageError

# Requests under way at the end of draining get this long.
_FINISH_SECONDS: Final = 10.0
_STATUS_LIMITS: Final = Limits(connections=100, idle_seconds=30.0, body_bytes=0)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. An empty `bind_address` means every address of the machine."""

    certificates: Path
    bind_address: str = ""
    port: int = 9443
    status_port: int = 8080
    client_ca: Path | None = None
    client_names: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)
    drain_delay_seconds: float = 10.0
    limits: Limits = field(default_factory=Limits)


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once. UsageError where a port is taken."""
    if options.client_names and options.client_ca is None:
        raise UsageError("--client-name needs --client-ca: without it nobody has to show a certificate")
    metrics = Metrics()
    served = ServedCertificate(options.certificates, metrics, client_ca=options.client_ca)
    status = Status(served, metrics)
    signals = _Signals()
    plain = Listener(status, _STATUS_LIMITS)
    status_port = await plain.start(options.bind_address, options.status_port, None)
    try:
        while not served.look():
            if await signals.came(within_seconds=LOOK_SECONDS):
                return
        listener = Listener(Reviews(served, metrics, options.rules, options.client_names), options.limits, metrics)
        port = await listener.start(options.bind_address, options.port, served.context)
        log.info("serve.started", port=port, status_port=status_port)
        status.listener = listener
        async with _looking(status, served, options.bind_address, port) as following:
            await signals.came(unless=following)
            # Every connection is closed with its next answer; new ones are still served until nobody sends any.
            listener.draining = True
            metrics.draining.set(1)
            log.info("serve.draining", seconds=options.drain_delay_seconds)
            hurry = await signals.came(within_seconds=options.drain_delay_seconds)
            finishing = asyncio.ensure_future(listener.stop(0.0 if hurry else _FINISH_SECONDS))
            if await signals.came(unless=finishing):
                await listener.stop(0.0)
            log.info("serve.stopped")
    finally:
        await plain.stop(0.0)


@asynccontextmanager
async def _looking(
    status: Status, served: ServedCertificate, address: str, port: int
) -> AsyncIterator[asyncio.Task[None]]:
    """Follow the certificate's folder, and look at ourselves as a client does after each change."""
    looks: set[asyncio.Task[None]] = set()

    async def look() -> None:
        # On a busy machine a look may fail; without another one the server would stay unready until the next change.
        while True:
            status.presented = await _presented(address, port)
            if status.presented == served.der:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def changed() -> None:
        task = asyncio.ensure_future(look())
        looks.add(task)
        task.add_done_callback(looks.discard)

    changed()
    following = asyncio.ensure_future(served.follow(changed))
    try:
        yield following
    finally:
        for task in (following, *looks):
            task.cancel()


async def _presented(address: str, port: int) -> bytes:
    """Return the leaf that the listener presents to a new connection; empty where it answers none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is compared byte by byte
    local = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared, not bound
    try:
        async with asyncio.timeout(5.0):
            _, writer = await asyncio.open_connection(local, port, ssl=context)
    except (OSError, TimeoutError):
        return b""
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(found or b"")


class _Signals:
    """SIGTERM and SIGINT, one after the other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[None] = asyncio.Queue()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._queue.put_nowait, None)

    async def came(self, *, within_seconds: float | None = None, unless: "asyncio.Task[None] | None" = None) -> bool:
        """Wait for the next one, at most so long; `unless` is a task whose end, which is a defect, is raised."""
        waiting = asyncio.ensure_future(self._queue.get())
        tasks = {waiting} if unless is None else {waiting, unless}
        done, _ = await asyncio.wait(tasks, timeout=within_seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if unless is not None and unless in done:
            unless.result()
        return waiting in done
