"""Kubernetes objects that carry the document: Gardenlet, ManagedSeed, ConfigMap, and a List with one. Pure.

`kubectl get configmap gardenlet-config-1234 -o yaml` prints a ConfigMap whose key `config.yaml` holds the document as
text, and `kubectl get configmap -o yaml` a List. `unwrap` finds the one document that is meant, or refuses.

A text of a ConfigMap is taken for the document by its apiVersion or kind; where none has either, by a field that
GardenletConfiguration has.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn

from reconciler.errors import InvalidConfigurationError
from reconciler.gardenlet.formats import read
from reconciler.gardenlet.schema import TypeMeta, is_known, type_meta
from reconciler.gardenlet.values import (
    API_GROUP,
    API_VERSION,
    KIND,
    MAX_DOCUMENT_BYTES,
    Value,
    elements_of,
    excerpt,
    is_object,
    kind_name,
    pairs_of,
    refuse,
)

EMBEDDING_GROUP: Final = "seedmanagement.gardener.cloud"
EMBEDDING_VERSION: Final = "v1alpha1"
# Where the objects of the seedmanagement group carry the document. Source: gardener pkg/apis/seedmanagement/v1alpha1.
EMBEDDING_PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"Gardenlet": ("spec", "config"), "ManagedSeed": ("spec", "gardenlet", "config")}
)
_MERGE_FIELD: Final = "mergeWithParent"  # beside `config` of a ManagedSeed; true where it is absent
_MOST_NAMED: Final = 10
# Aliases can repeat one text without end; what kubectl prints holds each once.
_MAX_ITEMS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Carried:
    """One document: where it was found, what it holds, and whether a parent's configuration is merged into it."""

    origin: str
    value: Value
    inherits: bool = False


def unwrap(value: Value, origin: str) -> Carried:
    """Return the document that `value` is or carries; InvalidConfigurationError where that is none, or several."""
    meta = type_meta(value, origin)
    if meta.group == EMBEDDING_GROUP:
        return _embedded(value, meta, origin)
    if _is_core(meta, "List", "ConfigMapList"):
        items = elements_of(_last(value, "items"))
        if len(items) > _MAX_ITEMS:
            refuse(f"{origin} holds {len(items)} items", f"expected at most {_MAX_ITEMS}")
        return _chosen([(_item_name(item, origin), item) for item in items], origin)
    if _is_core(meta, "ConfigMap"):
        return _chosen([(origin, value)], origin)
    return Carried(origin, value)


def refuse_inheritance(origin: str, gate: str) -> NoReturn:
    """Refuse a document that does not state `gate`, where the parent's configuration may."""
    refuse(
        f"{origin} does not state {gate}, and {_MERGE_FIELD} beside it is true or absent",
        "expected the whole configuration, as the parent gardenlet's is merged into this part and may state it",
        remedy=(
            "read the ConfigMap of the deployed gardenlet instead (gardenletConfiguration.deployment, or "
            "`kubectl -n garden get configmap` in the seed), or state the gate here; until then nothing is changed"
        ),
    )


def _is_core(meta: TypeMeta, *kinds: str) -> bool:
    return (meta.group, meta.version) == ("", "v1") and meta.kind in kinds


def _chosen(objects: list[tuple[str, Value]], origin: str) -> Carried:
    """Return the one document that `objects` carry."""
    texts = [
        (f"{where}, key {excerpt(key)}", text)
        for where, item in objects
        if _is_core(type_meta(item, where), "ConfigMap")
        for key, text in _texts(item)
    ]
    if len(texts) > _MAX_ITEMS or sum(len(text) for _, text in texts) > MAX_DOCUMENT_BYTES:
        refuse(
            f"{origin} holds {len(texts)} texts", f"expected at most {_MAX_ITEMS}, {MAX_DOCUMENT_BYTES} bytes in all"
        )
    readable = list(_readable(texts))
    found = [(where, item) for where, item in objects if type_meta(item, where).group == EMBEDDING_GROUP]
    found += [(where, value) for where, value, meta in readable if meta.group == API_GROUP or meta.kind == KIND]
    if not found:
        found = [(where, value) for where, value, meta in readable if meta.is_absent and _has_known_field(value)]
    if len(found) > 1:
        named = _named([where for where, _ in found])
        refuse(f"{origin} holds {len(found)} documents ({named})", "expected one", remedy="give the one that counts")
    if found:
        where, value = found[0]
        return unwrap(value, where)
    if len(texts) == 1:
        where, text = texts[0]
        return Carried(where, read(text, where))  # why it is none is worth more than that there is none
    return refuse(
        f"{origin} holds no {KIND}" + (f" ({_named([where for where, _ in texts])})" if texts else ""),
        f"expected one text with apiVersion {API_GROUP}/{API_VERSION} and kind {KIND}",
    )


