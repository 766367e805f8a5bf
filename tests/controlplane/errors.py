"""What can go wrong with a control plane for tests; every message says what was tried and what to do."""

from __future__ import annotations


class ControlPlaneError(RuntimeError):
    """The control plane could not be found, built, started or asked."""


class ApiError(ControlPlaneError):
    """The API server answered a set-up request with a refusal."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: the API server answered {status}: {body.strip()[:2000]}")
        self.status = status
        self.body = body
