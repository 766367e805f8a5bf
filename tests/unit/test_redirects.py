"""No redirect from the API server is followed: it would take credentials and private keys to another host."""

from __future__ import annotations

import threading
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import yaml

from reconciler.cluster import PODS, SECRETS, Cluster, Selection, Target
from reconciler.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

SECRET = Target(SECRETS, "seccomp-reconciler-ca", "garden")
KEY = {"metadata": {"name": SECRET.name}, "data": {"tls.key": "cHJpdmF0ZQ=="}}
OBSERVED = {"metadata": {"uid": "u", "resourceVersion": "1"}}


@contextmanager
def listening(code: int, location: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve on a free port; yields its address and the requests that came."""
    seen: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.append(f"{self.command} {self.path}")
            self.send_response(code)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def followed(cluster: Cluster) -> None:
    async with aclosing(cluster.follow(SECRET)) as changes:
        change = await anext(changes)
        assert isinstance(change, UnavailableError)
        raise change


async def listed(cluster: Cluster) -> None:
    async with aclosing(cluster.select(Selection(PODS, "garden"))) as pods:
        await anext(pods)


ASKED: dict[str, Callable[[Cluster], Awaitable[object]]] = {
    "get": lambda cluster: cluster.get(SECRET),
    "post": lambda cluster: cluster.post(SECRET, KEY),
    "apply": lambda cluster: cluster.create(SECRET, KEY),
    "merge": lambda cluster: cluster.merge(SECRET, KEY),
    "delete": lambda cluster: cluster.delete(SECRET, observed=OBSERVED),
    "dry-run": lambda cluster: cluster.attempt(SECRET, KEY, timeout_seconds=5.0),
    "watch": followed,
    "list": listed,
}


@pytest.mark.parametrize(
    ("asked", "code"),
    [*((asked, 307) for asked in ASKED), *(("post", code) for code in (300, 301, 302, 303, 305, 308))],
)
async def test_a_redirect_is_an_error_and_is_not_followed(tmp_path: Path, asked: str, code: int) -> None:
    with listening(200) as (elsewhere, stolen), listening(code, f"{elsewhere}/take") as (server, seen):
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": server}}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                }
            )
        )
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            with pytest.raises(UnavailableError, match=f"answered {code}, a redirect to 127.0.0.1: it is not followed"):
                await ASKED[asked](cluster)
    assert len(seen) == 1
    assert stolen == []
