"""Pods created without a pause, and what became of each: the load under which nothing may go wrong."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

from tests.backend import pod, profile_of
from tests.controlplane.errors import ApiError
from tests.seed import MANAGED

if TYPE_CHECKING:
    from types import TracebackType

    from tests.seed import Connection

_PODS = f"/api/v1/namespaces/{MANAGED}/pods"
_SERIAL = itertools.count(1)
_THREADS = 4


class Stage(Protocol):
    """Where pods are created."""

    def writer(self, name: str) -> Connection:
        """Return a connection of a writer with every right."""


class Load:
    """Creates pods from four threads, together at `per_second` where answers are quick; a context manager."""

    def __init__(self, stage: Stage, *, per_second: float = 40.0) -> None:
        self.created = 0
        self.failures: list[str] = []  # refused, or created without the profile
        self.refused: list[str] = []
        self.seconds = 0.0
        self._stage = stage
        self._pause = _THREADS / per_second
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._create, daemon=True) for _ in range(_THREADS)]
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Pods a second, over the whole time."""
        return self.created / self.seconds

    def _create(self) -> None:
        with self._stage.writer("load") as writer:
            while not self._stop.wait(self._pause):
                name = f"load-{next(_SERIAL)}"
                trouble = ""
                try:
                    found = writer.request("POST", _PODS, pod(name))
                except ApiError as error:
                    trouble = str(error)
                    self.refused.append(trouble)
                else:
                    if profile_of(found) != "RuntimeDefault":
                        trouble = f"{name} was not mutated: {found['spec'].get('securityContext')}"
                with self._lock:
                    self.created += 1
                    if trouble:
                        self.failures.append(f"{time.monotonic() - self._began:.2f} s: {trouble}")
