"""A process in a root of its own, as a container has it: read-only, without rights, with the image's environment.

As root it becomes 65532; without root a user namespace stands in, where its rights are those of whoever runs it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests import dockerfile

if TYPE_CHECKING:
    from pathlib import Path

USER: Final = 65532
# $1 is the root; pairs of source and target follow until `--`; then the command.
_ENTER: Final = """
root=$1; shift
mount --rbind "$root" "$root"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; mount -o remount,bind,ro "$root$2"; shift 2; done
shift
mount -o remount,bind,ro "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec "$@"
"""


@dataclass(frozen=True)
class Jail:
    """A root, and what is mounted in it read-only: folders by the path at which the root has an empty folder."""

    root: Path
    mounts: dict[str, Path] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def argv(self, *arguments: str) -> list[str]:
        """Return what starts the image's entrypoint with these arguments; the process keeps its id."""
        is_root = os.geteuid() == 0
        alone = ["--mount"] if is_root else ["--mount", "--user", "--map-root-user"]
        mounts = [word for target, source in self.mounts.items() for word in (str(source), target)]
        variables = {**dockerfile.environment(), "HOME": "/", **self.variables}
        user = [f"--userspec={USER}:{USER}", "--groups="] if is_root else []
        inside = [
            _tool("env"),
            "-i",
            *(f"{name}={value}" for name, value in variables.items()),
            _tool("setpriv"),
            "--no-new-privs",
            _tool("chroot"),
            *user,
        ]
        enter = [_tool("unshare"), *alone, "--", _tool("sh"), "-euc", _ENTER, "sh", str(self.root), *mounts, "--"]
        return [*enter, *inside, str(self.root), *dockerfile.entrypoint(), *arguments]


def _tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise FileNotFoundError(f"no {name} in PATH; expected util-linux and coreutils: install them")
    return found
