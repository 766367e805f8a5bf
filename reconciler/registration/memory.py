"""What the registration remembers of its failurePolicy, as annotations on the object itself. Pure.

So a restarted reconciler, another one or a one-shot pass goes on from there. Whatever is unreadable reads as missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from reconciler.registration.identity import ANNOTATION_PREFIX, Manifest, is_ours
from reconciler.timestamps import seconds, utc

STATE_ANNOTATION: Final = f"{ANNOTATION_PREFIX}failure-policy"
SINCE_ANNOTATION: Final = f"{ANNOTATION_PREFIX}failure-policy-since"
REASON_ANNOTATION: Final = f"{ANNOTATION_PREFIX}failure-policy-reason"
FLAPS_ANNOTATION: Final = f"{ANNOTATION_PREFIX}failure-policy-flaps"
WINDOWS_ANNOTATION: Final = f"{ANNOTATION_PREFIX}fail-open-windows"
ANNOTATIONS: Final = frozenset(
    (STATE_ANNOTATION, SINCE_ANNOTATION, REASON_ANNOTATION, FLAPS_ANNOTATION, WINDOWS_ANNOTATION)
)
# On our Lease: all of it as one text, for a registration that somebody deletes while nobody of ours looks.
MEMORY_ANNOTATION: Final = f"{ANNOTATION_PREFIX}failure-policy-memory"

MOST_WINDOWS: Final = 10
# Two windows for the same reason that lie so near to each other are one: a war must not push the others out.
_JOINED_SECONDS: Final = 60.0
_REASON_CHARACTERS: Final = 300


class State(StrEnum):
    """What the registration says, as decided by us."""

    IGNORE = "Ignore"
    FAIL = "Fail"


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which pods may have come through without a profile; `end` None: it is open. Seconds since the epoch."""

    start: float
    end: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Memory:
    """The state that was decided, since when (seconds since the epoch) and why; and the windows, the oldest first."""

    state: State
    since: float
    reason: str
    flaps: int = 0
    windows: tuple[Window, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether a window is open: at Ignore after having been at Fail, or Fail was not yet seen to stand again."""
        return bool(self.windows) and self.windows[-1].end is None

    def opened(self, start: float, reason: str) -> "Memory":
        """Return this with an open window; one that is open stays as it is, one that is near goes on."""
        if self.is_open:
            return self
        *before, last = self.windows or (None,)
        is_near = (
            last is not None
            and last.end is not None
            and _shortened(last.reason) == _shortened(reason)
            and last.start <= start <= last.end + _JOINED_SECONDS
        )
        if last is not None and is_near:
            windows = (*before, replace(last, end=None))
        else:
            windows = (*self.windows, Window(start, None, reason))
        return replace(self, windows=tuple(one for one in windows if one is not None)[-MOST_WINDOWS:])

    def closed(self, end: float) -> "Memory":
        """Return this without an open window."""
        if not self.is_open:
            return self
        *before, last = self.windows
        return replace(self, windows=(*before, replace(last, end=max(end, last.start))))

    def reaching_back(self, start: float) -> "Memory":
        """Return this with an open window that began at `start`, where it did not begin sooner."""
        if not self.is_open:
            return self
        *before, last = self.windows
        return replace(self, windows=(*before, replace(last, start=min(last.start, start))))


def annotations(memory: Memory) -> dict[str, str]:
    """Return `memory` as the registration's annotations."""
    return {
        STATE_ANNOTATION: memory.state.value,
        SINCE_ANNOTATION: utc(memory.since),
        REASON_ANNOTATION: _shortened(memory.reason),
        FLAPS_ANNOTATION: str(memory.flaps),
        WINDOWS_ANNOTATION: json.dumps([_shown(window) for window in memory.windows], separators=(",", ":")),
    }


def from_annotations(found: Mapping[str, str]) -> Memory | None:
    """Return what the annotations remember; None where they name no state or no time."""
    state, since = found.get(STATE_ANNOTATION), seconds(found.get(SINCE_ANNOTATION))
    if state not in tuple(State) or since is None:
        return None
    flaps = found.get(FLAPS_ANNOTATION, "")
    return Memory(
        State(state),
        since,
        found.get(REASON_ANNOTATION, ""),
        int(flaps) if flaps.isascii() and flaps.isdigit() and len(flaps) < 10 else 0,  # noqa: PLR2004 - no sane count
        _windows(found.get(WINDOWS_ANNOTATION, "")),
    )


def of(observed: Manifest | None) -> Memory | None:
    """Return what the object remembers; None where it stands without a readable memory, or not at all."""
    return None if observed is None else from_annotations(observed["metadata"].get("annotations") or {})


def standing(observed: Manifest | None) -> State | None:
    """Return what the API server does now; None where nothing of ours stands."""
    if observed is None or not is_ours(observed):
        return None
    entries = observed.get("webhooks") or ()
    # Without an entry nobody is asked: the same as an absent object.
    return State(entries[0].get("failurePolicy", State.FAIL)) if entries else None


def may_refuse(observed: Manifest) -> bool:
    """Return whether the object, ours or not, can refuse a pod: an entry of it fails closed. Unset means Fail."""
    return any(entry.get("failurePolicy", State.FAIL) != State.IGNORE for entry in observed.get("webhooks") or ())


def to_text(memory: Memory) -> str:
    """Return `memory` as one text, for the Lease."""
    return json.dumps(annotations(memory), sort_keys=True, separators=(",", ":"))


def from_text(text: str | None) -> Memory | None:
    """Return what `to_text` wrote; None where it is missing or unreadable."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return None
    return from_annotations(found)


def _shown(window: Window) -> dict[str, str | None]:
    return {
        "start": utc(window.start),
        # Rounded up: a window is never shown shorter than it was.
        "end": None if window.end is None else utc(-(-window.end // 1)),
        "reason": _shortened(window.reason),
    }


def _shortened(reason: str) -> str:
    """Return `reason` as it is kept; half a character, which JSON can hold and the API server does not take, is a ?."""
    return reason[:_REASON_CHARACTERS].encode(errors="replace").decode()


def _windows(text: str) -> tuple[Window, ...]:
    try:
        items: Any = json.loads(text)  # whatever JSON somebody put there
    except (ValueError, RecursionError):
        return ()
    found: list[Window] = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict) or (start := seconds(item.get("start"))) is None:
            continue
        end = seconds(item.get("end"))
        if end is None and item.get("end") is not None:
            continue
        found.append(Window(start, end, str(item.get("reason", ""))))
    # Only the last one can be open.
    return tuple(one for index, one in enumerate(found) if one.end is not None or index == len(found) - 1)[
        -MOST_WINDOWS:
    ]
