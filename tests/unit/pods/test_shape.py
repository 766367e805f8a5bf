"""Pages of pods: only what is looked at is read, and what has another shape is told and hides nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.pods import shape

GOOD = {"metadata": {"name": "good", "namespace": "a"}, "spec": {"containers": [{"name": "c"}]}}


def page(*items: object, following: str = "") -> bytes:
    return json.dumps({"metadata": {"continue": following}, "items": items}).encode()


def test_only_the_fields_that_are_looked_at_are_kept() -> None:
    context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "a"}, "runAsUser": 1}
    one = {
        "metadata": {
            "name": "p",
            "namespace": "n",
            "uid": "u",
            "labels": {"a": "b"},
            "annotations": None,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u", "controller": True}],
        },
        "spec": {
            "nodeName": "x",
            "securityContext": context,
            "containers": [{"name": "c", "image": "i", "securityContext": {**context, "privileged": True}}],
            "initContainers": [{"name": "i", "restartPolicy": "Always"}],
        },
        "status": {"phase": "Running"},
    }
    found = shape.page_of(page(one, following="x"))
    profile = {"seccompProfile": {"type": "Localhost", "localhostProfile": "a"}}
    assert (found.following, found.unreadable) == ("x", ())
    assert found.pods == [
        {
            "metadata": {
                "name": "p",
                "namespace": "n",
                "labels": {"a": "b"},
                "annotations": None,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "Job", "name": "j", "controller": True}],
            },
            "spec": {
                "securityContext": profile,
                "containers": [{"name": "c", "securityContext": {**profile, "privileged": True}}],
                "initContainers": [{"name": "i", "restartPolicy": "Always"}],
            },
        }
    ]
    assert shape.page_of(b'{"metadata": {}, "items": null}') == shape.Page([], (), "")


def bad(*, spec: object = None, **metadata: object) -> dict[str, Any]:
    return {"metadata": {"name": "bad", "namespace": "a", **metadata}, "spec": spec}


WRONG: dict[str, tuple[Any, str]] = {
    "pod": (5, "item 0: Expected `object`, got `int`"),
    "no-metadata": ({}, "item 0: Object missing required field `metadata`"),
    "no-name": ({"metadata": {"namespace": "a"}}, "a/: Object missing required field `name` - at `$.metadata`"),
    "spec": (bad(spec=5), "a/bad: Expected `object | null`, got `int` - at `$.spec`"),
    "containers": (bad(spec={"containers": 5}), "a/bad: Expected `array | null`, got `int` - at `$.spec.containers`"),
    "container": (
        bad(spec={"containers": [None]}),
        "a/bad: Expected `object`, got `null` - at `$.spec.containers[0]`",
    ),
    "labels": (bad(labels=[]), "a/bad: Expected `object | null`, got `array` - at `$.metadata.labels`"),
    "label": (bad(labels={"a": 1}), "a/bad: Expected `str`, got `int` - at `$.metadata.labels[...]`"),
    "annotations": (
        bad(annotations="x"),
        "a/bad: Expected `object | null`, got `str` - at `$.metadata.annotations`",
    ),
    "owners": (
        bad(ownerReferences=[3]),
        "a/bad: Expected `object`, got `int` - at `$.metadata.ownerReferences[0]`",
    ),
    "privileged": (
        bad(spec={"containers": [{"name": "c", "securityContext": {"privileged": "yes"}}]}),
        "a/bad: Expected `bool | null`, got `str` - at `$.spec.containers[0].securityContext.privileged`",
    ),
    "surrogate": (
        bad(labels={"a": "\ud800"}),
        "a/bad: half of a surrogate pair, which is no character",
    ),
    "surrogate-name": (bad(name="\ud800"), "a/\\ud800: half of a surrogate pair, which is no character"),
}


@pytest.mark.parametrize(("wrong", "told"), WRONG.values(), ids=WRONG)
def test_a_pod_of_another_shape_is_told_and_hides_no_other(wrong: Any, told: str) -> None:  # noqa: ANN401 - JSON
    found = shape.page_of(page(wrong, GOOD, following="x"))
    assert found.pods == [GOOD]
    assert found.following == "x"
    (said,) = found.unreadable
    assert said.startswith(told)
    assert said.isprintable()


@pytest.mark.parametrize("levels", [900, 9_995, 200_000])
def test_a_pod_nested_as_deeply_as_can_be_is_read_beside_the_others(levels: int) -> None:
    deep = b'{"f:x":' * levels + b"{}" + b"}" * levels
    one = b'{"metadata": {"name": "deep", "managedFields": [' + deep + b"]}}"
    found = shape.page_of(
        b'{"metadata": {"continue": "x"}, "items": [' + one + b", " + json.dumps(GOOD).encode() + b"]}"
    )
    assert found == shape.Page([{"metadata": {"name": "deep", "managedFields": [{}]}}, GOOD], (), "x")


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"5", b"{}", b'{"metadata": 5}', b'{"metadata": {}, "items": 5}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_list_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        shape.page_of(text)


def test_the_first_of_many_unreadable_pods_are_named() -> None:
    assert shape.unreadable(["a: x"]) == "1 pods cannot be judged: a: x"
    assert shape.unreadable([*"abcde"]) == "5 pods cannot be judged: a; b; c; and 2 more"
