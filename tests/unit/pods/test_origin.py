"""At admission or by its own spec: what managedFields tell, and that they never hide a pod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.pods import origin, shape
from reconciler.pods.origin import Origin

OWNED: dict[str, Any] = {"f:spec": {"f:securityContext": {".": {}, "f:seccompProfile": {"f:type": {}}}}}
# The creator sent a securityContext, but no profile.
LEFT_OUT: dict[str, Any] = {"f:spec": {"f:containers": {}, "f:securityContext": {}}}
STATUS: dict[str, Any] = {"f:status": {"f:phase": {}}}


def pod(managed: object, kind: str = "RuntimeDefault") -> dict[str, Any]:
    spec = {"securityContext": {"seccompProfile": {"type": kind}}, "containers": [{"name": "c"}]}
    return {"metadata": {"name": "p", "managedFields": managed}, "spec": spec}


CASES: dict[str, tuple[dict[str, Any], Origin]] = {
    "unowned": (pod([{"fieldsV1": LEFT_OUT}, {"fieldsV1": STATUS}]), Origin.ADMISSION),
    "owned-by-creator": (pod([{"fieldsV1": OWNED}, {"fieldsV1": STATUS}]), Origin.OWN_SPEC),
    "owned-by-another": (pod([{"fieldsV1": LEFT_OUT}, {"fieldsV1": OWNED}]), Origin.OWN_SPEC),
    "localhost": (pod([{"fieldsV1": LEFT_OUT}], "Localhost"), Origin.OWN_SPEC),
    "left-out-by-kubectl": (pod(None), Origin.UNKNOWN),
    "reset": (pod([{}]), Origin.UNKNOWN),
    "status-alone": (pod([{"fieldsV1": STATUS}]), Origin.UNKNOWN),
    "no-list": (pod(5), Origin.UNKNOWN),
    "no-entry": (pod([None]), Origin.UNKNOWN),
    "no-fields": (pod([{"fieldsV1": {"f:spec": 5}}]), Origin.UNKNOWN),
    "no-context": (pod([{"fieldsV1": {"f:spec": {"f:securityContext": "x"}}}]), Origin.UNKNOWN),
}


@pytest.mark.parametrize(("one", "expected"), CASES.values(), ids=CASES)
def test_a_profile_that_no_manager_owns_was_set_at_admission(one: dict[str, Any], expected: Origin) -> None:
    page = shape.page_of(json.dumps({"metadata": {}, "items": [one]}).encode())
    assert page.unreadable == ()
    (read,) = page.pods
    assert origin.of_pod(read) is expected
    assert origin.of_pod(shape.pod_of(one)) is expected
