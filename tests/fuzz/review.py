"""`python -m tests.fuzz.review SECONDS`: whatever bytes come, a refusal or an answer that changes one path at most."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
import re
import sys
from typing import Any

import atheris
import jsonpatch

from tests.fuzz.campaign import Campaign
from tests.unit.admission.reviews import pod, review

# It tells each module that it instruments, on standard error.
with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["reconciler.admission"]):
    from reconciler.admission import review as admission

Object = dict[str, Any]  # a Kubernetes object as JSON

_WITNESS = "abcd"
# Seeds hold it where the admission server must not repeat it: a message goes to the log.
_SECRET = "c2VjcmV0"  # noqa: S105 - an example
_MOST_MESSAGE_CHARACTERS = 200
# msgspec reads some 990 levels; json, its encoder and a comparison fewer, each in its own way.
_MOST_NESTED = 400
_RULES = (admission.Rules(), admission.Rules(untyped_profile=admission.UntypedProfile.OVERRIDE))
_PATHS: dict[str, object] = {
    "/spec/securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    "/spec/securityContext/seccompProfile": {"type": "RuntimeDefault"},
    "/spec/securityContext/seccompProfile/type": "RuntimeDefault",
}


def check(body: bytes) -> None:
    """Raise where `body` gets an answer, or a refusal, that it must not get. Only MalformedReviewError is a refusal."""
    for rules in _RULES:
        try:
            answer = admission.answer(body, rules, witness=_WITNESS)
        except admission.MalformedReviewError as error:
            message = str(error)
            assert 0 < len(message) < _MOST_MESSAGE_CHARACTERS, message
            assert _SECRET not in message, message
            continue
        patch = _patch(answer)
        if _nesting(body) <= _MOST_NESTED:
            _compare(body, rules, answer, patch)


def _patch(answer: admission.Answer) -> list[Object]:
    """Return the JSON patch, one of those that there may be, after a look at everything that surrounds it."""
    document = json.loads(answer.body, object_pairs_hook=_unique)
    assert set(document) == {"apiVersion", "kind", "response"}, document
    assert (document["apiVersion"] in admission.VERSIONS, document["kind"]) == (True, "AdmissionReview"), document
    response = document["response"]
    assert response["allowed"] is True, response
    known = {"uid", "allowed", "patchType", "patch", "auditAnnotations", "warnings"}
    assert set(response) <= known, response
    assert ("patch" in response) == ("patchType" in response), response
    assert response["auditAnnotations"].get("reason") == answer.reason.value, response
    for warning in response.get("warnings", []):
        assert re.fullmatch(r"seccomp-reconciler canary [0-9a-f]{16,64} [a-z-]+ abcd", warning), warning
    if "patch" not in response:
        assert answer.reason is not admission.Reason.DEFAULTED, response
        return []
    assert (answer.reason, response["patchType"]) == (admission.Reason.DEFAULTED, "JSONPatch"), response
    operations: list[Object] = json.loads(base64.b64decode(response["patch"], validate=True))
    (only,) = operations
    assert only == {"op": "add", "path": only["path"], "value": _PATHS[only["path"]]}, only
    return operations


def _compare(body: bytes, rules: admission.Rules, answer: admission.Answer, patch: list[Object]) -> None:
    """Raise where the answer does not fit the body as json reads it, or is another one the next time."""
    document, response = _read(body), json.loads(answer.body)
    request = document["request"]
    assert response["apiVersion"] == document["apiVersion"], response
    assert response["response"]["uid"] == request["uid"], response
    path = _missing(request, rules)
    assert [operation["path"] for operation in patch] == ([] if path is None else [path]), (answer, path)
    if path is None:
        return
    mutated = jsonpatch.apply_patch(request["object"], patch, in_place=True)
    assert mutated["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", mutated
    request["object"] = mutated
    again = admission.answer(_written(document), rules, witness=_WITNESS)
    assert (again.reason, _patch(again)) == (admission.Reason.ALREADY_TYPED, []), again
    # Taken out again, what is left is what was there.
    assert _without(mutated, path) == _without(_read(body)["request"]["object"], path), mutated


def _missing(request: Object, rules: admission.Rules) -> str | None:
    """Return the path that the profile has to be added at; None where the object has to stay as it is."""
    resource = request["resource"]
    named = (resource.get("group") or "", resource["version"], resource["resource"])
    if (request["operation"], named) != ("CREATE", ("", "v1", "pods")) or request.get("subResource"):
        return None
    metadata, spec = request["object"].get("metadata") or {}, request["object"]["spec"]
    context = spec.get("securityContext")
    profile = (context or {}).get("seccompProfile")
    if (
        (profile or {}).get("type")
        or rules.skip_label in (metadata.get("labels") or {})
        or (metadata.get("annotations") or {}).get("kubernetes.io/config.mirror") is not None
        or (spec.get("os") or {}).get("name") == "windows"
    ):
        return None
    outer, middle, inner = _PATHS
    if context is None:
        return outer
    if profile is None:
        return middle
    if profile.get("localhostProfile") is None:
        return inner
    return middle if rules.untyped_profile is admission.UntypedProfile.OVERRIDE else None


def _read(body: bytes) -> Object:
    """Return the document as msgspec reads it: of a repeated key the last counts, for both.

    What is skipped may be no UTF-8, and a number of any size: it is kept as it came, a number as text.
    """
    text = body.decode("utf-8", "surrogateescape")
    found: Object = json.loads(text, parse_int=str, parse_float=str)
    return found


def _written(document: Object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _nesting(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _without(document: Object, path: str) -> Object:
    """Return the document, whose value at `path` is taken out."""
    *parents, last = path.strip("/").split("/")
    inner = document
    for name in parents:
        inner = inner[name]
    inner.pop(last, None)
    return document


def _unique(pairs: list[tuple[str, object]]) -> Object:
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def _mutated(body: bytes, most_bytes: int, seed: int) -> bytes:
    """Return the body changed: mostly as the document that it is, for bytes at random seldom make another one.

    Half of these begin with a seed: libFuzzer keeps few, as so little code has few ways to go.
    """
    chance = random.Random(seed)  # noqa: S311 - nothing is kept secret by it
    if chance.random() < 2 / 3:
        before = chance.choice(_SEEDS) if chance.random() < 1 / 2 else body
        # No document, or a number of thousands of digits, which is too much for int.
        with contextlib.suppress(ValueError):
            document = json.loads(before) if _nesting(before) <= _MOST_NESTED else None
            for _ in range(chance.choice((1, 1, 2, 4, 8))):
                _replace(document, chance)
            if document is not None and len(found := json.dumps(document).encode()) <= most_bytes:
                return found
    mutated: bytes = atheris.Mutate(body, most_bytes)
    return mutated


def _replace(document: object, chance: random.Random) -> None:
    """Put another value, or one that stands elsewhere, at one place of the document; mostly one of the same type."""
    places: list[tuple[Any, Any]] = []
    rooms = [document]
    for room in rooms:
        inner = room.items() if isinstance(room, dict) else enumerate(room) if isinstance(room, list) else ()
        for key, value in inner:
            places.append((room, key))
            rooms.append(value)
    if not places:
        return
    room, key = chance.choice(places)
    if isinstance(room, dict) and chance.random() < 1 / 3:
        key = chance.choice(_NAMES)
    old = room.get(key) if isinstance(room, dict) else room[key]
    other, name = chance.choice(places)
    alike = [value for value in _VALUES if type(value) is type(old)]
    value = chance.choice((chance.choice(alike or _VALUES), chance.choice(alike or _VALUES), other[name], None))
    room[key] = json.loads(json.dumps(value))  # a copy: what holds itself cannot be written


_NONCE = "0123456789abcdef"
_NAMES = (
    *("apiVersion", "kind", "request", "uid", "operation", "resource", "subResource", "object", "group", "version"),
    *("spec", "metadata", "labels", "annotations", "os", "name", "securityContext", "seccompProfile", "type"),
    *("localhostProfile", admission.SKIP_LABEL, admission.CANARY_ANNOTATION, "kubernetes.io/config.mirror", _SECRET),
)
_VALUES: tuple[object, ...] = (
    *(None, True, 0, -1.5, 10**30, "", [], {}, "CREATE", "UPDATE", "pods", "v1", "windows", "linux", _NONCE, _SECRET),
    *("RuntimeDefault", "Unconfined", "Localhost", "AdmissionReview", *admission.VERSIONS, 'a"\\\n\u2028\U0001f600'),
    *({"type": ""}, {"type": None}, {"localhostProfile": "x"}, {"seccompProfile": {}}, {"name": "windows"}),
    *({admission.SKIP_LABEL: ""}, {"kubernetes.io/config.mirror": ""}, {admission.CANARY_ANNOTATION: _NONCE}),
)


def _seeds() -> list[bytes]:
    """Return reviews of every kind, and bodies that are none."""
    profiles: list[object] = [None, {}, {"type": ""}, {"type": "Unconfined"}, {"localhostProfile": "x"}, {"new": [1]}]
    pods = [
        pod(),
        pod(security_context={"runAsUser": 65532, "fsGroup": 1}),
        *[pod(security_context={"seccompProfile": profile}) for profile in profiles],
        pod(labels={admission.SKIP_LABEL: "true"}),
        pod(labels={"app": _SECRET, _SECRET: "a"}, annotations={_SECRET: _SECRET}),
        pod(os={"name": "windows"}),
        pod(annotations={"kubernetes.io/config.mirror": ""}),
        pod(annotations={admission.CANARY_ANNOTATION: _NONCE}, os={"name": "linux"}),
        pod(extra={"a": [1, 1e308, 10**30, None, {"b": "\u2028\U0001f600"}]}),
    ]
    plain = review(pod())
    typed, untyped = b'"securityContext":{"seccompProfile":{"type":"Unconfined"}}', b'"securityContext":{}'
    return [
        *map(review, pods),
        *[review(found, version="admission.k8s.io/v1beta1") for found in pods[:3]],
        review(pod(), operation="UPDATE"),
        review(None, operation="DELETE"),
        review({"kind": "PodExecOptions"}, operation="CONNECT", subResource="exec"),
        review({"spec": "odd"}, resource={"group": "apps", "version": "v1", "resource": "deployments"}),
        review(pod(), uid='a"b\\u0000\n\u2028ü'),
        review(_SECRET),
        *[plain.replace(b'"spec": {', b'"spec": {%b,%b,' % pair) for pair in ((typed, untyped), (untyped, typed))],
        plain.replace(b'"etcd:1"', b'"\xff"'),
        plain.replace(b'"etcd:1"', b'"\\ud800"'),
        plain.replace(b'"etcd:1"', b"[" * 1100 + b"]" * 1100),
        plain.replace(b'"etcd:1"', b"9" * 4400),
        plain[:-40],
        *[b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe{}", b'{"a":"\xff"}', b"\xef\xbb\xbf{}"],
    ]


def _words() -> list[bytes]:
    quoted = [json.dumps(word).encode() for word in (*_NAMES, *_VALUES) if word != {}]
    return [*quoted, b"{}", b'":', b"\\u0000", b"\\ud83d\\ude00", b"1e999", b"-0", b"NaN"]


_SEEDS = _seeds()

if __name__ == "__main__":
    about = "Fuzz what the admission server answers to a review: bytes in, a refusal or one patch at most out."
    sys.exit(Campaign("review", about, check, _SEEDS, _words(), 8192, _mutated).main())
