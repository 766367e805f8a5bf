"""Who wrote what, as managedFields tell."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.registration import writers
from reconciler.registration.writers import UNKNOWN, Writer

OURS = "seccomp-reconciler"
KEY = "seccomp-reconciler.gardener.cloud/failure-policy"
FAILURE_POLICY: dict[str, Any] = {"f:webhooks": {'k:{"name":"a"}': {"f:failurePolicy": {}}}}
CA: dict[str, Any] = {"f:webhooks": {'k:{"name":"a"}': {"f:clientConfig": {"f:caBundle": {}}}}}


def written(*entries: tuple[str | None, int, Any]) -> dict[str, Any]:
    """Return an object that these managers wrote, at these minutes of an hour."""
    fields = [
        {"manager": manager, "time": f"2027-01-15T08:{minute:02}:00Z", "fieldsV1": names}
        for manager, minute, names in entries
    ]
    return {"metadata": {"managedFields": fields}}


@pytest.mark.parametrize(
    "observed", [None, {}, {"metadata": None}, {"metadata": {}}, {"metadata": {"managedFields": None}}], ids=str
)
def test_nobody_tells(observed: Any) -> None:  # noqa: ANN401 - a manifest
    assert writers.last_foreign(observed) is None
    assert writers.last_writer(observed) is None
    assert writers.of_field(observed, "webhooks[0].failurePolicy") == UNKNOWN


def test_the_last_of_all_and_the_last_of_the_others() -> None:
    observed = written(("kubectl", 1, {}), ("aks", 7, {}), ("argo", 3, {}), (OURS, 9, {}))
    assert writers.last_foreign(observed) == Writer("aks", 1_800_000_420)
    assert writers.last_writer(observed) == Writer(OURS, 1_800_000_540)
    assert writers.last_foreign(written((OURS, 9, {}))) is None


def test_what_an_entry_does_not_say() -> None:
    observed = {"metadata": {"managedFields": [{}, {"manager": "a", "time": "soon", "fieldsV1": None}]}}
    assert writers.last_writer(observed) == Writer(UNKNOWN, 0)
    assert writers.last_foreign({"metadata": {"managedFields": observed["metadata"]["managedFields"][1:]}}) == Writer(
        "a", 0
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("webhooks[0].failurePolicy", "aks"),
        ("webhooks[0].clientConfig.caBundle", "cert-manager"),
        ("webhooks[0].matchConditions[a]", "argo"),
        ("webhooks[0].timeoutSeconds", OURS),
        ("webhooks[0]", "argo"),
        ("webhooks[1]", "argo"),
        (f"metadata.annotations[{KEY}]", "kubectl"),
        ("metadata.annotations[a.b/c[0]]", "labeller"),
        ("metadata.labels[team]", "labeller"),
        ("webhooks[0].rules", "argo"),
        ("metadata.labels[gone]", "argo"),
        ("deleted", "argo"),
    ],
)
def test_the_holder_of_a_field_is_who_wrote_it_last_besides_us(path: str, expected: str) -> None:
    """Who removed a field holds it no more: then it is the last one who wrote anything."""
    observed = written(
        (OURS, 30, {**FAILURE_POLICY, "f:metadata": {"f:annotations": {f"f:{KEY}": {}}}, "f:timeoutSeconds": {}}),
        ("kubectl", 1, {"f:metadata": {"f:annotations": {f"f:{KEY}": {}}}}),
        ("labeller", 8, {"f:metadata": {"f:annotations": {"f:a.b/c[0]": {}}, "f:labels": {"f:team": {}}}}),
        ("old", 2, FAILURE_POLICY),
        ("aks", 5, FAILURE_POLICY),
        ("cert-manager", 3, CA),
        ("argo", 9, {"f:webhooks": {'k:{"name":"a"}': {"f:matchConditions": {'k:{"name":"a"}': {".": {}}}}}}),
    )
    assert writers.of_field(observed, path) == expected
