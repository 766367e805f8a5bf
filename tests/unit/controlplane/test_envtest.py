"""Release archives from a server on this machine: good ones, and every way in which one can be bad."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.controlplane import envtest
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.progress import Plain
from tests.controlplane.versions import platform_name, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOW = Plain(io.StringIO())
NAME = f"envtest-v1.36.3-{platform_name()}.tar.gz"


def packed(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return content.getvalue()


GOOD = packed(
    {
        "controller-tools/envtest/kube-apiserver": b"apiserver",
        "controller-tools/envtest/etcd": b"etcd",
        "controller-tools/envtest/kubectl": b"kubectl",
    }
)


class Server:
    """Serves documents by path; a path in `cut` is announced whole and broken off half-way."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.documents: dict[str, bytes] = {}
        self.cut: set[str] = set()

    def publish(self, archive: bytes, *, sha512: str | None = None, version: str = "v1.36.3") -> None:
        name = f"envtest-{version}-{platform_name()}.tar.gz"
        entry = {"hash": sha512 or hashlib.sha512(archive).hexdigest(), "selfLink": f"{self.address}/{name}"}
        index = yaml.safe_load(self.documents.get("/index.yaml", b"releases: {}"))
        index["releases"][version] = {name: entry, f"envtest-{version}-plan9-mips.tar.gz": entry}
        self.documents["/index.yaml"] = yaml.safe_dump(index).encode()
        self.documents[f"/{name}"] = archive


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = server.documents.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write((body or b"")[: len(body or b"") // 2] if self.path in server.cut else body or b"")

        def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002 - the base class's name
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as running:
        monkeypatch.setenv(envtest.INDEX_VARIABLE, f"{running.address}/index.yaml")
        monkeypatch.setattr(envtest, "ANSWER_SECONDS", 30.0)
        yield running


def test_a_good_archive_gives_both_programs_and_nothing_else(server: Server, tmp_path: Path) -> None:
    server.publish(GOOD)
    archive = envtest.find(wanted("1.36.3"))
    assert archive.name == NAME
    envtest.download(archive, tmp_path, SHOW)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "kube-apiserver": b"apiserver",
        "etcd": b"etcd",
    }


def test_a_wrong_checksum_is_refused_before_anything_is_unpacked(server: Server, tmp_path: Path) -> None:
    server.publish(GOOD, sha512="0" * 128)
    with pytest.raises(ControlPlaneError, match="wrong checksum"):
        envtest.download(envtest.find(wanted("1.36.3")), tmp_path, SHOW)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("announced", [True, False], ids=["length-announced-whole", "served-short"])
def test_a_truncated_archive_is_refused(server: Server, tmp_path: Path, *, announced: bool) -> None:
    server.publish(GOOD)
    if announced:
        server.cut.add(f"/{NAME}")
    else:
        server.documents[f"/{NAME}"] = GOOD[:-40]
    with pytest.raises(ControlPlaneError, match=r"broke off|wrong checksum"):
        envtest.download(envtest.find(wanted("1.36.3")), tmp_path, SHOW)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        pytest.param(b"this is no archive", "cannot be unpacked", id="no-archive"),
        pytest.param(GOOD[: len(GOOD) // 2], "cannot be unpacked", id="half-an-archive"),
        pytest.param(packed({"x/etcd": b"etcd"}), "holds no kube-apiserver", id="a-program-missing"),
    ],
)
def test_an_archive_with_the_right_checksum_can_still_be_wrong(
    server: Server, tmp_path: Path, archive: bytes, message: str
) -> None:
    server.publish(archive)
    with pytest.raises(ControlPlaneError, match=message):
        envtest.download(envtest.find(wanted("1.36.3")), tmp_path, SHOW)


def test_paths_and_links_within_an_archive_are_not_believed(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, target in (("etcd", "/etc/passwd"), ("kube-apiserver", "../outside")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name in ("../../kube-apiserver", "/etcd", "../outside"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"ok"))
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    file = tmp_path / "archive.tar.gz"
    file.write_bytes(content.getvalue())
    envtest.extract(file, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"kube-apiserver": b"ok", "etcd": b"ok"}
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar.gz", "in"]


def test_the_newest_patch_is_taken_where_any_will_do(server: Server) -> None:
    for version in ("v1.36.0", "v1.36.2", "v1.36.4-rc.1", "v1.35.9"):
        server.publish(GOOD, version=version)
    assert str(envtest.find(wanted("1.36")).version) == "1.36.2"


def test_a_release_that_is_not_listed_is_reported_with_its_neighbours(server: Server) -> None:
    server.publish(GOOD, version="v1.36.0")
    with pytest.raises(ControlPlaneError, match=r"lists no 1\.36\.3 .*1\.36\.0"):
        envtest.find(wanted("1.36.3"))


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"releases: 3", b"releases: {v1.36.3: 5}", b"\x00", b"a: [", b"<html>sign in</html>"]
)
def test_an_index_that_is_none_is_an_error_of_ours(server: Server, document: bytes) -> None:
    server.documents["/index.yaml"] = document
    with pytest.raises(ControlPlaneError, match="index is not as expected"):
        envtest.find(wanted("1.36.3"))


@pytest.mark.parametrize("version", ["v1.36.3", 1.36, None])
def test_an_entry_without_its_fields_is_an_error_of_ours(version: object) -> None:
    document = yaml.safe_dump({"releases": {version: {f"envtest-{version}-{platform_name()}.tar.gz": {}}}}).encode()
    if version == "v1.36.3":
        with pytest.raises(ControlPlaneError, match="index is not as expected"):
            envtest.parse_index(document)
    else:
        assert envtest.parse_index(document) == []


def test_a_missing_index_is_reported_with_its_address(server: Server) -> None:
    with pytest.raises(ControlPlaneError, match=rf"{server.address}.*404"):
        envtest.find(wanted("1.36.3"))


def test_an_empty_address_switches_downloads_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(envtest.INDEX_VARIABLE, "")
    with pytest.raises(ControlPlaneError, match="switched off"):
        envtest.find(wanted("1.36.3"))


def test_only_http_addresses_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(envtest.INDEX_VARIABLE, "file:///etc/passwd")
    with pytest.raises(ControlPlaneError, match="no http"):
        envtest.find(wanted("1.36.3"))


def test_a_server_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv(envtest.INDEX_VARIABLE, f"http://127.0.0.1:{silent.getsockname()[1]}/index.yaml")
        monkeypatch.setattr(envtest, "ANSWER_SECONDS", 0.3)
        began = time.monotonic()
        with pytest.raises(ControlPlaneError, match="did not answer within"):
            envtest.find(wanted("1.36.3"))
        assert time.monotonic() - began < 5


def test_name_resolution_that_hangs_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_arguments: object, **_options: object) -> None:
        release.wait(30)
        raise OSError("no resolver")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(envtest, "ANSWER_SECONDS", 0.3)
    monkeypatch.setenv(envtest.INDEX_VARIABLE, "http://index.invalid/index.yaml")
    began = time.monotonic()
    with pytest.raises(ControlPlaneError, match="did not answer within"):
        envtest.find(wanted("1.36.3"))
    assert time.monotonic() - began < 5
    release.set()


def test_a_name_that_does_not_resolve_is_said_to_be_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv(envtest.INDEX_VARIABLE, "http://index.invalid/index.yaml")
    with pytest.raises(ControlPlaneError, match=r"index\.invalid"):
        envtest.find(wanted("1.36.3"))


def test_the_answer_is_waited_for_three_seconds() -> None:
    assert envtest.ANSWER_SECONDS == 3.0
