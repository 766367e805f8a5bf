"""What `explain` predicts is what the real API server returns, with the real server behind the webhook."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from reconciler.cli.explain import explained
from reconciler.pods import profile
from reconciler.pods.explain import Result
from reconciler.settings import parse
from tests.cluster.answered import Answered, answered
from tests.cluster.patience import until
from tests.controlplane.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.field import Field

# 300 in each run of the tests; EXPLAINED_PODS=2000 for the whole claim.
PODS = int(os.environ.get("EXPLAINED_PODS", "300"))
MERGE = "application/merge-patch+json"
ROLE = "gardener.cloud/role"
NAMESPACES: dict[str, dict[str, str]] = {
    "explain-shoot": {ROLE: "shoot"},
    "explain-extension": {ROLE: "extension", "other": "label"},
    "explain-empty-role": {ROLE: ""},
    "explain-excluded": {ROLE: "shoot"},
    "explain-plain": {},
    "explain-near": {"gardener.cloud/roles": "shoot"},
    "kube-system": {ROLE: "kube-system"},
}
REGISTRATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "other-selectors": {
        "skipTypedPods": False,
        "namespaceSelector": {
            "matchExpressions": [{"key": ROLE, "operator": "In", "values": ["shoot", "seccomp-canary"]}]
        },
        "excludedNamespaces": ["explain-excluded"],
    },
}


@pytest.fixture(params=REGISTRATIONS)
def path(field: Field, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    """A registration that is answered, and that the API server knows."""
    for name, labels in NAMESPACES.items():
        field.plane.ensure_namespace(name)
        field.other.request("PATCH", f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}}, MERGE)
    with answered(field, tmp_path_factory.mktemp("explain")) as found:
        found.registered(**REGISTRATIONS[request.param])
        until(lambda: created(found, "explain-shoot", {"spec": {"containers": [{"name": "c", "image": "c"}]}}) != {})
        yield found


def created(path: Answered, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Return the seccomp profile that a dry-run comes back with, empty where there is none."""
    context = dry_run(path, namespace, pod)["spec"].get("securityContext") or {}
    found: dict[str, Any] = context.get("seccompProfile") or {}
    return found


def dry_run(path: Answered, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    manifest = {**pod, "metadata": {"name": "explained", **pod.get("metadata", {})}}
    answer: dict[str, Any] = path.field.other.request(
        "POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", manifest
    )
    return answer


types = st.sampled_from(["RuntimeDefault", "Unconfined", "Localhost", "", None, "Nonsense"])
profiles = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["RuntimeDefault", "Unconfined"])}),
    st.just({"type": "Localhost", "localhostProfile": "a/b.json"}),
    st.fixed_dictionaries(
        {}, optional={"type": types, "localhostProfile": st.sampled_from(["a.json", "", "/a", "../a"])}
    ),
)
contexts = st.one_of(
    st.none(),
    st.fixed_dictionaries({}, optional={"seccompProfile": st.one_of(st.none(), profiles)}),
    st.fixed_dictionaries({"runAsUser": st.just(1000)}),
)
container_contexts = st.one_of(
    st.none(), st.fixed_dictionaries({}, optional={"privileged": st.booleans(), "seccompProfile": profiles})
)
values = st.sampled_from(["runtime/default", "docker/default", "unconfined", "localhost/a/b.json", ""])
no_pairs: dict[str, str] = {}
annotated: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just(no_pairs),
    st.fixed_dictionaries(
        {},
        optional={
            profile.LEGACY_POD_ANNOTATION: values,
            f"{profile.LEGACY_CONTAINER_ANNOTATION}main": values,
            "kubernetes.io/config.mirror": st.just("x"),
            "unrelated": st.just("y"),
        },
    ),
)
labelled: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just(no_pairs),
    st.fixed_dictionaries(
        {},
        optional={
            "seccompprofile.resources.gardener.cloud/skip": st.sampled_from(["", "true", "false"]),
            "app": st.sampled_from(["seccomp-reconciler", "gardener-resource-manager", "other"]),
            "static-pod": st.sampled_from(["true", "false"]),
        },
    ),
)


