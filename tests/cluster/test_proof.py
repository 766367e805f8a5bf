"""Proof through the real API server: each verdict is brought about by what it stands for."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.backend import pod, serving
from tests.cluster.answered import Answered, answered
from tests.cluster.patience import until
from tests.cluster.rights import account, given
from tests.controlplane.errors import ApiError
from tests.controlplane.servers import free_port
from tests.foreign import ForeignServer
from tests.seed import CANARY, COLLECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.field import Field

pytestmark = pytest.mark.main

UPSTREAM: Final = Path(__file__).with_name("upstream.yaml")
MERGE = "application/merge-patch+json"
NAMESPACE = f"/api/v1/namespaces/{CANARY}"
QUOTA = f"{NAMESPACE}/resourcequotas"
FULL = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}


@pytest.fixture
def path(field: Field, tmp_path: Path) -> Iterator[Answered]:
    with answered(field, tmp_path) as found:
        yield found


def proof(path: Answered, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = path.command("prove", "--output", "json", *arguments)
    assert done.returncode in (0, 75), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


@contextmanager
def without_quota(path: Answered) -> Iterator[None]:
    """Take the quota of no pods away: then the API server returns the pod."""
    path.field.other.request("DELETE", f"{QUOTA}/{CANARY}")
    try:
        yield
    finally:
        quota = {"metadata": {"name": CANARY}, "spec": {"hard": {"pods": "0"}}}
        path.field.other.request("POST", QUOTA, quota)
        path.field.other.request("PATCH", f"{QUOTA}/{CANARY}/status", FULL, MERGE)


@contextmanager
def labelled(path: Answered, **labels: str | None) -> Iterator[None]:
    """Change labels of the canary's namespace for a while."""
    before = path.field.other.request("GET", NAMESPACE)["metadata"]["labels"]
    names = {name.replace("__", "-").replace("_io_", ".kubernetes.io/"): value for name, value in labels.items()}
    path.field.other.request("PATCH", NAMESPACE, {"metadata": {"labels": names}}, MERGE)
    try:
        yield
    finally:
        path.field.other.request("PATCH", NAMESPACE, {"metadata": {"labels": before}}, MERGE)


@contextmanager
def another_webhook(path: Answered, name: str, url: str, *, ca: bytes | None = None, **entry: Any) -> Iterator[None]:  # noqa: ANN401 - JSON
    """Register somebody else's webhook for the canary's namespace."""
    bundle = base64.b64encode(ca or path.field.plane.ca_pem).decode()
    path.field.create(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": "seccomp-profile.resources.gardener.cloud",
                    "clientConfig": {"url": url, "caBundle": bundle},
                    "rules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                    ],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": CANARY}},
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    **entry,
                }
            ],
        }
    )
    try:
        yield
    finally:
        path.field.other.request("DELETE", f"{COLLECTION}/{name}")


@pytest.mark.parametrize("quota", [True, False])
def test_proved_by_our_server_with_and_without_the_quota(path: Answered, *, quota: bool) -> None:
    path.registered()
    if quota:
        code, found = proof(path)
    else:
        with without_quota(path):
            code, found = proof(path)
    fingerprint = path.server.process.events("certificate.loaded")[-1]["fingerprint"]
    assert code == 0
    assert (found["verdict"], found["witness"], found["skipLabel"]) == ("proved", "our-server", "left-alone")
    assert found["certificate"] == fingerprint


def test_a_quota_without_a_status_is_read_through_too(path: Answered) -> None:
    """Until kube-controller-manager has counted, the quota refuses in other words."""
    path.registered()
    with without_quota(path):
        path.field.other.request("POST", QUOTA, {"metadata": {"name": CANARY}, "spec": {"hard": {"pods": "0"}}})
        assert proof(path)[1]["witness"] == "our-server"
        path.field.other.request("DELETE", f"{QUOTA}/{CANARY}")


@pytest.mark.parametrize("quota", [True, False])
def test_not_mutated_without_a_registration(path: Answered, *, quota: bool) -> None:
    if quota:
        code, found = proof(path)
    else:
        with without_quota(path):
            code, found = proof(path)
    assert (code, found["verdict"], found["skipLabel"]) == (75, "not-mutated", "left-alone")
    assert "not registered" in found["words"]


