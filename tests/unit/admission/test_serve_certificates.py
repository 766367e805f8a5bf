"""Certificates of the running server: swapped without dropping a connection, kept when the next is broken; clients."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import pytest

from reconciler.admission.pair import fingerprint
from reconciler.certificates.authority import Pair, issue_authority, read
from tests.backend import put, serving
from tests.controlplane.pki import Authority
from tests.unit.admission.served import DAY_SECONDS, Folder, eventually, is_patched, request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend import Server

_RELOADS = 'seccomp_reconciler_admission_certificate_reloads_total{result="%s"}'
_NOT_BEFORE = "seccomp_reconciler_admission_certificate_not_before_timestamp_seconds"
_EXPIRY = "seccomp_reconciler_admission_certificate_expiry_timestamp_seconds"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def presented(folder: Folder, server: Server) -> bytes:
    with folder.client(server) as client:
        return client.leaf


def der(pair: Pair) -> bytes:
    return read(pair.certificate)[0].der


def test_a_new_certificate_serves_the_next_handshake_and_no_connection_is_dropped(folder: Folder) -> None:
    with folder.serving() as server, folder.client(server) as kept:
        assert is_patched(kept.ask(request()))
        old = kept.leaf
        new = folder.put(folder.issue())
        eventually(lambda: presented(folder, server) == der(new))
        assert is_patched(kept.ask(request())), "the connection of before goes on"
        assert kept.leaf == old
        eventually(lambda: server.page("/readyz")[0] == 200)
        assert server.metric(_RELOADS % "accepted") == 2
        assert server.metric(_NOT_BEFORE) == read(new.certificate)[0].not_before
        assert server.metric(_EXPIRY) == read(new.certificate)[0].not_after
        loaded = [event["fingerprint"] for event in server.process.events("certificate.loaded")]
        assert loaded == [fingerprint(old), fingerprint(der(new))]


def broken_pairs(folder: Folder) -> dict[str, dict[str, bytes]]:
    one, other = folder.issue(), folder.issue()
    expired = folder.issue(now=time.time() - 100, lifetime_seconds=50)
    authority = issue_authority(now=time.time(), lifetime_seconds=DAY_SECONDS)
    return {
        "another key": {"tls.crt": one.certificate, "tls.key": other.key},
        "no certificate": {"tls.crt": b"", "tls.key": one.key},
        "garbage": {"tls.crt": b"\xff\x00garbage", "tls.key": b"garbage"},
        "no key": {"tls.crt": one.certificate, "tls.key": b""},
        "cut off": {"tls.crt": one.certificate[:200], "tls.key": one.key},
        "expired": {"tls.crt": expired.certificate, "tls.key": expired.key},
        "an authority": {"tls.crt": authority.certificate, "tls.key": authority.key},
    }


def test_a_pair_that_cannot_serve_leaves_the_one_in_use_and_says_why(folder: Folder) -> None:
    with folder.serving() as server:
        old = presented(folder, server)
        for count, (name, files) in enumerate(broken_pairs(folder).items(), start=1):
            put(folder.tls, files)
            eventually(lambda wanted=count: server.metric(_RELOADS % "refused") == wanted)  # type: ignore[misc]
            assert presented(folder, server) == old, name
            assert server.page("/readyz") == (200, "ok\n"), name
        assert len(server.process.events("certificate.invalid")) >= 5, "each in its own words"
        assert all(event["kept"] == fingerprint(old) for event in server.process.events("certificate.invalid"))
        new = folder.put(folder.issue())
        eventually(lambda: presented(folder, server) == der(new))
        assert len(server.process.events("certificate.recovered")) == 1


def test_an_expired_certificate_makes_it_unready_until_the_next_one_comes(folder: Folder) -> None:
    with folder.serving() as server:
        folder.put(folder.issue(lifetime_seconds=6))
        eventually(lambda: server.page("/readyz") == (503, "the certificate is expired\n"))
        eventually(lambda: len(server.process.events("certificate.unusable")) == 1)
        assert server.page("/healthz")[0] == 200, "a restart would not help"
        folder.put(folder.issue())
        eventually(lambda: server.page("/readyz")[0] == 200)


def test_it_waits_for_its_first_certificate_alive_and_not_ready(folder: Folder) -> None:
    with serving(folder, folder.tls) as server:
        eventually(lambda: _answers(server))
        status, words = server.page("/readyz")
        assert (status, "no certificate yet" in words, str(folder.tls) in words) == (503, True, True)
        folder.put(folder.issue())
        server.wait_ready()
        with folder.client(server) as client:
            assert is_patched(client.ask(request()))


def test_a_signal_ends_the_wait_for_the_first_certificate(folder: Folder) -> None:
    with serving(folder, folder.tls, drain_seconds=30) as server:
        eventually(lambda: _answers(server))
        assert server.process.stop()[0] == 0


def _answers(server: Server) -> bool:
    try:
        return server.page("/healthz")[0] == 200
    except OSError:
        return False


class Clients:
    """The API server's side: an authority of clients, and what it signs."""

    def __init__(self, folder: Folder, name: str = "clients") -> None:
        self.directory = folder.path / name
        self.directory.mkdir()
        self.authority = Authority(self.directory, common_name=name)

    def certificate(self, name: str) -> Path:
        """Return a file with a client's certificate and key."""
        path = self.directory / f"{name}.pem"
        path.write_bytes(b"".join(self.authority.issue_client(name)))
        return path


