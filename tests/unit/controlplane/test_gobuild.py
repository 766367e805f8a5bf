"""The go.mod that builds a release from outside, and what is said when a build does not go."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tests.controlplane import gobuild, toolchain
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.progress import Plain
from tests.controlplane.versions import Version

if TYPE_CHECKING:
    from pathlib import Path

SHOW = Plain(io.StringIO())
VERSION = Version(1, 36, 3)

RELEASED = """\
// This is a generated file. Do not edit directly.

module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
\tgithub.com/blang/semver/v4 v4.0.0
\tk8s.io/api v0.0.0
\tk8s.io/klog/v2 v2.140.0
\tk8s.io/kube-openapi v0.0.0-20260317180543-43fb72c5454a
\tk8s.io/streaming v0.0.0 // indirect
)

require k8s.io/kms v0.0.0

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/sample-cli-plugin => ./staging/src/k8s.io/sample-cli-plugin
\tk8s.io/streaming => ./staging/src/k8s.io/streaming
)

replace k8s.io/kms => ./staging/src/k8s.io/kms
"""


def test_the_staging_modules_come_from_the_release_itself() -> None:
    """A pseudo-version (kube-openapi) is no staging module, and what is only replaced is not needed."""
    assert gobuild.staging_modules(RELEASED) == ["k8s.io/api", "k8s.io/kms", "k8s.io/streaming"]


def test_staging_folders_become_modules_and_all_else_stays() -> None:
    lines = gobuild.kubernetes_go_mod(VERSION, RELEASED).splitlines()
    assert "module controlplane" in lines
    assert "\tk8s.io/streaming => k8s.io/streaming v0.36.3" in lines
    assert "replace k8s.io/kms => k8s.io/kms v0.36.3" in lines
    assert "require k8s.io/kubernetes v1.36.3" in lines
    assert "godebug default=go1.26" in lines
    assert "\tgithub.com/blang/semver/v4 v4.0.0" in lines
    assert "\tk8s.io/kube-openapi v0.0.0-20260317180543-43fb72c5454a" in lines
    assert not [line for line in lines if "./staging" in line]


class Go:
    """A stand-in for go that answers by its arguments."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "go"
        self._released = folder / "released.mod"
        self._released.write_text(RELEASED)

    def script(self, *cases: str) -> Path:
        download = f"""*"mod download"*) echo '{{"GoMod": "{self._released}"}}' ;;"""
        body = "\n".join([*cases, download, "*) exit 0 ;;"])
        self._program.write_text(f'#!/bin/sh\ncase "$*" in\n{body}\nesac\n')
        self._program.chmod(0o755)
        return self._program


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    folder = tmp_path / "go"
    folder.mkdir()
    stand_in = Go(folder)
    monkeypatch.setattr(toolchain, "go", lambda _show: stand_in.script())
    return stand_in


def failing(go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *cases: str) -> str:
    program = go.script(*cases)
    monkeypatch.setattr(toolchain, "go", lambda _show: program)
    with pytest.raises(ControlPlaneError) as raised:
        gobuild.build_kubernetes("kube-apiserver", VERSION, tmp_path, SHOW)
    return str(raised.value)


def test_a_release_that_the_proxy_lacks_is_named(go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = """*"mod download"*) echo '{"Error": "unknown revision v1.36.3"}'; exit 1 ;;"""
    said = failing(go, monkeypatch, tmp_path, case)
    assert "k8s.io/kubernetes@v1.36.3" in said
    assert "unknown revision" in said


def test_staging_modules_that_the_proxy_lacks_are_all_named(
    go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = failing(go, monkeypatch, tmp_path, """*"list -m"*) echo k8s.io/api; echo k8s.io/kms ;;""")
    assert "lacks v0.36.3 of k8s.io/api, k8s.io/kms" in said
    assert "1.32.2" in said


def test_modules_that_cannot_be_fetched_are_reported(go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = failing(go, monkeypatch, tmp_path, """*"-deps"*) echo 'dial tcp: refused' >&2; exit 1 ;;""")
    assert "dial tcp: refused" in said


def test_a_build_that_fails_carries_the_compiler_s_words(
    go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = failing(go, monkeypatch, tmp_path, """build*) echo 'undefined: x' >&2; exit 2 ;;""")
    assert "undefined: x" in said
    assert "status 2" in said


def test_a_build_stamps_the_version_and_stays_out_of_a_workspace(
    go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = go.script("""build*) echo "$CGO_ENABLED $GOWORK $*" > built ;;""")
    monkeypatch.setattr(toolchain, "go", lambda _show: program)
    made = gobuild.build_kubernetes("kube-apiserver", VERSION, tmp_path, SHOW)
    said = (tmp_path / "built").read_text()
    assert made == tmp_path / "kube-apiserver"
    assert said.startswith("0 off build")
    for flag in ("-trimpath", "gitVersion=v1.36.3", "gitMajor=1", "gitMinor=36"):
        assert flag in said
    assert said.rstrip().endswith("k8s.io/kubernetes/cmd/kube-apiserver")
