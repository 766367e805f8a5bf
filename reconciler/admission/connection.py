"""One HTTP/1.1 connection: llhttp parses, limits bound it, a responder answers. It knows nothing about pods.

Answering takes no waiting, so that there is no task, no stream and no timer per request: what aiohttp spends on these
is more than half of a review. Deadlines are looked at by the listener, twice a second for all connections.
"""

import asyncio
from enum import IntEnum, IntFlag
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

import httptools

from reconciler.admission.metrics import Cause

if TYPE_CHECKING:
    from reconciler.admission.listener import Listener

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Head(NamedTuple):
    """What a request says before its body. `length` is None where it does not tell."""

    method: str
    path: str
    media_type: str
    is_encoded: bool
    length: int | None


class Response(NamedTuple):
    """What is sent back; `cause` is set where a request was turned away."""

    status: int
    body: bytes
    media_type: str = "text/plain; charset=utf-8"
    cause: Cause | None = None


class Responder(Protocol):
    """Who answers."""

    def refuse(self, head: Head, transport: asyncio.Transport) -> Response | None:
        """Return why the request is not wanted, before its body is read; None where it is."""

    def respond(self, head: Head, body: bytes) -> Response:
        """Return the answer to a complete request."""


class State(IntEnum):
    """What the connection waits for."""

    SILENT = 0  # its first request
    IDLE = 1  # another request
    HEAD = 2  # the rest of a head
    BODY = 3  # the rest of a body
    LINGERING = 4  # the other end to close: what still comes is thrown away


class Hold(IntFlag):
    """Why a connection is not read; it is read again once there is no reason left."""

    ANSWERS = 1  # the other end does not read what it was sent
    MEMORY = 2  # its body waits for a share of the memory of large ones


