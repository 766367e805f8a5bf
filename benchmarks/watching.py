"""An independent eye: a watch of its own connection and thread that notes when each state of the object was seen."""

from __future__ import annotations

import json
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from tests.seed import COLLECTION, JSON_PATCH, REGISTRATION, Connection, Seed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Object = dict[str, Any]  # a Kubernetes object as JSON
_LIMIT_SECONDS = 30.0
_START_SECONDS = 120.0
_WATCH_SECONDS = 3600


def undamped(stage: Seed) -> tuple[str, ...]:
    """Return arguments of `run` that put the same drift right at once however often it comes: else it is a war."""
    settings = stage.directory / "undamped.yaml"
    version = "seccomp-reconciler.config.gardener.cloud/v1alpha1"
    document = {"apiVersion": version, "kind": "ReconcilerConfiguration", "conflicts": {"repeats": 1_000_000_000}}
    settings.write_text(json.dumps(document))
    return "--config", str(settings)


class Watch:
    """Follows the registration; use it as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self._seen: queue.SimpleQueue[tuple[float, str, Object]] = queue.SimpleQueue()
        self._connection = connection
        selector = "fieldSelector=metadata.name=seccomp-reconciler"
        start = connection.request("GET", f"{COLLECTION}?{selector}")["metadata"]["resourceVersion"]
        query = f"{selector}&watch=true&resourceVersion={start}&timeoutSeconds={_WATCH_SECONDS}"
        connection.send("GET", f"{COLLECTION}?{query}")
        self._response = connection.http.getresponse()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection.http.sock is not None:
            self._connection.http.sock.close()

    def wait(self, condition: Callable[[Object], bool], limit_seconds: float = _LIMIT_SECONDS) -> float:
        """Return when (perf_counter) the first state with `condition` was seen; TimeoutError after the limit."""
        deadline = time.monotonic() + limit_seconds
        while True:
            try:
                seen, kind, found = self._seen.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty as error:
                raise TimeoutError(f"the registration was not restored within {limit_seconds:g} s") from error
            if kind in ("ADDED", "MODIFIED") and condition(found):
                return seen

    def _read(self) -> None:
        try:
            while line := self._response.readline():
                now = time.perf_counter()  # before the parsing, which is ours
                event = json.loads(line)
                self._seen.put((now, event["type"], event["object"]))
        except (OSError, ValueError, AttributeError):
            return  # closed by __exit__


class Drift:
    """Another writer that makes drift and learns from the watch when it was put back."""

    def __init__(self, stage: Seed) -> None:
        self._writer = stage.writer("benchmark-writer")
        self._eye = stage.writer("benchmark-watch")
        self._watch = Watch(self._eye)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
        self._writer.http.close()

    def standing(self) -> Object | None:
        """Return the registration, None where there is none."""
        found: Object | None = self._writer.request("GET", REGISTRATION)
        return found

    def deleted(self) -> float:
        """Delete the registration; return the seconds from the answer until another one was seen."""
        before = self._writer.request("GET", REGISTRATION)["metadata"]["uid"]
        self._writer.request("DELETE", REGISTRATION)
        answered = time.perf_counter()
        return self._watch.wait(lambda found: bool(found["metadata"]["uid"] != before)) - answered

    def edited(self, *, limit_seconds: float = _LIMIT_SECONDS) -> float:
        """Set failurePolicy to Fail; return the seconds from the answer until Ignore was seen again."""
        patch = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]
        version = int(self._writer.request("PATCH", REGISTRATION, patch, JSON_PATCH)["metadata"]["resourceVersion"])
        answered = time.perf_counter()

        def restored(found: Object) -> bool:
            return (
                int(found["metadata"]["resourceVersion"]) > version
                and found["webhooks"][0]["failurePolicy"] == "Ignore"
            )

        return self._watch.wait(restored, limit_seconds) - answered

    def remove(self) -> None:
        """Delete the registration for good."""
        self._writer.request("DELETE", REGISTRATION)


def until_ready(drift: Drift) -> None:
    """Wait until the registration stands and whoever restores it has been seen to watch it, however slowly it starts.

    The first edit may be put back by the writes of a start. The second comes after those, so only a watch tells of it.
    """
    deadline = time.monotonic() + _START_SECONDS
    while drift.standing() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no registration within {_START_SECONDS:g} s of the start")
        time.sleep(0.02)
    for _ in range(2):
        drift.edited(limit_seconds=_START_SECONDS)
