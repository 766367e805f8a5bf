"""What one process knows of the failurePolicy: what it has seen, what else counts, and since when it looks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from reconciler.certificates.authority import issue_authority
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.proof import Proof, Verdict
from reconciler.registration import memory
from reconciler.registration.desired import render
from reconciler.registration.identity import FIELD_MANAGER
from reconciler.registration.memory import Memory, State
from reconciler.registration.pausing import Mode, Pause
from reconciler.settings import Adaptive, FailurePolicy, Ramp, ReconcilerConfiguration, Registration

TOLERANCE_SECONDS = 60.0
PERIOD_SECONDS = 60.0
# A dead watch is noticed no sooner.
UNSEEN_SECONDS = 90.0


class Clocks:
    """Both clocks; a sleep moves one of them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.5
        self.ticks = 5000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.ticks

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.ticks += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def settings(
    policy: FailurePolicy = FailurePolicy.ADAPTIVE,
    ramp: Ramp = Ramp.ON_PROOF,
    **adaptive: Any,  # noqa: ANN401 - fields of Adaptive
) -> ReconcilerConfiguration:
    registration = Registration(failure_policy=policy, ramp=ramp)
    quick = {"proofs": 1, "soak_seconds": 0.0, "floor_seconds": 0.0, **adaptive}
    return ReconcilerConfiguration(registration=registration, adaptive=Adaptive().model_copy(update=quick))


def enforcement(clocks: Clocks, *arguments: Any) -> Enforcement:  # noqa: ANN401 - of settings
    return Enforcement(settings(*arguments), wall=clocks.wall, monotonic=clocks.monotonic)


def proof(verdict: Verdict = Verdict.PROVED, words: str = "words", *, seconds: float = 0.5) -> Proof:
    return Proof(verdict, words, seconds=seconds)


def standing(
    state: State = State.FAIL,
    *,
    remembered: Memory | None = None,
    ca: bytes = b"",
    by: str = "",
    forger: str = FIELD_MANAGER,
) -> dict[str, Any]:
    """Return an object of ours as the API server shows it; `by` set failurePolicy, `forger` what it remembers."""
    kept = {} if remembered is None else memory.annotations(remembered)
    found = dict(render(Registration(), ca_bundle=ca or None, state=state, annotations=kept))
    writers: dict[str, dict[str, Any]] = {FIELD_MANAGER: {"f:webhooks": {}}}
    writers.setdefault(forger, {})["f:metadata"] = {"f:annotations": {f"f:{key}": {} for key in kept}}
    if by:
        writers.setdefault(by, {})["f:webhooks"] = {"k:{}": {"f:failurePolicy": {}}}
    fields = [
        {"manager": manager, "operation": "Apply" if manager == FIELD_MANAGER else "Update", "fieldsV1": owned}
        for manager, owned in writers.items()
    ]
    found["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": fields}
    return found


def decided(found: Enforcement, observed: dict[str, Any] | None, **more: Any) -> Memory:  # noqa: ANN401 - of decide
    return found.decide(observed, **{"on_lease": None, "last_renewal": None, **more}).memory


def raised(clocks: Clocks) -> tuple[Enforcement, Memory]:
    """Return one that has proved it and stands at Fail."""
    found = enforcement(clocks)
    found.wrote(decided(found, None))
    clocks.pass_by(1)
    found.saw(proof())
    memory_of_it = decided(found, standing(State.IGNORE, remembered=found.memory))
    assert memory_of_it.state is State.FAIL
    found.wrote(memory_of_it)
    return found, memory_of_it


# Before anything is written.


@pytest.mark.parametrize(
    ("arguments", "observed", "expected"),
    [
        ((), standing(State.FAIL), True),
        ((FailurePolicy.FAIL,), standing(State.FAIL), True),
        ((FailurePolicy.FAIL, Ramp.NEVER), standing(State.FAIL), False),
        ((FailurePolicy.IGNORE,), standing(State.FAIL), False),
        ((), standing(State.IGNORE), False),
        ((), None, False),
    ],
    ids=["adaptive", "fail", "never", "ignore", "at-ignore", "absent"],
)
def test_a_look_is_due_where_a_proof_may_lower_it(
    clocks: Clocks, arguments: tuple[Any, ...], observed: dict[str, Any] | None, *, expected: bool
) -> None:
    assert enforcement(clocks, *arguments).is_due_for_a_look(observed) is expected


def test_one_look_is_enough_until_everything_begins_anew(clocks: Clocks) -> None:
    found = enforcement(clocks)
    found.is_asked = True
    assert not found.is_due_for_a_look(standing())
    found.begin()
    assert found.is_due_for_a_look(standing())