def _readable(texts: list[tuple[str, bytes]]) -> Iterator[tuple[str, Value, TypeMeta]]:
    """Yield the texts that are YAML or JSON: a ConfigMap holds other files as well."""
    for where, text in texts:
        try:
            value = read(text, where)
            yield where, value, type_meta(value, where)
        except InvalidConfigurationError:
            continue


def _has_known_field(value: Value) -> bool:
    return any(is_known(name) and content is not None for name, content in pairs_of(value))


def _named(origins: list[str]) -> str:
    more = [f"and {len(origins) - _MOST_NAMED} more"] if len(origins) > _MOST_NAMED else []
    return "; ".join(origins[:_MOST_NAMED] + more)


def _item_name(item: Value, origin: str) -> str:
    metadata = _last(item, "metadata")
    parts = [part for part in (_last(metadata, "namespace"), _last(metadata, "name")) if isinstance(part, str)]
    kind = _last(item, "kind")
    return f"{origin}, {excerpt(kind) if isinstance(kind, str) else 'item'} {excerpt('/'.join(parts))}"


def _texts(config_map: Value) -> Iterator[tuple[str, bytes]]:
    """Yield the keys of a ConfigMap with what they hold."""
    for key, text in pairs_of(_last(config_map, "data")):
        if isinstance(text, str):
            yield key, text.encode("utf-8", "surrogatepass")
    for key, text in pairs_of(_last(config_map, "binaryData")):
        try:
            yield key, base64.b64decode(text if isinstance(text, str) else "", validate=True)
        except (binascii.Error, ValueError):
            continue


def _embedded(value: Value, meta: TypeMeta, origin: str) -> Carried:
    path = EMBEDDING_PATHS.get(meta.kind) if meta.version == EMBEDDING_VERSION else None
    if path is None:
        supported = " or ".join(EMBEDDING_PATHS)
        refuse(
            f"{origin} is {excerpt(f'{meta.group}/{meta.version}')} {excerpt(meta.kind)}",
            f"expected {EMBEDDING_GROUP}/{EMBEDDING_VERSION} {supported}, or {API_GROUP}/{API_VERSION} {KIND}",
        )
    where = f"{origin}, {'.'.join(path)}"
    inherits = meta.kind == "ManagedSeed" and _merges(value, path, origin)
    for step in path:
        value = _last(value, step)
        if value is None and inherits:
            return Carried(where, value, inherits)
        if value is None:
            refuse(
                f"{where} is absent or null",
                f"expected the {KIND} that this object embeds; without it nothing is asked",
            )
        if not is_object(value):
            refuse(f"{where}: {step} holds {kind_name(value)}", "expected a mapping")
    return Carried(where, value, inherits)


def _merges(value: Value, path: tuple[str, ...], origin: str) -> bool:
    for step in path[:-1]:
        value = _last(value, step)
    merge = _last(value, _MERGE_FIELD)
    if merge is not None and not isinstance(merge, bool):
        refuse(f"{origin}, {'.'.join(path[:-1])}.{_MERGE_FIELD} holds {kind_name(merge)}", "expected true or false")
    return merge is not False


def _last(value: Value, name: str) -> Value:
    """Return what the object holds under `name`; in JSON the last of several counts."""
    return next((content for key, content in reversed(pairs_of(value)) if key == name), None)
