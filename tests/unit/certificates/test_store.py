"""What stands in the two Secrets: there and back unchanged, and whatever is unreadable counts as missing."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.certificates import store
from reconciler.certificates.authority import Pair, issue_authority, issue_serving
from reconciler.certificates.rotation import (
    Action,
    Authorities,
    Facts,
    Phase,
    Policy,
    Serving,
    Standing,
    Step,
    advance,
)
from reconciler.registration.identity import is_ours

NOW = 1_800_000_000.0
SINCE = "2027-01-15T08:00:00Z"
FIRST, SECOND = (issue_authority(now=NOW + age, lifetime_seconds=86400) for age in (0, 1))
LEAF = issue_serving(FIRST, names=["a.garden.svc"], now=NOW, lifetime_seconds=3600)

STABLE = Authorities(FIRST.certificate, FIRST.key, NOW)
TRUSTING = Authorities(FIRST.certificate, FIRST.key, NOW, next=SECOND)
SERVING = Authorities(SECOND.certificate, SECOND.key, NOW, retiring=FIRST.certificate)
POLICY = Policy(("a.garden.svc",), 86400, 3600, 600, 60)
BEGUN_ANEW = Authorities(FIRST.certificate + SECOND.certificate, b"", NOW, next=SECOND, retiring=FIRST.certificate)
SERVED = Serving(LEAF.certificate, LEAF.key, FIRST.certificate)


def authority_secret(held: Authorities = TRUSTING) -> dict[str, Any]:
    return dict(store.authority_secret("ca", "garden", held))


def serving_secret(serving: Serving = SERVED) -> dict[str, Any]:
    return dict(store.serving_secret("tls", "garden", serving))


def damaged(secret: dict[str, Any], **data: object) -> dict[str, Any]:
    """Return `secret` with other texts in its data; None removes one."""
    changed = {**secret["data"], **{key.replace("_", "."): value for key, value in data.items()}}
    return {**secret, "data": {key: value for key, value in changed.items() if value is not None}}


@pytest.mark.parametrize(
    ("held", "phase", "keys"),
    [
        (STABLE, Phase.STABLE, {"ca.crt", "ca.key"}),
        (TRUSTING, Phase.TRUSTING, {"ca.crt", "ca.key", "next.crt", "next.key"}),
        (SERVING, Phase.SERVING, {"ca.crt", "ca.key", "retiring.crt"}),
        (BEGUN_ANEW, Phase.TRUSTING, {"ca.crt", "next.crt", "next.key", "retiring.crt"}),
    ],
    ids=["stable", "trusting", "serving", "begun-anew"],
)
def test_every_phase_survives_its_secret(held: Authorities, phase: Phase, keys: set[str]) -> None:
    secret = authority_secret(held)
    assert store.authorities_of(secret) == held
    assert set(secret["data"]) == keys
    assert secret["metadata"]["annotations"] == {store.PHASE_ANNOTATION: phase.value, store.SINCE_ANNOTATION: SINCE}


KEYS = st.binary(min_size=1, max_size=40)
CERTIFICATES = st.sampled_from([FIRST.certificate, SECOND.certificate, FIRST.certificate + SECOND.certificate])
PAIRS = st.builds(Pair, st.binary(min_size=1, max_size=40) | CERTIFICATES, KEYS | st.just(b""))
HELD = st.builds(
    Authorities, CERTIFICATES, KEYS | st.just(b""), st.integers(0, 250_000_000_000).map(float), st.none() | PAIRS,
    CERTIFICATES | st.just(b""), st.booleans(),
)  # fmt: skip


@given(HELD)
def test_whatever_is_held_survives_its_secret(held: Authorities) -> None:
    assert store.authorities_of(authority_secret(held)) == held


@given(st.builds(Serving, *[st.binary(max_size=60)] * 3))
def test_whatever_is_served_survives_its_secret(serving: Serving) -> None:
    assert store.serving_of(serving_secret(serving)) == serving


def test_times_are_kept_by_the_second() -> None:
    held = Authorities(FIRST.certificate, FIRST.key, NOW + 0.75)
    assert store.authorities_of(authority_secret(held)) == STABLE


def test_a_wish_is_kept_until_it_is_taken_up() -> None:
    held = STABLE
    wished = authority_secret(Authorities(held.signer, held.key, held.since, requested=True))
    assert wished["metadata"]["annotations"][store.REQUEST_ANNOTATION] == "true"
    assert store.REQUEST_ANNOTATION not in authority_secret()["metadata"]["annotations"]
    found = store.authorities_of(wished)
    assert found is not None
    assert found.requested


def test_a_wish_may_be_written_by_hand() -> None:
    secret = authority_secret(STABLE)
    secret["metadata"]["annotations"][store.REQUEST_ANNOTATION] = ""
    found = store.authorities_of(secret)
    assert found is not None
    assert found.requested


@pytest.mark.parametrize(
    "secret",
    [
        None,
        {"metadata": {}},
        {"metadata": {}, "data": None},
        {"metadata": {}, "data": {}},
        damaged(authority_secret(), ca_crt=None),
        damaged(authority_secret(), ca_crt=""),
        damaged(authority_secret(), ca_crt="%%%"),
        damaged(authority_secret(), ca_crt="A"),
        damaged(authority_secret(), ca_crt=base64.b64encode(b"garbage").decode()),
        damaged(authority_secret(), ca_crt=base64.b64encode(FIRST.certificate[:-40]).decode()),
    ],
    ids=["absent", "no-data", "null-data", "empty", "gone", "nothing", "no-base64", "half-base64", "garbage", "cut"],
)
def test_without_a_certificate_there_is_no_authority(secret: dict[str, Any] | None) -> None:
    assert store.authorities_of(secret) is None


@pytest.mark.parametrize("value", [None, "", "%%%", "A"], ids=["gone", "empty", "no-base64", "half-base64"])
def test_a_key_that_is_unreadable_is_missing(value: str | None) -> None:
    found = store.authorities_of(damaged(authority_secret(), ca_key=value))
    assert found == Authorities(FIRST.certificate, b"", NOW, next=SECOND)


@pytest.mark.parametrize(
    ("data", "coming"),
    [
        ({"next_crt": None}, Pair(b"", SECOND.key)),
        ({"next_key": "%%%"}, Pair(SECOND.certificate, b"")),
        ({"next_crt": "%%%", "next_key": None}, None),
    ],
    ids=["certificate", "key", "both"],
)
def test_half_a_next_authority_is_seen_as_one_that_cannot_serve(data: dict[str, str | None], coming: Pair) -> None:
    found = store.authorities_of(damaged(authority_secret(), **data))
    assert found is not None
    assert found.next == coming


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {store.SINCE_ANNOTATION: ""},
        {store.SINCE_ANNOTATION: "yesterday"},
        {store.SINCE_ANNOTATION: "2027-13-01T00:00:00Z"},
        {store.SINCE_ANNOTATION: "1800000000"},
    ],
    ids=["null", "gone", "empty", "words", "month-13", "number"],
)
def test_a_time_that_is_unreadable_is_zero_and_the_phase_is_what_is_held(annotations: dict[str, str] | None) -> None:
    secret = authority_secret()
    secret["metadata"]["annotations"] = annotations
    found = store.authorities_of(secret)
    assert found == Authorities(FIRST.certificate, FIRST.key, 0.0, next=SECOND)
    assert found.phase is Phase.TRUSTING


@pytest.mark.parametrize("text", ["2027-01-15T08:00:00Z", "2027-01-15T08:00:00+00:00", "2027-01-15T09:00:00+01:00"])
def test_a_time_is_read_in_any_zone(text: str) -> None:
    secret = authority_secret(STABLE)
    secret["metadata"]["annotations"][store.SINCE_ANNOTATION] = text
    assert store.authorities_of(secret) == STABLE


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (None, Serving()),
        ({"metadata": {}}, Serving()),
        ({"metadata": {}, "data": None}, Serving()),
        (damaged(serving_secret(), tls_crt="%%%"), Serving(b"", LEAF.key, FIRST.certificate)),
        (damaged(serving_secret(), tls_key=None), Serving(LEAF.certificate, b"", FIRST.certificate)),
        (damaged(serving_secret(), ca_crt="A"), Serving(LEAF.certificate, LEAF.key, b"")),
    ],
    ids=["absent", "no-data", "null-data", "certificate", "key", "bundle"],
)
def test_what_the_serving_secret_lacks_is_empty(secret: dict[str, Any] | None, expected: Serving) -> None:
    assert store.serving_of(secret) == expected


@pytest.mark.parametrize("serving", [SERVED, Serving(bundle=b"x"), Serving()], ids=["all", "bundle", "nothing"])
def test_a_serving_secret_has_what_the_api_server_asks_of_its_type(serving: Serving) -> None:
    """Source: a Secret of type kubernetes.io/tls without tls.crt or tls.key is refused; they may be empty."""
    secret = serving_secret(serving)
    assert secret["type"] == "kubernetes.io/tls"
    assert {"tls.crt", "tls.key"} <= set(secret["data"])


@pytest.mark.parametrize("action", [Action.ISSUE_LEAF, Action.WRITE_BUNDLE])
@pytest.mark.parametrize(
    "held",
    [
        STABLE,
        TRUSTING,
        SERVING,
        Authorities(FIRST.certificate + FIRST.key, FIRST.key, NOW),
        Authorities(FIRST.certificate, FIRST.key, NOW, next=Pair(SECOND.key + SECOND.certificate, SECOND.key)),
        Authorities(SECOND.certificate, SECOND.key, NOW, retiring=FIRST.certificate + FIRST.key),
    ],
    ids=["stable", "trusting", "serving", "key-in-ca.crt", "key-in-next.crt", "key-in-retiring.crt"],
)
def test_no_key_of_an_authority_reaches_the_serving_secret(held: Authorities, action: Action) -> None:
    standing = advance(Step(action, ""), Standing(held, SERVED), Facts(NOW), POLICY)
    secret = serving_secret(standing.serving)
    contents = {key: base64.b64decode(text) for key, text in secret["data"].items()}
    assert set(contents) == {"tls.crt", "tls.key", "ca.crt"}
    assert contents["ca.crt"].startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert contents["ca.crt"].count(b"-----BEGIN ") == contents["ca.crt"].count(b"-----BEGIN CERTIFICATE-----\n")
    assert not {FIRST.key, SECOND.key} & set(contents.values())


@pytest.mark.parametrize("secret", [authority_secret(), serving_secret()], ids=["authority", "serving"])
def test_both_are_known_as_ours(secret: dict[str, Any]) -> None:
    assert is_ours(secret)
    assert (secret["apiVersion"], secret["kind"], secret["metadata"]["namespace"]) == ("v1", "Secret", "garden")


def test_a_secret_is_asked_for_without_a_version() -> None:
    """What a write is bound to is added by the connection, from what was observed."""
    assert set(authority_secret()["metadata"]) == {"name", "namespace", "labels", "annotations"}
