"""Read a whole file that is not longer than expected, and say what was found where it cannot be read."""

import os
import stat
from pathlib import Path

from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError


def read_file(path: Path, *, most_bytes: int) -> bytes:
    """Return the content of the regular file `path`; the errors say what stands there instead."""
    try:
        # Not blocking: a pipe without a writer must not hold a process that should end on SIGTERM.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidConfigurationError(f"{path}: expected a regular file, found a {_kind(mode)}")
            content = file.read(most_bytes + 1)
    except FileNotFoundError as error:
        raise ConfigurationNotFoundError(
            f"{path}: no such file; check the path and the volume that should hold it"
        ) from error
    except IsADirectoryError as error:
        raise InvalidConfigurationError(f"{path}: expected a file, found a folder") from error
    except (OSError, ValueError) as error:
        raise InvalidConfigurationError(f"{path}: cannot be read: {error}") from error
    if len(content) > most_bytes:
        raise InvalidConfigurationError(f"{path}: larger than {most_bytes} bytes, which is the most that is read")
    return content


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "pipe (use - to read standard input)", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
    return kinds.get(stat.S_IFMT(mode), "device")
