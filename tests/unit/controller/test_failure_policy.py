"""The failurePolicy that follows proof, rule by rule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from reconciler.controller.failure_policy import (
    Circumstances,
    Clock,
    Decision,
    Knowledge,
    Policy,
    decide,
    next_proof_seconds,
    recall,
)
from reconciler.controller.proof import Verdict
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import Adaptive, FailurePolicy, Ramp

SETTINGS = Adaptive().model_copy(
    update={
        "proofs": 3,
        "soak_seconds": 30.0,
        "longest_soak_seconds": 1800.0,
        "loss_tolerance_seconds": 60.0,
        "floor_seconds": 10.0,
        "calm_seconds": 3600.0,
    }
)
ADAPTIVE = Policy(FailurePolicy.ADAPTIVE, Ramp.ON_PROOF, SETTINGS, 60.0)
FAIL = replace(ADAPTIVE, kind=FailurePolicy.FAIL)
IGNORE = replace(ADAPTIVE, kind=FailurePolicy.IGNORE)
NEVER = replace(FAIL, ramp=Ramp.NEVER)

WALL, MONOTONIC = 1_800_000_000.0, 5000.0
NOW = Clock(WALL, MONOTONIC)
NOTHING = Circumstances()
IMPOSSIBLE, PAUSED, REFUSED = Circumstances(impossible="i"), Circumstances(paused="p"), Circumstances(refused="r")

AT_IGNORE = Memory(State.IGNORE, WALL - 500, "before")
AT_FAIL = Memory(State.FAIL, WALL - 500, "before")
OPEN = Window(WALL - 500, None, "before")

DECIDED = {memory: (memory.state, int(memory.since)) for memory in (AT_IGNORE, AT_FAIL)}
NEW = Knowledge(MONOTONIC - 5)
LOST = Verdict.UNREACHABLE


def adaptive(**settings: Any) -> Policy:  # noqa: ANN401 - fields of Adaptive
    return replace(ADAPTIVE, adaptive=SETTINGS.model_copy(update=settings))


def knowing(*seen: tuple[Verdict, float], began: float = 1000.0, memory: Memory = AT_IGNORE) -> Knowledge:
    """Return what is known after these verdicts, so many seconds ago, all with `memory` standing."""
    knowledge = Knowledge(MONOTONIC - began, decided=DECIDED[memory])
    for verdict, ago in seen:
        knowledge = knowledge.saw(verdict, f"{verdict} {ago:g}", at=MONOTONIC - ago, policy=ADAPTIVE)
    return knowledge


def proofs(*ago: float, memory: Memory = AT_IGNORE) -> Knowledge:
    return knowing(*((Verdict.PROVED, one) for one in ago), memory=memory)


def decided(
    memory: Memory | None,
    knowledge: Knowledge,
    circumstances: Circumstances = NOTHING,
    policy: Policy = ADAPTIVE,
    clock: Clock = NOW,
) -> Decision:
    return decide(memory, knowledge, circumstances, policy, clock)


# The policy.


@pytest.mark.parametrize(
    ("policy", "flaps", "expected"),
    [
        (ADAPTIVE, 0, 30),
        (ADAPTIVE, 1, 60),
        (ADAPTIVE, 3, 240),
        (ADAPTIVE, 6, 1800),
        (ADAPTIVE, 999_999_999, 1800),
        (adaptive(soak_seconds=0.0), 0, 0),
        (adaptive(soak_seconds=0.0), 1, 2),
        (adaptive(soak_seconds=0.0), 4, 16),
        (adaptive(soak_seconds=0.0, longest_soak_seconds=0.0), 4, 0),
        (FAIL, 9, 0),
    ],
)
def test_the_soak_doubles_with_each_flap_up_to_the_longest(policy: Policy, flaps: int, expected: float) -> None:
    assert policy.soak_seconds(flaps) == expected


def test_fail_takes_one_proof_and_adaptive_as_many_as_it_is_told() -> None:
    assert (FAIL.proofs, ADAPTIVE.proofs, adaptive(proofs=7).proofs) == (1, 3, 7)
    assert (FAIL.is_adaptive, ADAPTIVE.is_adaptive, IGNORE.is_adaptive) == (False, True, False)


@pytest.mark.parametrize(("period", "tolerance", "expected"), [(60.0, 60.0, 120.0), (10.0, 60.0, 60.0)])
def test_proofs_in_a_row_lie_within_two_periods_or_the_tolerance(
    period: float, tolerance: float, expected: float
) -> None:
    policy = replace(adaptive(loss_tolerance_seconds=tolerance), period_seconds=period)
    assert policy.longest_gap_seconds == expected


# What is known.


@pytest.mark.parametrize(
    ("seen", "count", "stretch"),
    [
        ([], 0, 0),
        ([(Verdict.PROVED, 30)], 1, 0),
        ([(Verdict.PROVED, 130), (Verdict.PROVED, 10)], 2, 120),
        ([(Verdict.PROVED, 131), (Verdict.PROVED, 10)], 1, 0),
        ([(Verdict.PROVED, 40), (Verdict.INCONCLUSIVE, 20), (Verdict.PROVED, 10)], 2, 30),
        ([(Verdict.PROVED, 40), (Verdict.UNREACHABLE, 20), (Verdict.PROVED, 10)], 1, 0),
        ([(Verdict.PROVED, 40), (Verdict.NOT_MUTATED, 20)], 0, 0),
    ],
    ids=["nothing", "one", "two", "too-far-apart", "inconclusive-between", "loss-between", "loss-last"],
)
def test_proofs_in_a_row(seen: list[tuple[Verdict, float]], count: int, stretch: float) -> None:
    knowledge = knowing(*seen)
    assert (knowledge.proofs, knowledge.stretch_seconds, knowledge.is_proved) == (count, stretch, count > 0)
    assert knowledge.was_ever_proved is any(verdict is Verdict.PROVED for verdict, _ in seen)


def test_a_loss_lasts_from_its_first_sign_to_the_next_proof() -> None:
    lost = knowing((LOST, 50), (Verdict.INCONCLUSIVE, 40), (Verdict.NOT_MUTATED, 30))
    assert (lost.lost_since, lost.words) == (MONOTONIC - 50, "not-mutated 30")
    found = lost.saw(Verdict.PROVED, "", at=MONOTONIC - 20, policy=ADAPTIVE)
    assert (found.lost_since, found.words, found.is_proved) == (None, "", True)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_proof_that_began_before_the_start_or_the_sleep_says_nothing(verdict: Verdict) -> None:
    assert NEW.saw(verdict, "", at=NEW.began - 0.1, policy=ADAPTIVE) is NEW
    assert NEW.saw(Verdict.PROVED, "", at=NEW.began, policy=ADAPTIVE).is_proved


def test_proofs_from_before_it_was_lowered_count_no_more() -> None:
    knowledge = proofs(60, 30, 1, memory=AT_FAIL)
    assert knowledge.looked(AT_FAIL, at=MONOTONIC).proofs == 3
    lowered = knowledge.looked(replace(AT_FAIL, state=State.IGNORE, since=WALL), at=MONOTONIC)
    assert (lowered.proofs, lowered.was_ever_proved) == (0, True)
    under_way = lowered.saw(Verdict.PROVED, "", at=MONOTONIC - 0.1, policy=ADAPTIVE)
    assert (under_way.proofs, under_way.lost_since) == (0, None)
    assert lowered.saw(Verdict.PROVED, "", at=MONOTONIC, policy=ADAPTIVE).proofs == 1


def test_a_proof_that_was_under_way_when_it_was_lowered_still_ends_a_loss() -> None:
    lowered = knowing((LOST, 9)).looked(replace(AT_IGNORE, since=WALL), at=MONOTONIC)
    found = lowered.saw(Verdict.PROVED, "", at=MONOTONIC - 1, policy=ADAPTIVE)
    assert (found.lost_since, found.was_ever_proved, found.is_proved) == (None, True, False)


@pytest.mark.parametrize(
    ("memory", "count"),
    [
        (AT_IGNORE, 1),
        (replace(AT_IGNORE, since=AT_IGNORE.since + 0.9), 1),
        (replace(AT_IGNORE, since=AT_IGNORE.since + 1), 0),
        (AT_FAIL, 1),
    ],
    ids=["the-same", "the-same-second", "lowered-again-meanwhile", "raised"],
)
def test_what_is_a_lowering_since_the_last_look(memory: Memory, count: int) -> None:
    assert proofs(1).looked(memory, at=MONOTONIC).proofs == count


def test_whoever_looks_for_the_first_time_does_not_know_what_came_before_the_proof() -> None:
    assert replace(proofs(1), decided=None).looked(AT_IGNORE, at=MONOTONIC).proofs == 0


# From where to go on.


def recalled(
    remembered: Memory | None, standing: State | None, knowledge: Knowledge = NEW, by: str = ""
) -> Memory | None:
    return recall(remembered, standing, knowledge, now=WALL, looked_at=WALL - 20, by=by)


@pytest.mark.parametrize("standing", [State.IGNORE, State.FAIL])
def test_what_stands_without_a_memory_is_taken_as_found(standing: State) -> None:
    assert recalled(None, standing) == Memory(standing, WALL, f"found at {standing.value}")
    assert recalled(None, None) is None


@pytest.mark.parametrize("standing", [State.IGNORE, State.FAIL, None])
@pytest.mark.parametrize("knowledge", [NEW, proofs(1)], ids=["new", "proved"])
def test_at_ignore_nothing_that_others_do_changes_what_was_decided(
    standing: State | None, knowledge: Knowledge
) -> None:
    """Neither does raising it: the caller writes Ignore again."""
    for memory in (AT_IGNORE, replace(AT_IGNORE, windows=(OPEN,))):
        assert recalled(memory, standing, knowledge) == memory


@pytest.mark.parametrize(
    ("standing", "by", "reason"),
    [
        (State.IGNORE, "aks", "set to Ignore by aks"),
        (State.IGNORE, "", "set to Ignore by somebody else"),
        (None, "kubectl", "removed by kubectl"),
        (None, "", "removed by somebody else"),
    ],
)
@pytest.mark.parametrize(
    ("knowledge", "state"),
    [(NEW, State.IGNORE), (knowing((Verdict.PROVED, 9), (LOST, 1)), State.IGNORE), (proofs(1), State.FAIL)],
    ids=["new", "lost", "proved"],
)
def test_what_others_lowered_is_put_right_by_whoever_holds_a_proof_and_a_window_either_way(
    standing: State | None, by: str, reason: str, knowledge: Knowledge, state: State
) -> None:
    memory = recalled(AT_FAIL, standing, knowledge, by)
    assert memory is not None
    assert memory.windows == (Window(WALL - 20, None, reason),)
    expected = (AT_FAIL.since, AT_FAIL.reason) if state is State.FAIL else (WALL, reason)
    assert (memory.state, (memory.since, memory.reason), memory.flaps) == (state, expected, 0)


def test_a_window_never_begins_ahead() -> None:
    memory = recall(AT_FAIL, None, NEW, now=WALL, looked_at=WALL + 9)
    assert memory is not None
    assert memory.windows[0].start == WALL


def test_a_window_ends_when_fail_is_seen_to_stand() -> None:
    """Between the decision and its write lies as much time as the API server, or a stopped process, takes."""
    raised = replace(AT_FAIL, windows=(OPEN,))
    assert recalled(raised, State.FAIL) == replace(AT_FAIL, windows=(replace(OPEN, end=WALL + 2),))
    assert recalled(AT_FAIL, State.FAIL) == AT_FAIL


# Down, because Fail is not wanted.


@pytest.mark.parametrize("policy", [ADAPTIVE, FAIL, NEVER], ids=["adaptive", "fail", "never"])
@pytest.mark.parametrize(
    ("circumstances", "reason"),
    [(PAUSED, "p"), (REFUSED, "r"), (replace(PAUSED, refused="r", impossible="i"), "p")],
    ids=["paused", "refused", "all"],
)
def test_a_pause_and_a_refusal_lower_at_once_and_are_no_flap(
    policy: Policy, circumstances: Circumstances, reason: str
) -> None:
    for knowledge in (NEW, proofs(60, 30, 1)):
        memory = decided(replace(AT_FAIL, flaps=2), knowledge, circumstances, policy).memory
        assert memory == Memory(State.IGNORE, WALL, reason, 2, (Window(WALL, None, reason),))
        assert decided(AT_IGNORE, knowledge, circumstances, policy).memory == AT_IGNORE
        assert decided(None, knowledge, circumstances, policy).memory == Memory(State.IGNORE, WALL, reason)


def test_failure_policy_ignore_is_never_at_fail() -> None:
    for circumstances in (NOTHING, IMPOSSIBLE, REFUSED):
        memory = decided(AT_FAIL, proofs(60, 30, 1), circumstances, IGNORE).memory
        assert (memory.state, memory.reason, memory.flaps) == (State.IGNORE, "failurePolicy: Ignore", 0)
        assert decided(AT_IGNORE, proofs(60, 30, 1), circumstances, IGNORE).memory == AT_IGNORE
        assert decided(None, proofs(60, 30, 1), circumstances, IGNORE).memory.state is State.IGNORE
    assert decided(AT_FAIL, NEW, PAUSED, IGNORE).memory.reason == "p"


def test_ramp_never_is_at_fail_at_once_and_for_ever() -> None:
    first = decided(None, NEW, policy=NEVER).memory
    assert (first.state, first.since, first.windows) == (State.FAIL, WALL, ())
    lost = knowing((LOST, 900), (LOST, 1), memory=AT_FAIL)
    for knowledge in (NEW, lost):
        for circumstances in (NOTHING, IMPOSSIBLE):
            assert decided(AT_FAIL, knowledge, circumstances, NEVER) == Decision(
                AT_FAIL, knowledge.looked(AT_FAIL, at=MONOTONIC)
            )
            assert decided(AT_IGNORE, knowledge, circumstances, NEVER).memory.state is State.FAIL


# Down, because the proof is lost.


@pytest.mark.parametrize("policy", [ADAPTIVE, FAIL], ids=["adaptive", "fail"])
@pytest.mark.parametrize(
    ("knowledge", "circumstances", "reason", "due"),
    [
        (NEW, NOTHING, "", NEW.began + 60),
        (Knowledge(MONOTONIC - 59.9), NOTHING, "", MONOTONIC + 0.1),
        (Knowledge(MONOTONIC - 60), NOTHING, "no verdict for 60 s after the start", math.inf),
        (knowing((Verdict.INCONCLUSIVE, 1), began=60.0), NOTHING, "no verdict for 60 s after the start", math.inf),
        (knowing((LOST, 0)), NOTHING, "not proved at the start: unreachable 0", math.inf),
        (NEW, IMPOSSIBLE, "no proof can come: i", math.inf),
    ],
    ids=["not-yet", "nearly", "no-verdict", "inconclusive", "lost", "impossible"],
)
def test_whoever_has_seen_no_proof_lowers_at_the_first_sign(
    policy: Policy, knowledge: Knowledge, circumstances: Circumstances, reason: str, due: float
) -> None:
    decision = decided(AT_FAIL, knowledge, circumstances, policy)
    assert decision.due == pytest.approx(due)
    if not reason:
        assert decision.memory == AT_FAIL
    else:
        assert decision.memory == Memory(State.IGNORE, WALL, reason, 1, (Window(WALL, None, reason),))


@pytest.mark.parametrize(
    ("ago", "reason", "due"),
    [
        ([], "", math.inf),
        ([(LOST, 59.9)], "", MONOTONIC + 0.1),
        ([(LOST, 60)], "no proof for 60 s: unreachable 60", math.inf),
        ([(LOST, 70), (Verdict.INCONCLUSIVE, 30)], "no proof for 60 s: unreachable 70", math.inf),
        ([(LOST, 70), (Verdict.NOT_MUTATED, 3)], "no proof for 60 s: not-mutated 3", math.inf),
        ([(LOST, 70), (Verdict.PROVED, 30), (LOST, 20)], "", MONOTONIC + 40),
    ],
    ids=["proved", "nearly", "lost", "inconclusive-after", "lost-twice", "proved-between"],
)
def test_a_loss_lowers_after_the_tolerance(ago: list[tuple[Verdict, float]], reason: str, due: float) -> None:
    decision = decided(AT_FAIL, knowing((Verdict.PROVED, 700), *ago, memory=AT_FAIL))
    assert decision.due == pytest.approx(due)
    assert decision.memory.state is (State.IGNORE if reason else State.FAIL)
    assert decision.memory.reason == (reason or "before")


@pytest.mark.parametrize(
    ("seen", "is_lowered", "due"),
    [
        ([(Verdict.PROVED, 132.9), (Verdict.INCONCLUSIVE, 70)], False, MONOTONIC + 0.1),
        ([(Verdict.PROVED, 133), (Verdict.INCONCLUSIVE, 70)], True, math.inf),
        ([(Verdict.PROVED, 900), (Verdict.INCONCLUSIVE, 600), (Verdict.INCONCLUSIVE, 1)], True, math.inf),
        ([(Verdict.PROVED, 900), (Verdict.INCONCLUSIVE, 600), (Verdict.PROVED, 1)], False, math.inf),
        ([(Verdict.PROVED, 900)], False, math.inf),
        ([(Verdict.PROVED, 100), (Verdict.INCONCLUSIVE, 90), (LOST, 50)], False, MONOTONIC + 10),
        ([(Verdict.PROVED, 100), (LOST, 70), (Verdict.INCONCLUSIVE, 1)], True, math.inf),
        ([(Verdict.PROVED, 130), (LOST, 20), (Verdict.INCONCLUSIVE, 1)], False, MONOTONIC + 3),
    ],
    ids=["nearly", "at-the-bound", "again", "success-since", "no-probe-since", "loss-is-sooner", "loss", "both"],
)
def test_at_fail_no_successful_probe_within_the_bound_lowers(
    seen: list[tuple[Verdict, float]], *, is_lowered: bool, due: float
) -> None:
    """The bound: 2 periods of 60 s, and 13 s for one probe that takes all its time."""
    knowledge = knowing(*seen, memory=AT_FAIL)
    decision = decided(AT_FAIL, knowledge)
    assert decision.memory.state is (State.IGNORE if is_lowered else State.FAIL)
    assert decision.due == pytest.approx(due)
    if is_lowered and knowledge.lost_since is None:
        words = f"no successful probe for 133 s, the last was inconclusive: {knowledge.doubt}"
        assert (decision.memory.reason, decision.memory.is_open) == (words, True)
    assert decided(AT_FAIL, knowledge, policy=FAIL).memory == AT_FAIL, (
        "failurePolicy Fail is never lowered while running"
    )


def test_what_can_no_longer_come_lowers_at_once_whatever_was_proved() -> None:
    decision = decided(AT_FAIL, proofs(60, 30, 1, memory=AT_FAIL), IMPOSSIBLE)
    assert (decision.memory.reason, decision.memory.flaps) == ("no proof can come: i", 1)


def test_failure_policy_fail_is_not_lowered_once_it_was_proved() -> None:
    lost = knowing((Verdict.PROVED, 900), (LOST, 800), memory=AT_FAIL)
    for knowledge in (lost, proofs(1, memory=AT_FAIL)):
        for circumstances in (NOTHING, IMPOSSIBLE):
            decision = decided(AT_FAIL, knowledge, circumstances, FAIL)
            assert (decision.memory, decision.due) == (AT_FAIL, math.inf)


@pytest.mark.parametrize(
    ("stood", "flaps", "expected"), [(3599, 0, 1), (3599, 4, 5), (3600, 4, 1), (-50, 4, 5)], ids=str
)
def test_flaps_add_up_until_fail_has_stood_calm(stood: float, flaps: int, expected: int) -> None:
    memory = replace(AT_FAIL, since=WALL - stood, flaps=flaps)
    assert decided(memory, NEW, IMPOSSIBLE).memory.flaps == expected


def test_lowering_opens_one_window() -> None:
    earlier = (Window(WALL - 900, WALL - 800, "earlier"),)
    lowered = decided(replace(AT_FAIL, windows=earlier), NEW, IMPOSSIBLE).memory
    assert lowered.windows == (*earlier, Window(WALL, None, "no proof can come: i"))
    # One that is open already goes on.
    assert decided(replace(AT_FAIL, windows=(OPEN,)), NEW, IMPOSSIBLE).memory.windows == (OPEN,)


# Up.


def test_what_was_never_registered_begins_at_ignore() -> None:
    for policy in (ADAPTIVE, FAIL):
        for knowledge in (NEW, proofs(60, 30, 1)):
            memory = decided(None, knowledge, policy=policy).memory
            assert memory == Memory(State.IGNORE, WALL, "registered, not proved yet")


@pytest.mark.parametrize(
    ("knowledge", "flaps", "is_raised"),
    [
        (proofs(31, 16, 1), 0, True),
        (proofs(31, 1), 0, False),
        (proofs(30.9, 16, 1), 0, False),
        (proofs(60.9, 31, 16, 1), 1, False),
        (proofs(61, 31, 16, 1), 1, True),
        (proofs(150, 135, 120), 0, True),
        (proofs(151, 136, 120.1), 0, False),
        (knowing((Verdict.PROVED, 31), (Verdict.PROVED, 16), (Verdict.PROVED, 1), (LOST, 0)), 0, False),
        (knowing((Verdict.PROVED, 31), (Verdict.PROVED, 16), (Verdict.PROVED, 1), (Verdict.INCONCLUSIVE, 0)), 0, True),
        (NEW, 0, False),
    ],
    ids=[
        "soaked",
        "too-few",
        "too-short",
        "flap",
        "flap-soaked",
        "just-recent",
        "too-old",
        "lost",
        "inconclusive",
        "new",
    ],
)
def test_adaptive_is_raised_by_enough_proofs_over_the_soak(
    knowledge: Knowledge, flaps: int, *, is_raised: bool
) -> None:
    memory = replace(AT_IGNORE, flaps=flaps)
    after = decided(memory, knowledge).memory
    assert after.state is (State.FAIL if is_raised else State.IGNORE)
    assert (after == memory) is not is_raised


def test_what_a_raise_remembers() -> None:
    """Its window stays open until Fail is seen to stand."""
    after = decided(replace(AT_IGNORE, flaps=1, windows=(OPEN,)), proofs(61, 31, 1)).memory
    assert after == Memory(State.FAIL, WALL, "3 proofs over 60 s", 1, (OPEN,))
    assert decided(AT_IGNORE, proofs(1), policy=FAIL).memory == Memory(State.FAIL, WALL, "one proof")


def test_proofs_in_a_row_raise_only_while_a_proof_can_come() -> None:
    for policy in (ADAPTIVE, FAIL):
        assert decided(AT_IGNORE, proofs(31, 16, 1), IMPOSSIBLE, policy).memory == AT_IGNORE
    assert decided(AT_IGNORE, knowing((Verdict.PROVED, 2), (LOST, 1)), policy=FAIL).memory == AT_IGNORE
    assert decided(AT_IGNORE, NEW, policy=FAIL).memory == AT_IGNORE
    assert decided(AT_IGNORE, proofs(121), policy=FAIL).memory == AT_IGNORE


@pytest.mark.parametrize(
    ("held", "policy", "due"),
    [
        (9.5, ADAPTIVE, MONOTONIC + 0.5),
        (0, ADAPTIVE, MONOTONIC + 10),
        (10, ADAPTIVE, None),
        (-1, ADAPTIVE, None),
        (0, FAIL, None),
    ],
    ids=["held", "just-lowered", "over", "ahead", "fail"],
)
def test_a_floor_lies_between_lowering_and_raising(held: float, policy: Policy, due: float | None) -> None:
    """Not for the policy Fail, and not where the clock that told the time was wrong."""
    memory = replace(AT_IGNORE, since=WALL - held)
    knowledge = replace(proofs(31, 16, 1), decided=(memory.state, int(memory.since)))
    decision = decided(memory, knowledge, policy=policy)
    assert decision.memory.state is (State.FAIL if due is None else State.IGNORE)
    assert decision.due == (math.inf if due is None else due)


def test_proofs_from_before_the_lowering_do_not_raise() -> None:
    """No endpoint was ready for a moment: the proofs of the hours before do not make it a moment."""
    lowered = decided(AT_FAIL, proofs(90, 60, 30, 1, memory=AT_FAIL), IMPOSSIBLE)
    later = Clock(WALL + 100, MONOTONIC + 100)
    again = decide(lowered.memory, lowered.knowledge, NOTHING, ADAPTIVE, later)
    assert again.memory == lowered.memory
    # Nor do they where somebody else lowered it.
    by_others = decided(replace(AT_IGNORE, since=WALL - 50), proofs(90, 60, 30, 1, memory=AT_FAIL))
    assert (by_others.memory.state, by_others.knowledge.proofs) == (State.IGNORE, 0)


def test_a_decision_is_known_at_the_next_look() -> None:
    for memory, circumstances in ((AT_FAIL, IMPOSSIBLE), (AT_IGNORE, NOTHING), (AT_FAIL, NOTHING), (None, NOTHING)):
        decision = decided(memory, proofs(31, 16, 1), circumstances)
        assert decision.knowledge.decided == (decision.memory.state, int(decision.memory.since))


def test_a_decision_stands_until_something_changes() -> None:
    knowledge = proofs(31, 16, 1)
    for memory in (AT_IGNORE, AT_FAIL):
        for circumstances in (NOTHING, IMPOSSIBLE, PAUSED, REFUSED):
            for policy in (ADAPTIVE, FAIL, IGNORE, NEVER):
                once = decide(memory, knowledge, circumstances, policy, NOW)
                assert decide(once.memory, once.knowledge, circumstances, policy, NOW) == once


# When to prove again.


@pytest.mark.parametrize(
    ("memory", "knowledge", "policy", "expected"),
    [
        (None, proofs(1), ADAPTIVE, 60),
        (AT_FAIL, proofs(1), ADAPTIVE, 60),
        (AT_IGNORE, proofs(1), IGNORE, 60),
        (AT_IGNORE, NEW, ADAPTIVE, 15),
        (AT_IGNORE, proofs(1), ADAPTIVE, 15),
        (AT_IGNORE, proofs(21, 1), ADAPTIVE, 10),
        (AT_IGNORE, proofs(30.9, 16, 1), ADAPTIVE, 0.5),
        (AT_IGNORE, proofs(41, 1), ADAPTIVE, 1),
        (AT_IGNORE, proofs(31, 16, 1), ADAPTIVE, 60),
        (replace(AT_IGNORE, flaps=1), proofs(1), ADAPTIVE, 30),
        (replace(AT_IGNORE, flaps=9), proofs(1), ADAPTIVE, 60),
        (AT_IGNORE, proofs(1), adaptive(proofs=1, soak_seconds=20.0), 20),
        (AT_IGNORE, proofs(1), adaptive(soak_seconds=0.0), 0.5),
        (AT_IGNORE, proofs(1), FAIL, 60),
    ],
    ids=[
        "unknown",
        "fail",
        "ignore",
        "none-yet",
        "first",
        "second",
        "nearly",
        "one-missing",
        "held-up",
        "flap",
        "flaps",
        "one-proof",
        "no-soak",
        "policy-fail",
    ],
)
def test_proofs_come_sooner_while_fail_depends_on_them(
    memory: Memory | None, knowledge: Knowledge, policy: Policy, expected: float
) -> None:
    assert next_proof_seconds(memory, knowledge, policy) == pytest.approx(expected)


@pytest.mark.parametrize("flaps", range(8))
@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("soak", [0.0, 5.0, 30.0])
def test_proofs_at_those_times_raise_within_the_soak_and_a_period(flaps: int, count: int, soak: float) -> None:
    policy = adaptive(proofs=count, soak_seconds=soak)
    memory, knowledge, now = replace(AT_IGNORE, flaps=flaps), proofs(), 0.0
    asked = 0
    while True:
        knowledge = knowledge.saw(Verdict.PROVED, "", at=MONOTONIC + now, policy=policy)
        asked += 1
        if decide(memory, knowledge, NOTHING, policy, Clock(WALL + now, MONOTONIC + now)).memory.state is State.FAIL:
            break
        now += next_proof_seconds(memory, knowledge, policy) + 0.01
    assert policy.soak_seconds(flaps) <= now <= policy.soak_seconds(flaps) + count * 0.51
    assert asked <= max(count, policy.soak_seconds(flaps) / policy.period_seconds) + 2
