"""The Status bodies and watch events in which kube-apiserver says no. Source: apimachinery api/errors, apiserver."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

REASONS: Final = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.CONFLICT: "Conflict",
    HTTPStatus.GONE: "Expired",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Invalid",
    HTTPStatus.TOO_MANY_REQUESTS: "TooManyRequests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "Timeout",
}


def body(code: int, *, message: str | None = None, reason: str | None = None, retry_after: int | None = None) -> bytes:
    """Return a metav1.Status of this code; retry_after in seconds goes into its details."""
    status = HTTPStatus(code)
    document: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or f"fault proxy: {status.phrase.lower()}",
        "reason": reason or REASONS.get(status, ""),
        "code": code,
    }
    if retry_after is not None:
        document["details"] = {"retryAfterSeconds": retry_after}
    return json.dumps(document).encode()


def error_event(code: int, *, message: str | None = None) -> bytes:
    """Return the line of a watch stream by which the API server ends a watch."""
    return b'{"type":"ERROR","object":%b}\n' % body(code, message=message)
