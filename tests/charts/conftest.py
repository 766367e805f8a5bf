"""One seed with controllers and a node for all chart tests; each leaves it as it found it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.charts.world import World, world
from tests.controlplane import binaries
from tests.controlplane.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def controller_manager(controlplane_binaries: binaries.Binaries, request: pytest.FixtureRequest) -> Path:
    """kube-controller-manager of the same release; a build of a minute, the first time."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return binaries.controller_manager(parse_version(str(controlplane_binaries.version)))


@pytest.fixture(scope="session")
def shared_world(controlplane_binaries: binaries.Binaries, controller_manager: Path) -> Iterator[World]:
    with world(controlplane_binaries, controller_manager) as found:
        yield found


@pytest.fixture
def seed_world(shared_world: World) -> Iterator[World]:
    """The seed without a release of ours; at the end it must be so again, whatever happened."""
    yield shared_world
    shared_world.clear()
