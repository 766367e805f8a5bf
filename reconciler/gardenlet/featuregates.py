"""Is the feature gate DefaultSeccompProfile on? The rules of component-base's feature gates, as a pure function.

An explicit value always wins; else AllAlpha decides, as the gate is alpha; else the default, false. AllBeta does not
concern it. No document and no cluster enters here, only the map.

Differently from gardenlet, which refuses to start, an unknown gate or a forbidden value of another gate is a warning:
gates come and go with gardenlet's version, and this program need not have the same.

Source: component-base featuregate v0.36, gardener v1.150 pkg/features and pkg/gardenlet/features.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

GATE: Final = "DefaultSeccompProfile"
ALL_ALPHA: Final = "AllAlpha"
ALL_BETA: Final = "AllBeta"

# Warnings are for people: nobody reads more, and a hostile map may hold a hundred thousand names.
MAX_WARNINGS: Final = 20

_KNOWN_TO: Final = "gardenlet v1.150"
_LONGEST_NAME: Final = 100


class Reason(StrEnum):
    """What decided about the gate."""

    EXPLICIT = "explicit"
    GROUP = "group"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether `gate` is on, why, and what else in the map an operator should look at."""

    gate: str
    enabled: bool
    reason: Reason
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Gate:
    locked_to: bool | None = None
    deprecated: bool = False


# gardenlet's own gates and the two groups.
_GARDENLET_GATES: Final = (
    GATE,
    ALL_ALPHA,
    ALL_BETA,
    "CustomDNSServerInNodeLocalDNS",
    "DisableNginxIngressInSeed",
    "IstioTLSTermination",
    "OpenTelemetryCollector",
    "PrometheusHealthChecks",
    "RemoveHTTPProxyLegacyPort",
    "RemoveVali",
    "VPNBondingModeRoundRobin",
    "VictoriaLogsBackend",
)
# gardenlet shares one map of gates with the API server library that is linked into it, hence takes its gates too.
_LIBRARY_GATES: Final = (
    "APIResponseCompression",
    "APIServerIdentity",
    "APIServingWithRoutine",
    "AllowParsingUserUIDFromCertAuth",
    "AllowUnsafeMalformedObjectDeletion",
    "CBORServingAndStorage",
    "ComponentFlagz",
    "ComponentStatusz",
    "ConcurrentWatchObjectDecode",
    "ConstrainedImpersonation",
    "CoordinatedLeaderElection",
    "DeclarativeValidationBeta",
    "DetectCacheInconsistency",
    "ListFromCacheSnapshot",
    "ManifestBasedAdmissionControlConfig",
    "MutatingAdmissionPolicy",
    "OpenAPIEnums",
    "RemoteRequestHeaderUID",
    "ShardedListAndWatch",
    "SizeBasedListCostEstimate",
    "StorageVersionAPI",
    "StorageVersionHash",
    "StructuredAuthenticationConfigurationEgressSelector",
    "StructuredAuthenticationConfigurationJWKSMetrics",
    "TokenRequestServiceAccountUIDValidation",
    "UnauthenticatedHTTP2DOSMitigation",
    "UnknownVersionInteroperabilityProxy",
    "WatchCacheInitializationPostStartHook",
    "WatchList",
)
_LOCKED_ON: Final = (
    "DoNotCopyBackupCredentials",
    "APIServerTracing",
    "AnonymousAuthConfigurableEndpoints",
    "AuthorizeWithSelectors",
    "BtreeWatchCache",
    "ConsistentListFromCache",
    "DeclarativeValidation",
    "ResilientWatchCacheInitialization",
    "RetryGenerateName",
    "StreamingCollectionEncodingToJSON",
    "StreamingCollectionEncodingToProtobuf",
    "StructuredAuthenticationConfiguration",
)
_GATES: Final[Mapping[str, _Gate]] = MappingProxyType(
    {
        **dict.fromkeys(_GARDENLET_GATES, _Gate()),
        **dict.fromkeys(_LIBRARY_GATES, _Gate()),
        **dict.fromkeys(_LOCKED_ON, _Gate(locked_to=True)),
        "AggregatedDiscoveryRemoveBetaType": _Gate(locked_to=True, deprecated=True),
        "DeclarativeValidationTakeover": _Gate(deprecated=True),
        "KMSv1": _Gate(deprecated=True),
        "SeparateCacheWatchRPC": _Gate(locked_to=False, deprecated=True),
    }
)
# Only these are suggested: a slip of the pen rarely meant a gate of the library.
_SUGGESTED: Final[Mapping[str, str]] = MappingProxyType(
    {name.casefold(): name for name in (*_GARDENLET_GATES, "DoNotCopyBackupCredentials")}
)


def decide(feature_gates: Mapping[str, bool]) -> Decision:
    """Return whether the gate is on under `feature_gates`, as component-base decides."""
    warnings = tuple(_warnings(feature_gates))
    if GATE in feature_gates:
        return Decision(GATE, feature_gates[GATE], Reason.EXPLICIT, warnings)
    if ALL_ALPHA in feature_gates:
        return Decision(GATE, feature_gates[ALL_ALPHA], Reason.GROUP, warnings)
    return Decision(GATE, enabled=False, reason=Reason.DEFAULT, warnings=warnings)


def _warnings(feature_gates: Mapping[str, bool]) -> Iterator[str]:
    doubtful = [name for name in sorted(feature_gates) if _is_doubtful(name, value=feature_gates[name])]
    # What may have been meant for our gate must not fall off the end; comparing by likeness would be too slow for all.
    doubtful.sort(key=lambda name: "seccomp" not in name.casefold())
    for name in doubtful[:MAX_WARNINGS]:
        yield _warning(name, value=feature_gates[name])
    if len(doubtful) > MAX_WARNINGS:
        yield f"{len(doubtful) - MAX_WARNINGS} more feature gates are unknown, locked or deprecated"


def _is_doubtful(name: str, *, value: bool) -> bool:
    gate = _GATES.get(name)
    return gate is None or gate.deprecated or gate.locked_to not in (None, value)


def _warning(name: str, *, value: bool) -> str:
    gate = _GATES.get(name)
    written = "true" if value else "false"
    if gate is None:
        suggestion = _suggestion(name)
        meant = f"; did you mean {suggestion}?" if suggestion else ""
        return f"feature gate {_excerpt(name)} is not known to {_KNOWN_TO}, which refuses to start with it{meant}"
    if gate.locked_to not in (None, value):
        locked = "true" if gate.locked_to else "false"
        return f"feature gate {name} is locked to {locked}: {_KNOWN_TO} refuses to start with {written}"
    return f"feature gate {name} is deprecated: a later gardenlet may refuse to start with it"


def _suggestion(name: str) -> str | None:
    if len(name) > _LONGEST_NAME:
        return None
    folded = name.strip().casefold()
    if folded in _SUGGESTED:
        return _SUGGESTED[folded]
    near = difflib.get_close_matches(folded, _SUGGESTED, n=1, cutoff=0.8)
    return _SUGGESTED[near[0]] if near else None


def _excerpt(name: str) -> str:
    return ascii(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}...")
