"""The faults: what each does, as values, and one constructor for each. Nothing here touches a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, TypedDict, Unpack

from tests.faults import status
from tests.faults.http1 import Head, response_head
from tests.faults.request import Predicate, Request, anything

MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Drop:
    """End the connection once the request is read; nothing is forwarded."""

    abruptly: bool


@dataclass(frozen=True, slots=True)
class Silence:
    """Answer nothing, ever, and keep the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer in the API server's place; nothing is forwarded."""

    head: Head
    body: bytes


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before forwarding, and again when the upstream has answered."""

    before_seconds: float
    after_seconds: float


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """Forward, take the answer, and end the connection without passing it on."""

    abruptly: bool


@dataclass(frozen=True, slots=True)
class CutBody:
    """Send the true head and half of the body (of a watch: of its first line), then end the connection."""

    abruptly: bool


@dataclass(frozen=True, slots=True)
class TruncatedJson:
    """Send half of the body as if it were the whole; of a watch, half of the first line as if it were a line."""


@dataclass(frozen=True, slots=True)
class Trickle:
    """Send head and body one byte at a time."""

    seconds_per_byte: float


@dataclass(frozen=True, slots=True)
class CloseWatch:
    """End a watch, cleanly (last chunk, connection kept) or with RST, after an optional last line."""

    abruptly: bool
    last_line: bytes = b""


@dataclass(frozen=True, slots=True)
class LongLine:
    """Put an event of this many bytes into a watch: the one given, or the stream's own last or next, lengthened."""

    size_bytes: int
    line: bytes | None


@dataclass(frozen=True, slots=True)
class RefuseConnections:
    """Close the listener, and reset what is established unless it is to be kept."""

    keep_established: bool


WatchBehaviour: TypeAlias = CloseWatch | LongLine | Silence | CutBody | TruncatedJson
Behaviour: TypeAlias = WatchBehaviour | Drop | Answer | Delay | LostAnswer | Trickle | RefuseConnections


class Scope(TypedDict, total=False):
    """Whom a fault meets."""

    times: int | None
    """How many requests; None until it is removed."""
    match: Predicate


