"""`audit --output openreports`: the API server takes what is printed, of the kind that is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.backend import pod
from tests.cluster.definitions import defined
from tests.cluster.patience import until

if TYPE_CHECKING:
    import subprocess

    from tests.cluster.field import Field

NAMESPACE = "shoot--reports"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
APPLY = "application/apply-patch+yaml"


def typed(kind: str) -> dict[str, Any]:
    return {"type": kind}


def shaped(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


TEXT, NUMBER = typed("string"), typed("integer")
OUTCOMES = ("pass", "fail", "warn", "error", "skip")
REFERENCE = shaped(apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT)
RESULT = shaped(
    source=TEXT,
    policy=TEXT,
    rule=TEXT,
    category=TEXT,
    severity={"type": "string", "enum": ["critical", "high", "low", "medium", "info"]},
    result={"type": "string", "enum": list(OUTCOMES)},
    scored=typed("boolean"),
    message=TEXT,
    timestamp=shaped(seconds=NUMBER, nanos=NUMBER),
    resources={"type": "array", "items": REFERENCE},
    properties={"type": "object", "additionalProperties": TEXT},
)
# The fields that are written, of the published schemas that reconciler/cli/policy_reports.py names.
POLICY_REPORT = {
    "summary": shaped(**dict.fromkeys(OUTCOMES, NUMBER)),
    "results": {"type": "array", "items": {**RESULT, "required": ["policy"]}},
}
REPORT = {**POLICY_REPORT, "source": TEXT}


def audited(field: Field) -> subprocess.CompletedProcess[str]:
    return field.seed.command("audit", "-n", NAMESPACE, "--output", "openreports")


def applied(field: Field, root: str, plural: str) -> dict[str, Any]:
    """Apply the one report as kubectl does; unknown fields are refused."""
    done = audited(field)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["items"]
    path = f"{root}/namespaces/{NAMESPACE}/{plural}/{report['metadata']['name']}"
    query = "fieldManager=kubectl&force=true&fieldValidation=Strict"
    found: dict[str, Any] = field.other.request("PATCH", f"{path}?{query}", report, APPLY)
    assert {key: found[key] for key in report if key != "metadata"} == {
        key: report[key] for key in report if key != "metadata"
    }
    return found


def test_the_installed_kind_is_printed_and_taken(field: Field) -> None:
    field.plane.ensure_namespace(NAMESPACE, {"gardener.cloud/role": "shoot"})
    for name in ("one", "two"):
        field.other.request("POST", PODS, pod(name))
    done = audited(field)
    assert (done.returncode, json.loads(done.stdout)["items"][0]["kind"]) == (0, "Report")
    assert "neither reports.openreports.io nor policyreports.wgpolicyk8s.io is installed" in done.stderr
    with defined(field.other, "PolicyReport", "wgpolicyk8s.io", "v1alpha2", POLICY_REPORT) as root:
        assert applied(field, root, "policyreports")["kind"] == "PolicyReport"
        with defined(field.other, "Report", "openreports.io", "v1alpha1", REPORT) as openreports:
            report = applied(field, openreports, "reports")
            assert (report["kind"], report["summary"]["fail"]) == ("Report", 2)
            field.other.request("DELETE", f"{PODS}/one?gracePeriodSeconds=0")
            until(lambda: field.other.request("GET", f"{PODS}/one") is None)
            again = applied(field, openreports, "reports")
            assert again["metadata"]["uid"] == report["metadata"]["uid"]
            assert [one["resources"][0]["name"] for one in again["results"]] == ["two"]
