"""Why an unprotected pod has no profile: it is older than the registration, lies in a window, or nothing explains it.

Pure. Whether a pod is unprotected is decided by `coverage`; the times are those of the recorded state.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.pods import coverage
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory, State
from reconciler.timestamps import seconds

# The API server keeps whole seconds, and has its own clock.
_SLACK_SECONDS: Final = 2.0


class Exposure(StrEnum):
    """Why a pod has no profile."""

    # It is protected or exempt, or older than what is known: nothing to report.
    NONE = "none"
    IN_WINDOW = "in-window"
    # It was created at Fail and has none all the same: nothing tells of it.
    UNEXPLAINED = "unexplained"


class Cause(StrEnum):
    """Why an unprotected pod has no profile, also where that is nothing to report."""

    NOT_REGISTERED = "not-registered"
    OLDER = "older-than-registration"
    BEFORE_FAIL = "before-first-fail"
    IN_WINDOW = "in-window"
    UNEXPLAINED = "unexplained"
    NOT_KNOWN = "not-known"


CAUSES: Final = {
    Cause.NOT_REGISTERED: "nothing is registered",
    Cause.OLDER: "older than the registration",
    Cause.BEFORE_FAIL: "created before the first Fail",
    Cause.IN_WINDOW: "created in a fail-open window",
    Cause.UNEXPLAINED: "created at Fail: unexplained",
    Cause.NOT_KNOWN: "not known",
}


@dataclass(frozen=True, slots=True)
class Registered:
    """What decides: the entry that should cover the pods; its recorded state; since when it is registered, or None.

    `is_known` False: it is not known whether it is registered.
    """

    entry: Manifest
    memory: Memory | None = None
    since: float | None = None
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Exposed:
    """A pod without a profile, by its name; `created` is in seconds since the epoch."""

    namespace: str
    name: str
    created: float
    exposure: Exposure
    reason: str = ""


def of_pod(pod: Manifest, entry: Manifest, memory: Memory) -> Exposed | None:
    """Return the pod where it should have a profile and has none; `entry` is the webhook whose selectors count.

    None as well for a pod that is older than the first known Fail.
    """
    metadata = pod["metadata"]
    created = seconds(metadata.get("creationTimestamp"))
    if created is None or coverage.of_pod(pod, entry).verdict is not coverage.Verdict.UNPROTECTED:
        return None
    exposed, reason = _exposure(created, memory)
    if exposed is Exposure.NONE:
        return None
    return Exposed(metadata.get("namespace", ""), metadata["name"], created, exposed, reason)


def cause(pod: Manifest, memory: Memory | None, registered: float | None) -> tuple[Cause, str]:
    """Return why an unprotected pod has no profile, and the reason of the window where it lies in one.

    `registered` is when the registration was created, in seconds since the epoch; None: there is none. `memory` None:
    it records no state.
    """
    created = seconds(pod["metadata"].get("creationTimestamp"))
    if registered is None:
        return Cause.NOT_REGISTERED, ""
    if created is None:
        return Cause.NOT_KNOWN, ""
    if memory is not None:
        exposed, reason = _exposure(created, memory)
        if exposed is not Exposure.NONE:
            return Cause(exposed.value), reason
    if created < registered:
        return Cause.OLDER, ""
    return (Cause.NOT_KNOWN if memory is None else Cause.BEFORE_FAIL), ""


def _exposure(created: float, memory: Memory) -> tuple[Exposure, str]:
    for window in memory.windows:
        end = float("inf") if window.end is None else window.end
        if window.start - _SLACK_SECONDS <= created <= end + _SLACK_SECONDS:
            return Exposure.IN_WINDOW, window.reason
    # Before the first window that is known the registration was at Fail, since when is not recorded.
    first = memory.windows[0].start if memory.windows else memory.since if memory.state is State.FAIL else float("inf")
    return (Exposure.UNEXPLAINED if created > first + _SLACK_SECONDS else Exposure.NONE), ""
