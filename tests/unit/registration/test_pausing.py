"""A pause, as the Lease's annotations tell of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registration import pausing
from reconciler.registration.pausing import MODE_ANNOTATION, REASON_ANNOTATION, UNTIL_ANNOTATION, Mode, Pause

NOW = 1_800_000_000.0
UNTIL = "2027-01-15T10:00:00Z"


def test_names() -> None:
    """People write them by kubectl when nothing of ours runs."""
    assert (UNTIL_ANNOTATION, REASON_ANNOTATION, MODE_ANNOTATION) == (
        "seccomp-reconciler.gardener.cloud/paused-until",
        "seccomp-reconciler.gardener.cloud/pause-reason",
        "seccomp-reconciler.gardener.cloud/pause-mode",
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, None),
        ({UNTIL_ANNOTATION: UNTIL}, Pause(NOW + 7200, "no reason given", Mode.IGNORE)),
        ({UNTIL_ANNOTATION: UNTIL, REASON_ANNOTATION: "upgrade"}, Pause(NOW + 7200, "upgrade", Mode.IGNORE)),
        ({UNTIL_ANNOTATION: UNTIL, MODE_ANNOTATION: "Remove"}, Pause(NOW + 7200, "no reason given", Mode.REMOVE)),
        ({UNTIL_ANNOTATION: UNTIL, MODE_ANNOTATION: "remove"}, Pause(NOW + 7200, "no reason given", Mode.IGNORE)),
        ({UNTIL_ANNOTATION: "2027-01-15T08:00:00Z"}, None),
        ({UNTIL_ANNOTATION: "2h", REASON_ANNOTATION: "a", MODE_ANNOTATION: "Remove"}, None),
        ({REASON_ANNOTATION: "a", MODE_ANNOTATION: "Remove"}, None),
    ],
    ids=["none", "until", "reason", "remove", "unknown-mode", "over", "unreadable", "no-end"],
)
def test_a_pause_is_what_has_an_end_that_lies_ahead(found: dict[str, str], expected: Pause | None) -> None:
    assert pausing.of(found, now=NOW) == expected


def test_a_pause_ends_by_itself() -> None:
    found = {UNTIL_ANNOTATION: UNTIL}
    assert pausing.of(found, now=NOW + 7199.9) is not None
    assert pausing.of(found, now=NOW + 7200) is None


def test_a_pause_tells_its_end_and_its_reason() -> None:
    assert str(Pause(NOW + 7200, "upgrade", Mode.REMOVE)) == f"paused until {UNTIL}: upgrade"


def test_no_pause_removes_every_annotation_of_one() -> None:
    kept = pausing.annotations(Pause(NOW, "a", Mode.IGNORE))
    removed = pausing.annotations(None)
    assert removed.keys() == kept.keys()
    assert set(removed.values()) == {None}


@given(st.integers(1, 10**9), st.text(), st.sampled_from(Mode))
def test_a_pause_is_read_as_it_was_written(lasts: int, reason: str, mode: Mode) -> None:
    pause = Pause(NOW + lasts, reason, mode)
    kept = {name: value for name, value in pausing.annotations(pause).items() if value is not None}
    assert pausing.of(kept, now=NOW) == pause


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.9Z"])
def test_a_pause_for_ever_can_be_told(until: str) -> None:
    pause = pausing.of({UNTIL_ANNOTATION: until}, now=NOW)
    assert str(pause) == "paused until 9999-12-31T23:59:59Z: no reason given"
