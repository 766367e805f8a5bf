"""Versions as people write them."""

from __future__ import annotations

import pytest

from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import (
    DEFAULT_VERSION,
    KNOWN_TO_BUILD,
    VERSION_VARIABLE,
    Version,
    parse_version,
    version_or_none,
    wanted,
)


@pytest.fixture(autouse=True)
def no_version_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VERSION_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.36.3", Version(1, 36, 3)),
        ("v1.32.2", Version(1, 32, 2)),
        (" 1.37.2\n", Version(1, 37, 2)),
        ("1.36", None),
        ("1.36.3-rc.1", None),
        ("latest", None),
        ("", None),
    ],
)
def test_only_three_numbers_name_a_release(text: str, version: Version | None) -> None:
    assert version_or_none(text) == version


def test_what_is_no_release_is_refused_with_an_example() -> None:
    with pytest.raises(ControlPlaneError, match=DEFAULT_VERSION):
        parse_version("1.36")


@pytest.mark.parametrize(
    ("asked", "environment", "preferred", "also", "not_accepted"),
    [
        pytest.param("1.36.3", None, "1.36.3", [], ["1.36.0", "1.35.4"], id="exact"),
        pytest.param("1.32", None, "1.32.2", ["1.32.0", "1.32.13"], ["1.33.0"], id="minor"),
        pytest.param("1.99", None, "1.99.0", ["1.99.7"], ["1.36.3"], id="minor-unknown"),
        pytest.param(None, "1.37.2", "1.37.2", [], ["1.37.1"], id="environment"),
        pytest.param("1.32.2", "1.37.2", "1.32.2", [], ["1.37.2"], id="argument-before-environment"),
        pytest.param(None, None, DEFAULT_VERSION, ["1.36.0"], ["1.35.4"], id="default-takes-any-patch"),
    ],
)
def test_a_wish_says_what_will_do(
    monkeypatch: pytest.MonkeyPatch,
    *,
    asked: str | None,
    environment: str | None,
    preferred: str,
    also: list[str],
    not_accepted: list[str],
) -> None:
    if environment:
        monkeypatch.setenv(VERSION_VARIABLE, environment)
    wish = wanted(asked)
    assert str(wish.preferred) == preferred
    assert all(wish.accepts(parse_version(text)) for text in [preferred, *also])
    assert not any(wish.accepts(parse_version(text)) for text in not_accepted)


def test_only_an_unnamed_version_lets_the_assets_folder_decide() -> None:
    assert wanted(None).any_version
    assert not wanted("1.36").any_version


@pytest.mark.parametrize("text", ["latest", "1", "1.36.x", "36"])
def test_a_wish_that_is_no_version_is_refused_with_what_can_be_built(text: str) -> None:
    with pytest.raises(ControlPlaneError, match=KNOWN_TO_BUILD[0]):
        wanted(text)


def test_the_default_is_known_to_build() -> None:
    assert DEFAULT_VERSION in KNOWN_TO_BUILD
