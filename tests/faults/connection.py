"""One client connection, from its handshake through all of its requests to its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.exchange import Exchange
from tests.faults.http1 import Body, read_head, request_framing
from tests.faults.request import Request
from tests.faults.teller import Teller
from tests.faults.upstream import Address, Upstream
from tests.faults.wire import LINGER_RESET, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.faults.arsenal import Arsenal
    from tests.faults.fault import Fault, WatchBehaviour
    from tests.faults.journal import Journal


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of a proxy share."""

    context: ssl.SSLContext
    address: Address
    journal: Journal
    arsenal: Arsenal
    gate: asyncio.Event
    """Cleared during a partition: nothing is passed on in either direction."""
    adopt: Callable[[Wire], None]


class Connection:
    """Serves one client."""

    def __init__(self, number: int, accepted: socket.socket, house: House) -> None:
        self._number = number
        self._accepted = accepted
        self._house = house
        self._upstream = Upstream(house.address, house.adopt)
        self._exchange: Exchange | None = None
        self._is_reading = True
        self.task = asyncio.create_task(self._serve(), name=f"fault proxy connection {number}")

    @property
    def running_watch(self) -> Exchange | None:
        """The watch under way on this connection, if there is one."""
        exchange = self._exchange
        return exchange if exchange is not None and exchange.entry.request.is_watch else None

    def order(self, fault: Fault, behaviour: WatchBehaviour) -> None:
        """Have the running watch meet a fault."""
        if self._exchange is not None:
            self._exchange.entry.fault = fault.name
            self._exchange.orders.put_nowait(behaviour)

    def reset(self) -> None:
        """End it with RST, also in the middle of a handshake."""
        with contextlib.suppress(OSError):  # the other side may have been first
            self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.task.cancel()

    async def _serve(self) -> None:
        try:
            client = await Wire.accept(self._accepted, self._house.context)
        except OSError:  # the client left, or trusts another authority: its own business
            self._accepted.close()
            return
        except asyncio.CancelledError:
            self._accepted.close()
            raise
        self._house.adopt(client)
        client.when_gone(self._leave)
        try:
            while client.is_usable and await self._serve_request(client):
                pass
            client.close()
        except (OSError, asyncio.IncompleteReadError):  # one side failed: the other sees a broken connection
            client.reset()
        except BaseException:
            client.abort()
            raise
        finally:
            self._upstream.abandon()

    def _leave(self) -> None:
        # While a request is read the reader tells of the end by itself; afterwards a request dies with its client.
        if not self._is_reading:
            self._is_reading = True
            self.task.cancel()

    async def _serve_request(self, client: Wire) -> bool:
        head = await read_head(client.reader)
        if head is None:
            return False
        body = await Body(client.reader, request_framing(head), head.length).whole()
        self._is_reading = False
        await self._house.gate.wait()
        request = Request(head, body)
        journal = self._house.journal
        entry = journal.open(request, connection=self._number)
        fault = self._house.arsenal.for_request(request)
        entry.fault = fault.name if fault else None
        teller = Teller(client, self._house.gate, journal, entry)
        exchange = Exchange(entry, client=client, upstream=self._upstream, teller=teller, gate=self._house.gate)
        self._exchange = exchange
        try:
            return await exchange.run(fault.behaviour if fault else None)
        finally:
            self._exchange = None
            self._is_reading = True
            journal.finish(entry)
