"""AdmissionReviews as the real API server sends them: it is given a webhook in this process that keeps the first."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from benchmarks.registering import PATH, Creator, namespace, registered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.pods import Object
    from tests.seed import Seed

_NAMESPACE = "benchmark-capture"
_LIMIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05


def reviews(stage: Seed, certificates: Path, pods: Sequence[Object]) -> list[bytes]:
    """Return the body of the review of each pod, byte by byte as it came."""
    with (
        _listening(certificates) as listener,
        namespace(stage, _NAMESPACE),
        registered(stage, f"https://127.0.0.1:{listener.server_port}{PATH}"),
        stage.writer("benchmark-capture") as connection,
    ):
        creator = Creator(connection, _NAMESPACE)
        deadline = time.monotonic() + _LIMIT_SECONDS
        for pod in pods:
            while pod["metadata"]["name"] not in listener.first:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the API server sent no review within {_LIMIT_SECONDS:g} s")
                time.sleep(_LOOK_SECONDS)
                creator.create(pod)
        return [listener.first[pod["metadata"]["name"]] for pod in pods]


class _Listener(ThreadingHTTPServer):
    """Answers every review with yes, and keeps the first body of each pod's name."""

    daemon_threads = True

    def __init__(self, certificates: Path) -> None:
        self.first: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_POST(self) -> None:
        """Keep the review and let its pod in as it is."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        review = json.loads(body)
        self.server.first.setdefault(review["request"]["name"], body)
        response = {"uid": review["request"]["uid"], "allowed": True}
        answer = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _listening(certificates: Path) -> Iterator[_Listener]:
    with _Listener(certificates) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown()
            thread.join()
