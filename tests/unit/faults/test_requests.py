"""Faults that meet a request and its answer."""

from __future__ import annotations

import asyncio
import errno
import json
import time

import aiohttp
import pytest

from tests.faults import Fault, FaultProxy, Match
from tests.unit.faults.apiserver import PODS, ApiServer, pod

READ = Match(method="GET", watch=False)
WRITE = Match(write=True)


async def create(client: aiohttp.ClientSession, name: str) -> int:
    async with client.post(PODS, json=pod(name)) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("abruptly", [True, False], ids=["rst", "fin"])
async def test_drop_breaks_the_connection_and_forwards_nothing(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer, *, abruptly: bool
) -> None:
    with proxy.fault(Fault.drop(abruptly=abruptly, times=1, match=WRITE)) as armed:
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await create(client, "one")
        assert (getattr(caught.value, "errno", None) == errno.ECONNRESET) is abruptly
        assert armed.hits == 1
        assert await create(client, "two") == 201
    assert server.created == ["two"]
    dropped, passed = proxy.writes()
    assert (dropped.status, dropped.upstream_status, dropped.fault) == (None, None, "drop")
    assert (passed.status, passed.fault) == (201, None)


@pytest.mark.parametrize("abruptly", [True, False], ids=["rst", "fin"])
async def test_lost_answer_means_the_write_happened(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer, *, abruptly: bool
) -> None:
    with (
        proxy.fault(Fault.lost_answer(abruptly=abruptly, times=1, match=WRITE)),
        pytest.raises(aiohttp.ClientConnectionError),
    ):
        await create(client, "one")
    assert server.created == ["one"]
    (lost,) = proxy.writes()
    assert (lost.status, lost.upstream_status) == (None, 201)


