r"""Bytes in, a GardenletConfiguration or one InvalidConfigurationError out: exactly as gardenlet's own decoder decides.

gardenlet reads the document with apimachinery's UniversalDecoder: what starts with `{` is JSON, all else goes through
sigs.k8s.io/yaml (go-yaml v2, YAML 1.1) into JSON, and from there into the Go struct. Those rules are rebuilt here on
the events of libyaml, which go-yaml v2 is a port of. No file is opened and no Kubernetes client enters here.

Modelled: every top-level field's JSON kind and `etcdConfig.featureGates`. Deeper fields are not (they differ between
gardenlet's versions): a wrong kind there makes gardenlet refuse a document that is accepted here.

Refused here although gardenlet would accept it, always on the side of leaving the cluster alone:
- a document that says nothing: empty, `null`, `{}`, or without one known field that has a value;
- more than MAX_DOCUMENT_BYTES, nesting deeper than MAX_NESTING (aliases followed), a number longer than
  MAX_NUMBER_CHARACTERS, more than MAX_TAG_DIRECTIVES;
- invalid UTF-8 or UTF-16, or a control character, behind the end of the first YAML document;
- a byte order mark that is not at the very beginning of YAML (go-yaml skips it, or not, by its place in a buffer);
- `{a:,b}`, `{a:[b]}` and the like: in a flow collection, a plain text with a colon right before one of `,?[]{}`;
- `\'` within double quotes, and a tag that touches `,`, `[` or `]` or holds an odd percent-escape (`!!str,`, `!a%00`);
- a list or a mapping as an implicit key (`--- []: x`);
- two keys that are the same text in JSON (`1` and `1.0`) when one value is unusable: gardenlet takes the one that Go's
  map order yields.

Source: apimachinery runtime/serializer, sigs.k8s.io/yaml v1.6, go.yaml.in/yaml v2.4, gardener v1.150.
"""

import datetime as dt
import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

import yaml

from reconciler.errors import InvalidConfigurationError

try:
    from yaml.cyaml import CParser  # type: ignore[attr-defined] # the stubs forget it
except ImportError:  # PyYAML was built without libyaml; its Python parser reads other documents than go-yaml does
    CParser = None  # type: ignore[assignment,misc]

API_GROUP: Final = "gardenlet.config.gardener.cloud"
API_VERSION: Final = "v1alpha1"
KIND: Final = "GardenletConfiguration"
EMBEDDING_GROUP: Final = "seedmanagement.gardener.cloud"
EMBEDDING_VERSION: Final = "v1alpha1"
# Where the objects of the seedmanagement group carry the document. Source: gardener pkg/apis/seedmanagement/v1alpha1.
EMBEDDING_PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"Gardenlet": ("spec", "config"), "ManagedSeed": ("spec", "gardenlet", "config")}
)

# 3 MiB: twice what etcd takes by default; a ConfigMap holds 1 MiB.
MAX_DOCUMENT_BYTES: Final = 3 * 1024 * 1024
# A real document has fewer than 20 levels; json.loads needs one Python stack frame a level, and gets 1000 in all.
MAX_NESTING: Final = 100
# Converting digits costs quadratic time; a 64-bit number has 20.
MAX_NUMBER_CHARACTERS: Final = 400
# libyaml compares each with each, and looks each tag up among them one by one.
MAX_TAG_DIRECTIVES: Final = 100

_EXCERPT_CHARACTERS: Final = 60
_REMEDY: Final = "correct the document; until then nothing is changed"


@dataclass(frozen=True, slots=True)
class GardenletConfiguration:
    """The part of gardenlet's configuration that decides: the feature gates as Go's map[string]bool holds them.

    A gate written as null is in the map as False (so Go decodes it): it counts as set explicitly.
    """

    feature_gates: Mapping[str, bool]


def parse(document: bytes, *, origin: str) -> GardenletConfiguration:
    """Return what `document` asks; `origin` names it in messages.

    Raises InvalidConfigurationError where gardenlet would not start with it, and for what the module refuses by itself.
    """
    return _configuration(_read(document, origin), origin)


