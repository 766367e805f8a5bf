"""A webhook of the benchmark's own in the API server: its namespace, its registration, and pods created by dry-run."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tests.controlplane.errors import ApiError
from tests.seed import COLLECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.pods import Object
    from tests.seed import Connection, Seed

PATH = "/webhooks/seccomp-profile"
_NAME = "admission-benchmark"
_NAMESPACES = "/api/v1/namespaces"
_LIMIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05


@contextmanager
def namespace(stage: Seed, name: str) -> Iterator[str]:
    """Make a namespace that the webhook selects; it is gone on leaving."""
    stage.plane.ensure_namespace(name, {"gardener.cloud/role": "shoot"})
    try:
        yield name
    finally:
        stage.plane.admin_request("DELETE", f"{_NAMESPACES}/{name}")
        # There is no controller that would let it go.
        found = stage.plane.admin_request("GET", f"{_NAMESPACES}/{name}")
        found["spec"]["finalizers"] = []
        stage.plane.admin_request("PUT", f"{_NAMESPACES}/{name}/finalize", found)


@contextmanager
def registered(stage: Seed, url: str) -> Iterator[None]:
    """Register a webhook at `url` with upstream's rule and selector; the registration is gone on leaving.

    It is Fail: a server that does not answer stops the benchmark instead of making it fast.
    """
    webhook = {
        "name": "seccomp-profile.benchmark.example",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(stage.plane.ca_pem).decode()},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "gardener.cloud/role", "operator": "Exists"},
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]},
            ]
        },
        "matchPolicy": "Exact",
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 10,
        "admissionReviewVersions": ["v1"],
    }
    stage.plane.admin_request("POST", COLLECTION, {"metadata": {"name": _NAME}, "webhooks": [webhook]})
    try:
        yield
    finally:
        stage.plane.admin_request("DELETE", f"{COLLECTION}/{_NAME}")


class Creator:
    """Creates pods by dry-run over one kept connection: nothing of them is stored."""

    def __init__(self, connection: Connection, into: str) -> None:
        self._connection = connection
        self._path = f"{_NAMESPACES}/{into}/pods?dryRun=All"

    def create(self, pod: Object) -> tuple[float, Any]:
        """Return the seconds until the answer was read, and the pod as it would be; ApiError for a refusal."""
        began = time.perf_counter()
        self._connection.send("POST", self._path, pod)
        response = self._connection.http.getresponse()
        text = response.read()
        took = time.perf_counter() - began
        if response.status != HTTPStatus.CREATED:
            raise ApiError("POST", self._path, response.status, text.decode())
        return took, json.loads(text)

    def until(self, pod: Object, *, typed: bool) -> None:
        """Create until the pod comes back with (or without) a seccomp profile; TimeoutError after 30 s.

        The API server follows registrations by a watch: a new one counts a little later.
        """
        deadline = time.monotonic() + _LIMIT_SECONDS
        while has_profile(self.create(pod)[1]) != typed:
            if time.monotonic() > deadline:
                raise TimeoutError(f"pods were {'not yet' if typed else 'still'} changed after {_LIMIT_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)


def has_profile(pod: Object) -> bool:
    """Whether the pod has the default seccomp profile."""
    profile = pod["spec"].get("securityContext", {}).get("seccompProfile", {})
    return bool(profile == {"type": "RuntimeDefault"})
