"""Become a container: its own root of bound folders, the pod's network, its user without rights; then its program.

`python -m tests.node.enter` reads a JSON document from the file descriptor that its argument names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.node import namespaces

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/proc", "/etc/ssl", "/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("null", "zero", "urandom", "random")
_USERS = "root:x:0:0::/:/\nnonroot:x:65532:65532::/:/\n"


def become(wanted: dict[str, Any]) -> None:
    """Enter everything and run the program."""
    os.umask(0o022)
    is_root = os.geteuid() == 0
    namespaces.join(wanted["sandbox"], *(() if is_root else ("user",)), "net")
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    root = Path(wanted["root"])
    namespaces.mount("tmpfs", root, "tmpfs", data="size=64m,mode=755")
    for name in _SYSTEM:
        original = Path(name)
        if original.is_symlink():
            (root / name[1:]).symlink_to(original.readlink())
        elif original.exists():
            namespaces.bind(original, root / name[1:], read_only=name != "/proc")
    for name in _DEVICES:
        namespaces.bind(Path("/dev") / name, root / "dev" / name, read_only=False)
    (root / "etc" / "passwd").write_text(_USERS)
    for source, target, read_only in wanted["mounts"]:
        namespaces.bind(Path(source), root / target.lstrip("/"), read_only=read_only)
    if wanted["read_only_root"]:
        namespaces.mount("none", root, flags=namespaces.MS_REMOUNT | namespaces.MS_RDONLY)
    os.chroot(root)
    os.chdir("/")
    namespaces.drop_rights(*(wanted["user"] if is_root else (None, None)))
    namespaces.die_with_parent()
    os.execve(wanted["argv"][0], wanted["argv"], wanted["environment"])  # noqa: S606 - this is what it is for


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1])) as file:
        document = json.load(file)
    try:
        become(document)
    except OSError as error:
        sys.exit(f"the container cannot be made: {error}")