def parse_any(document: bytes, *, origin: str) -> GardenletConfiguration:
    """Like parse, but the document may also be a Gardenlet or a ManagedSeed that embeds the configuration.

    Raises InvalidConfigurationError as parse does, and where such an object has another version, or embeds nothing.
    """
    value = _read(document, origin)
    meta = _type_meta(value, origin) if _is_object(value) else _TypeMeta()
    if meta.group != EMBEDDING_GROUP:
        return _configuration(value, origin)
    path = EMBEDDING_PATHS.get(meta.kind) if meta.version == EMBEDDING_VERSION else None
    if path is None:
        supported = " or ".join(EMBEDDING_PATHS)
        _refuse(
            f"{origin} is {_excerpt(f'{meta.group}/{meta.version}')} {_excerpt(meta.kind)}",
            f"expected {EMBEDDING_GROUP}/{EMBEDDING_VERSION} {supported}, or {API_GROUP}/{API_VERSION} {KIND}",
        )
    where = f"{origin}, {'.'.join(path)}"
    return _configuration(_embedded(value, path, where), where)


# --- Errors ----------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """A line and a column, counted from 0 as libyaml does."""

    line: int
    column: int


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """A document that cannot be turned into JSON: the problem, and where it is if that is known."""

    def __init__(self, problem: str, place: _Place | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place


def _refuse(found: str, expected: str) -> NoReturn:
    raise InvalidConfigurationError(f"{found}: {expected}; {_REMEDY}")


def _excerpt(text: str) -> str:
    """Return `text` quoted, short, and without characters that would disturb a log or a terminal."""
    return ascii(text if len(text) <= _EXCERPT_CHARACTERS else f"{text[:_EXCERPT_CHARACTERS]}...")


def _position(origin: str, place: _Place | None) -> str:
    return origin if place is None else f"{origin}, line {place.line + 1}, column {place.column + 1}"


# --- Values: what both readers yield ---------------------------------------------------------------------------------


class _Number(NamedTuple):
    """A number, as Go types it: uint64 is what does not fit into int64. Equality is that of Go's map keys."""

    go_type: Literal["int", "uint64", "float64"]
    value: float

    def key_text(self) -> str:
        """Return the text that the number becomes as a key in JSON."""
        if math.isfinite(self.value):
            return str(self.value) if self.go_type == "int" else f"{self.value:g}"
        return ".nan" if math.isnan(self.value) else f"{'-' if self.value < 0 else ''}.inf"


class _Object:
    """A JSON object with its pairs in the order of the text, duplicates included."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, "_Value"]]) -> None:
        self._pairs = pairs

    def pairs(self) -> list[tuple[str, "_Value"]]:
        return self._pairs


_Scalar: TypeAlias = "bool | str | _Number | None"
_Value: TypeAlias = "_Scalar | _Object | _Collection | list[_Value]"


def _is_object(value: _Value) -> bool:
    return isinstance(value, _Object) or (isinstance(value, _Collection) and value.entries is not None)


def _pairs(value: _Value) -> list[tuple[str, _Value]]:
    return value.pairs() if isinstance(value, _Object | _Collection) else []


def _kind_name(value: _Value) -> str:
    if value is None:
        return "null"
    if _is_object(value):
        return "a mapping"
    names: dict[type, str] = {bool: "a boolean", str: "a text", _Number: "a number"}
    return names.get(type(value), "a list")


# --- The struct: JSON into Go's fields -------------------------------------------------------------------------------


class _Kind(Enum):
    """What a field of the struct takes; null is taken by each and changes nothing."""

    OBJECT = "a mapping"
    TEXT = "a text"
    LIST = "a list"


# The top-level fields. Source: gardener pkg/apis/config/gardenlet/v1alpha1/types.go, type GardenletConfiguration.
_FIELDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "apiVersion": _Kind.TEXT,
        "kind": _Kind.TEXT,
        "gardenClientConnection": _Kind.OBJECT,
        "seedClientConnection": _Kind.OBJECT,
        "shootClientConnection": _Kind.OBJECT,
        "controllers": _Kind.OBJECT,
        "resources": _Kind.OBJECT,
        "leaderElection": _Kind.OBJECT,
        "logLevel": _Kind.TEXT,
        "logFormat": _Kind.TEXT,
        "server": _Kind.OBJECT,
        "debugging": _Kind.OBJECT,
        "featureGates": _Kind.OBJECT,
        "seedConfig": _Kind.OBJECT,
        "logging": _Kind.OBJECT,
        "sni": _Kind.OBJECT,
        "etcdConfig": _Kind.OBJECT,
        "exposureClassHandlers": _Kind.LIST,
        "monitoring": _Kind.OBJECT,
        "nodeToleration": _Kind.OBJECT,
    }
)
# apiVersion and kind are first looked up by encoding/json, which folds case (U+017F and U+212A too), unlike the struct.
_FOLDED: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ\u017f\u212a", "abcdefghijklmnopqrstuvwxyzsk")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _TypeMeta:
    group: str = ""
    version: str = ""
    kind: str = ""


def _configuration(value: _Value, origin: str) -> GardenletConfiguration:
    if value is None:
        _refuse_silence(origin)
    if not _is_object(value):
        _refuse(f"{origin} holds {_kind_name(value)}", f"expected a mapping with the fields of {KIND}")
    _check_type_meta(_type_meta(value, origin), origin)
    # To Go, an empty text is as good as none.
    if all(content in (None, "") or not _is_known(name) for name, content in _pairs(value)):
        _refuse_silence(origin)
    return GardenletConfiguration(MappingProxyType(_feature_gates(value, origin)))


def _refuse_silence(origin: str) -> NoReturn:
    _refuse(
        f"{origin} says nothing: it is empty, or no field of {KIND} in it has a value",
        f"expected apiVersion {API_GROUP}/{API_VERSION} and kind {KIND}. A truncated file must not switch anything off",
    )


def _is_known(name: str) -> bool:
    return name in _FIELDS or name.translate(_FOLDED) in ("apiversion", "kind")


def _type_meta(value: _Value, origin: str) -> _TypeMeta:
    found = {"apiversion": "", "kind": ""}
    for name, content in _pairs(value):
        folded = name.translate(_FOLDED)
        if folded not in found or content is None:
            continue
        if not isinstance(content, str):
            _refuse(f"{origin}, {_excerpt(name)} holds {_kind_name(content)}", "expected a text")
        found[folded] = content
    api_version = found["apiversion"]
    if api_version in ("", "/"):
        return _TypeMeta(kind=found["kind"])
    if api_version.count("/") > 1:
        _refuse(f"{origin} has apiVersion {_excerpt(api_version)}", f"expected {API_GROUP}/{API_VERSION}")
    group, _, version = api_version.rpartition("/")
    return _TypeMeta(group, version, found["kind"])


def _check_type_meta(meta: _TypeMeta, origin: str) -> None:
    """Refuse another type; what is missing is taken from the expected type. Source: apimachinery gvkWithDefaults."""
    group, version = meta.group, meta.version
    if not version and group in ("", API_GROUP):
        group, version = API_GROUP, API_VERSION
    if (group, version, meta.kind or KIND) != (API_GROUP, API_VERSION, KIND):
        _refuse(
            f"{origin} is apiVersion {_excerpt(f'{group}/{version}')}, kind {_excerpt(meta.kind or KIND)}",
            f"expected apiVersion {API_GROUP}/{API_VERSION}, kind {KIND}",
        )


def _feature_gates(value: _Value, origin: str) -> dict[str, bool]:
    """Check the kind of each known field and return the gates; JSON's repeated sections add up, as in Go."""
    gates: dict[str, bool] = {}
    for name, content in _pairs(value):
        kind = _FIELDS.get(name)
        if kind is None:
            continue
        if content is None:
            if name == "featureGates":
                gates = {}
            continue
        if not _takes(kind, content):
            _refuse(f"{origin}, {name} holds {_kind_name(content)}", f"expected {kind.value}")
        if name == "featureGates":
            gates.update(_gate_values(content, f"{origin}, {name}"))
        elif name == "etcdConfig":
            _check_etcd_gates(content, origin)
    return gates


def _takes(kind: _Kind, value: _Value) -> bool:
    match kind:
        case _Kind.TEXT:
            return isinstance(value, str)
        case _Kind.OBJECT:
            return _is_object(value)
        case _Kind.LIST:
            return _kind_name(value) == _Kind.LIST.value


def _check_etcd_gates(value: _Value, origin: str) -> None:
    for name, content in _pairs(value):
        if name != "featureGates" or content is None:
            continue
        where = f"{origin}, etcdConfig.featureGates"
        if not _is_object(content):
            _refuse(f"{where} holds {_kind_name(content)}", f"expected {_Kind.OBJECT.value}")
        for _ in _gate_values(content, where):
            pass


def _gate_values(value: _Value, where: str) -> Iterator[tuple[str, bool]]:
    for name, content in _pairs(value):
        if content is not None and not isinstance(content, bool):
            _refuse(
                f"{where}, {_excerpt(name)} holds {_kind_name(content)}",
                "expected true or false, without quotes",
            )
        yield _SURROGATES.sub("\ufffd", name), bool(content)


def _embedded(value: _Value, path: tuple[str, ...], where: str) -> _Value:
    for step in path:
        found = [content for name, content in _pairs(value) if name == step]
        if not found or found[-1] is None:
            _refuse(
                f"{where} is absent or null",
                f"expected the {KIND} that this object embeds; without it nothing is asked",
            )
        value = found[-1]
        if not _is_object(value):
            _refuse(f"{where}: {step} holds {_kind_name(value)}", f"expected {_Kind.OBJECT.value}")
    return value


# --- Bytes: which format, which characters ---------------------------------------------------------------------------

# Go's unicode.IsSpace; Python's own str.isspace has U+001C to U+001F besides.
_GO_SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
_NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UTF16: Final = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def _read(document: bytes, origin: str) -> _Value:
    if len(document) > MAX_DOCUMENT_BYTES:
        _refuse(
            f"{origin} has {len(document)} bytes", f"expected a {KIND} of at most {MAX_DOCUMENT_BYTES} bytes (3 MiB)"
        )
    text = document.decode("utf-8", "surrogateescape")
    try:
        if text.lstrip(_GO_SPACES).startswith("{"):
            return _read_json(text)
        return _read_yaml(document)
    except _Unreadable as error:
        _refuse(
            f"{_position(origin, error.place)}: {error.problem}",
            f"expected a {KIND} in YAML or JSON that gardenlet itself can read",
        )


def _read_json(text: str) -> _Value:
    depth = _json_depth(text)
    if depth > MAX_NESTING:
        raise _Unreadable(f"nested {depth} levels deep, more than {MAX_NESTING}")
    # The digits are never converted: no field that is looked at is a number.
    number = _Number("float64", 0.0)
    try:
        value: _Value = json.loads(
            text,
            object_pairs_hook=_Object,
            parse_int=lambda _: number,
            parse_float=lambda _: number,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        place = _Place(error.lineno - 1, error.colno - 1)
        raise _Unreadable(f"no JSON, which it must be as it starts with '{{': {error.msg}", place) from None
    except RecursionError:
        raise _Unreadable("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise _Unreadable(f"{name} is no JSON")


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


def _yaml_text(document: bytes) -> str:
    """Return the characters of a YAML stream without its byte order mark. Source: go-yaml readerc."""
    encoding = _UTF16.get(document[:2], "utf-8")
    try:
        text = document.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _Unreadable(f"byte {error.start} is no valid {encoding.upper()}: {error.reason}") from None
    if bad := _NOT_YAML.search(text):
        place = _place_of(text, bad.start())
        raise _Unreadable(f"the control character U+{ord(bad.group()):04X} is not allowed", place)
    return text


def _place_of(text: str, offset: int) -> _Place:
    line = line_start = 0
    for line_break in _LINE_BREAK.finditer(text, 0, offset):
        line += 1
        line_start = line_break.end()
    return _Place(line, offset - line_start)


# --- YAML scalars: go-yaml's resolve ---------------------------------------------------------------------------------

_TAG: Final = "tag:yaml.org,2002:"
_MERGE_TAG: Final = f"{_TAG}merge"
_BINARY_TAG: Final = f"{_TAG}binary"
_TYPED_TAGS: Final = frozenset(_TAG + name for name in ("bool", "int", "float", "null", "timestamp"))
_WORDS: Final[Mapping[str, "bool | _Number | None"]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{sign + word: _Number("float64", math.inf) for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{f"-{word}": _Number("float64", -math.inf) for word in (".inf", ".Inf", ".INF")},
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


def _resolve(tag: str | None, text: str) -> _Scalar:
    """Return the value of a scalar that is not a plain text by its quotes. Raises _Unreadable for a tag that lies."""
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
        if name == "float" and isinstance(value, _Number) and value.go_type == "int":
            return _Number("float64", float(value.value))
        if name == _tag_name(value):
            return value
    raise _Unreadable(f"{_excerpt(text)} is tagged !!{name}, which it is not")


def _tag_name(value: _Scalar) -> str:
    if isinstance(value, _Number):
        return "float" if value.go_type == "float64" else "int"
    return {type(None): "null", bool: "bool"}.get(type(value), "str")


def _guess(text: str) -> _Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if text in _NOT_A_NUMBER:
        return _Number("float64", float("nan"))  # never the same object twice: as keys, no two are equal in Go
    if text[0] == ".":
        return _float(_POINT_FLOAT, text) or text
    if text[0] in "123456789" and len(text) < 19 and text.isascii() and text.isdecimal():  # noqa: PLR2004 - fits int64
        return _Number("int", int(text))
    if text[0] in "+-0123456789":
        return _number(text.replace("_", "")) or text
    return text


def _number(plain: str) -> _Number | None:
    match = _INTEGER.fullmatch(plain)
    if match is None:
        return _float(_FLOAT, plain) or _signed_binary(plain)
    _check_length(plain)
    base = str(match.lastgroup)
    value = int(f"{match['sign']}{match[base]}", _BASES[base])
    if -(2**63) <= value < 2**63:
        return _Number("int", value)
    if not match["sign"] and value < 2**64:
        return _Number("uint64", value)
    return _float(_FLOAT, plain)


def _signed_binary(plain: str) -> _Number | None:
    match = _SIGNED_BINARY.fullmatch(plain)
    if match is None:
        return None
    _check_length(plain)
    value = int(match[1], 2)
    return _Number("int", value) if -(2**63) <= value < 2**63 else None


def _float(pattern: re.Pattern[str], text: str) -> _Number | None:
    if pattern.fullmatch(text) is None:
        return None
    _check_length(text)
    value = float(text)
    return _Number("float64", value) if math.isfinite(value) else None  # Go: out of range, hence a text


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise _Unreadable(f"a number of {len(text)} characters, more than {MAX_NUMBER_CHARACTERS}")


def _decode_binary(text: str) -> str:
    encoded = text.replace("\r", "").replace("\n", "")
    if _BASE64.fullmatch(encoded) is None:
        raise _Unreadable(f"{_excerpt(text)} is tagged !!binary but is no base64")
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


# --- YAML collections: go-yaml's decoder, on libyaml's events --------------------------------------------------------


class _Collection:
    """A mapping (`entries`) or a list (`entries` is None), finished or still open, as go-yaml decodes it.

    JSON cannot hold every YAML value (.inf, a null key); go-yaml refuses those late, and only where they survive
    overriding: `unfit` is the reason why this value cannot be had, or None.
    """

    __slots__ = ("depth", "entries", "is_open", "suspect", "unfit")

    def __init__(self, entries: "dict[_Scalar, _Value] | None") -> None:
        self.entries = entries
        self.depth = 1
        self.is_open = True
        self.suspect = False
        self.unfit: str | None = None

    def pairs(self) -> list[tuple[str, _Value]]:
        """Return the pairs as JSON has them: keys are texts, sorted as Go's encoder does."""
        entries = self.entries or {}
        return sorted(((_key_text(key), value) for key, value in entries.items()), key=lambda pair: pair[0])


def _key_text(key: _Scalar) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, _Number):
        return key.key_text()
    return "true" if key else "false"


def _unfit_value(value: _Value) -> str | None:
    if type(value) is _Collection:
        return value.unfit
    if type(value) is _Number and not math.isfinite(value.value):
        return "infinity and not-a-number have no place in JSON"
    return None


def _unfit_key(key: _Scalar) -> str | None:
    if key is None:
        return "a null key has no place in JSON"
    if type(key) is _Number and key.go_type == "uint64":
        return "a key is a number beyond 64 bits with sign"
    return None


@dataclass(slots=True)
class _Frame:
    """An open collection and what is awaited within it."""

    collection: _Collection
    anchor: str | None
    steps_before: int
    in_flow: bool
    is_mapping: bool
    merges: "list[_Collection] | None" = None  # not None: this list is the value of a merge key
    awaits_key: bool = True
    merging: bool = False
    key: _Scalar = None


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: _Value
    steps: int


# Source: go-yaml decode.go, allowedAliasRatio.
_RATIO_LOW: Final = 400_000
_RATIO_HIGH: Final = 4_000_000


def _allowed_alias_ratio(steps: int) -> float:
    if steps <= _RATIO_LOW:
        return 0.99
    if steps >= _RATIO_HIGH:
        return 0.10
    return 0.99 - 0.89 * ((steps - _RATIO_LOW) / (_RATIO_HIGH - _RATIO_LOW))


@dataclass(slots=True)
class _Decoder:
    """Turns events into one value, without recursion and in linear time.

    go-yaml decodes what an alias names once more for each alias, and refuses when that becomes most of its work. Here
    each anchored value is kept with the number of decoding steps it stands for, so that the same sum is only counted.
    """

    root: _Value = None
    steps: int = 1  # the document node
    aliased_steps: int = 0
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Anchored] = field(default_factory=dict)

    def count(self, steps: int, aliased_steps: int) -> None:
        self.steps += steps
        self.aliased_steps += aliased_steps
        if (
            self.aliased_steps > 100  # noqa: PLR2004 - go-yaml's number
            and self.steps > 1000  # noqa: PLR2004 - likewise
            and self.aliased_steps / self.steps > _allowed_alias_ratio(self.steps)
        ):
            raise _Unreadable("the document consists almost only of aliases")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        tag, text, implicit = event.tag, event.value, event.implicit[0]
        frame = self.stack[-1] if self.stack else None
        if (
            frame is not None
            and frame.is_mapping
            and frame.awaits_key
            and text == "<<"
            and (implicit or tag == _MERGE_TAG)
        ):
            frame.awaits_key = False
            frame.merging = True
            if event.anchor is not None:
                self.anchors[event.anchor] = _Anchored(text, 1)
            return
        value = text if tag is None and not implicit else _resolve(tag, text)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, 1)
        self.count(1, 0)
        self.deliver(value)

    def alias(self, event: yaml.AliasEvent) -> None:
        name = str(event.anchor)
        anchored = self.anchors.get(name)
        if anchored is None:
            raise _Unreadable(f"no anchor {_excerpt(name)} stands before this alias")
        if isinstance(anchored.value, _Collection) and anchored.value.is_open:
            raise _Unreadable(f"the value of the anchor {_excerpt(name)} contains itself")
        self.count(1, 0)
        self.count(anchored.steps, anchored.steps)
        self.deliver(anchored.value)

    def start(self, event: yaml.CollectionStartEvent, *, is_mapping: bool) -> None:
        frame = self.stack[-1] if self.stack else None
        if len(self.stack) >= MAX_NESTING:
            raise _Unreadable(f"nested more than {MAX_NESTING} levels deep")
        collection = _Collection({} if is_mapping else None)
        merges: list[_Collection] | None = None
        if frame is not None and frame.merging and not is_mapping:
            merges = []  # go-yaml decodes the mappings of the list, never the list
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(collection, 0)
        in_flow = bool(event.flow_style) or (frame is not None and frame.in_flow)
        self.stack.append(_Frame(collection, event.anchor, self.steps, in_flow, is_mapping, merges))
        if merges is None:
            self.count(1, 0)

    def end(self) -> None:
        frame = self.stack.pop()
        collection = frame.collection
        collection.is_open = False
        if frame.is_mapping and collection.suspect:
            collection.unfit = _surviving_unfit(collection.entries or {})
        if collection.depth > MAX_NESTING:
            raise _Unreadable(f"nested more than {MAX_NESTING} levels deep by its aliases")
        if frame.anchor is not None and self.anchors[frame.anchor].value is collection:
            steps = self.steps - frame.steps_before + (frame.merges is not None)
            self.anchors[frame.anchor] = _Anchored(collection, steps)
        if frame.merges is None:
            self.deliver(collection)
        else:
            self.merge_list(frame.merges)

    def merge_list(self, sources: list[_Collection]) -> None:
        target = self.stack[-1]
        for source in reversed(sources):
            _merge(target.collection, source)
        target.merging = False
        target.awaits_key = True

    def deliver(self, value: _Value) -> None:
        if not self.stack:
            self.root = value
            return
        frame = self.stack[-1]
        collection = frame.collection
        if type(value) is _Collection and value.depth >= collection.depth:
            collection.depth = value.depth + 1
        if frame.is_mapping:
            self.deliver_to_mapping(frame, value)
            return
        if frame.merges is not None:
            if not isinstance(value, _Collection) or value.entries is None:
                raise _Unreadable("a merge (<<) takes a mapping or a list of mappings")
            frame.merges.append(value)
        collection.unfit = collection.unfit or _unfit_value(value)

    def deliver_to_mapping(self, frame: _Frame, value: _Value) -> None:
        collection = frame.collection
        entries = collection.entries
        if frame.awaits_key:
            if isinstance(value, _Collection | _Object | list):
                raise _Unreadable("a mapping or a list cannot be a key")
            frame.key = value
            frame.awaits_key = False
            return
        frame.awaits_key = True
        if frame.merging:
            if not isinstance(value, _Collection) or value.entries is None:
                raise _Unreadable("a merge (<<) takes a mapping or a list of mappings")
            _merge(collection, value)
            frame.merging = False
        elif entries is not None:
            entries[frame.key] = value
            if _unfit_key(frame.key) or _unfit_value(value):
                collection.suspect = True


def _merge(target: _Collection, source: _Collection) -> None:
    """Override what `target` holds so far: in go-yaml the later wins, be it a key of its own or a merged one."""
    if target.entries is not None and source.entries is not None:
        target.entries.update(source.entries)
    target.suspect = target.suspect or source.suspect
    target.depth = max(target.depth, source.depth)


def _surviving_unfit(entries: "Mapping[_Scalar, _Value]") -> str | None:
    for key, value in entries.items():
        if reason := _unfit_key(key) or _unfit_value(value):
            return reason
    return None


# --- YAML text: libyaml, held to what go-yaml's scanner takes --------------------------------------------------------

_LONG_VERSION: Final = re.compile("(?:^|[\r\n\x85\u2028\u2029])%YAML[ \t]+(?:[0-9]{3,}|[0-9]{1,2}\\.[0-9]{3,})")
_TAG_DIRECTIVE: Final = re.compile("(?:^|[\r\n\x85\u2028\u2029])%TAG")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class _Source:
    """The text of the document, to look at what an event no longer tells."""

    __slots__ = ("_line_starts", "has_escaped_nul", "has_escaped_slash", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.has_escaped_slash = "\\/" in text
        self.has_escaped_nul = "%00" in text
        self._line_starts: array[int] | None = None

    def offset(self, place: _Place) -> int:
        # Not the mark's own index: libyaml counts a CR LF within a scalar once, and elsewhere twice.
        if self._line_starts is None:
            self._line_starts = array("I", [0])
            self._line_starts.extend(match.end() for match in _LINE_BREAK.finditer(self.text))
        if place.line >= len(self._line_starts):
            return len(self.text)
        return self._line_starts[place.line] + place.column

    def between(self, event: yaml.Event) -> str:
        return self.text[self.offset(_place(event.start_mark)) : self.offset(_place(event.end_mark))]


class _Mark(Protocol):
    """What PyYAML's two kinds of marks have in common."""

    line: int
    column: int


def _place(mark: _Mark | None) -> _Place:
    return _Place(0, 0) if mark is None else _Place(mark.line, mark.column)


def _check_scalar(event: yaml.ScalarEvent, source: _Source, *, in_flow: bool) -> None:
    """Refuse what libyaml takes and go-yaml's scanner does not, or reads as something else."""
    if event.style == '"':
        if source.has_escaped_slash and any(match[1] == "/" for match in _ESCAPE.finditer(source.between(event))):
            raise _Unreadable('the escape \\/ within double quotes is no YAML 1.1: write "/"')
    elif in_flow and not event.style and "?" in event.value:
        raise _Unreadable("a question mark within an unquoted text in [] or {}: quote the text")
    if event.tag is not None:
        _check_tag(event, source, in_flow=in_flow)


def _check_tag(event: yaml.ScalarEvent, source: _Source, *, in_flow: bool) -> None:
    if source.has_escaped_nul:
        raise _Unreadable("a tag, and %00 in the same document: the one or the other")
    if in_flow and not event.value and not event.style:
        end = source.offset(_place(event.end_mark))
        if source.text[end : end + 1] == ",":
            raise _Unreadable("a tag that touches a comma: put a space between")


def _check_text(text: str) -> None:
    """Refuse what makes libyaml differ from go-yaml or slow, and can be seen before parsing."""
    if "\ufeff" in text:
        raise _Unreadable("a byte order mark within the text", _place_of(text, text.index("\ufeff")))
    if _LONG_VERSION.search(text):
        raise _Unreadable("the version of the %YAML directive has more than two digits")
    if sum(1 for _ in _TAG_DIRECTIVE.finditer(text)) > MAX_TAG_DIRECTIVES:
        raise _Unreadable(f"more than {MAX_TAG_DIRECTIVES} %TAG directives")


def _read_yaml(document: bytes) -> _Value:
    if CParser is None:
        raise _Unreadable("YAML cannot be read as PyYAML was installed without libyaml: install one of its wheels")
    text = _yaml_text(document)
    _check_text(text)
    source, decoder, parser = _Source(text), _Decoder(), CParser(document)
    event: yaml.Event | None = None
    try:
        while (event := parser.get_event()) is not None and not _is_end(event):
            _take(event, decoder, source)
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise _Unreadable(problem, _place(error.problem_mark or error.context_mark)) from None
    except yaml.YAMLError as error:
        raise _Unreadable(str(error)) from None
    except UnicodeDecodeError:
        raise _Unreadable(
            "a tag holds percent-escapes that are no UTF-8", _place(event.end_mark if event else None)
        ) from None
    except _Unreadable as error:
        raise _Unreadable(error.problem, _place(event.start_mark if event else None)) from None
    if reason := _unfit_value(decoder.root):
        raise _Unreadable(reason)
    return decoder.root


def _is_end(event: yaml.Event) -> bool:
    """Tell whether the first document, the only one that gardenlet reads, is over (or there is none)."""
    return isinstance(event, yaml.DocumentEndEvent | yaml.StreamEndEvent)


def _take(event: yaml.Event, decoder: _Decoder, source: _Source) -> None:
    if isinstance(event, yaml.ScalarEvent):
        _check_scalar(event, source, in_flow=bool(decoder.stack) and decoder.stack[-1].in_flow)
        decoder.scalar(event)
    elif isinstance(event, yaml.CollectionStartEvent):
        if event.tag is not None and source.has_escaped_nul:
            raise _Unreadable("a tag, and %00 in the same document: the one or the other")
        decoder.start(event, is_mapping=isinstance(event, yaml.MappingStartEvent))
    elif isinstance(event, yaml.CollectionEndEvent):
        decoder.end()
    elif isinstance(event, yaml.AliasEvent):
        decoder.alias(event)
    elif isinstance(event, yaml.DocumentStartEvent) and event.version not in (None, (1, 1)):
        raise _Unreadable("only %YAML 1.1 is understood")
