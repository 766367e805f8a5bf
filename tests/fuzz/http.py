"""`python -m tests.fuzz.http SECONDS`: whatever bytes come, however they are cut, when, and on how many connections.

An input is a script of `SCRIPT` bytes and then what every client sends. asyncio's part is played here, clock included:
nothing waits, and the same input is the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import atheris
import httptools

from tests.fuzz.campaign import Campaign
from tests.unit.admission.reviews import pod, review

with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["reconciler.admission"]):
    from reconciler.admission import review as admission
    from reconciler.admission.certificate import ServedCertificate
    from reconciler.admission.connection import Connection, Head, Hold, Response, State
    from reconciler.admission.listener import Limits, Listener
    from reconciler.admission.metrics import Metrics
    from reconciler.admission.server import PATH, Reviews

if TYPE_CHECKING:
    from collections.abc import Iterable

# Small enough for an input to reach each of them; the third client takes another's place, a second large body waits.
LIMITS = Limits(connections=2, head_bytes=1024, body_bytes=2048, small_body_bytes=512, large_bodies_bytes=2048)
CLIENTS = 3
SCRIPT = 16
_MOST_STEPS = 96
_MOST_BYTES = 6 * 1024
_HIGH_WATER = 256  # bytes that a client has not read yet: the connection is told to pause
_CUTS = (1, 2, 5, 17, 64, 200, 600, 1500)
_WAITS = (0.6, 1.0, 2.0, 3.0, 5.0, 10.5, 60.0, 125.0)  # seconds
_STOP_SECONDS = 5.0
_TURNS = 10  # of the event loop: a stop that runs out of time takes seven to come to its end
# 500 is none of them: it is a defect, by its name.
_STATUSES = {100, 200, 400, 404, 405, 408, 413, 415, 431}
_NEVER = Limits().idle_seconds + Limits().linger_seconds + 2.0  # what is left after these seconds is left for ever


class Step(IntEnum):
    """What happens next: the three lowest bits of a byte of the script; two more say to whom, three how much."""

    SEND = 0  # three steps are one: most bytes are there to be sent
    SEND_MORE = 1
    SEND_ON = 2
    SEND_REST = 3
    READ = 4  # or, from now on, do not read
    LEAVE = 5  # in order, or by a reset
    WAIT = 6
    TURN = 7  # nothing; or the server begins to stop


class Clock(asyncio.SelectorEventLoop):
    """An event loop, whose time is what it is told."""

    seconds = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.errors.append(context))

    def time(self) -> float:
        """Return seconds since nothing in particular."""
        return self.seconds


class Answers:
    """Reads what a client was sent, as a client does; each write is one whole message."""

    def __init__(self) -> None:
        self.is_over = False  # the client was told that nothing follows
        self._parser = httptools.HttpResponseParser(self)
        self._begun = self._complete = 0
        self._body = b""
        self._headers: dict[bytes, bytes] = {}

    def on_message_begin(self) -> None:
        self._begun += 1
        self._body, self._headers = b"", {}

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name not in self._headers, name
        self._headers[name] = value

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self._complete += 1

    def take(self, written: bytes, head: Head | None) -> int:
        """Read what was written, in answer to `head`; returns the status."""
        assert not self.is_over, written
        try:
            self._parser.feed_data(written)
        except httptools.HttpParserError as error:
            raise AssertionError(f"no HTTP/1.1: {written!r}") from error
        status = self._parser.get_status_code()
        assert (status in _STATUSES, self._parser.get_http_version()) == (True, "1.1"), written
        self.is_over = self._headers.get(b"Connection") == b"close"
        if status == 100:
            assert not self._headers, written
        if head is not None and head.method == "HEAD":  # its answer has the length of a body, and no body
            assert (self.is_over, self._complete, self._body) == (True, self._begun - 1, b""), written
            return status
        assert self._complete == self._begun, written
        if status == 200:
            assert self._headers[b"Content-Type"] == b"application/json", written
            assert json.loads(self._body)["response"]["allowed"] is True, written
        return status


class Reader(Reviews):
    """The responder of the reviews, with an eye on what it is given."""

    def respond(self, head: Head, body: bytes) -> Response:
        """Return the answer to a review."""
        assert len(body) <= LIMITS.body_bytes, head
        assert head.length in (None, len(body)), (head, len(body))
        return super().respond(head, body)


class Watched(Connection):
    """A connection; llhttp turns an exception of one of its methods into one that looks like the client's fault."""

    def turn_away(self, response: Response) -> None:
        """Send a refusal, unless the fault is ours."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserCallbackError):
            ours = error.__context__
            if ours is not None and not isinstance(ours, httptools.HttpParserError):
                raise ours
        super().turn_away(response)


class Client(asyncio.Transport):
    """A client, and the transport between it and its connection, which does what asyncio's do."""

    def __init__(self, listener: Listener, clock: Clock) -> None:
        super().__init__()
        self.connection: Final = Watched(listener)
        self.written: list[bytes] = []
        self.is_paused = False  # the connection is not read
        self.is_full = False  # the connection was told to pause writing
        self.is_deaf = False  # the client does not read
        self.has_left = False
        self.is_lost = False
        self.is_aborted = False
        self.unanswered = 0  # bytes that were sent since the part that was answered last
        self._is_answered = False
        self._clock = clock
        self._answers = Answers()
        self._unread = 0
        self._is_closing = False
        self.connection.connection_made(self)

    @property
    def may_send(self) -> bool:
        """Whether asyncio would deliver data. Behind TLS it does so until all is written, even after close()."""
        return not (self.is_paused or self.has_left or self.is_lost or self.is_aborted)

    def send(self, part: bytes) -> None:
        """Let the connection receive a part."""
        self._is_answered = False
        self.connection.data_received(part)
        self.unanswered = 0 if self._is_answered else self.unanswered + len(part)

    def read(self) -> None:
        """Read all that was sent, and from now on at once."""
        self.is_deaf, self._unread = False, 0
        if self.is_full and not self.is_lost:
            self.is_full = False
            self.connection.resume_writing()
        if self._is_closing:
            self._lose(None)

    def leave(self) -> None:
        """Send no more."""
        self.has_left = True
        if not self.connection.eof_received():  # asyncio's default
            self.close()

    def reset(self) -> None:
        """Be gone."""
        self.is_aborted = self._is_closing = True
        self._lose(ConnectionResetError())

    # the connection's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take one message."""
        self.written.append(bytes(data))
        self._is_answered = self._answers.take(bytes(data), self.connection.head) != 100
        if not self.is_deaf or self._is_closing:
            return
        self._unread += len(data)
        if self._unread > _HIGH_WATER and not self.is_full:
            self.is_full = True
            self.connection.pause_writing()

    def close(self) -> None:
        """Close once all is read."""
        if not self._is_closing:
            self._is_closing = True
            if not self._unread:
                self._clock.call_soon(self._lose, None)

    def abort(self) -> None:
        """Close now."""
        self.is_aborted = self._is_closing = True
        self._clock.call_soon(self._lose, None)

    def pause_reading(self) -> None:
        """Deliver no more."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Deliver again, though not from within this call."""
        self.is_paused = False

    def _lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.connection.connection_lost(error)


