"""The audit: what is counted where, what is to be restarted, and what a file may hold; without kubernetes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from reconciler.cli.audit import audit as command
from reconciler.errors import ReconcilerError
from reconciler.pods import audit
from reconciler.pods.audit import Audit, Workload
from reconciler.pods.coverage import Verdict
from reconciler.pods.exposure import Registered
from reconciler.registration import memory
from reconciler.registration.desired import render
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import Registration
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = render(Registration(), ca_bundle=None)["webhooks"][0]
START = 1_800_000_000.0
MEMORY = Memory(State.FAIL, START, "probes", windows=(Window(START + 100, START + 200, "certificate expired"),))
REGISTERED = Registered(ENTRY, MEMORY, START - 100)
ROLE = {"gardener.cloud/role": "shoot"}
NAMESPACES = {"shoot--a--b": ROLE, "shoot--a--c": ROLE, "garden": ROLE, "plain": {}}
TYPED = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}


def pod(
    name: str = "p",
    namespace: str = "shoot--a--b",
    *,
    at: float = -500,
    spec: dict[str, Any] | None = None,
    **more: Any,  # noqa: ANN401 - JSON
) -> dict[str, Any]:
    about = {"name": name, "namespace": namespace, "creationTimestamp": utc(START + at), **more}
    return {"kind": "Pod", "metadata": about, "spec": {"containers": [{"name": "c"}], **(spec or {})}}


def owned(kind: str, name: str, *, hash_label: str = "") -> dict[str, Any]:
    labels = {"labels": {"pod-template-hash": hash_label}} if hash_label else {}
    return {"ownerReferences": [{"kind": kind, "name": name, "controller": True}], **labels}


def audited(*pods: dict[str, Any], registered: Registered = REGISTERED) -> Audit:
    found = Audit(registered, NAMESPACES)
    for one in pods:
        found.add(one)
    return found


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Workload("shoot--a--b", "Pod", "p")),
        (owned("ReplicaSet", "api-6d4c", hash_label="6d4c"), Workload("shoot--a--b", "Deployment", "api")),
        (owned("ReplicaSet", "api-6d4c", hash_label="other"), Workload("shoot--a--b", "ReplicaSet", "api-6d4c")),
        (owned("ReplicaSet", "api-6d4c"), Workload("shoot--a--b", "ReplicaSet", "api-6d4c")),
        (owned("StatefulSet", "etcd-main"), Workload("shoot--a--b", "StatefulSet", "etcd-main")),
        (owned("Job", "backup-1"), Workload("shoot--a--b", "Job", "backup-1")),
        ({"ownerReferences": [{"kind": "Other", "name": "o"}]}, Workload("shoot--a--b", "Other", "o")),
    ],
)
def test_the_owner_is_told_from_the_pod_alone(more: dict[str, Any], expected: Workload) -> None:
    assert audit.owner_of(pod(**more)) == expected


def test_each_pod_is_counted_once_in_a_verdict_and_with_its_properties() -> None:
    localhost = {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a"}}}
    unconfined = {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}
    found = audited(
        pod("old"),
        pod("window", at=150),
        pod("unexplained", at=300),
        pod("early", at=-50),
        pod("typed", spec=TYPED),
        pod("localhost", spec=localhost),
        pod("unconfined", spec=unconfined),
        pod("container", spec={"containers": [{"name": "c", **unconfined}]}),
        pod("privileged", spec={**TYPED, "containers": [{"name": "c", "securityContext": {"privileged": True}}]}),
        pod("elsewhere", "plain"),
    )
    assert found.total.pods == 10
    assert found.total.verdicts == {Verdict.UNPROTECTED: 4, Verdict.PROTECTED: 3, Verdict.EXEMPT: 3}
    assert found.total.causes == {
        "older-than-registration": 1,
        "in-window": 1,
        "unexplained": 1,
        "before-first-fail": 1,
    }
    assert found.total.reasons == {
        "pod-field": 3,
        "unconfined-pod": 1,
        "unconfined-container": 1,
        "namespace-not-selected": 1,
    }
    assert (found.total.localhost, found.total.with_privileged, found.total.unconfined) == (1, 1, 2)
    assert (found.total.unconfined_pods, found.total.unconfined_containers) == (1, 1)
    assert {name: tally.pods for name, tally in found.by_namespace.items()} == {"shoot--a--b": 9, "plain": 1}


def test_restarts_are_by_shoot_and_what_holds_data_comes_last() -> None:
    found = audited(
        pod("g", "garden", **owned("Deployment", "x")),
        pod("e", **owned("StatefulSet", "etcd-main")),
        pod("a1", **owned("ReplicaSet", "api-1", hash_label="1")),
        pod("a2", **owned("ReplicaSet", "api-1", hash_label="1")),
        pod("j", **owned("Job", "backup")),
        pod("bare"),
        pod("fine", spec=TYPED, **owned("DaemonSet", "fine")),
        pod("c", "shoot--a--c", **owned("DaemonSet", "proxy")),
    )
    assert [
        (name, [(str(one.workload), one.pods, one.command) for one in all_]) for name, all_ in found.restarts()
    ] == [
        (
            "shoot--a--b",
            [
                ("deployment/api", 2, "kubectl --namespace shoot--a--b rollout restart deployment/api"),
                ("statefulset/etcd-main", 1, "kubectl --namespace shoot--a--b rollout restart statefulset/etcd-main"),
                ("job/backup", 1, ""),
                ("pod/bare", 1, ""),
            ],
        ),
        ("shoot--a--c", [("daemonset/proxy", 1, "kubectl --namespace shoot--a--c rollout restart daemonset/proxy")]),
        ("garden", [("deployment/x", 1, "kubectl --namespace garden rollout restart deployment/x")]),
    ]


def test_without_a_registration_and_without_knowledge_the_cause_says_so() -> None:
    assert audited(pod(), registered=Registered(ENTRY)).total.causes == {"not-registered": 1}
    assert audited(pod(), registered=Registered(ENTRY, is_known=False)).total.causes == {"not-known": 1}


def test_a_namespace_whose_labels_are_not_known_counts_as_selected_and_is_told() -> None:
    found = audited(pod(namespace="new"), pod(namespace="kube-system"))
    assert found.unknown_namespaces == {"new"}
    assert (found.total.unprotected, found.total.reasons["namespace-not-selected"]) == (1, 1)


def registration() -> dict[str, Any]:
    manifest = json.loads(json.dumps(render(Registration(), ca_bundle=None, annotations=memory.annotations(MEMORY))))
    manifest["metadata"]["creationTimestamp"] = utc(START - 100)
    found: dict[str, Any] = manifest
    return found


def everything() -> list[dict[str, Any]]:
    labels = [{"kind": "Namespace", "metadata": {"name": name, "labels": own}} for name, own in NAMESPACES.items()]
    pods = [pod("old", **owned("StatefulSet", "etcd-main")), pod("w", at=150), pod("t", spec=TYPED), pod("x", "plain")]
    return [*pods, registration(), *labels]  # what selects a pod may come behind it


def invoke(*arguments: str, given: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(command, list(arguments), input=given)
    if isinstance(done.exception, ReconcilerError):
        return done.exception.exit_code, "", str(done.exception)
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("shape", ["List", "yaml"])
def test_a_file_is_audited_with_namespaces_and_windows(shape: str) -> None:
    text = json.dumps({"kind": "List", "items": everything()}) if shape == "List" else yaml.safe_dump_all(everything())
    code, out, err = invoke("-f", "-", "--output", "json", given=text)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["apiVersion"], found["kind"]) == ("seccomp-reconciler.gardener.cloud/v1alpha1", "AuditReport")
    assert found["summary"]["causes"] == {"in-window": 1, "older-than-registration": 1}
    assert found["summary"]["pods"] == 3
    assert [one["reason"] for one in found["windows"]] == ["certificate expired"]
    assert found["restarts"][0]["workloads"][0]["name"] == "etcd-main"
    code, out, _ = invoke("-f", "-", "--output", "json", "--all-namespaces", given=text)
    assert json.loads(out)["summary"]["reasons"] == {"namespace-not-selected": 1, "pod-field": 1}
    code, out, _ = invoke("-f", "-", "--output", "json", "-n", "plain", given=text)
    assert json.loads(out)["summary"]["pods"] == 1


def test_a_pod_list_as_the_api_server_sends_it_has_no_kinds() -> None:
    items = [{key: value for key, value in pod().items() if key != "kind"}]
    code, out, err = invoke("-f", "-", "-o", "json", given=json.dumps({"kind": "PodList", "items": items}))
    assert code == 0
    assert json.loads(out)["summary"]["unprotected"] == 1
    assert "give their Namespace objects" in err


def test_the_table_says_the_answer_first_and_csv_has_a_row_for_each_workload() -> None:
    text = json.dumps({"kind": "List", "items": everything()})
    _, out, _ = invoke("-f", "-", given=text)
    assert out.startswith("2 of 3 pods are unprotected, in 1 of 1 namespaces; 1 are protected, 0 exempt.\n")
    assert "\n# shoot--a--b\nkubectl --namespace shoot--a--b rollout restart statefulset/etcd-main\n" in out
    _, out, _ = invoke("-f", "-", "-o", "csv", given=text)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {(row["kind"], row["name"], row["unprotected"]) for row in rows} == {
        ("Pod", "t", "0"),
        ("Pod", "w", "1"),
        ("StatefulSet", "etcd-main", "1"),
    }


def test_the_html_report_is_one_file_that_loads_nothing_and_runs_nothing_of_a_name() -> None:
    evil = "<script>alert(1)</script>"
    items = [*everything(), pod(evil, **owned("StatefulSet", evil))]
    code, out, err = invoke("-f", "-", "-o", "html", given=json.dumps({"kind": "List", "items": items}))
    assert (code, err) == (0, "")
    assert '<b class="bad">3 of 4 pods are unprotected</b>' in out
    assert evil not in out
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in out
    assert "certificate expired" in out
    assert "kubectl --namespace shoot--a--b rollout restart statefulset/etcd-main" in out
    # Without one of these there is nothing that a browser would fetch.
    assert not [word for word in ("src=", "href=", "url(", "@import", "http:", "https:", "fetch(") if word in out]


@pytest.mark.parametrize(
    ("spec", "fail_on", "code"),
    [
        ({}, "never", 0),
        ({}, "unprotected", 1),
        ({}, "unconfined", 1),
        (TYPED, "unconfined", 0),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "unprotected", 0),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "unconfined", 1),
    ],
)
def test_fail_on(spec: dict[str, Any], fail_on: str, code: int) -> None:
    assert invoke("-f", "-", "--fail-on", fail_on, given=json.dumps(pod(spec=spec)))[0] == code


@pytest.mark.parametrize(
    ("arguments", "given", "code", "words"),
    [
        (("-f", "-"), "", 65, "empty"),
        (("-f", "-"), "{", 65, "not readable"),
        (("-f", "-"), '{"kind": "List", "items": [{"kind": "Pod"}]}', 65, "item 0: metadata"),
        (("-f", "-"), '{"kind": "List", "items": [3]}', 65, "item 0: expected a Kubernetes object"),
        (("-f", "-"), '{"kind": "List", "items": [' + "[" * 100_000, 65, "not readable"),
        (("-f", "/nowhere"), "", 66, "found none"),
        (("-f", "/"), "", 65, "expected a regular file"),
        (("-f", "-", "-n", "a", "-A"), "", 2, "does not go with"),
        (("-f", "-", "--context", "a"), "", 2, "reads no cluster"),
    ],
    ids=["empty", "json", "shape", "item", "deep", "absent", "folder", "both", "context"],
)
def test_bad_input_is_named(arguments: tuple[str, ...], given: str, code: int, words: str) -> None:
    found, out, err = invoke(*arguments, given=given)
    assert (found, out) == (code, "")
    assert words in err


@pytest.mark.parametrize(("option", "words"), [("-f", "unprotected"), ("--shoot", "The gate is needed")])
def test_audit_of_a_file_loads_no_kubernetes(tmp_path: Path, option: str, words: str) -> None:
    worker = {"kubernetes": {"version": "1.33.4"}, "provider": {"workers": [{"name": "w"}]}}
    items = [*everything(), {"kind": "Shoot", "metadata": {"name": "s"}, "spec": worker}]
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": items}))
    script = (
        "import sys; sys.argv = ['seccomp-reconciler', *sys.argv[1:]]\n"
        "from reconciler import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "loaded = {'kubernetes', 'aiohttp', 'watchfiles', 'tenacity'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    argv = [sys.executable, "-c", script, "audit", option, str(tmp_path / "pods.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
