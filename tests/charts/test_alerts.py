"""Every alert of the chart fires when it should, and only then: Prometheus' own promtool judges rules and cases."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.charts.alertcases import CASES, Case
from tests.promtool import judge
from tests.seed import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "charts" / "seccomp-reconciler" / "files" / "alerts.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}


def expected(case: Case) -> list[dict[str, dict[str, str]]]:
    """Return the alert that fires, with its labels and its annotations in words."""
    if case.firing is None:
        return []

    def said(found: re.Match[str]) -> str:
        return case.value if found[1] == "value" else (case.firing or {})[found[1].removeprefix("labels.")]

    rule = ALERTS[case.alert]
    annotations = {
        name: re.sub(r"\{\{ \$([a-z.]+)[ |a-zA-Z]*\}\}", said, text) for name, text in rule["annotations"].items()
    }
    return [{"exp_labels": {**rule["labels"], **case.firing}, "exp_annotations": annotations}]


def test_the_rules_are_rules() -> None:
    done = judge("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.parametrize(("alert", "minutes"), sorted({(case.alert, case.interval_minutes) for case in CASES}))
def test_cases_with_a_sample_each_so_many_minutes(alert: str, minutes: int, tmp_path: Path) -> None:
    """The one rule is judged, not all of them each time; promtool names the cases that fail."""
    rules, page = tmp_path / "rules.yaml", tmp_path / "cases.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [ALERTS[alert]]}]}))
    tests = [
        {
            "name": case.name,
            "interval": f"{minutes}m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [{"eval_time": f"{case.minutes}m", "alertname": alert, "exp_alerts": expected(case)}],
        }
        for case in CASES
        if (case.alert, case.interval_minutes) == (alert, minutes)
    ]
    document = {"rule_files": [str(rules)], "evaluation_interval": f"{minutes}m", "tests": tests}
    page.write_text(yaml.safe_dump(document, sort_keys=False))
    done = judge("test", "rules", page)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.firing is not None} == ALERTS.keys()
    assert {case.alert for case in CASES if case.firing is None} == ALERTS.keys()


def test_every_alert_is_silent_at_first_and_where_it_asks_for_the_leader_for_a_former_one() -> None:
    silent = {(case.alert, case.why) for case in CASES if case.firing is None}
    for name, rule in ALERTS.items():
        assert any(
            name == alert and ("new" in why or "for a shift" in why or "soak" in why) for alert, why in silent
        ), name
        if "seccomp_reconciler_leader == 1" in rule["expr"]:
            assert (name, "for a former leader") in silent