class Stage:
    """A listener and its clients, one input long."""

    def __init__(self, clock: Clock, wire: bytes) -> None:
        self.listener: Final = Listener(_REVIEWS, LIMITS, _METRICS)
        self.listener._looking = self._looking = asyncio.ensure_future(self.listener._look())
        self._stopping: asyncio.Task[None] | None = None
        self._clock = clock
        self._wire = wire
        self._clients: list[Client | None] = [None] * CLIENTS
        self._sent = [0] * CLIENTS

    @property
    def is_over(self) -> bool:
        """Whether every client has sent everything."""
        return all(sent >= len(self._wire) for sent in self._sent)

    async def take(self, code: int) -> None:
        """Take one step, and look whether all is as it should be."""
        step, who, amount = Step(code & 7), (code >> 3 & 3) % CLIENTS, code >> 5
        client = self._clients[who]
        match step:
            case Step.SEND | Step.SEND_MORE | Step.SEND_ON | Step.SEND_REST:
                self._send(who, len(self._wire) if step is Step.SEND_REST else _CUTS[amount])
            case Step.READ if client is not None:
                if amount & 1:
                    client.is_deaf = True
                else:
                    client.read()
            case Step.LEAVE if client is not None and not client.is_lost:
                if amount & 1:
                    client.reset()
                else:
                    client.leave()
            case Step.WAIT:
                await self._pass(_WAITS[amount])
            case Step.TURN:
                if amount == len(_CUTS) - 1 and self._stopping is None:
                    self._stopping = asyncio.ensure_future(self.listener.stop(_STOP_SECONDS))
                await self._turn()
        self._check()

    async def end(self, *, by_time: bool) -> None:
        """Let everybody leave, or all deadlines pass; then nothing may be left."""
        if self._stopping is not None:
            await self._pass(_STOP_SECONDS + 1.0)
            assert self._stopping.done(), "stopping takes longer than it may"
            self._stopping.result()
        elif by_time:
            for seconds in (LIMITS.header_seconds + 1.0, LIMITS.linger_seconds + 1.0, _NEVER):
                await self._pass(seconds)
                self._check()
        else:
            for client in self._present():
                client.reset()
        await self._turn()
        self._check()
        assert not self._present(), "a connection outlives all deadlines"
        listener = self.listener
        left = [*listener._silent, *listener._idle, *listener._used, *listener._waiting]
        assert not left, left
        assert listener._memory == LIMITS.large_bodies_bytes, listener._memory
        assert self._stopping is not None or not self._looking.done(), "nobody looks at deadlines any more"
        self._looking.cancel()
        await self._turn()
        assert not self._clock.errors, self._clock.errors

    def _send(self, who: int, amount: int) -> None:
        """Send the next part of the wire, on a new connection if need be."""
        client = self._clients[who]
        if client is None or client.is_lost:
            if self._stopping is not None:
                return  # it takes no new connection
            client = self._clients[who] = Client(self.listener, self._clock)
        part = self._wire[self._sent[who] : self._sent[who] + amount]
        if part and client.may_send:
            self._sent[who] += len(part)
            client.send(part)

    async def _pass(self, seconds: float) -> None:
        self._clock.seconds += seconds
        await self._turn()

    async def _turn(self) -> None:
        """Let what is due come: a timer sets a future, which wakes a task, which cancels another, and so on."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def _present(self) -> list[Client]:
        return [client for client in self._clients if client is not None and not client.is_lost]

    def _check(self) -> None:
        listener = self.listener
        assert not self._clock.errors, self._clock.errors
        if self._looking.done() and not self._looking.cancelled():
            self._looking.result()
        for client in self._clients:
            if client is not None:
                self._check_one(client)
        clients = self._present()
        places = (listener._silent, listener._idle, listener._used)
        assert sum(map(len, places)) <= LIMITS.connections, places
        assert set().union(*places) <= {client.connection for client in clients}, places
        assert listener._memory >= 0, listener._memory
        waiting = [connection for connection, _ in listener._waiting]
        taken = sum(one.connection.reserved for one in clients if one.connection not in waiting)
        assert listener._memory + taken == LIMITS.large_bodies_bytes, (listener._memory, taken)
        assert not waiting or listener._memory < listener._waiting[0][1], "it waits for memory that is there"
        assert _METRICS.in_flight._value.get() == len(listener._used), "requests in flight"
        assert _METRICS.connections._value.get() == sum(map(len, places)), "connections"

    def _check_one(self, client: Client) -> None:
        listener, connection = self.listener, client.connection
        size, reserved = len(connection._body), connection.reserved
        places = sum(connection in place for place in (listener._silent, listener._idle, listener._used))
        waits = (connection, reserved) in listener._waiting
        if client.is_lost:
            assert (places, reserved, size, waits, connection.transport) == (0, 0, 0, False, None), (
                "it is not forgotten"
            )
            return
        assert places == 1 or (places == 0 and client.is_aborted), f"it has {places} places"
        assert size <= LIMITS.body_bytes, size
        assert reserved <= LIMITS.body_bytes, reserved
        framing = client.unanswered - size if connection.state in (State.SILENT, State.HEAD, State.BODY) else 0
        assert framing <= LIMITS.head_bytes, framing
        assert not reserved or (size <= reserved and connection.state is State.BODY), (size, reserved)
        assert reserved or size <= LIMITS.small_body_bytes, size
        assert (connection in listener._used) == (connection.state is State.BODY and places == 1), connection.state
        holds = connection._holds
        assert (Hold.ANSWERS in holds, Hold.MEMORY in holds) == (client.is_full, waits), (holds, client.is_full, waits)
        assert client.is_paused == bool(holds), holds


async def _play(clock: Clock, script: bytes, wire: bytes) -> None:
    stage = Stage(clock, wire)
    for code in itertools.islice(itertools.cycle(script), _MOST_STEPS):
        await stage.take(code)
        if stage.is_over:
            break
    await stage.end(by_time=bool(script[-1] & 1))


async def _alone(clock: Clock, wire: bytes, cuts: Iterable[int]) -> bytes:
    """Return what the only client is sent, which reads everything at once."""
    client = Client(Listener(_REVIEWS, LIMITS, _METRICS), clock)
    sent = 0
    for cut in cuts:
        if sent >= len(wire) or not client.may_send:
            break
        client.send(wire[sent : sent + cut])
        sent += cut
    client.reset()
    await asyncio.sleep(0)
    return b"".join(client.written)


def check(data: bytes) -> None:
    """Raise where an exception comes through, an answer is no HTTP, or something is counted or held wrongly."""
    script, wire = data[:SCRIPT], data[SCRIPT:]
    if not wire:
        return
    _CLOCK.run_until_complete(_play(_CLOCK, script, wire))
    # The limit of what is no body is looked at after each part: only below it the cuts make no difference at all.
    if len(wire) <= LIMITS.head_bytes:
        whole = _CLOCK.run_until_complete(_alone(_CLOCK, wire, [len(wire)]))
        cuts = itertools.cycle(_CUTS[code >> 5] for code in script)
        parts = _CLOCK.run_until_complete(_alone(_CLOCK, wire, cuts))
        assert parts == whole, (parts, whole)


def _request(body: bytes = b"", *headers: bytes, line: bytes = b"", chunks: int = 0) -> bytes:
    """Return a request with a body; `chunks` is the size of its chunks, 0 where its length is told."""
    line = line or b"POST %b HTTP/1.1" % PATH.encode()
    length = b"Transfer-Encoding: chunked" if chunks else b"Content-Length: %d" % len(body)
    head = b"\r\n".join((line, b"Host: webhook", b"Content-Type: application/json", length, *headers))
    if chunks:
        parts = [body[begin : begin + chunks] for begin in range(0, len(body), chunks)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return head + b"\r\n\r\n" + body


def _wires() -> list[bytes]:
    """Return what clients send: as they should, as they may, and as they must not."""
    small = review({"spec": {}})
    large = review(pod(annotations={"a": "x" * 600}))
    huge = review(pod(annotations={"a": "x" * 3000}))
    ask = _request(small)
    return [
        ask,
        ask + _request(large) + ask,
        ask * 4,
        _request(large) * 2,
        _request(huge),
        ask * 3 + _request(large)[:-10],
        _request(small, chunks=7),
        _request(large, chunks=300) + ask,
        _request(huge, chunks=1),
        _request(huge, chunks=1000),
        _request(small, chunks=64).removesuffix(b"\r\n") + b"Trailer: a\r\nContent-Length: 1\r\n\r\n" + ask,
        _request(b"{}", chunks=1).removesuffix(b"\r\n") + b"Trailer: a\r\n" * 100 + b"\r\n",
        _request(small, chunks=64).replace(b"\r\n", b";extension=1\r\n", 5),
        _request(large, b"Expect: 100-continue") + ask,
        _request(b"", b"Connection: Upgrade", b"Upgrade: websocket") + b"\x81\x00",
        _request(small, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT webhook:443 HTTP/1.1\r\nHost: webhook:443\r\n\r\n" + ask,
        _request(line=b"HEAD / HTTP/1.1") + ask,
        _request(line=b"GET %b HTTP/1.1" % PATH.encode()) + ask,
        _request(small, line=b"POST %b HTTP/1.0" % PATH.encode()) + ask,
        _request(small, b"Connection: keep-alive", line=b"POST %b HTTP/1.0" % PATH.encode()) + ask,
        _request(small, b"Connection: close") + ask,
        _request(small, line=b"POST %b?timeout=10s HTTP/1.1" % PATH.encode()),
        _request(small, line=b"POST http://webhook%b HTTP/1.1" % PATH.encode()),
        _request(line=b"POST /" + b"x" * 1500 + b" HTTP/1.1"),
        _request(small, b"X: " + b"x" * 1500),
        _request(small, *[b"X-%d:" % number for number in range(60)]),
        _request(small, b"Content-Encoding: gzip"),
        _request(small).replace(b"application/json", b"Application/JSON ; charset=utf-8"),
        _request(small).replace(b"application/json", b"text/plain"),
        _request(small, b"Content-Length: 5"),
        _request(small, b"Transfer-Encoding: chunked"),
        _request(small).replace(b"Content-Length: ", b"Content-Length: 1000"),
        _request(small).replace(b"Content-Length: ", b"Content-Length: -"),
        _request(b"x" * 600)[:-10],
        ask[:-10],
        ask[:100],
        b"\r\n\r\n" + ask + b"\r\n" + ask,
        ask.replace(b"\r\n", b"\n"),
        _request(b"not json") + ask,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1100,
    ]


def _step(step: Step, who: int = 0, amount: int = 0) -> int:
    return step | who << 3 | amount << 5


def _scripts() -> list[bytes]:
    """Return how it is sent; a script that ends with an odd byte lets all deadlines pass in the end."""
    everybody = range(CLIENTS)
    return [
        bytes([_step(Step.SEND_REST)] * SCRIPT),
        bytes([_step(Step.SEND, who % 2, 4) for who in range(SCRIPT)]),
        bytes(_step(Step.SEND_MORE, who, 5) for who in (*[0, 1] * 7, 2, 2)),
        bytes([_step(Step.SEND, amount=amount) for amount in range(8)] * 2),
        bytes([_step(Step.SEND), _step(Step.READ, amount=1), *[_step(Step.SEND_ON, amount=6)] * 10])
        + bytes([_step(Step.READ), *[_step(Step.SEND_ON, amount=7)] * 3]),
        bytes([*[_step(Step.SEND, who, 7) for who in everybody], _step(Step.WAIT, amount=5)] * 4),
        bytes([*[_step(Step.SEND, who, 6) for who in everybody], _step(Step.LEAVE, 1, 1), _step(Step.TURN)] * 3)
        + bytes([_step(Step.LEAVE)]),
        bytes([*[_step(Step.SEND, 1, 5)] * 6, _step(Step.SEND, 2, 5), _step(Step.TURN, amount=7)] * 2),
        # The second reads nothing and waits for the memory that the first has: two reasons not to read it.
        *[
            bytes([_step(Step.SEND_REST), _step(Step.SEND, 1), _step(Step.READ, 1, 1), _step(Step.SEND_REST, 1), *then])
            + bytes([_step(Step.TURN)] * (SCRIPT - 4 - len(then)))
            for then in ((_step(Step.READ, 1), _step(Step.LEAVE, 0, 1)), (_step(Step.LEAVE, 0, 1), _step(Step.READ, 1)))
        ],
    ]


_WORDS = [
    *(b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"POST ", b"GET ", b"HEAD ", b";a=b"),
    *(b"Content-Length: ", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: "),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    *(b"Expect: 100-continue\r\n", b"Content-Type: application/json\r\n", b"Content-Encoding: gzip\r\n", b"1ff\r\nx"),
    *(PATH.encode(), b"?timeout=10s", b"chunked, identity", b"ffffffffffffffff\r\n", b"9" * 20, b"CONNECT "),
]
_SEEDS = [script + wire for wire in _wires() for script in _scripts()]

# As in the product, where both are 7 MiB: no request asks for more memory than a body may have.
setattr(admission, "MAX_REVIEW_BYTES", LIMITS.body_bytes)  # noqa: B010 - mypy takes it for Final, as it is elsewhere
_CLOCK = Clock()
_METRICS = Metrics()
_REVIEWS = Reader(ServedCertificate(Path("nowhere"), _METRICS), _METRICS, admission.Rules(), frozenset())

if __name__ == "__main__":
    about = "Fuzz the connections of the admission server: bytes in, cut anywhere, HTTP/1.1 responses out."
    sys.exit(Campaign("http", about, check, _SEEDS, _WORDS, _MOST_BYTES).main())
