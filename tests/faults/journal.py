"""What passed through the proxy: frozen records for tests, kept up by live entries that only the proxy writes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.faults.request import Predicate, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as it stood when the record was taken; times are of the monotonic clock."""

    number: int
    connection: int
    method: str
    path: str
    query: Mapping[str, str]
    is_write: bool
    is_watch: bool
    dry_run: bool
    status: int | None
    """What the client was told; None while, or because, it was told nothing."""
    upstream_status: int | None
    """What the API server answered; with status None the answer was lost."""
    fault: str | None
    """The name of the fault that met it; of several, on a watch, the last."""
    request_bytes: int
    bytes: int
    """Bytes of the response body sent to the client, without chunk framing."""
    at_seconds: float
    answered_at_seconds: float | None
    finished_at_seconds: float | None

    @property
    def is_running(self) -> bool:
        """Whether it was still under way."""
        return self.finished_at_seconds is None


@dataclass(slots=True, kw_only=True)
class Entry:
    """A request under way."""

    number: int
    connection: int
    request: Request
    status: int | None = None
    upstream_status: int | None = None
    fault: str | None = None
    sent_bytes: int = 0
    at_seconds: float = field(default_factory=time.monotonic)
    answered_at_seconds: float | None = None
    finished_at_seconds: float | None = None

    def record(self) -> RequestRecord:
        """Return it as it stands now."""
        return RequestRecord(
            number=self.number,
            connection=self.connection,
            method=self.request.method,
            path=self.request.path,
            query=self.request.query,
            is_write=self.request.is_write,
            is_watch=self.request.is_watch,
            dry_run=self.request.is_dry_run,
            status=self.status,
            upstream_status=self.upstream_status,
            fault=self.fault,
            request_bytes=len(self.request.body),
            bytes=self.sent_bytes,
            at_seconds=self.at_seconds,
            answered_at_seconds=self.answered_at_seconds,
            finished_at_seconds=self.finished_at_seconds,
        )


class Bell:
    """Rung on every change, so that a test waits for a fact and not for a time."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everyone who waits."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, fact: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Return once the fact holds; raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            while not fact():
                await self._rung.wait()


class Journal:
    """All requests since the proxy was opened, or since forget()."""

    def __init__(self, bell: Bell) -> None:
        self._entries: list[Entry] = []
        self._opened = 0
        self._bell = bell

    def open(self, request: Request, *, connection: int) -> Entry:
        """Begin the entry of a request just read."""
        self._opened += 1
        entry = Entry(number=self._opened, connection=connection, request=request)
        self._entries.append(entry)
        self._bell.ring()
        return entry

    def forwarded(self, entry: Entry, status: int) -> None:
        """Note what the upstream answered."""
        entry.upstream_status = status
        self._bell.ring()

    def answered(self, entry: Entry, status: int) -> None:
        """Note that the client is being told this status."""
        entry.status = status
        entry.answered_at_seconds = time.monotonic()
        self._bell.ring()

    def sent(self, entry: Entry, count: int) -> None:
        """Note bytes of the body that went to the client."""
        entry.sent_bytes += count
        self._bell.ring()

    def finish(self, entry: Entry) -> None:
        """End the entry."""
        entry.finished_at_seconds = time.monotonic()
        self._bell.ring()

    def forget(self) -> None:
        """Begin a new page; requests under way end unrecorded."""
        self._entries.clear()

    def records(self, match: Predicate) -> list[RequestRecord]:
        """Return the matching requests in the order in which they came."""
        return [entry.record() for entry in self._entries if match(entry.request)]
