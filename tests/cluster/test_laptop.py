"""Commands on a laptop, which has a kubeconfig and nothing else: the installed release has the settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from tests.backend import pod
from tests.cluster.answered import answered
from tests.cluster.field import document
from tests.cluster.test_reconcile import gardenlet_deployment
from tests.seed import MANAGED, PROGRAM, completed

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.cluster.field import Field

CONFIG_MAPS = "/api/v1/namespaces/garden/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/garden/deployments"
POD = f"/api/v1/namespaces/{MANAGED}/pods/laptop"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/garden/leases/seccomp-reconciler"


def test_without_config_the_release_in_the_cluster_is_read(field: Field, tmp_path: Path) -> None:
    kept = {key: value for key, value in field.seed.environment.items() if not key.startswith("SECCOMP_")}
    environment = {**kept, "KUBECONFIG": str(field.plane.admin_kubeconfig)}

    def laptop(*arguments: str) -> subprocess.CompletedProcess[str]:
        return completed([str(PROGRAM), *arguments], environment, field.seed.zygote)

    with answered(field, tmp_path) as path:
        nothing = laptop("status")
        assert nothing.returncode == 66
        assert f"in namespace garden at {field.plane.url} (context " in nothing.stderr
        path.registered()
        settings = {
            **yaml.safe_load(path.settings.read_text()),
            "gardenletConfiguration": {"deployment": {"namespace": "garden", "name": "gardenlet"}},
        }
        release = {"metadata": {"name": "seccomp-reconciler"}, "data": {"config.yaml": yaml.safe_dump(settings)}}
        config = {"metadata": {"name": "gardenlet-config-1a2b"}, "data": {"config.yaml": document(gate="true")}}
        field.put(CONFIG_MAPS, release)
        field.put(CONFIG_MAPS, config)
        field.put(DEPLOYMENTS, gardenlet_deployment("gardenlet-config-1a2b"))
        try:
            before = json.loads(laptop("audit", "-n", MANAGED, "--output", "json").stdout)["summary"]
            field.other.request("POST", POD.rpartition("/")[0], pod("laptop"))
            shown = json.loads(laptop("status", "--output", "json").stdout)
            conditions = {one["type"]: one["status"] for one in shown["conditions"]}
            assert (conditions["GateEnabled"], conditions["Registered"], conditions["Proved"]) == ("True",) * 3
            same = laptop("diff")
            assert (same.returncode, same.stdout) == (0, ""), same.stderr
            explained = laptop("explain", "pod/laptop", "-n", MANAGED)
            assert (explained.returncode, explained.stderr) == (0, ""), explained.stdout
            after = json.loads(laptop("audit", "-n", MANAGED, "--output", "json").stdout)["summary"]
            assert after["protected"] == before["protected"] + 1
            assert after["unprotected"] == before["unprotected"], "pods of other tests may be there"
            paused = laptop("pause", "--for", "1h", "--reason", "a rollout", "--timeout", "1")
            assert paused.stdout.startswith("paused until"), paused.stderr
            assert laptop("resume").stdout == "resumed\n"
            elsewhere = laptop("status", "--namespace", "default")
            assert elsewhere.returncode == 66
        finally:
            objects = [f"{CONFIG_MAPS}/{one['metadata']['name']}" for one in (release, config)]
            for one in (*objects, f"{DEPLOYMENTS}/gardenlet", POD, LEASE):
                field.other.request("DELETE", one)
