"""Times as Kubernetes writes them (RFC 3339, UTC, whole seconds) and as seconds since the epoch."""

from datetime import UTC, datetime


def utc(time: float) -> str:
    """Return `time` (seconds since the epoch) as text, rounded down to whole seconds."""
    return datetime.fromtimestamp(int(time), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds(text: object) -> float | None:
    """Return the time in `text` as seconds since the epoch; None where it is missing or unreadable."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except (ValueError, OverflowError, OSError):
        return None
