"""A hostile document of up to 3 MiB costs bounded time and memory, and never takes the process down.

Each is read in a process of its own (hostile.py) under limits of the operating system. The limits are generous; speed
is measured in benchmarks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SECONDS = 60
ROOT = Path(__file__).resolve().parents[3]
Reader = Callable[[str], tuple[int, str]]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """Ask hostile.py, whose imports are paid once, for the exit status of a fork and what it said."""
    argv = [sys.executable, "-m", "tests.unit.gardenlet.hostile"]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(expression: str) -> tuple[int, str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(expression) + "\n")
            process.stdin.flush()
            code, said = json.loads(process.stdout.readline())
            return code, said

        yield ask
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("b'#' * (MAX + 1)", "refused: x has 3145729 bytes", id="too long"),
        pytest.param("b'\\0' * MAX", "U+0000", id="zeros"),
        pytest.param("b'[' * MAX", "nested more than 100", id="open lists"),
        pytest.param("HEAD + b'x: ' + b'{' * 1000000", "nested more than 100", id="open mappings"),
        pytest.param("HEAD + b'x: ' + b'[' * 10000 + b']' * 10000", "nested more than 100", id="10k lists"),
        pytest.param("b'- ' * 100000", "nested more than 100", id="100k block lists"),
        pytest.param("b'? ' * 100000", "nested more than 100", id="100k complex keys"),
        pytest.param("b'{\"a\":' + b'[' * (MAX - 5)", "levels deep, more than 100", id="open JSON lists"),
        pytest.param("b'{\"a\":' * (MAX // 5)", "levels deep, more than 100", id="open JSON objects"),
        pytest.param(
            "b'{\"a\":' + b'[' * 100000 + b']' * 100000 + b'}'", "levels deep, more than 100", id="100k JSON lists"
        ),
        pytest.param(
            "HEAD + b'a0: &a0 [' + b'x,' * 9 + b']\\n' + "
            "b''.join(b'a%d: &a%d [%s]\\n' % (n, n, (b'*a%d , ' % (n - 1)) * 9) for n in range(1, 30))",
            "almost only of aliases",
            id="billion laughs",
        ),
        pytest.param(
            "HEAD + b'a0: &a0 [x]\\n' + b''.join(b'a%d: &a%d [*a%d]\\n' % (n, n, n - 1) for n in range(1, 90000))",
            "by its aliases",
            id="chain of aliases",
        ),
        pytest.param(
            "fill(b'x: {<<: *a}\\n', HEAD + b'a: &a {' + b','.join(b'k%d: 1' % n for n in range(60000)) + b'}\\n')",
            "almost only of aliases",
            id="wide merges",
        ),
        pytest.param(
            "fill(b'<<: *a\\n', HEAD + b'a: &a {b: 1}\\n', most=MAX)", "almost only of aliases", id="many merges"
        ),
        pytest.param("fill(b'a: 1\\n')", "enabled", id="duplicate keys"),
        pytest.param("b''.join(b'%d: \\n' % n for n in range(80000)) + HEAD", "enabled", id="many keys"),
        pytest.param(
            "b'featureGates:\\n' + b''.join(b'  DefaultSeccompProf%d: on\\n' % n for n in range(100000))",
            "disabled",
            id="many near gates",
        ),
        pytest.param("fill(b'1,', HEAD + b'x: [', b']', most=MAX)", "enabled", id="many numbers"),
        pytest.param("fill(b'[],', HEAD + b'x: [', b']')", "enabled", id="many empty lists"),
        pytest.param("fill(b'[],', b'{\"kind\":\"\",\"a\":[', b'1]}')", "refused", id="many empty JSON lists"),
        pytest.param("HEAD + b'x: ' + b'9' * 3000000", "a number of 3000000 characters", id="digits"),
        pytest.param("HEAD + b'x: 1' + b'_' * 3000000", "enabled", id="underscores"),
        pytest.param(
            "b'{\"kind\":\"GardenletConfiguration\",\"a\":' + b'9' * 3000000 + b'}'", "disabled", id="JSON digits"
        ),
        pytest.param("HEAD + b'x: \"' + b'\\\\\\\\' * 1500000 + b'\\\\/\"'", "the escape", id="backslashes"),
        pytest.param(
            "fill(b'\"a\",', HEAD + b\"s: '\\\\/'\\nx: [\", b']')", "enabled", id="many quoted beside a slash"
        ),
        pytest.param("HEAD + b'x: !!binary ' + b'A' * 3000000", "enabled", id="base64"),
        pytest.param("HEAD + b'x: ' + b'a' * 3000000", "enabled", id="long text"),
        pytest.param("HEAD + b'\\n' * (MAX - 100) + b'\\x01'", "U+0001", id="late control character"),
        pytest.param(
            "b''.join(b'%%TAG !a%d! x\\n' % n for n in range(150000)) + b'---\\n' + HEAD",
            "%TAG directives",
            id="tag directives",
        ),
        pytest.param("b'!' * MAX", "refused", id="exclamation marks"),
        pytest.param("b'{' + b'\"' * (MAX - 1)", "refused", id="JSON quotes"),
        pytest.param("b'{\"a\":\"' + b'\\\\' * (MAX - 6)", "refused", id="JSON backslashes"),
        pytest.param("HEAD + b'# \\xe2\\x82'", "no valid UTF-8", id="truncated UTF-8"),
        pytest.param("HEAD.decode().encode('utf-16-le')", "U+0000", id="UTF-16 without a mark"),
        pytest.param("HEAD + b'x: !!python/object/apply:os.system [\"kill -9 0\"]\\n'", "enabled", id="Python tag"),
        pytest.param("HEAD + b'x: &x [*x]\\n'", "contains itself", id="self reference"),
    ],
)
def test_hostile_document_is_answered_within_limits(expression: str, expected: str, reader: Reader) -> None:
    code, said = reader(expression)
    assert code == 0
    assert expected in said


def test_answer_does_not_depend_on_how_deep_the_caller_stands() -> None:
    """What is nested to the limit is read even where few frames are left."""
    program = """
from reconciler.gardenlet import document
kind = 'GardenletConfiguration'
nest = '[' * 99 + ']' * 99
texts = [f'{{"kind":"{kind}","a":{nest}}}'.encode(), f'kind: {kind}\\na: {nest}'.encode()]
def descend(levels):
    if levels:
        return descend(levels - 1)
    return [document.parse(text, origin="x") for text in texts]
descend(700)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=SECONDS)