def test_where_no_proof_can_come_nobody_waits_for_one(clocks: Clocks) -> None:
    found = enforcement(clocks)
    found.ready_endpoints = 0
    assert not found.is_due_for_a_look(standing())
    assert decided(found, standing()).state is State.IGNORE


# What else counts.


def test_endpoints_count_where_somebody_tells_of_them(clocks: Clocks) -> None:
    found = enforcement(clocks)
    assert found.circumstances(None).impossible == ""
    found.ready_endpoints = 1
    assert found.circumstances(None).impossible == ""
    found.ready_endpoints = 0
    assert found.circumstances(None).impossible == "no endpoint of the Service is ready"


def test_certificates_count_by_the_wall_clock(clocks: Clocks) -> None:
    found = enforcement(clocks)
    clocks.now = time.time()
    pair = issue_authority(now=clocks.now, lifetime_seconds=3600)
    observed = standing(ca=pair.certificate)
    assert found.circumstances(observed).impossible == ""
    found.serves(pair.certificate)
    clocks.now += 7200
    assert found.circumstances(observed).impossible == "every authority in the caBundle is expired"
    # Without a caBundle, or with one that nobody can read, the serving certificate is what is left.
    assert found.circumstances(None).impossible.startswith("the serving certificate expired at ")
    observed["webhooks"][0]["clientConfig"]["caBundle"] = "no base64!"
    assert found.circumstances(observed).impossible.startswith("the serving certificate expired at ")
    found.serves(b"")
    assert found.circumstances(observed).impossible == ""


def test_one_authority_that_is_valid_is_enough(clocks: Clocks) -> None:
    found = enforcement(clocks)
    clocks.now = time.time()
    short, long = (issue_authority(now=clocks.now, lifetime_seconds=seconds) for seconds in (60, 3600))
    clocks.now += 120
    observed = standing(ca=short.certificate + long.certificate)
    assert found.circumstances(observed).impossible == ""
    assert found.circumstances(standing(ca=short.certificate)).impossible != ""


def test_a_pause_counts_until_it_ends(clocks: Clocks) -> None:
    found, _ = raised(clocks)
    found.pause = Pause(clocks.now + 10, "why", Mode.IGNORE)
    observed = standing(State.FAIL, remembered=found.memory)
    lowered = decided(found, observed)
    assert (lowered.state, lowered.flaps, lowered.is_open) == (State.IGNORE, 0, True)
    assert lowered.reason == str(found.pause)
    clocks.pass_by(11)
    assert found.circumstances(observed).paused == ""


def test_what_the_linter_refuses_is_not_raised(clocks: Clocks) -> None:
    found = enforcement(clocks)
    found.wrote(decided(found, None))
    found.refused = "pods of the server are caught"
    found.saw(proof())
    assert decided(found, standing(State.IGNORE, remembered=found.memory)).state is State.IGNORE


# What was seen.


def test_a_proof_from_before_a_beginning_does_not_count(clocks: Clocks) -> None:
    """It began before the sleep and ended after it."""
    found, _ = raised(clocks)
    clocks.pass_by(1)
    found.begin()
    found.saw(proof(seconds=3))
    assert not found.knowledge.is_proved
    clocks.pass_by(1)
    found.saw(proof(seconds=0.5))
    assert found.knowledge.is_proved


def test_a_loss_from_before_a_beginning_opens_nothing(clocks: Clocks) -> None:
    found, _ = raised(clocks)
    found.begin()
    found.saw(proof(Verdict.NOT_MUTATED, seconds=3))
    clocks.pass_by(1)
    found.saw(proof(Verdict.UNREACHABLE))
    lowered = decided(found, standing(remembered=Memory(State.FAIL, clocks.now - 500, "proofs")))
    assert lowered.windows[-1].start == clocks.now


def test_the_words_of_a_loss_are_those_behind_what_everybody_knows(clocks: Clocks) -> None:
    found, _ = raised(clocks)
    prefix = 'Internal error occurred: failed calling webhook "a.b.c": failed to call webhook: '
    found.saw(proof(Verdict.UNREACHABLE, prefix + "connection refused " + "x" * 500))
    assert found.knowledge.words.startswith("connection refused")
    assert len(found.knowledge.words) == 160


def test_it_is_lowered_after_the_tolerance_and_the_window_begins_then(clocks: Clocks) -> None:
    """Unreachable at Fail means refused: nobody came through before it was lowered."""
    found, _ = raised(clocks)
    observed = standing(remembered=found.memory)
    clocks.pass_by(30)
    found.saw(proof(Verdict.UNREACHABLE))
    assert decided(found, observed).state is State.FAIL
    clocks.pass_by(TOLERANCE_SECONDS + 1)
    lowered = decided(found, observed)
    assert lowered.state is State.IGNORE
    assert lowered.windows[-1].start == clocks.now


