"""AdmissionReviews as the API server sends them, and what an answer says."""

from __future__ import annotations

import base64
import json
from typing import Any

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod", "namespace": "shoot--one", "labels": {"app": "etcd"}},
    "spec": {"containers": [{"name": "etcd", "image": "etcd:1"}], "securityContext": {}},
}


def pod(
    *, security_context: object = None, labels: object = None, annotations: object = None, **spec: object
) -> dict[str, Any]:
    """Return a pod; `security_context` None leaves it out."""
    metadata: dict[str, Any] = {"name": "pod", "namespace": "shoot--one"}
    if labels is not None:
        metadata["labels"] = labels
    if annotations is not None:
        metadata["annotations"] = annotations
    found: dict[str, Any] = {"containers": [{"name": "etcd", "image": "etcd:1"}], **spec}
    if security_context is not None:
        found["securityContext"] = security_context
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": found}


def review(found: object, *, version: str = "admission.k8s.io/v1", **request: object) -> bytes:
    """Return the body of an AdmissionReview of a pod's CREATE; `request` overrides fields of the request."""
    return json.dumps(
        {
            "apiVersion": version,
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "shoot--one",
                "operation": "CREATE",
                "userInfo": {"username": "system:serviceaccount:garden:gardenlet"},
                "object": found,
                "oldObject": None,
                "dryRun": False,
                "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
                **request,
            },
        }
    ).encode()


def response(body: bytes) -> dict[str, Any]:
    """Return the response in an answer; the envelope is checked."""
    answered = json.loads(body)
    assert answered["kind"] == "AdmissionReview"
    assert set(answered) == {"apiVersion", "kind", "response"}
    found: dict[str, Any] = answered["response"]
    assert found["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert found["allowed"] is True
    return found


def patch(body: bytes) -> list[dict[str, Any]]:
    """Return the JSON patch in an answer, empty where there is none."""
    found = response(body)
    if "patch" not in found:
        assert "patchType" not in found
        return []
    assert found["patchType"] == "JSONPatch"
    operations: list[dict[str, Any]] = json.loads(base64.b64decode(found["patch"]))
    return operations
