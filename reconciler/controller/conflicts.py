"""Wars: the same fields changed back by the same other manager. Fought a few times, then rarely, never given up.

Who takes other fields each time, or shares them with others, meets a second line: so many writes in all, whoever and
whatever they are against, and from then on they are rare as well.
"""

from dataclasses import dataclass, field
from typing import Final

from reconciler.registration import writers
from reconciler.registration.identity import Manifest
from reconciler.settings import Conflicts as Settings

# Fields of a Side that are the object itself: it was taken away, or it came back.
DELETED: Final = "deleted"
CREATED: Final = "created"

# Pairs that are remembered; with more, the one that has been quiet longest is forgotten.
_MOST: Final = 200
# The second line, in `repeats`: by default 9 writes, and after it a repair every 15 minutes. A repair takes up to three
# (replace, apply, and the end of the window at Fail): no more than 20 an hour.
_MOST_IN_ALL: Final = 3
_AT_ONCE: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Side:
    """The other side of a war: who, and about which field."""

    manager: str
    field: str


def opponent(observed: Manifest | None, field: str) -> Side:
    """Return whose doing the difference at `field` is: a path as drift names it, DELETED or CREATED."""
    if field == CREATED:
        writer = writers.last_foreign(observed) or writers.last_writer(observed)
        return Side(writers.UNKNOWN if writer is None else writer.manager, field)
    return Side(writers.of_field(observed, field), field)


@dataclass(slots=True)
class _Fights:
    count: int = 0
    last: float = _AT_ONCE


@dataclass(slots=True)
class Conflicts:
    """What was put right, how often, against whom. Times are monotonic seconds."""

    settings: Settings
    _fights: dict[Side, _Fights] = field(default_factory=dict)
    _in_all: _Fights = field(default_factory=_Fights)  # writes, not repairs

    def next_repair(self, sides: frozenset[Side]) -> float:
        """Return when these fields may be put right again; minus infinity: at once."""
        if not sides:
            return _AT_ONCE
        in_all = self._in_all.last + self.settings.maximum_seconds if self._is_too_much else _AT_ONCE
        return max(in_all, *(self._next(self._fights.get(side)) for side in sides))

    def repaired(self, sides: frozenset[Side], *, now: float, writes: int = 1) -> frozenset[Side]:
        """Note a repair, or by no sides what was written because of one; returns those with whom it is a war by it."""
        self._in_all.count += writes
        if not sides:
            return frozenset()
        before, self._in_all.last = self.wars, now
        for side in sides:
            fights = self._fights.pop(side, None) or _Fights()
            fights.count, fights.last = fights.count + 1, now
            self._fights[side] = fights  # to the end: the first one is the quietest
        while len(self._fights) > _MOST:
            del self._fights[next(iter(self._fights))]
        if self._is_too_much and not self.wars:
            # Each field by itself is no war: one is named for all.
            next(reversed(self._fights.values())).count = self.settings.repeats
        return self.wars - before

    def held(self, sides: frozenset[Side]) -> frozenset[Side]:
        """Note that the repair of `sides` waits; returns the war that it is by that, so that none waits in silence."""
        if self.wars or not sides:
            return frozenset()
        side = min(sides, key=lambda one: (one.manager, one.field))
        fights = self._fights.pop(side, None) or _Fights(last=self._in_all.last)
        fights.count = self.settings.repeats
        self._fights[side] = fights
        return frozenset({side})

    def calmed(self, *, now: float) -> frozenset[Side]:
        """Forget what has been quiet for long enough; returns the wars among it."""
        if now - self._in_all.last > self.settings.memory_seconds:
            self._in_all = _Fights()
        over = {
            side: fights for side, fights in self._fights.items() if now - fights.last > self.settings.memory_seconds
        }
        for side in over:
            del self._fights[side]
        return frozenset(side for side, fights in over.items() if fights.count >= self.settings.repeats)

    @property
    def wars(self) -> frozenset[Side]:
        """Those with whom it is a war now."""
        return frozenset(side for side, fights in self._fights.items() if fights.count >= self.settings.repeats)

    @property
    def next_calm(self) -> float:
        """When the next war is over, where it stays quiet; infinity where there is none."""
        last = (fights.last for fights in self._fights.values() if fights.count >= self.settings.repeats)
        return min(last, default=float("inf")) + self.settings.memory_seconds

    @property
    def _is_too_much(self) -> bool:
        return self._in_all.count >= _MOST_IN_ALL * self.settings.repeats

    def _next(self, fights: _Fights | None) -> float:
        if fights is None or fights.count < self.settings.repeats:
            return _AT_ONCE
        doubled = self.settings.initial_seconds * 2.0 ** min(fights.count - self.settings.repeats, 30)
        return fights.last + min(doubled, self.settings.maximum_seconds)
