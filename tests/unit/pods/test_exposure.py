"""Which pod without a profile lies in a window, which one nothing explains, and which one is nobody's business."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.pods import exposure
from reconciler.pods.exposure import Cause, Exposed, Exposure
from reconciler.registration.desired import render
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import Registration
from reconciler.timestamps import utc

ENTRY = render(Registration(), ca_bundle=None)["webhooks"][0]
START = 1_800_000_000.0
SLACK_SECONDS = 2.0
SKIP = Registration().skip_label
FIRST = Window(START, START + 100, "first")
SECOND = Window(START + 200, START + 300, "second")
OPEN = Window(START + 400, None, "now")


def at_fail(*windows: Window, since: float = START - 1000) -> Memory:
    return Memory(State.FAIL, since, "proofs", windows=windows)


def pod(created: float = START + 50, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    about = {"name": "a", "namespace": "shoot--demo", "creationTimestamp": utc(created), **metadata}
    return {"metadata": about, "spec": {"containers": []} if spec is None else spec}


def found(manifest: dict[str, Any], memory: Memory) -> Exposure:
    one = exposure.of_pod(manifest, ENTRY, memory)
    return Exposure.NONE if one is None else one.exposure


def test_a_pod_in_a_window_is_told_with_its_reason() -> None:
    assert exposure.of_pod(pod(), ENTRY, at_fail(FIRST, SECOND)) == Exposed(
        "shoot--demo", "a", START + 50, Exposure.IN_WINDOW, "first"
    )


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (-1000, Exposure.NONE),
        (-SLACK_SECONDS - 1, Exposure.NONE),
        (-SLACK_SECONDS, Exposure.IN_WINDOW),
        (0, Exposure.IN_WINDOW),
        (100, Exposure.IN_WINDOW),
        (100 + SLACK_SECONDS, Exposure.IN_WINDOW),
        (100 + SLACK_SECONDS + 1, Exposure.UNEXPLAINED),
        (150, Exposure.UNEXPLAINED),
        (200, Exposure.IN_WINDOW),
        (350, Exposure.UNEXPLAINED),
        (400, Exposure.IN_WINDOW),
        (1_000_000, Exposure.IN_WINDOW),
    ],
)
def test_it_lies_in_a_window_between_windows_or_before_what_is_known(at: float, expected: Exposure) -> None:
    assert found(pod(START + at), at_fail(FIRST, SECOND, OPEN)) is expected


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (at_fail(since=START), Exposure.UNEXPLAINED),
        (at_fail(since=START + 48), Exposure.NONE),
        (at_fail(since=START + 1000), Exposure.NONE),
        (Memory(State.IGNORE, START, "registered, not proved yet"), Exposure.NONE),
    ],
    ids=["at-fail", "within-the-slack", "before-fail", "never-at-fail"],
)
def test_without_a_window_only_the_time_at_fail_counts(memory: Memory, expected: Exposure) -> None:
    assert found(pod(), memory) is expected


@pytest.mark.parametrize(
    "manifest",
    [
        pod(spec={"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}),
        pod(spec={"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
        pod(spec={"os": {"name": "windows"}}),
        pod(annotations={"kubernetes.io/config.mirror": "x"}),
        pod(labels={SKIP: ""}),
        pod(labels={"static-pod": "true"}),
        pod(labels={"app": "seccomp-reconciler"}),
        pod(creationTimestamp=None),
        pod(creationTimestamp="yesterday"),
    ],
    ids=["typed", "unconfined", "windows", "mirror", "skip", "static", "ours", "no-time", "bad-time"],
)
def test_who_has_a_type_or_is_left_out_is_no_bypass(manifest: dict[str, Any]) -> None:
    assert exposure.of_pod(manifest, ENTRY, at_fail(FIRST)) is None


@pytest.mark.parametrize(
    "manifest",
    [
        pod(spec={}),
        pod(spec={"securityContext": None}),
        pod(spec={"securityContext": {"seccompProfile": None}}),
        pod(spec={"securityContext": {"runAsUser": 1}, "os": {"name": "linux"}}),
        pod(labels=None, annotations=None),
        pod(labels={"app": "another", "static-pod": "false"}),
        {**pod(), "spec": None},
    ],
    ids=["bare", "null-context", "null-profile", "other-context", "null-labels", "other-labels", "null-spec"],
)
def test_everybody_else_without_a_type_is_one(manifest: dict[str, Any]) -> None:
    assert found(manifest, at_fail(FIRST)) is Exposure.IN_WINDOW


def test_a_pod_is_protected_where_every_container_names_a_profile() -> None:
    typed = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    every = {"containers": [{"name": "a", **typed}], "initContainers": [{"name": "b", **typed}]}
    assert exposure.of_pod(pod(spec=every), ENTRY, at_fail(FIRST)) is None
    but_one = {"containers": [{"name": "a", **typed}], "initContainers": [{"name": "b"}]}
    assert found(pod(spec=but_one), at_fail(FIRST)) is Exposure.IN_WINDOW


@pytest.mark.parametrize(
    ("at", "memory", "registered", "expected"),
    [
        (50, at_fail(FIRST), START - 500, Cause.IN_WINDOW),
        (150, at_fail(FIRST), START - 500, Cause.UNEXPLAINED),
        (-100, at_fail(FIRST), START - 500, Cause.BEFORE_FAIL),
        (-600, at_fail(FIRST), START - 500, Cause.OLDER),
        (50, Memory(State.IGNORE, START, "registered"), START, Cause.BEFORE_FAIL),
        (50, None, START, Cause.NOT_KNOWN),
        (-50, None, START, Cause.OLDER),
        (50, None, None, Cause.NOT_REGISTERED),
    ],
)
def test_why_an_unprotected_pod_has_no_profile(
    at: float, memory: Memory | None, registered: float | None, expected: Cause
) -> None:
    assert exposure.cause(pod(START + at), memory, registered)[0] is expected


def test_an_entry_without_a_selector_leaves_nobody_out() -> None:
    assert exposure.of_pod(pod(labels={SKIP: ""}), {}, at_fail(FIRST)) is not None


windows = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100)), max_size=5).map(
    lambda pairs: tuple(
        Window(START + start, START + start + length, "") for start, length in sorted(pairs, key=lambda pair: pair[0])
    )
)


@given(windows=windows, at=st.integers(-100, 700), opened=st.integers(0, 600) | st.none())
def test_nobody_is_overlooked_after_the_first_known_moment(
    windows: tuple[Window, ...], at: int, opened: int | None
) -> None:
    """In a window or unexplained, never nothing: a bypass is not silent."""
    if opened is not None:
        last = max((window.start for window in windows), default=START)
        windows = (*windows, Window(max(last, START + opened), None, ""))
    memory = at_fail(*windows, since=START)
    first = windows[0].start if windows else START
    verdict = found(pod(START + at), memory)
    if START + at > first + SLACK_SECONDS:
        assert verdict is not Exposure.NONE
    inside = any(one.start <= START + at <= (one.end or START + at) for one in windows)
    assert verdict is Exposure.IN_WINDOW or not inside
