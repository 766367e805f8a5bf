"""The plain port of `run`: /healthz, /readyz and /metrics. Whether the webhook works never decides on readiness."""

from collections.abc import Callable, Iterable
from typing import Final, Self

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from reconciler.errors import UsageError
from reconciler.telemetry.metrics import Metrics

# A connection that sends no whole head for this long is closed, be it new or kept.
_IDLE_SECONDS: Final = 30.0
# Answers take milliseconds: what is still open after this is a client that does not read.
_FINISH_SECONDS: Final = 0.5

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Health:
    """Answers while it is open; use it as an async context manager. Entering raises UsageError without the port.

    `alive` returns why the process should be started anew, and nothing while it should not. `not_well` returns what is
    not as it should be, a line each: /readyz shows it and stays 200, since a sidecar that is not ready would make the
    gardenlet's pod unready. An empty `address` means every address of the machine; port 0 any that is free.
    """

    def __init__(
        self,
        address: str,
        port: int,
        metrics: Metrics,
        *,
        alive: Callable[[], str],
        not_well: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._address = address
        self._port = port
        self._metrics = metrics
        self._alive = alive
        self._not_well = not_well
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        pages = web.Application()
        pages.router.add_get("/healthz", self._healthz)
        pages.router.add_get("/readyz", self._readyz)
        pages.router.add_get("/metrics", self._show_metrics)
        self._runner = runner = web.AppRunner(
            pages, access_log=None, keepalive_timeout=_IDLE_SECONDS, shutdown_timeout=_FINISH_SECONDS
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address or None, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise UsageError(
                f"cannot listen on {self._address or 'any address'}, port {self._port}: {error}. "
                "Choose another port with --status-port (0: any that is free), or an address with --bind-address"
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        found: int = self._runner.addresses[0][1] if self._runner is not None else self._port
        return found

    async def _healthz(self, _: web.Request) -> web.Response:
        trouble = self._alive()
        return web.Response(status=503 if trouble else 200, text=f"{trouble or 'ok'}\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        try:
            lines = ["ok", *self._not_well()]
        except Exception:
            # Even a defect of ours must not take the gardenlet out of service.
            log.exception("readyz.failed")
            lines = ["ok", "what is not well cannot be told: a defect, the log has more"]
        return web.Response(text="\n".join(lines) + "\n")

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
