"""From no sequence of proofs, losses, clock jumps, restarts and two competing reconcilers does it stand as it must not.

The world and its promises are in policyworld.py: never at Fail longer than the tolerance and a period without a path,
nor at Ignore longer than the soak and a period with one; never Fail without proof; every moment without is a window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from reconciler.registration.memory import State
from reconciler.settings import FailurePolicy
from tests.unit.controller.policyworld import (
    LONGEST_PROOF,
    LONGEST_WRITE,
    POLICIES,
    SHORTEST_PROOF,
    BrokenPromiseError,
    Reconciler,
    World,
    policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WHO = st.integers(0, 1)
SOON = st.sampled_from([0.3, 1.0, 4.0, 5.0, 11.0])
PAUSES = st.sampled_from([0.0, 1.0, 5.0, 12.0, 31.0, 60.0, 61.0, 130.0])
WHILES = st.sampled_from([300.0, 700.0, 2000.0, 3700.0])
JUMPS = st.sampled_from([-100_000.0, -3600.0, -61.0, -19.0, -2.0, 2.0, 19.0, 61.0, 3600.0, 100_000.0])
STANDINGS = st.sampled_from([State.IGNORE, State.FAIL, None])


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(POLICIES["default"])

    @initialize(name=st.sampled_from([*POLICIES, "default"]), both=st.booleans(), old=st.booleans())
    def somebody_starts(self, name: str, *, both: bool, old: bool) -> None:
        self.world = World(POLICIES[name])
        self.world.reconcilers[0].start()
        if old:
            self.world.advance(400.0)
        if both:
            self.world.reconcilers[1].start()

    # Time.

    @rule(seconds=PAUSES)
    def a_while_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=WHILES)
    def a_long_while_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    # The path.

    @rule(pause=PAUSES, works=st.booleans())
    def the_path_changes(self, pause: float, *, works: bool) -> None:
        self.world.advance(pause)
        self.world.is_working = works and not self.world.is_impossible
        self.world.changed()

    @rule(seconds=SOON, times=st.integers(1, 6))
    def the_path_flickers(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.world.is_working = not self.world.is_working and not self.world.is_impossible
            self.world.changed()
            self.world.advance(seconds)

    @rule(pause=PAUSES, impossible=st.booleans(), works=st.booleans())
    def no_proof_can_come(self, pause: float, *, impossible: bool, works: bool) -> None:
        self.world.advance(pause)
        self.world.is_impossible = impossible
        self.world.is_working = works and not impossible
        self.world.changed()

    @rule(pause=PAUSES, conclusive=st.booleans(), seconds=st.sampled_from([SHORTEST_PROOF, LONGEST_PROOF]))
    def proofs_are_others(self, pause: float, seconds: float, *, conclusive: bool) -> None:
        self.world.advance(pause)
        self.world.is_conclusive, self.world.proof_seconds = conclusive, seconds
        self.world.changed()

    @rule(pause=PAUSES, paused=st.booleans(), removed=st.booleans(), refused=st.booleans())
    def it_is_paused_or_refused(self, pause: float, *, paused: bool, removed: bool, refused: bool) -> None:
        self.world.advance(pause)
        self.world.is_paused, self.world.is_removed, self.world.is_refused = paused, removed, refused
        self.world.changed()

    # Reconcilers.

    @rule(pause=PAUSES, who=WHO)
    def one_starts(self, pause: float, who: int) -> None:
        self.world.advance(pause)
        self.world.reconcilers[who].start()

    @rule(who=WHO)
    def one_is_killed(self, who: int) -> None:
        self.world.reconcilers[who].kill()

    @rule(who=WHO, seconds=SOON, times=st.integers(2, 12))
    def one_crashes_again_and_again(self, who: int, seconds: float, times: int) -> None:
        for _ in range(times):
            self.world.reconcilers[who].start()
            self.world.advance(seconds)

    @precondition(lambda self: any(one.is_running for one in self.world.reconcilers))
    @rule(who=WHO, before_a_write=st.booleans())
    def one_is_stopped(self, who: int, *, before_a_write: bool) -> None:
        if before_a_write:
            self.world.reconcilers[who].stops_before_write = True
        else:
            self.world.reconcilers[who].stop()

    @precondition(lambda self: any(one.is_stopped for one in self.world.reconcilers))
    @rule(pause=PAUSES)
    def the_stopped_go_on(self, pause: float) -> None:
        self.world.advance(pause)
        for one in self.world.reconcilers:
            one.go_on()
        self.world.check()

    @rule(who=WHO, seconds=st.sampled_from([0.0, 0.5, LONGEST_WRITE]), dies=st.booleans())
    def writes_are_others(self, who: int, seconds: float, *, dies: bool) -> None:
        self.world.reconcilers[who].write_seconds = seconds
        self.world.reconcilers[who].dies_before_lease = dies

    @rule(who=WHO, seconds=st.sampled_from([10.0, 90.0, 4000.0]))
    def a_machine_sleeps(self, who: int, seconds: float) -> None:
        if not self.world.reconcilers[who].is_asleep:
            self.world.reconcilers[who].sleep(seconds)

    @rule(who=st.sampled_from([(0,), (1,), (0, 1)]), seconds=JUMPS)
    def a_clock_jumps(self, who: tuple[int, ...], seconds: float) -> None:
        for one in who:
            self.world.reconcilers[one].jump(seconds)

    # Others.

    @rule(pause=PAUSES, standing=STANDINGS)
    def somebody_meddles(self, pause: float, standing: State | None) -> None:
        self.world.advance(pause)
        self.world.meddle(standing)

    @rule(times=st.integers(1, 14), seconds=PAUSES, standing=STANDINGS)
    def somebody_fights(self, times: int, seconds: float, standing: State | None) -> None:
        for _ in range(times):
            self.world.meddle(standing)
            self.world.advance(seconds)

    @rule()
    def somebody_strips_what_it_remembers(self) -> None:
        self.world.meddle(self.world.standing, kept={})

    @rule()
    def somebody_keeps_a_copy(self) -> None:
        self.world.back_up()

    @rule()
    def somebody_puts_the_copy_back(self) -> None:
        self.world.restore()


def test_it_stands_as_it_must_whatever_happens() -> None:
    run_state_machine_as_test(Lives)


# Every sequence of a few things out of these, a tick apart.
TICK = 7.0
DEPTH = 3


def set_impossible(world: World) -> None:
    world.is_impossible = not world.is_impossible
    world.is_working = not world.is_impossible
    world.changed()


def set_working(world: World) -> None:
    world.is_working = not world.is_working and not world.is_impossible
    world.changed()


def set_conclusive(world: World) -> None:
    world.is_conclusive = not world.is_conclusive
    world.changed()


def set_paused(world: World) -> None:
    world.is_paused = not world.is_paused
    world.changed()


def start_or_kill(one: Reconciler) -> None:
    if one.is_alive:
        one.kill()
    else:
        one.start()


def stop_or_go_on(one: Reconciler) -> None:
    if one.is_stopped:
        one.go_on()
    else:
        one.stop()


def stop_before_write(one: Reconciler) -> None:
    one.stops_before_write = True


ACTIONS: dict[str, Callable[[World], None]] = {
    "time-passes": lambda world: world.advance(5 * TICK),
    "working": set_working,
    "impossible": set_impossible,
    "conclusive": set_conclusive,
    "paused": set_paused,
    "first-starts-or-dies": lambda world: start_or_kill(world.reconcilers[0]),
    "second-starts-or-dies": lambda world: start_or_kill(world.reconcilers[1]),
    "first-stops-or-goes-on": lambda world: stop_or_go_on(world.reconcilers[0]),
    "first-stops-before-it-writes": lambda world: stop_before_write(world.reconcilers[0]),
    "second-stops-before-it-writes": lambda world: stop_before_write(world.reconcilers[1]),
    "second-sleeps": lambda world: world.reconcilers[1].sleep(5 * TICK),
    "first-clock-jumps": lambda world: world.reconcilers[0].jump(-15.0),
    "others-lower": lambda world: world.meddle(State.IGNORE),
    "others-raise": lambda world: world.meddle(State.FAIL),
    "others-delete": lambda world: world.meddle(None),
    "others-strip": lambda world: world.meddle(world.standing, kept={}),
}


def stand_at_fail(world: World) -> None:
    world.advance(100.0)
    assert world.standing is State.FAIL


def stand_at_ignore_after_fail(world: World) -> None:
    stand_at_fail(world)
    set_working(world)
    world.advance(60.0)
    assert world.standing is State.IGNORE


def write_slowly(world: World) -> None:
    for one in world.reconcilers:
        one.write_seconds = 4.0
    stand_at_fail(world)


def everything(world: World, depth: int, before: tuple[str, ...] = ()) -> int:
    """Let everything happen from here, in any order; returns how many sequences there were."""
    if depth == 0:
        world.advance(3 * TICK)
        return 1
    sequences = 0
    for name, act in ACTIONS.items():
        other = world.fork()
        try:
            act(other)
            other.advance(TICK)
        except BrokenPromiseError as broken:
            raise AssertionError(f"{broken}: {', '.join((*before, name))}") from broken
        sequences += everything(other, depth - 1, (*before, name))
    return sequences


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        (FailurePolicy.ADAPTIVE, stand_at_fail),
        (FailurePolicy.ADAPTIVE, stand_at_ignore_after_fail),
        (FailurePolicy.ADAPTIVE, write_slowly),
        (FailurePolicy.FAIL, stand_at_fail),
        (FailurePolicy.FAIL, set_working),
    ],
    ids=["adaptive", "adaptive-after-a-loss", "adaptive-slow", "fail", "fail-never-proved"],
)
def test_it_stands_as_it_must_after_every_short_sequence(kind: FailurePolicy, before: Callable[[World], None]) -> None:
    world = World(policy(kind, period=10.0, proofs=2, soak=10.0, longest_soak=40.0, loss_tolerance=20.0, floor=16.0))
    for one in world.reconcilers:
        one.start()
    before(world)
    assert everything(world, DEPTH) == len(ACTIONS) ** DEPTH
