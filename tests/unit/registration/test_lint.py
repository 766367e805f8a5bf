"""The deadlock linter: who is judged, what is caught, and the words; against a plain reference and by brute force."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.lint import lint as command
from reconciler.controller.proof import canary
from reconciler.errors import InvalidConfigurationError, ReconcilerError
from reconciler.registration import lint, manifests
from reconciler.registration.desired import render
from reconciler.registration.lint import Severity
from reconciler.registration.subjects import CANARY_LABELS, Subject, Why, expected, recognised
from reconciler.settings import Backend, LabelSelector, Proof, ReconcilerConfiguration, Registration

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = Path(__file__).resolve().parents[3] / "config"
NAME = "kubernetes.io/metadata.name"
ROLE = "gardener.cloud/role"
SKIP = "seccompprofile.resources.gardener.cloud/skip"
OURS = "app.kubernetes.io/name"
UNTYPED = render(Registration(), ca_bundle=None)["webhooks"][0]["matchConditions"]
RULES = render(Registration(), ca_bundle=None)["webhooks"][0]["rules"]


def rendered(registration: Registration | None = None) -> Any:  # noqa: ANN401 - a manifest to be changed
    return copy.deepcopy(render(registration or Registration(), ca_bundle=None))


def found(manifest: Any, *subjects: Subject) -> dict[Why, lint.Finding]:  # noqa: ANN401 - likewise
    return {finding.subject.why: finding for finding in lint.check(manifest, subjects)}


@pytest.mark.parametrize(
    "registration",
    [
        Registration(),
        Registration(skip_typed_pods=False),
        Registration(skip_label="other", skip_typed_pods=False),
        Registration(own_app_name="other", skip_typed_pods=False),
        Registration(own_app_name="other", skip_label="other"),
        Registration(namespace_selector=LabelSelector()),
        Registration(backend=Backend(url="https://127.0.0.1:9443/a")),
    ],
    ids=["default", "typed-too", "skip", "app", "typed-alone", "every-namespace", "url"],
)
def test_what_our_manifests_make_is_safe_whichever_guard_is_left(registration: Registration) -> None:
    subjects = expected(registration, Proof())
    if registration.skip_label == "other" and not registration.skip_typed_pods:
        subjects = tuple(one for one in subjects if one.why is not Why.GARDENLET)
    assert lint.check(rendered(registration), subjects) == ()


def test_the_built_in_canary_is_that_of_the_manifests() -> None:
    namespace = next(yaml.safe_load_all((CONFIG / "canary.yaml").read_text()))
    (built_in,) = [one for one in expected(Registration(), Proof()) if one.why is Why.CANARY]
    assert namespace["metadata"]["labels"] == built_in.namespace_labels == CANARY_LABELS
    assert namespace["metadata"]["name"] == built_in.namespace
    pod = canary("canary", "0")
    assert pod["metadata"].get("labels", {}) == built_in.labels
    assert "seccompProfile" not in pod["spec"]["securityContext"]


def test_an_address_outside_of_the_cluster_has_no_pods_of_a_server() -> None:
    outside = Registration(backend=Backend(url="https://127.0.0.1:9443/a"))
    assert Why.SERVER not in {one.why for one in expected(outside, Proof())}


def server(**labels: str) -> Subject:
    return Subject(Why.SERVER, "pod/server", "garden", {OURS: "seccomp-reconciler", **labels}, {ROLE: "garden"})


def gardenlet(**labels: str) -> Subject:
    return Subject(Why.GARDENLET, "deployment/gardenlet", "garden", {"role": "gardenlet", **labels}, {ROLE: "garden"})


def test_a_caught_pod_of_the_server_and_the_ways_out() -> None:
    finding = found(rendered(), server())[Why.SERVER]
    assert finding.severity is Severity.ERROR
    assert str(finding) == (
        "pod/server in namespace garden (webhook-server) would be caught, not left out by "
        f"objectSelector: {SKIP} DoesNotExist, objectSelector: app NotIn [seccomp-reconciler]; "
        f'give the pods the label app: seccomp-reconciler, or give them the label {SKIP}: "true"'
    )
    assert not found(rendered(), server(app="seccomp-reconciler"))
    assert not found(rendered(), server(**{SKIP: "true"}))


def test_a_pod_of_the_server_with_another_app_label_names_the_setting() -> None:
    finding = found(rendered(), server(app="hooks"))[Why.SERVER]
    assert finding.fix.startswith("set registration.ownAppName: hooks, or ")
    assert not found(rendered(Registration(own_app_name="hooks")), server(app="hooks"))


def test_a_caught_gardenlet_and_the_ways_out() -> None:
    finding = found(rendered(), gardenlet())[Why.GARDENLET]
    assert finding.terms == (f"objectSelector: {SKIP} DoesNotExist",)
    assert finding.fix == f'give the pods the label {SKIP}: "true", or add garden to registration.excludedNamespaces'
    assert not found(rendered(), gardenlet(**{SKIP: ""}))
    assert not found(rendered(Registration(excluded_namespaces=("garden",))), gardenlet())


@pytest.mark.parametrize("subject", [server(app="a"), gardenlet()], ids=["server", "gardenlet"])
def test_an_entry_without_any_guard_is_to_be_written_as_rendered(subject: Subject) -> None:
    bare = rendered()
    del bare["webhooks"][0]["objectSelector"]
    finding = found(bare, subject)[subject.why]
    assert finding.verdict == "would be caught, let in by"
    assert finding.fix == "add the term that leaves such pods out, as `seccomp-reconciler render` prints it"


def test_a_typed_pod_is_spared_by_our_match_condition_alone() -> None:
    typed = Subject(Why.GARDENLET, "pod/gardenlet", "garden", {}, {ROLE: "garden"}, typed=True)
    assert not found(rendered(), typed)
    assert found(rendered(Registration(skip_typed_pods=False)), typed)
    theirs = rendered()
    theirs["webhooks"][0]["matchConditions"] = [{"name": UNTYPED[0]["name"], "expression": "true"}]
    assert found(theirs, typed)


def without(manifest: Any, selector: str, key: str) -> Any:  # noqa: ANN401 - manifests
    terms = manifest["webhooks"][0][selector]["matchExpressions"]
    manifest["webhooks"][0][selector]["matchExpressions"] = [term for term in terms if term["key"] != key]
    return manifest


def test_kube_system_is_caught_when_the_term_about_it_is_gone() -> None:
    anybody = Subject(Why.KUBE_SYSTEM, "any pod", "kube-system", None)
    finding = found(without(rendered(), "namespaceSelector", NAME), anybody)[Why.KUBE_SYSTEM]
    assert finding.verdict == "may be caught, let in by"
    assert finding.terms == (f"namespaceSelector: {ROLE} Exists",)
    assert f"the term {NAME} NotIn" in finding.fix
    unlabelled = Subject(Why.KUBE_SYSTEM, "any pod", "kube-system", None, {})
    assert not found(without(rendered(), "namespaceSelector", NAME), unlabelled)


def test_kube_system_is_caught_when_the_term_about_it_names_others() -> None:
    manifest = rendered()
    manifest["webhooks"][0]["namespaceSelector"]["matchExpressions"][1]["values"] = ["a"]
    finding = found(manifest, Subject(Why.KUBE_SYSTEM, "any pod", "kube-system", None))[Why.KUBE_SYSTEM]
    assert finding.verdict == "may be caught, not left out by"
    assert finding.terms == (f"namespaceSelector: {NAME} NotIn [a]",)


def test_an_entry_for_every_namespace_says_so() -> None:
    bare = rendered()
    bare["webhooks"][0]["namespaceSelector"] = {}
    anybody = Subject(Why.KUBE_SYSTEM, "any pod", "kube-system", None, {})
    assert found(bare, anybody)[Why.KUBE_SYSTEM].terms == ("namespaceSelector: every namespace",)


def test_static_pods_are_an_error_and_mirror_pods_a_warning() -> None:
    static = Subject(Why.STATIC, "any pod", None, {"static-pod": "true"})
    mirror = Subject(Why.MIRROR, "pod/etcd-node", "garden", {}, {ROLE: "garden"})
    assert list(found(rendered(), static, mirror)) == [Why.MIRROR]
    assert found(rendered(), mirror)[Why.MIRROR].severity is Severity.WARNING
    finding = found(without(rendered(), "objectSelector", "static-pod"), static)[Why.STATIC]
    assert finding.severity is Severity.ERROR
    assert "seccomp-reconciler render" in finding.fix


def canary_in(labels: Mapping[str, str], namespace: str = "seccomp-canary") -> Subject:
    return Subject(Why.CANARY, "the canary", namespace, {}, labels)


@pytest.mark.parametrize(
    ("registration", "subject", "terms", "fix"),
    [
        (
            Registration(),
            canary_in({}),
            (f"namespaceSelector: {ROLE} Exists",),
            f"label the namespace seccomp-canary with {ROLE}",
        ),
        (
            Registration(excluded_namespaces=("seccomp-canary",)),
            canary_in(CANARY_LABELS),
            (f"namespaceSelector: {NAME} NotIn [kube-system, kubernetes-dashboard, seccomp-canary]",),
            "take seccomp-canary out of registration.excludedNamespaces",
        ),
        (
            Registration(namespace_selector=LabelSelector(match_labels={ROLE: "shoot"})),
            canary_in(CANARY_LABELS),
            (f"namespaceSelector: {ROLE} In [shoot]",),
            f"label the namespace seccomp-canary with {ROLE}: shoot",
        ),
        (
            Registration(),
            canary_in(CANARY_LABELS, "kube-system"),
            (f"namespaceSelector: {NAME} NotIn [kube-system, kubernetes-dashboard]",),
            "set proof.namespace to a namespace that the registration covers",
        ),
        (
            Registration(namespace_selector=LabelSelector(match_labels={NAME: "garden"})),
            canary_in(CANARY_LABELS),
            (f"namespaceSelector: {NAME} In [garden]",),
            "set proof.namespace to a namespace that the registration covers",
        ),
    ],
    ids=["unlabelled", "excluded", "another-role", "kube-system", "by-name"],
)
def test_a_canary_that_is_not_caught(
    registration: Registration, subject: Subject, terms: tuple[str, ...], fix: str
) -> None:
    finding = found(rendered(registration), subject)[Why.CANARY]
    assert (finding.severity, finding.terms, finding.fix) == (Severity.ERROR, terms, fix)
    assert str(finding).startswith(f"the canary in namespace {subject.namespace} (canary) would not be caught")


def test_terms_that_others_added_can_keep_the_canary_out() -> None:
    manifest = rendered()
    entry = manifest["webhooks"][0]
    entry["namespaceSelector"]["matchExpressions"].append({"key": "control-plane", "operator": "DoesNotExist"})
    assert not found(manifest, canary_in(CANARY_LABELS))
    labelled = canary_in({**CANARY_LABELS, "control-plane": "yes"})
    assert found(manifest, labelled)[Why.CANARY].fix == "take the label control-plane off the namespace seccomp-canary"
    entry["objectSelector"]["matchLabels"] = {"team": "a"}
    finding = found(manifest, canary_in(CANARY_LABELS))[Why.CANARY]
    assert finding.terms == ("objectSelector: team In [a]",)
    assert "remove the term about team" in finding.fix


@pytest.mark.parametrize(
    ("rule", "called"),
    [
        ({}, True),
        ({"resources": ["pods/*"]}, True),
        ({"resources": ["*/*"], "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"]}, True),
        ({"scope": "Namespaced"}, True),
        ({"scope": "Cluster"}, False),
        ({"resources": ["pods/status"]}, False),
        ({"operations": ["UPDATE"]}, False),
        ({"apiGroups": ["apps"]}, False),
    ],
    ids=str,
)
def test_an_entry_that_is_not_called_for_pods_catches_nobody(rule: dict[str, Any], *, called: bool) -> None:
    manifest = rendered()
    manifest["webhooks"][0]["rules"] = [{**RULES[0], **rule}]
    found_one = found(manifest, canary_in(CANARY_LABELS), gardenlet())
    assert set(found_one) == ({Why.GARDENLET} if called else {Why.CANARY})
    if not called:
        assert found_one[Why.CANARY].terms == ("rules: no creation of pods",)


def test_of_several_entries_one_may_catch_the_canary_and_none_the_others() -> None:
    manifest = rendered()
    narrow = copy.deepcopy(manifest["webhooks"][0])
    narrow["namespaceSelector"] = {"matchLabels": {"nobody": "here"}}
    manifest["webhooks"].insert(0, narrow)
    assert list(found(manifest, canary_in(CANARY_LABELS), gardenlet())) == [Why.GARDENLET]
    assert list(found({"webhooks": [narrow]}, canary_in(CANARY_LABELS))) == [Why.CANARY]


@pytest.mark.parametrize("manifest", [{}, {"webhooks": None}, {"webhooks": []}, {"webhooks": [{"name": "a"}]}], ids=str)
def test_bare_manifests_miss_the_canary_and_are_not_stumbled_over(manifest: dict[str, Any]) -> None:
    assert set(found(manifest, *expected(Registration(), Proof()))) == {Why.CANARY}


keys = st.sampled_from(["a", "b", NAME])
values = st.sampled_from(["x", "y"])
requirements = st.one_of(
    st.builds(
        lambda key, operator, some: {"key": key, "operator": operator, "values": some},
        keys,
        st.sampled_from(["In", "NotIn"]),
        st.lists(values, min_size=1, unique=True),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator}, keys, st.sampled_from(["Exists", "DoesNotExist"])
    ),
)
selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(keys, values, max_size=2),
        "matchExpressions": st.lists(requirements, max_size=4),
    },
)
labels = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"]))
entries = st.builds(
    lambda namespace, pod, conditions: {
        "rules": RULES,
        "namespaceSelector": namespace,
        "objectSelector": pod,
        "matchConditions": conditions,
    },
    selectors,
    selectors,
    st.sampled_from([[], UNTYPED]),
)
names = st.sampled_from(["x", "y", "z"])


def selected(selector: dict[str, Any], present: Mapping[str, str]) -> bool:
    """Say it the plain way."""
    for key, value in selector.get("matchLabels", {}).items():
        if present.get(key) != value:
            return False
    for term in selector.get("matchExpressions", ()):
        value, listed = present.get(term["key"]), term.get("values", ())
        holds = {
            "In": value in listed,
            "NotIn": value not in listed,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[term["operator"]]:
            return False
    return True


def every_labelling(**fixed: str) -> list[dict[str, str]]:
    """Return each way to label with the keys and values that terms here can speak of, and one value that none does."""
    choices = [[fixed[key]] if key in fixed else [None, "x", "y", "z"] for key in ("a", "b", NAME)]
    found_all = itertools.product(*choices)
    return [
        {key: value for key, value in zip(("a", "b", NAME), one, strict=True) if value is not None} for one in found_all
    ]


@given(entry=entries, pod=labels, namespace=labels, name=names, typed=st.booleans())
def test_a_subject_is_caught_exactly_when_both_selectors_match_and_it_is_not_spared(
    entry: dict[str, Any], pod: dict[str, str], namespace: dict[str, str], name: str, *, typed: bool
) -> None:
    subject = Subject(Why.GARDENLET, "pod/a", name, pod, namespace, typed=typed)
    spared = typed and bool(entry["matchConditions"])
    expected_one = (
        selected(entry["namespaceSelector"], {**namespace, NAME: name})
        and selected(entry["objectSelector"], pod)
        and not spared
    )
    assert lint.catches(entry, subject) == expected_one
    assert bool(lint.check({"webhooks": [entry]}, [subject])) == expected_one
    the_canary = Subject(Why.CANARY, "pod/a", name, pod, namespace)
    findings = lint.check({"webhooks": [entry]}, [the_canary])
    assert all(finding.terms and finding.fix for finding in findings)
    assert bool(findings) != lint.catches(entry, the_canary)


@given(entry=entries, name=st.one_of(st.none(), names), pod=st.one_of(st.none(), labels))
def test_unknown_labels_are_caught_exactly_when_some_labelling_is(
    entry: dict[str, Any], name: str | None, pod: dict[str, str] | None
) -> None:
    namespaces = every_labelling(**({} if name is None else {NAME: name}))
    pods = every_labelling() if pod is None else [pod]
    expected_one = any(selected(entry["namespaceSelector"], one) for one in namespaces) and any(
        selected(entry["objectSelector"], one) for one in pods
    )
    assert lint.catches(entry, Subject(Why.STATIC, "any", name, pod)) == expected_one


def pod(name: str = "a", namespace: str = "garden", **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"kind": "Pod", "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": {}}


@pytest.mark.parametrize(
    ("workload", "why"),
    [
        (pod(), None),
        (pod(labels=None), None),
        (pod(labels={"static-pod": "true"}), Why.STATIC),
        (pod(labels={"static-pod": "false"}), None),
        (pod(annotations={"kubernetes.io/config.mirror": "hash"}), Why.MIRROR),
        (pod(ownerReferences=[{"kind": "Node", "name": "a"}]), Why.MIRROR),
        (pod(ownerReferences=[{"kind": "ReplicaSet", "name": "a"}]), None),
        (pod(labels={"my": "server", "more": "too"}), Why.SERVER),
        (pod(labels={OURS: "seccomp-reconciler"}), Why.RECONCILER),
        (pod("gardenlet-7c", labels={"role": "gardenlet"}), Why.GARDENLET),
        (pod("other", labels={"role": "gardenlet"}), None),
        (pod(namespace="kube-system"), Why.KUBE_SYSTEM),
        (pod(namespace="kube-system", labels={"static-pod": "true"}), Why.STATIC),
        ({"kind": "Service", "metadata": {"name": "a", "labels": {OURS: "seccomp-reconciler"}}}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, Why) else None,
)
def test_who_is_recognised(workload: dict[str, Any], why: Why | None) -> None:
    subject = recognised(workload, server={"my": "server"})
    assert (None if subject is None else subject.why) is why


def test_no_selector_of_a_service_recognises_nobody() -> None:
    assert recognised(pod(), server={}) is None
    assert recognised(pod()) is None


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: gardenlet, namespace: garden, labels: {role: another}}
spec:
  template:
    metadata: {labels: {app: gardener, role: gardenlet}, annotations: {released: 2026-01-01}}
    spec: {securityContext: {seccompProfile: {type: RuntimeDefault}}}
"""
CRON_JOB = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: repair}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {app.kubernetes.io/name: seccomp-reconciler}}}}}}
"""
NEAR = """
kind: MutatingWebhookConfiguration
metadata: {name: a}
webhooks: [{name: a, objectSelector: {matchExpressions: [{key: a, operator: Near}]}}]
"""


def test_workloads_are_judged_by_their_templates() -> None:
    objects = manifests.parse(f"{DEPLOYMENT}---\n---{CRON_JOB}".encode(), origin="a")
    (first, second) = [recognised(one) for one in objects]
    assert first == Subject(
        Why.GARDENLET, "deployment/gardenlet", "garden", {"app": "gardener", "role": "gardenlet"}, typed=True
    )
    assert second == Subject(Why.RECONCILER, "cronjob/repair", None, {OURS: "seccomp-reconciler"})


def test_lists_are_taken_apart_also_those_whose_items_say_no_kind() -> None:
    bare = {key: value for key, value in pod().items() if key != "kind"}
    for document in (
        {"kind": "List", "items": [pod(), {"kind": "Secret"}]},
        {"kind": "PodList", "items": [bare]},
        {"kind": "PodList", "items": None},
    ):
        objects = manifests.parse(json.dumps(document).encode(), origin="a")
        assert objects == ((pod(),) if document["items"] else ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "a: not readable as YAML or JSON"),
        ("{", "a: not readable as YAML or JSON"),
        ("\x00", "a: not readable"),
        ("!!int ''", "a: not readable"),
        ("!!bool maybe", "a: not readable"),
        ("!!timestamp now", "a: not readable"),
        ("a: " + "[" * 5000, "a: not readable"),
        ("- a", "a, document 1: expected a Kubernetes object with a kind, got ['a']"),
        ("a: b", "document 1: expected a Kubernetes object"),
        ("kind: Pod", "document 1 (Pod): metadata: Field required"),
        ("{kind: Pod, metadata: {labels: {static-pod: true}}}", "(Pod): metadata.labels.static-pod: Input should be"),
        ("---\n---\n{kind: List, items: {a: b}}", "document 2: items: expected a list"),
        ("{kind: List, items: [{}]}", "document 1, item 0: expected a Kubernetes object"),
        ("{kind: Deployment, metadata: {}, spec: []}", "(Deployment): spec: Input should be"),
        (NEAR, "operator: 'Near' is not allowed: expected one of In, NotIn"),
    ],
)
def test_unreadable_manifests_are_refused_with_their_place(content: str, words: str) -> None:
    with pytest.raises(InvalidConfigurationError) as refused:
        manifests.parse(content.encode(), origin="a")
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500


def test_more_bytes_than_any_manifest_has_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_BYTES", 10)
    with pytest.raises(InvalidConfigurationError, match="a: larger than 10 bytes"):
        manifests.parse(b"a" * 11, origin="a")


def test_aliases_that_would_grow_without_end_are_refused_in_few_words() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join(['*' + old] * 10)}]" for old, new in itertools.pairwise("abcdefghij")]
    with pytest.raises(InvalidConfigurationError, match="expected a Kubernetes object"):
        manifests.parse("\n".join(lines).encode(), origin="a")


@given(st.binary(max_size=60))
def test_no_bytes_make_the_parser_stumble(content: bytes) -> None:
    with suppress(InvalidConfigurationError):
        manifests.parse(content, origin="a")


shapes = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.sampled_from(["Pod", "a", "In"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["metadata", "spec", "template", "labels", "items", "webhooks", "name", "ownerReferences"]),
            inner,
            max_size=4,
        ),
    ),
)


@given(kind=st.sampled_from([*manifests._SHAPES, "List", "PodList", "Other"]), rest=shapes)
def test_what_the_parser_takes_can_be_judged(kind: str, rest: Any) -> None:  # noqa: ANN401 - JSON
    content = {"metadata": {"name": "a"}, **(rest if isinstance(rest, dict) else {}), "kind": kind}
    try:
        objects = manifests.parse(json.dumps(content).encode(), origin="a")
        manifest = manifests.registration_in(objects, "a")
    except InvalidConfigurationError:
        return
    lint.check(manifest or rendered(), manifests.subjects_in(objects, ReconcilerConfiguration()))


def run(*arguments: str, stdin: object = None) -> tuple[int, str, str]:
    """Run the command; return exit code, output, and the error or what stands on standard error."""
    text = None if stdin is None else json.dumps(stdin)
    done = CliRunner().invoke(command, list(arguments), input=text)
    if isinstance(done.exception, ReconcilerError):
        return int(done.exception.exit_code), done.stdout, done.stderr + str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_is_content_with_what_is_rendered() -> None:
    code, out, err = run("-f", "-", stdin=rendered())
    assert (code, err) == (0, "")
    assert "1 webhook-server" in out
    assert out.splitlines()[-1].startswith("good: ")


def test_the_command_names_pod_term_and_fix_and_ends_with_65(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump(pod("server-0", labels={"hook": "yes"})))
    service = {"kind": "Service", "metadata": {"name": "seccomp-reconciler"}, "spec": {"selector": {"hook": "yes"}}}
    code, out, err = run("-f", str(file), "-f", "-", stdin=service)
    assert code == 65
    assert "good" not in out
    assert "pod/server-0 in namespace garden (webhook-server) may be caught" in err
    assert "give the pods the label app: seccomp-reconciler" in err
    namespace = {"kind": "Namespace", "metadata": {"name": "garden"}}
    assert run("-f", str(file), "-f", "-", stdin={"kind": "List", "items": [service, namespace]})[0] == 0


def test_a_mirror_pod_is_a_warning_and_no_failure() -> None:
    code, out, err = run("-f", "-", stdin=pod("etcd-node", annotations={"kubernetes.io/config.mirror": "hash"}))
    assert code == 0
    assert "warning: pod/etcd-node in namespace garden (mirror-pod) may be caught" in err
    assert "good" in out


def test_the_command_answers_a_machine() -> None:
    namespace = {"kind": "Namespace", "metadata": {"name": "seccomp-canary"}}
    code, out, err = run("-f", "-", "--output", "json", stdin=namespace)
    assert code == 65
    assert "must not stand with failurePolicy Fail" in err
    report = json.loads(out)
    assert report["good"] is False
    assert report["findings"] == [
        {
            "severity": "error",
            "kind": "canary",
            "pod": "the canary",
            "namespace": "seccomp-canary",
            "verdict": "would not be caught, so that nothing can be proved, kept out by",
            "terms": [f"namespaceSelector: {ROLE} Exists"],
            "fix": f"label the namespace seccomp-canary with {ROLE}",
        }
    ]
    assert {one["kind"] for one in report["judged"]} >= {"canary", "kube-system", "static-pod"}


def test_the_command_follows_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "apiVersion: seccomp-reconciler.config.gardener.cloud/v1alpha1\nkind: ReconcilerConfiguration\n"
        "registration: {excludedNamespaces: [seccomp-canary]}\n"
    )
    code, _, err = run("--config", str(file), "-f", str(CONFIG / "canary.yaml"))
    assert code == 65
    assert "take seccomp-canary out of registration.excludedNamespaces" in err


def test_a_registration_given_is_judged_and_only_our_entry_of_it() -> None:
    theirs = rendered()
    greedy = {**copy.deepcopy(theirs["webhooks"][0]), "name": "greedy.example.com", "objectSelector": {}}
    theirs["webhooks"].append(greedy)
    assert run("-f", "-", stdin=theirs)[0] == 0
    code, _, err = run("-f", "-", stdin={**theirs, "webhooks": [greedy]})
    assert (code, "found greedy.example.com" in err) == (65, True)
    code, _, err = run("-f", "-", stdin={**theirs, "webhooks": []})
    assert (code, "rules: no creation of pods" in err) == (65, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-f", "/nowhere.yaml"), 66, "no such file"),
        (("-f", "/etc"), 65, "found a folder"),
        (("-f", "-", "--kubeconfig", "/nowhere"), 2, "does not go with --kubeconfig"),
        (("--kubeconfig", "/nowhere"), 66, "does not exist"),
        (("--config", "/nowhere", "-f", "-"), 66, "no such file"),
    ],
    ids=str,
)
def test_exit_codes(arguments: tuple[str, ...], code: int, words: str) -> None:
    found_code, out, err = run(*arguments)
    assert (found_code, out) == (code, "")
    assert words in err


def test_help_teaches() -> None:
    out = run("--help")[1]
    assert "seccomp-reconciler lint -f -" in out
    for number in (0, 64, 65, 66, 69, 70, 73, 75, 77):
        assert f"\n    {number} " in out


def test_with_manifests_neither_kubernetes_nor_aiohttp_is_loaded() -> None:
    script = (
        "import sys\n"
        "from reconciler.cli.lint import lint\n"
        f"lint.main(['-f', {str(CONFIG / 'canary.yaml')!r}], standalone_mode=False)\n"
        "loaded = {'kubernetes', 'aiohttp', 'watchfiles', 'tenacity'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
