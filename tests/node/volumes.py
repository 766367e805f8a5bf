"""A pod's volumes as folders: ConfigMaps, Secrets, projections with tokens, downward API and emptyDir, kept fresh."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any

from tests.backend import put

if TYPE_CHECKING:
    from pathlib import Path

    from tests.seed import Connection

_TOKEN_SECONDS = 3600


class MissingError(Exception):
    """A ConfigMap or Secret that the pod cannot start without does not exist yet."""


class Volumes:
    """The volumes of one pod below a folder; `refresh` brings what has changed, by a symlink swap as the kubelet's."""

    def __init__(self, folder: Path, pod: dict[str, Any], kubelet: Connection) -> None:
        self._folder = folder
        self._pod = pod
        self._kubelet = kubelet
        self._held: dict[str, dict[str, bytes]] = {}
        self._tokens: dict[str, tuple[float, bytes]] = {}

    def folder(self, name: str) -> Path:
        """Return the folder of that volume."""
        return self._folder / name

    def refresh(self) -> None:
        """Read everything afresh; MissingError where something is missing that is not optional."""
        for volume in self._pod["spec"].get("volumes") or ():
            folder = self.folder(volume["name"])
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o777 if "emptyDir" in volume else 0o755)
            if "emptyDir" in volume:
                continue
            files = self._files(volume)
            if self._held.get(volume["name"]) != files:
                self._held[volume["name"]] = files
                put(folder, files)
                self._give(
                    folder, next(iter(volume[kind].get("defaultMode", 0o644) for kind in volume if kind != "name"))
                )

    def _give(self, folder: Path, mode: int) -> None:
        """Set modes, and the pod's group where it has one (which needs root)."""
        group = (self._pod["spec"].get("securityContext") or {}).get("fsGroup")
        for path in sorted((folder / "..data").resolve().rglob("*")):
            path.chmod(0o755 if path.is_dir() else mode | (0o440 if group is not None else 0))
            if group is not None and os.geteuid() == 0:
                os.chown(path, 0, group)

    def _files(self, volume: dict[str, Any]) -> dict[str, bytes]:
        if "projected" in volume:
            found: dict[str, bytes] = {}
            for source in volume["projected"]["sources"]:
                found.update(self._source(source))
            return found
        if "secret" in volume:
            return self._source({"secret": {**volume["secret"], "name": volume["secret"]["secretName"]}})
        return self._source({key: value for key, value in volume.items() if key != "name"})

    def _source(self, source: dict[str, Any]) -> dict[str, bytes]:
        if token := source.get("serviceAccountToken"):
            return {token["path"]: self._token(token)}
        if downward := source.get("downwardAPI"):
            return {
                item["path"]: field(self._pod, item["fieldRef"]["fieldPath"]).encode() for item in downward["items"]
            }
        for kind, plural in (("configMap", "configmaps"), ("secret", "secrets")):
            if kind in source:
                return self._object(plural, source[kind])
        raise NotImplementedError(f"volume source {source}")

    def _object(self, plural: str, wanted: dict[str, Any]) -> dict[str, bytes]:
        namespace = self._pod["metadata"]["namespace"]
        found = self._kubelet.request("GET", f"/api/v1/namespaces/{namespace}/{plural}/{wanted['name']}")
        if found is None:
            if wanted.get("optional"):
                return {}
            raise MissingError(f"{plural} {wanted['name']!r} not found")
        data = {
            key: base64.b64decode(value) if plural == "secrets" else value.encode()
            for key, value in (found.get("data") or {}).items()
        }
        if not wanted.get("items"):
            return data
        return {item["path"]: data[item["key"]] for item in wanted["items"] if item["key"] in data}

    def _token(self, wanted: dict[str, Any]) -> bytes:
        made, token = self._tokens.get(wanted["path"], (0.0, b""))
        if time.monotonic() - made > _TOKEN_SECONDS / 2 or not token:
            metadata, spec = self._pod["metadata"], self._pod["spec"]
            bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
            asked = {"spec": {"expirationSeconds": _TOKEN_SECONDS, "boundObjectRef": bound}}
            path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{spec['serviceAccountName']}/token"
            answer = self._kubelet.request("POST", path, asked)
            if answer is None:
                raise MissingError(f"the pod or its ServiceAccount {spec['serviceAccountName']!r} is gone")
            token = answer["status"]["token"].encode()
            self._tokens[wanted["path"]] = (time.monotonic(), token)
        return token


def field(pod: dict[str, Any], path: str) -> str:
    """Return a field of the pod by its path in the downward API."""
    found: Any = pod
    for part in path.split("."):
        found = found[part]
    return str(found)
