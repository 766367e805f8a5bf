"""Which pods came through without a profile though they should have had one, and whether a window tells of it. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.registration import selectors
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory, State
from reconciler.timestamps import seconds

# The API server keeps whole seconds, and has its own clock.
_SLACK_SECONDS: Final = 2.0
_MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"


class Exposure(StrEnum):
    """What became of a pod."""

    # It has a type, is exempt, or is older than what is known.
    NONE = "none"
    IN_WINDOW = "in-window"
    # It was created at Fail and has none all the same: nothing tells of it.
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Exposed:
    """A pod without a profile, by its name; `created` is in seconds since the epoch."""

    namespace: str
    name: str
    created: float
    exposure: Exposure
    reason: str = ""


def of_pod(pod: Manifest, entry: Manifest, memory: Memory) -> Exposed | None:
    """Return the pod where it should have a profile and has none; `entry` is the webhook whose selectors count."""
    metadata = pod["metadata"]
    created = seconds(metadata.get("creationTimestamp"))
    if created is None or not _is_bare(pod) or not selectors.matches(entry.get("objectSelector"), _labels(pod)):
        return None
    exposed, reason = _exposure(created, memory)
    if exposed is Exposure.NONE:
        return None
    return Exposed(metadata.get("namespace", ""), metadata["name"], created, exposed, reason)


def _exposure(created: float, memory: Memory) -> tuple[Exposure, str]:
    for window in memory.windows:
        end = float("inf") if window.end is None else window.end
        if window.start - _SLACK_SECONDS <= created <= end + _SLACK_SECONDS:
            return Exposure.IN_WINDOW, window.reason
    # Before the first window that is known it stood at Fail, nobody remembers since when.
    first = memory.windows[0].start if memory.windows else memory.since if memory.state is State.FAIL else float("inf")
    return (Exposure.UNEXPLAINED if created > first + _SLACK_SECONDS else Exposure.NONE), ""


def _is_bare(pod: Manifest) -> bool:
    spec = pod.get("spec") or {}
    profile = (spec.get("securityContext") or {}).get("seccompProfile") or {}
    is_windows = (spec.get("os") or {}).get("name") == "windows"
    is_mirror = _MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})
    return not (profile.get("type") or is_windows or is_mirror)


def _labels(pod: Manifest) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}
