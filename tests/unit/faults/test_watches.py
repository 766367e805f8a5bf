"""Faults that meet a watch, while it runs and when it begins."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.faults import Fault, FaultProxy, Match
from tests.unit.faults.apiserver import PODS, ApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# aiohttp before 3.14 raises ValueError; since then its own class, which is no ClientError either.
TOO_LONG = (ValueError, aiohttp.http_exceptions.LineTooLong)


@contextlib.asynccontextmanager
async def watch(client: aiohttp.ClientSession, proxy: FaultProxy) -> AsyncIterator[aiohttp.StreamReader]:
    async with client.get(PODS, params={"watch": "true"}) as answer:
        assert answer.status == 200
        with contextlib.suppress(TimeoutError):  # a fault may have ended it already
            await proxy.watching(timeout_seconds=0.2)
        yield answer.content


async def test_a_running_watch_is_closed_cleanly(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with watch(client, proxy) as stream:
        line = server.emit("ADDED", "one")
        assert await stream.readline() == line
        with proxy.fault(Fault.close_watch()):
            assert await stream.read() == b""
    async with watch(client, proxy) as stream:
        line = server.emit("ADDED", "two")
        assert await stream.readline() == line
    ended, _ = proxy.watches()
    assert (ended.fault, ended.status, ended.bytes) == ("close_watch", 200, len(line))
    assert {record.connection for record in proxy.requests} == {1}


async def test_a_running_watch_is_reset(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    async with watch(client, proxy) as stream:
        with proxy.fault(Fault.close_watch(abruptly=True)), pytest.raises(aiohttp.ClientError):
            await stream.read()


async def test_a_new_watch_is_closed_as_often_as_told(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.close_watch(times=2)) as armed:
        for _ in range(2):
            async with watch(client, proxy) as stream:
                assert await stream.read() == b""
        async with watch(client, proxy) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.read(), 0.2)
    assert armed.hits == 2


async def test_only_matching_watches_are_met(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    async with watch(client, proxy):
        with proxy.fault(Fault.close_watch(match=Match(path="/secrets"))) as armed:
            assert armed.hits == 0
        assert proxy.watches(running=True)


@pytest.mark.parametrize("running", [True, False], ids=["running", "new"])
async def test_a_watch_ends_with_an_expired_event(
    client: aiohttp.ClientSession, proxy: FaultProxy, *, running: bool
) -> None:
    if running:
        async with watch(client, proxy) as stream:
            with proxy.fault(Fault.watch_error(times=1)):
                received = await stream.read()
    else:
        with proxy.fault(Fault.watch_error(times=1)):
            async with watch(client, proxy) as stream:
                received = await stream.read()
    assert received.startswith(b'{"type":"ERROR","object":{"kind":')
    assert received.endswith(b"\n")
    event = json.loads(received)
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watch_is_refused_with_410_at_its_start(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.gone(times=1)):
        async with client.get(PODS) as answer:
            assert answer.status == 200
        async with client.get(PODS, params={"watch": "true"}) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (410, "Expired")


async def test_a_long_line_is_the_last_real_object_made_huge(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with watch(client, proxy) as stream:
        server.emit("ADDED", "one")
        await stream.readline()
        with proxy.fault(Fault.long_line(times=1)):
            line = await stream.readuntil(b"\n")
        after = server.emit("DELETED", "one")
        assert await stream.readline() == after
    assert len(line) == 5 * 1024 * 1024
    event = json.loads(line)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("MODIFIED", "one")
    assert event["object"]["metadata"]["resourceVersion"] == "7"


async def test_a_long_line_waits_for_an_object_where_none_came_yet(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    with proxy.fault(Fault.long_line(100_000, times=1)):
        async with watch(client, proxy) as stream:
            server.emit("BOOKMARK", "")
            real = server.emit("ADDED", "one")
            await stream.readline()
            assert await stream.readline() == real
            assert len(await stream.readuntil(b"\n")) == 100_000


async def test_a_long_line_may_be_given(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    async with watch(client, proxy) as stream:
        with proxy.fault(Fault.long_line(line=b'{"type":"ADDED"}\n')):
            assert await stream.readline() == b'{"type":"ADDED"}\n'


async def test_a_long_line_breaks_a_reader_with_the_usual_limit(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with client.get(PODS, params={"watch": "true"}, read_bufsize=2**16) as answer:
        await proxy.watching()
        server.emit("ADDED", "one")
        await answer.content.readline()
        with proxy.fault(Fault.long_line()), pytest.raises(TOO_LONG):
            await answer.content.readline()


async def test_a_real_line_of_megabytes_passes_whole(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with watch(client, proxy) as stream:
        line = server.emit("ADDED", "x" * 3_000_000)
        assert await stream.readuntil(b"\n") == line


@pytest.mark.parametrize("abruptly", [True, False], ids=["rst", "fin"])
async def test_a_running_watch_is_cut_in_the_middle_of_a_line(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer, *, abruptly: bool
) -> None:
    async with watch(client, proxy) as stream:
        whole = server.emit("ADDED", "one")
        assert await stream.readline() == whole
        with proxy.fault(Fault.cut_watch(abruptly=abruptly)):
            cut = server.emit("MODIFIED", "one")
            with pytest.raises(aiohttp.ClientError):
                await stream.read()
    assert proxy.watches()[0].bytes == len(whole) + len(cut) // 2


async def test_a_watch_that_begins_under_cut_body_is_cut_in_its_first_line(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    with proxy.fault(Fault.cut_body()):
        async with watch(client, proxy) as stream:
            server.emit("ADDED", "one")
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.read()


async def test_a_garbled_line_comes_once_and_the_watch_goes_on(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with watch(client, proxy) as stream:
        with proxy.fault(Fault.garbled_watch(times=1)):
            server.emit("ADDED", "one")
            with pytest.raises(json.JSONDecodeError):
                json.loads(await stream.readline())
            line = server.emit("ADDED", "two")
            assert await stream.readline() == line


async def test_a_half_open_watch_is_silent_for_ever_and_stays_connected(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    async with watch(client, proxy) as stream:
        with proxy.fault(Fault.half_open(match=Match(watch=True))):
            server.emit("ADDED", "one")
        server.emit("ADDED", "two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.readline(), 0.3)
        assert not stream.at_eof()
        assert proxy.watches(running=True)[0].fault == "half_open"


async def test_a_trickled_watch_arrives_in_the_end(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    with proxy.fault(Fault.trickle(match=Match(watch=True))):
        async with watch(client, proxy) as stream:
            line = server.emit("ADDED", "one")
            assert await stream.readline() == line
