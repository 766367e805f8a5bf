"""How a manifest looks to a person: without what the API server keeps for itself, and as a unified diff. Pure."""

import difflib

import yaml

from reconciler.registration.identity import Manifest

_KEPT_BY_THE_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def unified(before: Manifest | None, after: Manifest | None) -> list[str]:
    """Return the lines of a unified diff of both as YAML; none where they are the same. None stands for no object."""
    lines = difflib.unified_diff(_lines(before), _lines(after), "observed", "desired", lineterm="")
    return list(lines)


def _lines(manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return []
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _KEPT_BY_THE_SERVER}
    return yaml.safe_dump({**manifest, "metadata": metadata}, sort_keys=True, width=1_000_000).splitlines()
