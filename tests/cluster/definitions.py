"""CustomResourceDefinitions for tests, each no larger than what is written or read of it."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tests.cluster.patience import until
from tests.controlplane.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.seed import Connection

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@contextmanager
def defined(api: Connection, kind: str, group: str, version: str, schema: dict[str, Any]) -> Iterator[str]:
    """Yield the path of the version while the API server serves `kind` with the properties `schema`."""
    plural = f"{kind.lower()}s"
    manifest = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": schema}},
                }
            ],
        },
    }
    api.request("POST", _DEFINITIONS, manifest)
    root = f"/apis/{group}/{version}"
    until(lambda: _is_served(api, f"{root}/{plural}"))
    try:
        yield root
    finally:
        api.request("DELETE", f"{_DEFINITIONS}/{plural}.{group}")
        until(lambda: api.request("GET", f"{_DEFINITIONS}/{plural}.{group}") is None)


def _is_served(api: Connection, path: str) -> bool:
    try:
        return api.request("GET", path) is not None
    except ApiError as error:
        if error.status != HTTPStatus.TOO_MANY_REQUESTS:  # its storage is still being prepared
            raise
        return False
