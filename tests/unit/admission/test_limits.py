"""Limits, with short times: slow, silent and many clients never keep the server from the others."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from reconciler.admission.certificate import ServedCertificate
from reconciler.admission.listener import Limits, Listener
from reconciler.admission.metrics import Cause, Metrics
from reconciler.admission.review import MAX_REVIEW_BYTES, Rules
from reconciler.admission.server import Reviews
from tests.unit.admission.reviews import pod, review
from tests.unit.admission.served import Folder, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SHORT = Limits(
    handshake_seconds=1.0, header_seconds=1.0, body_seconds=1.0, idle_seconds=2.0, linger_seconds=0.5, connections=50
)


@dataclass
class Under:
    """A listener under limits, in this process."""

    port: int
    metrics: Metrics
    listener: Listener
    context: ssl.SSLContext

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)

    def rejected(self, cause: Cause) -> float:
        """Return how many were turned away for `cause`."""
        found: float = self.metrics.rejected[cause]._value.get()
        return found

    def sample(self, name: str) -> float:
        """Return a gauge."""
        return self.metrics.registry.get_sample_value(f"seccomp_reconciler_admission_{name}") or 0.0


@asynccontextmanager
async def under(folder: Folder, limits: Limits) -> AsyncIterator[Under]:
    folder.put(folder.issue())
    metrics = Metrics()
    served = ServedCertificate(folder.tls, metrics)
    assert served.look()
    listener = Listener(Reviews(served, metrics, Rules(), frozenset()), limits, metrics)
    port = await listener.start("127.0.0.1", 0, served.context)
    try:
        yield Under(port, metrics, listener, ssl.create_default_context(cadata=folder.authority.certificate.decode()))
    finally:
        await listener.stop(0.0)
        await asyncio.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return all that still comes until the server closes."""
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def reviewed(under: Under) -> float:
    """Return the seconds that one review took on a connection of its own."""
    began = time.monotonic()
    reader, writer = await under.open()
    writer.write(request(connection="close"))
    assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")
    writer.close()
    return time.monotonic() - began


async def test_a_client_that_never_speaks_tls_is_closed(folder: Folder) -> None:
    async with under(folder, SHORT) as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        assert await rest(reader) == b""
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /webhooks/secc"], ids=["silent", "half-a-head"])
async def test_a_head_that_does_not_come_is_given_up(folder: Folder, sent: bytes) -> None:
    async with under(folder, SHORT) as found:
        reader, writer = await found.open()
        writer.write(sent)
        assert await rest(reader) == b""
        assert found.rejected(Cause.SLOW_HEADER) == 1
        writer.close()


async def test_a_head_that_trickles_is_given_up_though_something_always_comes(folder: Folder) -> None:
    async with under(folder, SHORT) as found:
        reader, writer = await found.open()

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                for byte in request():
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.05)

        trickling = asyncio.ensure_future(trickle())
        assert await rest(reader) == b""
        assert found.rejected(Cause.SLOW_HEADER) == 1
        trickling.cancel()
        writer.close()


async def test_a_body_that_does_not_come_is_told_408(folder: Folder) -> None:
    async with under(folder, SHORT) as found:
        reader, writer = await found.open()
        writer.write(request()[:-1])
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
        assert found.rejected(Cause.SLOW_BODY) == 1
        assert found.sample("requests_in_flight") == 0
        writer.close()


async def test_an_idle_connection_is_closed_without_a_word_and_is_no_rejection(folder: Folder) -> None:
    async with under(folder, SHORT) as found:
        reader, writer = await found.open()
        writer.write(request())
        assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")
        assert sum(found.rejected(cause) for cause in Cause) == 0
        writer.close()


