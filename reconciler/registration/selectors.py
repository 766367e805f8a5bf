"""Label selectors as sets of terms: what was added to ours, and how to carry it along. Pure.

The API server holds namespaceSelector and objectSelector as atoms under server-side apply: a manager that adds one
term (AKS' admissionsenforcer does) owns the whole selector from then on. Terms only narrow, so a selector that holds
all of ours and more is in sync, and its additions are kept when we must write for another reason.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.registration.identity import Manifest


def added_terms(desired: Manifest, observed: Manifest | None) -> tuple[str, ...] | None:
    """Return the terms that `observed` holds beyond `desired`, as text; None where one of `desired` is missing."""
    wanted, present = _terms(desired), _terms(observed or {})
    if not wanted.keys() <= present.keys():
        return None
    return tuple(text for text in present if text not in wanted)


def with_added_terms(desired: Manifest, observed: Manifest | None) -> dict[str, Any]:
    """Return `desired` plus the terms that others added to `observed`.

    Where a term of ours is missing, it may have been changed rather than removed: then terms about label keys of ours
    are left behind, since a changed term beside the right one could contradict it and match nothing.
    """
    wanted, present = _terms(desired), _terms(observed or {})
    own_keys = set() if wanted.keys() <= present.keys() else {key for key, _ in wanted.values()}
    added = [requirement for text, (key, requirement) in present.items() if text not in wanted and key not in own_keys]
    merged: dict[str, Any] = json.loads(json.dumps(desired))
    if added:
        merged["matchExpressions"] = [*merged.get("matchExpressions", ()), *added]
    return merged


def _terms(selector: Manifest) -> dict[str, tuple[str, Manifest]]:
    """Return each term's canonical text with its label key: order and matchLabels' short form make no difference."""
    terms: dict[str, tuple[str, Manifest]] = {}
    for key, value in (selector.get("matchLabels") or {}).items():
        terms[_text(key, "In", [value])] = (key, {"key": key, "operator": "In", "values": [value]})
    for requirement in selector.get("matchExpressions") or ():
        text = _text(requirement["key"], requirement["operator"], requirement.get("values") or ())
        terms[text] = (requirement["key"], requirement)
    return terms


def _text(key: str, operator: str, values: Iterable[str]) -> str:
    listed = ", ".join(sorted(set(values)))
    return f"{key} {operator} [{listed}]" if listed else f"{key} {operator}"


def matches(selector: Manifest | None, labels: Mapping[str, str]) -> bool:
    """Return whether `labels` satisfy `selector` as the API server does: NotIn holds where the key is absent."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(requirement, labels) for requirement in selector.get("matchExpressions") or ())


def _holds(requirement: Manifest, labels: Mapping[str, str]) -> bool:
    key, values = requirement["key"], requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"unknown operator {requirement['operator']!r} in a label selector")
