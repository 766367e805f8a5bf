"""What `run` and `serve` really show, on a real API server: promtool has no complaint, the chart asks for no more."""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.cluster.enforced import House, Running, housed
from tests.cluster.field import document
from tests.cluster.patience import until
from tests.controlplane.plane import ControlPlane
from tests.promtool import judge
from tests.seed import ROOT, seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.binaries import Binaries

FILES = ROOT / "charts" / "seccomp-reconciler" / "files"
# Shown while there is a war, and from the first drift on.
RARE = {"seccomp_reconciler_conflict", "seccomp_reconciler_drift_total"}


@pytest.fixture(scope="module")
def house(controlplane_binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A seed of its own with a server; the gate is on."""
    with (
        ControlPlane.start_from(controlplane_binaries) as plane,
        seed(plane) as stage,
        housed(stage, tmp_path_factory.mktemp("house")) as found,
    ):
        found.serve()
        yield found


@pytest.fixture(scope="module")
def reconciler(house: House) -> Iterator[Running]:
    """A reconciler that has raised it to Fail."""
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        yield running


def page(reconciler: Running) -> str:
    (listening,) = reconciler.log("run.listening")
    with urllib.request.urlopen(f"http://127.0.0.1:{listening['status_port']}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def samples(text: str) -> set[str]:
    return set(re.findall(r"^[a-z_]+", text, re.MULTILINE))


def test_promtool_has_no_complaint(house: House, reconciler: Running) -> None:
    for text in (page(reconciler), house.serve().page("/metrics")[1]):
        done = judge("check", "metrics", stdin=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_that_alerts_and_dashboard_ask_for_is_shown(house: House, reconciler: Running) -> None:
    shown = samples(page(reconciler)) | samples(house.serve().page("/metrics")[1])
    for name in ("alerts.yaml", "dashboard.json"):
        asked = set(re.findall(r"\b(?:seccomp_reconciler|process|python)_[a-z_]+", (FILES / name).read_text()))
        assert asked - RARE <= shown, name


def test_the_leader_knows_what_alerts_look_at(reconciler: Running) -> None:
    until(lambda: reconciler.metric("leader") == 1, told=reconciler.words)
    until(lambda: reconciler.metric('failure_policy{state="Fail"}') == 1, told=reconciler.words)
    until(lambda: reconciler.metric("fail_open") == 0, told=reconciler.words)
    for which in ("authority", "serving"):
        label = f'{{certificate="{which}"}}'
        start = reconciler.metric(f"certificate_not_before_timestamp_seconds{label}")
        end = reconciler.metric(f"certificate_expiry_timestamp_seconds{label}")
        assert start < reconciler.metric("proof_last_success_timestamp_seconds") < end


def test_an_unreadable_configuration_is_shown_for_as_long_as_it_lasts(house: House, reconciler: Running) -> None:
    def shown(value: int) -> bool:
        return reconciler.metric('configuration_unreadable{input="configuration"}') == value

    until(lambda: shown(0), told=reconciler.words)
    house.seed.configure("featureGates: [")
    until(lambda: shown(1), told=reconciler.words)
    house.seed.configure(document(gate="true"))
    until(lambda: shown(0), told=reconciler.words)
    assert reconciler.metric('configuration_errors_total{input="configuration"}') >= 1


def test_unreadable_settings_are_shown_for_as_long_as_they_last(house: House, reconciler: Running) -> None:
    def shown(value: int) -> bool:
        return reconciler.metric('configuration_unreadable{input="settings"}') == value

    good = house.settings.read_text()
    house.settings.write_text("{")
    until(lambda: shown(1), told=reconciler.words)
    house.settings.write_text(good)
    until(lambda: shown(0), told=reconciler.words)