@dataclass(frozen=True, slots=True)
class Fault:
    """A behaviour for the requests that match; every constructor takes times= and match=."""

    name: str
    behaviour: Behaviour
    times: int | None = None
    match: Predicate = anything
    watches_only: bool = False
    meets_running: bool = False
    """Whether it meets watches already running, too: at once, the oldest first."""

    def wants(self, request: Request) -> bool:
        """Tell whether this request is one it is meant for."""
        if isinstance(self.behaviour, RefuseConnections) or (self.watches_only and not request.is_watch):
            return False
        return self.match(request)

    @staticmethod
    def drop(*, abruptly: bool = True, **scope: Unpack[Scope]) -> Fault:
        """Accept and read the request, then RST (or, not abruptly, FIN): the write did not happen."""
        return Fault("drop", Drop(abruptly), **scope)

    @staticmethod
    def lost_answer(*, abruptly: bool = True, **scope: Unpack[Scope]) -> Fault:
        """Forward, wait for the upstream's answer, then RST or FIN: the write happened, nobody was told."""
        return Fault("lost_answer", LostAnswer(abruptly), **scope)

    @staticmethod
    def refuse_connections(*, keep_established: bool = False) -> Fault:
        """Close the listener while armed; removing it opens the same port again."""
        return Fault("refuse_connections", RefuseConnections(keep_established))

    @staticmethod
    def delay(before_seconds: float = 0.0, *, after_seconds: float = 0.0, **scope: Unpack[Scope]) -> Fault:
        """Wait before forwarding, and between the upstream's answer and its passing on."""
        return Fault("delay", Delay(before_seconds, after_seconds), **scope)

    @staticmethod
    def refuse_status(
        code: int,
        *,
        retry_after: int | None = None,
        reason: str | None = None,
        message: str | None = None,
        **scope: Unpack[Scope],
    ) -> Fault:
        """Answer a JSON Status of this code; retry_after (seconds) goes into header and details."""
        text = status.body(code, message=message, reason=reason, retry_after=retry_after)
        return Fault(f"status_{code}", _answer(code, "application/json", text, retry_after), **scope)

    @staticmethod
    def too_many_requests(retry_after: int = 1, **scope: Unpack[Scope]) -> Fault:
        """Answer 429 with Retry-After as a JSON Status, as an API handler (eviction, webhooks) says it."""
        return Fault.refuse_status(429, retry_after=retry_after, **scope)

    @staticmethod
    def overloaded(retry_after: int = 1, **scope: Unpack[Scope]) -> Fault:
        """Answer 429 with Retry-After as plain text, as the API server's priority and fairness filter says it."""
        text = b"Too many requests, please try again later.\n"
        return Fault("overloaded", _answer(429, "text/plain; charset=utf-8", text, retry_after), **scope)

    @staticmethod
    def gone(**scope: Unpack[Scope]) -> Fault:
        """Answer a watch with HTTP 410 before it begins."""
        text = status.body(410, message="too old resource version: 1 (2)")
        return Fault("gone", _answer(410, "application/json", text), watches_only=True, **scope)

    @staticmethod
    def watch_error(code: int = 410, *, message: str | None = None, **scope: Unpack[Scope]) -> Fault:
        """Send an ERROR event (410: Expired) into a running or new watch and end it cleanly, as the API server does."""
        line = status.error_event(code, message=message or "too old resource version: 1 (2)")
        behaviour = CloseWatch(abruptly=False, last_line=line)
        return Fault("watch_error", behaviour, watches_only=True, meets_running=True, **scope)

    @staticmethod
    def close_watch(*, abruptly: bool = False, **scope: Unpack[Scope]) -> Fault:
        """End a running or new watch stream cleanly, or with RST."""
        return Fault("close_watch", CloseWatch(abruptly), watches_only=True, meets_running=True, **scope)

    @staticmethod
    def long_line(size_bytes: int = 5 * MEBIBYTE, *, line: bytes | None = None, **scope: Unpack[Scope]) -> Fault:
        """Put one huge MODIFIED into a running or new watch.

        5 MiB is over the 4 MiB that kubernetes.aio reads as one line (twice its read_bufsize); 3 MiB still passes.
        Without a line of your own it is the stream's last ADDED or MODIFIED, or else its next, lengthened.
        """
        return Fault("long_line", LongLine(size_bytes, line), watches_only=True, meets_running=True, **scope)

    @staticmethod
    def cut_watch(*, abruptly: bool = False, **scope: Unpack[Scope]) -> Fault:
        """Cut a running or new watch in the middle of its next line."""
        return Fault("cut_watch", CutBody(abruptly), watches_only=True, meets_running=True, **scope)

    @staticmethod
    def garbled_watch(**scope: Unpack[Scope]) -> Fault:
        """Send only half of the next line of a running or new watch, as a line; then go on."""
        return Fault("garbled_watch", TruncatedJson(), watches_only=True, meets_running=True, **scope)

    @staticmethod
    def cut_body(*, abruptly: bool = False, **scope: Unpack[Scope]) -> Fault:
        """Send the head with its true length and half of the body, then FIN (abruptly: RST).

        A watch that begins under it is cut in its first line.
        """
        return Fault("cut_body", CutBody(abruptly), **scope)

    @staticmethod
    def half_open(**scope: Unpack[Scope]) -> Fault:
        """Read requests and never answer, let running watches go silent for ever; connections stay open.

        It outlives its removal: those it has met stay silent until their client leaves.
        """
        return Fault("half_open", Silence(), meets_running=True, **scope)

    @staticmethod
    def garbage(
        body: bytes = b"<html>not the API server</html>",
        *,
        content_type: str = "application/json",
        **scope: Unpack[Scope],
    ) -> Fault:
        """Answer 200 with this body in the API server's place."""
        return Fault("garbage", _answer(200, content_type, body), **scope)

    @staticmethod
    def truncated_json(**scope: Unpack[Scope]) -> Fault:
        """Forward, and pass half of the answer's body on as a complete one."""
        return Fault("truncated_json", TruncatedJson(), **scope)

    @staticmethod
    def trickle(seconds_per_byte: float = 0.0, **scope: Unpack[Scope]) -> Fault:
        """Forward, and pass the answer on one byte at a time, its head too."""
        return Fault("trickle", Trickle(seconds_per_byte), **scope)


def _answer(code: int, content_type: str, body: bytes, retry_after: int | None = None) -> Answer:
    head = response_head(code, ("Content-Type", content_type), ("Content-Length", str(len(body))))
    return Answer(head if retry_after is None else head.with_field("Retry-After", str(retry_after)), body)
