"""Fixtures for every test: the real control plane, once a session."""

from tests.controlplane.fixtures import control_plane, controlplane_binaries, pytest_collection_finish

__all__ = ["control_plane", "controlplane_binaries", "pytest_collection_finish"]
