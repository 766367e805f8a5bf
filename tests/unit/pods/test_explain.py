"""Why a pod gets the profile or not: order, terms, sentences, exit codes; without a cluster and without kubernetes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from reconciler.cli.explain import explain, explained
from reconciler.errors import ReconcilerError
from reconciler.pods import profile
from reconciler.pods.explain import Owner, Result, explain_stored
from reconciler.pods.exposure import Registered
from reconciler.pods.profile import LEGACY_POD_ANNOTATION
from reconciler.registration.desired import render
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import ReconcilerConfiguration, Registration
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from pathlib import Path

ROLE = {"gardener.cloud/role": "shoot"}
SKIP = "seccompprofile.resources.gardener.cloud/skip"
SETTINGS = ReconcilerConfiguration()
WORKLOADS = ["DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"]
RUNTIME_DEFAULT = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
UNCONFINED = {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}


def pod(container: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    whole = {"containers": [{"name": "c", **(container or {})}], **(spec or {})}
    return {"kind": "Pod", "metadata": {"name": "a", "namespace": "shoot--a", **metadata}, "spec": whole}


def namespace(labels: dict[str, str]) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": "shoot--a", "labels": labels}}


def configuration(name: str = "seccomp-reconciler", **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    manifest = json.loads(json.dumps(render(Registration(), ca_bundle=None)))
    manifest["metadata"]["name"] = name
    manifest["webhooks"][0].update(changed)
    found: dict[str, Any] = manifest
    return found


@pytest.mark.parametrize(
    ("one", "labels", "result", "reason"),
    [
        (pod(), ROLE, Result.PROTECTED, "pod-field"),
        (pod(spec=RUNTIME_DEFAULT), {}, Result.PROTECTED, "pod-field"),
        (pod(RUNTIME_DEFAULT), {}, Result.PROTECTED, "container-fields"),
        (pod(UNCONFINED), ROLE, Result.EXEMPT, "unconfined-container"),
        (pod(spec=UNCONFINED), ROLE, Result.EXEMPT, "unconfined-pod"),
        (pod({"securityContext": {"privileged": True}}), ROLE, Result.PROTECTED, "pod-field"),
        (pod(), {}, Result.EXEMPT, "namespace-not-selected"),
        (pod(namespace="kube-system"), ROLE, Result.EXEMPT, "namespace-not-selected"),
        (pod(labels={SKIP: ""}), ROLE, Result.EXEMPT, "skip-label"),
        (pod(labels={"app": "seccomp-reconciler"}), ROLE, Result.EXEMPT, "own-app-label"),
        (pod(labels={"static-pod": "true"}), ROLE, Result.EXEMPT, "static-pod-label"),
        (pod(spec={"os": {"name": "windows"}}), ROLE, Result.EXEMPT, "windows"),
        (pod(annotations={"kubernetes.io/config.mirror": "x"}), ROLE, Result.EXEMPT, "mirror-pod"),
        (pod(spec={"securityContext": {"seccompProfile": {"localhostProfile": "a"}}}), ROLE, Result.REFUSED, None),
    ],
)
def test_each_rule_has_its_result(
    one: dict[str, Any], labels: dict[str, str], result: Result, reason: str | None
) -> None:
    (found,) = explained([one], SETTINGS, namespace_labels=labels)
    assert found.result is result, found.sentence
    assert reason is None or found.reason == reason
    assert found.is_as_it_should_be == (result in (Result.PROTECTED, Result.EXEMPT))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rules": []}, "rules CREATE of pods does not match"),
        ({"namespaceSelector": {"matchLabels": {"a": "b"}}}, "namespaceSelector a In [b] does not match"),
        ({"objectSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}, "objectSelector x Exists"),
    ],
)
def test_a_pod_that_a_changed_entry_misses_is_unprotected_and_the_term_is_named(
    changed: dict[str, Any], words: str
) -> None:
    (found,) = explained([pod(), namespace(ROLE), configuration(**changed)], SETTINGS)
    assert found.result is Result.UNPROTECTED
    assert words in found.sentence


def test_a_match_condition_of_others_is_not_known() -> None:
    changed = configuration(matchConditions=[{"name": "theirs", "expression": "object.metadata.name != 'b'"}])
    (found,) = explained([pod(), namespace(ROLE), changed], SETTINGS)
    assert found.result is Result.UNKNOWN
    assert "matchConditions theirs cannot be evaluated" in found.sentence


def test_labels_that_are_not_given_are_not_known_and_what_to_give_is_said() -> None:
    (found,) = explained([pod()], SETTINGS)
    assert found.result is Result.UNKNOWN
    assert "namespaceSelector gardener.cloud/role Exists" in found.sentence
    assert "--namespace-labels" in found.sentence
    (known,) = explained([pod(labels={SKIP: "x"})], SETTINGS)
    assert known.result is Result.EXEMPT


def test_entries_are_called_by_the_names_of_their_objects_and_ours_finds_the_pod_typed() -> None:
    upstream = configuration("gardener-resource-manager", matchConditions=[])
    another = {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "a"}, "webhooks": [{"name": "b.c.d"}]}
    (found,) = explained([pod(), namespace(ROLE), configuration(), upstream, another], SETTINGS)
    assert [(step.entry.owner, step.answer) for step in found.steps] == [
        (Owner.UPSTREAM, "defaulted"),
        (Owner.OURS, ""),
    ]
    assert str(found.steps[1].match.decided_by) == "matchConditions without-seccomp-profile-type"
    assert "gardener-resource-manager/seccomp-profile.resources.gardener.cloud is called and sets it" in found.sentence


def test_while_the_gate_is_off_no_entry_is_registered() -> None:
    (found,) = explained([pod()], SETTINGS, namespace_labels=ROLE, is_off=True)
    assert found.result is Result.UNPROTECTED
    assert "no entry for seccomp profiles is registered" in found.sentence


@pytest.mark.parametrize("kind", [*WORKLOADS, "CronJob", "PodTemplate"])
def test_a_workload_is_explained_by_its_template(kind: str) -> None:
    template: dict[str, Any] = {"metadata": {"labels": {SKIP: "x"}}, "spec": {"containers": [{"name": "c"}]}}
    body: dict[str, Any] = {"spec": {"template": template}}
    body = {"CronJob": {"spec": {"jobTemplate": body}}, "PodTemplate": {"template": template}}.get(kind, body)
    (found,) = explained([{"kind": kind, "metadata": {"name": "w"}, **body}], SETTINGS, default_namespace="b")
    assert (found.subject, found.namespace, found.reason) == (f"The next pod of {kind.lower()}/w", "b", "skip-label")


def test_a_legacy_annotation_is_noted() -> None:
    one = pod(annotations={LEGACY_POD_ANNOTATION: "runtime/default"})
    (found,) = explained([one], SETTINGS, namespace_labels=ROLE)
    assert found.result is Result.PROTECTED
    assert LEGACY_POD_ANNOTATION in found.notes[0]


def invoke(*arguments: str, given: object = "") -> tuple[int, str]:
    text = given if isinstance(given, str) else yaml.safe_dump(given)
    done = CliRunner().invoke(explain, list(arguments), input=text)
    if isinstance(done.exception, ReconcilerError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_the_sentence_is_first_and_json_has_a_version() -> None:
    labels = ("--namespace-labels", "gardener.cloud/role=shoot")
    code, text = invoke("-f", "-", *labels, given=pod())
    assert code == 0
    assert text.startswith("pod/a in namespace shoot--a gets RuntimeDefault: ")
    code, machine = invoke("-f", "-", "--output", "json", *labels, given={"kind": "List", "items": [pod(), pod()]})
    assert code == 0
    found = json.loads(machine)
    assert (found["apiVersion"], found["kind"]) == ("seccomp-reconciler.gardener.cloud/v1alpha1", "ExplanationList")
    assert [item["result"] for item in found["items"]] == ["protected", "protected"]
    assert found["items"][0]["entries"][0]["terms"][0] == {
        "part": "namespaceSelector",
        "term": "gardener.cloud/role Exists",
        "matches": True,
    }


@pytest.mark.parametrize(
    ("arguments", "given", "code", "words"),
    [
        (("-f", "-"), pod(), 1, "It is not known"),
        (("-f", "-", "--namespace-labels", "a"), pod(), 2, "expected key=value"),
        (("-f", "-", "--context", "a"), pod(), 2, "reads no cluster"),
        (("-f", "-"), {"kind": "Service", "metadata": {"name": "a"}}, 65, "expected a pod or a workload"),
        (("-f", "-"), pod({"securityContext": "x"}), 65, "spec.containers.0.securityContext"),
        (("-f", "/nowhere"), "", 66, "no such file"),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], given: object, code: int, words: str) -> None:
    found, text = invoke(*arguments, given=given)
    assert found == code
    assert words in text


def test_explain_loads_no_kubernetes(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod(labels={SKIP: ""})))
    script = (
        "import sys; sys.argv = ['seccomp-reconciler', *sys.argv[1:]]\n"
        "from reconciler import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "loaded = {'kubernetes', 'aiohttp', 'watchfiles', 'tenacity'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    command = [sys.executable, "-c", script, "explain", "-f", str(tmp_path / "pod.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("one", "at", "result", "words"),
    [
        (
            pod(),
            150,
            Result.UNPROTECTED,
            "created in a fail-open window (expired). Created again now, it gets RuntimeD",
        ),
        (pod(), 300, Result.UNPROTECTED, "created at Fail: unexplained."),
        (pod(), -900, Result.UNPROTECTED, "older than the registration."),
        (pod(spec=RUNTIME_DEFAULT), 150, Result.PROTECTED, "the pod names the profile RuntimeDefault."),
        (pod(RUNTIME_DEFAULT), 150, Result.PROTECTED, "every container names a profile."),
        (pod(labels={SKIP: ""}), 150, Result.EXEMPT, "it has the skip label."),
    ],
)
def test_a_stored_pod_is_told_with_its_window(one: dict[str, Any], at: float, result: Result, words: str) -> None:
    start = 1_800_000_000.0
    recorded = Memory(State.FAIL, start, "probes", windows=(Window(start + 100, start + 200, "expired"),))
    registered = Registered(configuration()["webhooks"][0], recorded, start - 100)
    stored = {**one, "metadata": {**one["metadata"], "creationTimestamp": utc(start + at)}}
    (again,) = explained([stored], SETTINGS, namespace_labels=ROLE)
    found = explain_stored(again, stored, registered, is_selected=True)
    assert (found.result, words in found.sentence) == (result, True), found.sentence
    assert found.containers == profile.of_pod(stored)


def test_a_subject_or_a_file() -> None:
    assert invoke()[0] == 2
    assert "either KIND/NAME or -f" in invoke("pod/a", "-f", "-")[1]
    assert "goes with -f" in invoke("pod/a", "--namespace-labels", "a=b")[1]
