from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.faults import FaultProxy
from tests.unit.faults.apiserver import ApiServer, Trust, issue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return issue(tmp_path_factory.mktemp("trust"))


@pytest.fixture
async def server(trust: Trust) -> AsyncIterator[ApiServer]:
    async with ApiServer().serving(trust) as server:
        yield server


@pytest.fixture
async def proxy(server: ApiServer, trust: Trust) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(
        upstream=server.url, upstream_ca=trust.certificate, certificate=(trust.certificate, trust.key)
    ) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy, trust: Trust) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=trust.certificate))
    async with aiohttp.ClientSession(
        proxy.url,
        connector=connector,
        headers={"Authorization": "Bearer of-tidings"},
        read_bufsize=8 * 1024 * 1024,
        timeout=aiohttp.ClientTimeout(total=20),
    ) as session:
        yield session
