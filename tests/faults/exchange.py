"""One request and its answer, with the one fault that meets it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.faults.fault import Answer, CloseWatch, CutBody, Delay, Drop, LongLine, LostAnswer, Silence, Trickle
from tests.faults.fault import TruncatedJson as Truncated
from tests.faults.http1 import Framing
from tests.faults.watching import Orders, Watching

if TYPE_CHECKING:
    from tests.faults.fault import Behaviour
    from tests.faults.journal import Entry
    from tests.faults.teller import Teller
    from tests.faults.upstream import Response, Upstream
    from tests.faults.wire import Wire


class Exchange:
    """Carries a request to its end."""

    def __init__(self, entry: Entry, *, client: Wire, upstream: Upstream, teller: Teller, gate: asyncio.Event) -> None:
        self.entry = entry
        self.orders: Orders = asyncio.Queue()
        self._client = client
        self._upstream = upstream
        self._teller = teller
        self._gate = gate

    async def run(self, behaviour: Behaviour | None) -> bool:
        """Answer the request, or fail to as told; return whether the client's connection may carry another.

        Raises OSError or asyncio.IncompleteReadError when either side fails on its own account.
        """
        match behaviour:
            case Drop(abruptly=abruptly):
                self._client.end(abruptly=abruptly)
                return False
            case Silence():
                await asyncio.Event().wait()
            case Answer(head=head, body=body):
                await self._teller.head(head)
                await self._teller.body(body, Framing.LENGTH)
                return not self.entry.request.head.closes
            case Delay(before_seconds=seconds):
                await asyncio.sleep(seconds)
            case Trickle(seconds_per_byte=seconds):
                self._teller.seconds_per_byte = seconds
        return await self._forward(behaviour)

    async def _forward(self, behaviour: Behaviour | None) -> bool:
        request = self.entry.request
        await self._gate.wait()
        plain = request.is_watch or isinstance(behaviour, Truncated)
        response = await self._upstream.ask(request, plain=plain)
        self._teller.overheard(response.head.status)
        is_stream = request.is_watch and response.head.status == HTTPStatus.OK
        match behaviour:
            case LostAnswer(abruptly=abruptly):
                if not is_stream:
                    await response.body.whole()
                self._client.end(abruptly=abruptly)
                return False
            case Delay(after_seconds=seconds):
                await asyncio.sleep(seconds)
            case CutBody(abruptly=abruptly) if not is_stream:
                return await self._cut(response, abruptly=abruptly)
            case Truncated() if not is_stream:
                return await self._truncate(response)
            case CutBody() | Truncated() | CloseWatch() | LongLine():
                self.orders.put_nowait(behaviour)
        return await self._relay(response, is_stream=is_stream)

    async def _relay(self, response: Response, *, is_stream: bool) -> bool:
        await self._teller.head(response.head)
        if is_stream:
            reusable = await Watching(response, self._teller, self._client, self.orders).run()
        else:
            while piece := await response.body.piece():
                await self._teller.body(piece, response.framing)
            await self._teller.last(response.framing)
            reusable = response.framing is not Framing.UNTIL_CLOSE
        if response.head.closes or not response.body.has_ended:
            self._upstream.abandon()
        return reusable and not response.head.closes and not self.entry.request.head.closes

    async def _cut(self, response: Response, *, abruptly: bool) -> bool:
        body = await response.body.whole()
        head = response.head.without("Transfer-Encoding").with_field("Content-Length", str(len(body)))
        await self._teller.head(head)
        await self._teller.body(body[: len(body) // 2], Framing.LENGTH)
        self._client.end(abruptly=abruptly)
        return False

    async def _truncate(self, response: Response) -> bool:
        body = await response.body.whole()
        half = body[: len(body) // 2]
        await self._teller.head(response.head.without("Transfer-Encoding").with_field("Content-Length", str(len(half))))
        await self._teller.body(half, Framing.LENGTH)
        if response.head.closes or not response.body.has_ended:
            self._upstream.abandon()
        return not response.head.closes and not self.entry.request.head.closes
