"""The faults and their order: everything that is chosen, from one seed. Pure; what a fault does is told elsewhere."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")
MEMBERS: Final = ("a", "b")
"""The two reconcilers, and likewise the two servers."""
_ALL: Final = "all"
# Between the beginnings of two faults: shorter than many of them last, so that they overlap.
_PAUSE_SECONDS: Final = (0.3, 2.2)
# Every so many faults everything is let come to rest, so that the next ones hit a seed at Fail.
_REST: Final = (4, 8)


class Group(StrEnum):
    """What is hit."""

    RECONCILERS = "reconcilers"
    SERVERS = "servers"
    CONTROL_PLANE = "control-plane"
    WIRE = "wire"
    CERTIFICATES = "certificates"
    OBJECTS = "objects"
    CONFIGURATION = "configuration"


_SHARES: Final = {
    Group.RECONCILERS: 3,
    Group.SERVERS: 2,
    Group.CONTROL_PLANE: 1,
    Group.WIRE: 4,
    Group.CERTIFICATES: 2,
    Group.OBJECTS: 4,
    Group.CONFIGURATION: 2,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: `variants` are how it may be done, `seconds` for how long before it is undone or followed."""

    name: str
    group: Group
    seconds: tuple[float, float] = (0.0, 0.0)
    variants: tuple[str, ...] = ("",)
    takes_all: bool = False
    """Whether it is always done to both of two."""

    @property
    def has_members(self) -> bool:
        """Whether it is done to one or to all of two."""
        return self.group in (Group.RECONCILERS, Group.SERVERS, Group.WIRE)


@dataclass(frozen=True, slots=True)
class Step:
    """One fault as it was drawn; `pause_seconds` until the next one begins, `rests`: everything is over before it."""

    number: int
    kind: Kind
    variant: str
    whom: str
    hold_seconds: float
    pause_seconds: float
    rests: bool

    @property
    def members(self) -> tuple[str, ...]:
        """Those of the two whom it is done to."""
        return MEMBERS if self.whom == _ALL else (self.whom,) if self.whom else ()

    @property
    def subjects(self) -> frozenset[str]:
        """What it takes hold of: of two steps with the same the second waits for the end of the first."""
        if self.members:
            return frozenset(f"{self.kind.group}/{member}" for member in self.members)
        if self.kind.group is Group.OBJECTS:
            return frozenset(("lease" if self.kind.name.startswith("lease") else "registration",))
        return frozenset((str(self.kind.group),))

    def __str__(self) -> str:
        """Return the line of the plan."""
        words = [self.kind.name, *filter(None, (self.variant, self.whom))]
        held = f" for {self.hold_seconds:.1f} s" if self.hold_seconds else ""
        rest = "; then a rest" if self.rests else ""
        return f"{self.number:3d}. {' '.join(words)}{held}; next after {self.pause_seconds:.1f} s{rest}"


_ABRUPTLY: Final = ("abruptly", "cleanly")
_STATUSES: Final = ("401", "403", "404", "409", "422", "500", "503", "504")
# What a request must be to be met; "few": the first four of any kind.
_SCOPES: Final = ("everything", "writes", "proofs", "leases", "few")
_SMALL: Final = ("everything", "few")

