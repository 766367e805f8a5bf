"""Wars: fought a few times, then rarely, never given up, and over when it is quiet."""

from __future__ import annotations

import math

import pytest

from reconciler.controller.conflicts import Conflicts, Side
from reconciler.settings import Conflicts as Settings

AKS, ARGO = Side("aks", "namespaceSelector"), Side("argo", "failurePolicy")
BOTH = frozenset({AKS, ARGO})
ONE = frozenset({AKS})
AT_ONCE = -math.inf
# A war from the third repair on; 120 s, at most 600 s; forgotten after 1800 s.
SETTINGS = Settings().model_copy(
    update={"repeats": 3, "initial_seconds": 120.0, "maximum_seconds": 600.0, "memory_seconds": 1800.0}
)


@pytest.fixture
def conflicts() -> Conflicts:
    return Conflicts(SETTINGS)


def fight(conflicts: Conflicts, times: int, *, sides: frozenset[Side] = ONE, now: float = 0.0) -> None:
    for _ in range(times):
        conflicts.repaired(sides, now=now)


def test_peace(conflicts: Conflicts) -> None:
    assert conflicts.next_repair(frozenset()) == AT_ONCE
    assert conflicts.next_repair(BOTH) == AT_ONCE
    assert (conflicts.wars, conflicts.calmed(now=1e9)) == (frozenset(), frozenset())


def test_it_is_a_war_from_the_third_repair_on_and_begins_once(conflicts: Conflicts) -> None:
    begun = [conflicts.repaired(ONE, now=float(now)) for now in range(6)]
    assert begun == [frozenset(), frozenset(), ONE, frozenset(), frozenset(), frozenset()]
    assert conflicts.wars == ONE


@pytest.mark.parametrize(
    ("times", "wait"),
    [(1, AT_ONCE), (2, AT_ONCE), (3, 120), (4, 240), (5, 480), (6, 600), (7, 600), (9999, 600)],
)
def test_repairs_become_rarer_and_never_stop(conflicts: Conflicts, times: int, wait: float) -> None:
    fight(conflicts, times, now=50.0)
    assert conflicts.next_repair(ONE) == (wait if wait == AT_ONCE else 50 + wait)


def test_of_several_sides_the_slowest_counts_and_each_by_itself(conflicts: Conflicts) -> None:
    fight(conflicts, 3, sides=ONE)
    fight(conflicts, 2, sides=frozenset({ARGO}), now=7.0)
    assert conflicts.next_repair(BOTH) == 120
    assert conflicts.next_repair(frozenset({ARGO})) == AT_ONCE
    assert conflicts.next_repair(frozenset({Side("aks", "failurePolicy"), Side("argo", AKS.field)})) == AT_ONCE
    assert conflicts.repaired(BOTH, now=8.0) == frozenset({ARGO})
    assert conflicts.wars == BOTH
    assert conflicts.next_repair(BOTH) == 8 + 240


def test_it_is_calm_again_when_it_stops(conflicts: Conflicts) -> None:
    fight(conflicts, 3)
    fight(conflicts, 1, sides=frozenset({ARGO}))
    assert conflicts.calmed(now=1800.0) == frozenset()
    assert conflicts.wars == ONE
    assert conflicts.calmed(now=1800.1) == ONE, "the one that was no war is forgotten in silence"
    assert (conflicts.wars, conflicts.next_repair(BOTH)) == (frozenset(), AT_ONCE)
    fight(conflicts, 2, sides=BOTH, now=1801.0)
    assert conflicts.repaired(BOTH, now=1801.0) == BOTH, "it is a new war"


def test_a_repair_keeps_the_memory_of_a_war(conflicts: Conflicts) -> None:
    fight(conflicts, 3)
    fight(conflicts, 1, now=1799.0)
    assert conflicts.calmed(now=3599.0) == frozenset()
    assert conflicts.next_repair(ONE) == 1799 + 240


@pytest.mark.parametrize("answers_after", [0.01, 30.0, 200.0, 500.0])
def test_an_hour_of_war_takes_few_repairs(answers_after: float) -> None:
    """By default; a repair may take two writes, and twenty are allowed."""
    conflicts, now, repairs = Conflicts(Settings()), 0.0, 0
    while now <= 3600:
        conflicts.repaired(ONE, now=now)
        repairs += 1
        now = max(now + answers_after, conflicts.next_repair(ONE))
    assert 5 <= repairs <= 10


