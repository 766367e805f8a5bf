"""Whatever JSON the API server, or what is in front of it, answers: it is read, or it is one error that is retried."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler.backoff import Backoff
from reconciler.cluster import PODS, SECRETS, Cluster, Selection, Target
from reconciler.errors import ForbiddenError, UnavailableError
from reconciler.pods import shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

SECRET = Target(SECRETS, "s", "garden")
POD = {"metadata": {"name": "p", "uid": "u", "resourceVersion": "1"}}
DEEP = b'{"f:x":' * 9_995 + b"{}" + b"}" * 9_995


def deep(value: object) -> bytes:
    """Return JSON in which every `"managedFields": []` is as deep as the API server keeps it."""
    return json.dumps(value).encode().replace(b'"managedFields": []', b'"managedFields": [' + DEEP + b"]")


@contextmanager
def answering(tmp_path: Path, *bodies: bytes, code: int = 200, **headers: str) -> Iterator[Path]:
    """Answer with each body in turn, and with the last one from then on; yields a kubeconfig."""
    left = list(bodies)

    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    kubeconfig = tmp_path / "kubeconfig"
    named = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {"token": "t"}}
    kubeconfig.write_text(
        yaml.safe_dump({"current-context": "c", "clusters": [named], "contexts": [context], "users": [user]})
    )
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def listed(cluster: Cluster) -> list[str]:
    return [pod["metadata"]["name"] async for pod in cluster.select(Selection(PODS, "garden"))]


async def followed(cluster: Cluster, times: int) -> list[Any]:
    async with aclosing(cluster.follow(SECRET)) as changes:
        return [await anext(changes) for _ in range(times)]


async def test_managed_fields_of_any_depth_hide_nothing(tmp_path: Path) -> None:
    one = {**POD, "metadata": {**POD["metadata"], "managedFields": []}, "spec": 1}
    page = {"metadata": {"resourceVersion": "1"}, "items": [one, {**POD, "spec": 2}]}
    event = {"type": "MODIFIED", "object": {**one, "spec": 3}}
    with answering(tmp_path, deep(one), deep(page), deep(page), deep(event) + b"\n") as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig, backoff=Backoff(0.01, 0.01)) as cluster:
            found = await cluster.get(SECRET)
            assert found is not None
            assert found["spec"] == 1
            assert await listed(cluster) == ["p", "p"]
            assert [one["spec"] for one in await followed(cluster, 2)] == [1, 3]


async def test_a_refusal_with_a_deep_body_is_still_a_refusal(tmp_path: Path) -> None:
    body = deep({"message": "no", "managedFields": []})
    with answering(tmp_path, body, code=403) as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            with pytest.raises(ForbiddenError, match="get secrets/s in namespace garden: forbidden: no"):
                await cluster.get(SECRET)


@pytest.mark.parametrize(("header", "expected"), [("nan", 0.0), ("inf", 60.0), ("-1", 0.0), ("x", 0.0), ("7", 7.0)])
async def test_a_wait_that_is_no_number_is_none(tmp_path: Path, header: str, expected: float) -> None:
    with answering(tmp_path, b"{}", code=503, Retry_After=header) as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            with pytest.raises(UnavailableError) as raised:
                await cluster.get(SECRET)
    assert raised.value.retry_after_seconds == expected


def listing(*names: str, following: str = "") -> bytes:
    items = [{"metadata": {"name": name}} for name in names]
    return json.dumps({"metadata": {"continue": following}, "items": items}).encode()


async def paged(cluster: Cluster) -> list[str]:
    return [
        one["metadata"]["name"]
        async for page in cluster.pages(Selection(PODS, "garden"), shape.page_of)
        for one in page.pods
    ]


async def test_pages_are_read_to_the_last_one(tmp_path: Path) -> None:
    with answering(tmp_path, listing("a", "b", following="1"), listing(following="2"), listing("c")) as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            assert await paged(cluster) == ["a", "b", "c"]


async def test_who_stops_at_a_page_leaves_no_request_behind(tmp_path: Path) -> None:
    with answering(tmp_path, listing("a", following="1")) as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            async with aclosing(cluster.pages(Selection(PODS), shape.page_of)) as pages:
                assert (await anext(pages)).following == "1"
            assert len(asyncio.all_tasks()) == 1


async def test_a_page_that_fails_ends_the_list(tmp_path: Path) -> None:
    with answering(tmp_path, listing("a", following="1"), b"<html>") as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            with pytest.raises(UnavailableError, match="list pods in namespace garden: expected a list from"):
                await paged(cluster)


def with_metadata(**metadata: object) -> dict[str, Any]:
    return {"metadata": {**POD["metadata"], **metadata}}


async def one_followed(cluster: Cluster) -> None:
    (found,) = await followed(cluster, 1)
    assert isinstance(found, UnavailableError)
    raise found


ASKED: dict[str, Callable[[Cluster], Awaitable[object]]] = {
    "get": lambda cluster: cluster.get(SECRET),
    "list": listed,
    "follow": one_followed,
    "dry-run": lambda cluster: cluster.attempt(Target(PODS, "p", "garden"), POD, timeout_seconds=5.0),
}
ODD = {
    "number": 1,
    "null": None,
    "name": with_metadata(name=7),
    "version": with_metadata(resourceVersion=[]),
    "labels": with_metadata(labels=["a"]),
    "label": with_metadata(labels={"a": 1}),
    "annotations": with_metadata(annotations="a"),
    "managers": with_metadata(managedFields={"a": 1}),
    "manager": with_metadata(managedFields=[None]),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_another_shape_than_that_of_an_object_is_an_error(tmp_path: Path, asked: str, odd: object) -> None:
    body = {"metadata": {"resourceVersion": "1"}, "items": [POD, odd]} if asked in ("list", "follow") else odd
    with answering(tmp_path, json.dumps(body).encode()) as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            with pytest.raises(UnavailableError, match="from the API server, got"):
                await ASKED[asked](cluster)


@pytest.mark.parametrize("items", [{"a": 1}, "a", 1, [None], [{}], [[]]], ids=str)
async def test_a_list_of_something_else_is_an_error(tmp_path: Path, items: object) -> None:
    body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode()
    with answering(tmp_path, body) as kubeconfig:
        async with Cluster(kubeconfig=kubeconfig) as cluster:
            for asked in (listed, one_followed):
                with pytest.raises(UnavailableError, match="expected a list of objects"):
                    await asked(cluster)
