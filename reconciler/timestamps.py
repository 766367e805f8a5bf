"""Times as Kubernetes writes them (RFC 3339, UTC, whole seconds) and as seconds since the epoch."""

import math
from datetime import UTC, datetime
from typing import Final

_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def utc(time: float) -> str:
    """Return `time` (seconds since the epoch) as text, rounded down to whole seconds; at most the year 9999."""
    whole = math.floor(min(max(time, _FIRST), _LAST))
    return datetime.fromtimestamp(whole, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds(text: object) -> float | None:
    """Return the time in `text` as seconds since the epoch; None where it is missing or unreadable.

    Without a zone it is UTC, wherever this machine stands.
    """
    try:
        read = datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if read is None else (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
