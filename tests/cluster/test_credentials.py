"""A credential plugin that needs to know its cluster, on a real API server: the contract of Gardener's kubeconfigs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import yaml

from reconciler.cluster import NAMESPACES, Cluster, Target
from reconciler.kube.credential_plugin import EXTENSION

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.plane import ControlPlane

PLUGIN = """\
import base64, json, os, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
if info["spec"]["cluster"]["config"] != {"shootRef": {"namespace": "garden", "name": "seed"}}:
    sys.exit("the extension is missing")
user = json.load(open(sys.argv[1]))
parts = (("clientCertificateData", "client-certificate-data"), ("clientKeyData", "client-key-data"))
status = {ours: base64.b64decode(user[theirs]).decode() for ours, theirs in parts}
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


async def test_a_plugin_that_needs_its_cluster_gives_a_client_certificate(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    document = yaml.safe_load(control_plane.admin_kubeconfig.read_text())
    (tmp_path / "user").write_text(json.dumps(document["users"][0]["user"]))
    (tmp_path / "plugin.py").write_text(PLUGIN)
    extension = {"shootRef": {"namespace": "garden", "name": "seed"}}
    document["clusters"][0]["cluster"]["extensions"] = [{"name": EXTENSION, "extension": extension}]
    document["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(tmp_path / "plugin.py"), str(tmp_path / "user")],
            "interactiveMode": "IfAvailable",
            "provideClusterInfo": True,
        }
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    async with Cluster(kubeconfig=tmp_path / "kubeconfig", login_timeout_seconds=60) as cluster:
        found = await cluster.get(Target(NAMESPACES, "default"))
    assert found is not None
    assert found["metadata"]["name"] == "default"
