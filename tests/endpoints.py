"""What a Service does for the API server: one address, whose new connections go to the endpoints in turn."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Self

from tests.relay import relay

if TYPE_CHECKING:
    from types import TracebackType


class Endpoints:
    """A TCP relay on a port of its own; connections that stand are left alone when `ports` changes."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.port = 0
        self._turn = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._relay, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = self.ports
        if not ports:
            writer.close()
            return
        port = ports[next(self._turn) % len(ports)]
        await relay(reader, writer, asyncio.open_connection("127.0.0.1", port))
