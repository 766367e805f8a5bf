"""Events: what is said of a state change, within the API's limits, and once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.telemetry import events as room
from reconciler.telemetry.events import Announcement, Continuation, Creation, Journal, Reason

WALL = 1_700_000_000.25
RAISED = Announcement(Reason.RAISED, "3 proofs over 30 s")
LOWERED = Announcement(Reason.LOWERED, "no proof for 60 s: connection refused", warning=True)


def journal() -> Journal:
    return Journal("seccomp-reconciler", "gardenlet-0_3f2a")


def say(
    book: Journal, said: Announcement = RAISED, *, at: float = 0.0, uid: str = "u"
) -> Creation | Continuation | None:
    return book.record(said, uid=uid, wall=WALL + at, monotonic=at)


def created(step: Creation | Continuation | None) -> Creation:
    assert isinstance(step, Creation)
    return step


def count(step: Creation | Continuation | None) -> int:
    assert isinstance(step, Continuation)
    found: int = step.patch["series"]["count"]
    return found


def test_an_event_says_who_did_what_to_which_object() -> None:
    step = created(say(journal(), LOWERED, uid="0000-1111"))
    assert step.manifest == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": step.name, "namespace": "default"},
        "eventTime": "2023-11-14T22:13:20.250000Z",
        "reportingController": "seccomp-reconciler",
        "reportingInstance": "gardenlet-0_3f2a",
        "action": "Lower",
        "reason": "Lowered",
        "regarding": {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "name": "seccomp-reconciler",
            "uid": "0000-1111",
        },
        "note": "no proof for 60 s: connection refused",
        "type": "Warning",
    }


def test_whole_seconds_have_microseconds_too() -> None:
    step = created(journal().record(RAISED, uid="", wall=1_700_000_000.0, monotonic=0.0))
    assert step.manifest["eventTime"] == "2023-11-14T22:13:20.000000Z"


def test_an_unknown_uid_is_left_out() -> None:
    step = created(say(journal(), uid=""))
    assert "uid" not in step.manifest["regarding"]
    assert step.manifest["type"] == "Normal"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_action(reason: Reason) -> None:
    manifest = created(say(journal(), Announcement(reason, "words"))).manifest
    assert manifest["reason"] == reason.value
    assert manifest["action"].isalpha()


@given(st.text(max_size=1500), st.text(max_size=200))
def test_note_and_instance_stay_within_the_apis_bytes(note: str, identity: str) -> None:
    book = Journal("seccomp-reconciler", identity)
    manifest = created(say(book, Announcement(Reason.CONFLICT, note))).manifest
    for text, cut, most in ((note, manifest["note"], 1024), (identity, manifest["reportingInstance"], 128)):
        assert text.startswith(cut)
        assert len(cut.encode()) <= most
        assert cut == text or len(cut.encode()) > most - 4


def test_a_note_that_is_no_unicode_is_said_all_the_same() -> None:
    manifest = created(say(journal(), Announcement(Reason.CONFLICT, "half \ud800 pair"))).manifest
    assert manifest["note"] == "half ? pair"


def test_a_long_name_still_makes_a_name() -> None:
    book = Journal("a" * 199 + "." + "b" * 53, "x")
    name = created(say(book)).name
    assert len(name) <= 253
    assert ".." not in name


def test_names_differ_even_at_the_same_moment() -> None:
    book = journal()
    assert len({created(say(book, Announcement(Reason.RAISED, str(number)))).name for number in range(50)}) == 50


def test_the_same_again_is_a_series_of_the_first() -> None:
    book = journal()
    first = created(say(book))
    step = say(book, at=30.0)
    assert isinstance(step, Continuation)
    assert step.name == first.name
    assert step.patch == {"series": {"count": 2, "lastObservedTime": "2023-11-14T22:13:50.250000Z"}}


def test_a_series_is_patched_once_a_minute_and_counts_the_rest() -> None:
    book = journal()
    say(book)
    assert count(say(book, at=10.0)) == 2
    assert [say(book, at=at) for at in (20.0, 40.0, 69.9)] == [None, None, None]
    assert count(say(book, at=70.0)) == 6


@pytest.mark.parametrize(
    "other",
    [
        (LOWERED, "u"),
        (Announcement(Reason.RAISED, "3 proofs over 31 s"), "u"),
        (Announcement(Reason.REPAIRED, "3 proofs over 30 s"), "u"),
        (RAISED, "another"),
    ],
    ids=["all", "note", "reason", "uid"],
)
def test_what_differs_is_an_event_of_its_own(other: tuple[Announcement, str]) -> None:
    book = journal()
    say(book)
    created(say(book, other[0], uid=other[1]))


def test_a_series_ends_by_ten_minutes_of_silence() -> None:
    book = journal()
    first = created(say(book))
    assert count(say(book, at=600.0)) == 2
    assert count(say(book, at=1200.0)) == 3
    assert created(say(book, at=1800.1)).name != first.name


def test_intervals_are_the_monotonic_clocks() -> None:
    book = journal()
    say(book)
    step = book.record(RAISED, uid="u", wall=WALL - 86400.0, monotonic=30.0)
    assert count(step) == 2


def test_a_forgotten_event_is_made_anew() -> None:
    book = journal()
    first = created(say(book))
    other = created(say(book, LOWERED))
    book.forget(first.name)
    assert created(say(book, at=1.0)).name != first.name
    assert count(say(book, LOWERED, at=1.0)) == 2
    assert other.name != first.name


def test_memory_is_bounded_and_forgets_the_quietest() -> None:
    book = journal()
    say(book)
    for number in range(1000):
        say(book, Announcement(Reason.CONFLICT, str(number)), at=number * 0.1)
        if number % 10 == 0:
            assert not isinstance(say(book, at=number * 0.1), Creation)
    assert len(book._series) == room._MOST_SERIES


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 400)), max_size=60))
def test_nothing_is_lost_from_a_series_and_none_is_patched_twice_a_minute(said: list[tuple[str, float]]) -> None:
    book, now = journal(), 0.0
    repeated: Counter[str] = Counter()  # what was said in the series that goes on
    names: dict[str, str] = {}
    patched: dict[str, float] = {}
    for note, pause in said:
        now += pause
        step = say(book, Announcement(Reason.CONFLICT, note), at=now)
        if isinstance(step, Creation):
            names[note], repeated[note] = step.name, 1
            continue
        repeated[note] += 1
        if step is not None:
            assert step.name == names[note]
            assert count(step) == repeated[note]
            assert now - patched.get(step.name, float("-inf")) >= 60.0
            patched[step.name] = now
