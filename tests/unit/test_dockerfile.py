"""The Dockerfile: linted, pinned, without a shell, and for nobody's rights but its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dockerfile import DOCKERFILE, copied, entrypoint, environment, only, stages

ROOT = DOCKERFILE.parent


def hadolint() -> str:
    here = Path(sys.executable).with_name("hadolint")
    found = str(here) if here.exists() else shutil.which("hadolint")
    assert found, "no hadolint beside this Python, nor in PATH; expected the extra `dev`: pip install -e '.[dev]'"
    return found


def test_hadolint_finds_nothing() -> None:
    said = subprocess.run([hadolint(), str(DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_each_image_that_is_fetched_is_named_by_a_digest_that_whoever_builds_must_give() -> None:
    head, *later = stages()
    names = [only(stage, "FROM").text.partition(" AS ")[0] for stage in later]
    assert names == ["${PYTHON_IMAGE}@${PYTHON_DIGEST}", "scratch"]
    defaults = {key: value for one in head for key, value in one.pairs.items()}
    assert not re.fullmatch(r"sha256:[0-9a-f]{64}", defaults["PYTHON_DIGEST"])
    assert "docs-image.md" in defaults["PYTHON_DIGEST"], "a builder's refusal shows the name: it says what to do"


def test_no_registry_is_named() -> None:
    defaults = {key: value for one in stages()[0] for key, value in one.pairs.items()}
    assert "/" not in defaults["PYTHON_IMAGE"]
    assert "." not in defaults["PYTHON_IMAGE"].partition(":")[0]


def test_the_python_is_one_that_the_package_is_for() -> None:
    version = re.search(r"python:(3\.\d+)", DOCKERFILE.read_text())
    assert version is not None
    assert f"Python :: {version[1]}" in (ROOT / "pyproject.toml").read_text()


def test_the_last_stage_runs_as_an_unprivileged_user_by_number() -> None:
    assert only(stages()[-1], "USER").text == "65532:65532"


def test_the_last_stage_holds_what_the_first_made_and_runs_nothing_while_it_is_built() -> None:
    assert "RUN" not in {one.name for one in stages()[-1]}
    (copy,) = (one.text for one in stages()[-1] if one.name == "COPY")
    assert copy.startswith("--from=build /image")


@pytest.mark.parametrize("name", ["RUN", "ENTRYPOINT", "CMD"])
def test_nothing_is_started_through_a_shell(name: str) -> None:
    for stage in stages():
        for instruction in stage:
            assert instruction.name != name or instruction.words


def test_the_entrypoint_is_the_command() -> None:
    assert entrypoint() == ["python", "-m", "reconciler"]


def test_the_interpreter_writes_nothing_and_holds_no_line_back() -> None:
    assert environment().items() >= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}.items()


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied())
    assert all((ROOT / name).exists() for name in copied())
