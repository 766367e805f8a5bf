"""What the registration remembers: windows that are not lost, and annotations that anybody may have written."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registration import memory
from reconciler.registration.memory import (
    ANNOTATIONS,
    FLAPS_ANNOTATION,
    MOST_WINDOWS,
    REASON_ANNOTATION,
    SINCE_ANNOTATION,
    STATE_ANNOTATION,
    WINDOWS_ANNOTATION,
    Memory,
    State,
    Window,
    annotations,
    from_annotations,
    from_text,
    to_text,
)

NOW = 1_800_000_000.0
START = "2027-01-15T08:00:00Z"
AT_FAIL = Memory(State.FAIL, NOW, "proved")
KEPT = {STATE_ANNOTATION: "Fail", SINCE_ANNOTATION: START, REASON_ANNOTATION: "proved"}

# Whole seconds are all that is kept.
MOMENTS = st.integers(0, 250_000_000_000).map(float)
# What can be a text at all, as the API server takes it.
REASONS = st.text(max_size=300)
CLOSED = st.builds(
    lambda start, lasts, reason: Window(start, start + lasts, reason), MOMENTS, st.integers(0, 10**6), REASONS
)
MEMORIES = st.builds(
    lambda state, since, reason, flaps, windows, open_ones: Memory(
        state, since, reason, flaps, tuple(windows + open_ones)[-MOST_WINDOWS:]
    ),
    st.sampled_from(State),
    MOMENTS,
    REASONS,
    st.integers(0, 999_999_999),
    st.lists(CLOSED, max_size=MOST_WINDOWS),
    st.lists(st.builds(Window, MOMENTS, st.none(), REASONS), max_size=1),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["start", "end", START]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["start", "end", "reason", "a"]), inner),
    max_leaves=20,
)


def window(start: float, end: float | None, reason: str = "r") -> Window:
    return Window(NOW + start, None if end is None else NOW + end, reason)


def shown(found: Memory) -> list[tuple[float, float | None, str]]:
    return [(one.start - NOW, None if one.end is None else one.end - NOW, one.reason) for one in found.windows]


# Windows.


def test_a_window_is_opened_once_and_closed_once() -> None:
    opened = AT_FAIL.opened(NOW + 1, "r")
    assert shown(opened) == [(1, None, "r")]
    assert (AT_FAIL.is_open, opened.is_open) == (False, True)
    assert opened.opened(NOW + 9, "s") == opened
    closed = opened.closed(NOW + 5)
    assert shown(closed) == [(1, 5, "r")]
    assert closed.closed(NOW + 9) == closed
    assert AT_FAIL.closed(NOW) == AT_FAIL


def interrupted(memory: Memory, start: float, end: float, reason: str) -> Memory:
    """Return it with a window that is over."""
    return memory.opened(start, reason).closed(end)


def test_a_window_does_not_end_before_it_began() -> None:
    """The clock was set back meanwhile."""
    assert shown(AT_FAIL.opened(NOW + 1, "r").closed(NOW - 99)) == [(1, 1, "r")]


def test_an_open_window_reaches_back_to_when_it_really_began() -> None:
    opened = interrupted(AT_FAIL, NOW, NOW + 1, "q").opened(NOW + 5, "r")
    assert shown(opened.reaching_back(NOW + 3)) == [(0, 1, "q"), (3, None, "r")]
    assert opened.reaching_back(NOW + 9) == opened
    closed = opened.closed(NOW + 6)
    assert closed.reaching_back(NOW + 3) == closed
    assert AT_FAIL.reaching_back(NOW) == AT_FAIL


def test_a_change_that_was_put_right_is_a_window_that_is_over() -> None:
    assert shown(interrupted(AT_FAIL, NOW + 1, NOW + 3, "r")) == [(1, 3, "r")]
    assert shown(interrupted(AT_FAIL, NOW + 5, NOW + 3, "r")) == [(5, 5, "r")]


@pytest.mark.parametrize(
    ("start", "end", "reason", "expected"),
    [
        (170, 175, "r", [(0, 1, "q"), (100, 175, "r")]),
        (170, None, "r", [(0, 1, "q"), (100, None, "r")]),
        (105, 112, "r", [(0, 1, "q"), (100, 112, "r")]),
        (100, 175, "r", [(0, 1, "q"), (100, 175, "r")]),
        (171, 175, "r", [(0, 1, "q"), (100, 110, "r"), (171, 175, "r")]),
        (99, 175, "r", [(0, 1, "q"), (100, 110, "r"), (99, 175, "r")]),
        (111, 175, "s", [(0, 1, "q"), (100, 110, "r"), (111, 175, "s")]),
        (111, None, "s", [(0, 1, "q"), (100, 110, "r"), (111, None, "s")]),
    ],
    ids=["near", "near-open", "inside", "same-start", "far", "before", "other-reason", "other-reason-open"],
)
def test_windows_for_the_same_reason_that_lie_near_are_one(
    start: float, end: float | None, reason: str, expected: list[tuple[float, float | None, str]]
) -> None:
    before = replace(AT_FAIL, windows=(window(0, 1, "q"), window(100, 110)))
    is_open = end is None
    after = (
        before.opened(NOW + start, reason) if is_open else interrupted(before, NOW + start, NOW + (end or 0), reason)
    )
    assert shown(after) == expected


def test_a_reason_that_is_too_long_to_be_kept_is_the_same_reason() -> None:
    once = interrupted(AT_FAIL, NOW, NOW + 1, "r" * 400)
    kept = from_annotations(annotations(once))
    assert kept is not None
    assert len(interrupted(kept, NOW + 2, NOW + 3, "r" * 400).windows) == 1


def test_the_oldest_windows_are_forgotten() -> None:
    found = AT_FAIL
    for number in range(MOST_WINDOWS + 3):
        found = interrupted(found, NOW + number, NOW + number + 0.5, str(number))
    assert [one.reason for one in found.windows] == [str(number) for number in range(3, MOST_WINDOWS + 3)]
    assert len(found.opened(NOW + 99, "r").windows) == MOST_WINDOWS


@given(MEMORIES, MOMENTS, REASONS, st.none() | st.integers(0, 10**6))
def test_a_new_window_covers_its_time_and_takes_away_none(
    before: Memory, start: float, reason: str, lasts: int | None
) -> None:
    if before.is_open:
        assert before.opened(start, reason) == before
        return
    # The clock goes on: no window ends before one that was already over.
    ends = [start + (lasts or 0), *(window.end for window in before.windows if window.end is not None)]
    after = before.opened(start, reason) if lasts is None else interrupted(before, start, max(ends), reason)
    last = after.windows[-1]
    assert last.start <= start
    assert last.end is None if lasts is None else last.end is not None and last.end >= start + lasts
    kept = before.windows[1:] if len(before.windows) == MOST_WINDOWS else before.windows
    for old in kept:
        assert old.end is not None
        assert any(one.start <= old.start and (one.end is None or one.end >= old.end) for one in after.windows)


# On the object.


def test_how_it_is_shown() -> None:
    """The names and forms that operators and dashboards read."""
    windows = (window(0.9, 1.1, "a"), window(2, 3, "b"), window(4.9, None, "ü"))
    found = annotations(Memory(State.IGNORE, NOW + 5.9, "lost", 3, windows))
    prefix = "seccomp-reconciler.gardener.cloud/"
    assert found == {
        f"{prefix}failure-policy": "Ignore",
        f"{prefix}failure-policy-since": "2027-01-15T08:00:05Z",
        f"{prefix}failure-policy-reason": "lost",
        f"{prefix}failure-policy-flaps": "3",
        f"{prefix}fail-open-windows": '[{"start":"2027-01-15T08:00:00Z","end":"2027-01-15T08:00:02Z","reason":"a"},'
        '{"start":"2027-01-15T08:00:02Z","end":"2027-01-15T08:00:03Z","reason":"b"},'
        '{"start":"2027-01-15T08:00:04Z","end":null,"reason":"\\u00fc"}]',
    }
    assert found.keys() == ANNOTATIONS
    assert memory.MEMORY_ANNOTATION.removeprefix(prefix) == "failure-policy-memory"


@given(MEMORIES)
def test_it_is_read_as_it_was_written(found: Memory) -> None:
    assert from_annotations(annotations(found)) == found
    assert from_text(to_text(found)) == found


@given(st.floats(0, 2e11), st.floats(0, 1e6))
def test_a_window_is_never_shown_shorter_than_it_was(start: float, lasts: float) -> None:
    found = from_annotations(annotations(interrupted(AT_FAIL, start, start + lasts, "r")))
    assert found is not None
    (kept,) = found.windows
    assert kept.end is not None
    assert start - 1 < kept.start <= start <= start + lasts <= kept.end <= start + lasts + 1


@pytest.mark.parametrize(
    "found",
    [
        {},
        {STATE_ANNOTATION: "Fail"},
        {SINCE_ANNOTATION: START},
        {STATE_ANNOTATION: "Fail", SINCE_ANNOTATION: "yesterday"},
        {STATE_ANNOTATION: "fail", SINCE_ANNOTATION: START},
        {STATE_ANNOTATION: "Adaptive", SINCE_ANNOTATION: START},
    ],
    ids=["nothing", "no-time", "no-state", "unreadable-time", "lower-case", "no-such-state"],
)
def test_without_a_state_and_a_time_nothing_is_remembered(found: dict[str, str]) -> None:
    assert from_annotations(found) is None


@pytest.mark.parametrize(
    ("flaps", "expected"),
    [("7", 7), ("", 0), ("-1", 0), ("1.5", 0), ("many", 0), ("²", 0), ("٣", 0), ("9" * 9, 999_999_999), ("9" * 10, 0)],
)
def test_flaps_that_are_no_sane_count_are_none(flaps: str, expected: int) -> None:
    found = from_annotations({**KEPT, FLAPS_ANNOTATION: flaps})
    assert found == replace(AT_FAIL, flaps=expected)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("", []),
        ("[", []),
        ("{}", []),
        ("[" * 100_000, []),
        ("1" * 5000, []),
        ("[null, 1, []]", []),
        ('[{"start": "soon", "end": null, "reason": "r"}]', []),
        (f'[{{"start": "{START}", "end": "soon", "reason": "r"}}]', []),
        (f'[{{"start": "{START}"}}]', [(0, None, "")]),
        (f'[{{"start": "{START}", "end": "{START}", "reason": 7}}]', [(0, 0, "7")]),
        (f'[{{"start": "{START}", "end": null}}, {{"start": "{START}", "end": "{START}"}}]', [(0, 0, "")]),
        (json.dumps([{"start": START, "end": START, "reason": str(one)} for one in range(12)]), None),
    ],
    ids=[
        "none",
        "cut",
        "no-list",
        "deep",
        "long-number",
        "no-windows",
        "no-start",
        "no-end",
        "open",
        "no-text",
        "open-before-another",
        "too-many",
    ],
)
def test_windows_that_are_unreadable_are_left_out(
    windows: str, expected: list[tuple[float, float | None, str]] | None
) -> None:
    found = from_annotations({**KEPT, WINDOWS_ANNOTATION: windows})
    assert found is not None
    assert (found.state, found.since) == (State.FAIL, NOW)
    if expected is None:
        assert [one.reason for one in found.windows] == [str(number) for number in range(2, 12)]
    else:
        assert shown(found) == expected


@given(st.dictionaries(st.sampled_from(sorted(ANNOTATIONS)), st.text() | st.sampled_from(["Fail", "Ignore", START])))
def test_whatever_somebody_wrote_can_be_written_again(found: dict[str, str]) -> None:
    read = from_annotations(found)
    if read is not None:
        assert from_annotations(annotations(read)) is not None


@given(JSON, st.text())
def test_whatever_windows_somebody_wrote_can_be_written_again(windows: Any, since: str) -> None:  # noqa: ANN401 - JSON
    for time in (START, since):
        read = from_annotations({**KEPT, SINCE_ANNOTATION: time, WINDOWS_ANNOTATION: json.dumps(windows)})
        if read is not None:
            assert from_annotations(annotations(read)) is not None
            annotations(read)[WINDOWS_ANNOTATION].encode()


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59.5Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_the_ends_of_time_can_be_written_again(moment: str) -> None:
    windows = json.dumps([{"start": moment, "end": moment, "reason": ""}])
    read = from_annotations({**KEPT, SINCE_ANNOTATION: moment, WINDOWS_ANNOTATION: windows})
    assert read is not None
    assert len(annotations(read)) == len(ANNOTATIONS)


def test_half_a_character_is_not_sent_to_the_api_server() -> None:
    read = from_text(json.dumps({**KEPT, REASON_ANNOTATION: "\ud83d"}))
    assert read is not None
    assert annotations(read)[REASON_ANNOTATION] == "?"


# On the Lease.


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", '{"a": 1}', "[" * 100_000, json.dumps({STATE_ANNOTATION: "Fail"})], ids=repr
)
def test_a_copy_that_is_unreadable_is_none(text: str | None) -> None:
    assert from_text(text) is None


@given(JSON)
def test_whatever_somebody_wrote_into_the_copy(found: Any) -> None:  # noqa: ANN401 - JSON
    from_text(json.dumps(found))
    from_text(json.dumps({**KEPT, WINDOWS_ANNOTATION: found}))


# What stands.


def test_what_an_object_remembers() -> None:
    assert memory.of(None) is None
    assert memory.of({"metadata": {}}) is None
    assert memory.of({"metadata": {"annotations": None}}) is None
    assert memory.of({"metadata": {"annotations": annotations(AT_FAIL)}}) == AT_FAIL


OURS = {"labels": {"app.kubernetes.io/managed-by": "seccomp-reconciler"}}


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (None, None),
        ({"metadata": {}, "webhooks": [{"failurePolicy": "Fail"}]}, None),
        ({"metadata": OURS}, None),
        ({"metadata": OURS, "webhooks": []}, None),
        ({"metadata": OURS, "webhooks": [{"failurePolicy": "Fail"}]}, State.FAIL),
        ({"metadata": OURS, "webhooks": [{"failurePolicy": "Ignore"}]}, State.IGNORE),
        ({"metadata": OURS, "webhooks": [{}]}, State.FAIL),
    ],
    ids=["absent", "foreign", "bare", "no-entry", "fail", "ignore", "default"],
)
def test_what_the_api_server_does_now(observed: Any, expected: State | None) -> None:  # noqa: ANN401 - a manifest
    assert memory.standing(observed) is expected
