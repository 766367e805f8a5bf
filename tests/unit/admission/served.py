"""`serve` as a process without a control plane: its folder of certificates, and clients that speak TLS to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Self

from reconciler.certificates.authority import Pair, issue_authority, issue_serving
from tests.backend import Server, put, serving
from tests.seed import Reconciler, started
from tests.unit.admission.reviews import POD, review

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DAY_SECONDS = 86400.0
PATH = "/webhooks/seccomp-profile"
_TIMEOUT_SECONDS = 20.0


@dataclass
class Folder:
    """A folder as a mounted kubernetes.io/tls Secret, with an authority of its own; also where processes start."""

    path: Path
    authority: Pair = field(default_factory=lambda: issue_authority(now=time.time(), lifetime_seconds=DAY_SECONDS))

    @property
    def tls(self) -> Path:
        """What `serve --certificates` is given."""
        return self.path / "tls"

    def issue(self, *, lifetime_seconds: float = DAY_SECONDS, now: float | None = None) -> Pair:
        """Return a new pair for 127.0.0.1."""
        begin = time.time() if now is None else now
        return issue_serving(self.authority, names=["127.0.0.1"], now=begin, lifetime_seconds=lifetime_seconds)

    def put(self, pair: Pair) -> Pair:
        """Bring it as the kubelet does."""
        put(self.tls, {"tls.crt": pair.certificate, "tls.key": pair.key})
        return pair

    @contextmanager
    def process(self, argv: list[str]) -> Iterator[Reconciler]:
        """Start a program without any access to an API server."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SECCOMP_", "KUBE"))}
        with started(argv, self.path, {**environment, "HOME": str(self.path)}) as process:
            yield process

    @contextmanager
    def serving(self, *arguments: str, drain_seconds: float = 0.0) -> Iterator[Server]:
        """Issue a certificate and serve with it, ready."""
        self.put(self.issue())
        with serving(self, self.tls, *arguments, drain_seconds=drain_seconds) as server:
            server.wait_ready()
            yield server

    def client(
        self, server: Server, *, certificate: Path | None = None, version: ssl.TLSVersion | None = None
    ) -> Client:
        """Return a TLS connection that trusts the authority."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if certificate is not None:
            context.load_cert_chain(certificate)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=_TIMEOUT_SECONDS)
        try:
            return Client(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        except BaseException:
            plain.close()
            raise


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    body: bytes
    closes: bool


class Client:
    """One connection: bytes as they are, and the responses to them."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.socket = connection
        self._incoming = connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._incoming.close()
        self.socket.close()

    @property
    def leaf(self) -> bytes:
        """The certificate that the server presented, DER."""
        return self.socket.getpeercert(binary_form=True) or b""

    def send(self, data: bytes) -> None:
        """Send these bytes; a server that has had enough is no error."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        """Return the next response."""
        response = HTTPResponse(_Kept(self._incoming), method=method)  # type: ignore[arg-type] # all it needs is makefile
        response.begin()
        return Answer(response.status, response.read(), response.will_close)

    def line(self) -> bytes:
        """Return the next line."""
        return self._incoming.readline()

    def ask(self, data: bytes) -> Answer:
        """Send a request and return the response."""
        self.send(data)
        return self.answer(data.partition(b" ")[0].decode())

    @property
    def is_closed(self) -> bool:
        """Whether the server closed the connection; waits for it."""
        try:
            return self._incoming.read(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True


class _Kept:
    """A socket for HTTPResponse, which makes a file of its own of it: always the same one, so that nothing is lost."""

    def __init__(self, incoming: object) -> None:
        self._incoming = incoming

    def makefile(self, _mode: str) -> object:
        """Return the file, in a shell that cannot be closed."""
        return _Unclosed(self._incoming)


class _Unclosed:
    def __init__(self, incoming: object) -> None:
        self._incoming = incoming

    def __getattr__(self, name: str) -> object:
        return getattr(self._incoming, name)

    def close(self) -> None:
        """Leave it open: more responses come."""


def request(body: bytes | None = None, *, method: str = "POST", path: str = PATH, **headers: str) -> bytes:
    """Return a request; without `body` it asks about a pod. A header with an empty value is left out."""
    body = review(POD) if body is None else body
    given = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body))}
    given |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


def chunked(body: bytes, size: int) -> bytes:
    """Return a request whose body comes in chunks of `size` bytes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return request(b"", content_length="", transfer_encoding="chunked") + framed


def is_patched(answer: Answer) -> bool:
    """Return whether it is the answer to a pod that gets the profile."""
    return answer.status == 200 and "patch" in json.loads(answer.body)["response"]


def eventually(reached: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)
