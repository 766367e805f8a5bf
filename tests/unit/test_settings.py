"""ReconcilerConfiguration: what is taken, and what an operator is told where something is wrong."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler import durations, settings
from reconciler.errors import InvalidConfigurationError

HEADER = {"apiVersion": settings.API_VERSION, "kind": settings.KIND}


def parse(content: dict[str, object]) -> settings.ReconcilerConfiguration:
    return settings.parse(yaml.safe_dump({**HEADER, **content}).encode(), origin="settings.yaml")


def test_a_header_alone_means_all_defaults() -> None:
    assert parse({}) == settings.ReconcilerConfiguration()


GARDENLET_TYPE = "gardenlet.config.gardener.cloud/v1alpha1"
SEEDMANAGEMENT = "seedmanagement.gardener.cloud/v1alpha1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"apiVersion": GARDENLET_TYPE, "kind": "GardenletConfiguration"}, "a GardenletConfiguration"),
        ({"apiVersion": GARDENLET_TYPE, "featureGates": {}}, "a GardenletConfiguration"),
        ({"apiVersion": GARDENLET_TYPE.replace("alpha", "beta"), "kind": "Else"}, "a GardenletConfiguration"),
        ({"kind": "GardenletConfiguration", "logLevel": "info"}, "a GardenletConfiguration"),
        ({"featureGates": {"DefaultSeccompProfile": True}}, "a GardenletConfiguration"),
        ({"apiVersion": SEEDMANAGEMENT, "kind": "ManagedSeed", "spec": {}}, "a ManagedSeed"),
        ({"apiVersion": SEEDMANAGEMENT, "kind": "Gardenlet", "spec": {}}, "a Gardenlet,"),
    ],
)
def test_a_gardenlet_configuration_is_named_with_the_flag_that_is_meant(content: object, words: str) -> None:
    with pytest.raises(InvalidConfigurationError) as caught:
        settings.parse(yaml.safe_dump(content).encode(), origin="a.yaml")
    message = str(caught.value)
    assert words in message
    assert message.endswith("expected a ReconcilerConfiguration; give it with --gardenlet-config instead of --config")
    assert message.isprintable()


@pytest.mark.parametrize(
    "content",
    [
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"config.yaml": "a"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}},
        {"apiVersion": "apps/v1", "kind": "x\n\x1b" + "y" * 1000},
    ],
)
def test_another_type_is_named_in_one_line(content: object) -> None:
    with pytest.raises(InvalidConfigurationError, match="expected apiVersion: seccomp-reconciler") as caught:
        settings.parse(yaml.safe_dump(content).encode(), origin="a.yaml")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "unknown": ({"registration": {"timeout": 3}}, "registration.timeout: no such option"),
    "timeout-too-long": ({"registration": {"timeoutSeconds": 16}}, "registration.timeoutSeconds: .*15"),
    "timeout-zero": ({"registration": {"timeoutSeconds": 0}}, "registration.timeoutSeconds: .*1"),
    "timeout-text": ({"registration": {"timeoutSeconds": "10"}}, "registration.timeoutSeconds: .*integer"),
    "policy": ({"registration": {"failurePolicy": "fail"}}, "registration.failurePolicy: .*Fail, Ignore"),
    "reinvocation": (
        {"registration": {"reinvocationPolicy": "Always"}},
        "registration.reinvocationPolicy: .*Never, IfNeeded",
    ),
    "name": ({"registration": {"name": "Not_A_Name"}}, "registration.name: .*DNS-1123"),
    "webhook-name": ({"registration": {"webhookName": "two.segments"}}, "registration.webhookName: .*three segments"),
    "label-key": ({"registration": {"skipLabel": "a b"}}, "registration.skipLabel: .*label key"),
    "label-value": ({"registration": {"labels": {"a": "b c"}}}, "registration.labels.a: .*label value"),
    "namespace": ({"registration": {"excludedNamespaces": ["A"]}}, "registration.excludedNamespaces.0: .*DNS-1123"),
    "two-backends": (
        {"registration": {"backend": {"url": "https://a/b", "service": {}}}},
        "registration.backend: expected exactly one of service, url",
    ),
    "no-backend": ({"registration": {"backend": {}}}, "registration.backend: expected exactly one"),
    "http": ({"registration": {"backend": {"url": "http://a/b"}}}, "registration.backend.url: .*https"),
    "user-in-url": ({"registration": {"backend": {"url": "https://u@a/b"}}}, "registration.backend.url: .*no user"),
    "query-in-url": ({"registration": {"backend": {"url": "https://a/b?c"}}}, "registration.backend.url: .*query"),
    "international-url": (
        {"registration": {"backend": {"url": "https://bücher.example/"}}},
        "registration.backend.url: .*xn--",
    ),
    "port": ({"registration": {"backend": {"service": {"port": 70000}}}}, "registration.backend.service.port: .*65535"),
    "two-cas": ({"registration": {"ca": {"file": "/a", "inline": "b"}}}, "registration.ca: expected exactly one"),
    "two-sources": ({"gardenletConfiguration": {"file": "a", "deployment": {}}}, "gardenletConfiguration: expected"),
    "in-without-values": (
        {"registration": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
        "registration.namespaceSelector.matchExpressions.0: In and NotIn need values",
    ),
    "resync-number": ({"resyncPeriod": 600}, "resyncPeriod: .*is no duration"),
    "resync-short": ({"resyncPeriod": "1s"}, "resyncPeriod: .*greater than or equal to 10"),
    "backoff-order": ({"backoff": {"initial": "2m"}}, "backoff: initial must not be longer"),
    "null": ({"registration": None}, "registration: "),
    "same-secrets": (
        {"registration": {"ca": {"selfSigned": {"authoritySecret": "a", "servingSecret": "a"}}}},
        "registration.ca.selfSigned: .*must differ",
    ),
    "no-name": (
        {"registration": {"ca": {"selfSigned": {"extraNames": ["a b"]}}}},
        "registration.ca.selfSigned.extraNames.0: .*DNS name or an IP address",
    ),
    "short-authority": (
        {"registration": {"ca": {"selfSigned": {"authorityLifetime": "72h"}}}},
        "registration.ca.selfSigned: authorityLifetime must be at least",
    ),
    "long-serving": (
        {"registration": {"ca": {"selfSigned": {"servingLifetime": "9000h"}}}},
        "registration.ca.selfSigned: servingLifetime must lie between",
    ),
    "short-proof": ({"proof": {"period": "10ms"}}, "proof.period: .*greater than or equal to 1"),
}


def test_names_of_a_server_may_be_wildcards_and_addresses() -> None:
    names = ["*.example.org", "webhook.example.org", "10.0.0.1", "fd00::1"]
    own = parse({"registration": {"ca": {"selfSigned": {"extraNames": names}}}}).registration.ca.self_signed
    assert own is not None
    assert own.extra_names == tuple(names)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_names_its_path_and_what_is_allowed(name: str) -> None:
    content, message = WRONG[name]
    with pytest.raises(InvalidConfigurationError, match=f"settings.yaml: {message}"):
        parse(content)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[",
        b"a: b",
        b"kind: ReconcilerConfiguration",
        b"\xff\xfe\x00",
        b"- a",
        b"x" * (settings.MAX_SETTINGS_BYTES + 1),
    ],
    ids=["empty", "not-yaml", "no-header", "half-header", "binary", "list", "too-large"],
)
def test_what_is_no_configuration_is_an_error(document: bytes) -> None:
    with pytest.raises(InvalidConfigurationError, match=r"settings\.yaml: "):
        settings.parse(document, origin="settings.yaml")


def test_a_key_given_twice_is_an_error() -> None:
    text = yaml.safe_dump(HEADER) + "resyncPeriod: 1m\nresyncPeriod: 2m\n"
    with pytest.raises(InvalidConfigurationError, match="'resyncPeriod' is given twice"):
        settings.parse(text.encode(), origin="settings.yaml")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_input_raises_anything_else(document: bytes) -> None:
    with pytest.raises(InvalidConfigurationError):
        settings.parse(document, origin="settings.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("15s", 15.0), ("10m", 600.0), ("1h30m", 5400.0), ("1.5s", 1.5), (".5m", 30.0), ("2us", 2e-6)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert durations.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1d", "1 s", "1s ", "1h 2m", "ten"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        durations.parse(text)
