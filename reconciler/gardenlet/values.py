"""What every reader here shares: limits, the one error inside, and the values that YAML and JSON both become."""

import math
from typing import Final, Literal, NamedTuple, NoReturn, TypeAlias

from reconciler.errors import InvalidConfigurationError

API_GROUP: Final = "gardenlet.config.gardener.cloud"
API_VERSION: Final = "v1alpha1"
KIND: Final = "GardenletConfiguration"
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


class Place(NamedTuple):
    """A line and a column, counted from 0 as libyaml does."""

    line: int
    column: int


class Unreadable(Exception):  # noqa: N818 - never leaves this module
    """A document that cannot be turned into JSON: the problem, and where it is if that is known."""

    def __init__(self, problem: str, place: Place | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place


def refuse(found: str, expected: str, *, remedy: str = _REMEDY) -> NoReturn:
    """Raise the error that leaves this package: what was found, what was expected, what to do."""
    raise InvalidConfigurationError(f"{found}: {expected}; {remedy}")


def excerpt(text: str) -> str:
    """Return `text` quoted, short, and without characters that would disturb a log or a terminal."""
    return ascii(text if len(text) <= _EXCERPT_CHARACTERS else f"{text[:_EXCERPT_CHARACTERS]}...")


def position(origin: str, place: Place | None) -> str:
    """Return `origin` with the line and column, counted from 1, where they are known."""
    return origin if place is None else f"{origin}, line {place.line + 1}, column {place.column + 1}"


class Number(NamedTuple):
    """A number, as Go types it: uint64 is what does not fit into int64. Equality is that of Go's map keys."""

    go_type: Literal["int", "uint64", "float64"]
    value: float

    def key_text(self) -> str:
        """Return the text that the number becomes as a key in JSON."""
        if math.isfinite(self.value):
            return str(self.value) if self.go_type == "int" else f"{self.value:g}"
        return ".nan" if math.isnan(self.value) else f"{'-' if self.value < 0 else ''}.inf"


class Object:
    """A JSON object with its pairs in the order of the text, duplicates included."""

    __slots__ = ("_members",)

    def __init__(self, pairs: list[tuple[str, "Value"]]) -> None:
        self._members = pairs

    def pairs(self) -> list[tuple[str, "Value"]]:
        """Return the pairs in the order of the text."""
        return self._members


Scalar: TypeAlias = "bool | str | Number | None"
Value: TypeAlias = "Scalar | Object | Collection | list[Value]"


class Collection:
    """A mapping (`entries`) or a list (`entries` is None), finished or still open, as go-yaml decodes it.

    JSON cannot hold every YAML value (.inf, a null key); go-yaml refuses those late, and only where they survive
    overriding: `unfit` is the reason why this value cannot be had, or None.
    """

    __slots__ = ("depth", "elements", "entries", "is_open", "suspect", "unfit")

    def __init__(self, entries: "dict[Scalar, Value] | None") -> None:
        self.entries = entries
        self.elements: list[Value] = []  # of a list
        self.depth = 1
        self.is_open = True
        self.suspect = False
        self.unfit: str | None = None

    def pairs(self) -> list[tuple[str, Value]]:
        """Return the pairs as JSON has them: keys are texts, sorted as Go's encoder does."""
        entries = self.entries or {}
        return sorted(((_key_text(key), value) for key, value in entries.items()), key=lambda pair: pair[0])


def _key_text(key: Scalar) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, Number):
        return key.key_text()
    return "true" if key else "false"


def is_object(value: Value) -> bool:
    """Return whether `value` is an object to JSON."""
    return isinstance(value, Object) or (isinstance(value, Collection) and value.entries is not None)


def pairs_of(value: Value) -> list[tuple[str, Value]]:
    """Return the pairs of an object, none of anything else."""
    return value.pairs() if isinstance(value, Object | Collection) else []


def elements_of(value: Value) -> "list[Value]":
    """Return the elements of a list, none of anything else."""
    if isinstance(value, Collection):
        return value.elements
    return value if isinstance(value, list) else []


def kind_name(value: Value) -> str:
    """Return what an error calls `value`."""
    if value is None:
        return "null"
    if is_object(value):
        return "a mapping"
    names: dict[type, str] = {bool: "a boolean", str: "a text", Number: "a number"}
    return names.get(type(value), "a list")
