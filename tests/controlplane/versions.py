"""Which Kubernetes is wanted: versions as people write them, the platform's names, and the patch we know to build."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass

from tests.controlplane.errors import ControlPlaneError

DEFAULT_VERSION = "1.36.3"
VERSION_VARIABLE = "SECCOMP_RECONCILER_KUBERNETES_VERSION"

# Every one of them resolves completely on the Go module proxy; of some other patches a staging module is missing.
KNOWN_TO_BUILD = ("1.32.2", "1.33.13", "1.34.4", "1.35.4", "1.36.3", "1.37.2")

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One Kubernetes release, such as 1.36.3."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: `preferred` is what a build makes; the two flags say what else will do.

    `any_version` concerns KUBEBUILDER_ASSETS alone: who sets it and names no version means what is in there.
    """

    preferred: Version
    any_patch: bool = False
    any_version: bool = False

    def accepts(self, version: Version) -> bool:
        """Whether binaries of this version answer the wish."""
        if version == self.preferred:
            return True
        return self.any_patch and (version.major, version.minor) == (self.preferred.major, self.preferred.minor)

    def __str__(self) -> str:
        return f"{self.preferred.major}.{self.preferred.minor}" if self.any_patch else str(self.preferred)


def version_or_none(text: str) -> Version | None:
    """Return the release that the text names exactly (`1.36.3`, `v1.36.3`), None where it names none."""
    match = _VERSION.fullmatch(text.strip())
    if match is None or match[3] is None:
        return None
    return Version(int(match[1]), int(match[2]), int(match[3]))


def parse_version(text: str) -> Version:
    """Return the release that the text names exactly; ControlPlaneError where it names none."""
    version = version_or_none(text)
    if version is None:
        raise ControlPlaneError(f"{text!r} is no Kubernetes release: expected three numbers, such as {DEFAULT_VERSION}")
    return version


def wanted(text: str | None) -> Wanted:
    """Return the wish: an exact release, a minor version (`1.36`, any patch), or None for environment and default.

    The default is a minor version, too: where an archive of another patch is at hand, nobody should wait for a build.
    """
    named = text or os.environ.get(VERSION_VARIABLE)
    if not named:
        return Wanted(parse_version(DEFAULT_VERSION), any_patch=True, any_version=True)
    match = _VERSION.fullmatch(named.strip())
    if match is None:
        raise ControlPlaneError(
            f"{named!r} is no Kubernetes version: expected such as 1.36.3 or 1.36 (known to build: "
            f"{', '.join(KNOWN_TO_BUILD)})"
        )
    if match[3] is not None:
        return Wanted(parse_version(named))
    known = [version for version in map(parse_version, KNOWN_TO_BUILD) if version.minor == int(match[2])]
    return Wanted(known[0] if known else Version(int(match[1]), int(match[2]), 0), any_patch=True)


def platform_name() -> str:
    """Return this machine as Go names it, such as `linux-amd64`."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    return f"{'darwin' if sys.platform == 'darwin' else 'linux'}-{machine}"
