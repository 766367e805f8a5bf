"""The queue of one: why a pass is due, since when, and what came while one was under way."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Trigger(StrEnum):
    """Why a pass is due."""

    CONFIGURATION = "configuration"
    CA = "ca"
    REGISTRATION = "registration"
    POLICY = "policy"
    TWIN = "twin"
    LEASE = "lease"
    RESYNC = "resync"


# A resync, and the start, read everything afresh.
EVERYTHING: Final = frozenset(Trigger)


@dataclass(slots=True)
class Wake:
    """Triggers that no pass has answered yet."""

    due: set[Trigger] = field(default_factory=lambda: set(EVERYTHING))
    event: asyncio.Event = field(default_factory=asyncio.Event)
    news: set[Trigger] = field(default_factory=set)  # what came since the last pass began
    clock: Callable[[], float] = time.monotonic
    _since: float | None = None

    def add(self, trigger: Trigger) -> None:
        """Have a pass answer `trigger`."""
        self.due.update(EVERYTHING if trigger is Trigger.RESYNC else {trigger})
        self.news.add(trigger)
        if self._since is None:
            self._since = self.clock()
        self.event.set()

    def take(self) -> set[Trigger]:
        """Return what is due; what comes from now on, the same trigger too, is due again."""
        self.event.clear()
        self.news.clear()
        taken, self.due = self.due, set()
        return taken

    def answered(self) -> None:
        """Note that a pass came to its end."""
        self._since = self.clock() if self.due else None

    @property
    def age_seconds(self) -> float:
        """How long the oldest trigger has been waiting; 0 where none is."""
        return 0.0 if self._since is None else self.clock() - self._since
