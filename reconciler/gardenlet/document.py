r"""Bytes in, a GardenletConfiguration or one InvalidConfigurationError out: exactly as gardenlet's own decoder decides.

gardenlet reads the document with apimachinery's UniversalDecoder: what starts with `{` is JSON, all else goes through
sigs.k8s.io/yaml (go-yaml v2, YAML 1.1) into JSON, and from there into the Go struct. Those rules are rebuilt here on
the events of libyaml, which go-yaml v2 is a port of. No file is opened and no Kubernetes client enters here.

Modelled: every top-level field's JSON kind and `etcdConfig.featureGates`. Deeper fields are not (they differ between
gardenlet's versions): a wrong kind there makes gardenlet refuse a document that is accepted here.

Refused here although gardenlet would accept it, always on the side of leaving the cluster alone:
- a document that says nothing: empty, `null`, `{}`, or without one known field that has a value;
- a document without apiVersion, kind and featureGates that has a field which is not known: values of a chart, a part;
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
from types import MappingProxyType
from typing import Final, NoReturn

from reconciler.gardenlet.featuregates import GATE
from reconciler.gardenlet.formats import read
from reconciler.gardenlet.objects import refuse_inheritance, unwrap
from reconciler.gardenlet.schema import FIELDS, OWN_KIND, FieldKind, TypeMeta, is_known, type_meta
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

_MOST_NAMED: Final = 5

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "KIND",
    "MAX_DOCUMENT_BYTES",
    "MAX_NESTING",
    "MAX_NUMBER_CHARACTERS",
    "MAX_TAG_DIRECTIVES",
    "GardenletConfiguration",
    "parse",
    "parse_any",
]


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
    """Like parse, but the document may also be a Kubernetes object that carries the configuration: see objects.py.

    Raises InvalidConfigurationError as parse does; where such an object carries none, or several; and where it is a
    ManagedSeed that does not state the gate and inherits from its parent (the parent may state it).
    """
    found = unwrap(read(document, origin), origin)
    if found.inherits:
        configuration = None if found.value is None else _configuration(found.value, found.origin)
        if configuration is None or GATE not in configuration.feature_gates:
            refuse_inheritance(found.origin, GATE)
        return configuration
    return _configuration(found.value, found.origin)


_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def _configuration(value: Value, origin: str) -> GardenletConfiguration:
    if value is None:
        _refuse_silence(origin)
    if not is_object(value):
        refuse(f"{origin} holds {kind_name(value)}", f"expected a mapping with the fields of {KIND}")
    meta = type_meta(value, origin)
    _check_type_meta(meta, origin)
    if meta.is_absent:
        _check_untyped(value, origin)
    # To Go, an empty text is as good as none.
    if all(content in (None, "") or not is_known(name) for name, content in pairs_of(value)):
        _refuse_silence(origin)
    return GardenletConfiguration(MappingProxyType(_feature_gates(value, origin)))


def _check_untyped(value: Value, origin: str) -> None:
    """Refuse what looks like a part of something else: gardenlet would read it as a document that asks for nothing."""
    pairs = pairs_of(value)
    unknown = [excerpt(name) for name, _ in pairs if not is_known(name)]
    if unknown and all(name != "featureGates" or content is None for name, content in pairs):
        named = ", ".join(unknown[:_MOST_NAMED]) + (", ..." if len(unknown) > _MOST_NAMED else "")
        refuse(
            f"{origin} has no apiVersion, no kind, no featureGates, and fields that {KIND} does not have ({named})",
            f"expected apiVersion {API_GROUP}/{API_VERSION} and kind {KIND}; values of gardenlet's chart hold it "
            "under config",
        )


def _refuse_silence(origin: str) -> NoReturn:
    refuse(
        f"{origin} says nothing: it is empty, or no field of {KIND} in it has a value",
        f"expected apiVersion {API_GROUP}/{API_VERSION} and kind {KIND}. A truncated file must not switch anything off",
    )


def _check_type_meta(meta: TypeMeta, origin: str) -> None:
    """Refuse another type; what is missing is taken from the expected type. Source: apimachinery gvkWithDefaults."""
    if meta.is_own:
        refuse(
            f"{origin} is the reconciler's own {OWN_KIND}",
            f"expected a {KIND} here",
            remedy="give it with --config, and gardenlet's with --gardenlet-config; until then nothing is changed",
        )
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
        kind = FIELDS.get(name)
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


def _takes(kind: FieldKind, value: Value) -> bool:
    match kind:
        case FieldKind.TEXT:
            return isinstance(value, str)
        case FieldKind.OBJECT:
            return is_object(value)
        case FieldKind.LIST:
            return kind_name(value) == FieldKind.LIST.value


def _check_etcd_gates(value: Value, origin: str) -> None:
    for name, content in pairs_of(value):
        if name != "featureGates" or content is None:
            continue
        where = f"{origin}, etcdConfig.featureGates"
        if not is_object(content):
            refuse(f"{where} holds {kind_name(content)}", f"expected {FieldKind.OBJECT.value}")
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