KINDS: Final = (
    Kind("reconciler-kill", Group.RECONCILERS, (0.2, 5.0)),
    Kind("reconciler-freeze-briefly", Group.RECONCILERS, (0.5, 1.8)),
    Kind("reconciler-freeze-past-lease", Group.RECONCILERS, (4.0, 6.0)),
    Kind("reconciler-restart", Group.RECONCILERS),
    Kind("reconciler-clock", Group.RECONCILERS, (1.0, 5.0), ("+90s", "-90s", "+3h", "-3h", "+45d", "+400d")),
    Kind("server-kill", Group.SERVERS, (0.2, 6.0)),
    Kind("server-freeze", Group.SERVERS, (0.5, 8.0)),
    Kind("server-restart", Group.SERVERS),
    # Longer than pods may be refused: whoever does not lower by then is found out.
    Kind("server-outage", Group.SERVERS, (16.0, 22.0), takes_all=True),
    Kind("apiserver-kill", Group.CONTROL_PLANE, (0.0, 2.0)),
    Kind("apiserver-restart", Group.CONTROL_PLANE),
    Kind("etcd-kill", Group.CONTROL_PLANE, (0.2, 3.0)),
    Kind("etcd-restart", Group.CONTROL_PLANE),
    Kind("wire-partition", Group.WIRE, (0.5, 6.0)),
    Kind("wire-reset", Group.WIRE),
    Kind("wire-drop", Group.WIRE, (0.5, 4.0), _SCOPES),
    Kind("wire-lost-answer", Group.WIRE, (0.5, 4.0), _SCOPES),
    Kind("wire-refused", Group.WIRE, (0.5, 5.0), ("kept", "reset")),
    Kind("wire-delay", Group.WIRE, (1.0, 5.0), ("0.3", "1.5", "3")),
    Kind("wire-status", Group.WIRE, (0.5, 4.0), tuple(f"{code} {scope}" for code in _STATUSES for scope in _SCOPES)),
    Kind("wire-too-many-requests", Group.WIRE, (0.5, 3.0), _SMALL),
    Kind("wire-overloaded", Group.WIRE, (0.5, 3.0), _SMALL),
    Kind("wire-garbage", Group.WIRE, (0.5, 4.0), _SCOPES),
    Kind("wire-cut-body", Group.WIRE, (0.5, 4.0), _ABRUPTLY),
    Kind("wire-truncated-json", Group.WIRE, (0.5, 4.0), _SCOPES),
    Kind("wire-half-open", Group.WIRE, (0.5, 6.0), _SCOPES),
    Kind("wire-trickle", Group.WIRE, (0.5, 4.0), ("0", "0.01")),
    Kind("watch-gone", Group.WIRE, (0.5, 4.0)),
    Kind("watch-error", Group.WIRE, (0.5, 4.0)),
    Kind("watch-close", Group.WIRE, (0.5, 4.0), _ABRUPTLY),
    Kind("watch-long-line", Group.WIRE, (0.5, 2.0)),
    Kind("watch-cut", Group.WIRE, (0.5, 4.0), _ABRUPTLY),
    Kind("watch-garbled", Group.WIRE, (0.5, 4.0)),
    Kind("serving-expired", Group.CERTIFICATES),
    Kind("authority-expired", Group.CERTIFICATES),
    Kind("serving-garbage", Group.CERTIFICATES, variants=("tls.crt", "tls.key", "ca.crt")),
    Kind("authority-garbage", Group.CERTIFICATES, variants=("ca.crt", "ca.key")),
    Kind("serving-foreign", Group.CERTIFICATES),
    Kind("secret-deleted", Group.CERTIFICATES, variants=("serving", "authority", "both")),
    Kind("secret-annotations", Group.CERTIFICATES, variants=("serving", "authority")),
    Kind("secret-data-emptied", Group.CERTIFICATES, variants=("authority",)),
    Kind("registration-policy", Group.OBJECTS),
    Kind("registration-selector", Group.OBJECTS, variants=("emptied", "shortened", "objects-emptied")),
    # A term that only narrows is tolerated and carried along, so whoever added it takes it away again.
    Kind("registration-term", Group.OBJECTS, (0.5, 6.0), ("harmless", "excluding", "instead")),
    Kind("registration-rules", Group.OBJECTS, variants=("update", "services")),
    Kind("registration-bundle", Group.OBJECTS, variants=("garbage", "foreign", "emptied")),
    Kind("registration-url", Group.OBJECTS),
    Kind("registration-annotations", Group.OBJECTS),
    Kind("registration-labels", Group.OBJECTS),
    Kind("registration-entry", Group.OBJECTS, variants=("added", "removed")),
    Kind("registration-timeout", Group.OBJECTS),
    Kind("registration-deleted", Group.OBJECTS),
    Kind("registration-war", Group.OBJECTS, (2.0, 6.0), ("policy", "timeout", "deleted")),
    Kind("lease-deleted", Group.OBJECTS),
    Kind("lease-holder", Group.OBJECTS),
    Kind("lease-annotations", Group.OBJECTS),
    Kind("configuration-truncated", Group.CONFIGURATION, (0.5, 4.0)),
    Kind("configuration-emptied", Group.CONFIGURATION, (0.5, 4.0)),
    Kind("configuration-garbage", Group.CONFIGURATION, (0.5, 4.0)),
    Kind("configuration-removed", Group.CONFIGURATION, (0.5, 4.0)),
    Kind("configuration-flipped", Group.CONFIGURATION, (0.3, 4.0)),
)


def draw(seed: int, count: int) -> tuple[Step, ...]:
    """Return `count` steps: groups by their shares, and within each every kind once before any comes again."""
    choose = random.Random(seed)  # noqa: S311 - it must come again from the same seed
    groups = _dealt(choose, [group for group, share in _SHARES.items() for _ in range(share)])
    decks = {group: _dealt(choose, [kind for kind in KINDS if kind.group is group]) for group in Group}
    steps: list[Step] = []
    until_rest = choose.randint(*_REST)
    for number in range(1, count + 1):
        kind = next(decks[next(groups)])
        until_rest -= 1
        rests = until_rest == 0 or number == count
        if rests:
            until_rest = choose.randint(*_REST)
        steps.append(
            Step(
                number,
                kind,
                choose.choice(kind.variants),
                _whom(choose, kind),
                round(choose.uniform(*kind.seconds), 1),
                round(choose.uniform(*_PAUSE_SECONDS), 1),
                rests,
            )
        )
    return tuple(steps)


def _whom(choose: random.Random, kind: Kind) -> str:
    if not kind.has_members:
        return ""
    return _ALL if kind.takes_all else choose.choice((*MEMBERS, _ALL))


def _dealt(choose: random.Random, deck: Sequence[T]) -> Iterator[T]:
    """Yield the cards of the deck, shuffled anew each time that it is used up, for ever."""
    while True:
        yield from choose.sample(deck, len(deck))
