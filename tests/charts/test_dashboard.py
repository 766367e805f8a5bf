"""Every query of the dashboard is one that Prometheus understands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from tests.promtool import judge
from tests.seed import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DASHBOARD = ROOT / "charts" / "seccomp-reconciler" / "files" / "dashboard.json"


def test_every_query_is_understood(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    # Only Grafana knows this variable.
    rules = [
        {"record": f"query_{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    page = tmp_path / "queries.yaml"
    page.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = judge("check", "rules", page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
