"""One TLS connection, ours to end in every way a network ends one: closed, reset, or found gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

# A head of the largest size kube-apiserver takes (1 MiB) must fit into one readuntil.
READ_LIMIT_BYTES: Final = 1024 * 1024
HANDSHAKE_TIMEOUT_SECONDS: Final = 30.0
# How long a clean close waits for the other side's close_notify before it gives up and aborts.
SHUTDOWN_TIMEOUT_SECONDS: Final = 1.0
# SO_LINGER on, for zero seconds: the kernel answers the close with RST and drops what is unsent.
LINGER_RESET: Final = struct.pack("ii", 1, 0)


class _Protocol(asyncio.StreamReaderProtocol):
    """A stream protocol that says at once when the other side is gone, also while nobody reads."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.ended = asyncio.Event()
        self.on_gone: Callable[[], None] = lambda: None

    def eof_received(self) -> bool | None:
        self.on_gone()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.on_gone()
        self.ended.set()


class Wire:
    """A connection to the client or to the upstream."""

    def __init__(self, reader: asyncio.StreamReader, protocol: _Protocol, transport: asyncio.Transport) -> None:
        self.reader = reader
        self._protocol = protocol
        self._transport = transport
        self._writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    @classmethod
    async def accept(cls, connection: socket.socket, context: ssl.SSLContext) -> Wire:
        """Shake hands with a client on an accepted socket; raises OSError (ssl.SSLError is one)."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_LIMIT_BYTES)
        transport, protocol = await loop.connect_accepted_socket(
            lambda: _Protocol(reader),
            connection,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS,
        )
        return cls(reader, protocol, transport)

    @classmethod
    async def connect(cls, host: str, port: int, context: ssl.SSLContext) -> Wire:
        """Connect to the upstream; raises OSError."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_LIMIT_BYTES)
        transport, protocol = await loop.create_connection(
            lambda: _Protocol(reader),
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS,
        )
        return cls(reader, protocol, transport)

    @property
    def is_usable(self) -> bool:
        """Whether another message may be sent: neither side has ended the connection."""
        return not self._transport.is_closing() and not self.reader.at_eof()

    @property
    def has_ended(self) -> bool:
        """Whether the socket is closed for good."""
        return self._protocol.ended.is_set()

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Have this called (possibly twice) when the other side closes or resets, also while nobody reads."""
        self._protocol.on_gone = callback

    async def send(self, sent: bytes) -> None:
        """Write, and wait while the other side is slow; raises ConnectionError when it is gone."""
        self._writer.write(sent)
        await self._writer.drain()

    def close(self) -> None:
        """End it cleanly: everything written arrives, then close_notify and FIN."""
        self._transport.close()

    def reset(self) -> None:
        """End it with RST; what the other side has not read may be lost, as it is when a process dies."""
        # The other side may have been first: then the socket is closed, or gone.
        if (connection := self._transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self._transport.abort()

    def end(self, *, abruptly: bool) -> None:
        """Reset or close."""
        if abruptly:
            self.reset()
        else:
            self.close()

    def abort(self) -> None:
        """Close the socket now, without courtesies."""
        self._transport.abort()

    async def ended(self) -> None:
        """Wait until the socket is closed for good."""
        await self._protocol.ended.wait()