async def test_refused_connections_are_refused_until_the_same_port_opens_again(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    await create(client, "one")
    port = proxy.port
    with proxy.fault(Fault.refuse_connections()):
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await create(client, "on the pooled connection")
        assert caught.value.errno == errno.ECONNRESET
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await create(client, "two")
            assert caught.value.errno == errno.ECONNREFUSED
    assert await create(client, "three") == 201
    assert proxy.port == port
    assert [record.connection for record in proxy.writes()] == [1, 2]


async def test_refusal_can_spare_established_connections(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    await create(client, "one")
    with proxy.fault(Fault.refuse_connections(keep_established=True)):
        assert await create(client, "two") == 201


async def test_delay_before_forwarding_lets_a_client_give_up_before_the_write(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    with proxy.fault(Fault.delay(30.0, match=WRITE)) as armed:
        creation = asyncio.create_task(create(client, "one"))
        await armed.hit()
        creation.cancel()
    await proxy.until(lambda: not proxy.writes()[0].is_running)
    assert server.created == []


async def test_delay_before_answering_lets_a_client_give_up_after_the_write(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    with proxy.fault(Fault.delay(after_seconds=30.0, match=WRITE)):
        creation = asyncio.create_task(create(client, "one"))
        await proxy.until(lambda: [record.upstream_status for record in proxy.writes()] == [201])
        creation.cancel()
    await proxy.until(lambda: not proxy.writes()[0].is_running)
    assert proxy.writes()[0].status is None
    assert server.created == ["one"]


async def test_delays_pass_the_answer_in_the_end(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    began = time.monotonic()
    with proxy.fault(Fault.delay(0.1, after_seconds=0.1)):
        assert await create(client, "one") == 201
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (409, "Conflict"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ],
)
async def test_status_is_refused_as_the_api_server_says_it(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer, code: int, reason: str
) -> None:
    with proxy.fault(Fault.refuse_status(code, retry_after=7, times=2)):
        for _ in range(2):
            async with client.post(PODS, json=pod("one")) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (code, "7")
                status = await answer.json()
                assert (status["kind"], status["code"], status["reason"]) == ("Status", code, reason)
                assert status["details"] == {"retryAfterSeconds": 7}
        assert await create(client, "two") == 201
    assert server.created == ["two"]
    assert {record.connection for record in proxy.requests} == {1}


async def test_status_says_retry_after_only_when_told(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.refuse_status(503)):
        async with client.get(PODS) as answer:
            assert "Retry-After" not in answer.headers
            assert "details" not in await answer.json()


async def test_both_kinds_of_429(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.too_many_requests(2, times=1)), proxy.fault(Fault.overloaded(3, times=1)):
        async with client.get(PODS) as answer:
            assert (answer.status, answer.headers["Retry-After"], answer.content_type) == (429, "2", "application/json")
        async with client.get(PODS) as answer:
            assert (answer.status, answer.headers["Retry-After"], answer.content_type) == (429, "3", "text/plain")


@pytest.mark.parametrize("abruptly", [True, False], ids=["rst", "fin"])
async def test_cut_body_promises_more_than_it_sends(
    client: aiohttp.ClientSession, proxy: FaultProxy, *, abruptly: bool
) -> None:
    with proxy.fault(Fault.cut_body(abruptly=abruptly, times=1, match=Match(path="/large"))):
        async with client.get("/large") as answer:
            assert (answer.status, answer.content_length) == (200, 2_000_000)
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
    (cut,) = proxy.reads()
    assert cut.bytes == 1_000_000


async def test_cut_body_delivers_its_half(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.cut_body(times=1)):
        async with client.get("/large") as answer:
            half = await answer.content.readexactly(1_000_000)
            assert half == b"0123456789" * 100_000
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read(1)


async def test_garbage_is_200_and_not_json(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.garbage(times=1)):
        async with client.get(PODS) as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            with pytest.raises(json.JSONDecodeError):
                await answer.json()


async def test_truncated_json_is_a_complete_answer_with_half_the_body(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    await create(client, "one")
    with proxy.fault(Fault.truncated_json(match=READ, times=1)):
        async with client.get(PODS) as answer:
            text = await answer.text()
    assert text.startswith('{"kind": "PodList"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    async with client.get(PODS) as answer:
        assert (await answer.json())["kind"] == "PodList"
    assert {record.connection for record in proxy.requests} == {1}


async def test_trickle_sends_byte_by_byte(client: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    with proxy.fault(Fault.trickle(0.001, match=READ)):
        began = time.monotonic()
        async with client.get(PODS) as answer:
            assert (await answer.json())["kind"] == "PodList"
        head_and_body = 100
        assert time.monotonic() - began > head_and_body * 0.001


async def test_half_open_never_answers_and_keeps_the_connection(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    with proxy.fault(Fault.half_open(match=WRITE)) as armed:
        creation = asyncio.create_task(create(client, "one"))
        await armed.hit()
    _, pending = await asyncio.wait({creation}, timeout=0.2)
    assert pending
    assert proxy.writes()[0].is_running
    assert server.created == []
    assert await create(client, "two") == 201
    creation.cancel()
    await proxy.until(lambda: not proxy.writes()[0].is_running)


async def test_partition_holds_everything_and_resumes(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    await create(client, "one")
    async with client.get(PODS, params={"watch": "true"}) as stream:
        await proxy.watching()
        with proxy.partition():
            line = server.emit("ADDED", "two")
            reading = asyncio.create_task(stream.content.readline())
            creations = [asyncio.create_task(create(client, name)) for name in ("two", "three")]
            _, pending = await asyncio.wait({reading, *creations}, timeout=0.3)
            assert len(pending) == 3
            assert server.created == ["one"]
        assert await reading == line
        assert await asyncio.gather(*creations) == [201, 201]


async def test_a_request_held_by_a_partition_dies_with_its_client(
    client: aiohttp.ClientSession, proxy: FaultProxy, server: ApiServer
) -> None:
    await create(client, "one")
    with proxy.partition():
        for name in ("kept-alive", "new-connection"):
            with pytest.raises(TimeoutError):
                await client.post(PODS, json=pod(name), timeout=aiohttp.ClientTimeout(total=0.2))
    assert await create(client, "two") == 201
    assert server.created == ["one", "two"]


async def test_faults_meet_only_what_matches_and_in_the_order_of_arming(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    async def status(path: str = PODS) -> int:
        async with client.get(path) as answer:
            await answer.read()
            return answer.status

    first = proxy.fault(Fault.refuse_status(503, times=2, match=Match(path="/pods", method="GET")))
    second = proxy.fault(Fault.refuse_status(500, match=lambda request: request.path.endswith("/pods")))
    assert [await status() for _ in range(3)] == [503, 503, 500]
    assert await status("/large") == 200
    assert (first.hits, second.hits, first.is_spent) == (2, 1, True)
    second.remove()
    second.remove()
    assert await status() == 200
