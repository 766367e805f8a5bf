"""The sample files in config/ say what is true."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from reconciler import settings
from reconciler.errors import InvalidConfigurationError
from reconciler.gardenlet import document, featuregates

CONFIG = Path(__file__).resolve().parents[2] / "config"
SAMPLE = CONFIG / "reconciler.yaml"
ALTERNATIVE = re.compile(r"^(\s*)# ([a-zA-Z]+): (.*)$")


def test_the_sample_holds_every_default() -> None:
    assert settings.parse(SAMPLE.read_bytes(), origin="sample") == settings.ReconcilerConfiguration()


def test_the_sample_names_every_option() -> None:
    named = set(re.findall(r"([a-zA-Z]+):", SAMPLE.read_text()))
    missing = aliases(settings.ReconcilerConfiguration) - named
    assert not missing


def aliases(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    waiting: list[Any] = [model]
    seen: set[type[BaseModel]] = set()
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.add(kind)
            for name, field in kind.model_fields.items():
                found.add(field.alias or name)
                waiting.append(field.annotation)
        waiting.extend(getattr(kind, "__args__", ()))
    return found


def alternatives() -> list[tuple[int, str, str]]:
    found = []
    for number, line in enumerate(SAMPLE.read_text().splitlines()):
        match = ALTERNATIVE.match(line)
        if match and match[2] not in ("Leave", "values"):
            found.append((number, match[1] + match[2] + ": " + match[3], match[2]))
    return found


@pytest.mark.parametrize(("number", "line", "option"), alternatives(), ids=[item[2] for item in alternatives()])
def test_each_alternative_is_accepted_in_place_of_the_default(number: int, line: str, option: str) -> None:
    lines = SAMPLE.read_text().splitlines()
    lines[number] = line
    content = yaml.safe_load("\n".join(lines))
    parent = [item for item in parents(content) if option in item][-1]
    if option != "matchLabels" and not line.startswith(option):  # an option of the document itself replaces none
        for other in [name for name in parent if name != option]:
            del parent[other]
    try:
        parsed = settings.parse(yaml.safe_dump(content).encode(), origin="sample")
    except InvalidConfigurationError as error:
        pytest.fail(str(error))
    assert parsed != settings.ReconcilerConfiguration()


def parents(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [value, *(found for inner in value.values() for found in parents(inner))]


def test_every_alternative_is_tried() -> None:
    options = {option for _, _, option in alternatives()}
    assert {"configMap", "deployment", "url", "file", "inline", "matchLabels"} <= options


def test_the_sample_gardenlet_configuration_switches_the_gate_on() -> None:
    parsed = document.parse((CONFIG / "gardenlet.yaml").read_bytes(), origin="sample")
    decision = featuregates.decide(parsed.feature_gates)
    assert (decision.enabled, decision.reason, decision.warnings) == (True, featuregates.Reason.EXPLICIT, ())
