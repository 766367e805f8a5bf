"""Whatever is said in the process is one JSON object a line, and no path of a source file is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("seccomp-reconciler")
# A certificate of serial number 0, made for this test: cryptography warns about it.
ZERO = Path(__file__).with_name("serial_zero.crt")
READ = "import pathlib; from reconciler.certificates.authority import read;"
UNHANDLED = """async def f():
    asyncio.get_running_loop().call_exception_handler({'message': 'a'})
asyncio.run(f())"""
SETUP = "from reconciler.telemetry.logging import configure\nconfigure(level='info', style='json')\n"


def lines(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("program", "event", "words"),
    [
        ("import warnings; warnings.warn('a\\nb')", "python.warned", "a\nb"),
        ("import warnings; warnings.warn('a', FutureWarning)", "python.warned", "a"),
        ("import warnings; warnings.warn('a', DeprecationWarning)", "python.warned", "a"),
        ("import warnings; warnings.warn_explicit('a', UserWarning, '/x.py', 7)", "python.warned", "a"),
        ("import warnings; warnings.warn('a', ResourceWarning, source=[])", "python.warned", "a"),
        ("import logging; logging.getLogger('x.y').warning('a %s', 'b')", "library.logged", "a b"),
        ("import logging; logging.error('a')", "library.logged", "a"),
        ("import logging; logging.getLogger('x').critical('a')", "library.logged", "a"),
        ("import logging; logging.getLogger('x').log(35, 'a')", "library.logged", "a"),
        ("import logging; logging.getLogger('x').warning('a %s %s', 'b')", "library.logged", "a %s %s"),
        ("import logging; logging.getLogger('x').error('a', exc_info=ValueError('b'))", "library.logged", "a"),
        ("import logging; logging.getLogger('x').error('a', stack_info=True)", "library.logged", "a"),
        (f"import asyncio\n{UNHANDLED}", "library.logged", "a"),
        (f"{READ} read(pathlib.Path({str(ZERO)!r}).read_bytes())", "python.warned", "serial number"),
    ],
)
def test_what_others_say_is_json(program: str, event: str, words: str) -> None:
    (line,) = lines(f"import warnings; warnings.simplefilter('default')\n{SETUP}{program}")
    entry = json.loads(line)
    assert entry["event"].startswith(event)
    assert words in entry["message"]
    assert ".py" not in line
    assert entry["level"] in ("warning", "error", "critical")


def test_set_up_again_says_everything_once() -> None:
    (line,) = lines(f"{SETUP}{SETUP}import logging; logging.error('a')")
    assert json.loads(line)["message"] == "a"


def test_what_a_library_says_about_itself_is_left_out() -> None:
    assert lines(f"{SETUP}import logging; logging.getLogger('x').info('a'); logging.debug('b')") == []


@pytest.mark.parametrize("arguments", [("render", "--ca-file", str(ZERO))])
def test_one_shot_command_warns_without_a_source_path(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert ".py" not in done.stderr
    assert "site-packages" not in done.stderr
    assert all(line.startswith(("warning: ", "#")) for line in done.stderr.splitlines()), done.stderr
