"""Other writers on our registration, as they are met in the field: each under its own field manager."""

from __future__ import annotations

import copy
import threading
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Protocol, Self

from tests.controlplane.errors import ApiError
from tests.seed import JSON_PATCH, REGISTRATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.seed import Connection, Seed

    Object = dict[str, Any]  # a Kubernetes object as JSON

APPLY = "application/apply-patch+yaml"
CONTROL_PLANE = {"key": "control-plane", "operator": "NotIn", "values": ["true"]}
_ENTRY = "/webhooks/0"


class Writer(Protocol):
    """Another writer: its field manager, and one look at our object and what it does about it."""

    manager: str

    def act(self, other: Connection) -> bool:
        """Look once; return whether something was changed."""


class Enforcer:
    """The admissions enforcer of AKS: a term in each namespaceSelector, put there whenever it is missing."""

    manager = "admissionsenforcer"

    def act(self, other: Connection) -> bool:
        """Add the term, unless it is there."""
        found = other.request("GET", REGISTRATION)
        terms = [] if found is None else found["webhooks"][0]["namespaceSelector"]["matchExpressions"]
        if found is None or CONTROL_PLANE in terms:
            return False
        change = {"op": "add", "path": f"{_ENTRY}/namespaceSelector/matchExpressions/-", "value": CONTROL_PLANE}
        return _patch(other, self.manager, change)


class Remediator:
    """Gardener's remediator where it does not heed the exclude label: its own failurePolicy and timeout in each entry.

    Source: gardener pkg/operation/care/webhook_remediation.go.
    """

    manager = "gardenlet"

    def __init__(self, *, failure_policy: str = "Ignore", timeout_seconds: int = 3) -> None:
        self._wanted = {"failurePolicy": failure_policy, "timeoutSeconds": timeout_seconds}

    def act(self, other: Connection) -> bool:
        """Put both fields right, as it understands that."""
        found = other.request("GET", REGISTRATION)
        if found is None:
            return False
        entry = found["webhooks"][0]
        changes = [
            {"op": "replace", "path": f"{_ENTRY}/{field}", "value": value}
            for field, value in self._wanted.items()
            if entry.get(field) != value
        ]
        return bool(changes) and _patch(other, self.manager, *changes)


class Argo:
    """A GitOps controller that holds an old manifest of ours: applied with force, or deleted and created, each time."""

    manager = "argocd-controller"

    def __init__(self, manifest: Object, *, prunes: bool = False) -> None:
        self._manifest = manifest
        self._prunes = prunes

    def act(self, other: Connection) -> bool:
        """Apply the manifest; who prunes deletes what stands first."""
        before = other.request("GET", REGISTRATION)
        if self._prunes and before is not None:
            other.request("DELETE", REGISTRATION)
        applied = other.request(
            "PATCH", f"{REGISTRATION}?fieldManager={self.manager}&force=true", self._manifest, APPLY
        )
        versions = [None if one is None else one["metadata"]["resourceVersion"] for one in (before, applied)]
        return versions[0] != versions[1]


class Pruner:
    """Whoever deletes what it does not know."""

    manager = "unknown"  # nobody is left to name it

    def act(self, other: Connection) -> bool:
        """Delete our object, if it stands."""
        return other.request("GET", REGISTRATION) is not None and other.request("DELETE", REGISTRATION) is not None


class Restless:
    """Somebody who adds another match condition each time, so that no field is fought over twice."""

    manager = "restless"

    def __init__(self) -> None:
        self._serial = 0

    def act(self, other: Connection) -> bool:
        """Add the next condition."""
        self._serial += 1
        condition = {"name": f"condition-{self._serial}", "expression": "true"}
        change = {"op": "add", "path": f"{_ENTRY}/matchConditions/-", "value": condition}
        return other.request("GET", REGISTRATION) is not None and _patch(other, self.manager, change)


class InTurn:
    """Several writers, one after the other."""

    def __init__(self, *writers: Writer) -> None:
        self._writers = writers
        self._turn = 0
        self.manager = " ".join(writer.manager for writer in writers)

    def act(self, other: Connection) -> bool:
        """Have the next one look."""
        self._turn += 1
        return self._writers[self._turn % len(self._writers)].act(other)


class Opposition:
    """A writer at work: it looks every so often, in a thread and over a connection of its own."""

    def __init__(self, stage: Seed, writer: Writer, *, every_seconds: float) -> None:
        self.writer = writer
        self.changes = 0
        """How often it changed something."""
        self._stage = stage
        self._every_seconds = every_seconds
        self._failures: list[BaseException] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._failures and error is None:
            raise self._failures[0]

    def stop(self) -> None:
        """Have it end; what it did last stands."""
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        with self._stage.writer("opposition") as other:
            while not self._end.wait(self._every_seconds):
                try:
                    self.changes += self.writer.act(other)
                except (ApiError, OSError, HTTPException) as error:
                    if not (isinstance(error, ApiError) and error.status in (404, 409, 422)):
                        self._failures.append(error)
                        return


def old_manifest(standing: Object, change: Callable[[Object], None]) -> Object:
    """Return our object as a repository would hold it, with `change` undone by nobody."""
    metadata = {key: copy.deepcopy(standing["metadata"][key]) for key in ("name", "labels", "annotations")}
    manifest = {
        "apiVersion": standing["apiVersion"],
        "kind": standing["kind"],
        "metadata": metadata,
        "webhooks": copy.deepcopy(standing["webhooks"]),
    }
    change(manifest)
    return manifest


def _patch(other: Connection, manager: str, *changes: Object) -> bool:
    return other.request("PATCH", f"{REGISTRATION}?fieldManager={manager}", list(changes), JSON_PATCH) is not None
