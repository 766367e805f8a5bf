"""The verdict on each document of the corpus is gardenlet's own, or differs for the reason that stands beside it.

The column `gardenlet` was recorded from gardenlet's own decoder and feature gates (gardener v1.150, b312835d), `either`
where Go's map order decides; `body` is short for a document that begins with the usual apiVersion and kind.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import ExitCode, InvalidConfigurationError
from reconciler.gardenlet import document, featuregates, goyaml

HERE = Path(__file__).parent
HEAD = "apiVersion: gardenlet.config.gardener.cloud/v1alpha1\nkind: GardenletConfiguration\n"
CORPUS: list[dict[str, str]] = json.loads((HERE / "corpus.json").read_text())
CASES: dict[str, dict[str, str]] = json.loads((HERE / "gates" / "verdicts.json").read_text())


def content(entry: dict[str, str]) -> bytes:
    if "base64" in entry:
        return base64.b64decode(entry["base64"])
    return (entry["text"] if "text" in entry else HEAD + entry["body"]).encode()


def verdict(given: bytes) -> str:
    try:
        configuration = document.parse(given, origin="config.yaml")
    except InvalidConfigurationError:
        return "error"
    return "enabled" if featuregates.decide(configuration.feature_gates).enabled else "disabled"


def refusal(given: bytes, *, embedded: bool = False) -> str:
    with pytest.raises(InvalidConfigurationError) as caught:
        (document.parse_any if embedded else document.parse)(given, origin="config.yaml")
    assert caught.value.exit_code is ExitCode.INVALID_CONFIGURATION
    return str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_recorded_case_has_its_verdict(name: str) -> None:
    assert verdict((HERE / "gates" / name).read_bytes()) == CASES[name]["expected"]


def test_each_corpus_document_has_its_verdict() -> None:
    found = {entry["id"]: verdict(content(entry)) for entry in CORPUS}
    assert found == {entry["id"]: entry["expected"] for entry in CORPUS}


def test_parse_any_agrees_with_parse_on_each_plain_document() -> None:
    def parsed(
        parse: Callable[..., document.GardenletConfiguration], given: bytes
    ) -> document.GardenletConfiguration | None:
        try:
            return parse(given, origin="x")
        except InvalidConfigurationError:
            return None

    given = {entry["id"]: content(entry) for entry in CORPUS}
    plain = {name: parsed(document.parse, one) for name, one in given.items()}
    assert {name: parsed(document.parse_any, one) for name, one in given.items()} == plain


def test_differences_to_gardenlet_have_a_reason_and_are_safe() -> None:
    """We may refuse what gardenlet takes; we take what it refuses only where the gates are a matter of its version."""
    for entry in CORPUS:
        if entry["expected"] == entry["gardenlet"]:
            continue
        assert entry["why"], entry["id"]
        if entry["expected"] != "error":
            assert entry["why"] == "a gate that gardenlet refuses is a warning", entry["id"]


def test_null_gate_is_an_explicit_false() -> None:
    found = document.parse(f"{HEAD}featureGates: {{DefaultSeccompProfile: , AllAlpha: true}}".encode(), origin="x")
    assert dict(found.feature_gates) == {"DefaultSeccompProfile": False, "AllAlpha": True}


def test_result_is_immutable() -> None:
    found = document.parse(f"{HEAD}featureGates: {{AllAlpha: true}}".encode(), origin="x")
    with pytest.raises(AttributeError):
        found.feature_gates = {}  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.feature_gates["AllAlpha"] = False  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"{HEAD}featureGates:\n\tA: true\n", "config.yaml, line 4, column 1: ", id="scanner"),
        pytest.param(f"{HEAD}foo: *a\n", "config.yaml, line 3, column 6: no anchor 'a'", id="alias"),
        pytest.param(f"{HEAD}# \x01\n", "config.yaml, line 3, column 3: the control character U+0001", id="control"),
        pytest.param(f"{HEAD}\r\nfoo: !!int x", "config.yaml, line 4, column 6: 'x' is tagged !!int", id="tag"),
        pytest.param('{"kind": "",\n "a": 01}', "config.yaml, line 2, column 8: no JSON", id="json"),
        pytest.param(f"{HEAD}foo: .nan", "config.yaml: infinity and not-a-number", id="unfit"),
        pytest.param(f"{HEAD}logLevel: 5", "config.yaml, logLevel holds a number: expected a text", id="field"),
        pytest.param(f"{HEAD}featureGates: {{A: 'on'}}", "featureGates, 'A' holds a text: expected true or", id="gate"),
        pytest.param("kind: Seed", "kind 'Seed': expected apiVersion gardenlet.config.gardener.cloud/v1", id="kind"),
        pytest.param("", "config.yaml says nothing", id="empty"),
        pytest.param("a", "config.yaml holds a text: expected a mapping", id="text"),
    ],
)
def test_message_says_where_what_and_what_to_do(text: str, expected: str) -> None:
    message = refusal(text.encode())
    assert expected in message
    assert message.endswith("correct the document; until then nothing is changed")


def test_message_is_short_and_printable_whatever_the_document_holds() -> None:
    name = "\x1b[31m\n" + "x" * 100_000
    message = refusal(f"{HEAD}featureGates: {{{json.dumps(name)}: 1}}".encode())
    assert message.isprintable()
    assert len(message) < 500


# --- Embedded documents ----------------------------------------------------------------------------------------------

SEEDMANAGEMENT = "apiVersion: seedmanagement.gardener.cloud/v1alpha1\n"
INDENTED = "".join(f"      {line}\n" for line in HEAD.splitlines())


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(f"{SEEDMANAGEMENT}kind: Gardenlet\nspec:\n  deployment: {{}}\n  config:\n", id="Gardenlet"),
        pytest.param(
            f"{SEEDMANAGEMENT}kind: ManagedSeed\nspec:\n  gardenlet:\n    mergeWithParent: false\n    config:\n",
            id="ManagedSeed",
        ),
    ],
)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{INDENTED}      featureGates: {{DefaultSeccompProfile: on}}\n", True),
        (f"{INDENTED}      featureGates: {{DefaultSeccompProfile: off}}\n", False),
        (f"{INDENTED}", False),
        ("      featureGates: {AllAlpha: true}\n", True),
        (f"{INDENTED}      featureGates: {{DefaultSeccompProfile: 'on'}}\n", None),
        ("      kind: Gardenlet\n", None),
        ("      {}\n", None),
        ("      []\n", None),
        ("      text\n", None),
        ("", None),
        ("      featureGates: {DefaultSeccompProfile: .nan}\n", None),
    ],
)
def test_embedded_document_decides_likewise(head: str, body: str, expected: bool | None) -> None:  # noqa: FBT001
    given = (head + body).encode()
    if expected is None:
        refusal(given, embedded=True)
    else:
        gates = document.parse_any(given, origin="x").feature_gates
        assert featuregates.decide(gates).enabled is expected
    refusal(given)  # parse itself takes the plain document only


def test_embedded_document_in_json() -> None:
    inner = {"kind": "GardenletConfiguration", "featureGates": {"DefaultSeccompProfile": True}}
    given = {"apiVersion": "seedmanagement.gardener.cloud/v1alpha1", "kind": "Gardenlet", "spec": {"config": inner}}
    found = document.parse_any(json.dumps(given).encode(), origin="x")
    assert dict(found.feature_gates) == {"DefaultSeccompProfile": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"{SEEDMANAGEMENT}kind: Gardenlet\n", "spec.config is absent or null", id="no spec"),
        pytest.param(
            f"{SEEDMANAGEMENT}kind: Gardenlet\nspec: {{config: }}", "spec.config is absent or null", id="null"
        ),
        pytest.param(
            f"{SEEDMANAGEMENT}kind: ManagedSeed\nspec: {{gardenlet: {{mergeWithParent: no}}}}",
            "spec.gardenlet.config is absent or null",
            id="no gardenlet config",
        ),
        pytest.param(f"{SEEDMANAGEMENT}kind: Gardenlet\nspec: []", "spec holds a list", id="spec is a list"),
        pytest.param(f"{SEEDMANAGEMENT}kind: ManagedSeedSet\n", "Gardenlet or ManagedSeed", id="other kind"),
        pytest.param(
            f"{SEEDMANAGEMENT}kind: Gardenlet\n".replace("v1alpha1", "v1beta1"),
            "expected seedmanagement.gardener.cloud/v1alpha1",
            id="other version",
        ),
        pytest.param("kind: Gardenlet\nspec: {config: {kind: }}", "kind 'Gardenlet'", id="no apiVersion"),
        pytest.param(f"{HEAD}".replace("Configuration", ""), "kind 'Gardenlet'", id="wrong_kind"),
        pytest.param("apiVersion: a/b/c\nkind: Gardenlet", "'a/b/c'", id="malformed apiVersion"),
        pytest.param("", "says nothing", id="empty"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_what_is_supported(text: str, expected: str) -> None:
    assert expected in refusal(text.encode(), embedded=True)


def test_libyaml_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goyaml, "CParser", None)
    assert "libyaml" in refusal(HEAD.encode())


def test_import_is_light() -> None:
    """check-config and explain must start fast: neither kubernetes nor pydantic is loaded."""
    program = (
        "import sys, reconciler.gardenlet.document, reconciler.gardenlet.featuregates;"
        "print(sorted({'kubernetes', 'pydantic', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
