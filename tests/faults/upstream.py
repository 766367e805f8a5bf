"""The proxy's side towards the real API server: one kept-alive connection for each client connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.http1 import Body, Head, read_head, response_framing
from tests.faults.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.faults.http1 import Framing
    from tests.faults.request import Request


@dataclass(frozen=True, slots=True)
class Response:
    """An answer whose head has come; its body is read while it comes."""

    head: Head
    framing: Framing
    body: Body


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API server is, and whom to trust there."""

    host: str
    port: int
    context: ssl.SSLContext


class Upstream:
    """A connection opened when first needed, and again after it was abandoned or had ended."""

    def __init__(self, address: Address, adopt: Callable[[Wire], None]) -> None:
        self._address = address
        self._adopt = adopt
        self._wire: Wire | None = None

    async def ask(self, request: Request, *, plain: bool) -> Response:
        """Forward a request and return its answer; plain forbids compression.

        Raises OSError or asyncio.IncompleteReadError where the upstream fails.
        """
        if self._wire is None or not self._wire.is_usable:
            self.abandon()
            self._wire = await Wire.connect(self._address.host, self._address.port, self._address.context)
            self._adopt(self._wire)
        head = request.head
        if head.get("Transfer-Encoding"):
            head = head.without("Transfer-Encoding").with_field("Content-Length", str(len(request.body)))
        if plain:
            head = head.with_field("Accept-Encoding", "identity")
        await self._wire.send(head.encoded() + request.body)
        answer = await read_head(self._wire.reader)
        if answer is None:
            raise ConnectionResetError("the upstream closed the connection instead of answering")
        framing = response_framing(answer, request.method)
        return Response(answer, framing, Body(self._wire.reader, framing, answer.length))

    def abandon(self) -> None:
        """Close the connection, whatever is under way on it."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None
