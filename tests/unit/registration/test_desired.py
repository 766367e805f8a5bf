"""What should stand: parity with upstream's entry is shown on the API server; here is what settings change."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import InvalidConfigurationError
from reconciler.registration import ca_bundle, selectors
from reconciler.registration.desired import render
from reconciler.registration.present import unified
from reconciler.settings import Backend, Registration


def webhook(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 - settings of every type
    found: dict[str, Any] = render(Registration(**settings), ca_bundle=b"ca")["webhooks"][0]
    return found


def test_our_labels_cannot_be_overridden() -> None:
    theirs = {
        "app.kubernetes.io/managed-by": "Helm",
        "remediation.webhook.shoot.gardener.cloud/exclude": "false",
        "a": "b",
    }
    labels = render(Registration(labels=theirs), ca_bundle=None)["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "seccomp-reconciler"
    assert labels["remediation.webhook.shoot.gardener.cloud/exclude"] == "true"
    assert labels["a"] == "b"


def test_settings_reach_their_fields() -> None:
    found = webhook(
        backend=Backend(url="https://a/b"),
        skip_typed_pods=False,
        excluded_namespaces=("one", "kube-system"),
        skip_label="skip",
        own_app_name="own",
        timeout_seconds=3,
    )
    assert found["clientConfig"] == {"url": "https://a/b", "caBundle": "Y2E="}
    assert "matchConditions" not in found
    assert found["namespaceSelector"]["matchExpressions"][1]["values"] == ["kube-system", "kubernetes-dashboard", "one"]
    assert found["objectSelector"]["matchExpressions"][:2] == [
        {"key": "skip", "operator": "DoesNotExist"},
        {"key": "app", "operator": "NotIn", "values": ["own"]},
    ]
    assert found["timeoutSeconds"] == 3
    assert "reinvocationPolicy" not in found


def test_the_digest_follows_the_selectors_alone() -> None:
    def digest(registration: Registration, bundle: bytes) -> Any:  # noqa: ANN401 - an annotation
        return render(registration, ca_bundle=bundle)["metadata"]["annotations"]

    usual = digest(Registration(), b"ca")
    assert digest(Registration(timeout_seconds=3), b"other") == usual
    assert digest(Registration(excluded_namespaces=("a",)), b"ca") != usual


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))
requirements: st.SearchStrategy[tuple[str, str, list[str]]] = st.one_of(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["In", "NotIn"]), st.lists(st.sampled_from("xyz"), min_size=1)),
    st.tuples(st.sampled_from("abc"), st.sampled_from(["Exists", "DoesNotExist"]), st.just([])),
)


@given(labels, labels, st.lists(requirements, max_size=3))
def test_a_selector_matches_as_the_api_server_says(
    present: dict[str, str], wanted: dict[str, str], terms: list[tuple[str, str, list[str]]]
) -> None:
    selector = {
        "matchLabels": wanted,
        "matchExpressions": [{"key": key, "operator": operator, "values": values} for key, operator, values in terms],
    }
    expected = set(wanted.items()) <= set(present.items())
    for key, operator, values in terms:
        value = present.get(key)
        expected &= {
            "In": value in values,
            "NotIn": value is None or value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[operator]
    assert selectors.matches(selector, present) == expected


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def test_certificates_are_taken_without_what_stands_around_them() -> None:
    pem = certificate()
    assert ca_bundle.parse(b"# text\n" + pem + b"between\n" + pem.replace(b"\n", b"\r\n"), origin="a") == pem + pem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no PEM certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n", "private key"),
    ],
    ids=["empty", "broken", "binary", "key"],
)
def test_what_must_not_be_published_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"a: .*{words}"):
        ca_bundle.parse(content, origin="a")


def test_a_key_beside_a_certificate_is_refused() -> None:
    with pytest.raises(InvalidConfigurationError, match="private key"):
        ca_bundle.parse(certificate() + b"-----BEGIN PRIVATE KEY-----\n", origin="a")


def test_a_diff_leaves_out_what_the_api_server_keeps_for_itself() -> None:
    before = {"kind": "A", "metadata": {"name": "a", "resourceVersion": "1", "uid": "u", "managedFields": []}}
    after = {"kind": "A", "metadata": {"name": "a", "resourceVersion": "2"}}
    assert unified(before, after) == []
    assert unified(None, after)[2:] == ["@@ -0,0 +1,3 @@", "+kind: A", "+metadata:", "+  name: a"]
