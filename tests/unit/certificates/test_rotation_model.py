"""Whatever happens between any two writes, every API server believes every serving certificate that it is shown.

The world is in world.py: servers learn late, writers die, overtake one another, sleep, and are asked to rotate.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from reconciler.certificates.rotation import Action, Phase
from tests.unit.certificates.world import (
    ADMISSION_SERVERS,
    API_SERVERS,
    AUTHORITY_LIFE,
    DAY,
    LEAF_LIFE,
    LONGEST_PASS,
    MINUTE,
    OVERLAP,
    PROPAGATION,
    World,
    Writer,
)

Way = tuple[int, int]  # through this API server to this admission server

WRITERS = st.integers(0, 1)
WAYS = st.none() | st.tuples(st.integers(0, API_SERVERS - 1), st.integers(0, ADMISSION_SERVERS - 1))
SERVERS = st.sets(st.integers(0, API_SERVERS + ADMISSION_SERVERS - 1))
WRITES = st.integers(0, 4)
PAUSES = st.sampled_from([0, 0, 1, LONGEST_PASS, PROPAGATION, PROPAGATION])
SLEEPS = st.sampled_from([OVERLAP, OVERLAP, 5 * DAY, LEAF_LIFE, AUTHORITY_LIFE])
WHILES = st.sampled_from([MINUTE, PROPAGATION, OVERLAP, 3 * DAY])


def settled() -> World:
    """Return a world in which all is well."""
    world = World()
    keep(world, OVERLAP, way=None)
    assert world.is_good
    return world


def keep(world: World, seconds: int, *, writer: int = 0, way: Way | None) -> None:
    """Let one writer do what the loop does: a pass whenever one is due, a proof after it, a pass after the proof.

    With no `way` no proof is possible.
    """
    mine, end = world.writers[writer], world.clock + seconds
    recoveries, left, wakes = world.recoveries, world.left, 0
    while True:
        mine.run()
        if way is not None and mine.prove(*way) and world.phase is not Phase.STABLE:
            mine.run()
        assert mine.due > world.clock, "a busy loop"
        if mine.due >= end:
            break
        world.advance(mine.due - world.clock)
        wakes += 1
        assert wakes <= 20 + seconds / DAY, "woken for nothing"
    world.advance(end - world.clock)
    assert world.recoveries == recoveries or left < 2 * OVERLAP, "something expired though it was looked after"
    if way is not None and seconds >= 2 * OVERLAP:
        held = world.standing.authorities
        assert held is not None
        has_just_turned = world.clock - held.since <= OVERLAP + 3 * PROPAGATION
        assert held.phase is Phase.STABLE or has_just_turned, "a rotation does not come to its end"


class Rotations(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(is_new=st.booleans(), servers=SERVERS)
    def something_may_stand_already(self, *, is_new: bool, servers: set[int]) -> None:
        if not is_new:
            self.world = settled()
        self.world.are_prompt(servers)

    @rule(writer=WRITERS, hurried=st.booleans())
    def a_rotation_is_asked_for(self, writer: int, *, hurried: bool) -> None:
        self.world.writers[writer].run(rotate=True, hurried=hurried)

    @rule(pause=PAUSES, writer=WRITERS, way=WAYS, hurried=st.booleans())
    def a_writer_proves_and_passes(self, pause: int, writer: int, way: Way | None, *, hurried: bool) -> None:
        self.world.advance(pause)
        if way is not None:
            self.world.writers[writer].prove(*way)
        self.world.writers[writer].run(hurried=hurried)

    @rule(pause=PAUSES, writer=WRITERS, way=WAYS, writes=WRITES, rotate=st.booleans())
    def a_pass_is_left_waiting(self, pause: int, writer: int, way: Way | None, writes: int, *, rotate: bool) -> None:
        self.world.advance(pause)
        if way is not None:
            self.world.writers[writer].prove(*way)
        self.world.writers[writer].begin(rotate=rotate)
        self.go_on(writer, writes)

    @rule(writer=WRITERS, writes=WRITES)
    def a_waiting_pass_goes_on(self, writer: int, writes: int) -> None:
        self.go_on(writer, writes)

    @rule(turns=st.lists(WRITERS, max_size=8), rotate=st.booleans())
    def two_writers_meet(self, turns: list[int], *, rotate: bool) -> None:
        for writer in self.world.writers:
            writer.begin(rotate=rotate)
        for turn in turns:
            self.world.writers[turn].go_on()

    @rule(writer=WRITERS)
    def a_writer_is_killed(self, writer: int) -> None:
        self.world.writers[writer].kill()

    @rule(servers=SERVERS)
    def other_servers_are_prompt(self, servers: set[int]) -> None:
        self.world.are_prompt(servers)

    @rule(seconds=SLEEPS)
    def everything_sleeps(self, seconds: int) -> None:
        self.world.advance(seconds)

    @rule(seconds=WHILES, writer=WRITERS, way=WAYS)
    def a_writer_keeps_it_so(self, seconds: int, writer: int, way: Way | None) -> None:
        keep(self.world, seconds, writer=writer, way=way)

    @invariant()
    def every_leaf_that_is_shown_is_believed(self) -> None:
        self.world.check()

    def go_on(self, writer: int, writes: int) -> None:
        for _ in range(writes):
            self.world.writers[writer].go_on()


def test_every_leaf_that_is_shown_is_believed_whatever_happens() -> None:
    # Cuts and two writers have tables below, which find what lies deep; `--hypothesis-profile=explore` looks for more.
    run_state_machine_as_test(Rotations, settings=settings())


ROTATION = [Action.ISSUE_NEXT, Action.WRITE_BUNDLE, Action.SERVE_WITH_NEXT, Action.ISSUE_LEAF]
# Nobody, an API server, an admission server, both; the others learn as late as they may.
PROMPT: list[set[int]] = [set(), {0}, {API_SERVERS}, {0, API_SERVERS}]


def writes_up_to(world: World, writer: Writer, cut: int) -> bool:
    """Have `writer` die before the write number `cut` of its pass; returns whether there was one."""
    for _ in range(cut):
        if not writer.go_on():
            return False
    writer.kill()
    world.check()
    return True


@pytest.mark.parametrize("way", [(0, 0), (1, 1)], ids=["prompt-way", "late-way"])
@pytest.mark.parametrize("pause", [0, PROPAGATION, OVERLAP], ids=["at-once", "propagation", "overlap"])
@pytest.mark.parametrize("cut", range(3))
@pytest.mark.parametrize("turn", ["issue-next", "serve-with-next", "retire"])
def test_a_rotation_may_be_cut_before_any_write_of_any_turn(turn: str, cut: int, pause: int, way: Way) -> None:
    """Whoever comes next, at once or much later, goes on without a gap, and to the end."""
    for prompt in PROMPT:
        world = settled()
        world.are_prompt(prompt)
        first, second = world.writers
        if turn != "issue-next":
            first.run(rotate=True)
            world.advance(PROPAGATION)
            first.prove(*way)
        if turn == "retire":
            first.run()
            world.advance(OVERLAP)
            first.prove(*way)
        first.begin(rotate=turn == "issue-next")
        writes_up_to(world, first, cut)
        for _ in range(3):
            world.advance(pause)
            second.run()
            second.prove(*way)
            second.run()
        keep(world, 3 * OVERLAP, writer=1, way=way)
        assert world.phase is Phase.STABLE
        assert world.is_good
        assert world.recoveries == 0


@pytest.mark.parametrize("first_writes", list(combinations(range(6), 3)), ids=str)
def test_of_two_writers_in_any_order_one_is_refused(first_writes: tuple[int, ...]) -> None:
    """Each has three writes before it: the authority, the serving Secret, the registration."""
    world = settled()
    first, second = world.writers
    for writer in (first, second):
        writer.begin(rotate=True)
    for turn in range(6):
        (first if turn in first_writes else second).go_on()
    assert first.refused + second.refused == 1
    keep(world, 3 * OVERLAP, way=(0, 0))
    assert (world.phase, world.is_good) == (Phase.STABLE, True)


@pytest.mark.parametrize("way", [(0, 0), None], ids=["proofs", "no-proof-ever"])
def test_three_years_pass_and_nothing_expires_and_nobody_asked(way: Way | None) -> None:
    world = settled()
    for _ in range(3):
        keep(world, AUTHORITY_LIFE, way=way)
        assert world.is_good
    taken = world.writers[0].taken
    assert world.recoveries == 0
    assert [taken.count(action) for action in (Action.ISSUE_AUTHORITY, Action.ISSUE_NEXT, Action.RETIRE)] == [1, 4, 4]


@pytest.mark.parametrize("prompt", PROMPT, ids=str)
def test_a_rotation_takes_these_steps(prompt: set[int]) -> None:
    world = settled()
    world.are_prompt(prompt)
    writer = world.writers[0]
    writer.taken.clear()
    writer.run(rotate=True)
    keep(world, 2 * OVERLAP, way=(0, 0))
    assert writer.taken == [*ROTATION, Action.RETIRE, Action.WRITE_BUNDLE]


def test_a_next_that_was_registered_late_is_not_served_with_before_it_is_known() -> None:
    """The writer dies between issuing the next authority and registering it, and another comes after `propagation`."""
    world = settled()
    first, second = world.writers
    first.begin(rotate=True)
    writes_up_to(world, first, 1)
    world.advance(PROPAGATION)
    second.run()
    assert world.registered_since(next(iter(world.bundles[-1][1]))) <= world.clock
    world.advance(1)
    assert second.prove(0, 0)
    world.are_prompt({API_SERVERS})
    # The wait counts from when it was registered, not from when it was issued.
    second.run()
    assert Action.SERVE_WITH_NEXT not in second.taken
