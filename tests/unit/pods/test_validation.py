"""What validation says about seccomp, in a table; tests/cluster/test_explain.py holds it against the API server."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.pods import profile
from reconciler.pods.validation import refusals


@pytest.mark.parametrize(
    ("said", "annotation", "words"),
    [
        (None, None, None),
        ({"type": "RuntimeDefault"}, None, None),
        ({"type": "RuntimeDefault"}, "runtime/default", None),
        ({"type": "RuntimeDefault"}, "unconfined", "both must match"),
        (None, "unconfined", None),
        (None, "", "is no seccomp profile"),
        (None, "localhost/../a", "is no seccomp profile"),
        ({"type": "Unconfined"}, "unconfined", None),
        ({"type": "Localhost", "localhostProfile": "a/b"}, "localhost/a/b", None),
        ({"type": "Localhost", "localhostProfile": "a/b"}, "localhost/a/c", "both must match"),
        ({"type": "Localhost"}, None, "localhostProfile: required"),
        ({"type": "Localhost", "localhostProfile": ""}, None, None),
        ({"type": "Localhost", "localhostProfile": "/a"}, None, "relative path"),
        ({"type": "Localhost", "localhostProfile": "a/../b"}, None, "relative path"),
        ({"type": "Unconfined", "localhostProfile": ""}, None, "only with type Localhost"),
        ({"localhostProfile": "a"}, None, "type: required"),
        ({}, None, "type: required"),
        ({"type": "Nonsense"}, None, "'Nonsense' is not supported"),
    ],
)
def test_what_is_refused_and_why(said: dict[str, Any] | None, annotation: str | None, words: str | None) -> None:
    annotations = {} if annotation is None else {profile.LEGACY_POD_ANNOTATION: annotation}
    context = {} if said is None else {"securityContext": {"seccompProfile": said}}
    found = refusals({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "c"}], **context}})
    assert (words is None) == (not found)
    assert words is None or words in found[0]
    of_container = refusals({"metadata": {}, "spec": {"containers": [{"name": "c", **context}]}})
    assert annotation is not None or [text.partition("securityContext")[2] for text in of_container] == [
        text.partition("securityContext")[2] for text in found
    ]


def test_windows_takes_no_profile() -> None:
    typed = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    windows = {"os": {"name": "windows"}, "containers": [{"name": "c"}]}
    assert not refusals({"spec": windows})
    assert "Windows" in refusals({"spec": {**windows, **typed}})[0]
    assert "Windows" in refusals({"spec": {**windows, "containers": [{"name": "c", **typed}]}})[0]
