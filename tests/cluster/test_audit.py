"""`audit` and `explain` against the real API server, with exactly the documented rights."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import pod
from tests.cluster.answered import Answered, answered
from tests.cluster.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.field import Field

SHOOT = "shoot--audit"
SKIP = "seccompprofile.resources.gardener.cloud/skip"


@pytest.fixture
def path(field: Field, tmp_path: Path) -> Iterator[Answered]:
    field.plane.ensure_namespace(SHOOT, {"gardener.cloud/role": "shoot"})
    field.plane.ensure_namespace("audit-plain")
    with answered(field, tmp_path) as found:
        yield found


def create(path: Answered, namespace: str, name: str, **metadata: Any) -> None:  # noqa: ANN401 - JSON
    path.field.other.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod(name, **metadata))


def test_an_old_pod_is_unprotected_and_a_new_one_protected(path: Answered) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "etcd-main", "uid": "u", "controller": True}
    create(path, SHOOT, "old", ownerReferences=[owner])
    path.registered()
    create(path, SHOOT, "new")
    typed = pod("typed")
    typed["spec"]["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}}
    path.field.other.request("POST", f"/api/v1/namespaces/{SHOOT}/pods", typed)
    create(path, SHOOT, "skipped", labels={SKIP: ""})
    create(path, "audit-plain", "elsewhere")
    done = path.command("audit", "--output", "json", "--fail-on", "unprotected", "-n", SHOOT, "-n", "audit-plain")
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert {one["namespace"]: one["reasons"] for one in found["namespaces"]} == {
        SHOOT: {"pod-field": 2, "skip-label": 1},
        "audit-plain": {"namespace-not-selected": 1},
    }
    assert found["summary"]["unprotected"] == 1
    assert (found["summary"]["protectedAtAdmission"], found["summary"]["protectedByOwnSpec"]) == (1, 1)
    assert found["restarts"][0]["workloads"][0]["command"] == (
        f"kubectl --namespace {SHOOT} rollout restart statefulset/etcd-main"
    )
    selected = json.loads(path.command("audit", "--output", "json").stdout)
    assert "audit-plain" not in {one["namespace"] for one in selected["namespaces"]}
    every = json.loads(path.command("audit", "--output", "json", "--all-namespaces").stdout)
    assert "audit-plain" in {one["namespace"] for one in every["namespaces"]}
    absent = path.command("audit", "-n", "nowhere")
    assert (absent.returncode, "nowhere" in absent.stderr) == (66, True)


def test_explain_tells_a_stored_pod_from_the_next_one(path: Answered) -> None:
    create(path, SHOOT, "older")
    born = int(time.time())
    until(lambda: int(time.time()) > born)  # the API server keeps whole seconds: the same one would tell nothing
    path.registered()
    create(path, SHOOT, "newer")

    def explained(*arguments: str) -> tuple[int, str]:
        done = path.field.seed.command("explain", *arguments, "-n", SHOOT, "--config", str(path.settings))
        return done.returncode, done.stdout + done.stderr

    code, text = explained("pod/older")
    assert code == 1
    assert "older than the registration. Created again now, it gets RuntimeDefault." in text
    assert explained("pod/newer")[0] == 0
    assert "the pod names the profile RuntimeDefault" in explained("pod/newer")[1]
    assert explained("pod/nowhere")[0] == 66
    assert explained("service/a")[0] == 64
    code, text = explained("deployment/api")
    assert code == 77  # our ServiceAccount may read gardenlet's alone: the operator's own kubeconfig does it
    assert "deployments" in text
    template = {"metadata": {"labels": {"a": "b", SKIP: ""}}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    path.field.other.request(
        "POST", f"/apis/apps/v1/namespaces/{SHOOT}/deployments", {"metadata": {"name": "api"}, "spec": spec}
    )
    admin = ("--kubeconfig", str(path.field.plane.admin_kubeconfig))
    code, text = explained("deployment/api", *admin)
    assert code == 0, text
    assert f"The next pod of deployment/api in namespace {SHOOT} is exempt: it has the skip label." in text
