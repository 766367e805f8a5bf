"""The server's HTTP, as a client sees it: what is answered, what is turned away, and what is counted."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from reconciler.admission.metrics import Cause
from reconciler.admission.review import MAX_REVIEW_BYTES, Reason
from tests.unit.admission.reviews import POD, pod, review
from tests.unit.admission.served import PATH, Folder, chunked, is_patched, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backend import Server
    from tests.unit.admission.served import Client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def server(folder: Folder) -> Iterator[Server]:
    with folder.serving() as server:
        yield server


@pytest.fixture
def client(folder: Folder, server: Server) -> Iterator[Client]:
    with folder.client(server) as client:
        yield client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_pod_gets_its_profile_over_both_versions_of_tls(
    folder: Folder, server: Server, version: ssl.TLSVersion
) -> None:
    with folder.client(server, version=version) as client:
        assert is_patched(client.ask(request()))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_of_tls_are_refused(folder: Folder, server: Server) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        folder.client(server, version=ssl.TLSVersion.TLSv1_1)


def test_no_session_is_resumed_so_that_every_handshake_shows_the_current_certificate(
    folder: Folder, server: Server
) -> None:
    with folder.client(server) as client:
        client.ask(request())
        assert client.socket.session is None or not client.socket.session.has_ticket


def test_a_connection_is_kept(client: Client) -> None:
    for _ in range(3):
        answer = client.ask(request())
        assert is_patched(answer)
        assert not answer.closes


def test_requests_that_come_at_once_are_answered_in_their_order(client: Client) -> None:
    bodies = [review(pod(), uid=f"uid-{number}") for number in range(5)]
    client.send(b"".join(request(body) for body in bodies))
    assert [json.loads(client.answer().body)["response"]["uid"] for _ in bodies] == [f"uid-{n}" for n in range(5)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_may_come_in_chunks(client: Client, size: int) -> None:
    assert is_patched(client.ask(chunked(review(POD), size)))
    assert is_patched(client.ask(request())), "the connection is kept"


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    for byte in request():
        client.send(bytes([byte]))
    assert is_patched(client.answer())


def test_http_1_0_is_answered_and_closed(client: Client) -> None:
    answer = client.ask(request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert is_patched(answer)
    assert client.is_closed


def test_a_client_that_wants_to_close_is_let_go(client: Client) -> None:
    assert client.ask(request(connection="close")).closes
    assert client.is_closed


def test_a_client_that_asks_first_is_told_to_go_on(client: Client) -> None:
    head, _, body = request(expect="100-continue").partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert client.line() == b"HTTP/1.1 100 Continue\r\n"
    assert client.line() == b"\r\n"
    client.send(body)
    assert is_patched(client.answer())


def test_a_client_that_asks_first_with_too_much_is_not_told_to_go_on(client: Client) -> None:
    answer = client.ask(request(b"", expect="100-continue", content_length=str(MAX_REVIEW_BYTES + 1)))
    assert answer.status == 413


def test_the_largest_body_is_answered(client: Client) -> None:
    filling = MAX_REVIEW_BYTES - len(review(pod(annotations={"a": ""})))
    body = review(pod(annotations={"a": "x" * filling}))
    assert len(body) == MAX_REVIEW_BYTES
    assert is_patched(client.ask(request(body)))


REFUSED = {
    "path": (request(path="/"), 404, Cause.PATH),
    "path-below": (request(path=PATH + "/x"), 404, Cause.PATH),
    "get": (request(b"", method="GET"), 405, Cause.METHOD),
    "put": (request(method="PUT"), 405, Cause.METHOD),
    "yaml": (request(content_type="application/yaml"), 415, Cause.MEDIA_TYPE),
    "no-type": (request(content_type=""), 415, Cause.MEDIA_TYPE),
    "encoded": (request(content_encoding="gzip"), 415, Cause.MEDIA_TYPE),
    "announced-too-large": (request(b"", content_length=str(MAX_REVIEW_BYTES + 1)), 413, Cause.TOO_LARGE),
    "absurdly-large": (request(b"", content_length="9" * 30), 400, Cause.MALFORMED),
    "chunks-too-large": (chunked(b"x" * (MAX_REVIEW_BYTES + 1), 65536), 413, Cause.TOO_LARGE),
    # Both are looked at after each read of up to 256 KiB.
    "framing-too-large": (chunked(b"x" * 140_000, 1), 431, Cause.TOO_LARGE),
    "head-too-large": (request(x_filling="x" * 700_000), 431, Cause.TOO_LARGE),
    "not-json": (request(b"{"), 400, Cause.MALFORMED),
    "empty": (request(b""), 400, Cause.MALFORMED),
    "other-kind": (request(b'{"kind": "Pod"}'), 400, Cause.MALFORMED),
    "not-http": (b"hello\r\n\r\n", 400, Cause.MALFORMED),
    "http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, Cause.MALFORMED),
    "upgrade": (request(connection="Upgrade", upgrade="websocket"), 400, Cause.MALFORMED),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 400, Cause.MALFORMED),
    "two-lengths": (request(x="y").replace(b"X: y", b"Content-Length: 7"), 400, Cause.MALFORMED),
    "length-and-chunks": (request(transfer_encoding="chunked"), 400, Cause.MALFORMED),
}


@pytest.mark.parametrize(("data", "status", "cause"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_review_is_turned_away_and_counted(
    server: Server, client: Client, data: bytes, status: int, cause: Cause
) -> None:
    sample = f'seccomp_reconciler_admission_rejected_requests_total{{cause="{cause}"}}'
    before = server.metric(sample)
    answer = client.ask(data)
    assert answer.status == status, answer
    assert b"Traceback" not in answer.body
    assert server.metric(sample) == before + 1
    assert "Traceback" not in server.process.last_words(1000)


def test_a_body_that_is_no_review_leaves_the_connection_as_it_is(client: Client) -> None:
    assert client.ask(request(b"{")).status == 400
    assert is_patched(client.ask(request()))


def test_what_a_server_counts(folder: Folder) -> None:
    prefix = "seccomp_reconciler_admission"
    with folder.serving() as server, folder.client(server) as client:
        names = {line.split("{")[0].split(" ")[0] for line in server.page("/metrics")[1].splitlines() if line[0] != "#"}
        client.ask(request())
        client.ask(request(review(pod(labels={"seccompprofile.resources.gardener.cloud/skip": ""}))))
        client.ask(request(b"{"))
        assert server.metric(f'{prefix}_reviews_total{{outcome="patched",reason="{Reason.DEFAULTED}"}}') == 1
        assert server.metric(f'{prefix}_reviews_total{{outcome="unpatched",reason="{Reason.SKIP_LABEL}"}}') == 1
        assert server.metric(f'{prefix}_rejected_requests_total{{cause="malformed"}}') == 1
        assert server.metric(f"{prefix}_review_duration_seconds_count") == 2
        assert server.metric(f"{prefix}_connections") == 1
        assert server.metric(f"{prefix}_requests_in_flight") == 0
        assert server.metric(f'{prefix}_certificate_reloads_total{{result="accepted"}}') == 1
    assert {
        f"{prefix}_{name}"
        for name in (
            "reviews_total",
            "rejected_requests_total",
            "review_duration_seconds_bucket",
            "requests_in_flight",
            "connections",
            "certificate_not_before_timestamp_seconds",
            "certificate_expiry_timestamp_seconds",
            "certificate_reloads_total",
            "draining",
        )
    } | {"seccomp_reconciler_build_info", "process_resident_memory_bytes"} <= names, "from the start, before any pod"


def test_the_plain_port_has_its_three_pages_and_answers_no_review(server: Server) -> None:
    assert server.page("/healthz") == (200, "ok\n")
    assert server.page("/readyz") == (200, "ok\n")
    assert server.page(PATH)[0] == 404
    url = f"http://127.0.0.1:{server.status_port}/healthz"
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5) as answer:
        assert (answer.status, answer.read(), answer.headers["Content-Length"]) == (200, b"", "3")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(url, data=b"", timeout=5)