def test_the_quietest_is_forgotten_where_there_are_too_many(conflicts: Conflicts) -> None:
    fight(conflicts, 3)
    many = [Side("other", str(number)) for number in range(199)]
    for number, side in enumerate(many):
        fight(conflicts, 3, sides=frozenset({side}), now=float(number))
    assert len(conflicts.wars) == 200
    fight(conflicts, 1, now=300.0)
    fight(conflicts, 1, sides=frozenset({ARGO}), now=301.0)
    assert AKS in conflicts.wars
    assert conflicts.wars == {AKS, *many[1:]}


def test_a_first_repair_may_be_a_war_by_the_settings() -> None:
    conflicts = Conflicts(SETTINGS.model_copy(update={"repeats": 1}))
    assert conflicts.repaired(ONE, now=5.0) == ONE
    assert conflicts.next_repair(ONE) == 125


@pytest.mark.parametrize("writes", [1, 2])
def test_who_takes_another_field_each_time_meets_the_second_line(conflicts: Conflicts, writes: int) -> None:
    """Three times as many writes as repeats, whatever they are against; one is named for all."""
    sides = [frozenset({Side("aks", str(number))}) for number in range(9)]
    needed = -(-9 // writes)
    for number, side in enumerate(sides[: needed - 1]):
        assert conflicts.next_repair(side) == AT_ONCE
        assert conflicts.repaired(side, now=float(number), writes=writes) == frozenset()
    assert conflicts.repaired(sides[needed - 1], now=9.0, writes=writes) == sides[needed - 1] == conflicts.wars
    assert conflicts.next_repair(ONE) == 9 + 600, "a side never met waits as well"
    assert conflicts.next_repair(frozenset()) == AT_ONCE
    assert conflicts.repaired(ONE, now=700.0, writes=writes) == frozenset(), "it is the same war"
    assert conflicts.next_repair(sides[0]) == 1300
    assert conflicts.calmed(now=2500.0) == sides[needed - 1]
    assert conflicts.next_repair(sides[0]) == 1300
    conflicts.calmed(now=2501.0)
    assert conflicts.next_repair(sides[0]) == AT_ONCE


def test_a_write_that_is_no_repair_is_no_conflict(conflicts: Conflicts) -> None:
    for _ in range(99):
        assert conflicts.repaired(frozenset(), now=0.0, writes=2) == frozenset()
    assert conflicts.next_repair(ONE) == AT_ONCE


def test_a_repair_that_waits_because_of_all_writes_is_a_war_by_that(conflicts: Conflicts) -> None:
    """The end of a window was one write too many: whom it is about shows with the next repair, which waits."""
    for number in range(4):
        conflicts.repaired(frozenset({Side("other", str(number))}), now=float(number), writes=2)
    assert conflicts.next_repair(ONE) == AT_ONCE
    assert conflicts.repaired(frozenset(), now=9.0) == conflicts.wars == frozenset()
    assert conflicts.next_repair(ONE) == 3 + 600
    assert conflicts.held(ONE) == conflicts.wars == ONE
    assert conflicts.next_repair(ONE) == 3 + 600, "it waits no longer by that"
    assert conflicts.held(BOTH) == conflicts.held(frozenset()) == frozenset(), "it is named once"
    assert conflicts.calmed(now=3 + 1801.0) == ONE


def test_a_war_that_is_named_already_is_named_for_all(conflicts: Conflicts) -> None:
    fight(conflicts, 3)
    for number in range(9):
        assert conflicts.repaired(frozenset({Side("other", str(number))}), now=1.0) == frozenset()
    assert conflicts.wars == ONE


@pytest.mark.parametrize("sides", [ONE, BOTH], ids=["one", "both"])
def test_when_the_next_war_is_over(conflicts: Conflicts, sides: frozenset[Side]) -> None:
    fight(conflicts, 2)
    assert conflicts.next_calm == math.inf
    fight(conflicts, 1, now=50.0)
    fight(conflicts, 3, sides=sides - ONE, now=70.0)
    assert conflicts.next_calm == 50 + 1800
    assert conflicts.calmed(now=conflicts.next_calm) == frozenset()
    assert conflicts.calmed(now=conflicts.next_calm + 0.1) == ONE
    assert conflicts.next_calm == (math.inf if sides == ONE else 70 + 1800)
