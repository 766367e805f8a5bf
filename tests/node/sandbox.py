"""Run inside a pod's network namespace: what connects its loopback with the world outside, through two sockets.

`python -m tests.node.sandbox DIRECTORY API_PORT` holds the namespace as long as it lives. DIRECTORY/in.sock takes
connections from outside: a line with a port of the pod, then bytes. 127.0.0.1:API_PORT inside leads to
DIRECTORY/api.sock outside.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.node import namespaces
from tests.relay import relay


async def hold(directory: Path, api_port: int) -> None:
    """Relay until killed."""

    async def inwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int(await reader.readline())
        await relay(reader, writer, asyncio.open_connection("127.0.0.1", port))

    async def outwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(reader, writer, asyncio.open_unix_connection(directory / "api.sock"))

    await asyncio.start_server(outwards, "127.0.0.1", api_port)
    await asyncio.start_unix_server(inwards, directory / "new.sock")
    (directory / "new.sock").rename(directory / "in.sock")
    await asyncio.Event().wait()


if __name__ == "__main__":
    namespaces.die_with_parent()
    if os.geteuid() != 0:
        namespaces.become_root_of_a_user_namespace()
    namespaces.unshare(namespaces.CLONE_NEWNET)
    namespaces.raise_loopback()
    asyncio.run(hold(Path(sys.argv[1]), int(sys.argv[2])))
