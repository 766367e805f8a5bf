"""What others write into pods: it never acts on a terminal, a spreadsheet or a shell, and wrong shapes are named."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler import cli, settings
from reconciler.cli.explanation import table
from reconciler.errors import InvalidConfigurationError
from reconciler.kube.kubeconfig import read as read_kubeconfig
from reconciler.printable import printable
from reconciler.registration import manifests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
EVIL = {
    "escape": ESCAPE,
    "c1": "\x9b2J",
    "line": "a\n# b",
    "return": "a\rb",
    "bidi": "a\u202eb",
    "delete": "a\x7f",
}
# What a terminal may act on; a line feed ends a line of ours.
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMATS = ("table", "json", "csv", "html", "openreports")
OFF = ("explain", "audit")


def pod(name: str = "p", namespace: str = "n", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return {"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c"}]}, **more}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The whole command line, which prints errors, too: text of the file and arguments to code, output, errors."""
    file = tmp_path / "given"

    def ended(text: str, *argv: str) -> tuple[int, str, str]:
        file.write_text(text)
        monkeypatch.setattr(sys, "argv", ["seccomp-reconciler", argv[0], "-f", str(file), *argv[1:]])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return ended


def evil_objects(evil: str) -> list[dict[str, Any]]:
    owner = {"ownerReferences": [{"kind": "StatefulSet", "name": evil, "controller": True}]}
    labels = {"gardener.cloud/role": "shoot"}
    legacy = {f"container.seccomp.security.alpha.kubernetes.io/{evil}": "unconfined"}
    containers = {"containers": [{"name": evil, "securityContext": {"privileged": True}}]}
    registration = {
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "seccomp-reconciler"},
        "webhooks": [
            {
                "name": evil,
                "namespaceSelector": {"matchLabels": {"gardener.cloud/role": "shoot"}},
                "matchConditions": [{"name": evil, "expression": evil}],
            }
        ],
    }
    return [
        pod(evil, f"ns-{evil}"),
        pod("owned", f"ns-{evil}", metadata=owner),
        pod("annotated", f"ns-{evil}", metadata={"annotations": legacy}, spec=containers),
        {"kind": "Namespace", "metadata": {"name": f"ns-{evil}", "labels": labels}},
        registration,
    ]


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize(
    "argv",
    [
        ("explain",),
        ("explain", "-o", "json"),
        *(("audit", "-A", "-o", form) for form in ("table", "json", "csv", "html")),
    ],
    ids=" ".join,
)
def test_nothing_of_a_file_acts_on_a_terminal(
    run: Run,
    evil: str,
    argv: tuple[str, ...],
) -> None:
    text = json.dumps({"kind": "List", "items": evil_objects(evil)})
    code, out, err = run(text, *argv)
    assert code in (0, 1), err
    assert out
    assert not ACTS.search(out.removesuffix("\n"))
    assert not ACTS.search(err)
    if argv[-1] not in ("json", "html"):
        assert not [line for line in out.splitlines() if line.startswith("# b")], "a line of its own"


@pytest.mark.parametrize("command", OFF)
def test_an_error_that_quotes_a_file_does_not_act_either(run: Run, command: str) -> None:
    text = json.dumps(pod(metadata={"labels": {ESCAPE: 5}}))
    code, out, err = run(text, command)
    assert (code, out) == (65, "")
    assert "metadata.labels.\\x1b" in err
    assert not ACTS.search(err)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r="])
def test_no_cell_of_csv_is_a_formula(run: Run, begin: str) -> None:
    name = f'{begin}HYPERLINK("https://evil.example","a")'
    _, out, _ = run(json.dumps(pod(name, name)), "audit", "-A", "-o", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    for cell in (row["namespace"], row["name"]):
        assert cell == f"'{printable(name)}"


def test_a_command_to_restart_is_one_command_whatever_the_name(run: Run) -> None:
    owner = {"ownerReferences": [{"kind": "StatefulSet", "name": "a; reboot $(b)", "controller": True}]}
    text = json.dumps(pod(namespace="n`c`", metadata=owner))
    _, out, _ = run(text, "audit", "-A", "-o", "json")
    command = json.loads(out)["restarts"][0]["workloads"][0]["command"]
    assert shlex.split(command) == [
        "kubectl",
        "--namespace",
        "n`c`",
        "rollout",
        "restart",
        "statefulset/a; reboot $(b)",
    ]
    assert shlex.quote("statefulset/a; reboot $(b)") in command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\x1bb", "a\\x1bb"),
        ("a\nb", "a\\nb"),
        ("\ud800", "\\ud800"),
        ("\u202e", "\\u202e"),
    ],
)
def test_what_is_not_shown_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert table([(text,)]) == [shown]


