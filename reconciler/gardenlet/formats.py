"""Bytes to values: what starts with `{` is JSON, all else is YAML, as apimachinery's recognizer decides. Pure."""

import json
import re
from typing import Final, NoReturn

from reconciler.gardenlet.goyaml import read_yaml
from reconciler.gardenlet.values import (
    KIND,
    MAX_DOCUMENT_BYTES,
    MAX_NESTING,
    Number,
    Object,
    Place,
    Unreadable,
    Value,
    position,
    refuse,
)

# Go's unicode.IsSpace; Python's own str.isspace has U+001C to U+001F besides.
_GO_SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)


def read(document: bytes, origin: str) -> Value:
    """Return what `document` holds; InvalidConfigurationError names `origin` and the place where it is unreadable."""
    if len(document) > MAX_DOCUMENT_BYTES:
        refuse(
            f"{origin} has {len(document)} bytes", f"expected a {KIND} of at most {MAX_DOCUMENT_BYTES} bytes (3 MiB)"
        )
    text = document.decode("utf-8", "surrogateescape")
    try:
        if text.lstrip(_GO_SPACES).startswith("{"):
            return _read_json(text)
        return read_yaml(document)
    except Unreadable as error:
        refuse(
            f"{position(origin, error.place)}: {error.problem}",
            f"expected a {KIND} in YAML or JSON that gardenlet itself can read",
        )


def _read_json(text: str) -> Value:
    depth = _json_depth(text)
    if depth > MAX_NESTING:
        raise Unreadable(f"nested {depth} levels deep, more than {MAX_NESTING}")
    # The digits are never converted: no field that is looked at is a number.
    number = Number("float64", 0.0)
    try:
        value: Value = json.loads(
            text,
            object_pairs_hook=Object,
            parse_int=lambda _: number,
            parse_float=lambda _: number,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        place = Place(error.lineno - 1, error.colno - 1)
        raise Unreadable(f"no JSON, which it must be as it starts with '{{': {error.msg}", place) from None
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no JSON")


def _json_depth(text: str) -> int:
    """Return how deep the brackets nest outside of strings (for what is JSON; for the rest, the parser will tell)."""
    depth = deepest = 0
    for match in re.finditer(r'"(?:[^"\\]+|\\.)*"?|[\[{]|[\]}]', text, re.DOTALL):
        character = text[match.start()]
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
