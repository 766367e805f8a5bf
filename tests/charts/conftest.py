"""One seed with controllers and a node for all chart tests; each leaves it as it found it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests import kustomize
from tests.charts.world import World, world
from tests.controlplane import binaries
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import parse_version, wanted
from tests.promtool import PromtoolError, promtool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TRIES = 3


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the programs before the first test, as tests/controlplane does; what fails here is told by who needs it."""
    if session.config.option.collectonly or not any("/charts/" in item.nodeid for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        _try(lambda: binaries.controller_manager(parse_version(str(binaries.obtain(wanted(None)).version))))
        _try(kustomize.built)
        _try(promtool)


def _try(get: Callable[[], object]) -> None:
    for _ in range(_TRIES):  # an index of packages may be out of reach for a moment
        with contextlib.suppress(ControlPlaneError, PromtoolError):
            get()
            return


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
