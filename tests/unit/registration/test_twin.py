"""gardenlet's own entry, found in an object of somebody else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from reconciler.registration import twin
from reconciler.settings import Registration

REGISTRATION = Registration()
# As upstream registers it.
ENTRY: dict[str, Any] = {
    "name": "seccomp-profile.resources.gardener.cloud",
    "clientConfig": {"service": {"name": "gardener-resource-manager", "path": "/webhooks/seccomp-profile"}},
    "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    "objectSelector": {
        "matchExpressions": [
            {"key": "seccompprofile.resources.gardener.cloud/skip", "operator": "DoesNotExist"},
            {"key": "app", "operator": "NotIn", "values": ["gardener-resource-manager"]},
            {"key": "static-pod", "operator": "NotIn", "values": ["true"]},
        ]
    },
}
OTHER = {**ENTRY, "name": "pod-zone.resources.gardener.cloud", "clientConfig": {"service": {"path": "/webhooks/zone"}}}


def entry(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - a manifest
    return {**copy.deepcopy(ENTRY), **fields}


@pytest.mark.parametrize(
    "observed",
    [None, {}, {"webhooks": None}, {"webhooks": []}, {"webhooks": [OTHER]}, {"webhooks": [{"name": "a"}]}],
    ids=["absent", "empty", "null", "none", "others", "bare"],
)
def test_no_twin(observed: Any) -> None:  # noqa: ANN401 - a manifest
    assert twin.entry_of(observed, REGISTRATION) is None


@pytest.mark.parametrize(
    "found",
    [
        ENTRY,
        entry(name="another.name.example"),
        entry(clientConfig={"service": {"path": "/elsewhere"}}),
        entry(name="another.name.example", clientConfig={"url": "https://10.0.0.1/webhooks/seccomp-profile"}),
        entry(rules=[{"apiGroups": ["*"], "operations": ["*"], "resources": ["*"]}]),
        entry(rules=[{"apiGroups": ["apps"], "operations": ["CREATE"], "resources": ["pods"]}, *ENTRY["rules"]]),
    ],
    ids=["upstream", "by-path", "by-name", "by-url", "wildcards", "second-rule"],
)
def test_a_twin_is_known_by_its_name_or_its_path(found: dict[str, Any]) -> None:
    assert twin.entry_of({"webhooks": [OTHER, found, ENTRY]}, REGISTRATION) is found


@pytest.mark.parametrize(
    "found",
    [
        entry(rules=None),
        entry(rules=[{"apiGroups": ["apps"], "operations": ["CREATE"], "resources": ["pods"]}]),
        entry(rules=[{"apiGroups": [""], "operations": ["UPDATE"], "resources": ["pods"]}]),
        entry(rules=[{"apiGroups": [""], "operations": ["CREATE"], "resources": ["secrets", "pods/exec"]}]),
        entry(name="another.name.example", clientConfig=None),
    ],
    ids=["no-rules", "other-group", "updates", "other-resources", "no-backend"],
)
def test_what_sees_no_new_pods_is_no_twin(found: dict[str, Any]) -> None:
    assert twin.entry_of({"webhooks": [found]}, REGISTRATION) is None


def test_the_name_that_counts_is_that_of_the_settings() -> None:
    renamed = Registration(webhook_name="seccomp.other.example")
    found = entry(clientConfig={"url": "https://a/b"})
    assert twin.entry_of({"webhooks": [found]}, renamed) is None
    assert twin.entry_of({"webhooks": [{**found, "name": "seccomp.other.example"}]}, renamed) is not None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, {}),
        (ENTRY, {"app": "gardener-resource-manager"}),
        (entry(objectSelector=None), {}),
        (entry(objectSelector={"matchLabels": {"a": "b"}}), {}),
        (entry(objectSelector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}), {}),
        (entry(objectSelector={"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["a"]}]}), {}),
        (entry(objectSelector={"matchExpressions": [{"key": "app", "operator": "NotIn"}]}), {}),
        (
            entry(
                objectSelector={
                    "matchExpressions": [
                        {"key": "app", "operator": "NotIn", "values": ["seccomp-reconciler", "theirs", "a"]}
                    ]
                }
            ),
            {"app": "theirs"},
        ),
    ],
    ids=["none", "upstream", "no-selector", "labels", "in", "other-key", "no-values", "ours-too"],
)
def test_what_leads_a_canary_past_the_twin_and_not_past_us(found: Any, expected: dict[str, str]) -> None:  # noqa: ANN401 - a manifest
    assert twin.past(found, REGISTRATION) == expected
