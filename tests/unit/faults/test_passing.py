"""Without a fault the proxy is not there: bytes, connections, streams and records."""

from __future__ import annotations

import asyncio
import ssl
import time

import aiohttp
import pytest

from tests.faults import FaultProxy, Match
from tests.unit.faults.apiserver import PODS, ApiServer, Trust, pod


async def test_body_status_and_headers_pass_both_ways(client: aiohttp.ClientSession, server: ApiServer) -> None:
    async with client.post(PODS, json=pod("one")) as answer:
        assert (answer.status, await answer.json()) == (201, pod("one"))
    async with client.get(PODS, headers={"X-Asked": "for"}) as answer:
        assert (await answer.json())["items"] == [pod("one")]
    assert server.seen_headers[0]["Authorization"] == "Bearer of-tidings"
    assert server.seen_headers[0]["X-Asked"] == "for"


async def test_large_and_empty_bodies_pass_whole(client: aiohttp.ClientSession) -> None:
    async with client.get("/large") as answer:
        assert await answer.read() == b"0123456789" * 200_000
    async with client.delete(PODS + "/one") as answer:
        assert (answer.status, await answer.read()) == (204, b"")


async def test_chunked_request_body_arrives_whole(client: aiohttp.ClientSession, server: ApiServer) -> None:
    async def pieces() -> object:
        yield b'{"metadata": {"name": '
        yield b'"chunked"}}'

    async with client.post(PODS, data=pieces()) as answer:
        assert answer.status == 201
    assert server.created == ["chunked"]


async def test_connections_are_kept_alive_on_both_sides(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    for _ in range(5):
        async with client.get(PODS) as answer:
            await answer.read()
    assert {record.connection for record in proxy.requests} == {1}
    assert len(server.connections) == 1


async def test_watch_lines_pass_one_by_one_and_at_once(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with client.get(PODS, params={"watch": "true"}) as stream:
        await proxy.watching()
        delays = []
        for number in range(20):
            sent = time.monotonic()
            line = server.emit("MODIFIED", f"pod-{number}")
            assert await stream.content.readline() == line
            delays.append(time.monotonic() - sent)
    # Milliseconds on an idle machine; the median shows buffering, which would cost the whole test its timeout.
    assert sorted(delays)[10] < 1.0


async def test_a_closed_client_closes_its_upstream_watch(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with client.get(PODS, params={"watch": "true"}):
        await proxy.watching()
        assert server.watchers == 1
    await proxy.until(lambda: not proxy.watches(running=True))
    async with asyncio.timeout(10):
        while server.watchers:
            await asyncio.sleep(0.01)


async def test_a_watch_ended_by_the_server_ends_cleanly_and_keeps_the_connection(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with client.get(PODS, params={"watch": "true"}) as stream:
        await proxy.watching()
        server.emit_line(b"")
        assert await stream.content.read() == b""
    async with client.get(PODS) as answer:
        await answer.read()
    assert {record.connection for record in proxy.requests} == {1}


async def test_records_tell_reads_writes_watches_and_dry_runs(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    before = time.monotonic()
    async with client.get(PODS, params={"labelSelector": "a=b"}) as answer:
        length = len(await answer.read())
    await client.post(PODS, json=pod("one"))
    await client.post(PODS, json=pod("two"), params={"dryRun": "All"})
    await client.delete(PODS + "/one", json={"dryRun": ["All"]})
    async with client.get(PODS, params={"watch": "true"}):
        await proxy.watching(Match(path="/pods"))
        (watch,) = proxy.watches()
        assert (watch.status, watch.is_running, watch.method) == (200, True, "GET")
    (read,) = proxy.reads()
    assert (read.path, read.query, read.status, read.upstream_status) == (PODS, {"labelSelector": "a=b"}, 200, 200)
    assert (read.bytes, read.fault, read.is_running, read.is_write) == (length, None, False, False)
    assert read.answered_at_seconds is not None
    assert read.finished_at_seconds is not None
    assert before <= read.at_seconds <= read.answered_at_seconds <= read.finished_at_seconds
    assert [record.status for record in proxy.writes(dry_run=False)] == [201]
    assert [record.method for record in proxy.writes(dry_run=True)] == ["POST", "DELETE"]
    assert len(proxy.writes(Match(method="POST"))) == 2
    assert len(proxy.requests) == 5
    proxy.forget()
    assert proxy.requests == []


async def test_an_upstream_that_is_gone_is_a_broken_connection(trust: Trust) -> None:
    async with (
        FaultProxy(
            upstream="https://127.0.0.1:1", upstream_ca=trust.certificate, certificate=(trust.certificate, trust.key)
        ) as proxy,
        aiohttp.ClientSession(
            proxy.url, connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=trust.certificate))
        ) as client,
    ):
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("/")
        # aiohttp tries an idempotent request once more on a connection that was reset
        assert {record.status for record in proxy.requests} == {None}


async def test_waiting_in_vain_tells_what_was_seen(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    async with client.get(PODS) as answer:
        await answer.read()
    with pytest.raises(TimeoutError, match=r"1 requests, the last: .*GET /api/v1/namespaces/garden/pods 200"):
        await proxy.watching(timeout_seconds=0.05)
