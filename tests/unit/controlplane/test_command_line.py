"""`python -m tests.controlplane` as a person meets it, and the servers' own command lines."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.controlplane import __main__, binaries, commands, servers
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import VERSION_VARIABLE, Version


def test_help_teaches_the_places_the_versions_and_the_environment() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.controlplane", "--help"], capture_output=True, text=True, check=True
    )
    for clue in ("KUBEBUILDER_ASSETS", "setup-envtest", "Go modules", VERSION_VARIABLE, "1.32.2", "fetch", "run"):
        assert clue in result.stdout


def test_fetch_tells_where_each_version_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def obtain(wish: object, _show: object) -> binaries.Binaries:
        return binaries.Binaries(Version(1, 32, 2), Path("/x/kube-apiserver"), Path("/x/etcd"), source=str(wish))

    monkeypatch.setattr(binaries, "obtain", obtain)
    assert __main__.main(["fetch", "--version", "1.32.2", "--version", "1.37"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "/x (1.32.2;" in lines[0]
    assert "/x (1.37;" in lines[1]


@pytest.mark.parametrize("command", ["run", "fetch"])
def test_an_error_is_told_and_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def obtain(*_arguments: object) -> binaries.Binaries:
        raise ControlPlaneError("nothing anywhere")

    monkeypatch.setattr(binaries, "obtain", obtain)
    assert __main__.main([command]) == 1
    assert capsys.readouterr().err == "error: nothing anywhere\n"


def test_everything_of_etcd_and_the_api_server_is_in_their_directory(tmp_path: Path) -> None:
    etcd = commands.etcd(Path("/bin/etcd"), tmp_path)
    apiserver = commands.kube_apiserver(
        Path("/bin/kube-apiserver"),
        tmp_path,
        port=20001,
        ca_file=tmp_path / "ca",
        serving=(tmp_path / "crt", tmp_path / "key"),
        signing=(tmp_path / "sign", tmp_path / "verify"),
        controllers=False,
    )
    assert f"--etcd-servers={commands.ETCD_SOCKET}" in apiserver
    assert f"--listen-client-urls={commands.ETCD_SOCKET}" in etcd
    assert "--authorization-mode=RBAC" in apiserver
    assert "--bind-address=127.0.0.1" in apiserver


def test_a_free_port_is_outside_the_range_of_outgoing_connections_and_can_be_bound() -> None:
    port = servers.free_port()
    assert 20000 <= port < 32000
    with closing(socket.create_server(("127.0.0.1", port))):
        pass
