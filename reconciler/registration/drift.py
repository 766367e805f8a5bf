"""What to do: the desired manifest is compared with the observed object and becomes a Plan. Pure.

Only what is ours is compared. Labels, annotations and owners of others, and fields of a newer API that we do not know,
are left alone; terms added to a selector are tolerated and carried along; everything else that differs is put back.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from reconciler.registration import owner, selectors
from reconciler.registration.identity import SELECTORS_ANNOTATION, Manifest, applied_fields, is_ours

# What the API server fills in where we say nothing. Source: admissionregistration.k8s.io/v1 defaults.
_DEFAULTS: Final[Manifest] = {"reinvocationPolicy": "Never"}
_SELECTORS: Final = ("namespaceSelector", "objectSelector")
_COMPARED: Final = (
    "admissionReviewVersions",
    "failurePolicy",
    "matchPolicy",
    "reinvocationPolicy",
    "rules",
    "sideEffects",
    "timeoutSeconds",
)
_CLIENT_CONFIG: Final = ("caBundle", "service.name", "service.namespace", "service.path", "service.port", "url")
_SHOWN_CHARACTERS = 120


class Action(StrEnum):
    """The one request that brings the object nearer to what is desired."""

    NONE = "none"
    CREATE = "create"
    APPLY = "apply"
    # Server-side apply never removes what another manager added (an entry, a condition, a url): the list is replaced.
    REPLACE = "replace"
    DELETE = "delete"
    REFUSE = "refuse"
    # The object is being deleted and waits for a finalizer: nothing can be done before it is gone.
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs; values as short text for logs, `None` where a side has nothing."""

    path: str
    desired: str | None
    observed: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do and why. `manifest` is what to write, `tolerated` the additions of others that are left in place."""

    action: Action
    manifest: Manifest | None = None
    differences: tuple[Difference, ...] = ()
    tolerated: tuple[Difference, ...] = ()


def compare(*, desired: Manifest | None, observed: Manifest | None, adopt: bool = False) -> Plan:
    """Return the Plan that leads from `observed` to `desired` (None: the object should not exist).

    An object that is not ours is never planned for writing or deletion; with `adopt` it is taken over where one is
    desired, and still never deleted.
    """
    if observed is None:
        return Plan(Action.NONE) if desired is None else Plan(Action.CREATE, desired)
    ours = is_ours(observed)
    if desired is None:
        if not ours:
            return Plan(Action.NONE)
        return Plan(Action.WAIT if _is_terminating(observed) else Action.DELETE)
    if not ours and not adopt:
        return Plan(Action.REFUSE)
    if _is_terminating(observed):
        return Plan(Action.WAIT)
    return _compare_objects(desired, observed)


def _compare_objects(desired: Manifest, observed: Manifest) -> Plan:
    wanted = desired["webhooks"][0]
    entries = observed.get("webhooks") or []
    present = next((entry for entry in entries if entry.get("name") == wanted["name"]), None)
    differences = list(_metadata_differences(desired["metadata"], observed["metadata"]))
    tolerated: list[Difference] = []
    manifest: Manifest = desired
    must_replace = False
    for index, entry in enumerate(entries):
        if entry is not present:
            must_replace = True
            differences.append(Difference(f"webhooks[{index}]", None, _shown(entry.get("name"))))
    if present is None:
        differences.append(Difference("webhooks[0]", _shown(wanted["name"]), None))
    else:
        fields = list(_entry_differences(wanted, present))
        differences += fields
        must_replace |= any(_only_replacing_helps(wanted, present, field.path) for field in fields)
        carried, tolerated = _carry_added_terms(desired, observed, present)
        manifest = {**desired, "webhooks": [{**wanted, **carried}]}
    if not differences:
        return Plan(Action.NONE, tolerated=tuple(tolerated))
    action = Action.REPLACE if must_replace else Action.APPLY
    return Plan(action, manifest, tuple(differences), tuple(tolerated))


def _metadata_differences(desired: Manifest, observed: Manifest) -> Iterator[Difference]:
    owned = (applied_fields({"metadata": observed}) or {}).get("f:metadata") or {}
    for kind in ("labels", "annotations"):
        wanted, present = desired[kind], observed.get(kind) or {}
        for key, value in sorted(wanted.items()):
            if present.get(key) != value:
                yield Difference(f"metadata.{kind}[{key}]", value, present.get(key))
        # What we applied once and no longer ask for: server-side apply drops it, since we alone own it.
        for field in sorted(owned.get(f"f:{kind}") or {}):
            key = field.removeprefix("f:")
            if key not in wanted and key in present:
                yield Difference(f"metadata.{kind}[{key}]", None, present[key])
    if (found := owner.difference(desired, observed)) is not None:
        yield Difference(owner.PATH, *found)


def _entry_differences(wanted: Manifest, present: Manifest) -> Iterator[Difference]:
    for key in _COMPARED:
        left, right = _normal(key, wanted), _normal(key, present)
        if left != right:
            yield Difference(f"webhooks[0].{key}", _shown(left), _shown(right))
    yield from _condition_differences(_conditions(wanted), _conditions(present))
    for key in _SELECTORS:
        if selectors.added_terms(wanted[key], present.get(key)) is None:
            yield Difference(f"webhooks[0].{key}", _shown(wanted[key]), _shown(present.get(key)))
    for path in _CLIENT_CONFIG:
        left, right = _at(wanted["clientConfig"], path), _at(present.get("clientConfig") or {}, path)
        if left != right:
            yield Difference(f"webhooks[0].clientConfig.{path}", _shown(left), _shown(right))


def _condition_differences(wanted: dict[str, str], present: dict[str, str]) -> Iterator[Difference]:
    for name in [*wanted, *(name for name in present if name not in wanted)]:
        left, right = wanted.get(name), present.get(name)
        if left != right:
            yield Difference(f"webhooks[0].matchConditions[{name}]", _shown(left), _shown(right))


def _conditions(entry: Manifest) -> dict[str, str]:
    return {condition["name"]: condition["expression"] for condition in entry.get("matchConditions") or ()}


def _normal(key: str, entry: Manifest) -> object:
    value = entry.get(key, _DEFAULTS.get(key))
    if key == "rules":
        # scope is "*" where we say nothing; verbs and groups are sets to the API server.
        return [
            {name: part if name == "scope" else sorted(part) for name, part in {"scope": "*", **rule}.items()}
            for rule in value or ()
        ]
    return value


def _only_replacing_helps(wanted: Manifest, present: Manifest, path: str) -> bool:
    """Return whether server-side apply would leave the difference at `path` in place: we do not set that field."""
    field = path.removeprefix("webhooks[0].")
    if field.startswith("matchConditions["):
        return field[len("matchConditions[") : -1] not in _conditions(wanted)
    if field.startswith("clientConfig."):
        backend_changed = ("url" in wanted["clientConfig"]) != ("url" in (present.get("clientConfig") or {}))
        return backend_changed or _at(wanted, field) is None
    return field not in wanted


def _carry_added_terms(
    desired: Manifest, observed: Manifest, present: Manifest
) -> tuple[dict[str, Any], list[Difference]]:
    """Return the selectors to write, with the terms that others added, and those terms as tolerated differences.

    Where the digest says that our own selectors changed since the last write, nothing is carried: an old term of ours
    could pass for somebody's addition, and whoever really added one will add it again.
    """
    digest = desired["metadata"]["annotations"][SELECTORS_ANNOTATION]
    if (observed["metadata"].get("annotations") or {}).get(SELECTORS_ANNOTATION) != digest:
        return {}, []
    wanted = desired["webhooks"][0]
    carried = {key: selectors.with_added_terms(wanted[key], present.get(key)) for key in _SELECTORS}
    tolerated = [
        Difference(f"webhooks[0].{key}", None, term)
        for key in _SELECTORS
        for term in selectors.added_terms(wanted[key], carried[key]) or ()
    ]
    return carried, tolerated


def _is_terminating(observed: Manifest) -> bool:
    return observed["metadata"].get("deletionTimestamp") is not None


def _at(value: Manifest, path: str) -> object:
    """Return the value at the dotted `path`, None where there is none."""
    found: object = value
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _shown(value: object) -> str | None:
    """Return `value` as short text; a caBundle or another long text by its digest, so that two can be told apart."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    if isinstance(value, str):
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text[: _SHOWN_CHARACTERS - 1] + "…"
