"""kubeconfig documents: who one is, and where the API server is."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path


def document(
    *,
    server: str,
    ca: bytes,
    user: str,
    client: tuple[bytes, bytes] | None = None,
    token: str | None = None,
    namespace: str = "default",
) -> str:
    """Return a kubeconfig with everything embedded: by client certificate and key (PEM), or by token, or neither."""
    credentials: dict[str, str] = {}
    if client is not None:
        credentials["client-certificate-data"] = base64.b64encode(client[0]).decode()
        credentials["client-key-data"] = base64.b64encode(client[1]).decode()
    if token is not None:
        credentials["token"] = token
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    text: str = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "controlplane",
            "clusters": [{"name": "controlplane", "cluster": cluster}],
            "contexts": [
                {"name": "controlplane", "context": {"cluster": "controlplane", "user": user, "namespace": namespace}}
            ],
            "users": [{"name": user, "user": credentials}],
        },
        sort_keys=False,
    )
    return text


def write(path: Path, text: str) -> Path:
    """Write a kubeconfig readable by its owner only; returns the path."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path