WRONG: dict[str, tuple[Any, str]] = {
    "spec": (pod(spec=5), "spec"),
    "spec-text": (pod(spec="x"), "spec"),
    "container": (pod(spec={"containers": [None]}), "spec.containers.0"),
    "containers": (pod(spec={"containers": {}}), "spec.containers"),
    "context": (pod(spec={"securityContext": []}), "spec.securityContext"),
    "os": (pod(spec={"os": 5}), "spec.os"),
    "labels": (pod(metadata={"labels": []}), "metadata.labels"),
    "annotations": (pod(metadata={"annotations": "x"}), "metadata.annotations"),
    "owners": (pod(metadata={"ownerReferences": 5}), "metadata.ownerReferences"),
    "metadata": ({"kind": "Pod", "metadata": 5}, "metadata"),
    "kind": ({"kind": 5}, "a Kubernetes object with a kind"),
    "item": (5, "a Kubernetes object with a kind"),
    "namespace": ({"kind": "Namespace", "metadata": {"name": "n", "labels": []}}, "metadata.labels"),
    "surrogate": (pod(metadata={"labels": {"a": "\ud800"}}), "half of a surrogate pair"),
    "surrogate-key": (pod(metadata={"annotations": {"\udfff": "a"}}), "half of a surrogate pair"),
    "surrogate-elsewhere": (pod(status={"a": ["\ud800"]}), "half of a surrogate pair"),
    "surrogate-name": (pod("\ud800"), "half of a surrogate pair"),
}


@pytest.mark.parametrize("command", OFF)
@pytest.mark.parametrize(("wrong", "told"), WRONG.values(), ids=WRONG)
def test_an_object_of_another_shape_is_named(
    run: Run,
    command: str,
    wrong: Any,  # noqa: ANN401 - JSON
    told: str,
) -> None:
    text = json.dumps({"kind": "List", "items": [pod(), wrong]})
    code, out, err = run(text, command)
    assert (code, out) == (65, "")
    assert err.startswith("error: ")
    assert "item 1" in err
    assert told in err
    assert not ACTS.search(err)


@pytest.mark.parametrize("command", OFF)
@pytest.mark.parametrize("levels", [900, 9_995, 50_000])
def test_managed_fields_of_any_depth_end_no_report(run: Run, command: str, levels: int) -> None:
    deep = '{"f:x":' * levels + "{}" + "}" * levels
    items = [pod("deep", metadata={"managedFields": []}), pod("other")]
    text = json.dumps({"kind": "List", "items": items}).replace('"managedFields": []', f'"managedFields": [{deep}]')
    code, out, err = run(text, command, "--output", "json")
    assert code in (0, 1), err
    report = json.loads(out)
    assert (report["summary"]["pods"] if command == "audit" else len(report["items"])) == 2


@pytest.mark.parametrize(
    "text", ["[" * 60_000, "- " * 60_000, "? " * 60_000, "{a: " * 60_000], ids=lambda text: text[:3]
)
def test_yaml_that_is_nested_too_deeply_is_refused(text: str, tmp_path: Path) -> None:
    """One level too many ends the process, without an error."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(text)
    for read in (
        lambda: manifests.parse(text.encode(), origin="file"),
        lambda: settings.parse(text.encode(), origin="file"),
        lambda: read_kubeconfig([str(kubeconfig)]),
    ):
        with pytest.raises(InvalidConfigurationError, match="nested 1000 levels or more"):
            read()


def test_yaml_with_many_brackets_that_nest_little_is_read() -> None:
    one = {**pod(), "x": [[] for _ in range(2_000)]}
    assert len(manifests.parse(yaml.safe_dump(one).encode(), origin="file")) == 1
