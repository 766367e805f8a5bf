"""HTTP/1.1 on the wire: heads and body framing, only as far as our own client and kube-apiserver speak it.

No faults and no sockets of its own enter here; Upgrade, Expect and trailers are not spoken.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum, auto
from http import HTTPMethod, HTTPStatus
from typing import Final

PIECE_BYTES: Final = 64 * 1024
LAST_CHUNK: Final = b"0\r\n\r\n"


class MalformedMessageError(Exception):
    """The bytes read are not the HTTP/1.1 that this proxy speaks."""


class Framing(Enum):
    """How the end of a body is known."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and its header fields, in their order and spelling."""

    start: str
    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a field, whatever the case of its name."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), default)

    def without(self, *names: str) -> Head:
        """Return this head less all fields of these names."""
        dropped = {name.lower() for name in names}
        return replace(self, fields=tuple(field for field in self.fields if field[0].lower() not in dropped))

    def with_field(self, name: str, value: str) -> Head:
        """Return this head with one field of this name, at the end."""
        kept = self.without(name)
        return replace(kept, fields=(*kept.fields, (name, value)))

    def encoded(self) -> bytes:
        """Return the bytes for the wire, the empty line included."""
        lines = [self.start, *(f"{name}: {value}" for name, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def status(self) -> int:
        """The status code, of a response's head."""
        return int(self.start.split(" ", 2)[1])

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this message."""
        return self.get("Connection").lower() == "close"

    @property
    def length(self) -> int:
        """Bytes of the body as Content-Length says, 0 without it."""
        return int(self.get("Content-Length", "0"))


def response_head(status: int, *fields: tuple[str, str]) -> Head:
    """Return the head of an answer of our own."""
    return Head(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", fields)


def request_framing(head: Head) -> Framing:
    """Tell how a request's body ends."""
    if head.get("Transfer-Encoding").lower() == "chunked":
        return Framing.CHUNKED
    return Framing.LENGTH if head.length else Framing.NONE


def response_framing(head: Head, method: str) -> Framing:
    """Tell how the body of the response to a request of this method ends."""
    if method == HTTPMethod.HEAD or head.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        return Framing.NONE
    if head.get("Transfer-Encoding").lower() == "chunked":
        return Framing.CHUNKED
    return Framing.LENGTH if head.get("Content-Length") else Framing.UNTIL_CLOSE


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read one head; None where the connection ended before its first byte.

    Raises asyncio.IncompleteReadError inside a head, MalformedMessageError for what is not HTTP/1.1.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    start, *lines = raw.decode("latin-1")[:-4].split("\r\n")
    fields: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise MalformedMessageError(f"header line without a colon: {line!r}")
        fields.append((name, value.strip()))
    if "HTTP/1.1" not in start:
        raise MalformedMessageError(f"not an HTTP/1.1 start line: {start!r}")
    return Head(start, tuple(fields))


class Body:
    """A body as it arrives: by pieces, by lines or whole; an early end raises asyncio.IncompleteReadError."""

    def __init__(self, reader: asyncio.StreamReader, framing: Framing, length: int) -> None:
        self._reader = reader
        self._framing = framing
        self._remaining = length if framing is Framing.LENGTH else 0
        self._ended = framing is Framing.NONE
        self._beginning_of_line = bytearray()

    @property
    def has_ended(self) -> bool:
        """Whether all of it was read, so that the connection may carry another message."""
        return self._ended and self._framing is not Framing.UNTIL_CLOSE

    async def piece(self) -> bytes:
        """Return bytes as soon as there are any; empty at the end of the body."""
        if self._ended:
            return b""
        if self._framing is Framing.CHUNKED and not self._remaining:
            self._remaining = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if self._framing is Framing.UNTIL_CLOSE:
            piece = await self._reader.read(PIECE_BYTES)
            self._ended = not piece
            return piece
        if not self._remaining:
            self._ended = True
            if self._framing is Framing.CHUNKED:
                await self._reader.readuntil(b"\r\n")
            return b""
        piece = await self._reader.read(min(self._remaining, PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", self._remaining)
        self._remaining -= len(piece)
        if not self._remaining and self._framing is Framing.CHUNKED:
            await self._reader.readexactly(2)
        return piece

    async def line(self) -> bytes:
        """Return the next whole line with its newline; at the end what is left, then empty."""
        held = self._beginning_of_line
        searched = 0
        while (newline := held.find(b"\n", searched)) < 0:
            searched = len(held)
            piece = await self.piece()
            if not piece:
                newline = len(held) - 1
                break
            held += piece
        line = bytes(held[: newline + 1])
        del held[: newline + 1]
        return line

    async def whole(self) -> bytes:
        """Return everything to the end of the body."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)


def framed(piece: bytes, framing: Framing) -> bytes:
    """Return a piece of a body as it goes over the wire in this framing."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if framing is Framing.CHUNKED else piece
