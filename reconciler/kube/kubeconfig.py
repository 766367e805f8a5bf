"""The kubeconfig: which API server, as which user, with which credentials. Files in, one context out.

Files are merged as client-go does it: the first one that sets a value wins, absent files are skipped. No connection is
made here and no credential plugin runs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from reconciler.bounded_yaml import refuse_depth
from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError

# Fields that hold the path of a file; a relative one is relative to the kubeconfig that holds it.
_CLUSTER_PATHS: Final = ("certificate-authority",)
_USER_PATHS: Final = ("client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True, slots=True)
class Context:
    """One context with its cluster and its user, as the kubeconfig writes them; `user` is empty for an anonymous one.

    All paths in `cluster` and `user` are absolute.
    """

    name: str
    cluster_name: str
    cluster: Mapping[str, Any]
    user_name: str
    user: Mapping[str, Any]
    origin: str

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self.cluster["server"]).rstrip("/")

    def as_kubeconfig(self, user: Mapping[str, Any]) -> dict[str, Any]:
        """Return a kubeconfig with this context alone, and with `user` as its user."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [{"name": self.cluster_name, "cluster": dict(self.cluster)}],
            "contexts": [{"name": self.name, "context": {"cluster": self.cluster_name, "user": "user"}}],
            "users": [{"name": "user", "user": dict(user)}],
        }


def is_in_pod(kubeconfig: Path | None) -> bool:
    """Return whether this is a pod that asks as its ServiceAccount: no kubeconfig is given, nor $KUBECONFIG set."""
    return not (kubeconfig or os.environ.get("KUBECONFIG")) and "KUBERNETES_SERVICE_HOST" in os.environ


def read(files: Sequence[str], *, context: str | None = None) -> Context:
    """Return the `context` (by default the current one) of the merged `files`."""
    documents = [(path, _document(path)) for path in files if os.path.exists(path)]
    origin = f"kubeconfig {os.pathsep.join(files)}"
    if not documents:
        raise ConfigurationNotFoundError(
            f"{origin} does not exist, and this is no pod with a ServiceAccount: give --kubeconfig or set KUBECONFIG"
        )
    merged: dict[str, dict[str, Any]] = {"clusters": {}, "contexts": {}, "users": {}}
    current = ""
    for path, document in documents:
        current = current or str(document.get("current-context") or "")
        for kind, entries in merged.items():
            for name, entry in _entries(document, kind, path):
                entries.setdefault(name, entry)
    return _resolved(context or current, merged, origin, asked_for=context is not None)


def _document(path: str) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read()
        refuse_depth(content)
        found = yaml.safe_load(content)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidConfigurationError(f"kubeconfig {path}: cannot be read: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise InvalidConfigurationError(f"kubeconfig {path}: expected a mapping, found a {type(found).__name__}")
    return found or {}


def _entries(document: Mapping[str, Any], kind: str, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (name, value) of the list `kind`; paths in the values are absolute."""
    listed = document.get(kind) or []
    key = kind.removesuffix("s")
    found = []
    for entry in listed if isinstance(listed, list) else [None]:
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or "name" not in entry or not isinstance(value or {}, dict):
            raise InvalidConfigurationError(f"kubeconfig {path}: {kind}: expected a list of {{name, {key}}}")
        found.append((str(entry["name"]), _absolute(value or {}, os.path.dirname(os.path.abspath(path)))))
    return found


def _absolute(value: Mapping[str, Any], folder: str) -> Mapping[str, Any]:
    # An empty field counts as absent: it must not hide its sibling.
    made = {key: field for key, field in value.items() if field not in (None, "")}
    for key in (*_CLUSTER_PATHS, *_USER_PATHS):
        if isinstance(made.get(key), str):
            made[key] = os.path.normpath(os.path.join(folder, os.path.expanduser(made[key])))
    plugin = made.get("exec")
    # A command without a separator is looked for on PATH.
    if isinstance(plugin, dict) and isinstance(plugin.get("command"), str) and os.sep in plugin["command"]:
        made["exec"] = {**plugin, "command": os.path.join(folder, plugin["command"])}
    return made


def _resolved(name: str, merged: Mapping[str, Mapping[str, Any]], origin: str, *, asked_for: bool) -> Context:
    contexts = merged["contexts"]
    there_are = f"there are: {', '.join(contexts) or 'none'}"
    if not name:
        raise InvalidConfigurationError(f"{origin}: has no current-context; choose one with --context; {there_are}")
    if name not in contexts:
        what = "no context" if asked_for else "its current-context does not exist:"
        raise InvalidConfigurationError(f"{origin}: {what} {name}; {there_are}")
    chosen = contexts[name]
    cluster_name, user_name = str(chosen.get("cluster") or ""), str(chosen.get("user") or "")
    cluster = merged["clusters"].get(cluster_name)
    if cluster is None:
        raise InvalidConfigurationError(f"{origin}: cluster {cluster_name!r} of context {name} does not exist")
    if not isinstance(cluster.get("server"), str):
        raise InvalidConfigurationError(f"{origin}: cluster {cluster_name!r} of context {name} has no server")
    if user_name and user_name not in merged["users"]:
        raise InvalidConfigurationError(f"{origin}: user {user_name!r} of context {name} does not exist")
    return Context(name, cluster_name, cluster, user_name, merged["users"].get(user_name, {}), origin)
