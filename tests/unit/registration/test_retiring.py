"""What retires, for how long, and what never does."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from reconciler.registration.identity import CA_BUNDLE_ANNOTATION, RETIRING_ANNOTATION
from reconciler.registration.retiring import Bundle, with_retiring

NOW = 1_800_000_000.0
OVERLAP = 600.0


def pem(name: str) -> bytes:
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n".encode()


A, B, C = pem("A"), pem("B"), pem("C")


def standing(bundle: Bundle, *, pem: bytes | None = None) -> dict[str, Any]:
    content = bundle.pem if pem is None else pem
    return {
        "metadata": {"annotations": bundle.annotations},
        "webhooks": [{"clientConfig": {"caBundle": base64.b64encode(content).decode()}}],
    }


def after(asked: bytes, observed: dict[str, Any] | None, now: float = NOW) -> Bundle:
    return with_retiring(asked, observed, now=now, overlap_seconds=OVERLAP)


def test_what_was_trusted_stays_for_the_overlap_and_no_longer() -> None:
    first = after(A, None)
    assert (first.pem, set(first.annotations)) == (A, {CA_BUNDLE_ANNOTATION})
    both = after(B, standing(first))
    assert both.pem == B + A
    assert both.annotations[RETIRING_ANNOTATION] == "2027-01-15T08:10:00Z"
    assert after(B, standing(both), NOW + OVERLAP - 1) == both
    last = after(B, standing(both), NOW + OVERLAP)
    assert (last.pem, set(last.annotations)) == (B, {CA_BUNDLE_ANNOTATION})


def test_another_change_meanwhile_begins_the_overlap_anew() -> None:
    both = after(B, standing(after(A, None)))
    three = after(C, standing(both), NOW + 300)
    assert three.pem == C + B + A
    assert after(C, standing(three), NOW + 300 + OVERLAP - 1).pem == C + B + A
    assert after(C, standing(three), NOW + 300 + OVERLAP).pem == C


def test_one_that_is_asked_for_again_retires_no_more() -> None:
    both = after(B, standing(after(A, None)))
    assert after(A, standing(both), NOW + 1).pem == A + B
    assert after(A + B, standing(both), NOW + 1).pem == A + B


@pytest.mark.parametrize(
    "observed",
    [
        None,
        {"metadata": {}},
        standing(Bundle(A)),  # we did not write this
        standing(after(B, None), pem=B + A),  # somebody added A
        standing(after(B, standing(after(A, None))), pem=B + C),  # somebody replaced what retires
        {"metadata": {"annotations": {}}, "webhooks": [{"clientConfig": {"caBundle": "%%%"}}]},
        {"metadata": {"annotations": None}, "webhooks": [{}]},
    ],
    ids=["absent", "empty", "not-ours", "added", "replaced", "garbage", "no-config"],
)
def test_what_others_put_there_is_not_kept(observed: dict[str, Any] | None) -> None:
    assert after(B, observed).pem == B


@pytest.mark.parametrize("until", ["", "soon", "2999-01-01T00:00:00Z"])
def test_an_unreadable_or_wild_time_begins_the_overlap_anew(until: str) -> None:
    both = after(B, standing(after(A, None)))
    both.annotations[RETIRING_ANNOTATION] = until
    assert after(B, standing(both)).annotations[RETIRING_ANNOTATION] == "2027-01-15T08:10:00Z"
