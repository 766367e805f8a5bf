"""The proxy's side towards the client: answers go out through here, counted, paced, and held back by a partition."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.http1 import LAST_CHUNK, Framing, framed

if TYPE_CHECKING:
    from tests.faults.http1 import Head
    from tests.faults.journal import Entry, Journal
    from tests.faults.wire import Wire


class Teller:
    """Sends one answer to one client."""

    def __init__(self, wire: Wire, gate: asyncio.Event, journal: Journal, entry: Entry) -> None:
        self._wire = wire
        self._gate = gate
        self._journal = journal
        self._entry = entry
        self.seconds_per_byte: float | None = None
        """Set, everything goes out byte by byte with this pause between."""

    def overheard(self, status: int) -> None:
        """Note what the upstream answered, whether or not the client is going to be told."""
        self._journal.forwarded(self._entry, status)

    async def head(self, head: Head) -> None:
        """Send the head."""
        await self._send(head.encoded())
        self._journal.answered(self._entry, head.status)

    async def body(self, piece: bytes, framing: Framing) -> None:
        """Send a piece of the body at once, as a chunk where the body is chunked."""
        if piece:
            await self._send(framed(piece, framing))
            self._journal.sent(self._entry, len(piece))

    async def last(self, framing: Framing) -> None:
        """Send what ends the body."""
        if framing is Framing.CHUNKED:
            await self._send(LAST_CHUNK)

    async def _send(self, sent: bytes) -> None:
        await self._gate.wait()
        if self.seconds_per_byte is None:
            await self._wire.send(sent)
            return
        for byte in sent:
            await self._gate.wait()
            await self._wire.send(bytes([byte]))
            await asyncio.sleep(self.seconds_per_byte)