words = st.from_regex(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,6}[A-Za-z0-9])?", fullmatch=True)
roles = st.sampled_from(["shoot", "extension", "garden", "seed", ""])
namespace_labels: st.SearchStrategy[dict[str, str]] = st.builds(
    lambda by_role, others: {**others, **by_role},
    st.fixed_dictionaries({}, optional={ROLE: st.one_of(roles, roles, words)}),
    st.dictionaries(
        st.one_of(st.just("gardener.cloud/roles"), words, words.map("a.example/{}".format)), words, max_size=3
    ),
)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """Return a pod that is valid but for what it says about seccomp."""
    spec: dict[str, Any] = {"containers": [container(draw, "main")]}
    if draw(st.booleans()):
        spec["initContainers"] = [
            {**container(draw, "first"), **draw(st.sampled_from([{}, {"restartPolicy": "Always"}]))}
        ]
    if (context := draw(contexts)) is not None:
        spec["securityContext"] = context
    metadata = {"annotations": draw(annotated), "labels": draw(labelled)}
    if "kubernetes.io/config.mirror" in metadata["annotations"]:
        spec["nodeName"] = "node"
    elif draw(st.integers(0, 7)) == 0:
        spec["os"] = {"name": draw(st.sampled_from(["windows", "linux"]))}
        for one in (spec, *spec["containers"], *spec.get("initContainers", ())):
            for other in ("privileged", "runAsUser"):  # refused for other reasons
                (one.get("securityContext") or {}).pop(other, None)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def container(draw: st.DrawFn, name: str) -> dict[str, Any]:
    context = draw(container_contexts)
    return {"name": name, "image": "c:1", **({} if context is None else {"securityContext": context})}


def test_the_api_server_answers_what_explain_predicts(path: Answered) -> None:
    chosen = parse(path.settings.read_bytes(), origin="settings")
    seen: dict[Result, int] = dict.fromkeys(Result, 0)
    generated: dict[tuple[tuple[str, str], ...], str] = {}

    def named_namespace(labels: dict[str, str]) -> str:
        """Return the namespace with these labels: made anew, since the API server learns a change of labels late."""
        key = tuple(sorted(labels.items()))
        if key not in generated:
            generated[key] = f"explain-{path.settings.parent.name.lower()}-{len(generated)}"
            path.field.plane.ensure_namespace(generated[key], labels)
        return generated[key]

    @settings(max_examples=PODS // len(REGISTRATIONS), suppress_health_check=list(HealthCheck))
    @given(pod=pods(), where=st.one_of(st.sampled_from(list(NAMESPACES)), namespace_labels))
    def agrees(pod: dict[str, Any], where: str | dict[str, str]) -> None:
        namespace = where if isinstance(where, str) else named_namespace(where)
        labels = NAMESPACES[where] if isinstance(where, str) else where
        named = {**pod, "metadata": {"name": "explained", "namespace": namespace, **pod["metadata"]}}
        given_namespace = {"kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
        (predicted,) = explained([given_namespace, named], chosen)
        seen[predicted.result] += 1
        note(predicted.sentence)
        if predicted.result is Result.REFUSED:
            with pytest.raises(ApiError, match="422"):
                dry_run(path, namespace, pod)
            return
        answer = dry_run(path, namespace, pod)
        context = answer["spec"].get("securityContext") or {}
        expected = (predicted.pod["spec"].get("securityContext") or {}).get("seccompProfile")
        assert context.get("seccompProfile") == expected
        assert profile.of_pod(answer) == predicted.containers

    agrees()
    print(f"{sum(seen.values())} pods in {len(generated) + len(NAMESPACES)} namespaces: {seen}")
    assert generated
    assert all(seen[result] for result in Result if result is not Result.UNPROTECTED and result is not Result.UNKNOWN)
