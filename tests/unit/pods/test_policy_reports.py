"""Audits as policy reports: one for each namespace, with results that fit into etcd and a summary that counts all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.cli import policy_reports
from reconciler.cli.policy_reports import Kind
from tests.unit.pods.test_audit import START, TYPED, audited, everything, invoke, owned, pod

UNCONFINED = {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}
PRIVILEGED = {**TYPED, "containers": [{"name": "c", "securityContext": {"privileged": True}}]}
SKIP: dict[str, Any] = {"labels": {"seccompprofile.resources.gardener.cloud/skip": ""}}


def reports(*pods: dict[str, Any], kind: Kind = Kind.REPORT) -> list[dict[str, Any]]:
    listed = json.loads(policy_reports.as_list(audited(*pods), kind, now=START + 0.5))
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    found: list[dict[str, Any]] = listed["items"]
    return found


@pytest.mark.parametrize(
    ("pods", "result", "words"),
    [
        (
            [pod("a", **owned("StatefulSet", "w")), pod("b", at=150, spec=TYPED, **owned("StatefulSet", "w"))],
            "fail",
            "statefulset/w: 1 of 2 pods are unprotected (1 older than the registration)",
        ),
        ([pod(spec=UNCONFINED)], "warn", "pod/p: 1 of 1 pods ask for Unconfined themselves"),
        ([pod(spec=TYPED)], "pass", "pod/p: 1 of 1 pods are protected or exempt (1 pod-field)"),
        (
            [pod(spec=PRIVILEGED)],
            "pass",
            "pod/p: 1 of 1 pods are protected or exempt (1 pod-field); 1 with a privileged container, which runs Unconfined",  # noqa: E501 - one message
        ),
        ([pod(**SKIP)], "skip", "pod/p: 1 of 1 pods are protected or exempt (1 skip-label)"),
        (
            [pod(namespace="new")],
            "error",
            "pod/p: 1 of 1 pods name no profile; whether they should is not known, as the labels of their namespace are not given",  # noqa: E501 - one message
        ),
    ],
    ids=["fail", "warn", "pass", "privileged", "skip", "error"],
)
def test_a_result_is_one_workload_with_its_outcome(pods: list[dict[str, Any]], result: str, words: str) -> None:
    (report,) = reports(*pods)
    (found,) = report["results"]
    assert (found["result"], found["message"]) == (result, words)
    assert {key: count for key, count in report["summary"].items() if count} == {result: 1}


def test_a_report_has_a_stable_name_in_its_namespace_and_names_what_to_restart() -> None:
    report, other = reports(pod(**owned("StatefulSet", "etcd-main")), pod(namespace="shoot--a--c", spec=TYPED))
    assert (report["apiVersion"], report["kind"], report["source"]) == (
        "openreports.io/v1alpha1",
        "Report",
        "seccomp-reconciler",
    )
    assert report["metadata"] == {
        "name": "seccomp-reconciler",
        "namespace": "shoot--a--b",
        "labels": {"app.kubernetes.io/managed-by": "seccomp-reconciler"},
    }
    (found,) = report["results"]
    assert (found["source"], found["policy"], found["rule"], found["severity"]) == (
        "seccomp-reconciler",
        "default-seccomp-profile",
        "pods-name-a-profile",
        "medium",
    )
    assert found["timestamp"] == {"seconds": int(START), "nanos": 0}
    assert found["resources"] == [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": "shoot--a--b", "name": "etcd-main"}
    ]
    assert found["properties"]["restart"] == "kubectl --namespace shoot--a--b rollout restart statefulset/etcd-main"
    assert set(map(type, found["properties"].values())) == {str}
    assert other["metadata"]["namespace"] == "shoot--a--c"


def test_a_result_has_an_identity_until_its_outcome_changes() -> None:
    def identity(*pods: dict[str, Any]) -> str:
        return str(reports(*pods)[0]["results"][0]["properties"]["resultID"])

    owner = owned("StatefulSet", "w")
    first = identity(pod("a", **owner))
    assert identity(pod("b", at=150, **owner), pod("c", **owner)) == first
    others = [
        pod("a", spec=TYPED, **owner),
        pod("a", "shoot--a--c", **owner),
        pod("a", **owned("DaemonSet", "w")),
        pod("a", **owned("StatefulSet", "x")),
        pod("a", **owned("StatefulSet", "\ud800")),
    ]
    assert len({first, *(identity(one) for one in others)}) == 6


def test_a_policy_report_names_its_source_in_the_results_alone() -> None:
    (report,) = reports(pod(), kind=Kind.POLICY_REPORT)
    assert (report["apiVersion"], report["kind"]) == ("wgpolicyk8s.io/v1alpha2", "PolicyReport")
    assert "source" not in report
    assert report["results"][0]["source"] == "seccomp-reconciler"


def test_a_large_namespace_fits_into_etcd_and_its_summary_counts_what_is_left_out() -> None:
    names = [f"{index:04}-{'n' * 200}" for index in range(2000)]
    fine = [pod(name, spec=TYPED) for name in names[:1900]]
    (report,) = reports(*fine, *(pod(name) for name in names[1900:]))
    assert len(json.dumps(report)) < 1_200_000
    assert report["summary"] == {"fail": 100, "error": 0, "warn": 0, "pass": 1900, "skip": 0}
    kept = [one["result"] for one in report["results"]]
    assert kept.count("fail") == 100
    omitted = report["metadata"]["annotations"]["seccomp-reconciler.gardener.cloud/omitted-results"]
    assert int(omitted) + len(kept) == 2000


@pytest.mark.parametrize(("output", "kind"), [("openreports", "Report"), ("policyreport", "PolicyReport")])
def test_a_file_gives_reports_of_the_kind_that_is_asked_for(output: str, kind: str) -> None:
    text = json.dumps({"kind": "List", "items": everything()})
    code, out, err = invoke("-f", "-", "--output", output, "--fail-on", "unprotected", given=text)
    assert (code, err) == (1, "")
    assert [one["kind"] for one in json.loads(out)["items"]] == [kind]
