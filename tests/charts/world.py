"""A seed in which charts are installed: control plane with controllers, a node that runs the pods, the real Helm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.controlplane import binaries, pki
from tests.controlplane.errors import ApiError
from tests.controlplane.plane import ControlPlane
from tests.controlplane.versions import parse_version
from tests.helm import CHART, RELEASE, helm
from tests.node.node import Node
from tests.seed import ROOT, Connection, collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.node.pod import Pod

REGISTRATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/seccomp-reconciler"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/garden/leases/seccomp-reconciler"
MANAGED = "shoot--demo"
PATIENCE_SECONDS = 150.0
# Short clocks, as the other tests have them; the chart's own are for people.
QUICK = {
    "server": {"drainDelay": 2, "minReadySeconds": 1},
    "settings": {
        "adaptive": {
            "proofs": 2,
            "soak": "1s",
            "longestSoak": "8s",
            "lossTolerance": "3s",
            "floor": "1s",
            "calm": "20s",
        },
        "leaderElection": {"leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "400ms"},
        "proof": {"period": "1s"},
    },
}


class World:
    """The seed as an operator sees it, with kubectl's rights and Helm."""

    def __init__(self, plane: ControlPlane, node: Node, folder: Path) -> None:
        self.plane = plane
        self.node = node
        self.folder = folder
        self.admin = Connection(plane.admin_kubeconfig)
        self.client_authority = node.directory / "client" / "ca.crt"
        home = {"HOME": str(folder), "KUBECONFIG": str(plane.admin_kubeconfig)}
        self.environment = {**os.environ, **home, "HELM_NO_PLUGINS": "1"}
        plane.ensure_namespace("garden", {"gardener.cloud/role": "garden"})
        plane.ensure_namespace(MANAGED, {"gardener.cloud/role": "shoot"})
        self.create(CRITICAL, *(definition(*one) for one in DEFINED))
        for group, plural, _ in DEFINED:
            self.until(partial(self._serves, f"/apis/{group}/v1/{plural}"), "the new kinds")
        self.until(self._is_complete, "what the controllers make in each namespace")
        time.sleep(1.0)  # and what they do last
        self._baseline = self.everything()

    def writer(self, name: str) -> Connection:
        """Return a connection of another writer, with every right."""
        return Connection(self.plane.kubeconfig_for_user(name, ["system:masters"]))

    def create(self, *manifests: dict[str, Any]) -> None:
        """Create these objects."""
        for manifest in manifests:
            self.admin.request("POST", collection(manifest), manifest)

    def install(self, preset: str, *options: str, values: dict[str, Any] | None = None) -> str:
        """`helm upgrade --install` with short clocks and without waiting; returns what Helm says."""
        return self.helm("upgrade", "--install", RELEASE, str(CHART), *self._with(preset, values), *options)

    def uninstall(self, *options: str) -> str:
        """`helm uninstall`."""
        return self.helm("uninstall", RELEASE, *options)

    def helm(self, *arguments: str) -> str:
        """Run Helm in namespace garden; AssertionError with its words and the pods' logs where it refuses."""
        done = subprocess.run(
            [helm(), *arguments, "--namespace=garden"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.node.logs()}"
        return done.stdout

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the product as the operator at the admin's desk."""
        program = [sys.executable, "-m", "reconciler"]
        return subprocess.run(
            [*program, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON the API server answers
        """Return an object, None where there is none; a connection that was closed for being idle is opened anew."""
        try:
            return self.admin.request("GET", path)
        except (OSError, HTTPException):
            self.admin.http.close()
            return self.admin.request("GET", path)

    def policy(self) -> str | None:
        """Return the failurePolicy that stands, None where no registration stands."""
        found = self.get(REGISTRATION)
        return None if found is None else str(found["webhooks"][0]["failurePolicy"])

    def pod_of_gardener(self, labels: dict[str, str] | None = None) -> dict[str, Any]:
        """Create a pod in a managed namespace, return how it came back, and remove it."""
        manifest = {
            "metadata": {"generateName": "etcd-main-", "labels": labels or {}},
            # It is for nobody's node: what counts is how it was admitted.
            "spec": {"nodeName": "elsewhere", "containers": [{"name": "etcd", "image": "etcd"}]},
        }
        made: dict[str, Any] = self.admin.request("POST", f"/api/v1/namespaces/{MANAGED}/pods", manifest)
        path = f"/api/v1/namespaces/{MANAGED}/pods/{made['metadata']['name']}"
        self.admin.request("DELETE", path, {"gracePeriodSeconds": 0})
        return made

    def until(self, fact: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until `fact` holds; returns how long that took. AssertionError with the pods' logs where it does not."""
        began = time.monotonic()
        while not fact():
            assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}\n{self.node.logs()}"
            time.sleep(0.1)
        return time.monotonic() - began

    def _is_complete(self) -> bool:
        found = self.everything()
        names = [path.rpartition("/")[2] for path in found if path.rpartition("/")[0] == "/api/v1/namespaces"]
        made = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
        return all(f"/api/v1/namespaces/{name}/{one}" in found for name in names for one in made)

    def _serves(self, path: str) -> bool:
        try:
            return self.get(path) is not None
        except ApiError:
            return False  # its storage is being made

    def everything(self) -> set[str]:
        """Return the path of every object that an installation could leave; pods apart, which go a little later."""
        found = set()
        for group, plural in LISTED:
            for one in self.get(f"{group}/{plural}")["items"]:
                namespace = one["metadata"].get("namespace")
                scope = f"/namespaces/{namespace}" if namespace else ""
                found.add(f"{group}{scope}/{plural}/{one['metadata']['name']}")
        return found

    def proofs(self, verdict: str) -> float:
        """Return how many proofs of our reconcilers had that verdict."""
        wanted = f'seccomp_reconciler_proofs_total{{verdict="{verdict}"}} '
        pages = [self.node.page(pod, 8081, "/metrics")[1] for pod in self.running()]
        return sum(
            float(line.removeprefix(wanted)) for page in pages for line in page.splitlines() if line.startswith(wanted)
        )

    def running(self) -> list[Pod]:
        """Return our pods that nobody has asked to end."""
        ours = self.node.of(app="seccomp-reconciler")
        return [pod for pod in ours if not pod.manifest["metadata"].get("deletionTimestamp")]

    def clear(self) -> None:
        """Remove whatever a test left, the way an operator would who has given up on Helm."""
        self.admin.http.close()
        left = self.everything() - self._baseline
        self._delete({path for path in left if path.split("/")[-2] in ("deployments", "replicasets", "jobs")})
        self.until(self._is_swept, "no pod")
        self._delete(self.everything() - self._baseline)
        self.until(lambda: self.everything() == self._baseline and self._is_swept(), "a seed as it was")

    def _is_swept(self) -> bool:
        """Delete what pods there are, which a controller may make again for a while; return whether there were none."""
        pods = self.get("/api/v1/pods")["items"]
        for pod in pods:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            self.admin.request("DELETE", path, {"gracePeriodSeconds": 0})
        return not pods and not self.node.pods

    def _delete(self, paths: set[str]) -> None:
        for path in sorted(paths):
            self.admin.request("DELETE", path, {"propagationPolicy": "Background"})

    def _with(self, preset: str, values: dict[str, Any] | None) -> list[str]:
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(merged(QUICK, values or {})))
        return [f"--values={CHART / 'presets' / preset}.yaml", f"--values={file}"]


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return `other` laid over `one`."""
    found = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


CRITICAL = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "gardener-system-critical"},
    "value": 999998950,
}


def admission_flag(directory: Path) -> str:
    """Return the API server's flag that has it show a client certificate to our webhook, as docs/admission.md says."""
    folder = directory / "client"
    folder.mkdir()
    authority = pki.Authority(folder)
    certificate, key = pki.write_pair(folder, "kube-apiserver", authority.issue_client("kube-apiserver", []))
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    (folder / "kubeconfig").write_text(
        json.dumps(
            {"apiVersion": "v1", "kind": "Config", "users": [{"name": "seccomp-reconciler.garden.svc", "user": user}]}
        )
    )
    webhooks = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": str(folder / "kubeconfig"),
    }
    plugin = {"name": "MutatingAdmissionWebhook", "configuration": webhooks}
    (folder / "admission.json").write_text(
        json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [plugin]})
    )
    return f"--admission-control-config-file={folder / 'admission.json'}"


