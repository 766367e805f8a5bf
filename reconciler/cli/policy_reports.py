"""An audit as policy reports, one for each namespace, for Policy Reporter and its like. Pure.

A result is one workload: `fail` where one of its pods is unprotected. Example: `kubectl apply --server-side -f -` takes
what `audit --output openreports` prints.

Two kinds hold the same fields. Sources: config/crd/openreports.io_reports.yaml of openreports/reports-api at 769d978,
policy-report/crd/v1alpha2/wgpolicyk8s.io_policyreports.yaml of kubernetes-sigs/wg-policy-prototypes at 25056e1. Policy
Reporter, at 4e5e05b, reads these two versions, and of `resources` the first alone (pkg/openreports/result.go). A report
has no `scope`: it would filter by its kind instead of the results' own (pkg/report/source_filter.go). It tells results
apart by `properties.resultID`, else by a hash without the namespace (pkg/report/result/id_generator.go).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

from reconciler.pods.audit import Audit, Restart, Tally, Workload
from reconciler.pods.coverage import Verdict
from reconciler.pods.exposure import CAUSES, Cause
from reconciler.registration.identity import ANNOTATION_PREFIX

SOURCE: Final = "seccomp-reconciler"
POLICY: Final = "default-seccomp-profile"
RULE: Final = "pods-name-a-profile"
OMITTED: Final = f"{ANNOTATION_PREFIX}omitted-results"
# etcd takes 1.5 MiB for each request; managedFields and the API server's own form of the object need room as well.
MAX_REPORT_BYTES: Final = 1_000_000
_API_VERSIONS: Final = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Pod": "v1",
    "ReplicationController": "v1",
}


class Kind(StrEnum):
    """Which kind of report; the value is what --output calls it."""

    REPORT = "openreports"
    POLICY_REPORT = "policyreport"


class Result(StrEnum):
    """The outcome for one workload, in the order in which results are kept where not all of them fit."""

    FAIL = "fail"
    ERROR = "error"
    WARN = "warn"
    PASS = "pass"  # noqa: S105 - no password
    SKIP = "skip"


# Group, version and plural.
RESOURCES: Final = {
    Kind.REPORT: ("openreports.io", "v1alpha1", "reports"),
    Kind.POLICY_REPORT: ("wgpolicyk8s.io", "v1alpha2", "policyreports"),
}
_KIND: Final = {Kind.REPORT: "Report", Kind.POLICY_REPORT: "PolicyReport"}
_SEVERITY: Final = {Result.FAIL: "medium", Result.WARN: "low"}


def as_list(found: Audit, kind: Kind, *, now: float) -> str:
    """Return a List of reports, one for each namespace that has pods, as JSON; `now` is in seconds since the epoch."""
    reports = ",\n".join(json.dumps(one) for one in _reports(found, kind, now))
    return f'{{"apiVersion": "v1", "kind": "List", "items": [\n{reports}\n]}}\n'


def _reports(found: Audit, kind: Kind, now: float) -> Iterator[dict[str, Any]]:
    restarts = {one.workload: one for _, group in found.restarts() for one in group}
    by_namespace: dict[str, list[dict[str, Any]]] = {}
    for workload, tally in sorted(found.by_workload.items()):
        is_known = workload.namespace not in found.unknown_namespaces
        one = _result(workload, tally, restarts.get(workload), is_known=is_known)
        one["timestamp"] = {"seconds": int(now), "nanos": 0}
        by_namespace.setdefault(workload.namespace, []).append(one)
    for namespace, results in by_namespace.items():
        yield _report(namespace, results, kind)


def _report(namespace: str, results: list[dict[str, Any]], kind: Kind) -> dict[str, Any]:
    counts = Counter(one["result"] for one in results)
    order = list(Result)
    kept = _fitting(sorted(results, key=lambda one: order.index(Result(one["result"]))))
    omitted = len(results) - len(kept)
    return {
        "apiVersion": "/".join(RESOURCES[kind][:2]),
        "kind": _KIND[kind],
        "metadata": {
            "name": SOURCE,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": SOURCE},
            **({"annotations": {OMITTED: str(omitted)}} if omitted else {}),
        },
        # PolicyReport names the source in each result alone.
        **({"source": SOURCE} if kind is Kind.REPORT else {}),
        "summary": {one.value: counts[one.value] for one in Result},
        "results": kept,
    }


def _fitting(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    room = MAX_REPORT_BYTES
    for index, one in enumerate(results):
        room -= len(json.dumps(one))
        if room < 0:
            return results[:index]
    return results


def _result(workload: Workload, tally: Tally, restart: Restart | None, *, is_known: bool) -> dict[str, Any]:
    result = _outcome(tally, is_known=is_known)
    resource = {"kind": workload.kind, "namespace": workload.namespace, "name": workload.name}
    if api_version := _API_VERSIONS.get(workload.kind):
        resource = {"apiVersion": api_version, **resource}
    properties = {
        "pods": tally.pods,
        "protected": tally.verdicts[Verdict.PROTECTED],
        "exempt": tally.verdicts[Verdict.EXEMPT],
        "unprotected": tally.unprotected,
        "unconfined": tally.unconfined,
        "privileged": tally.with_privileged,
    }
    return {
        "source": SOURCE,
        "policy": POLICY,
        "rule": RULE,
        "category": "Seccomp",
        **({"severity": _SEVERITY[result]} if result in _SEVERITY else {}),
        "result": result.value,
        "scored": True,
        "message": f"{workload}: {_words(tally, result)}",
        "resources": [resource],
        "properties": {
            "resultID": _identity(workload, result),
            **{key: str(value) for key, value in properties.items()},
            **({"restart": restart.command or restart.advice} if restart else {}),
        },
    }


def _identity(workload: Workload, result: Result) -> str:
    """Return what stays the same while the workload and its outcome do: a new one is news to a consumer."""
    text = f"{workload.namespace}/{workload.kind}/{workload.name}/{POLICY}/{RULE}/{result.value}"
    # A file's JSON may hold half of a surrogate pair.
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def _outcome(tally: Tally, *, is_known: bool) -> Result:
    if tally.unprotected:
        return Result.FAIL if is_known else Result.ERROR
    if tally.unconfined:
        return Result.WARN
    return Result.PASS if tally.verdicts[Verdict.PROTECTED] else Result.SKIP


def _words(tally: Tally, result: Result) -> str:
    match result:
        case Result.FAIL:
            causes = (f"{count} {CAUSES[Cause(cause)]}" for cause, count in tally.causes.most_common())
            words = f"{tally.unprotected} of {tally.pods} pods are unprotected ({', '.join(causes)})"
        case Result.ERROR:
            words = (
                f"{tally.unprotected} of {tally.pods} pods name no profile; "
                "whether they should is not known, as the labels of their namespace are not given"
            )
        case Result.WARN:
            words = f"{tally.unconfined} of {tally.pods} pods ask for Unconfined themselves"
        case _:
            reasons = (f"{count} {reason}" for reason, count in tally.reasons.most_common())
            words = f"{tally.pods} of {tally.pods} pods are protected or exempt ({', '.join(reasons)})"
    privileged = tally.with_privileged
    return words + (f"; {privileged} with a privileged container, which runs Unconfined" if privileged else "")
