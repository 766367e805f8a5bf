"""What the v1alpha1 API of gardenlet's configuration says: the top-level fields, and how a type is written. Pure.

Source: gardener v1.150 pkg/apis/config/gardenlet/v1alpha1/types.go, type GardenletConfiguration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from reconciler.gardenlet.values import API_GROUP, API_VERSION, Value, excerpt, kind_name, pairs_of, refuse

# The reconciler's own document; settings.py is not imported, as it takes pydantic and a second to load.
OWN_GROUP: Final = "seccomp-reconciler.config.gardener.cloud"
OWN_KIND: Final = "ReconcilerConfiguration"


class FieldKind(Enum):
    """What a field of the struct takes; null is taken by each and changes nothing."""

    OBJECT = "a mapping"
    TEXT = "a text"
    LIST = "a list"


FIELDS: Final[Mapping[str, FieldKind]] = MappingProxyType(
    {
        "apiVersion": FieldKind.TEXT,
        "kind": FieldKind.TEXT,
        "gardenClientConnection": FieldKind.OBJECT,
        "seedClientConnection": FieldKind.OBJECT,
        "shootClientConnection": FieldKind.OBJECT,
        "controllers": FieldKind.OBJECT,
        "resources": FieldKind.OBJECT,
        "leaderElection": FieldKind.OBJECT,
        "logLevel": FieldKind.TEXT,
        "logFormat": FieldKind.TEXT,
        "server": FieldKind.OBJECT,
        "debugging": FieldKind.OBJECT,
        "featureGates": FieldKind.OBJECT,
        "seedConfig": FieldKind.OBJECT,
        "logging": FieldKind.OBJECT,
        "sni": FieldKind.OBJECT,
        "etcdConfig": FieldKind.OBJECT,
        "exposureClassHandlers": FieldKind.LIST,
        "monitoring": FieldKind.OBJECT,
        "nodeToleration": FieldKind.OBJECT,
    }
)
# apiVersion and kind are first looked up by encoding/json, which folds case (U+017F and U+212A too), unlike the struct.
_FOLDED: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ\u017f\u212a", "abcdefghijklmnopqrstuvwxyzsk")


@dataclass(frozen=True, slots=True)
class TypeMeta:
    """The group and version of apiVersion, and kind; what is not written is empty."""

    group: str = ""
    version: str = ""
    kind: str = ""

    @property
    def is_absent(self) -> bool:
        """Whether the document has neither apiVersion nor kind."""
        return self == TypeMeta()

    @property
    def is_own(self) -> bool:
        """Whether the document is the reconciler's own configuration."""
        return self.group == OWN_GROUP or self.kind == OWN_KIND


def is_known(name: str) -> bool:
    """Return whether gardenlet looks at the top-level field `name`."""
    return name in FIELDS or name.translate(_FOLDED) in ("apiversion", "kind")


def type_meta(value: Value, origin: str) -> TypeMeta:
    """Return the type of an object, InvalidConfigurationError where it is not written as text."""
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
        return TypeMeta(kind=found["kind"])
    if api_version.count("/") > 1:
        refuse(f"{origin} has apiVersion {excerpt(api_version)}", f"expected {API_GROUP}/{API_VERSION}")
    group, _, version = api_version.rpartition("/")
    return TypeMeta(group, version, found["kind"])
