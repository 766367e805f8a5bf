"""Fixtures for every test: the real control plane, once a session; and how hypothesis looks for examples."""

from hypothesis import settings

from tests.controlplane.fixtures import control_plane, controlplane_binaries, pytest_collection_finish

__all__ = ["control_plane", "controlplane_binaries", "pytest_collection_finish"]

# `make check` says the same of the same commit, whoever runs it; `make fuzz` goes where nobody has been.
settings.register_profile("check", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=5000, deadline=None)
settings.load_profile("check")
