"""The profile that each container runs with, and which field decides it: a table of Kubernetes' precedence."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.pods import profile
from reconciler.pods.profile import ContainerProfile, Role, Source

DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
OFF = {"seccompProfile": {"type": "Unconfined"}}
LOCAL = {"seccompProfile": {"type": "Localhost", "localhostProfile": "audit.json"}}
PRIVILEGED = {"privileged": True}


def of_one(container: dict[str, Any] | None, pod: dict[str, Any] | None, **spec: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON
    said = {"name": "c", **({} if container is None else {"securityContext": container})}
    whole = {"containers": [said], **({} if pod is None else {"securityContext": pod}), **spec}
    (found,) = profile.of_pod({"metadata": {"name": "p"}, "spec": whole})
    return found.profile, found.source


@pytest.mark.parametrize(
    ("container", "pod", "expected"),
    [
        (None, None, ("Unconfined", Source.NOTHING)),
        ({}, {}, ("Unconfined", Source.NOTHING)),
        (None, DEFAULT, ("RuntimeDefault", Source.POD)),
        (DEFAULT, None, ("RuntimeDefault", Source.CONTAINER)),
        (OFF, DEFAULT, ("Unconfined", Source.CONTAINER)),
        (DEFAULT, OFF, ("RuntimeDefault", Source.CONTAINER)),
        (None, OFF, ("Unconfined", Source.POD)),
        (LOCAL, DEFAULT, ("Localhost/audit.json", Source.CONTAINER)),
        (None, LOCAL, ("Localhost/audit.json", Source.POD)),
        (PRIVILEGED, DEFAULT, ("Unconfined", Source.PRIVILEGED)),
        ({**PRIVILEGED, **DEFAULT}, None, ("Unconfined", Source.PRIVILEGED)),
        ({"privileged": False}, DEFAULT, ("RuntimeDefault", Source.POD)),
        ({"seccompProfile": None}, DEFAULT, ("RuntimeDefault", Source.POD)),
        ({"seccompProfile": {"type": ""}}, None, ("Unconfined", Source.NOTHING)),
    ],
)
def test_the_container_decides_before_the_pod_and_privileged_before_both(
    container: dict[str, Any] | None, pod: dict[str, Any] | None, expected: tuple[str, Source]
) -> None:
    assert of_one(container, pod) == expected


@pytest.mark.parametrize("context", [None, DEFAULT, PRIVILEGED])
def test_a_windows_pod_has_no_profile(context: dict[str, Any] | None) -> None:
    assert of_one(context, None, os={"name": "windows"}) == ("none", Source.WINDOWS)
    assert of_one(None, None, os={"name": "linux"}) == ("Unconfined", Source.NOTHING)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (None, ("RuntimeDefault", Source.KUBELET)),
        (OFF, ("Unconfined", Source.POD)),
        (LOCAL, ("Localhost/audit.json", Source.POD)),
    ],
)
def test_the_kubelet_default_counts_only_where_no_field_says_anything(
    context: dict[str, Any] | None, expected: tuple[str, Source]
) -> None:
    spec = {"containers": [{"name": "c"}], **({} if context is None else {"securityContext": context})}
    (found,) = profile.of_pod({"metadata": {}, "spec": spec}, kubelet_default=True)
    assert (found.profile, found.source) == expected


def test_every_container_is_told_with_its_role() -> None:
    spec = {
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "m"}],
        "ephemeralContainers": [{"name": "e", "securityContext": PRIVILEGED}],
        "securityContext": DEFAULT,
    }
    assert profile.of_pod({"spec": spec}) == (
        ContainerProfile("i", Role.INIT, "RuntimeDefault", Source.POD),
        ContainerProfile("s", Role.SIDECAR, "RuntimeDefault", Source.POD),
        ContainerProfile("m", Role.MAIN, "RuntimeDefault", Source.POD),
        ContainerProfile("e", Role.EPHEMERAL, "Unconfined", Source.PRIVILEGED),
    )


def test_a_legacy_annotation_decides_nothing_and_is_reported() -> None:
    annotations = {
        profile.LEGACY_POD_ANNOTATION: "runtime/default",
        f"{profile.LEGACY_CONTAINER_ANNOTATION}b": "unconfined",
    }
    spec = {"containers": [{"name": "a"}, {"name": "b", "securityContext": DEFAULT}]}
    assert profile.of_pod({"metadata": {"annotations": annotations}, "spec": spec}) == (
        ContainerProfile("a", Role.MAIN, "Unconfined", Source.NOTHING, "runtime/default"),
        ContainerProfile("b", Role.MAIN, "RuntimeDefault", Source.CONTAINER, "unconfined"),
    )
