"""The real kustomize: the one in PATH, else kubectl's, else one built from its Go module into our cache."""

from __future__ import annotations

import functools
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import yaml

from tests.controlplane import cache, gobuild
from tests.controlplane.progress import display
from tests.controlplane.versions import platform_name

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.registration.identity import Manifest

VERSION: Final = "5.8.1"


class KustomizeError(RuntimeError):
    """kustomize refused; the message is its own."""


@functools.cache
def command() -> tuple[str, ...]:
    """Return the command that renders a folder, but for the folder; the first time it may be built (20 s)."""
    for name, verb in (("kustomize", "build"), ("kubectl", "kustomize")):
        found = shutil.which(name)
        if found is not None:
            return (found, verb)
    return (str(built()), "build")


def build(folder: Path) -> list[Manifest]:
    """Return what the kustomization in `folder` renders; KustomizeError where kustomize refuses."""
    done = subprocess.run([*command(), str(folder)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise KustomizeError(done.stderr.strip())
    return [one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one]


def built() -> Path:
    """Return our own kustomize, built once; ControlPlaneError where there is no Go, or no proxy for its modules."""
    name = f"kustomize-{VERSION}-{platform_name()}"
    program = cache.directory() / name / "kustomize"
    show = display()
    with cache.locked(name, show):
        if not program.exists():
            with cache.workbench(name) as bench:
                cache.install(gobuild.build_kustomize(VERSION, bench, show), program)
    return program
