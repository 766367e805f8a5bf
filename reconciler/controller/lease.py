"""The Lease as one candidate knows it: what stands, for how long it is seen unchanged, until when we lead. Pure.

As client-go judges: another's lease has run out when we have seen its record unchanged for as long as it was given, by
our own monotonic clock. Times of different machines are never compared. All times here but `wall` are monotonic.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from reconciler.registration.identity import Manifest

# Nobody is given a lease for longer: a slip of somebody's pen must not keep every candidate out for days.
_LONGEST_SECONDS: Final = 3600
_MOST_TRANSITIONS: Final = 2**31 - 1  # the API's field is an int32
_NEVER: Final = -math.inf


class Step(StrEnum):
    """What a candidate does next."""

    CREATE = "create"
    RENEW = "renew"
    TAKE_OVER = "take over"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Terms:
    """How one candidate stands for election: its name, which nobody else has, and its times."""

    identity: str
    lease_duration_seconds: float
    renew_deadline_seconds: float


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says. Two that are equal are one and the same grant: every renewal changes its time.

    `holder` is empty where it was released, None where nobody can tell; it is `version` (the resourceVersion) that
    changes then.
    """

    uid: str
    holder: str | None
    duration_seconds: float
    acquired: str
    renewed: str
    transitions: int
    version: str


@dataclass(frozen=True, slots=True)
class View:
    """What one candidate knows; each look and each write of its own leaves a new one.

    `since` is when `record` was first seen as it is, `deadline` until when we may write, `term` counts the times that
    we began to lead, `promised_seconds` is how long the holder seen last was given.
    """

    terms: Terms
    observed: Manifest | None = None
    record: Record | None = None
    since: float = _NEVER
    deadline: float = _NEVER
    term: int = 0
    promised_seconds: float = 0.0
    was_seen: bool = False

    def leads(self, now: float) -> bool:
        """Return whether we lead: renewed lately enough that nobody else can have taken over."""
        return now < self.deadline

    @property
    def is_held(self) -> bool:
        """Whether the Lease names us, be it in time or not."""
        return self.record is not None and self.record.holder == self.terms.identity

    def saw(self, observed: Manifest | None, *, at: float) -> "View":
        """Return what is known after a look that was answered `at`; who sees another name there leads no more."""
        record = None if observed is None else read(observed)
        is_another = record is not None and record.holder not in (None, self.terms.identity)
        return replace(
            self,
            observed=observed,
            record=record,
            since=self.since if record == self.record and self.since > _NEVER else at,
            deadline=_NEVER if is_another else self.deadline,
            promised_seconds=record.duration_seconds if record is not None and record.holder else self.promised_seconds,
            was_seen=self.was_seen or record is not None,
        )

    def wrote(self, written: Manifest, *, sent: float, at: float) -> "View":
        """Return what is known after a write of ours that was sent at `sent` and has been accepted."""
        seen = self.saw(written, at=at)
        if not seen.is_held:
            return seen
        # From before it was sent: others count from when they see it, which is later.
        deadline = sent + self.terms.renew_deadline_seconds
        return replace(seen, deadline=deadline, term=self.term + (0 if self.leads(sent) else 1))

    def next_step(self, now: float) -> tuple[Step, float]:
        """Return what to do, and when to look again at the latest where that is to wait."""
        record = self.record
        if record is not None and self.is_held:
            return Step.RENEW, now
        if record is not None and record.holder == "":
            return Step.TAKE_OVER, now
        grab = Step.CREATE if record is None else Step.TAKE_OVER
        # Deleted or stripped by somebody: the leader puts it back at once, everybody else leaves it the time to.
        is_damaged = record is None or record.holder is None
        if is_damaged and (self.leads(now) or not self.was_seen):
            return grab, now
        due = self.since + max(self.terms.lease_duration_seconds, self.promised_seconds)
        return (grab, now) if now >= due else (Step.WAIT, due)

    @property
    def abandoned_at(self) -> float:
        """From when on, if it stays as it is, nobody renews it and no candidate wants it: each would have taken it.

        A candidate that meets errors comes again after `renew_deadline_seconds` at the latest.
        """
        is_released = self.record is not None and self.record.holder == ""
        given = 0.0 if is_released else max(self.terms.lease_duration_seconds, self.promised_seconds)
        return self.since + given + self.terms.renew_deadline_seconds

    def claim(self, step: Step, *, wall: float) -> dict[str, Any]:
        """Return the spec by which we take that step; `wall` is the time in seconds since the epoch."""
        time = micro(wall)
        acquired, transitions = time, 0
        if self.record is not None and step is Step.RENEW:
            acquired, transitions = self.record.acquired or time, self.record.transitions
        elif self.record is not None:
            transitions = min(self.record.transitions + 1, _MOST_TRANSITIONS)
        return {
            "holderIdentity": self.terms.identity,
            "leaseDurationSeconds": math.ceil(self.terms.lease_duration_seconds),
            "acquireTime": acquired,
            "renewTime": time,
            "leaseTransitions": transitions,
        }


