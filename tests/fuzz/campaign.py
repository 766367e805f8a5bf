"""One campaign of fuzzing: seeds, words and a check; how long, where its findings are kept, what the exit status says.

It writes to a temporary directory and nowhere else.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

try:
    import atheris
except ImportError:
    raise SystemExit("atheris is missing: pip install -c constraints.txt -e '.[fuzz]'") from None

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Mutate = Callable[[bytes, int, int], bytes]

# A run takes a millisecond: one that takes this long is a finding of its own.
_RUN_SECONDS = 20
_LOG_CHARACTERS = 20_000
_RUNS = re.compile(r"number_of_executed_units:\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is fuzzed: `check` raises where something is wrong. Inputs are `most_bytes` long at most."""

    name: str
    about: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes]
    most_bytes: int
    mutate: Mutate | None = None

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Parse the command line and do it; returns the exit status: 0 where nothing was found."""
        parser = argparse.ArgumentParser(
            prog=f"python -m tests.fuzz.{self.name}",
            description=self.about,
            epilog="exit status: 0 when the time ran out without a finding; the input of a finding is kept, and named",
        )
        parser.add_argument("seconds", metavar="SECONDS", nargs="?", type=_seconds, default=60, help="default 60")
        parser.add_argument("--replay", metavar="FILE", type=Path, help="check the input in FILE, and nothing else")
        options = parser.parse_args(arguments)
        if options.replay is not None:
            self.check(options.replay.read_bytes())
            print(f"{self.name}: {options.replay} is as it should be")
            return 0
        return self._run(options.seconds)

    def _run(self, seconds: int) -> int:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{self.name}-"))
        began = time.monotonic()
        # libFuzzer ends its process by itself, and a defect in C may end it too: a child goes, its parent tells.
        if (child := os.fork()) == 0:
            self._fuzz(folder, seconds)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log = (folder / "log").read_text(errors="replace")
        found = _RUNS.search(log)
        runs = int(found[1]) if found is not None else 0
        if status == 0 and runs > len(self.seeds):
            shutil.rmtree(folder)
            print(f"{self.name}: {runs} runs in {time.monotonic() - began:.0f} s, nothing found")
            return 0
        print(log[-_LOG_CHARACTERS:])
        inputs = [path for path in sorted(folder.iterdir()) if path.name.startswith(("crash-", "timeout-", "oom-"))]
        print(f"{self.name}: a finding (status {status}); inputs and log are in {folder}")
        for path in inputs:
            print(f"again: python -m tests.fuzz.{self.name} --replay {path}")
        return 1

    def _fuzz(self, folder: Path, seconds: int) -> NoReturn:
        """Fuzz, in a process of its own; what it says goes to the log in `folder`."""
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log, stream.fileno())
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(self.seeds):
            (corpus / f"seed-{number:03}").write_bytes(seed)
        (folder / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in self.words))
        flags = [
            f"-max_total_time={seconds}",
            f"-timeout={_RUN_SECONDS}",
            f"-max_len={self.most_bytes}",
            f"-artifact_prefix={folder}/",
            f"-dict={folder / 'words'}",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        more = {} if self.mutate is None else {"custom_mutator": self.mutate}
        atheris.Setup([self.name, *flags, str(corpus)], self.check, **more)
        atheris.Fuzz()
        raise AssertionError("atheris ends the process")


def _escaped(word: bytes) -> str:
    """Return the word as libFuzzer's dictionaries spell it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:  # libFuzzer takes 0 for ever
        raise argparse.ArgumentTypeError(f"expected whole seconds, at least 1, and not {text!r}")
    return int(text)
