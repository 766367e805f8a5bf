"""The plain port of `run`: what it answers, what it never does to a sidecar's pod, and how it starts and ends."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, NoReturn

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.errors import UsageError
from reconciler.telemetry import health as room
from reconciler.telemetry.health import Health
from reconciler.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS = "127.0.0.1"


def well() -> str:
    return ""


async def ask(health: Health, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{ADDRESS}:{health.port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_alive_until_the_callable_says_why_not() -> None:
    trouble = ""
    async with Health(ADDRESS, 0, Metrics(), alive=lambda: trouble) as health:
        assert await ask(health, "/healthz") == (200, "ok\n")
        trouble = "the loop has not turned for 300 s"
        assert await ask(health, "/healthz") == (503, "the loop has not turned for 300 s\n")


async def test_ready_whatever_is_not_well() -> None:
    lines: Iterable[str] = ("the path is not proved: unreachable", "another registration holds upstream's entry")
    async with Health(ADDRESS, 0, Metrics(), alive=lambda: "not alive", not_well=lambda: lines) as health:
        assert await ask(health, "/readyz") == (200, "\n".join(("ok", *lines)) + "\n")
        lines = ()
        assert await ask(health, "/readyz") == (200, "ok\n")


async def test_ready_even_where_what_is_not_well_cannot_be_told() -> None:
    def defect() -> NoReturn:
        raise ZeroDivisionError

    async with Health(ADDRESS, 0, Metrics(), alive=well, not_well=defect) as health:
        status, text = await ask(health, "/readyz")
        assert status == 200
        assert "defect" in text


async def test_metrics_are_shown() -> None:
    metrics = Metrics()
    metrics.leader.set(1)
    async with (
        Health(ADDRESS, 0, metrics, alive=well) as health,
        aiohttp.ClientSession() as session,
        session.get(f"http://{ADDRESS}:{health.port}/metrics") as response,
    ):
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        shown = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert shown["seccomp_reconciler_leader"].samples[0].value == 1
    assert "process_open_fds" in shown
    assert "seccomp_reconciler_build_info" in shown


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/metrics", 405), ("PUT", "/healthz", 405), ("HEAD", "/readyz", 200)],
)
async def test_nothing_else_is_answered(method: str, path: str, status: int) -> None:
    async with (
        Health(ADDRESS, 0, Metrics(), alive=well) as health,
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{ADDRESS}:{health.port}{path}") as response,
    ):
        assert response.status == status


async def test_a_port_in_use_is_named_with_the_option_that_changes_it() -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"{ADDRESS}, port {port}: .*in use.* --status-port"):
            async with Health(ADDRESS, port, Metrics(), alive=well):
                pass


async def test_an_address_of_another_machine_is_named_with_the_option_that_changes_it() -> None:
    with pytest.raises(UsageError, match=r"192\.0\.2\.1, port 0: .*--bind-address"):
        async with Health("192.0.2.1", 0, Metrics(), alive=well):
            pass


async def test_every_address_is_listened_on_by_default() -> None:
    with socket.create_server((ADDRESS, 0)) as found:
        port = found.getsockname()[1]
    async with Health("", port, Metrics(), alive=well) as health:
        assert health.port == port
        assert await ask(health, "/healthz") == (200, "ok\n")


async def test_it_ends_at_once_with_clients_of_every_kind_connected() -> None:
    """A kept connection, a silent one, half a head, and answers that nobody reads."""
    async with Health(ADDRESS, 0, Metrics(), alive=well) as health:
        port = health.port
        connections = [await asyncio.open_connection(ADDRESS, port) for _ in range(4)]
        kept, _, half, unread = (writer for _, writer in connections)
        kept.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await connections[0][0].readline()
        half.write(b"GET /readyz HTTP/1.1\r\nHo")
        unread.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        await asyncio.sleep(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 10.0  # aiohttp by itself waits a minute
    for _, writer in connections:
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(ADDRESS, port)


@pytest.mark.parametrize("sent", [b"", b"GET /readyz HTTP/1.1\r\nHo"], ids=["silent", "half a head"])
async def test_a_client_that_sends_no_head_is_let_go(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(room, "_IDLE_SECONDS", 0.2)
    async with Health(ADDRESS, 0, Metrics(), alive=well) as health:
        reader, writer = await asyncio.open_connection(ADDRESS, health.port)
        writer.write(sent)
        async with asyncio.timeout(20):
            await reader.read()  # to its end
        writer.close()
