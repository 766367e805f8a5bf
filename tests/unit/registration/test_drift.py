"""The plan, as tables and as properties on a model of the API server's two kinds of writes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registration import drift
from reconciler.registration.desired import render
from reconciler.registration.drift import Action
from reconciler.registration.identity import is_ours
from reconciler.settings import Backend, Registration, ReinvocationPolicy

DESIRED = render(Registration(), ca_bundle=b"ca")
APPLIED = {"manager": "seccomp-reconciler", "operation": "Apply", "fieldsV1": {"f:metadata": {}}}


def stored(desired: Any = DESIRED) -> dict[str, Any]:  # noqa: ANN401 - a manifest
    """Return `desired` as the API server keeps and shows it."""
    found: dict[str, Any] = copy.deepcopy(desired)
    found["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1, "managedFields": [APPLIED]}
    for webhook in found["webhooks"]:
        webhook.setdefault("reinvocationPolicy", "Never")
        webhook["rules"] = [{"scope": "*", **rule} for rule in webhook["rules"]]
    return found


def test_what_the_api_server_stores_of_it_is_in_sync() -> None:
    assert drift.compare(desired=DESIRED, observed=stored()).action is Action.NONE


@pytest.mark.parametrize(
    ("desired", "observed", "adopt", "action"),
    [
        (None, None, False, Action.NONE),
        (DESIRED, None, False, Action.CREATE),
        (None, stored(), False, Action.DELETE),
        (DESIRED, {"metadata": {"name": "a"}}, False, Action.REFUSE),
        (DESIRED, {"metadata": {"name": "a", "labels": None}}, False, Action.REFUSE),
        (DESIRED, {"metadata": {"name": "a"}}, True, Action.APPLY),
        (None, {"metadata": {"name": "a"}}, False, Action.NONE),
        (None, {"metadata": {"name": "a"}}, True, Action.NONE),
    ],
    ids=["absent", "create", "delete", "refuse", "null-labels", "adopt", "leave", "adoption-never-deletes"],
)
def test_actions(desired: Any, observed: Any, *, adopt: bool, action: Action) -> None:  # noqa: ANN401 - manifests
    assert drift.compare(desired=desired, observed=observed, adopt=adopt).action is action


@pytest.mark.parametrize("desired", [DESIRED, None], ids=["wanted", "unwanted"])
def test_an_object_being_deleted_is_waited_for(desired: Any) -> None:  # noqa: ANN401 - a manifest
    observed = stored()
    observed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert drift.compare(desired=desired, observed=observed).action is Action.WAIT


def test_whose_it_is() -> None:
    ours = stored()
    assert is_ours(ours)
    del ours["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    assert is_ours(ours), "managedFields is the witness"
    ours["metadata"]["managedFields"] = [{"manager": "seccomp-reconciler", "operation": "Update"}]
    assert not is_ours(ours)
    handed_over = stored()
    handed_over["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    assert not is_ours(handed_over)


def test_what_we_applied_once_and_ask_for_no_more_is_a_difference() -> None:
    observed = stored()
    observed["metadata"]["labels"]["team"] = "one"
    assert drift.compare(desired=DESIRED, observed=observed).action is Action.NONE
    observed["metadata"]["managedFields"] = [{**APPLIED, "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}}}]
    plan = drift.compare(desired=DESIRED, observed=observed)
    assert plan.action is Action.APPLY
    assert [item.path for item in plan.differences] == ["metadata.labels[team]"]


@pytest.mark.parametrize(
    "shape",
    [
        {"webhooks": None},
        {"webhooks": []},
        {"webhooks": [{"name": "seccomp-profile.resources.gardener.cloud"}]},
        {"webhooks": [{"name": "seccomp-profile.resources.gardener.cloud", "clientConfig": None, "rules": None}]},
        {"webhooks": [{"name": "another"}]},
    ],
    ids=["null", "none", "bare", "nulls", "another"],
)
def test_bare_objects_are_planned_for_and_not_stumbled_over(shape: dict[str, Any]) -> None:
    plan = drift.compare(desired=DESIRED, observed={**stored(), **shape})
    assert plan.action in (Action.APPLY, Action.REPLACE)
    assert plan.differences


def test_a_field_of_a_newer_kubernetes_is_left_alone() -> None:
    observed = stored()
    observed["webhooks"][0]["fromTheFuture"] = {"mode": "Default"}
    assert drift.compare(desired=DESIRED, observed=observed).action is Action.NONE


def test_the_order_of_terms_and_verbs_makes_no_difference() -> None:
    observed = stored()
    observed["webhooks"][0]["namespaceSelector"]["matchExpressions"].reverse()
    observed["webhooks"][0]["objectSelector"]["matchExpressions"].reverse()
    assert drift.compare(desired=DESIRED, observed=observed).action is Action.NONE


def test_a_changed_term_of_ours_is_not_carried_beside_the_right_one() -> None:
    observed = stored()
    observed["webhooks"][0]["objectSelector"]["matchExpressions"][0]["operator"] = "Exists"
    observed["webhooks"][0]["objectSelector"]["matchExpressions"].append({"key": "theirs", "operator": "Exists"})
    plan = drift.compare(desired=DESIRED, observed=observed)
    assert plan.action is Action.APPLY
    assert plan.manifest is not None
    terms = plan.manifest["webhooks"][0]["objectSelector"]["matchExpressions"]
    assert {"key": "theirs", "operator": "Exists"} in terms
    assert len(terms) == len(DESIRED["webhooks"][0]["objectSelector"]["matchExpressions"]) + 1


def test_after_a_change_of_our_selectors_nothing_is_carried() -> None:
    before = stored(render(Registration(excluded_namespaces=("a",)), ca_bundle=b"ca"))
    before["webhooks"][0]["namespaceSelector"]["matchExpressions"].append({"key": "theirs", "operator": "Exists"})
    plan = drift.compare(desired=DESIRED, observed=before)
    assert plan.manifest == DESIRED


def test_long_values_are_shown_as_a_digest() -> None:
    other = render(Registration(), ca_bundle=b"other" * 1000)
    plan = drift.compare(desired=other, observed=stored())
    assert [item.path for item in plan.differences] == ["webhooks[0].clientConfig.caBundle"]
    assert (plan.differences[0].desired or "").startswith("sha256:")


def applied(plan: drift.Plan, observed: dict[str, Any]) -> dict[str, Any]:
    """Model of the write that `plan` asks for. Apply merges and never removes what others set; replace replaces."""
    assert plan.manifest is not None
    manifest: Any = copy.deepcopy(plan.manifest)
    result = copy.deepcopy(observed)
    if plan.action is Action.REPLACE:
        result["webhooks"] = stored(manifest)["webhooks"]
        return result
    for kind in ("labels", "annotations"):
        result["metadata"][kind] = {**(result["metadata"].get(kind) or {}), **manifest["metadata"][kind]}
    wanted = manifest["webhooks"][0]
    present = next((item for item in result.get("webhooks") or () if item["name"] == wanted["name"]), None)
    if present is None:
        result["webhooks"] = [*(result.get("webhooks") or ()), stored(manifest)["webhooks"][0]]
        return result
    conditions = {item["name"]: item for item in present.get("matchConditions") or ()}
    conditions |= {item["name"]: item for item in wanted.get("matchConditions") or ()}
    client = {**(present.get("clientConfig") or {}), **wanted["clientConfig"]}
    present.update(
        stored(manifest)["webhooks"][0] | {"matchConditions": list(conditions.values()), "clientConfig": client}
    )
    return result


texts = st.sampled_from(["a", "b", "gardener.cloud/role", "app", "static-pod"])
terms = st.builds(
    lambda key, operator: {"key": key, "operator": operator}, texts, st.sampled_from(["Exists", "DoesNotExist"])
)
selectors = st.builds(lambda found: {"matchExpressions": found}, st.lists(terms, max_size=4))
entries = st.fixed_dictionaries(
    {"name": st.sampled_from(["seccomp-profile.resources.gardener.cloud", "another.example.com"])},
    optional={
        "failurePolicy": st.sampled_from(["Fail", "Ignore"]),
        "timeoutSeconds": st.integers(1, 30),
        "reinvocationPolicy": st.sampled_from(["Never", "IfNeeded"]),
        "namespaceSelector": selectors,
        "objectSelector": selectors,
        "matchConditions": st.lists(
            st.builds(lambda name: {"name": name, "expression": "true"}, texts),
            max_size=2,
            unique_by=lambda item: item["name"],
        ),
        "clientConfig": st.one_of(
            st.just({"url": "https://a/b"}), st.just({"service": {"name": "a", "namespace": "b"}}), st.none()
        ),
    },
)
changes = st.lists(entries, max_size=3, unique_by=lambda item: item["name"])
registrations = st.builds(
    Registration,
    excluded_namespaces=st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    skip_typed_pods=st.booleans(),
    reinvocation_policy=st.sampled_from([None, *ReinvocationPolicy]),
    backend=st.sampled_from([Registration().backend, Backend(url="https://a/b")]),
)


@given(registration=registrations, webhooks=changes, merged=st.booleans())
def test_two_writes_are_enough_from_anywhere(registration: Registration, webhooks: list[Any], *, merged: bool) -> None:
    desired = render(registration, ca_bundle=b"ca")
    observed = stored()
    if merged and webhooks:
        observed["webhooks"] = [{**observed["webhooks"][0], **webhooks[0]}, *webhooks[1:]]
    else:
        observed["webhooks"] = webhooks
    for _ in range(3):
        plan = drift.compare(desired=desired, observed=observed)
        if plan.action is Action.NONE:
            return
        assert plan.action in (Action.APPLY, Action.REPLACE)
        observed = applied(plan, observed)
    pytest.fail(f"differs after three writes: {drift.compare(desired=desired, observed=observed)}")


@given(webhooks=changes, labels=st.dictionaries(texts, texts, max_size=3), wanted=st.booleans())
def test_what_is_foreign_is_never_written(webhooks: list[Any], labels: dict[str, str], *, wanted: bool) -> None:
    observed = {"metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "labels": labels}, "webhooks": webhooks}
    plan = drift.compare(desired=DESIRED if wanted else None, observed=observed)
    assert plan.action is (Action.REFUSE if wanted else Action.NONE)
    assert plan.manifest is None
