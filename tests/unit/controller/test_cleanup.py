"""When a Lease is abandoned, and which one is ours."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.controller.cleanup import _is_our_lease
from reconciler.controller.lease import Step, Terms, View

TERMS = Terms("cleanup", 15.0, 10.0)
SEEN = 1000.0


def lease(holder: object, seconds: int = 15, renewed: str = "2026-01-01T00:00:00.000000Z") -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": renewed}
    return {"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": spec}


@pytest.mark.parametrize(
    ("holder", "seconds", "after"),
    [("other", 15, 25.0), ("other", 40, 50.0), ("other", 5, 25.0), ("", 1, 10.0), (None, 15, 25.0)],
    ids=["held", "held-for-longer", "held-for-less-than-ours", "released", "unreadable"],
)
def test_it_is_abandoned_when_a_candidate_would_have_taken_it_over_and_did_not(
    holder: object, seconds: int, after: float
) -> None:
    """The candidate's own wait for the holder to end, and the longest time between two of its looks."""
    view = View(TERMS).saw(lease(holder, seconds), at=SEEN)
    assert view.abandoned_at == SEEN + after
    candidate = view.next_step(view.abandoned_at - TERMS.renew_deadline_seconds)[0]
    assert candidate is Step.TAKE_OVER


def test_the_same_seen_again_is_no_renewal_and_another_time_is_one() -> None:
    view = View(TERMS).saw(lease("other"), at=SEEN).saw(lease("other"), at=SEEN + 9)
    assert view.abandoned_at == SEEN + 25
    renewed = view.saw(lease("other", renewed="2020-01-01T00:00:00.000000Z"), at=SEEN + 9)
    assert renewed.abandoned_at == SEEN + 34, "whatever the clock of its writer says"


def test_who_was_held_for_long_and_is_released_is_waited_for_no_longer() -> None:
    view = View(TERMS).saw(lease("other", 3600), at=SEEN).saw(lease("", 1, "later"), at=SEEN + 1)
    assert view.abandoned_at == SEEN + 11


@pytest.mark.parametrize(
    ("labels", "managers", "is_ours"),
    [
        ({"app.kubernetes.io/managed-by": "seccomp-reconciler"}, [], True),
        ({"app.kubernetes.io/managed-by": "somebody"}, ["seccomp-reconciler"], False),
        ({}, ["seccomp-reconciler", "kubectl"], True),
        ({}, ["gardenlet"], False),
        ({}, [], False),
    ],
    ids=["labelled", "handed-over", "written-by-us", "written-by-others", "nobody-tells"],
)
def test_a_lease_is_ours_by_its_label_or_by_who_wrote_it(
    labels: dict[str, str], managers: list[str], *, is_ours: bool
) -> None:
    metadata = {"labels": labels, "managedFields": [{"manager": one, "operation": "Update"} for one in managers]}
    assert _is_our_lease({"metadata": metadata}) is is_ours