class Connection(asyncio.Protocol):
    """The protocol of one connection."""

    __slots__ = (
        "_body",
        "_headers",
        "_holds",
        "_length",
        "_listener",
        "_parser",
        "_received",
        "_url",
        "deadline",
        "head",
        "reserved",
        "state",
        "transport",
    )

    def __init__(self, listener: "Listener") -> None:
        self.state = State.SILENT
        self.deadline = 0.0  # of the loop's clock
        self.reserved = 0  # bytes of the memory that large bodies share
        self.transport: asyncio.Transport | None = None
        self.head: Head | None = None
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        # One buffer: a list of the parts of a body that comes in pieces of two bytes takes thirty times its length.
        self._body = bytearray()
        self._length = 0
        self._holds = Hold(0)
        self._received = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; the first head has to come in time."""
        self.transport = cast("asyncio.Transport", transport)
        self._wait(State.SILENT, self._listener.limits.header_seconds)
        self._listener.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Give the place back."""
        self._listener.leave(self)
        self.transport = None
        # The parser refers to this connection and back: until the collector comes, nothing large may hang on it.
        self._body, self._headers = bytearray(), {}

    def data_received(self, data: bytes) -> None:
        """Parse; each complete request is answered before the next one is looked at."""
        if self.state is State.LINGERING or self.transport is None:
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the second is none of the first
            self.turn_away(Response(400, b"expected HTTP/1.1\n", cause=Cause.MALFORMED))
        # All that is no body: a head that does not come to its end, the framing of chunks, trailers.
        if (
            self.state in (State.SILENT, State.HEAD, State.BODY)
            and self._received - self._length > self._listener.limits.head_bytes
        ):
            self.turn_away(Response(431, b"the head of the request is too large\n", cause=Cause.TOO_LARGE))

    def pause_writing(self) -> None:
        """Stop reading while the other end does not read its answers."""
        self.hold(Hold.ANSWERS)

    def resume_writing(self) -> None:
        """Go on."""
        self.release(Hold.ANSWERS)

    # llhttp's side

    def on_message_begin(self) -> None:
        """Note the begin of a head."""
        if self.state is State.LINGERING:
            return
        self.head = None
        self._headers = {}
        self._url = b""
        if self.state is not State.SILENT:
            self._wait(State.HEAD, self._listener.limits.header_seconds)

    def on_url(self, url: bytes) -> None:
        """Note the request's target, or a part of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note one header; trailers are not wanted."""
        if self.state is not State.BODY:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Decide whether the body is wanted."""
        if self.state is State.LINGERING or self.transport is None:
            return
        headers = self._headers
        length = headers.get(b"content-length")
        self._wait(State.BODY, self._listener.limits.body_seconds)
        self.head = head = Head(
            self._parser.get_method().decode("ascii", "replace"),
            self._url.partition(b"?")[0].decode("ascii", "replace"),
            headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("ascii", "replace"),
            b"content-encoding" in headers,
            None if length is None or not length.isdigit() else int(length[:20]),
        )
        self._listener.began(self)
        if self._parser.should_upgrade():
            self.turn_away(Response(400, b"expected no upgrade\n", cause=Cause.MALFORMED))
        elif (refusal := self._listener.responder.refuse(head, self.transport)) is not None:
            self.turn_away(refusal)
        elif headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        if self.state is not State.BODY:
            return
        self._length += len(part)
        limits = self._listener.limits
        if self._length > limits.body_bytes:
            words = f"expected at most {limits.body_bytes} bytes\n"
            self.turn_away(Response(413, words.encode(), cause=Cause.TOO_LARGE))
            return
        self._body += part
        if self._length > limits.small_body_bytes and not self.reserved and self.head is not None:
            length = self.head.length
            self._listener.reserve(self, limits.body_bytes if length is None else length)

    def on_message_complete(self) -> None:
        """Answer."""
        if self.state is not State.BODY or self.transport is None or self.head is None:
            return
        response = self._listener.responder.respond(self.head, bytes(self._body))
        self._body, self._length, self._received = bytearray(), 0, 0
        keep = self._parser.should_keep_alive() and not self._listener.draining
        self._send(response, keep=keep)
        self._listener.ended(self)
        if keep:
            self._wait(State.IDLE, self._listener.limits.idle_seconds)
        else:
            self._linger()
            self.transport.close()  # nothing is left unread

    # the listener's side

    def turn_away(self, response: Response) -> None:
        """Send a refusal and close once the other end had time to read it."""
        if self.transport is None or self.state is State.LINGERING:
            return
        self._send(response, keep=False)
        self._listener.ended(self)
        self._linger()

    def hold(self, why: Hold) -> None:
        """Read no more, for this reason."""
        self._holds |= why
        if self.transport is not None:
            self.transport.pause_reading()

    def release(self, why: Hold) -> None:
        """Read again, unless there is another reason not to."""
        self._holds &= ~why
        if self.transport is not None and not self._holds:
            self.transport.resume_reading()

    def close(self) -> None:
        """Close at once; what is not sent yet is lost."""
        if self.transport is not None:
            self.transport.abort()

    def _linger(self) -> None:
        self._body, self._headers = bytearray(), {}
        # A socket that is closed with data unread resets the connection, and the answer is lost on the way.
        self._wait(State.LINGERING, self._listener.limits.linger_seconds)

    def _wait(self, state: State, seconds: float) -> None:
        self.state = state
        self.deadline = self._listener.now() + seconds

    def _send(self, response: Response, *, keep: bool) -> None:
        if response.cause is not None:
            self._listener.count(response.cause)
        if self.transport is not None:
            end = b"\r\n\r\n" if keep else b"\r\nConnection: close\r\n\r\n"
            head = f"Content-Type: {response.media_type}\r\nContent-Length: {len(response.body)}".encode("ascii")
            body = b"" if self.head is not None and self.head.method == "HEAD" else response.body
            self.transport.write(b"".join((_STATUS_LINES[response.status], head, end, body)))
