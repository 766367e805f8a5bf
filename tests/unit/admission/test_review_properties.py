"""Whatever the pod holds: one path changes at most, everything else survives, and a second look changes nothing."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from reconciler.admission import review as admission
from reconciler.admission.review import MalformedReviewError, Reason, Rules, UntypedProfile
from tests.unit.admission.reviews import patch, review

TEXT = st.text(max_size=12)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=12,
)
EXTRA = st.dictionaries(TEXT.map(lambda name: f"x-{name}"), VALUES, max_size=3)


def with_extra(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with any of the known fields, beside others that nobody knows."""
    return st.builds(lambda extra, found: {**extra, **found}, EXTRA, st.fixed_dictionaries({}, optional=known))


TYPES = st.one_of(st.none(), st.sampled_from(["", "RuntimeDefault", "Unconfined", "Localhost"]), TEXT)
PROFILES = st.one_of(st.none(), with_extra({"type": TYPES, "localhostProfile": st.one_of(st.none(), TEXT)}))
CONTEXTS = st.one_of(st.none(), with_extra({"seccompProfile": PROFILES, "runAsUser": VALUES}))
SYSTEMS = st.one_of(st.none(), with_extra({"name": st.one_of(st.none(), st.sampled_from(["linux", "windows"]))}))
SPECS = with_extra({"securityContext": CONTEXTS, "os": SYSTEMS, "containers": VALUES})
LABELS = st.one_of(st.none(), st.dictionaries(st.one_of(TEXT, st.just(admission.SKIP_LABEL)), TEXT, max_size=3))
METADATA = st.one_of(st.none(), with_extra({"labels": LABELS, "annotations": st.dictionaries(TEXT, TEXT, max_size=3)}))
PODS = st.builds(lambda extra, spec, metadata: {**extra, "spec": spec, "metadata": metadata}, EXTRA, SPECS, METADATA)
RULES = st.sampled_from([Rules(), Rules(untyped_profile=UntypedProfile.OVERRIDE)])


@given(PODS, RULES)
def test_one_path_changes_everything_else_survives_and_once_is_enough(pod: dict[str, Any], rules: Rules) -> None:
    answer = admission.answer(review(pod), rules)
    operations = patch(answer.body)
    assert (answer.reason is Reason.DEFAULTED) == (len(operations) == 1)
    mutated = jsonpatch.apply_patch(copy.deepcopy(pod), operations)
    if operations:
        profile = mutated["spec"]["securityContext"]["seccompProfile"]
        assert profile["type"] == "RuntimeDefault"
        # Taken out again, what is left is what was there.
        assert without_profile(mutated) == without_profile(pod)
        assert set(profile) == {"type"} | set((profile_of(pod) or {}) if not overridden(pod) else ())
    else:
        assert mutated == pod
    again = admission.answer(review(mutated), rules)
    assert patch(again.body) == []


def profile_of(pod: dict[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (pod["spec"].get("securityContext") or {}).get("seccompProfile")
    return found


def overridden(pod: dict[str, Any]) -> bool:
    return (profile_of(pod) or {}).get("localhostProfile") is not None


def without_profile(pod: dict[str, Any]) -> dict[str, Any]:
    context = dict(pod["spec"].get("securityContext") or {})
    context.pop("seccompProfile", None)
    return {**pod, "spec": {**pod["spec"], "securityContext": context}}


@given(st.binary(max_size=400))
def test_any_bytes_yield_an_answer_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(MalformedReviewError):
        admission.answer(body, Rules())


@given(VALUES, st.sampled_from(["request", "request.object", "request.object.spec", "request.object.metadata"]))
def test_any_json_anywhere_yields_an_answer_or_a_refusal(value: object, path: str) -> None:
    document = json.loads(review({"spec": {}, "metadata": {}}))
    inner = document
    *parents, last = path.split(".")
    for name in parents:
        inner = inner[name]
    inner[last] = value
    with contextlib.suppress(MalformedReviewError):
        patch(admission.answer(json.dumps(document).encode(), Rules()).body)
