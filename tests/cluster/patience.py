"""Waiting for what must come: looked at often, given up late."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

# Generous: nothing is measured here, and a loaded machine is slow.
PATIENCE_SECONDS = 90.0
_POLL_SECONDS = 0.05

T = TypeVar("T")


def until(
    fact: Callable[[], T | None], *, seconds: float = PATIENCE_SECONDS, told: Callable[[], object] = lambda: ""
) -> T:
    """Return what `fact` says as soon as it is true; looked at often, given up late, with what `told` says then."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, f"it did not happen within {seconds:g} s: {told()}"
        time.sleep(_POLL_SECONDS)
    return found