# Kinds that gardenlet brings to a seed: any content will do here.
DEFINED = (
    ("monitoring.coreos.com", "servicemonitors", "ServiceMonitor"),
    ("monitoring.coreos.com", "prometheusrules", "PrometheusRule"),
    ("autoscaling.k8s.io", "verticalpodautoscalers", "VerticalPodAutoscaler"),
)
LISTED = (
    ("/apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
    ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    ("/apis/scheduling.k8s.io/v1", "priorityclasses"),
    ("/apis/networking.k8s.io/v1", "networkpolicies"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
    ("/apis/coordination.k8s.io/v1", "leases"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "replicasets"),
    ("/apis/batch/v1", "jobs"),
    *((f"/apis/{group}/v1", plural) for group, plural, _ in DEFINED),
    *(("/api/v1", plural) for plural in ("namespaces", "services", "serviceaccounts", "configmaps", "secrets")),
)


def definition(group: str, plural: str, kind: str) -> dict[str, Any]:
    """Return a CustomResourceDefinition without a schema."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


@contextmanager
def world(found: binaries.Binaries, controller_manager: Path | None = None) -> Iterator[World]:
    """Start everything; nothing stays."""
    manager = controller_manager or binaries.controller_manager(parse_version(str(found.version)))
    with (
        Node() as node,
        ControlPlane.start_from(
            found, extra_flags=(*node.flags, admission_flag(node.directory)), controller_manager=manager
        ) as plane,
        tempfile.TemporaryDirectory(prefix="seccomp-world-") as folder,
    ):
        node.serve(plane)
        yield World(plane, node, Path(folder))
