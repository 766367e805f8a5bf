"""The API server's clock, learned from the Date header of its answers. Pure: headers and clocks in, times out.

The API server judges certificates by its own clock. Where this machine's clock differs from it by more than a bound,
certificates go by the API server's. Example: our clock says 14:00, answers say 12:00, and a new certificate begins at
11:00.

One answer decides nothing, since a proxy may put a time of its own into it: most of the last answers must agree.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from statistics import median_low
from typing import Final

# Certificates begin an hour before they are issued: a smaller difference than this harms nothing.
BOUND_SECONDS: Final = 300.0
_ANSWERS: Final = 5
_LEAST_ANSWERS: Final = 3
_HALF_SECOND: Final = 0.5  # a Date header has whole seconds, rounded down


def monotonic() -> float:
    """Return monotonic seconds in which a suspended machine's sleep counts, where there is such a clock."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ServerClock:
    """What the last answers say about the API server's clock; without enough of them our own is believed."""

    def __init__(self, *, wall: Callable[[], float] | None = None, since_boot: Callable[[], float] = monotonic) -> None:
        self._wall = wall or time.time
        self._since_boot = since_boot
        # The server's time where our monotonic clock was 0: it stays true when our wall clock jumps.
        self._origins: deque[float] = deque(maxlen=_ANSWERS)

    def heard(self, date: str | None) -> None:
        """Take in the Date header of an answer; one that is absent or is no date says nothing."""
        try:
            found = parsedate_to_datetime(date or "")
            seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            return
        self._origins.append(seconds + _HALF_SECOND - self._since_boot())

    @property
    def ahead_seconds(self) -> float:
        """How far our clock is ahead of the API server's, negative: behind; 0 within the bound, or where unknown."""
        if not self._origins:
            return 0.0
        origin = median_low(self._origins)
        if sum(abs(one - origin) <= BOUND_SECONDS for one in self._origins) < _LEAST_ANSWERS:
            return 0.0
        ahead = self._wall() - (origin + self._since_boot())
        return ahead if abs(ahead) > BOUND_SECONDS else 0.0

    def now(self) -> float:
        """Return the time that certificates go by: the API server's where ours differs, else our own."""
        return self._wall() - self.ahead_seconds

    @property
    def words(self) -> str:
        """Say how our clock differs; empty where it does not."""
        ahead = self.ahead_seconds
        if not ahead:
            return ""
        side = "ahead of" if ahead > 0 else "behind"
        return f"this machine's clock is {_span(abs(ahead))} {side} the API server's, which certificates go by"


def _span(seconds: float) -> str:
    for size, unit in ((86400.0, "days"), (3600.0, "hours")):
        if seconds > 2 * size - 60:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"
