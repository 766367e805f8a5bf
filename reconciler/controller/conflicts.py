"""Wars: the same fields changed back by the same other manager. Fought a few times, then rarely, never given up."""

from dataclasses import dataclass, field

from reconciler.settings import Conflicts as Settings

# Pairs that are remembered; with more, the one that has been quiet longest is forgotten.
_MOST = 200


@dataclass(frozen=True, slots=True)
class Side:
    """The other side of a war: who, and about which field."""

    manager: str
    field: str


@dataclass(slots=True)
class _Fights:
    count: int
    last: float


@dataclass(slots=True)
class Conflicts:
    """What was put right, how often, against whom. Times are monotonic seconds."""

    settings: Settings
    _fights: dict[Side, _Fights] = field(default_factory=dict)

    def next_repair(self, sides: frozenset[Side]) -> float:
        """Return when these fields may be put right again; minus infinity: at once."""
        return max((self._next(self._fights.get(side)) for side in sides), default=float("-inf"))

    def repaired(self, sides: frozenset[Side], *, now: float) -> frozenset[Side]:
        """Note a repair; returns those sides with whom it became a war by it."""
        begun = set()
        for side in sides:
            fights = self._fights.pop(side, None) or _Fights(0, now)
            fights.count, fights.last = fights.count + 1, now
            self._fights[side] = fights  # to the end: the first one is the quietest
            if fights.count == self.settings.repeats:
                begun.add(side)
        while len(self._fights) > _MOST:
            del self._fights[next(iter(self._fights))]
        return frozenset(begun)

    def calmed(self, *, now: float) -> frozenset[Side]:
        """Forget what has been quiet for long enough; returns the wars among it."""
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

    def _next(self, fights: _Fights | None) -> float:
        if fights is None or fights.count < self.settings.repeats:
            return float("-inf")
        doubled = self.settings.initial_seconds * 2.0 ** min(fights.count - self.settings.repeats, 30)
        return fights.last + min(doubled, self.settings.maximum_seconds)
