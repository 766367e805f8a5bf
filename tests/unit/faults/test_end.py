"""After the block nothing is left: no task, no socket, no warning, whatever was under way."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings

import aiohttp
import psutil
import pytest

from tests.faults import Fault, FaultProxy, Match
from tests.faults.http1 import MalformedMessageError
from tests.unit.faults.apiserver import PODS, ApiServer, Trust, pod

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


@pytest.fixture(autouse=True)
def _of_nobody_else() -> None:
    """What earlier tests left to the collector is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def opened(server: ApiServer, trust: Trust, port: int = 0) -> FaultProxy:
    return FaultProxy(
        upstream=server.url, upstream_ca=trust.certificate, certificate=(trust.certificate, trust.key), port=port
    )


def session(proxy: FaultProxy, trust: Trust) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=trust.certificate))
    return aiohttp.ClientSession(proxy.url, connector=connector)


async def test_nothing_is_left_after_exit(server: ApiServer, trust: Trust) -> None:
    tasks_before = asyncio.all_tasks()
    descriptors_before = psutil.Process().num_fds()
    async with opened(server, trust) as proxy:
        port = proxy.port
        client = session(proxy, trust)
        watch = await client.get(PODS, params={"watch": "true"})
        await proxy.watching()
        proxy.fault(Fault.half_open(match=Match(write=True)))
        silent = asyncio.create_task(client.post(PODS, json=pod("one")))
        proxy.fault(Fault.delay(60.0, match=Match(path="/large")))
        late = asyncio.create_task(client.get("/large"))
        await proxy.until(lambda: len(proxy.requests) == 3)
        _, plain = await asyncio.open_connection("127.0.0.1", port)  # a handshake that never comes
        await asyncio.sleep(0.05)
        proxy.pause()
        held = asyncio.create_task(client.get(PODS))
        await asyncio.sleep(0.05)
    with pytest.raises(aiohttp.ClientError):
        await watch.content.read()
    for task in (silent, late, held):
        with pytest.raises(aiohttp.ClientError):
            await task
    await client.close()
    plain.close()
    async with asyncio.timeout(10):
        while psutil.Process().num_fds() > descriptors_before:  # the upstream closes its ends in its own time
            await asyncio.sleep(0.01)
        while asyncio.all_tasks() - tasks_before:
            await asyncio.sleep(0.01)
    assert not [name for name in map(asyncio.Task.get_name, asyncio.all_tasks()) if "fault proxy" in name]
    gc.collect()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_the_port_may_be_chosen_and_used_again_at_once(server: ApiServer, trust: Trust) -> None:
    port = 0
    for _ in range(2):
        async with opened(server, trust, port) as proxy, session(proxy, trust) as client:
            async with client.get(PODS) as answer:
                assert answer.status == 200
            port = port or proxy.port
            assert proxy.port == port


async def test_two_refusals_open_the_port_when_both_are_removed(server: ApiServer, trust: Trust) -> None:
    async with opened(server, trust) as proxy, session(proxy, trust) as client:
        with proxy.fault(Fault.refuse_connections()):
            with proxy.fault(Fault.refuse_connections()):
                pass
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(PODS)
        async with client.get(PODS) as answer:
            assert answer.status == 200


async def test_a_message_that_is_not_understood_fails_the_test_that_sent_it(server: ApiServer, trust: Trust) -> None:
    async def say_helo() -> None:
        async with opened(server, trust) as proxy:
            context = ssl.create_default_context(cafile=trust.certificate)
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
            writer.write(b"HELO there\r\n\r\n")
            assert await reader.read() == b""
            writer.close()

    with pytest.raises(MalformedMessageError, match="HELO there"):
        await say_helo()


async def test_a_client_that_trusts_another_authority_is_its_own_problem(server: ApiServer, trust: Trust) -> None:
    async with opened(server, trust) as proxy:
        async with aiohttp.ClientSession(proxy.url) as client:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await client.get(PODS)
        assert proxy.requests == []
