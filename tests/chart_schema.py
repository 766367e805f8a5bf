"""values.schema.json says of `settings` what reconciler.settings accepts: `python -m tests.chart_schema` renews it.

Helm knows draft-07 only. References are put in place and null is allowed wherever a value may be left out, because Helm
takes null for "take this away"; so its messages name one path and one reason.
"""

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from reconciler import settings

if TYPE_CHECKING:
    from pydantic_core import core_schema

FILE: Final = Path(__file__).parent.parent / "charts" / "seccomp-reconciler" / "values.schema.json"
# As durations.parse reads them.
_DURATION: Final = r"^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"
# Rules of the model that are code, not a pattern: (the start of) what they allow.
_TEXTS: Final = {
    "_label_key": r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
    "_server_name": r"^[A-Za-z0-9.:*-]{1,253}$",
    "_webhook_url": "^https://[^/?#@]+[^?#]*$",
}
# Two parts of the model's pattern that Go's regular expressions lack, in other words.
_LOOKAHEAD: Final = "(?=[^.]+\\.[^.]+\\.[^.]+)"
_SEGMENT: Final = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
# Words for people; and limits in seconds, which pydantic puts beside a duration's text.
_LEFT_OUT: Final = ("$defs", "title", "default", "description", "ge", "gt", "le")


class _Generator(GenerateJsonSchema):
    """Says what the model's own validators allow, as far as a pattern can."""

    def function_before_schema(self, schema: "core_schema.BeforeValidatorFunctionSchema") -> JsonSchemaValue:
        if schema["function"]["function"] is settings._duration:
            return {"type": "string", "pattern": _DURATION}  # what else it must be, the reconciler says
        return super().function_before_schema(schema)

    def function_after_schema(self, schema: "core_schema.AfterValidatorFunctionSchema") -> JsonSchemaValue:
        found = super().function_after_schema(schema)
        function: Any = schema["function"]["function"]
        name = getattr(function, "__qualname__", "")
        if name in _TEXTS:
            return {**found, "pattern": _TEXTS[name]}
        if name != f"{settings._checked.__name__}.<locals>.check":
            return found
        known = inspect.getclosurevars(function).nonlocals
        pattern = known["pattern"]
        if pattern.startswith(_LOOKAHEAD):
            pattern = rf"{_SEGMENT}(\.{_SEGMENT}){{2,}}"
        return {**found, "pattern": f"^({pattern})$", "maxLength": known["longest"]}


def generate() -> dict[str, Any]:
    """Return the schema of the value `settings`: draft-07, without references."""
    whole = settings.ReconcilerConfiguration.model_json_schema(schema_generator=_Generator)
    plain: dict[str, Any] = _plain(whole, whole.get("$defs", {}))
    plain["description"] = (
        "The body of ReconcilerConfiguration, from reconciler/settings.py by `python -m tests.chart_schema`."
    )
    return plain


def _plain(node: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, list):
        return [_plain(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _plain({**definitions[node["$ref"].rpartition("/")[2]], **beside}, definitions)
    if "anyOf" in node:  # X or null
        (choice,) = (one for one in node["anyOf"] if one != {"type": "null"})
        return _plain({**choice, **{key: value for key, value in node.items() if key != "anyOf"}}, definitions)
    found = {
        key: _properties(node, definitions) if key == "properties" else _plain(value, definitions)
        for key, value in node.items()
        if key not in _LEFT_OUT
    }
    if "patternProperties" in found:
        found["additionalProperties"] = False
    return found


def _properties(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    plain = {name: _plain(one, definitions) for name, one in node["properties"].items()}
    return {name: one if name in node.get("required", ()) else _or_null(one) for name, one in plain.items()}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`, which null satisfies too."""
    found = dict(schema)
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if "enum" in found:
        found["enum"] = [*found["enum"], None]
    if "type" in found:
        found["type"] = [found["type"], "null"]
    return found


def with_settings(document: str) -> str:
    """Return the schema file `document` with its part `settings` renewed."""
    content = json.loads(document)
    content["properties"]["settings"] = generate()
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(with_settings(FILE.read_text()))
    print(f"{FILE}: settings renewed")
