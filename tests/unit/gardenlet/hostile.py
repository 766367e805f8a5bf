"""Reads hostile documents, each in a fork of this process under limits of the operating system.

A line of standard input is a Python expression in JSON; a line of standard output is what came of it, in JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Final

from reconciler.errors import InvalidConfigurationError
from reconciler.gardenlet import document, featuregates

SECONDS: Final = 60
ADDRESS_SPACE: Final = 1024 * 1024 * 1024
MAX: Final = document.MAX_DOCUMENT_BYTES
HEAD: Final = b"featureGates: {DefaultSeccompProfile: true}\n"


def fill(unit: bytes, head: bytes = HEAD, tail: bytes = b"", *, most: int = MAX // 4) -> bytes:
    """Return a document of at most `most` bytes; by default long enough to show what grows faster than its length."""
    return head + unit * ((most - len(head) - len(tail)) // len(unit)) + tail


def answer(expression: str) -> str:
    """Return what the document that `expression` makes says about the gate."""
    given = eval(expression)  # noqa: S307 - the test's own words
    assert len(given) <= MAX + 1
    try:
        found = document.parse(given, origin="x")
    except InvalidConfigurationError as error:
        return f"refused: {error}"
    return "enabled" if featuregates.decide(found.feature_gates).enabled else "disabled"


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
            # Processor time: a busy machine is no defect of the document.
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            status = 1
            try:
                os.write(theirs, answer(json.loads(line)).encode()[:4000])
                status = 0
            finally:
                os._exit(status)
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            said = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), said]), flush=True)


if __name__ == "__main__":
    main()
