"""The fault proxy itself: its listener, its connections, what is armed, and the end of it all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.faults.arsenal import Armed, Arsenal
from tests.faults.connection import Connection, House
from tests.faults.fault import Fault, RefuseConnections, WatchBehaviour
from tests.faults.journal import Bell, Journal, RequestRecord
from tests.faults.request import Predicate, anything
from tests.faults.upstream import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.wire import Wire

BACKLOG = 128


class FaultProxy:
    """A TLS-terminating HTTP/1.1 reverse proxy in this event loop, between a client and a real API server.

    async with FaultProxy(upstream=url, upstream_ca=ca, certificate=(crt, key)) as proxy:
        with proxy.fault(Fault.refuse_status(503, times=3, match=Match(write=True))) as armed:
            ...                     # the client talks to proxy.url
            await armed.hit(3)
        assert proxy.writes(dry_run=False) == []

    The client's bearer token and headers pass as they are; a client certificate cannot.
    """

    def __init__(
        self,
        *,
        upstream: str,
        upstream_ca: Path,
        certificate: tuple[Path, Path],
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        """Take the upstream's URL and CA file, our certificate chain and key files, and the port (0: any)."""
        parts = urlsplit(upstream)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        context.set_alpn_protocols(["http/1.1"])
        trust = ssl.create_default_context(cafile=upstream_ca)
        trust.set_alpn_protocols(["http/1.1"])
        self._bell = Bell()
        self._journal = Journal(self._bell)
        self._arsenal = Arsenal()
        self._gate = asyncio.Event()
        address = Address(parts.hostname or "127.0.0.1", parts.port or 443, trust)
        self._house = House(context, address, self._journal, self._arsenal, self._gate, self._adopt)
        self._host, self._port = host, port
        self._reservation: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._accepted = 0
        self._connections: set[Connection] = set()
        self._wires: list[Wire] = []
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        # Bound and never listening: it keeps the port ours while the listener is closed, and connects are refused.
        self._reservation = self._bound(self._port)
        self._port = self._reservation.getsockname()[1]
        self._gate.set()
        self._listen()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._stop_listening()
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None
        tasks = [connection.task for connection in self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wire in self._wires:
            wire.abort()
            await wire.ended()
        # Handshakes that were cancelled close their sockets in the loop's next turns.
        for _turn in range(3):
            await asyncio.sleep(0)
        if self._failures and error is None:
            raise self._failures[0]

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"https://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The port, the same all along."""
        return self._port

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request so far, in the order in which they came."""
        return self._journal.records(anything)

    def writes(self, match: Predicate = anything, *, dry_run: bool | None = None) -> list[RequestRecord]:
        """Return the matching writes; dry_run True or False narrows them, None takes both."""
        return [r for r in self._journal.records(match) if r.is_write and dry_run in {None, r.dry_run}]

    def reads(self, match: Predicate = anything) -> list[RequestRecord]:
        """Return the matching reads that are not watches."""
        return [r for r in self._journal.records(match) if not r.is_write and not r.is_watch]

    def watches(self, match: Predicate = anything, *, running: bool | None = None) -> list[RequestRecord]:
        """Return the matching watches; running True or False narrows them, None takes both."""
        return [r for r in self._journal.records(match) if r.is_watch and running in {None, r.is_running}]

    def forget(self) -> None:
        """Forget all records; what is under way goes on unrecorded."""
        self._journal.forget()

    async def until(self, fact: Callable[[], bool], *, timeout_seconds: float = 30.0) -> None:
        """Return once the fact, judged anew at every change of the records, holds; raises TimeoutError."""
        try:
            await self._bell.until(fact, timeout_seconds=timeout_seconds)
        except TimeoutError as error:
            seen = [f"{r.method} {r.path} {r.status} fault={r.fault} running={r.is_running}" for r in self.requests]
            raise TimeoutError(
                f"not within {timeout_seconds} s; {len(seen)} requests, the last: {seen[-5:]}"
            ) from error

    async def watching(self, match: Predicate = anything, *, count: int = 1, timeout_seconds: float = 30.0) -> None:
        """Return once this many matching watches are running and answered; raises TimeoutError."""
        await self.until(
            lambda: sum(r.status is not None for r in self.watches(match, running=True)) >= count,
            timeout_seconds=timeout_seconds,
        )

    def fault(self, fault: Fault) -> Armed:
        """Put a fault in force now; leave a `with` on the result, or call remove(), to end it."""
        armed = Armed(fault, self._bell, self._disarm)
        self._arsenal.add(armed)
        behaviour = fault.behaviour
        if isinstance(behaviour, RefuseConnections):
            self._stop_listening()
            if not behaviour.keep_established:
                self.reset_connections()
        if fault.meets_running and isinstance(behaviour, WatchBehaviour):
            for connection in self._oldest_watch_first():
                watch = connection.running_watch
                if watch is not None and armed.meet(watch.entry.request):
                    connection.order(fault, behaviour)
        return armed

    def reset_connections(self) -> None:
        """End every client connection with RST, as a killed API server does."""
        for connection in self._connections:
            connection.reset()

    def pause(self) -> None:
        """Begin a partition: nothing passes in either direction, new connections hang in their handshake."""
        self._gate.clear()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)

    def resume(self) -> None:
        """End the partition: what was held back passes on."""
        self._gate.set()
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    @contextlib.contextmanager
    def partition(self) -> Iterator[None]:
        """Pause for the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def _disarm(self, armed: Armed) -> None:
        self._arsenal.discard(armed)
        refusing = any(isinstance(fault.behaviour, RefuseConnections) for fault in self._arsenal.faults)
        if self._listener is None and self._reservation is not None and not refusing:
            self._listen()

    def _oldest_watch_first(self) -> list[Connection]:
        watching = [(c.running_watch.entry.number, c) for c in self._connections if c.running_watch is not None]
        return [connection for _, connection in sorted(watching, key=lambda pair: pair[0])]

    def _bound(self, port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self._host, port))
        bound.setblocking(False)  # noqa: FBT003 - socket's own signature
        return bound

    def _listen(self) -> None:
        self._listener = self._bound(self._port)
        self._listener.listen(BACKLOG)
        if self._gate.is_set():
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            accepted.setblocking(False)  # noqa: FBT003 - socket's own signature
            self._accepted += 1
            connection = Connection(self._accepted, accepted, self._house)
            self._connections.add(connection)
            connection.task.add_done_callback(functools.partial(self._served, connection))

    def _served(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    def _adopt(self, wire: Wire) -> None:
        self._wires = [kept for kept in self._wires if not kept.has_ended]
        self._wires.append(wire)