def refused(folder: Folder, server: Server, certificate: Path | None) -> bool:
    """Return whether nothing is answered; with TLS 1.3 the client learns of it at its first read."""
    try:
        with folder.client(server, certificate=certificate) as client:
            client.send(request())
            return not client.line()
    except (ssl.SSLError, ConnectionError):
        return True


def answered(folder: Folder, server: Server, certificate: Path) -> int:
    with folder.client(server, certificate=certificate) as client:
        return client.ask(request()).status


def test_only_clients_of_the_authority_and_of_the_right_name_are_answered(folder: Folder) -> None:
    ours, strangers = Clients(folder), Clients(folder, "strangers")
    api_server, other = ours.certificate("kube-apiserver"), ours.certificate("somebody")
    with folder.serving("--client-ca", str(ours.authority.file), "--client-name", "kube-apiserver") as server:
        assert answered(folder, server, api_server) == 200
        assert answered(folder, server, other) == 403
        assert refused(folder, server, strangers.certificate("kube-apiserver"))
        assert refused(folder, server, None)
        assert server.metric('seccomp_reconciler_admission_rejected_requests_total{cause="client-name"}') == 1
        new = folder.put(folder.issue())
        eventually(lambda: _leaf(folder, server, api_server) == der(new))
        assert refused(folder, server, None), "the next context asks for it as well"
        assert answered(folder, server, api_server) == 200


def _leaf(folder: Folder, server: Server, certificate: Path) -> bytes:
    with folder.client(server, certificate=certificate) as client:
        return client.leaf


def test_the_authority_of_the_clients_can_be_replaced_and_a_broken_one_changes_nothing(folder: Folder) -> None:
    before, after = Clients(folder, "before"), Clients(folder, "after")
    old, new = before.certificate("kube-apiserver"), after.certificate("kube-apiserver")
    file = folder.path / "client-ca.crt"
    file.write_bytes(before.authority.pem)
    with folder.serving("--client-ca", str(file)) as server:
        assert answered(folder, server, old) == 200
        broken = file.with_suffix(".new")
        broken.write_bytes(b"garbage")
        broken.replace(file)  # a file that is written in place is seen empty, too
        eventually(lambda: server.metric(_RELOADS % "refused") == 1)
        assert answered(folder, server, old) == 200
        assert refused(folder, server, None), "it never falls back to asking for none"
        file.write_bytes(after.authority.pem)
        eventually(lambda: not refused(folder, server, new))
        assert refused(folder, server, old)


def test_names_without_an_authority_are_wrong_usage(folder: Folder) -> None:
    with serving(folder, folder.tls, "--client-name", "kube-apiserver") as server:
        assert server.process.process.wait(20) == 64
        assert "--client-name needs --client-ca" in server.process.last_words()
