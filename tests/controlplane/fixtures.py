"""pytest fixtures and one hook, to be imported by a conftest.py: a control plane for the whole session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.controlplane import binaries
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.plane import ControlPlane
from tests.controlplane.versions import wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIES = 3
_OUTCOME: pytest.StashKey[binaries.Binaries | ControlPlaneError] = pytest.StashKey()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the programs before the first test: a build of minutes must not count as the time of a test."""
    needed = any("controlplane_binaries" in getattr(item, "fixturenames", ()) for item in session.items)
    if not needed or session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        _remember(session.config)
        return
    with capture.global_and_fixture_disabled():
        _remember(session.config)


@pytest.fixture(scope="session")
def controlplane_binaries(pytestconfig: pytest.Config) -> binaries.Binaries:
    """kube-apiserver and etcd; a test that needs them fails, and is not skipped, where there are none."""
    if _OUTCOME not in pytestconfig.stash:
        _remember(pytestconfig)
    outcome = pytestconfig.stash[_OUTCOME]
    if isinstance(outcome, ControlPlaneError):
        raise outcome
    return outcome


@pytest.fixture(scope="session")
def control_plane(controlplane_binaries: binaries.Binaries) -> Iterator[ControlPlane]:
    """One control plane for the whole session: tests keep to namespaces and names of their own."""
    with ControlPlane.start_from(controlplane_binaries) as plane:
        yield plane


def _remember(config: pytest.Config) -> None:
    for tries in range(1, _TRIES + 1):  # a proxy may be out of reach for a moment
        try:
            config.stash[_OUTCOME] = binaries.obtain(wanted(None))
        except ControlPlaneError as error:
            config.stash[_OUTCOME] = error
            if tries < _TRIES:
                time.sleep(5.0 * tries)
        else:
            return
