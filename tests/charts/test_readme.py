"""The three blocks of the README that install us, word for word, with every clock as it is by default."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests import kustomize
from tests.charts.test_sidecar_render import fixture
from tests.seed import ROOT

if TYPE_CHECKING:
    from tests.charts.world import World

SECTION = (ROOT / "README.md").read_text().partition("\n## In a seed\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)


@pytest.mark.parametrize("number", range(3), ids=["sidecar", "standalone", "job"])
def test_the_readme_installs_it(seed_world: World, tmp_path: Path, number: int) -> None:
    assert len(BLOCKS) == 3
    others = [dict(one) for key, one in fixture().items() if key[0] != "PriorityClass"]
    chart = tmp_path / "gardenlet"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: gardenlet\nversion: 0.0.1\n")
    (chart / "values.yaml").write_text("{}")
    (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(others))
    if number == 1:
        seed_world.create(*others)  # gardenlet is there already, and nobody changes it
    program = Path(kustomize.command()[0]).parent
    environment = {
        **seed_world.environment,
        "PATH": f"{Path(sys.executable).parent}:{program}:{os.environ['PATH']}",
        "IMAGE": "seccomp-reconciler",
        "TAG": "0.1.0",
        "GARDENLET_CHART": str(chart),
        "GARDENLET_VALUES": str(chart / "values.yaml"),
    }
    done = subprocess.run(
        ["bash", "-eu", "-c", BLOCKS[number]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{seed_world.node.logs()}"
    seconds = seed_world.until(lambda: seed_world.policy() == "Fail", "Fail", seconds=150.0)
    print(f"Fail {seconds:.1f} s after the block was over")
    assert seed_world.pod_of_gardener()["spec"]["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
