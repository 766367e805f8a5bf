"""YAML scalars as go-yaml v2 resolves them: booleans, numbers, dates, binary. Source: its resolve.go."""

import datetime as dt
import math
import re
from collections.abc import Mapping
from typing import Final

from reconciler.gardenlet.values import MAX_NUMBER_CHARACTERS, Number, Scalar, Unreadable, excerpt

_TAG: Final = "tag:yaml.org,2002:"
MERGE_TAG: Final = f"{_TAG}merge"
_BINARY_TAG: Final = f"{_TAG}binary"
_TYPED_TAGS: Final = frozenset(_TAG + name for name in ("bool", "int", "float", "null", "timestamp"))
_WORDS: Final[Mapping[str, "bool | Number | None"]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{sign + word: Number("float64", math.inf) for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{f"-{word}": Number("float64", -math.inf) for word in (".inf", ".Inf", ".INF")},
}
_NOT_A_NUMBER: Final = frozenset((".nan", ".NaN", ".NAN"))
_INTEGER: Final = re.compile(
    "(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<bin>[01]+)|0[oO](?P<oct>[0-7]+)|(?P<old>0[0-7]*)|(?P<dec>[1-9][0-9]*))"
)
_BASES: Final = {"hex": 16, "bin": 2, "oct": 8, "old": 8, "dec": 10}
_SIGNED_BINARY: Final = re.compile("0b([+-][01]+)")  # an accident of go-yaml that counts
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_POINT_FLOAT: Final = re.compile(r"\.[0-9]+(?:[eE][-+]?[0-9]+)?")
_BASE64: Final = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DATE: Final = re.compile("([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_CLOCK: Final = re.compile(
    "(?P<separator>[Tt ])([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?(?P<zone>Z|[+-]([0-9]{2}):([0-9]{2}))?"
)


def resolve_scalar(tag: str | None, text: str) -> Scalar:
    """Return the value of a scalar that is not a plain text by its quotes. Raises Unreadable for a tag that lies."""
    if tag is None:
        return _guess(text)
    if tag == _BINARY_TAG:
        return _decode_binary(text)
    if tag not in _TYPED_TAGS:
        return text
    name = tag.removeprefix(_TAG)
    if name == "timestamp":
        if _is_timestamp(text):
            return text
    else:
        value = _guess(text)
        if name == "float" and isinstance(value, Number) and value.go_type == "int":
            return Number("float64", float(value.value))
        if name == _tag_name(value):
            return value
    raise Unreadable(f"{excerpt(text)} is tagged !!{name}, which it is not")


def _tag_name(value: Scalar) -> str:
    if isinstance(value, Number):
        return "float" if value.go_type == "float64" else "int"
    return {type(None): "null", bool: "bool"}.get(type(value), "str")


def _guess(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if text in _NOT_A_NUMBER:
        return Number("float64", float("nan"))  # never the same object twice: as keys, no two are equal in Go
    if text[0] == ".":
        return _float(_POINT_FLOAT, text) or text
    if text[0] in "123456789" and len(text) < 19 and text.isascii() and text.isdecimal():  # noqa: PLR2004 - fits int64
        return Number("int", int(text))
    if text[0] in "+-0123456789":
        return _number(text.replace("_", "")) or text
    return text


def _number(plain: str) -> Number | None:
    match = _INTEGER.fullmatch(plain)
    if match is None:
        return _float(_FLOAT, plain) or _signed_binary(plain)
    _check_length(plain)
    base = str(match.lastgroup)
    value = int(f"{match['sign']}{match[base]}", _BASES[base])
    if -(2**63) <= value < 2**63:
        return Number("int", value)
    if not match["sign"] and value < 2**64:
        return Number("uint64", value)
    return _float(_FLOAT, plain)


def _signed_binary(plain: str) -> Number | None:
    match = _SIGNED_BINARY.fullmatch(plain)
    if match is None:
        return None
    _check_length(plain)
    value = int(match[1], 2)
    return Number("int", value) if -(2**63) <= value < 2**63 else None


def _float(pattern: re.Pattern[str], text: str) -> Number | None:
    if pattern.fullmatch(text) is None:
        return None
    _check_length(text)
    value = float(text)
    return Number("float64", value) if math.isfinite(value) else None  # Go: out of range, hence a text


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise Unreadable(f"a number of {len(text)} characters, more than {MAX_NUMBER_CHARACTERS}")


def _decode_binary(text: str) -> str:
    encoded = text.replace("\r", "").replace("\n", "")
    if _BASE64.fullmatch(encoded) is None:
        raise Unreadable(f"{excerpt(text)} is tagged !!binary but is no base64")
    import base64  # noqa: PLC0415 - rarely needed

    return base64.b64decode(encoded).decode("utf-8", "surrogateescape")


def _is_timestamp(text: str) -> bool:
    """Tell whether Go's time.Parse takes `text` in one of go-yaml's four layouts."""
    date = _DATE.match(text)
    if date is None or not _is_date(*map(int, date.groups())):
        return False
    rest = text[date.end() :]
    if not rest:
        return True
    clock = _CLOCK.fullmatch(rest)
    if clock is None or (clock["separator"] == " ") != (clock["zone"] is None):
        return False
    hour, minute, second = (int(clock[group]) for group in (2, 3, 4))
    zone_hour, zone_minute = int(clock[6] or 0), int(clock[7] or 0)
    return hour < 24 and minute < 60 and second < 60 and zone_hour <= 24 and zone_minute < 60  # noqa: PLR2004 - a clock


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        dt.date(year or 2000, month, day)  # Go knows a year 0, a leap year like 2000
    except ValueError:
        return False
    return True
