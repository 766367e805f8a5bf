"""The short clocks of the product under test, as settings, and what follows from them: how long pods may be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.backend import settings_for

PERIOD_SECONDS: Final = 1.0
LOSS_TOLERANCE_SECONDS: Final = 3.0
WEBHOOK_TIMEOUT_SECONDS: Final = 2
LEASE_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 0.4
REQUEST_TIMEOUT_SECONDS: Final = 2.0
# Two cores carry the API server, etcd, two reconcilers, two servers, two proxies and the load.
SLACK_SECONDS: Final = 3.0
# A process that starts imports for about a second on an idle machine.
START_SECONDS: Final = 3.0
CONVERGENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Bound:
    """How long pods may be refused by the webhook in a stretch, in seconds in which a reconciler could do its work.

    `seconds` from the first refusal where nobody touches the reconcilers; else `disturbed_seconds` from the end of the
    last disturbance: another one has to lead, or to start, and to find out anew. One of the two must hold.
    """

    seconds: float
    disturbed_seconds: float

    def __str__(self) -> str:
        """Return it with its sums."""
        return (
            f"{self.seconds:.1f} s (lossTolerance {LOSS_TOLERANCE_SECONDS:g} + period {PERIOD_SECONDS:g} + 2 calls of "
            f"{WEBHOOK_TIMEOUT_SECONDS} + a lost answer {REQUEST_TIMEOUT_SECONDS:g} + slack {SLACK_SECONDS:g}), "
            f"or {self.disturbed_seconds:.1f} s from the end of a disturbance (start {START_SECONDS:g} + lease "
            f"{LEASE_SECONDS:g} + 2 retries of {RETRY_SECONDS:g} + 2 calls of {WEBHOOK_TIMEOUT_SECONDS} + a lost "
            f"answer {REQUEST_TIMEOUT_SECONDS:g} + slack {SLACK_SECONDS:g})"
        )


def bound() -> Bound:
    """Return the bound that follows from these settings."""
    # A proof makes two calls, the pod with the skip label and the one without, and a webhook that hangs takes its time.
    calls = 2.0 * WEBHOOK_TIMEOUT_SECONDS
    after = REQUEST_TIMEOUT_SECONDS + SLACK_SECONDS
    undisturbed = LOSS_TOLERANCE_SECONDS + PERIOD_SECONDS + calls + after
    # Who begins to lead does not know how long the loss lasts already: it lowers at the first sign, or for want of one.
    takeover = START_SECONDS + LEASE_SECONDS + 2 * RETRY_SECONDS
    return Bound(undisturbed, takeover + max(calls, LOSS_TOLERANCE_SECONDS) + after)


def settings(url: str) -> str:
    """Return the ReconcilerConfiguration: everything by default but for the clocks."""
    more: dict[str, Any] = {
        "registration": {"failurePolicy": "Adaptive", "timeoutSeconds": WEBHOOK_TIMEOUT_SECONDS},
        "proof": {"period": f"{PERIOD_SECONDS:g}s"},
        "adaptive": {
            "proofs": 2,
            "soak": "1s",
            "longestSoak": "8s",
            "lossTolerance": f"{LOSS_TOLERANCE_SECONDS:g}s",
            "floor": "1s",
            "calm": "20s",
        },
        # Wars are waged here to be won: how rarely one is fought later on is another test's question.
        "conflicts": {"repeats": 1000, "initial": "1s", "maximum": "2s", "memory": "3s"},
        "leaderElection": {
            "leaseDuration": f"{LEASE_SECONDS:g}s",
            "renewDeadline": "2s",
            "retryPeriod": f"{1000 * RETRY_SECONDS:.0f}ms",
        },
        "resyncPeriod": "10s",
        "requestTimeout": f"{REQUEST_TIMEOUT_SECONDS:g}s",
        "backoff": {"maximum": "1s"},
    }
    return settings_for(url, propagation="1s", overlap="2s", **more)
