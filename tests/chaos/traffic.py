"""Pods created without a pause through thick and thin, straight to the API server, and what became of each."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, Self

from reconciler import timestamps
from tests.backend import pod, profile_of
from tests.controlplane.errors import ApiError
from tests.seed import MANAGED, Connection, Seed

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

UNMANAGED: Final = "chaos-unmanaged"
# Patience with the API server: a webhook that hangs is given up by it long before.
_TIMEOUT_SECONDS: Final = 8.0
_SERIAL = itertools.count(1)
_PER_SECOND: Final = {MANAGED: 4.0, UNMANAGED: 1.5}
_THREADS: Final = (MANAGED, MANAGED, MANAGED, MANAGED, UNMANAGED)


class Fate(StrEnum):
    """What became of a creation."""

    MUTATED = "mutated"
    UNMUTATED = "unmutated"
    REFUSED_BY_WEBHOOK = "refused by the webhook"
    REFUSED_BY_CONTROL_PLANE = "refused by the API server or etcd"
    NO_ANSWER = "without an answer"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One creation: when it was sent and answered (monotonic), and when the API server says that it was created."""

    name: str
    namespace: str
    fate: Fate
    sent: float
    answered: float
    created: float | None = None
    words: str = ""


class Traffic:
    """The threads that create pods, and everything that they saw; a context manager."""

    def __init__(self, stage: Seed) -> None:
        self.outcomes: list[Outcome] = []
        stage.plane.ensure_namespace(UNMANAGED)
        self._stop = threading.Event()
        # Each with a file of its own: a connection writes the key of its client beside it.
        self._threads = [
            threading.Thread(
                target=self._create,
                args=(stage.plane.kubeconfig_for_user(f"pods-{number}", ["system:masters"]), namespace),
                daemon=True,
            )
            for number, namespace in enumerate(_THREADS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; more than once is fine."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def last(self, count: int) -> list[Outcome]:
        """Return the last outcomes in the managed namespace."""
        recent = self.outcomes[-4 * count :]
        return [one for one in recent if one.namespace == MANAGED][-count:]

    def _create(self, kubeconfig: Path, namespace: str) -> None:
        with Connection(kubeconfig, timeout_seconds=_TIMEOUT_SECONDS) as connection:
            while not self._stop.wait(1 / _PER_SECOND[namespace]):
                self.outcomes.append(_created(connection, f"chaos-{next(_SERIAL)}", namespace))


def _created(connection: Connection, name: str, namespace: str) -> Outcome:
    sent = time.monotonic()
    try:
        found = connection.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod(name))
    except ApiError as error:
        refused = "failed calling webhook" in error.body
        fate = Fate.REFUSED_BY_WEBHOOK if refused else Fate.REFUSED_BY_CONTROL_PLANE
        return Outcome(name, namespace, fate, sent, time.monotonic(), words=str(error))
    except (OSError, HTTPException, ValueError) as error:
        connection.http.close()
        return Outcome(name, namespace, Fate.NO_ANSWER, sent, time.monotonic(), words=repr(error))
    if found is None:  # 404: the API server does not serve the path yet
        return Outcome(name, namespace, Fate.REFUSED_BY_CONTROL_PLANE, sent, time.monotonic(), words="not found")
    fate = Fate.UNMUTATED if profile_of(found) is None else Fate.MUTATED
    created = timestamps.seconds(found["metadata"]["creationTimestamp"])
    return Outcome(name, namespace, fate, sent, time.monotonic(), created)
