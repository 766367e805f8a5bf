"""A pause: nothing is enforced for a while. Kept on our Lease, which stands where the registration does not. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.registration.identity import ANNOTATION_PREFIX
from reconciler.timestamps import seconds, utc

UNTIL_ANNOTATION: Final = f"{ANNOTATION_PREFIX}paused-until"
REASON_ANNOTATION: Final = f"{ANNOTATION_PREFIX}pause-reason"
MODE_ANNOTATION: Final = f"{ANNOTATION_PREFIX}pause-mode"


class Mode(StrEnum):
    """What a pause does to the registration."""

    IGNORE = "Ignore"
    REMOVE = "Remove"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that lasts until `until` (seconds since the epoch)."""

    until: float
    reason: str
    mode: Mode

    def __str__(self) -> str:
        return f"paused until {utc(self.until)}: {self.reason}"


def annotations(pause: Pause | None) -> dict[str, str | None]:
    """Return the annotations of `pause`; None stands for none, and removes them."""
    if pause is None:
        return {UNTIL_ANNOTATION: None, REASON_ANNOTATION: None, MODE_ANNOTATION: None}
    return {
        UNTIL_ANNOTATION: utc(pause.until),
        REASON_ANNOTATION: pause.reason,
        MODE_ANNOTATION: pause.mode.value,
    }


def of(found: Mapping[str, str], *, now: float) -> Pause | None:
    """Return the pause that the annotations tell of; None where there is none, its time is over or unreadable."""
    until = seconds(found.get(UNTIL_ANNOTATION))
    if until is None or until <= now:
        return None
    mode = Mode.REMOVE if found.get(MODE_ANNOTATION) == Mode.REMOVE else Mode.IGNORE
    return Pause(until, found.get(REASON_ANNOTATION, "no reason given"), mode)
