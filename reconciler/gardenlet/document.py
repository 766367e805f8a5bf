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

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, NoReturn

from reconciler.gardenlet.formats import read
from reconciler.gardenlet.values import (
    API_GROUP,
    API_VERSION,
    KIND,
    MAX_DOCUMENT_BYTES,
    MAX_NESTING,
    MAX_NUMBER_CHARACTERS,
    MAX_TAG_DIRECTIVES,
    Value,
    excerpt,
    is_object,
    kind_name,
    pairs_of,
    refuse,
)

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "EMBEDDING_GROUP",
    "EMBEDDING_PATHS",
    "KIND",
    "MAX_DOCUMENT_BYTES",
    "MAX_NESTING",
    "MAX_NUMBER_CHARACTERS",
    "MAX_TAG_DIRECTIVES",
    "GardenletConfiguration",
    "parse",
    "parse_any",
]

EMBEDDING_GROUP: Final = "seedmanagement.gardener.cloud"
EMBEDDING_VERSION: Final = "v1alpha1"
# Where the objects of the seedmanagement group carry the document. Source: gardener pkg/apis/seedmanagement/v1alpha1.
EMBEDDING_PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"Gardenlet": ("spec", "config"), "ManagedSeed": ("spec", "gardenlet", "config")}
)


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
    return _configuration(read(document, origin), origin)


def parse_any(document: bytes, *, origin: str) -> GardenletConfiguration:
    """Like parse, but the document may also be a Gardenlet or a ManagedSeed that embeds the configuration.

    Raises InvalidConfigurationError as parse does, and where such an object has another version, or embeds nothing.
    """
    value = read(document, origin)
    meta = _type_meta(value, origin) if is_object(value) else _TypeMeta()
    if meta.group != EMBEDDING_GROUP:
        return _configuration(value, origin)
    path = EMBEDDING_PATHS.get(meta.kind) if meta.version == EMBEDDING_VERSION else None
    if path is None:
        supported = " or ".join(EMBEDDING_PATHS)
        refuse(
            f"{origin} is {excerpt(f'{meta.group}/{meta.version}')} {excerpt(meta.kind)}",
            f"expected {EMBEDDING_GROUP}/{EMBEDDING_VERSION} {supported}, or {API_GROUP}/{API_VERSION} {KIND}",
        )
    where = f"{origin}, {'.'.join(path)}"
    return _configuration(_embedded(value, path, where), where)


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


def _configuration(value: Value, origin: str) -> GardenletConfiguration:
    if value is None:
        _refuse_silence(origin)
    if not is_object(value):
        refuse(f"{origin} holds {kind_name(value)}", f"expected a mapping with the fields of {KIND}")
    _check_type_meta(_type_meta(value, origin), origin)
    # To Go, an empty text is as good as none.
    if all(content in (None, "") or not _is_known(name) for name, content in pairs_of(value)):
        _refuse_silence(origin)
    return GardenletConfiguration(MappingProxyType(_feature_gates(value, origin)))


def _refuse_silence(origin: str) -> NoReturn:
    refuse(
        f"{origin} says nothing: it is empty, or no field of {KIND} in it has a value",
        f"expected apiVersion {API_GROUP}/{API_VERSION} and kind {KIND}. A truncated file must not switch anything off",
    )


def _is_known(name: str) -> bool:
    return name in _FIELDS or name.translate(_FOLDED) in ("apiversion", "kind")


def _type_meta(value: Value, origin: str) -> _TypeMeta:
    found = {"apiversion": "", "kind": ""}
    for name, content in pairs_of(value):
        folded = name.translate(_FOLDED)
        if folded not in found or content is None:
            continue
        if not isinstance(content, str):
            refuse(f"{origin}, {excerpt(name)} holds {kind_name(content)}", "expected a text")
        found[folded] = content
    api_version = found["apiversion"]
    if api_version in ("", "/"):
        return _TypeMeta(kind=found["kind"])
    if api_version.count("/") > 1:
        refuse(f"{origin} has apiVersion {excerpt(api_version)}", f"expected {API_GROUP}/{API_VERSION}")
    group, _, version = api_version.rpartition("/")
    return _TypeMeta(group, version, found["kind"])


def _check_type_meta(meta: _TypeMeta, origin: str) -> None:
    """Refuse another type; what is missing is taken from the expected type. Source: apimachinery gvkWithDefaults."""
    group, version = meta.group, meta.version
    if not version and group in ("", API_GROUP):
        group, version = API_GROUP, API_VERSION
    if (group, version, meta.kind or KIND) != (API_GROUP, API_VERSION, KIND):
        refuse(
            f"{origin} is apiVersion {excerpt(f'{group}/{version}')}, kind {excerpt(meta.kind or KIND)}",
            f"expected apiVersion {API_GROUP}/{API_VERSION}, kind {KIND}",
        )


def _feature_gates(value: Value, origin: str) -> dict[str, bool]:
    """Check the kind of each known field and return the gates; JSON's repeated sections add up, as in Go."""
    gates: dict[str, bool] = {}
    for name, content in pairs_of(value):
        kind = _FIELDS.get(name)
        if kind is None:
            continue
        if content is None:
            if name == "featureGates":
                gates = {}
            continue
        if not _takes(kind, content):
            refuse(f"{origin}, {name} holds {kind_name(content)}", f"expected {kind.value}")
        if name == "featureGates":
            gates.update(_gate_values(content, f"{origin}, {name}"))
        elif name == "etcdConfig":
            _check_etcd_gates(content, origin)
    return gates


def _takes(kind: _Kind, value: Value) -> bool:
    match kind:
        case _Kind.TEXT:
            return isinstance(value, str)
        case _Kind.OBJECT:
            return is_object(value)
        case _Kind.LIST:
            return kind_name(value) == _Kind.LIST.value


def _check_etcd_gates(value: Value, origin: str) -> None:
    for name, content in pairs_of(value):
        if name != "featureGates" or content is None:
            continue
        where = f"{origin}, etcdConfig.featureGates"
        if not is_object(content):
            refuse(f"{where} holds {kind_name(content)}", f"expected {_Kind.OBJECT.value}")
        for _ in _gate_values(content, where):
            pass


def _gate_values(value: Value, where: str) -> Iterator[tuple[str, bool]]:
    for name, content in pairs_of(value):
        if content is not None and not isinstance(content, bool):
            refuse(
                f"{where}, {excerpt(name)} holds {kind_name(content)}",
                "expected true or false, without quotes",
            )
        yield _SURROGATES.sub("\ufffd", name), bool(content)


def _embedded(value: Value, path: tuple[str, ...], where: str) -> Value:
    for step in path:
        found = [content for name, content in pairs_of(value) if name == step]
        if not found or found[-1] is None:
            refuse(
                f"{where} is absent or null",
                f"expected the {KIND} that this object embeds; without it nothing is asked",
            )
        value = found[-1]
        if not is_object(value):
            refuse(f"{where}: {step} holds {kind_name(value)}", f"expected {_Kind.OBJECT.value}")
    return value
