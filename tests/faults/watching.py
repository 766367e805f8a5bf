"""A running watch: whole lines from the upstream to the client as they come, and faults in between as ordered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from tests.faults.fault import CloseWatch, CutBody, LongLine, Silence, TruncatedJson, WatchBehaviour
from tests.faults.http1 import Framing
from tests.faults.longline import carries_object, lengthened

if TYPE_CHECKING:
    from tests.faults.teller import Teller
    from tests.faults.upstream import Response
    from tests.faults.wire import Wire

Orders: TypeAlias = asyncio.Queue[WatchBehaviour]


class Watching:
    """Relays one watch stream, at every moment ready for an order."""

    def __init__(self, response: Response, teller: Teller, client: Wire, orders: Orders) -> None:
        self._response = response
        self._teller = teller
        self._client = client
        self._orders = orders
        self._awaiting_line: list[WatchBehaviour] = []
        self._last_object: bytes | None = None

    async def run(self) -> bool:
        """Relay until either side or an order ends it; return whether the client's connection may be used again."""
        line: asyncio.Task[bytes] | None = None
        order: asyncio.Task[WatchBehaviour] | None = None
        try:
            while True:
                line = line or asyncio.create_task(self._response.body.line())
                order = order or asyncio.create_task(self._orders.get())
                await asyncio.wait({line, order}, return_when=asyncio.FIRST_COMPLETED)
                ending: bool | None = None
                if order.done():
                    ending = await self._obey(order.result())
                    order = None
                elif line.done():
                    ending = await self._pass_on(line.result())
                    line = None
                if ending is not None:
                    return ending
        finally:
            tasks = [task for task in (line, order) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _obey(self, order: WatchBehaviour) -> bool | None:
        match order:
            case CloseWatch(abruptly=abruptly, last_line=last_line):
                await self._send(last_line)
                if abruptly:
                    self._client.reset()
                    return False
                return await self._end()
            case LongLine(size_bytes=size_bytes, line=given):
                if given is not None:
                    await self._send(given)
                elif self._last_object is not None:
                    await self._send(lengthened(self._last_object, size_bytes))
                else:
                    self._awaiting_line.append(order)
            case Silence():
                await asyncio.Event().wait()
            case CutBody() | TruncatedJson():
                self._awaiting_line.append(order)
        return None

    async def _pass_on(self, line: bytes) -> bool | None:
        if not line:
            return await self._end()
        match self._awaiting_line:
            case [CutBody(abruptly=abruptly), *_]:
                await self._send(line[: len(line) // 2])
                self._client.end(abruptly=abruptly)
                return False
            case [TruncatedJson(), *rest]:
                self._awaiting_line = rest
                await self._send(line[: len(line) // 2] + b"\n")
                return None
        await self._send(line)
        if carries_object(line):
            self._last_object = line
            waiting, self._awaiting_line = self._awaiting_line, []
            for order in waiting:
                await self._obey(order)
        return None

    async def _send(self, line: bytes) -> None:
        await self._teller.body(line, self._response.framing)

    async def _end(self) -> bool:
        await self._teller.last(self._response.framing)
        return self._response.framing is not Framing.UNTIL_CLOSE