@dataclass(slots=True)
class Amendments:
    """Annotations that the leader wants: those that are to stand, and those to go, with the values that may go."""

    wanted: dict[str, str] = field(default_factory=dict)
    unwanted: dict[str, frozenset[str]] = field(default_factory=dict)

    def add(self, annotations: Mapping[str, str | None], standing: Mapping[str, str]) -> None:
        """Want these from now on; None: have what stands now removed."""
        for key, value in annotations.items():
            former = self.wanted.pop(key, None)
            if value is not None:
                self.wanted[key] = value
                self.unwanted.pop(key, None)
            else:
                # Ours may be on its way; but what somebody else writes meanwhile is not what was to go.
                self.unwanted[key] = frozenset(one for one in (standing.get(key), former) if one is not None)

    def patch(self, standing: Mapping[str, str]) -> dict[str, str | None]:
        """Return what has to change in what stands; None removes."""
        missing = {key: value for key, value in self.wanted.items() if standing.get(key) != value}
        return {**missing, **{key: None for key, values in self.unwanted.items() if standing.get(key) in values}}

    def settle(self, standing: Mapping[str, str]) -> None:
        """Forget what is gone, given what stands after a write of ours."""
        self.unwanted = {key: values for key, values in self.unwanted.items() if standing.get(key) in values}

    def clear(self) -> None:
        """Forget everything."""
        self.wanted.clear()
        self.unwanted.clear()


def annotations_of(lease: Manifest | None) -> Mapping[str, str]:
    """Return the annotations of a Lease, none where it is absent."""
    found: Mapping[str, str] = {} if lease is None else lease["metadata"].get("annotations") or {}
    return found


def released(*, wall: float) -> dict[str, Any]:
    """Return the part of a spec by which a leader steps down. Source: client-go leaderelection, release."""
    return {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": micro(wall)}


def read(observed: Manifest) -> Record:
    """Return the record of a Lease; what is missing or of another type counts as not given."""
    metadata = observed["metadata"]
    found = observed.get("spec")
    spec = found if isinstance(found, Mapping) else {}
    holder = spec.get("holderIdentity")
    is_readable = isinstance(holder, str)
    return Record(
        uid=metadata["uid"],
        holder=holder if is_readable else None,
        duration_seconds=float(min(_count(spec.get("leaseDurationSeconds")), _LONGEST_SECONDS)),
        acquired=_text(spec.get("acquireTime")),
        renewed=_text(spec.get("renewTime")),
        transitions=_count(spec.get("leaseTransitions")),
        version="" if is_readable else metadata["resourceVersion"],
    )


def micro(wall: float) -> str:
    """Return the time as the API's MicroTime: RFC 3339 in UTC with six digits."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _count(value: object) -> int:
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