async def test_a_crowd_of_silent_connections_makes_room_and_the_used_ones_stay(folder: Folder) -> None:
    async with under(folder, replace(SHORT, header_seconds=60.0, idle_seconds=60.0)) as found:
        kept = await found.open()
        kept[1].write(request())
        assert (await kept[0].readline()).startswith(b"HTTP/1.1 200 ")
        crowd = [await found.open() for _ in range(SHORT.connections + 20)]
        await asyncio.sleep(0.1)
        assert found.sample("connections") == SHORT.connections
        assert found.rejected(Cause.CONNECTIONS) == 21
        assert not kept[1].is_closing()
        kept[1].write(request(connection="close"))
        assert (await rest(kept[0])).count(b"HTTP/1.1 200 ") == 1
        for _, writer in (*crowd, kept):
            writer.close()


async def test_five_hundred_slow_clients_keep_nobody_from_an_answer(folder: Folder) -> None:
    """Silent ones, half heads, half bodies, and clients that never read: beside them each review is answered."""
    # Both ends of 500 connections are this process's: more files than the usual 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    limits = Limits(header_seconds=60.0, body_seconds=60.0)
    async with under(folder, limits) as found:
        alone = sorted([await reviewed(found) for _ in range(30)])
        slow = [await found.open() for _ in range(500)]
        for number, (_, writer) in enumerate(slow):
            writer.write((b"", request()[:40], request()[:-40], request() * 20)[number % 4])
        await asyncio.sleep(0.5)
        assert found.sample("connections") == 500
        assert found.sample("requests_in_flight") == 125
        beside = sorted([await reviewed(found) for _ in range(30)])
        # Ten times is far from what one worker held by each slow client would cost: that would never end.
        assert beside[15] < max(10 * alone[15], 1.0), (alone[15], beside[15])
        for _, writer in slow:
            writer.close()


async def test_large_bodies_share_their_memory_and_each_is_answered_in_its_turn(folder: Folder) -> None:
    body = review(pod(annotations={"a": "x" * (2 * 1024 * 1024)}))
    limits = Limits(large_bodies_bytes=3 * 1024 * 1024, body_seconds=60.0)
    async with under(folder, limits) as found:
        clients = [await found.open() for _ in range(8)]

        async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            writer.write(request(body, connection="close"))
            await writer.drain()
            found = await rest(reader)
            writer.close()
            return found

        answers = await asyncio.gather(*(ask(*client) for client in clients))
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert found.listener._memory == limits.large_bodies_bytes
        assert not found.listener._waiting


async def test_a_body_that_waits_for_memory_is_not_read(folder: Folder) -> None:
    limits = Limits(large_bodies_bytes=MAX_REVIEW_BYTES, body_seconds=10.0)
    async with under(folder, limits) as found:
        holder = await found.open()
        half = request(b"x" * MAX_REVIEW_BYTES)[: MAX_REVIEW_BYTES // 2]
        holder[1].write(half)
        async with asyncio.timeout(5):
            while found.listener._memory == limits.large_bodies_bytes:
                await asyncio.sleep(0.05)
        waiting = await found.open()
        waiting[1].write(request(b"x" * MAX_REVIEW_BYTES))
        async with asyncio.timeout(5):
            while not found.listener._waiting:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        held = next(iter(found.listener._waiting))[0]
        assert len(held._body) < 1024 * 1024
        await reviewed(found)
        assert found.rejected(Cause.SLOW_BODY) == 0, "a small one passes by while the large ones wait"
        assert (await rest(holder[0])).startswith(b"HTTP/1.1 408 ")
        for _, writer in (holder, waiting):
            writer.close()


async def test_a_client_that_does_not_read_its_answers_is_not_read_either(folder: Folder) -> None:
    async with under(folder, replace(SHORT, idle_seconds=60.0, header_seconds=60.0, body_seconds=60.0)) as found:
        reader, writer = await found.open()
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads has it
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while True:
                    writer.write(request() * 100)
                    await writer.drain()
                    sent += 100
        connection = next(iter((*found.listener._idle, *found.listener._used)))
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 4 * 1024 * 1024, sent
        writer.transport.resume_reading()  # type: ignore[attr-defined] # a transport that reads has it
        async with asyncio.timeout(20):
            assert await reader.read(100)
        writer.close()
