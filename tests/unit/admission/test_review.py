"""What happens to a pod: every rule with its case, and every body that is none."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonpatch
import pytest

from reconciler.admission import review as admission
from reconciler.admission.review import MalformedReviewError, Reason, Rules, UntypedProfile
from tests.unit.admission.reviews import patch, pod, response, review

LEAVE = Rules()
OVERRIDE = Rules(untyped_profile=UntypedProfile.OVERRIDE)
SKIP = "seccompprofile.resources.gardener.cloud/skip"
LEGACY = "seccomp.security.alpha.kubernetes.io/pod"
CONTEXT = "/spec/securityContext"
PROFILE = f"{CONTEXT}/seccompProfile"
NONCE = "0123456789abcdef"


def answered(body: bytes, rules: Rules = LEAVE) -> tuple[Reason, list[dict[str, Any]]]:
    answer = admission.answer(body, rules)
    return answer.reason, patch(answer.body)


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        (pod(), CONTEXT, {"seccompProfile": {"type": "RuntimeDefault"}}),
        (pod(securityContext=None), CONTEXT, {"seccompProfile": {"type": "RuntimeDefault"}}),
        (pod(security_context={}), PROFILE, {"type": "RuntimeDefault"}),
        (pod(security_context={"runAsUser": 65532, "fsGroup": 1}), PROFILE, {"type": "RuntimeDefault"}),
        (pod(security_context={"seccompProfile": None}), PROFILE, {"type": "RuntimeDefault"}),
        (pod(security_context={"seccompProfile": {}}), f"{PROFILE}/type", "RuntimeDefault"),
        (pod(security_context={"seccompProfile": {"type": ""}}), f"{PROFILE}/type", "RuntimeDefault"),
        (pod(security_context={"seccompProfile": {"type": None}}), f"{PROFILE}/type", "RuntimeDefault"),
        (pod(security_context={"seccompProfile": {"new": [1]}}), f"{PROFILE}/type", "RuntimeDefault"),
        (pod(labels={"seccompprofile.resources.gardener.cloud/skip2": "x"}, security_context={}), PROFILE, None),
        (pod(os={"name": "linux"}, security_context={}), PROFILE, None),
        (pod(annotations={"kubernetes.io/config.source": "api"}, security_context={}), PROFILE, None),
    ],
    ids=str,
)
def test_one_operation_on_the_one_path_that_is_missing(given: dict[str, Any], path: str, value: object) -> None:
    reason, operations = answered(review(given))
    assert reason is Reason.DEFAULTED
    assert [(operation["op"], operation["path"]) for operation in operations] == [("add", path)]
    assert value is None or operations[0]["value"] == value
    mutated = jsonpatch.apply_patch(given, operations)
    assert mutated["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert answered(review(mutated)) == (Reason.ALREADY_TYPED, [])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *[
            (pod(security_context={"seccompProfile": profile}), Reason.ALREADY_TYPED)
            for profile in (
                {"type": "RuntimeDefault"},
                {"type": "Unconfined"},
                {"type": "Localhost", "localhostProfile": "x.json"},
                {"type": "NotInventedYet"},
            )
        ],
        (pod(labels={SKIP: "true"}), Reason.SKIP_LABEL),
        (pod(labels={SKIP: ""}), Reason.SKIP_LABEL),
        (pod(labels={SKIP: "false"}), Reason.SKIP_LABEL),
        (pod(os={"name": "windows"}), Reason.WINDOWS),
        (pod(annotations={"kubernetes.io/config.mirror": ""}), Reason.MIRROR_POD),
        *[
            (pod(annotations={LEGACY: value}, security_context=context), Reason.LEGACY_ANNOTATION)
            for value, context in (
                *[("unconfined", None), ("unconfined", {}), ("unconfined", {"runAsUser": 1})],
                *[("unconfined", {"seccompProfile": None}), ("unconfined", {"seccompProfile": {}})],
                *[("localhost/a.json", {}), ("localhost/", {}), ("RuntimeDefault", {}), ("Runtime/Default", {})],
                *[("runtime/default ", {}), ("docker/Default", {}), ("\x00", {}), ("null", {})],
            )
        ],
        (pod(security_context={"seccompProfile": {"localhostProfile": "x"}}), Reason.LOCALHOST_PROFILE),
        (pod(security_context={"seccompProfile": {"localhostProfile": ""}}), Reason.LOCALHOST_PROFILE),
    ],
    ids=str,
)
def test_such_a_pod_is_left_alone(given: dict[str, Any], reason: Reason) -> None:
    answer = admission.answer(review(given), LEAVE)
    assert (answer.reason, patch(answer.body)) == (reason, [])
    assert response(answer.body)["auditAnnotations"] == {"reason": reason.value}


@pytest.mark.parametrize(
    "annotations",
    [
        *[{LEGACY: value} for value in ("", "runtime/default", "docker/default", None)],
        # validation compares these with the container's own field
        *[{f"container.seccomp.security.alpha.kubernetes.io/{name}": "unconfined"} for name in ("c", "pod", "")],
        {"container.seccomp.security.alpha.kubernetes.io/c": "localhost/a", LEGACY: "docker/default"},
        *[{key: "unconfined"} for key in (f"{LEGACY}s", LEGACY.upper(), LEGACY.removesuffix("/pod"), "pod")],
    ],
    ids=str,
)
def test_an_annotation_that_agrees_with_the_profile_changes_nothing(annotations: dict[str, Any]) -> None:
    reason, _ = answered(review(pod(annotations=annotations)), LEAVE)
    assert reason is Reason.DEFAULTED


def test_override_replaces_an_untyped_profile_as_upstream_does() -> None:
    given = pod(security_context={"runAsUser": 1, "seccompProfile": {"localhostProfile": "x"}})
    reason, operations = answered(review(given), OVERRIDE)
    assert reason is Reason.DEFAULTED
    expected = {"runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}
    assert jsonpatch.apply_patch(given, operations)["spec"]["securityContext"] == expected


def test_another_skip_label_may_be_chosen() -> None:
    rules = Rules(skip_label="example.org/skip")
    assert answered(review(pod(labels={"example.org/skip": ""})), rules)[0] is Reason.SKIP_LABEL
    assert answered(review(pod(labels={SKIP: ""})), rules)[0] is Reason.DEFAULTED


@pytest.mark.parametrize("version", ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"])
def test_the_answer_is_in_the_version_that_was_asked(version: str) -> None:
    answer = admission.answer(review(pod(), version=version), LEAVE)
    assert json.loads(answer.body)["apiVersion"] == version
    assert patch(answer.body)


@pytest.mark.parametrize(
    "request_fields",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"operation": "CONNECT", "object": {"kind": "PodExecOptions"}},
        {"subResource": "ephemeralcontainers", "operation": "UPDATE"},
        {"subResource": "status"},
        {"resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "object": {"spec": "odd"}},
        {"resource": {"group": "metrics.k8s.io", "version": "v1", "resource": "pods"}},
        {"resource": {"version": "v2", "resource": "pods"}, "object": []},
    ],
    ids=str,
)
def test_what_is_no_pod_create_is_let_through(request_fields: dict[str, Any]) -> None:
    assert answered(review(pod(), **{"object": pod(), **request_fields})) == (Reason.NOT_A_POD_CREATE, [])


def test_the_audit_log_learns_what_was_done_and_why() -> None:
    found = response(admission.answer(review(pod()), LEAVE).body)
    assert found["auditAnnotations"] == {"profile": "RuntimeDefault", "reason": "defaulted"}
    assert "warnings" not in found


def test_only_the_canary_is_warned() -> None:
    def warnings(annotation: str, **fields: Any) -> list[str]:  # noqa: ANN401 - fields of a pod
        given = pod(annotations={admission.CANARY_ANNOTATION: annotation}, **fields)
        answer = admission.answer(review(given), LEAVE, witness="abcd")
        found: list[str] = response(answer.body).get("warnings", [])
        return found

    assert warnings(NONCE) == [f"seccomp-reconciler canary {NONCE} defaulted abcd"]
    assert warnings(NONCE, labels={SKIP: ""}) == [f"seccomp-reconciler canary {NONCE} skip-label abcd"]
    for other in ("", "0123", f"{NONCE}\n", f'{NONCE}"', NONCE.upper(), NONCE * 9, 'x","allowed":false'):
        assert warnings(other) == []


DEEP = b'{"apiVersion":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NO_JSON = [b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b"{}}", b"not json", b"\xff\xfe{}", b'{"a":"\xff"}', DEEP]


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:16]))
def test_what_is_no_review_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReviewError):
        admission.answer(body, LEAVE)


def changed(path: str, value: object) -> bytes:
    """Return a review with another value at the dotted path; `...` removes what is there."""
    document = json.loads(review(pod(security_context={"seccompProfile": {}}, labels={"a": "b"}, os={"name": "linux"})))
    *parents, last = path.split(".")
    inner = document
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(document).encode()


def each(path: str, *values: object) -> list[tuple[str, object]]:
    return [(path, value) for value in values]


OBJECT = "request.object"
WRONG: list[object] = ["text", 1, 1.5, True, [], [{}]]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *each("apiVersion", ..., None, 1, "v1", "admission.k8s.io/v2", ""),
        *each("kind", ..., None, 1, "Pod", "admissionreview"),
        *each("request", ..., None, *WRONG),
        *each("request.uid", ..., None, 1, "", "x" * 257),
        *each("request.operation", ..., None, 1),
        *each("request.resource", ..., None, *WRONG),
        *each("request.resource.resource", ..., None, 1),
        *each(OBJECT, ..., None, *WRONG, {}),
        *each(f"{OBJECT}.spec", ..., None, *WRONG),
        *each(f"{OBJECT}.spec.securityContext", *WRONG),
        *each(f"{OBJECT}.spec.securityContext.seccompProfile", *WRONG),
        *each(f"{OBJECT}.spec.securityContext.seccompProfile.type", 1, 1.5, [], {}),
        *each(f"{OBJECT}.spec.securityContext.seccompProfile.localhostProfile", 1, 1.5, [], {}),
        *each(f"{OBJECT}.spec.os", *WRONG),
        *each(f"{OBJECT}.spec.os.name", 1, []),
        *each(f"{OBJECT}.metadata", *WRONG),
        *each(f"{OBJECT}.metadata.labels", *WRONG, {"a": 1}, {"a": None}),
        *each(f"{OBJECT}.metadata.annotations", *WRONG),
    ],
    ids=str,
)
def test_a_missing_or_wrong_value_at_every_level_is_malformed(path: str, value: object) -> None:
    with pytest.raises(MalformedReviewError) as caught:
        admission.answer(changed(path, value), LEAVE)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[(f"{OBJECT}.spec.{name}", None) for name in ("securityContext", "os")],
        *each(f"{OBJECT}.metadata", ..., None, {}),
        *[(f"{OBJECT}.metadata.{name}", None) for name in ("labels", "annotations")],
        *[(name, "odd") for name in ("request.dryRun", "request.options", "request.oldObject", "request.userInfo")],
        *each(f"{OBJECT}.spec.containers", None, "odd", 10**400, 1e308),
        (f"{OBJECT}.spec.notInventedYet", {"a": [1, None, {"b": "c"}]}),
        ("request.resource.group", None),
    ],
    ids=str,
)
def test_what_does_not_decide_may_look_like_anything(path: str, value: object) -> None:
    assert answered(changed(path, value))[0] is Reason.DEFAULTED


def test_of_a_repeated_key_the_last_counts_as_for_the_api_server() -> None:
    typed = '"securityContext":{"seccompProfile":{"type":"Unconfined"}}'
    untyped = '"securityContext":{}'
    for first, last, reason in ((typed, untyped, Reason.DEFAULTED), (untyped, typed, Reason.ALREADY_TYPED)):
        body = review(pod()).replace(b'"spec": {', f'"spec": {{{first},{last},'.encode())
        assert answered(body)[0] is reason


def test_a_message_holds_no_value_of_the_body() -> None:
    secret = "c2VjcmV0"  # noqa: S105 - an example
    for path in (f"{OBJECT}.spec.securityContext", f"{OBJECT}.metadata.labels"):
        with pytest.raises(MalformedReviewError) as caught:
            admission.answer(changed(path, {secret: [secret]} if "labels" in path else secret), LEAVE)
        assert secret not in str(caught.value)


def test_seven_mebibytes_are_answered_and_nothing_is_quadratic() -> None:
    given = pod(annotations={f"a{number}": "x" * 1000 for number in range(6500)})
    body = review(given)
    assert 6 * 1024 * 1024 < len(body) < admission.MAX_REVIEW_BYTES
    began = time.monotonic()
    assert answered(body)[0] is Reason.DEFAULTED
    assert time.monotonic() - began < 30


def test_the_uid_is_repeated_as_it_came() -> None:
    uid = 'a"b\\u0000\n\u2028ü'
    answer = admission.answer(review(pod(), uid=uid), LEAVE)
    assert json.loads(answer.body)["response"]["uid"] == uid
