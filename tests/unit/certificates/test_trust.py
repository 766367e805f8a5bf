"""Which names a server is called by, and what a registration trusts; the rest is shown on a real API server."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from reconciler.certificates.authority import issue_authority, issue_serving, read
from reconciler.controller import trust
from reconciler.settings import Backend, SelfSigned, ServiceBackend

NOW = 1_800_000_000.0
FIRST, SECOND = (issue_authority(now=NOW, lifetime_seconds=3600) for _ in range(2))
SERVICE = Backend(service=ServiceBackend(name="webhook", namespace="garden"))
SERVICE_NAMES = ("webhook.garden.svc", "webhook.garden.svc.cluster.local", "webhook.garden", "webhook")


@pytest.mark.parametrize(
    ("backend", "extra", "names"),
    [
        (SERVICE, (), SERVICE_NAMES),
        (SERVICE, ("webhook.example.org", "192.0.2.7"), (*SERVICE_NAMES, "webhook.example.org", "192.0.2.7")),
        (SERVICE, ("webhook", "b", "webhook.garden", "b"), (*SERVICE_NAMES, "b")),
        (Backend(url="https://webhook.example.org/path"), (), ("webhook.example.org",)),
        (Backend(url="https://Webhook.Example.org:8443/path"), (), ("webhook.example.org",)),
        (Backend(url="https://127.0.0.1:8443/path"), (), ("127.0.0.1",)),
        (Backend(url="https://[2001:DB8::7]:8443/path"), (), ("2001:db8::7",)),
        (Backend(url="https://a.example/"), ("a.example", "*.b.example"), ("a.example", "*.b.example")),
    ],
    ids=["service", "extra", "twice", "url", "case", "address", "address-6", "url-extra"],
)
def test_names_are_those_that_the_server_is_called_by(
    backend: Backend, extra: tuple[str, ...], names: tuple[str, ...]
) -> None:
    policy = trust.policy_of(SelfSigned(extra_names=extra), backend)
    assert policy.names == names
    authority = issue_authority(now=NOW, lifetime_seconds=3600)
    leaf = issue_serving(authority, names=policy.names, now=NOW, lifetime_seconds=3600)
    assert read(leaf.certificate)[0].names == set(names)


def test_durations_are_those_of_the_settings_but_for_another_overlap() -> None:
    setting = SelfSigned.model_validate(
        {"authorityLifetime": "300h", "servingLifetime": "30h", "overlap": "3h", "propagation": "30s"}
    )
    usual = trust.policy_of(setting, SERVICE)
    assert (usual.authority_lifetime_seconds, usual.serving_lifetime_seconds) == (300 * 3600, 30 * 3600)
    assert (usual.overlap, usual.propagation_seconds) == (3 * 3600, 30)
    assert trust.policy_of(setting, SERVICE, overlap_seconds=60).overlap == 60
    assert trust.policy_of(setting, SERVICE, overlap_seconds=0).overlap == 30


def test_the_secrets_are_those_of_the_settings() -> None:
    setting = SelfSigned(namespace="elsewhere", authority_secret="a", serving_secret="b")  # noqa: S106 - names
    assert [str(target) for target in trust.targets(setting)] == [
        "secrets/a in namespace elsewhere",
        "secrets/b in namespace elsewhere",
    ]


def entry(bundle: bytes | str | None) -> dict[str, Any]:
    text = base64.b64encode(bundle).decode() if isinstance(bundle, bytes) else bundle
    return {"clientConfig": {"caBundle": text}}


@pytest.mark.parametrize(
    ("observed", "count"),
    [
        (None, 0),
        ({}, 0),
        ({"webhooks": None}, 0),
        ({"webhooks": []}, 0),
        ({"webhooks": [{}]}, 0),
        ({"webhooks": [{"clientConfig": None}]}, 0),
        ({"webhooks": [{"clientConfig": {"url": "https://a/"}}]}, 0),
        ({"webhooks": [entry(None)]}, 0),
        ({"webhooks": [entry("")]}, 0),
        ({"webhooks": [entry("%%%")]}, 0),
        ({"webhooks": [entry(b"garbage")]}, 0),
        ({"webhooks": [entry(FIRST.certificate)]}, 1),
        ({"webhooks": [entry(FIRST.certificate + SECOND.certificate)]}, 2),
        ({"webhooks": [entry("%%%"), entry(b"garbage"), entry(FIRST.certificate)]}, 1),
        ({"webhooks": [entry(FIRST.certificate), entry(SECOND.certificate)]}, 2),
    ],
    ids=[
        "absent", "empty", "null", "no-entry", "no-config", "null-config", "no-bundle", "null-bundle", "empty-bundle",
        "no-base64", "garbage", "one", "two", "beside-garbage", "two-entries",
    ],
)  # fmt: skip
def test_what_is_registered_is_read_from_whatever_stands(observed: dict[str, Any] | None, count: int) -> None:
    expected = (*read(FIRST.certificate), *read(SECOND.certificate))[:count]
    assert trust.registered(observed) == expected
