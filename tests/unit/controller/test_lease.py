"""What a candidate does about a Lease, for every state of it; what it writes; whose annotations survive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler import timestamps
from reconciler.controller.lease import Amendments, Step, Terms, View, annotations_of, micro, read, released

TERMS = Terms("me", 15.0, 10.0)
WALL = 1_800_000_000.25
SEEN = 1000.0  # when what stands was first seen
LEASE = 15.0


def lease(spec: object = None, *, uid: str = "u", version: str = "7", **annotations: str) -> dict[str, Any]:
    metadata = {"uid": uid, "resourceVersion": version, "annotations": annotations}
    return {"metadata": metadata} if spec is None else {"metadata": metadata, "spec": spec}


def spec(holder: object = "other", **changed: object) -> dict[str, Any]:
    given = {
        "holderIdentity": holder,
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:01:00.000000Z",
        "leaseTransitions": 4,
    }
    return {**given, **changed}


def seen(*looks: dict[str, Any] | None, at: float = SEEN) -> View:
    view = View(TERMS)
    for look in looks:
        view = view.saw(look, at=at)
    return view


NOTHING_YET = seen(None)
DELETED = seen(lease(spec()), None)


@pytest.mark.parametrize(
    ("view", "after", "step"),
    [
        (NOTHING_YET, 0.0, Step.CREATE),
        (DELETED, LEASE - 0.01, Step.WAIT),
        (DELETED, LEASE, Step.CREATE),
        (replace(DELETED, deadline=SEEN + 9), 8.0, Step.CREATE),
        (seen(lease(spec())), 0.0, Step.WAIT),
        (seen(lease(spec())), LEASE - 0.01, Step.WAIT),
        (seen(lease(spec())), LEASE, Step.TAKE_OVER),
        (seen(lease(spec(""))), 0.0, Step.TAKE_OVER),
        (seen(lease(spec("me"))), 0.0, Step.RENEW),
        (seen(lease(spec("me"))), 10_000.0, Step.RENEW),
        (seen(lease(spec(leaseDurationSeconds=40))), 39.9, Step.WAIT),
        (seen(lease(spec(leaseDurationSeconds=40))), 40.0, Step.TAKE_OVER),
        (seen(lease(spec(leaseDurationSeconds=40)), None), 39.9, Step.WAIT),
        (seen(lease(spec(leaseDurationSeconds=1))), LEASE - 0.01, Step.WAIT),
        (seen(lease(spec(leaseDurationSeconds=2**31 - 1))), 3599.0, Step.WAIT),
        (seen(lease(spec(leaseDurationSeconds=2**31 - 1))), 3600.0, Step.TAKE_OVER),
        (seen(lease()), LEASE - 0.01, Step.WAIT),
        (seen(lease()), LEASE, Step.TAKE_OVER),
        (replace(seen(lease()), deadline=SEEN + 9), 8.0, Step.TAKE_OVER),
        (seen(lease({})), LEASE - 0.01, Step.WAIT),
        (seen(lease([])), LEASE, Step.TAKE_OVER),
        (seen(lease(spec(17))), LEASE, Step.TAKE_OVER),
        (seen(lease(spec(leaseDurationSeconds="15", leaseTransitions=None, renewTime=3))), LEASE - 0.01, Step.WAIT),
        (seen(lease(spec(leaseDurationSeconds=True, acquireTime=[]))), LEASE, Step.TAKE_OVER),
    ],
    ids=[
        "absent when first looked for: created",
        "deleted by somebody: its leader is left the time to put it back",
        "deleted, and nobody put it back",
        "deleted while we lead: put back at once",
        "another's, just seen",
        "another's, nearly run out",
        "another's, run out",
        "released: taken at once",
        "ours: renewed",
        "ours, long since: renewed",
        "the holder was given longer than we ask for",
        "the longer time ran out",
        "the longer time counts for a deleted one, too",
        "a shorter time than ours is not taken for the whole truth",
        "an absurd time is cut",
        "the cut time ran out",
        "no spec: left alone at first",
        "no spec, for a lease's time",
        "no spec while we lead: put right at once",
        "an empty spec",
        "a spec that is a list",
        "a holder that is a number",
        "other fields of wrong types: the holder counts",
        "other fields of wrong types, run out",
    ],
)
def test_the_next_step(view: View, after: float, step: Step) -> None:
    assert view.next_step(SEEN + after)[0] is step


def test_a_wait_ends_when_the_lease_runs_out_however_often_it_is_looked_at() -> None:
    view = seen(lease(spec()))
    for later in range(1, 15):
        view = view.saw(lease(spec()), at=SEEN + later)
        assert view.next_step(SEEN + later) == (Step.WAIT, SEEN + LEASE)


@pytest.mark.parametrize(
    ("now", "begins_anew"),
    [
        (lease(spec(), version="8", paused="yes"), False),
        (lease(spec(renewTime="2026-01-01T00:01:00.000001Z")), True),
        (lease(spec("third")), True),
        (lease(spec(), uid="v"), True),
        (None, True),
        (lease({}), True),
    ],
    ids=["an annotation", "a renewal", "a new holder", "deleted and created", "deleted", "stripped"],
)
def test_only_a_change_of_the_record_begins_the_wait_anew(now: dict[str, Any] | None, *, begins_anew: bool) -> None:
    view = seen(lease(spec())).saw(now, at=SEEN + 10)
    assert view.since == (SEEN + 10 if begins_anew else SEEN)


def test_a_damaged_lease_is_another_one_after_each_change() -> None:
    """It cannot tell renewals apart: somebody may have put it right and somebody else damaged it again."""
    view = seen(lease({})).saw(lease({}, version="8"), at=SEEN + 10)
    assert view.since == SEEN + 10


def test_the_lead_counts_from_before_the_write_was_sent() -> None:
    view = NOTHING_YET.wrote(lease(spec("me")), sent=SEEN + 1, at=SEEN + 4)
    assert (view.deadline, view.since, view.term) == (SEEN + 11, SEEN + 4, 1)
    assert view.leads(SEEN + 10.99)
    assert not view.leads(SEEN + 11)


def test_a_write_that_came_back_with_another_name_is_no_lead() -> None:
    assert not seen(None).wrote(lease(spec("other")), sent=SEEN, at=SEEN).leads(SEEN)


@pytest.mark.parametrize("holder", ["other", ""], ids=["another", "nobody"])
def test_seeing_that_the_lease_does_not_name_us_ends_the_lead_at_once(holder: str) -> None:
    leading = seen(None).wrote(lease(spec("me")), sent=SEEN, at=SEEN)
    assert leading.leads(SEEN + 1)
    assert not leading.saw(lease(spec(holder)), at=SEEN + 1).leads(SEEN + 1)


def test_terms_are_counted_and_a_renewal_begins_none() -> None:
    view = seen(None).wrote(lease(spec("me")), sent=SEEN, at=SEEN)
    view = view.wrote(lease(spec("me")), sent=SEEN + 9, at=SEEN + 9)
    assert view.term == 1
    assert view.wrote(lease(spec("me")), sent=SEEN + 19, at=SEEN + 19).term == 2
    lost = view.saw(lease(spec("other")), at=SEEN + 10)
    assert lost.wrote(lease(spec("me")), sent=SEEN + 11, at=SEEN + 11).term == 2


@pytest.mark.parametrize(
    ("view", "step", "acquired", "transitions"),
    [
        (NOTHING_YET, Step.CREATE, micro(WALL), 0),
        (seen(lease(spec("me"))), Step.RENEW, "2026-01-01T00:00:00.000000Z", 4),
        (seen(lease(spec("me", acquireTime=None))), Step.RENEW, micro(WALL), 4),
        (seen(lease(spec())), Step.TAKE_OVER, micro(WALL), 5),
        (seen(lease(spec(leaseTransitions=2**31 - 1))), Step.TAKE_OVER, micro(WALL), 2**31 - 1),
        (seen(lease()), Step.TAKE_OVER, micro(WALL), 1),
    ],
    ids=["create", "renew", "renew what lacks a time", "take over", "as often as can be counted", "damaged"],
)
def test_what_is_written(view: View, step: Step, acquired: str, transitions: int) -> None:
    assert view.claim(step, wall=WALL) == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": acquired,
        "renewTime": "2027-01-15T08:00:00.250000Z",
        "leaseTransitions": transitions,
    }


def test_the_written_duration_is_rounded_up() -> None:
    assert View(Terms("me", 2.2, 2.0)).claim(Step.CREATE, wall=WALL)["leaseDurationSeconds"] == 3


def test_a_release_leaves_nobody_and_a_second() -> None:
    gone = released(wall=WALL)
    assert (gone["holderIdentity"], gone["leaseDurationSeconds"]) == ("", 1)
    assert timestamps.seconds(gone["renewTime"]) == WALL


@pytest.mark.parametrize("wall", [0.0, 1.0, WALL, 1_800_000_000.0])
def test_times_have_six_digits_always(wall: float) -> None:
    assert micro(wall)[-8] == "."
    assert timestamps.seconds(micro(wall)) == wall


def test_records_hold_nothing_of_a_wrong_type() -> None:
    record = read(lease({"holderIdentity": None, "leaseDurationSeconds": 10**400, "leaseTransitions": -1}))
    assert (record.holder, record.duration_seconds, record.transitions) == (None, 3600.0, 0)


def test_annotations_of_what_is_absent_or_has_none() -> None:
    assert annotations_of(None) == annotations_of({"metadata": {"annotations": None}}) == {}


class TestAmendments:
    """What is written of annotations, given what stands."""

    def test_only_what_differs_is_written_and_it_stays_wanted(self) -> None:
        memory = Amendments()
        memory.add({"a": "1", "b": "2"}, {"b": "2", "foreign": "x"})
        assert memory.patch({"b": "2", "foreign": "x"}) == {"a": "1"}
        memory.settle({"a": "1", "b": "2"})
        assert memory.patch({"a": "1", "b": "2"}) == {}
        assert memory.patch({}) == {"a": "1", "b": "2"}

    def test_a_removal_is_repeated_until_it_is_done_and_then_forgotten(self) -> None:
        memory = Amendments()
        memory.add({"pause": None}, {"pause": "until one"})
        assert memory.patch({"pause": "until one"}) == {"pause": None}
        memory.settle({"pause": "until one"})
        assert memory.patch({"pause": "until one"}) == {"pause": None}
        memory.settle({})
        assert memory.patch({"pause": "until one"}) == {}

    def test_a_removal_spares_what_somebody_wrote_meanwhile(self) -> None:
        memory = Amendments()
        memory.add({"pause": None}, {"pause": "until one"})
        assert memory.patch({"pause": "until two"}) == {}

    def test_a_removal_meets_our_own_value_that_is_on_its_way(self) -> None:
        memory = Amendments()
        memory.add({"memory": "1"}, {})
        memory.add({"memory": None}, {})
        assert memory.patch({}) == {}
        memory.settle({"memory": "1"})
        assert memory.patch({"memory": "1"}) == {"memory": None}

    def test_the_last_wish_counts(self) -> None:
        memory = Amendments()
        memory.add({"a": None}, {"a": "0"})
        memory.add({"a": "1"}, {"a": "0"})
        assert memory.patch({"a": "0"}) == {"a": "1"}
        memory.clear()
        assert memory.patch({"a": "0"}) == {}
