"""What the gate promises, seen from a pod: through the real API server, with the real server behind it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import pod, profile_of, serving
from tests.cluster.answered import Answered, answered
from tests.cluster.patience import until
from tests.controlplane.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.field import Field

pytestmark = pytest.mark.main

SKIP = "seccompprofile.resources.gardener.cloud/skip"
MANAGED = {"shoot--pods": "shoot", "extension-pods": "extension", "garden-pods": ""}
UNMANAGED = ("plain-pods", "kube-system", "kubernetes-dashboard", "default")
SERIAL = itertools.count(1)


@pytest.fixture
def path(field: Field, tmp_path: Path) -> Iterator[Answered]:
    for namespace, role in MANAGED.items():
        field.plane.ensure_namespace(namespace, {"gardener.cloud/role": role})
    for namespace in UNMANAGED:
        # Gardener labels kube-system too: it is left out by name.
        labels = {"gardener.cloud/role": "kube-system"} if namespace.startswith("kube") else {}
        field.plane.ensure_namespace(namespace)
        field.other.request("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}}, MERGE)
    with answered(field, tmp_path) as found:
        yield found


MERGE = "application/merge-patch+json"


def create(path: Answered, namespace: str, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Create a pod and return it as it is stored."""
    return store(path, namespace, pod(f"pod-{next(SERIAL)}", **metadata))


def store(path: Answered, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    where = f"/api/v1/namespaces/{namespace}/pods"
    path.field.other.request("POST", where, manifest)
    found: dict[str, Any] = path.field.other.request("GET", f"{where}/{manifest['metadata']['name']}")
    return found


def reviews(path: Answered) -> float:
    """Return how many reviews were answered."""
    lines = path.server.page("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if "_reviews_total{" in line)


def test_the_three_preconditions_each_true_and_false(path: Answered) -> None:
    """Managed namespace, no skip label (any value), no type said: only all three together give the profile."""
    path.registered()
    for namespace, skip, typed in itertools.product((*MANAGED, *UNMANAGED), (None, "true", ""), (None, "Unconfined")):
        manifest = pod(f"pod-{next(SERIAL)}", **({} if skip is None else {"labels": {SKIP: skip}}))
        if typed:
            manifest["spec"]["securityContext"] = {"seccompProfile": {"type": typed}}
        expected = "RuntimeDefault" if namespace in MANAGED and skip is None and typed is None else typed
        assert profile_of(store(path, namespace, manifest)) == expected, (namespace, skip, typed)


def test_nothing_else_of_the_pod_changes(path: Answered) -> None:
    manifest = pod("as-it-was", labels={"a": "b"}, annotations={"c": "d"})
    manifest["spec"]["securityContext"] = {"runAsUser": 1000, "fsGroup": 2, "sysctls": [{"name": "a.b", "value": "1"}]}
    manifest["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    before = store(path, "shoot--pods", manifest)
    path.registered()
    manifest["metadata"]["name"] = "as-it-is"
    after = store(path, "shoot--pods", manifest)
    assert after["spec"]["securityContext"].pop("seccompProfile") == {"type": "RuntimeDefault"}
    assert after["spec"] == before["spec"]
    for field_name in ("labels", "annotations"):
        assert after["metadata"][field_name] == before["metadata"][field_name]


def test_only_new_pods_are_mutated_and_an_update_is_never_reviewed(path: Answered) -> None:
    old = create(path, "shoot--pods")
    assert profile_of(old) is None
    path.registered()
    before = reviews(path)
    name = old["metadata"]["name"]
    where = f"/api/v1/namespaces/shoot--pods/pods/{name}"
    changed = path.field.other.request("PATCH", where, {"metadata": {"labels": {"touched": "yes"}}}, MERGE)
    assert profile_of(changed) is None
    path.field.other.request("PATCH", f"{where}/status", {"status": {"message": "x"}}, MERGE)
    path.field.other.request("DELETE", f"{where}?gracePeriodSeconds=0")
    assert reviews(path) == before
    create(path, "shoot--pods")
    assert reviews(path) == before + 1


def test_a_pod_that_says_a_type_does_not_even_cost_a_call(path: Answered) -> None:
    path.registered()
    before = reviews(path)
    manifest = pod(f"pod-{next(SERIAL)}")
    manifest["spec"]["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}}
    store(path, "shoot--pods", manifest)
    assert reviews(path) == before


def test_an_untyped_localhost_profile_is_refused_by_the_api_server_in_its_own_words(path: Answered) -> None:
    path.registered()
    manifest = pod(f"pod-{next(SERIAL)}")
    manifest["spec"]["securityContext"] = {"seccompProfile": {"localhostProfile": "x.json"}}
    with pytest.raises(ApiError, match="seccompProfile"):
        store(path, "shoot--pods", manifest)


def test_a_windows_pod_is_created_as_it_is(path: Answered) -> None:
    path.registered()
    manifest = pod(f"pod-{next(SERIAL)}")
    manifest["spec"]["os"] = {"name": "windows"}
    assert profile_of(store(path, "shoot--pods", manifest)) is None


def test_the_audit_log_says_why(path: Answered) -> None:
    path.registered()
    created = create(path, "shoot--pods")
    where = "/api/v1/namespaces/shoot--pods/pods"
    event = next(
        event
        for event in path.field.plane.audit_events()
        if event["verb"] == "create"
        and event["requestURI"] == where
        and event.get("objectRef", {}).get("name") == created["metadata"]["name"]
    )
    said = {key.rpartition("/")[2]: value for key, value in event["annotations"].items() if "seccomp" in key}
    assert said["reason"] == "defaulted"
    assert said["profile"] == "RuntimeDefault"


def is_refused(path: Answered) -> bool:
    try:
        create(path, "shoot--pods")
    except ApiError as error:
        return "failed calling webhook" in str(error)
    return False


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_without_a_server_the_failure_policy_decides(path: Answered, policy: str) -> None:
    path.registered(failurePolicy=policy)
    path.server.process.stop()
    if policy == "Fail":
        until(lambda: is_refused(path))  # the API server may learn of Fail a moment late
    else:
        assert profile_of(create(path, "shoot--pods")) is None
    # What the webhook is not about is never held up by it.
    assert profile_of(create(path, "plain-pods")) is None
    assert profile_of(create(path, "kube-system")) is None
    assert profile_of(create(path, "shoot--pods", labels={SKIP: ""})) is None
    with serving(path.field.seed, path.volume.folder, port=path.server.port) as again:
        again.wait_ready()
        assert profile_of(create(path, "shoot--pods")) == "RuntimeDefault"
