"""What stands in the API server, looked at from outside all the time: our registration's windows, foreign objects."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, Self

from reconciler import timestamps
from reconciler.registration.memory import WINDOWS_ANNOTATION
from tests.chaos.spans import Spans
from tests.controlplane.errors import ApiError
from tests.seed import COLLECTION, REGISTRATION, Connection, Seed

if TYPE_CHECKING:
    from types import TracebackType

Object = dict[str, Any]  # a Kubernetes object as JSON

_POLL_SECONDS: Final = 0.15
_FOREIGN_EVERY: Final = 6
_TIMEOUT_SECONDS: Final = 3.0
# The product adds this to the end of a window, for the API server to learn of the change.
_LEARNED_SECONDS: Final = 3.0
_VALIDATING: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_NAME: Final = "somebody-elses"
_ENTRY: Final = {
    "name": "things.example.com",
    "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"], "operations": ["CREATE"]}],
    "clientConfig": {"url": "https://127.0.0.1:9/things"},
    "failurePolicy": "Ignore",
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}
_WEBHOOKS: Final = {"metadata": {"name": _NAME}, "webhooks": [_ENTRY]}
# In each collection where ours lie, one that is not ours.
_FOREIGN: Final[dict[str, Object]] = {
    COLLECTION: _WEBHOOKS,
    _VALIDATING: _WEBHOOKS,
    "/api/v1/namespaces/garden/secrets": {"metadata": {"name": _NAME}, "stringData": {"ca.crt": "theirs"}},
    "/api/v1/namespaces/garden/configmaps": {"metadata": {"name": _NAME}, "data": {"config.yaml": "theirs"}},
    "/apis/coordination.k8s.io/v1/namespaces/garden/leases": {
        "metadata": {"name": _NAME},
        "spec": {"holderIdentity": "them"},
    },
}


class Observer:
    """A thread that looks; a context manager. Times of `windows` are wall clock, those of `at_fail` monotonic."""

    def __init__(self, stage: Seed) -> None:
        self.windows: dict[tuple[float, str], tuple[float, float]] = {}
        self.at_fail = Spans()
        self.first_fail: float | None = None
        """When Fail was first seen (seconds since the epoch)."""
        self.standing: Object | None = None
        self.looks = 0
        self.raised = 0
        self.lowered = 0
        self.foreign_changes: list[str] = []
        self._foreign = {f"{path}/{_NAME}": _version(_put(stage, path, body)) for path, body in _FOREIGN.items()}
        self._connection = Connection(
            stage.plane.kubeconfig_for_user("observer", ["system:masters"]), timeout_seconds=_TIMEOUT_SECONDS
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_for_ever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.http.close()

    @property
    def policy(self) -> str | None:
        """What our registration said at the last look; None: nothing of ours stood."""
        return policy_of(self.standing)

    @property
    def is_at_fail(self) -> bool:
        """Whether our registration stood at Fail at the last look."""
        return self.at_fail.is_open

    @property
    def recorded(self) -> Spans:
        """All windows ever seen, as spans of the wall clock; one that was never seen closed ends with its last look."""
        found = Spans()
        for start, end in list(self.windows.values()):
            found.add(start, end)
        return found

    def _look_for_ever(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            try:
                self._saw(self._connection.request("GET", REGISTRATION))
                if self.looks % _FOREIGN_EVERY == 0:
                    self._look_at_foreign()
            except (OSError, HTTPException, ApiError, ValueError):
                self._connection.http.close()

    def _saw(self, found: Object | None) -> None:
        self.looks += 1
        self.standing = found
        is_at_fail = policy_of(found) == "Fail"
        was_at_fail = self.at_fail.is_open
        self.raised += is_at_fail and not was_at_fail
        self.lowered += was_at_fail and not is_at_fail
        self.at_fail.note(holds=is_at_fail, at=time.monotonic())
        if is_at_fail and self.first_fail is None:
            self.first_fail = time.time()
        for window in windows_of(found):
            start, end = timestamps.seconds(window.get("start")), timestamps.seconds(window.get("end"))
            if start is not None:
                # Cut off at the present: a clock that goes wrong must not excuse what is still to come.
                last = min(time.time() + _LEARNED_SECONDS, end or time.time())
                key = (start, str(window.get("reason", "")))
                first, known = self.windows.get(key, (start, last))
                self.windows[key] = (min(first, start), max(known, last))

    def _look_at_foreign(self) -> None:
        for path, version in self._foreign.items():
            found = self._connection.request("GET", path)
            if (now := ("gone", "") if found is None else _version(found)) != version:
                self.foreign_changes.append(f"{path}: uid and resourceVersion were {version}, are {now}")


def policy_of(found: Object | None) -> str | None:
    """Return what our registration says; None where nothing of ours stands."""
    entries = (found or {}).get("webhooks") or ()
    return entries[0].get("failurePolicy") if entries else None


def windows_of(found: Object | None) -> list[Object]:
    """Return the windows that the registration records."""
    annotations = ((found or {}).get("metadata") or {}).get("annotations") or {}
    try:
        windows = json.loads(annotations.get(WINDOWS_ANNOTATION) or "[]")
    except ValueError:
        return []
    return [one for one in windows if isinstance(one, dict)] if isinstance(windows, list) else []


def _put(stage: Seed, path: str, body: Object) -> Object:
    created: Object = stage.plane.admin_request("POST", path, body)
    return created


def _version(found: Object) -> tuple[str, str]:
    return found["metadata"]["uid"], found["metadata"]["resourceVersion"]
