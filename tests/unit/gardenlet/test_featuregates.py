"""The gate follows component-base: explicit value, then AllAlpha, then the default; all else is a warning."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.gardenlet import featuregates
from reconciler.gardenlet.featuregates import Reason

GATES = st.dictionaries(
    st.one_of(st.sampled_from([*featuregates._GATES, "defaultSeccompProfile", "NoSuchGate"]), st.text()), st.booleans()
)


@pytest.mark.parametrize(
    ("gates", "enabled", "reason"),
    [
        ({}, False, Reason.DEFAULT),
        ({"DefaultSeccompProfile": True}, True, Reason.EXPLICIT),
        ({"DefaultSeccompProfile": False}, False, Reason.EXPLICIT),
        ({"AllAlpha": True}, True, Reason.GROUP),
        ({"AllAlpha": False}, False, Reason.GROUP),
        ({"AllBeta": True}, False, Reason.DEFAULT),
        ({"AllAlpha": True, "DefaultSeccompProfile": False}, False, Reason.EXPLICIT),
        ({"AllAlpha": False, "DefaultSeccompProfile": True}, True, Reason.EXPLICIT),
        ({"AllAlpha": True, "AllBeta": False}, True, Reason.GROUP),
        ({"defaultSeccompProfile": True}, False, Reason.DEFAULT),
        ({"DefaultSeccompProfile ": True}, False, Reason.DEFAULT),
    ],
    ids=str,
)
def test_decision(gates: dict[str, bool], enabled: bool, reason: Reason) -> None:  # noqa: FBT001
    decision = featuregates.decide(gates)
    assert (decision.gate, decision.enabled, decision.reason) == ("DefaultSeccompProfile", enabled, reason)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("defaultSeccompProfile", "DefaultSeccompProfile"),
        ("DefaultSeccompProfiles", "DefaultSeccompProfile"),
        ("DefaultSecompProfile", "DefaultSeccompProfile"),
        (" DefaultSeccompProfile", "DefaultSeccompProfile"),
        ("D\u0435faultSeccompProfile", "DefaultSeccompProfile"),
        ("allAlpha", "AllAlpha"),
        ("IstioTLSTerminaton", "IstioTLSTermination"),
        ("doNotCopyBackupCredentials", "DoNotCopyBackupCredentials"),
    ],
)
def test_near_name_is_suggested(name: str, suggested: str) -> None:
    (warning,) = featuregates.decide({name: True}).warnings
    assert warning.endswith(f"did you mean {suggested}?")


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ({"NoSuchGate": True}, "feature gate 'NoSuchGate' is not known to gardenlet"),
        ({"DoNotCopyBackupCredentials": False}, "is locked to true"),
        ({"SeparateCacheWatchRPC": True}, "is locked to false"),
        ({"KMSv1": False}, "is deprecated"),
    ],
    ids=str,
)
def test_what_gardenlet_objects_to_is_a_warning(gates: dict[str, bool], expected: str) -> None:
    (warning,) = featuregates.decide(gates).warnings
    assert expected in warning


@pytest.mark.parametrize(
    "gates",
    [{"DoNotCopyBackupCredentials": True}, {"APIServerIdentity": False}, {"AllBeta": False}, {"RemoveVali": True}, {}],
    ids=str,
)
def test_what_gardenlet_takes_is_no_warning(gates: dict[str, bool]) -> None:
    assert featuregates.decide(gates).warnings == ()


def test_warnings_are_few_and_ours_comes_first() -> None:
    gates = {f"A{number}": True for number in range(1000)} | {"defaultSeccompProfile": True}
    warnings = featuregates.decide(gates).warnings
    assert len(warnings) == featuregates.MAX_WARNINGS + 1
    assert "did you mean DefaultSeccompProfile?" in warnings[0]
    assert warnings[-1].startswith("981 more")


def test_many_near_names_take_bounded_time() -> None:
    gates = {f"DefaultSeccompProf{number}": True for number in range(100_000)}
    started = time.monotonic()
    featuregates.decide(gates)
    assert time.monotonic() - started < 20


@given(GATES)
def test_explicit_value_always_wins(gates: dict[str, bool]) -> None:
    for value in (True, False):
        decision = featuregates.decide(gates | {"DefaultSeccompProfile": value})
        assert (decision.enabled, decision.reason) == (value, Reason.EXPLICIT)


@given(GATES)
def test_order_is_irrelevant(gates: dict[str, bool]) -> None:
    assert featuregates.decide(gates) == featuregates.decide(dict(reversed(gates.items())))


@given(GATES)
def test_only_the_gate_and_its_group_decide(gates: dict[str, bool]) -> None:
    relevant = {name: value for name, value in gates.items() if name in ("DefaultSeccompProfile", "AllAlpha")}
    whole, part = featuregates.decide(gates), featuregates.decide(relevant)
    assert (whole.enabled, whole.reason) == (part.enabled, part.reason)


@given(GATES)
def test_warnings_are_printable(gates: dict[str, bool]) -> None:
    assert all(warning.isprintable() and len(warning) < 1200 for warning in featuregates.decide(gates).warnings)
