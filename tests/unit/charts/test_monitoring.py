"""Alerts and dashboard name what the product exports, and each alert says what to do; promtool is not asked here."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from reconciler.admission import metrics as admission
from reconciler.telemetry import metrics as telemetry
from tests.helm import CHART, PRESETS, HelmError, helm, render
from tests.seed import ROOT

if TYPE_CHECKING:
    from reconciler.registration.identity import Manifest

RULES: Final = [
    rule for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: Final = json.loads((CHART / "files" / "dashboard.json").read_text())
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES: Final = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
}
PAGE: Final = (ROOT / "docs" / "alerts.md").read_text()
# What Prometheus adds to each series.
TARGET_LABELS: Final = {"instance", "pod", "le"}
KEYWORDS: Final = {
    "and",
    "or",
    "unless",
    "on",
    "by",
    "ignoring",
    "without",
    "group_left",
    "group_right",
    "bool",
    "offset",
}
GROUPING: Final = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")
SELECTOR: Final = re.compile(r"([a-z_][a-z0-9_]*)\{([^}]*)\}")
MATCHER: Final = re.compile(r'([a-z_]+)(!?=)"([^"]*)"')


def exported() -> dict[str, list[dict[str, str]]]:
    """Return the labels of every series that `run` and `serve` export, by its name; `run` in a war with somebody."""
    reconciler = telemetry.Metrics()
    reconciler.wars_are([("somebody", "webhooks[0].rules")])
    reconciler.drifted("webhooks[0].rules", "somebody")
    processes = CollectorRegistry()
    ProcessCollector(registry=processes)
    PlatformCollector(registry=processes)
    found: dict[str, list[dict[str, str]]] = {}
    for registry in (reconciler.registry, admission.Metrics().registry, processes):
        for family in registry.collect():
            for one in family.samples:
                found.setdefault(one.name, []).append(one.labels)
    return found


EXPORTED: Final = exported()


def names(query: str) -> set[str]:
    """Return the metrics that a query asks for: its words that are no function, keyword, label or text."""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", GROUPING.sub("", query))
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", plain)) - KEYWORDS


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_query_names_metrics_labels_and_values_that_exist(query: str) -> None:
    assert names(query)
    assert names(query) <= EXPORTED.keys()
    for name, matchers in SELECTOR.findall(query):
        for label, _, value in MATCHER.findall(matchers):
            assert value in {labels.get(label) for labels in EXPORTED[name]}, (name, label, value)
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",") if label.strip()}
    known = {label for name in names(query) for labels in EXPORTED[name] for label in labels}
    assert grouped <= known | TARGET_LABELS


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('sum by (le) (rate(a_bucket{x="y"}[5m])) > 0', {"a_bucket"}),
        ("max(a and on (instance) b == 1) unless c", {"a", "b", "c"}),
        ("rate(a[$__rate_interval]) * on (instance) group_left (version) b", {"a", "b"}),
    ],
)
def test_metrics_are_found_in_a_query(query: str, found: set[str]) -> None:
    assert names(query) == found


def leaders_gauges() -> set[str]:
    """Return the gauges of `run` that only the leader keeps current."""
    everybodys = {"leader", "build_info"}
    gauges = {one.name for one in telemetry.Metrics().definitions if one.kind == "gauge"}
    return gauges - {f"seccomp_reconciler_{name}" for name in everybodys}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_gauges_that_only_the_leader_keeps_are_asked_of_the_leader(query: str) -> None:
    if names(query) & leaders_gauges():
        assert "on (instance) seccomp_reconciler_leader == 1" in query


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"SeccompReconciler[A-Z][A-Za-z]+", rule["alert"])
    severity = rule["labels"]["severity"]
    assert severity in {"blocker", "critical", "warning"}
    assert rule["labels"] == {
        "severity": severity,
        "type": "seed",
        "service": "seccomp-reconciler",
        "visibility": "operator",
    }
    assert rule["for"]
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(rule["annotations"].values())
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    section = re.search(rf"^## {rule['alert']}\n\n\*\*{severity}\.\*\* .*?^Now", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None, "docs/alerts.md has a section that says its severity, what it means, and what to do now"
    assert "\n## " not in section[0]


def test_the_page_has_no_other_alerts() -> None:
    assert set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_alerts_are_told_apart_by_their_names() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_the_dashboard_can_be_loaded_by_plutono() -> None:
    assert DASHBOARD["schemaVersion"] == 27, "Grafana 7.5, which Plutono is; newer ones migrate it"
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource"]
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in PANELS:
        assert panel["datasource"] == "${datasource}"
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


# What the chart makes of them

MONITORED: Final = {"monitoring": {"enabled": True}}
SIZED: Final = {"verticalPodAutoscaler": {"enabled": True}}
KINDS: Final = {"ServiceMonitor", "PrometheusRule", "VerticalPodAutoscaler"}


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def is_dashboard(manifest: Manifest) -> bool:
    return bool(manifest["metadata"]["name"] == "seccomp-reconciler-dashboard")


def metrics_services(manifests: list[Manifest]) -> list[Manifest]:
    """Return the Services in front of metrics."""
    found = of_kind(manifests, "Service")
    return [one for one in found if any(port["name"] == "metrics" for port in one["spec"]["ports"])]


def selects(monitor: Manifest, service: Manifest) -> bool:
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    return bool(wanted <= service["metadata"]["labels"].items())


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_nothing_is_monitored_unless_it_is_asked_for(preset: str) -> None:
    manifests = render(preset, values={"monitoring": {"enabled": False}, "verticalPodAutoscaler": {"enabled": False}})
    assert not of_kind(manifests, *KINDS)
    assert not any(map(is_dashboard, manifests))


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_whoever_runs_is_scraped_and_nobody_else(preset: str) -> None:
    """A scrape pool without a target makes Gardener call its Prometheus unhealthy."""
    manifests = render(preset, values=MONITORED)
    monitors, services = of_kind(manifests, "ServiceMonitor"), metrics_services(manifests)
    assert monitors
    for monitor in monitors:
        assert any(selects(monitor, service) for service in services), monitor["metadata"]["name"]
        assert [one["port"] for one in monitor["spec"]["endpoints"]] == ["metrics"]
        assert monitor["metadata"]["labels"]["prometheus"] == "aggregate"
        assert monitor["metadata"]["name"].startswith("aggregate-seccomp-reconciler")
        assert monitor["metadata"]["namespace"] == "garden"
    for service in services:
        assert [selects(monitor, service) for monitor in monitors].count(True) == 1, service["metadata"]["name"]


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_only_who_runs_is_missed(preset: str) -> None:
    manifests = render(preset, values=MONITORED)
    scraped = {one["metadata"]["name"] for one in of_kind(manifests, "ServiceMonitor")}
    (rule,) = of_kind(manifests, "PrometheusRule")
    groups = {group["name"] for group in rule["spec"]["groups"]}
    assert groups == {name.removeprefix("aggregate-") for name in scraped}


def test_alerts_are_those_of_the_file() -> None:
    (rule,) = of_kind(render(values=MONITORED), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert rule["metadata"]["name"] == "aggregate-seccomp-reconciler"
    assert rule["metadata"]["labels"]["prometheus"] == "aggregate"


def test_alerts_point_to_where_the_page_is_kept() -> None:
    where = "https://docs.example.org/alerts.md"
    values = {"monitoring": {"enabled": True, "prometheusRule": {"runbooks": where}}}
    (rule,) = of_kind(render(values=values), "PrometheusRule")
    found = {
        one["alert"]: one["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for one in group["rules"]
    }
    assert found == {name: f"{where}#{name.lower()}" for name in found}
    assert len(found) == len(RULES)


def test_the_dashboard_is_that_of_the_file() -> None:
    (found,) = filter(is_dashboard, render(values=MONITORED))
    assert found["metadata"]["labels"]["dashboard.monitoring.gardener.cloud/seed"] == "true"
    ((name, text),) = found["data"].items()
    assert name == "seccomp-reconciler.json"
    assert json.loads(text) == DASHBOARD


@pytest.mark.parametrize("part", ["serviceMonitor", "prometheusRule", "dashboard"])
def test_each_part_can_be_left_out(part: str) -> None:
    def names(values: dict[str, Any]) -> set[tuple[str, str]]:
        found = render(values=values)
        return {(one["kind"], one["metadata"]["name"]) for one in found if one["kind"] in KINDS or is_dashboard(one)}

    whole, less = names(MONITORED), names({"monitoring": {"enabled": True, part: {"enabled": False}}})
    assert less < whole
    assert {kind for kind, _ in whole - less} == {
        {"serviceMonitor": "ServiceMonitor", "prometheusRule": "PrometheusRule", "dashboard": "ConfigMap"}[part]
    }


def test_another_prometheus_is_a_label_and_a_name() -> None:
    values = {
        "monitoring": {"enabled": True, "labels": {"prometheus": "garden"}, "serviceMonitor": {"interval": "30s"}}
    }
    for one in of_kind(render(values=values), "ServiceMonitor", "PrometheusRule"):
        assert one["metadata"]["name"].startswith("garden-seccomp-reconciler")
        assert one["metadata"]["labels"]["prometheus"] == "garden"
        if one["kind"] == "ServiceMonitor":
            assert one["spec"]["endpoints"] == [{"port": "metrics", "interval": "30s"}]


def test_a_prometheus_that_is_told_by_other_labels_gives_no_name() -> None:
    values = {"monitoring": {"enabled": True, "labels": {"prometheus": None, "release": "monitoring"}}}
    found = of_kind(render(values=values), "ServiceMonitor", "PrometheusRule")
    assert {one["metadata"]["name"] for one in found} == {"seccomp-reconciler", "seccomp-reconciler-server"}
    assert all(one["metadata"]["labels"]["release"] == "monitoring" for one in found)


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_each_of_our_deployments_is_sized(preset: str) -> None:
    manifests = render(preset, values=SIZED)
    deployments = {one["metadata"]["name"]: one for one in of_kind(manifests, "Deployment")}
    found = {one["spec"]["targetRef"]["name"]: one for one in of_kind(manifests, "VerticalPodAutoscaler")}
    assert found.keys() == deployments.keys()
    for name, one in found.items():
        assert one["metadata"]["name"] == name
        assert one["spec"]["targetRef"]["kind"] == "Deployment"
        assert one["spec"]["updatePolicy"] == {"updateMode": "Recreate"}
        ours, others = one["spec"]["resourcePolicy"]["containerPolicies"]
        (container,) = deployments[name]["spec"]["template"]["spec"]["containers"]
        assert ours["containerName"] == container["name"]
        assert ours["controlledValues"] == "RequestsOnly"
        assert ours["minAllowed"]["memory"] == container["resources"]["requests"]["memory"]
        assert others == {"containerName": "*", "mode": "Off"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"verticalPodAutoscaler": {"updateMode": "Always"}}, "updateMode"),
        ({"verticalPodAutoscaler": {"minAllowed": {"server": {"memory": "much"}}}}, "memory"),
        ({"verticalPodAutoscaler": {"minAllowed": {"server": {"disk": "1Gi"}}}}, "disk"),
        ({"monitoring": {"enable": True}}, "enable"),
        ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "interval"),
        ({"monitoring": {"labels": {"prometheus": 1}}}, "prometheus"),
    ],
)
def test_wrong_values_are_refused_by_their_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=said):
        render(values=values)


@pytest.mark.parametrize("values", [{}, {**MONITORED, **SIZED}], ids=["off", "on"])
def test_helm_lint_has_no_complaint(values: dict[str, Any]) -> None:
    argv = [str(helm()), "lint", "--strict", str(CHART), "--namespace=garden", "--values=-"]
    done = subprocess.run(argv, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
