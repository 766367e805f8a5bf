"""Drift on a real API server: what another writer does to our object, and what one pass makes of it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.controller.reconcile import Outcome, Result
from reconciler.settings import LabelSelector, Operator, Registration, Requirement
from tests.cluster.field import stand

if TYPE_CHECKING:
    from reconciler.cluster import Cluster
    from tests.cluster.field import Field

REGISTERED = Registration()
NAMESPACE_TERMS = "/webhooks/0/namespaceSelector/matchExpressions"
OTHER_ENTRY = {
    "name": "another.example.com",
    "admissionReviewVersions": ["v1"],
    "clientConfig": {"url": "https://127.0.0.1:9/never"},
    "failurePolicy": "Ignore",
    "sideEffects": "None",
}
EDITS: dict[str, list[tuple[str, str, Any]]] = {
    "failurePolicy": [("replace", "/webhooks/0/failurePolicy", "Fail")],
    "timeoutSeconds": [("replace", "/webhooks/0/timeoutSeconds", 29)],
    "matchPolicy": [("replace", "/webhooks/0/matchPolicy", "Equivalent")],
    "sideEffects": [("replace", "/webhooks/0/sideEffects", "NoneOnDryRun")],
    "admissionReviewVersions": [("replace", "/webhooks/0/admissionReviewVersions", ["v1"])],
    "reinvocationPolicy": [("replace", "/webhooks/0/reinvocationPolicy", "IfNeeded")],
    "webhook-name": [("replace", "/webhooks/0/name", "renamed.example.com")],
    "operations": [("replace", "/webhooks/0/rules/0/operations", ["CREATE", "UPDATE"])],
    "rules-removed": [("remove", "/webhooks/0/rules", None)],
    "rule-scope": [("replace", "/webhooks/0/rules/0/scope", "Namespaced")],
    "rule-added": [
        (
            "add",
            "/webhooks/0/rules/-",
            {
                "apiGroups": ["apps"],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["deployments"],
            },
        )
    ],
    "namespace-term-removed": [("remove", f"{NAMESPACE_TERMS}/0", None)],
    "namespace-values": [("replace", f"{NAMESPACE_TERMS}/1/values", ["kube-system"])],
    "namespace-selector-removed": [("remove", "/webhooks/0/namespaceSelector", None)],
    "skip-label-inverted": [("replace", "/webhooks/0/objectSelector/matchExpressions/0/operator", "Exists")],
    "object-selector-removed": [("remove", "/webhooks/0/objectSelector", None)],
    "condition-changed": [("replace", "/webhooks/0/matchConditions/0/expression", "false")],
    "condition-added": [("add", "/webhooks/0/matchConditions/-", {"name": "never", "expression": "false"})],
    "conditions-removed": [("remove", "/webhooks/0/matchConditions", None)],
    "ca-replaced": [("replace", "/webhooks/0/clientConfig/caBundle", "CA")],
    "ca-removed": [("remove", "/webhooks/0/clientConfig/caBundle", None)],
    "service-name": [("replace", "/webhooks/0/clientConfig/service/name", "theirs")],
    "service-namespace": [("replace", "/webhooks/0/clientConfig/service/namespace", "default")],
    "service-path": [("replace", "/webhooks/0/clientConfig/service/path", "/other")],
    "service-port": [("replace", "/webhooks/0/clientConfig/service/port", 8443)],
    "service-to-url": [
        ("remove", "/webhooks/0/clientConfig/service", None),
        ("add", "/webhooks/0/clientConfig/url", "https://127.0.0.1:9/theirs"),
    ],
    "entry-added": [("add", "/webhooks/-", OTHER_ENTRY)],
    "entry-added-before": [("add", "/webhooks/0", OTHER_ENTRY)],
    "entry-removed": [("replace", "/webhooks", [])],
    "managed-by-removed": [("remove", "/metadata/labels/app.kubernetes.io~1managed-by", None)],
    "exclude-label-changed": [
        ("replace", "/metadata/labels/remediation.webhook.shoot.gardener.cloud~1exclude", "false")
    ],
    "exclude-label-removed": [("remove", "/metadata/labels/remediation.webhook.shoot.gardener.cloud~1exclude", None)],
    "digest-removed": [("remove", "/metadata/annotations", None)],
    "several": [
        ("replace", "/webhooks/0/timeoutSeconds", 1),
        ("add", "/webhooks/-", OTHER_ENTRY),
        ("remove", "/metadata/labels/app.kubernetes.io~1name", None),
        ("add", "/webhooks/0/matchConditions/-", {"name": "never", "expression": "false"}),
    ],
}


async def one_pass(cluster: Cluster, field: Field, registration: Registration = REGISTERED) -> Outcome:
    return await stand(cluster, registration, ca_bundle=field.plane.ca_pem)


def spoken(field: Field) -> dict[str, Any]:
    """Return what the object says, without what the API server counts."""
    found = field.standing()
    assert found is not None
    kept = ("labels", "annotations", "name")
    return {"webhooks": found.get("webhooks"), **{key: found["metadata"].get(key) for key in kept}}


@pytest.mark.parametrize("name", EDITS)
async def test_an_edit_is_put_back(field: Field, cluster: Cluster, name: str) -> None:
    await one_pass(cluster, field)
    before = spoken(field)
    another_bundle = base64.b64encode(field.plane.ca_pem * 2).decode()
    field.patch(*((op, path, another_bundle if value == "CA" else value) for op, path, value in EDITS[name]))
    assert spoken(field) != before
    outcome = await one_pass(cluster, field)
    assert outcome.result is Result.UPDATED
    assert outcome.differences
    assert spoken(field) == before
    assert (await one_pass(cluster, field)).result is Result.UNCHANGED


async def test_a_deletion_is_put_back(field: Field, cluster: Cluster) -> None:
    await one_pass(cluster, field)
    before = spoken(field)
    field.delete()
    assert (await one_pass(cluster, field)).result is Result.REGISTERED
    assert spoken(field) == before


async def test_what_others_add_beside_ours_stays(field: Field, cluster: Cluster) -> None:
    await one_pass(cluster, field)
    field.patch(("add", "/metadata/labels/their", "label"), ("add", "/metadata/annotations/their", "annotation"))
    assert (await one_pass(cluster, field)).result is Result.UNCHANGED
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 1))
    assert (await one_pass(cluster, field)).result is Result.UPDATED
    standing = spoken(field)
    assert standing["labels"]["their"] == "label"
    assert standing["annotations"]["their"] == "annotation"


@pytest.mark.parametrize(
    "change",
    [
        ("add", f"{NAMESPACE_TERMS}/-", {"key": "control-plane", "operator": "DoesNotExist"}),
        ("add", "/webhooks/0/namespaceSelector/matchLabels", {"control-plane": "no"}),
        ("add", "/webhooks/0/objectSelector/matchExpressions/0", {"key": "app", "operator": "NotIn", "values": ["x"]}),
    ],
    ids=["expression", "label", "a-second-term-on-a-key-of-ours"],
)
async def test_an_added_term_is_tolerated_reported_and_carried(field: Field, cluster: Cluster, change: Any) -> None:  # noqa: ANN401 - an operation of a JSON patch
    await one_pass(cluster, field)
    field.patch(change)
    outcome = await one_pass(cluster, field)
    assert outcome.result is Result.UNCHANGED
    assert len(outcome.tolerated) == 1
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 1))
    outcome = await one_pass(cluster, field)
    assert outcome.result is Result.UPDATED
    assert len(outcome.tolerated) == 1
    again = await one_pass(cluster, field)
    assert (again.result, again.tolerated) == (Result.UNCHANGED, outcome.tolerated)


async def test_a_label_handed_over_makes_the_object_foreign(field: Field, cluster: Cluster) -> None:
    await one_pass(cluster, field)
    field.patch(("replace", "/metadata/labels/app.kubernetes.io~1managed-by", "Helm"))
    before = field.standing()
    outcome = await stand(cluster, REGISTERED, ca_bundle=None)
    assert outcome.result is Result.ABSENT
    assert field.standing() == before


async def test_settings_that_ask_for_less_remove_what_was_ours(field: Field, cluster: Cluster) -> None:
    more = Registration(
        labels={"team": "one"},
        annotations={"note": "text"},
        excluded_namespaces=("default",),
        namespace_selector=LabelSelector(
            match_expressions=(
                Requirement(key="gardener.cloud/role", operator=Operator.EXISTS),
                Requirement(key="extra", operator=Operator.EXISTS),
            )
        ),
    )
    await one_pass(cluster, field, more)
    assert spoken(field)["labels"]["team"] == "one"
    assert "default" in spoken(field)["webhooks"][0]["namespaceSelector"]["matchExpressions"][2]["values"]
    outcome = await one_pass(cluster, field)
    assert outcome.result is Result.UPDATED
    standing = spoken(field)
    assert "team" not in standing["labels"]
    assert "note" not in standing["annotations"]
    assert [term["key"] for term in standing["webhooks"][0]["namespaceSelector"]["matchExpressions"]] == [
        "gardener.cloud/role",
        "kubernetes.io/metadata.name",
    ]
    without = Registration(skip_typed_pods=False)
    await one_pass(cluster, field, without)
    assert "matchConditions" not in spoken(field)["webhooks"][0]
    assert (await one_pass(cluster, field, without)).result is Result.UNCHANGED


async def test_after_another_writer_took_a_field_settings_still_remove_it(field: Field, cluster: Cluster) -> None:
    """Replacing `webhooks` leaves us a second owner of its fields: what settings drop later must go all the same."""
    await one_pass(cluster, field)
    field.patch(("add", "/webhooks/-", OTHER_ENTRY))
    assert (await one_pass(cluster, field)).result is Result.UPDATED
    without = Registration(skip_typed_pods=False)
    assert (await one_pass(cluster, field, without)).result is Result.UPDATED
    assert "matchConditions" not in spoken(field)["webhooks"][0]
