"""The metrics of `run`: conventions of the exposition, bounds on labels, and the table in docs/metrics.md."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from reconciler import errors
from reconciler.controller.keeping import Why
from reconciler.controller.proof import Verdict
from reconciler.controller.reconcile import Result
from reconciler.registration.drift import Action
from reconciler.registration.memory import State
from reconciler.telemetry import metrics as room
from reconciler.telemetry.metrics import Certificate, Input, Metrics, table

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
MARKED = re.compile(r"<!-- begin: python -m reconciler\.telemetry\.metrics -->\n(.*)<!-- end -->\n", re.DOTALL)
PREFIX = "seccomp_reconciler_"
WRITING = {Action.CREATE, Action.APPLY, Action.REPLACE, Action.DELETE}


def families(metrics: Metrics) -> dict[str, Metric]:
    """Return what /metrics shows of ours, parsed."""
    text = generate_latest(metrics.registry).decode()
    return {one.name: one for one in text_string_to_metric_families(text) if one.name.startswith(PREFIX)}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(f"{PREFIX}{name}", labels)
    return found


def test_the_page_holds_the_table() -> None:
    """Renew it with `python -m reconciler.telemetry.metrics`."""
    found = MARKED.search(PAGE.read_text())
    assert found is not None
    assert found[1] == table()


def test_the_table_names_every_metric_that_is_shown() -> None:
    metrics = Metrics()
    metrics.wars_are([("somebody", "webhooks[0].rules")])
    metrics.drifted("webhooks[0].rules", "somebody")
    shown = families(metrics)
    # The parser takes _total off a counter's name, as OpenMetrics names the family.
    named = {one.name.removesuffix("_total"): one for one in metrics.definitions}
    assert shown.keys() == named.keys()
    for name, family in shown.items():
        assert family.type == named[name].kind
        assert set(named[name].labels) == {label for one in family.samples for label in one.labels} - {"le"}


def test_names_follow_the_conventions() -> None:
    for name, family in families(Metrics()).items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|count|sum|bucket)$", name), name
        if family.type == "counter":
            assert all(one.name == f"{name}_total" for one in family.samples), name
        else:
            assert not name.endswith("_total"), name
        if re.search("duration|age|timestamp|expiry", name):
            assert name.endswith("_seconds"), name


def test_closed_sets_are_the_controllers() -> None:
    assert set(room.VERDICTS) == set(Verdict)
    assert set(room.STATES) == {"Absent", *State}
    assert set(room.ACTIONS) == WRITING
    assert set(room.REASONS) == set(Why)
    assert set(room.RESULTS) == {"failed", *Result}


def test_series_of_closed_sets_exist_from_the_start() -> None:
    metrics = Metrics()
    for one in metrics.definitions:
        if not all(one.labels.values()):
            continue
        name = f"{one.name.removeprefix(PREFIX)}{'_count' if one.kind == 'histogram' else ''}"
        assert value(metrics, name, **{label: values[0] for label, values in one.labels.items()}) is not None, name
    assert value(metrics, "errors_total", kind="ForbiddenError") == 0
    assert len(families(metrics)[f"{PREFIX}writes"].samples) == len(room.ACTIONS) * len(room.REASONS)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("fail_open_pods", {}),
        ("unprofiled_pods_outside_windows", {}),
        ("failure_policy_last_change_timestamp_seconds", {}),
        ("certificate_expiry_timestamp_seconds", {"certificate": "authority"}),
        ("certificate_expiry_timestamp_seconds", {"certificate": "serving"}),
        ("certificate_not_before_timestamp_seconds", {"certificate": "authority"}),
    ],
)
def test_what_is_not_known_is_nan(name: str, labels: dict[str, str]) -> None:
    found = value(Metrics(), name, **labels)
    assert found is not None
    assert math.isnan(found)


def test_one_failure_policy_stands_at_a_time() -> None:
    metrics = Metrics()
    for state in ("Ignore", "Fail", "Absent"):
        metrics.failure_policy_is(state, since=None if state == "Absent" else 1_700_000_000.0, flaps=2)
        assert {one: value(metrics, "failure_policy", state=one) for one in room.STATES} == {
            one: float(one == state) for one in room.STATES
        }
        assert value(metrics, "failure_policy_flaps") == 2
    assert math.isnan(value(metrics, "failure_policy_last_change_timestamp_seconds") or 0.0)


def test_only_a_proof_moves_the_time_of_success() -> None:
    metrics = Metrics()
    metrics.proof_ended(Verdict.PROVED, seconds=0.02, at=1000.0)
    metrics.proof_ended(Verdict.UNREACHABLE, seconds=12.0, at=2000.0)
    assert value(metrics, "proof_last_success_timestamp_seconds") == 1000.0
    assert value(metrics, "proofs_total", verdict="unreachable") == 1
    assert value(metrics, "proof_duration_seconds_count") == 2
    assert value(metrics, "proof_duration_seconds_sum") == pytest.approx(12.02)


def test_what_the_loop_tells_is_counted() -> None:
    metrics = Metrics()
    metrics.pass_ended(Result.UPDATED, seconds=0.1)
    metrics.wrote(Action.REPLACE, Why.REPAIRED)
    metrics.failed(errors.ForbiddenError("no right"))
    metrics.retries.inc()
    metrics.configuration_errors[Input.CA].inc()
    metrics.configuration_unreadable[Input.CA].set(True)
    metrics.certificate_is(Certificate.SERVING, not_before=1000.0, not_after=3000.0)
    metrics.leader.set(True)
    age = 7.5
    metrics.queue_age.set_function(lambda: age)
    assert value(metrics, "passes_total", result="updated") == 1
    assert value(metrics, "writes_total", action="replace", reason="repaired") == 1
    assert value(metrics, "errors_total", kind="ForbiddenError") == 1
    assert value(metrics, "retries_total") == 1
    assert value(metrics, "configuration_errors_total", input="ca") == 1
    assert value(metrics, "configuration_unreadable", input="ca") == 1
    assert value(metrics, "configuration_unreadable", input="settings") == 0
    assert value(metrics, "certificate_not_before_timestamp_seconds", certificate="serving") == 1000.0
    assert value(metrics, "certificate_expiry_timestamp_seconds", certificate="serving") == 3000.0
    assert value(metrics, "leader") == 1
    assert value(metrics, "queue_age_seconds") == 7.5
    age = 0.0
    assert value(metrics, "queue_age_seconds") == 0


def test_drift_is_counted_without_indices_and_by_the_first_characters_of_the_manager() -> None:
    metrics = Metrics()
    metrics.drifted("webhooks[0].matchConditions[not-typed]", "m" * 128)
    metrics.drifted("webhooks[1].matchConditions[other]", "m" * 70)
    metrics.drifted("metadata.labels[app.kubernetes.io/name]", 'a "quoted"\nname')
    assert value(metrics, "drift_total", field="webhooks.matchConditions", manager="m" * 63) == 2
    assert value(metrics, "drift_total", field="metadata.labels", manager='a "quoted"\nname') == 1
    assert len(families(metrics)[f"{PREFIX}drift"].samples) == 2


def test_managers_who_name_themselves_anew_each_time_make_no_more_series() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.drifted("webhooks[0].rules", f"manager-{number}")
    metrics.drifted("webhooks[0].rules", "manager-0")
    assert len(families(metrics)[f"{PREFIX}drift"].samples) == 101
    assert value(metrics, "drift_total", field="other", manager="other") == 900
    assert value(metrics, "drift_total", field="webhooks.rules", manager="manager-0") == 2


def test_a_war_shows_while_it_lasts() -> None:
    metrics = Metrics()
    argo, aks = ("argo", "webhooks[0].failurePolicy"), ("aks", "webhooks[0].namespaceSelector")
    for sides, shown in (
        ([argo, aks], {("argo", "webhooks.failurePolicy"), ("aks", "webhooks.namespaceSelector")}),
        ([argo], {("argo", "webhooks.failurePolicy")}),
        ([], set()),
    ):
        metrics.wars_are(sides)
        samples = families(metrics)[f"{PREFIX}conflict"].samples
        assert {(one.labels["manager"], one.labels["field"]) for one in samples} == shown
        assert all(one.value == 1 for one in samples)


def test_many_wars_are_still_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    metrics.wars_are((f"manager-{number}", "webhooks[0].rules") for number in range(300))
    assert len(families(metrics)[f"{PREFIX}conflict"].samples) == 101
    assert value(metrics, "conflict", manager="other", field="other") == 1