def test_not_mutated_where_pod_security_does_not_enforce_and_the_pod_comes_back(path: Answered) -> None:
    with without_quota(path), labelled(path, pod__security_io_enforce=None):
        code, found = proof(path)
        assert (code, found["verdict"], found["words"]) == (75, "not-mutated", "the pod came back without a profile")


def test_not_mutated_when_the_webhook_fails_open(path: Answered) -> None:
    path.registered(failurePolicy="Ignore")
    path.server.process.stop()
    code, found = proof(path)
    assert (code, found["verdict"]) == (75, "not-mutated")
    assert "failed open" in found["words"]


def test_unreachable_when_it_fails_closed_with_the_api_servers_words(path: Answered) -> None:
    path.registered(failurePolicy="Fail")
    path.server.process.stop()
    code, found = proof(path)
    assert (code, found["verdict"], found["skipLabel"]) == (75, "unreachable", "left-alone")
    assert "connection refused" in found["words"]


def test_unreachable_when_the_ca_does_not_fit(path: Answered) -> None:
    path.registered(failurePolicy="Fail")
    wrong = base64.b64encode(path.field.plane.ca_pem).decode()
    path.field.patch(("replace", "/webhooks/0/clientConfig/caBundle", wrong))
    found = proof(path)[1]
    assert found["verdict"] == "unreachable"
    assert "certificate signed by unknown authority" in found["words"]


def test_another_webhook_that_is_out_of_reach_is_neither_proof_nor_loss(path: Answered) -> None:
    """Gardenlet's own entry has the same name as ours: the address tells them apart."""
    path.registered()
    nobody = f"https://127.0.0.1:{free_port()}/webhooks/seccomp-profile"
    with another_webhook(path, "gardener-resource-manager", nobody, failurePolicy="Fail"):
        code, found = proof(path)
    assert (code, found["verdict"]) == (75, "inconclusive")
    assert nobody in found["words"]


@pytest.mark.parametrize("gate", [True, False])
def test_probe_is_conclusive_while_gardener_resource_manager_is_away(path: Answered, *, gate: bool) -> None:
    """With its gate on or off: its webhook `projected-token-mount` is Fail in the namespace of the canary, too."""
    path.registered(failurePolicy="Fail")
    upstream = yaml.safe_load(UPSTREAM.read_text())
    if not gate:
        upstream["webhooks"] = [one for one in upstream["webhooks"] if not one["name"].startswith("seccomp-profile.")]
    for webhook in upstream["webhooks"]:
        webhook["clientConfig"]["caBundle"] = base64.b64encode(path.field.plane.ca_pem).decode()
    path.field.create(upstream)
    try:
        # The API server enforces it by now: every other pod of that namespace is refused.
        until(lambda: "projected-token-mount" in refused(path))
        code, found = proof(path)
        assert (code, found["verdict"], found["witness"], found["skipLabel"]) == (
            0,
            "proved",
            "our-server",
            "left-alone",
        )
        path.server.process.stop()
        code, found = proof(path)
        assert (code, found["verdict"], found["skipLabel"]) == (75, "unreachable", "left-alone")
    finally:
        path.field.other.request("DELETE", f"{COLLECTION}/{upstream['metadata']['name']}")


def refused(path: Answered) -> str:
    """Return why the API server refuses a pod without labels in the namespace of the canary."""
    with pytest.raises(ApiError) as refusal:
        path.field.other.request("POST", f"{NAMESPACE}/pods?dryRun=All", restricted())
    return str(refusal.value)


def test_another_webhook_that_takes_the_profile_away_is_told(path: Answered) -> None:
    path.registered()
    pair = path.field.plane.issue_serving_certificate()
    with ForeignServer(pair, kind="Unconfined") as other, another_webhook(path, "zz-later", other.url):
        code, found = proof(path)
    assert (code, found["verdict"]) == (75, "not-mutated")
    assert "took it away" in found["words"]


@pytest.mark.parametrize(("quota", "witness"), [(True, "pod-security"), (False, "returned-pod")])
def test_a_foreign_backend_is_proved_without_a_nonce_and_the_verdict_says_so(
    path: Answered, witness: str, *, quota: bool
) -> None:
    plane = path.field.plane
    with ForeignServer(plane.issue_serving_certificate()) as other:
        backend = {"url": other.url}
        path.configure(registration={"backend": backend, "ca": {"file": str(path.field.seed.ca)}})
        assert path.command("reconcile").returncode == 0
        if quota:
            code, found = proof(path)
        else:
            with without_quota(path):
                code, found = proof(path)
    assert (code, found["verdict"], found["witness"], found["certificate"]) == (0, "proved", witness, None)
    assert "no nonce" in found["words"]


