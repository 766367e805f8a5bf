"""Durations as Kubernetes component configurations write them (`10m`, `1h30m`, `100ms`). As Go parses them."""

import re

_UNITS_IN_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse(text: str) -> float:
    """Return `text` in seconds; raises ValueError where it is no positive Go duration."""
    position = 0
    seconds = 0.0
    while match := _TERM.match(text, position):
        seconds += float(match[1]) * _UNITS_IN_SECONDS[match[2]]
        position = match.end()
    if position == 0 or position != len(text):
        raise ValueError(
            f'{text!r} is no duration: write a number with its unit, such as "100ms", "15s", "10m" or "1h30m"'
        )
    return seconds


def render(seconds: float) -> str:
    """Return the shortest Go duration of `seconds`, for messages and samples: 0.1 -> "100ms", 600 -> "10m"."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit, size in (("h", 3600.0), ("m", 60.0)):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
