"""The retry policy: what is tried again, and when it ends."""

from __future__ import annotations

import pytest

from reconciler.backoff import Backoff, is_reportable, retrying
from reconciler.errors import ConflictError, ForbiddenError, ReconcilerError, UnavailableError

BACKOFF = Backoff(initial_seconds=0.1, maximum_seconds=2.0)


class Failing:
    """Raises its errors one after the other, then returns; sleeps are recorded instead of slept."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.slept: list[float] = []

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize("failures", range(1, 60))
def test_waits_grow_and_stay_between_the_two(failures: int) -> None:
    for _ in range(20):
        step = min(0.1 * 2.0 ** (failures - 1), 2.0)
        assert step / 2 <= BACKOFF.delay(failures) <= step


async def test_what_may_pass_is_tried_again() -> None:
    failing = Failing(UnavailableError("a"), ConflictError("b"), UnavailableError("c"))
    assert await retrying(BACKOFF, deadline_seconds=None, sleep=failing.sleep)(failing) == "done"
    assert len(failing.slept) == 3


async def test_what_will_not_pass_is_raised_at_once() -> None:
    failing = Failing(ForbiddenError("a"))
    with pytest.raises(ForbiddenError):
        await retrying(BACKOFF, deadline_seconds=None, sleep=failing.sleep)(failing)
    assert failing.slept == []


async def test_retry_after_is_the_shortest_wait() -> None:
    failing = Failing(UnavailableError("a", retry_after_seconds=7.0))
    await retrying(BACKOFF, deadline_seconds=None, sleep=failing.sleep)(failing)
    assert failing.slept == [7.0]


async def test_the_last_error_is_raised_when_the_next_wait_would_pass_the_deadline() -> None:
    failing = Failing(UnavailableError("a", retry_after_seconds=7.0))
    with pytest.raises(UnavailableError, match="a"):
        await retrying(BACKOFF, deadline_seconds=5.0, sleep=failing.sleep)(failing)
    assert failing.slept == []


async def test_the_loop_soon_waits_longest_for_what_only_somebody_can_end() -> None:
    """The first time may be an API server that has just started."""
    failing = Failing(ForbiddenError("a"))
    await retrying(BACKOFF, deadline_seconds=None, retry_on=is_reportable, sleep=failing.sleep)(failing)
    assert 0.5 <= failing.slept[0] <= 1.0
    assert 1.0 <= BACKOFF.patience(2) <= 2.0


async def test_a_defect_is_never_retried() -> None:
    failing = Failing(ValueError("defect"))
    with pytest.raises(ValueError, match="defect"):
        await retrying(BACKOFF, deadline_seconds=None, retry_on=is_reportable, sleep=failing.sleep)(failing)


async def test_each_wait_is_announced() -> None:
    told: list[tuple[BaseException, float]] = []
    failing = Failing(UnavailableError("a"))
    policy = retrying(
        BACKOFF,
        deadline_seconds=None,
        before_sleep=lambda error, delay: told.append((error, delay)),
        sleep=failing.sleep,
    )
    await policy(failing)
    assert [(str(error), delay) for error, delay in told] == [("a", failing.slept[0])]
    assert isinstance(told[0][0], ReconcilerError)
