"""Times as Kubernetes writes them, there and back, whoever wrote them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.timestamps import seconds, utc

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A machine whose clock shows local time."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_800_000_000.999, "2027-01-15T08:00:00Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
        (1e18, "9999-12-31T23:59:59Z"),
        (float("inf"), "9999-12-31T23:59:59Z"),
        (-1e18, "0001-01-01T00:00:00Z"),
    ],
)
def test_text_is_rounded_down_and_never_fails(moment: float, text: str) -> None:
    assert utc(moment) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15T08:00:00.500000Z", 1_800_000_000.5),
        ("2027-01-15T10:00:00+02:00", 1_800_000_000),
        ("2027-01-15T08:00:00", 1_800_000_000),
        ("2027-01-15", 1_799_971_200),
        ("soon", None),
        ("", None),
        ("2027-13-15T08:00:00Z", None),
        (None, None),
        (1_800_000_000, None),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_times_are_read_as_utc_wherever_the_machine_stands(text: object, moment: float | None) -> None:
    assert seconds(text) == moment


@given(st.datetimes(), st.sampled_from(["", "Z", "+00:00", "-23:59", "+23:59"]))
def test_whatever_is_read_can_be_written_again(moment: object, zone: str) -> None:
    read = seconds(f"{moment}{zone}")
    assert read is not None
    again = seconds(utc(read))
    assert again is not None
    assert abs(again - read) < 1 or utc(read)[:4] in ("0001", "9999")


@given(st.floats(allow_nan=False))
def test_text_is_read_as_it_was_written(moment: float) -> None:
    text = utc(moment)
    read = seconds(text)
    assert read is not None
    assert utc(read) == text