def test_a_pod_with_the_skip_label_that_is_mutated_spoils_the_proof(path: Answered) -> None:
    path.registered()
    pair = path.field.plane.issue_serving_certificate()
    with ForeignServer(pair) as other, another_webhook(path, "greedy", other.url):
        with without_quota(path):
            code, found = proof(path)
        assert (code, found["verdict"], found["skipLabel"]) == (75, "proved", "mutated")
        code, found = proof(path)
        assert (code, found["verdict"], found["skipLabel"]) == (75, "inconclusive", "unknown")
        assert "so did the one with the skip label" in found["words"]


def test_without_the_quota_of_no_pods_nor_pod_security_a_foreign_backend_proves_nothing(path: Answered) -> None:
    """The quota answers for everybody; where PodSecurity would let an unmutated pod pass, it is no witness."""
    plane = path.field.plane
    with ForeignServer(plane.issue_serving_certificate()) as other:
        path.configure(registration={"backend": {"url": other.url}, "ca": {"file": str(path.field.seed.ca)}})
        assert path.command("reconcile").returncode == 0
        with labelled(path, pod__security_io_enforce=None):
            code, found = proof(path)
    assert (code, found["verdict"]) == (75, "inconclusive")


def test_a_missing_namespace_is_inconclusive_and_says_what_to_do(path: Answered) -> None:
    path.configure(proof={"namespace": "seccomp-elsewhere", "period": "1s"})
    done = path.command("prove")
    assert done.returncode in (75, 77)  # nothing may be created there, or there is no such namespace
    account = path.field.seed.kubeconfig
    admin = path.command("prove", "--kubeconfig", str(path.field.plane.admin_kubeconfig))
    assert admin.returncode == 75
    assert "apply config/canary.yaml" in admin.stdout
    assert account.exists()


def test_without_the_right_to_create_the_canary_it_ends_with_77(path: Answered) -> None:
    limited = account(path.field, "without-the-canary", given("config/rbac.yaml"))
    done = path.command("prove", "--kubeconfig", str(limited))
    assert done.returncode == 77
    assert "resources: [pods], verbs: [create]" in done.stderr


def test_nothing_is_persisted_and_the_token_creates_no_pod(path: Answered) -> None:
    path.registered()
    assert proof(path)[0] == 0
    assert path.field.other.request("GET", f"{NAMESPACE}/pods")["items"] == []
    from tests.seed import Connection  # noqa: PLC0415 - as the thief of the token

    with Connection(path.field.seed.kubeconfig) as thief:
        with pytest.raises(ApiError, match="exceeded quota"):
            thief.request("POST", f"{NAMESPACE}/pods", restricted())
        for where in ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/garden/pods"):
            with pytest.raises(ApiError, match="cannot create resource"):
                thief.request("POST", where, pod("x"))


def restricted() -> dict[str, Any]:
    found = pod("thief")
    found["spec"]["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    found["spec"]["containers"][0]["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    return found


def test_reconcile_wait_ends_with_75_where_nobody_answers_and_waits_for_a_server(path: Answered) -> None:
    path.server.process.stop()
    done = path.command("reconcile", "--wait", "--timeout", "3")
    assert done.returncode == 75
    assert "not proved within 3 s: not-mutated" in done.stderr
    results = []
    waiting = threading.Thread(target=lambda: results.append(path.command("reconcile", "--wait", "--timeout", "60")))
    waiting.start()
    time.sleep(2)
    with serving(path.field.seed, path.volume.folder, port=path.server.port):
        waiting.join()
    assert results[0].returncode == 0, results[0].stderr
    assert "proved: our server answered" in results[0].stdout


def test_reconcile_wait_has_nothing_to_prove_where_the_gate_is_off(path: Answered) -> None:
    path.server.process.stop()
    path.field.seed.configure("apiVersion: gardenlet.config.gardener.cloud/v1alpha1\nkind: GardenletConfiguration\n")
    done = path.command("reconcile", "--wait", "--timeout", "5")
    assert (done.returncode, done.stderr) == (0, "")