@pytest.mark.parametrize("last", [Verdict.NOT_MUTATED, Verdict.UNREACHABLE, Verdict.INCONCLUSIVE])
def test_where_nobody_was_called_the_window_begins_with_the_last_proof(clocks: Clocks, last: Verdict) -> None:
    """Not mutated at Fail means that pods came through all the time."""
    found, _ = raised(clocks)
    clocks.pass_by(30)
    found.saw(proof())
    proved = clocks.now - 0.5
    observed = standing(remembered=found.memory)
    clocks.pass_by(30)
    found.saw(proof(Verdict.NOT_MUTATED))
    clocks.pass_by(TOLERANCE_SECONDS)
    found.saw(proof(last))
    lowered = decided(found, observed)
    assert lowered.state is State.IGNORE
    assert lowered.since == clocks.now
    assert lowered.windows[-1].start == pytest.approx(proved)


def test_a_proof_in_between_ends_it(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    found.saw(proof(Verdict.NOT_MUTATED))
    clocks.pass_by(1)
    found.saw(proof())
    found.wrote(decided(found, standing(remembered=remembered)))
    found.saw(proof(Verdict.UNREACHABLE))
    clocks.pass_by(TOLERANCE_SECONDS + 1)
    gap, lowered = decided(found, standing(remembered=found.memory)).windows
    assert gap.reason == "proof lost for a while: words"
    assert lowered.start == clocks.now


def test_where_nobody_was_called_for_less_than_the_tolerance_it_stays_at_fail_and_is_a_window(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    proved = clocks.now - 0.5
    clocks.pass_by(30)
    found.saw(proof(Verdict.NOT_MUTATED, "nobody set it"))
    clocks.pass_by(1)
    assert not found.is_at_rest
    found.saw(proof())
    assert not found.is_at_rest, "somebody has to write it down"
    kept = decided(found, standing(remembered=remembered))
    assert (kept.state, kept.is_open) == (State.FAIL, True)
    found.wrote(kept)
    (window,) = decided(found, standing(remembered=kept)).windows
    assert window.start == pytest.approx(int(proved))
    assert window.end is not None
    assert window.end >= clocks.now
    assert window.reason == "proof lost for a while: nobody set it"


def test_a_gap_that_shows_while_something_else_is_written_is_remembered_by_the_next_write(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    clocks.pass_by(30)
    kept = decided(found, standing(remembered=remembered))
    found.saw(proof(Verdict.NOT_MUTATED))
    found.saw(proof())
    found.wrote(kept)
    assert not found.is_at_rest
    kept = decided(found, standing(remembered=kept))
    assert kept.is_open
    found.wrote(kept)
    assert decided(found, standing(remembered=kept)).windows == (*kept.closed(clocks.now + 2).windows,)


def test_a_gap_that_ends_with_a_pause_is_in_the_window_of_the_pause(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    proved = clocks.now - 0.5
    clocks.pass_by(30)
    found.saw(proof(Verdict.NOT_MUTATED))
    found.saw(proof())
    found.pause = Pause(clocks.now + 3600, "a test", Mode.IGNORE)
    lowered = decided(found, standing(remembered=remembered))
    assert lowered.state is State.IGNORE
    assert lowered.windows[-1].start == pytest.approx(proved)


def test_where_it_was_unreachable_for_less_than_the_tolerance_there_is_no_window(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    found.saw(proof(Verdict.UNREACHABLE))
    clocks.pass_by(1)
    found.saw(proof())
    assert decided(found, standing(remembered=remembered)).windows == ()


def test_a_start_where_nobody_is_called_reaches_back_to_the_last_look_of_whoever_was_before(clocks: Clocks) -> None:
    found = enforcement(clocks)
    before = Memory(State.FAIL, clocks.now - 5000, "proofs")
    clocks.pass_by(1)
    found.saw(proof(Verdict.NOT_MUTATED))
    renewed = clocks.now - 300
    lowered = decided(found, standing(remembered=before), last_renewal=renewed)
    assert (lowered.state, lowered.since) == (State.IGNORE, clocks.now)
    assert lowered.windows[-1].start == pytest.approx(renewed - UNSEEN_SECONDS)


# Since when.


def test_it_was_surely_as_decided_until_the_last_look(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    clocks.pass_by(10)
    assert found.last_seen(remembered, None) == clocks.now - 12
    found.seen_as_decided()
    assert found.last_seen(remembered, None) == clocks.now - 2
    clocks.now -= 3600  # somebody set it back
    assert found.last_seen(remembered, None) == clocks.now


@pytest.mark.parametrize(
    ("remembered", "renewed", "expected"),
    [
        (None, None, 0.0),
        (-500.0, None, -500.0),
        (-500.0, -100.0, -100.0 - UNSEEN_SECONDS),
        (-50.0, -100.0, -50.0),
        (50.0, None, 0.0),
    ],
    ids=["nothing", "decided", "renewed-later", "renewed-before", "ahead"],
)
def test_who_has_not_looked_goes_by_the_decision_and_the_last_renewal(
    clocks: Clocks, remembered: float | None, renewed: float | None, expected: float
) -> None:
    now = clocks.now
    kept = None if remembered is None else Memory(State.FAIL, now + remembered, "proofs")
    last_renewal = None if renewed is None else now + renewed
    assert enforcement(clocks).last_seen(kept, last_renewal) == now + expected


# What is remembered where.


def test_state_read_by_a_failed_pass_is_kept_when_the_object_is_deleted_before_the_next(clocks: Clocks) -> None:
    """The write of the first pass met a conflict, and the Lease has no copy: the window must not be lost."""
    found = enforcement(clocks)
    recorded = Memory(State.FAIL, clocks.now - 500, "proofs", flaps=2)
    decided(found, standing(remembered=recorded))
    clocks.pass_by(1)
    recreated = decided(found, None)
    assert (recreated.state, recreated.flaps, recreated.is_open) == (State.IGNORE, 2, True)
    assert recreated.windows[0].start <= recorded.since
    found.begin()
    assert decided(found, None).windows == (), "another leader's time is forgotten"


def test_the_lease_is_asked_only_where_nothing_of_ours_stands(clocks: Clocks) -> None:
    found = enforcement(clocks)
    on_lease = Memory(State.FAIL, clocks.now - 500, "proofs", flaps=2)
    recreated = decided(found, None, on_lease=on_lease)
    assert (recreated.state, recreated.flaps) == (State.IGNORE, 2)
    assert recreated.windows[0].start == on_lease.since
    here = Memory(State.IGNORE, clocks.now - 100, "here")
    assert decided(found, standing(State.IGNORE, remembered=here), on_lease=on_lease).reason == "here"


def test_what_another_reconciler_decided_counts_and_what_somebody_else_wrote_there_does_not(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    newer = Memory(State.IGNORE, remembered.since + 1, "another reconciler")
    assert decided(found, standing(State.IGNORE, remembered=newer)).reason == "another reconciler"
    assert decided(found, standing(State.FAIL)).reason == remembered.reason, "stripped"
    forged = Memory(State.IGNORE, remembered.since + 1, "forged")
    observed = standing(State.FAIL, remembered=forged, forger="kubectl-edit")
    assert decided(found, observed).reason == remembered.reason
    fresh = enforcement(clocks)
    on_lease = Memory(State.FAIL, remembered.since, "on the Lease")
    assert decided(fresh, observed, on_lease=on_lease).reason == "on the Lease"
    assert decided(fresh, observed).reason == "forged", "better than nothing"


def test_who_set_it_to_ignore_is_named_and_the_time_since_is_a_window(clocks: Clocks) -> None:
    found, remembered = raised(clocks)
    clocks.pass_by(5)
    observed = standing(State.IGNORE, remembered=remembered, by="kubectl-edit")
    kept = decided(found, observed)
    assert kept.state is State.FAIL, "it holds a proof, and puts it right"
    assert kept.windows[-1].reason == "set to Ignore by kubectl-edit"
    assert kept.windows[-1].start == pytest.approx(clocks.now - 7)


def test_at_ignore_only_a_proof_changes_anything(clocks: Clocks) -> None:
    found = enforcement(clocks)
    found.wrote(Memory(State.IGNORE, clocks.now, "registered"))
    found.saw(proof(Verdict.UNREACHABLE))
    assert found.is_at_rest
    clocks.pass_by(1)
    found.saw(proof())
    assert not found.is_at_rest


def test_another_proof_changes_nothing_at_fail_without_an_open_window(clocks: Clocks) -> None:
    found = enforcement(clocks)
    assert not found.is_at_rest
    found, remembered = raised(clocks)
    assert found.is_at_rest
    found.wrote(remembered.opened(clocks.now, "a window"))
    assert not found.is_at_rest
    found.wrote(remembered)
    found.saw(proof(Verdict.UNREACHABLE))
    assert not found.is_at_rest


def test_the_next_proof_is_sooner_while_fail_depends_on_it(clocks: Clocks) -> None:
    found = Enforcement(settings(proofs=3, soak_seconds=30.0), wall=clocks.wall, monotonic=clocks.monotonic)
    found.wrote(decided(found, None))
    assert found.next_proof_seconds() == 15
    found, _ = raised(clocks)
    assert found.next_proof_seconds() == PERIOD_SECONDS
