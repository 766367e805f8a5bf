"""One port and its connections: how many, how long each may take for what, and how much memory large bodies share.

When all places are taken, the connection that has been silent longest makes room, else the one that is idle longest:
the API server's own are kept, a crowd of silent ones is not.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Final

from reconciler.admission.connection import Connection, Hold, Responder, Response, State
from reconciler.admission.metrics import Cause, Metrics
from reconciler.errors import UsageError

_LOOK_SECONDS: Final = 0.5
_TIMES: Final = {
    State.SILENT: Cause.SLOW_HEADER,
    State.HEAD: Cause.SLOW_HEADER,
    State.BODY: Cause.SLOW_BODY,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, connections and bytes."""

    handshake_seconds: float = 10.0
    header_seconds: float = 10.0
    body_seconds: float = 10.0
    # Longer than the 90 s after which Go's client closes an idle connection: the client is the one to close it.
    idle_seconds: float = 120.0
    linger_seconds: float = 2.0
    connections: int = 1000
    head_bytes: int = 64 * 1024
    body_bytes: int = 7 * 1024 * 1024
    # Bodies larger than the first share as much memory as the second says; the next one waits for its share.
    small_body_bytes: int = 64 * 1024
    large_bodies_bytes: int = 64 * 1024 * 1024


class Listener:
    """Listens on one port. Make it inside a running event loop; `start`, then `stop`."""

    def __init__(self, responder: Responder, limits: Limits, metrics: Metrics | None = None) -> None:
        self.responder: Final = responder
        self.limits: Final = limits
        self.draining = False
        self.now: Final = asyncio.get_running_loop().time
        self._metrics = metrics
        # dicts keep the order of arrival: the oldest comes first. A connection is in one of the three.
        self._silent: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._used: dict[Connection, None] = {}
        self._memory = limits.large_bodies_bytes
        self._waiting: deque[tuple[Connection, int]] = deque()
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self._finished: asyncio.Event | None = None  # set once no request is under way

    async def start(self, address: str, port: int, context: ssl.SSLContext | None) -> int:
        """Listen; returns the port, which is another one for 0. UsageError where it cannot be had."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self),
                address or None,
                port,
                ssl=context,
                ssl_handshake_timeout=self.limits.handshake_seconds if context is not None else None,
                backlog=1024,
                reuse_address=True,
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {address or 'any address'}, port {port}: {error}") from error
        self._looking = asyncio.ensure_future(self._look())
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self, seconds: float) -> None:
        """Take no new connection, close the idle, give the others `seconds` to come to their end."""
        if self._server is not None:
            self._server.close()
        self.draining = True
        for connection in (*self._silent, *self._idle):
            connection.close()
        self._finished = asyncio.Event()
        if self._used:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), seconds)
            await asyncio.sleep(0)  # the last answer is on its way
        for connection in (*self._silent, *self._idle, *self._used):
            connection.close()
        if self._looking is not None:
            self._looking.cancel()

    def enter(self, connection: Connection) -> None:
        """Take a place for `connection`, if need be another's."""
        self._silent[connection] = None
        if len(self._silent) + len(self._idle) + len(self._used) > self.limits.connections:
            victim = next(iter(self._silent if len(self._silent) > 1 else self._idle or self._silent))
            self.count(Cause.CONNECTIONS)
            self.leave(victim)
            victim.close()
        self._gauge()

    def leave(self, connection: Connection) -> None:
        """Forget `connection`."""
        self._release(connection)
        if connection in self._used:
            self.ended(connection)
        for place in (self._silent, self._idle):
            place.pop(connection, None)
        self._gauge()

    def began(self, connection: Connection) -> None:
        """Note that a request is under way."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)
        self._used[connection] = None
        if self._metrics is not None:
            self._metrics.in_flight.inc()

    def ended(self, connection: Connection) -> None:
        """Note that the request is answered."""
        if connection in self._used:
            del self._used[connection]
            self._idle[connection] = None
            if self._metrics is not None:
                self._metrics.in_flight.dec()
            if self._finished is not None and not self._used:
                self._finished.set()
        if connection.reserved:
            self._release(connection)

    def reserve(self, connection: Connection, amount: int) -> None:
        """Set memory aside for a large body; while there is none, the connection is not read."""
        connection.reserved = amount
        if self._memory >= amount:
            self._memory -= amount
        else:
            self._waiting.append((connection, amount))
            connection.hold(Hold.MEMORY)

    def count(self, cause: Cause) -> None:
        """Count a request or a connection that was turned away."""
        if self._metrics is not None:
            self._metrics.rejected[cause].inc()

    def _release(self, connection: Connection) -> None:
        if not connection.reserved:
            return
        entry = (connection, connection.reserved)
        if entry in self._waiting:
            self._waiting.remove(entry)
            connection.release(Hold.MEMORY)  # what still comes is thrown away
        else:
            self._memory += connection.reserved
        connection.reserved = 0
        while self._waiting and self._memory >= self._waiting[0][1]:
            waiting, amount = self._waiting.popleft()
            self._memory -= amount
            waiting.release(Hold.MEMORY)

    async def _look(self) -> None:
        """Close what is over its time, for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self.now()
            late = [one for place in (self._silent, self._idle, self._used) for one in place if one.deadline < now]
            for connection in late:
                if connection.state is State.BODY:
                    words = b"the body did not come in time\n"
                    connection.turn_away(Response(408, words, cause=Cause.SLOW_BODY))
                    continue
                if (cause := _TIMES.get(connection.state)) is not None:
                    self.count(cause)
                connection.close()

    def _gauge(self) -> None:
        if self._metrics is not None:
            self._metrics.connections.set(len(self._silent) + len(self._idle) + len(self._used))
