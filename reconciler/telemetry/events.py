"""Kubernetes Events on our registration: what is said, and when a repetition becomes a series. Pure.

Source: events.k8s.io/v1; its limits are counted in bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

# An Event about an object without a namespace has to lie here.
NAMESPACE: Final = "default"
_CONTROLLER: Final = "seccomp-reconciler"
_NOTE_BYTES: Final = 1024
_INSTANCE_BYTES: Final = 128
# Of the registration's name in the Event's, which ends in some 20 characters of its own; a name has at most 253.
_NAME_CHARACTERS: Final = 200
# The same said again within this long is a series. The API server forgets an Event an hour after its last write.
_SERIES_SECONDS: Final = 600.0
_PATCH_SECONDS: Final = 60.0
_MOST_SERIES: Final = 100

Manifest: TypeAlias = Mapping[str, Any]  # a Kubernetes object as JSON, or a merge patch of one


class Reason(StrEnum):
    """What happened to the registration, as `kubectl events` shows it."""

    REGISTERED = "Registered"
    REMOVED = "Removed"
    REPAIRED = "Repaired"
    RAISED = "Raised"
    LOWERED = "Lowered"
    CONFLICT = "Conflict"
    INVALID_CONFIGURATION = "InvalidConfiguration"
    ROTATED = "Rotated"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    TWIN_FOUND = "TwinFound"
    TWIN_GONE = "TwinGone"
    LINT_REFUSED = "LintRefused"


# What we did about it; the API demands it.
_ACTIONS: Final = {
    Reason.REGISTERED: "Register",
    Reason.REMOVED: "Remove",
    Reason.REPAIRED: "Repair",
    Reason.RAISED: "Raise",
    Reason.LOWERED: "Lower",
    Reason.CONFLICT: "BackOff",
    Reason.INVALID_CONFIGURATION: "KeepLastGood",
    Reason.ROTATED: "Rotate",
    Reason.PAUSED: "Pause",
    Reason.RESUMED: "Resume",
    Reason.TWIN_FOUND: "Report",
    Reason.TWIN_GONE: "Report",
    Reason.LINT_REFUSED: "Refuse",
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """One state change for people to see."""

    reason: Reason
    note: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Creation:
    """A new Event of this name is to be created."""

    name: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Continuation:
    """The Event of this name goes on: a merge patch of its series."""

    name: str
    patch: Manifest


@dataclass(slots=True)
class _Series:
    name: str
    last_said: float
    last_patched: float = float("-inf")
    count: int = 1


class Journal:
    """What was said lately, so that the same again becomes a series of one Event; the quietest are forgotten first."""

    def __init__(self, registration: str, identity: str) -> None:
        self._registration = registration
        self._identity = _cut(identity, _INSTANCE_BYTES)
        self._serial = 0
        self._series: dict[tuple[str, Reason, str], _Series] = {}

    def record(self, said: Announcement, *, uid: str, wall: float, monotonic: float) -> Creation | Continuation | None:
        """Return what is to be written about `said` (None: nothing, it is counted); both clocks in seconds.

        `uid` is the registration's, empty where nobody knows it. A registration that was made anew has Events of its
        own: `kubectl describe` shows those of one uid only.
        """
        note = _cut(said.note, _NOTE_BYTES)
        key = (uid, said.reason, note)
        series = self._series.pop(key, None)
        if series is None or monotonic - series.last_said > _SERIES_SECONDS:
            series = _Series(self._new_name(wall), monotonic)
            self._keep(key, series)
            return Creation(series.name, self._event(said, series.name, note, uid=uid, wall=wall))
        self._keep(key, series)
        series.count, series.last_said = series.count + 1, monotonic
        if monotonic - series.last_patched < _PATCH_SECONDS:
            return None
        series.last_patched = monotonic
        return Continuation(series.name, {"series": {"count": series.count, "lastObservedTime": _micro_time(wall)}})

    def forget(self, name: str) -> None:
        """Note that the API server has no Event of this name: the next of its kind is a new one."""
        self._series = {key: series for key, series in self._series.items() if series.name != name}

    def _keep(self, key: tuple[str, Reason, str], series: _Series) -> None:
        self._series[key] = series  # to the end: the first one is the quietest
        while len(self._series) > _MOST_SERIES:
            del self._series[next(iter(self._series))]

    def _new_name(self, wall: float) -> str:
        self._serial += 1
        return f"{self._registration[:_NAME_CHARACTERS].rstrip('.-')}.{int(wall * 1e6):x}.{self._serial:x}"

    def _event(self, said: Announcement, name: str, note: str, *, uid: str, wall: float) -> Manifest:
        regarding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "name": self._registration,
        }
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "eventTime": _micro_time(wall),
            "reportingController": _CONTROLLER,
            "reportingInstance": self._identity,
            "action": _ACTIONS[said.reason],
            "reason": said.reason.value,
            "regarding": {**regarding, "uid": uid} if uid else regarding,
            "note": note,
            "type": "Warning" if said.warning else "Normal",
        }


def _micro_time(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cut(text: str, most_bytes: int) -> str:
    """Return `text` in at most so many bytes of UTF-8, without half a character."""
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")
