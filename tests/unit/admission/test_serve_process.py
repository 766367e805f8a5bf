"""The process: what it loads, how it starts, how it drains and ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.backend import serving
from tests.unit.admission.served import Folder, eventually, is_patched, request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend import Server

_DRAIN_SECONDS = 6.0


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def wait_draining(server: Server) -> None:
    eventually(lambda: server.page("/readyz") == (503, "draining\n"))


def test_it_drains_unready_at_once_still_serving_and_closing_each_connection(folder: Folder) -> None:
    with folder.serving(drain_seconds=_DRAIN_SECONDS) as server, folder.client(server) as kept:
        assert not kept.ask(request()).closes
        began = time.monotonic()
        server.process.process.send_signal(signal.SIGTERM)
        wait_draining(server)
        assert server.metric("seccomp_reconciler_admission_draining") == 1
        answer = kept.ask(request())
        assert (is_patched(answer), answer.closes, kept.is_closed) == (True, True, True)
        with folder.client(server) as new:
            answer = new.ask(request())
            assert (is_patched(answer), answer.closes) == (True, True)
        assert server.process.process.wait(20) == 0
        assert time.monotonic() - began >= _DRAIN_SECONDS
        assert [len(server.process.events(f"serve.{name}")) for name in ("draining", "stopped")] == [1, 1]


def test_a_request_under_way_at_the_end_of_draining_is_still_answered(folder: Folder) -> None:
    with folder.serving(drain_seconds=0.5) as server, folder.client(server) as client:
        data = request()
        client.send(data[:-10])
        server.process.process.send_signal(signal.SIGTERM)
        wait_draining(server)
        time.sleep(1.0)
        client.send(data[-10:])
        assert is_patched(client.answer())
        assert server.process.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder: Folder, number: signal.Signals) -> None:
    with folder.serving(drain_seconds=60.0) as server:
        server.process.process.send_signal(number)
        wait_draining(server)
        server.process.process.send_signal(signal.SIGTERM)
        assert server.process.process.wait(10) == 0


def test_a_second_signal_does_not_wait_for_a_request_under_way(folder: Folder) -> None:
    with folder.serving(drain_seconds=60.0) as server, folder.client(server) as client:
        client.send(request()[:-10])
        server.process.process.send_signal(signal.SIGTERM)
        wait_draining(server)
        server.process.process.send_signal(signal.SIGTERM)
        assert server.process.process.wait(5) == 0


@pytest.mark.parametrize("option", ["--port", "--status-port"])
def test_a_port_that_is_taken_is_wrong_usage_with_its_number(folder: Folder, option: str) -> None:
    with folder.serving() as server, serving(folder, folder.tls, option, str(server.port)) as second:
        assert second.process.process.wait(20) == 64
        assert f"port {server.port}" in second.process.last_words()


def test_neither_kubernetes_nor_what_else_it_has_no_need_of_is_loaded(folder: Folder) -> None:
    # Not a line of the product is changed: it is ended once it listens, as the folder of its certificates never comes.
    script = (
        "import json, os, signal, sys, threading, time\n"
        "from reconciler import cli\n"
        "sys.argv[1:] = ['serve', '--port', '0', '--status-port', '0', '--certificates', sys.argv[1]]\n"
        "def end():\n"
        "    while signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, cli._terminated):\n"
        "        time.sleep(0.05)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Thread(target=end, daemon=True).start()\n"
        "try:\n"
        "    cli.main()\n"
        "finally:\n"
        "    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder.path)], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"httptools", "msgspec", "prometheus_client"} <= loaded, "this list would otherwise say nothing"
    assert loaded.isdisjoint({"kubernetes", "pydantic", "aiohttp", "cryptography", "tenacity", "yaml"})


def test_nothing_is_logged_for_a_pod(folder: Folder) -> None:
    with folder.serving() as server, folder.client(server) as client:
        time.sleep(0.2)
        before = server.process.last_words(1000)
        for _ in range(20):
            client.ask(request())
        assert server.process.last_words(1000) == before
