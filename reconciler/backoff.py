"""The one retry policy: what is tried again, after how long, and when to stop.

A whole pass is retried, never a single request: after a wait the world is read afresh and planned afresh, so that no
write made from an old observation is repeated. Callers hand a pass to `retrying` and never loop themselves.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import tenacity

from reconciler.errors import ConflictError, NotLeadingError, ReconcilerError, UnavailableError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with full jitter. `initial_seconds` bounds the first wait, `maximum_seconds` every other."""

    initial_seconds: float = 0.1
    maximum_seconds: float = 60.0

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after `failures` (>= 1) failures in a row: half of the step plus jitter."""
        step = min(self.initial_seconds * 2.0 ** min(failures - 1, 30), self.maximum_seconds)
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def patience(self, failures: int) -> float:
        """Return the wait after an error that only somebody's action can end: soon very long.

        Not at once: a kube-apiserver that has just started forbids everything for a moment.
        """
        step = min(4.0 ** min(failures - 1, 15), self.maximum_seconds)
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - likewise


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed by itself a moment later."""
    return isinstance(error, UnavailableError | ConflictError | NotLeadingError)


def retrying(
    backoff: Backoff,
    *,
    deadline_seconds: float | None,
    retry_on: Callable[[BaseException], bool] = is_transient,
    before_sleep: Callable[[BaseException, float], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> tenacity.AsyncRetrying:
    """Return the policy: call it with a coroutine function.

    With `deadline_seconds` the last error is raised once the next wait would pass the deadline; with None it never
    gives up. A Retry-After of the API server is honoured as the shortest wait. An error that is retried though it is
    not transient (a missing right, say) soon waits the longest time: only somebody's action can end it.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if error is not None and not is_transient(error):
            return backoff.patience(state.attempt_number)
        asked = error.retry_after_seconds if isinstance(error, UnavailableError) else 0.0
        return max(asked, backoff.delay(state.attempt_number))

    def announce(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if before_sleep is not None and error is not None and state.next_action is not None:
            before_sleep(error, state.next_action.sleep)

    return tenacity.AsyncRetrying(
        sleep=sleep or asyncio.sleep,
        retry=tenacity.retry_if_exception(retry_on),
        wait=wait,
        stop=tenacity.stop_never if deadline_seconds is None else tenacity.stop_before_delay(deadline_seconds),
        before_sleep=announce,
        reraise=True,
    )


def is_reportable(error: BaseException) -> bool:
    """Return whether the loop goes on after `error`: every error that carries a message for an operator."""
    return isinstance(error, ReconcilerError)
