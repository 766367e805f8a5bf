"""Processes under fire: a reconciler and a server that are killed, frozen, ended and started again, by their id."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.seed import Reconciler, started

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_SECONDS: Final = 20.0
_SYSTEM_LIBRARIES: Final = "/usr/lib*/**/faketime/libfaketime.so.1"


class Member:
    """One process and its successors, each with a log of its own."""

    def __init__(self, name: str, argv: Sequence[str], directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.is_frozen = False
        self.is_wanted = False
        self.deaths: list[str] = []
        """The ends that nobody here brought about."""
        self.argv = tuple(argv)
        self._directory = directory
        self._environment = environment
        self._lives: list[Reconciler] = []
        self._stack = ExitStack()

    @property
    def is_alive(self) -> bool:
        """Whether there is a process, be it frozen."""
        return bool(self._lives) and self._lives[-1].process.poll() is None

    @property
    def works(self) -> bool:
        """Whether it can do its work."""
        return self.is_alive and not self.is_frozen

    def page(self, path: str) -> str:
        """Return a page of its plain port; OSError where it does not answer soon, or not with 200."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port('--status-port')}{path}", timeout=1.0) as answer:
            text: str = answer.read().decode()
        return text

    def port(self, option: str) -> int:
        """Return the port that it was given by this option, the same in all its lives."""
        return int(self.argv[self.argv.index(option) + 1])

    @property
    def starts(self) -> int:
        """How often it was started."""
        return len(self._lives)

    @property
    def logs(self) -> list[str]:
        """The logs of all its lives, whole, the first one first."""
        return [life.last_words(1_000_000) for life in self._lives]

    def last_words(self, lines: int) -> str:
        """Return the end of the log, of the life before as well where this one is young."""
        return "\n".join("\n".join(life.last_words(lines).splitlines()) for life in self._lives[-2:])

    def start(self) -> None:
        """Start a process, unless there is one. From the main thread alone: children die with the thread they had."""
        self.is_wanted = True
        if not self.is_alive:
            self._lives.append(
                self._stack.enter_context(started(list(self.argv), self._directory, dict(self._environment)))
            )

    def kill(self) -> None:
        """End it at once."""
        self.is_wanted = self.is_frozen = False
        if self.is_alive:
            self._lives[-1].process.kill()
            self._lives[-1].process.wait()

    def end(self) -> None:
        """End it in good order, or at once where it does not within ten seconds."""
        self.is_wanted = False
        self.thaw()
        if self.is_alive:
            process = self._lives[-1].process
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.deaths.append(f"{self.name} did not end within {_END_SECONDS:g} s of SIGTERM")
                self.kill()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        if self.is_alive:
            self.is_frozen = True
            self._lives[-1].process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        if self.is_frozen and self.is_alive:
            self._lives[-1].process.send_signal(signal.SIGCONT)
        self.is_frozen = False

    def look_after(self) -> bool:
        """Start it again where it ended by itself, as the kubelet does; return whether it had."""
        if not self.is_wanted or self.is_alive:
            return False
        self.deaths.append(f"{self.name} ended by itself with {self._lives[-1].process.poll()}")
        self.start()
        return True

    def close(self) -> None:
        """End it for good."""
        self.thaw()
        self.is_wanted = False
        self._stack.close()


class Clock:
    """A process's wall clock, by libfaketime and a file that it reads at each look; its monotonic clock stays true."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = _library()
        self._offset = 0.0
        self.offset = 0.0

    @property
    def works(self) -> bool:
        """Whether there is a libfaketime on this machine."""
        return self._library is not None

    @property
    def environment(self) -> dict[str, str]:
        """What a process is started with to have this clock."""
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    @property
    def offset(self) -> float:
        """The seconds by which it is ahead of the true time."""
        return self._offset

    @offset.setter
    def offset(self, seconds: float) -> None:
        self._offset = seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self._file)


def _library() -> Path | None:
    """Return libfaketime, of the system or of the Python package; None where there is none."""
    places = list(Path(os.sep).glob(_SYSTEM_LIBRARIES.removeprefix(os.sep)))
    if (package := importlib.util.find_spec("libfaketime")) is not None and package.origin:
        places += Path(package.origin).parent.glob("vendor/**/libfaketime.so.1")
    return next(iter(places), None)
