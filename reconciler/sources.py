"""Where bytes come from and when they may have changed: a file, a key of a ConfigMap or Secret, or the settings.

The same few sources serve the GardenletConfiguration, the caBundle and our own settings. Nothing here knows what the
bytes mean, and kubernetes is not imported: cluster sources are given a connection.
"""

import asyncio
import base64
import binascii
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError, ReconcilerError
from reconciler.files import read_file

if TYPE_CHECKING:
    from reconciler.cluster import Cluster, Target
    from reconciler.registration.identity import Manifest

# A file younger than this may still be half-written: half a document could look like one that asks for less.
SETTLE_SECONDS: Final = 0.25
_MOST_SETTLING_SECONDS: Final = 5.0
# Where no notification comes (a replaced folder, a network file system) a look at the file's metadata stands in.
_LOOK_SECONDS: Final = 2.0


# Real path, times of change, inode and size of a file; None where there is none.
_Mark: TypeAlias = tuple[str, int, int, int, int] | None


class Source(Protocol):
    """Bytes with a name, and a notice whenever they may have changed."""

    @property
    def origin(self) -> str:
        """Where the bytes come from, for messages."""

    async def read(self) -> bytes:
        """Return the bytes; ConfigurationNotFoundError or InvalidConfigurationError where there are none to be had."""

    def changes(self) -> AsyncGenerator[None, None]:
        """Yield after each possible change, for ever."""


class InlineSource:
    """Bytes that a setting holds itself: they change with the settings and never alone."""

    def __init__(self, content: bytes, origin: str) -> None:
        self._content = content
        self.origin = origin

    async def read(self) -> bytes:
        """Return the bytes."""
        return self._content

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield never."""
        await asyncio.Event().wait()
        yield


class FileSource:
    """A file, followed through symlink swaps (as the kubelet updates a ConfigMap volume) and in-place edits."""

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self.origin = str(path)
        self._read_at: list[_Mark] = []  # the last mark that `read` saw; empty before the first

    async def read(self) -> bytes:
        """Return the content once it stands still: a file that was just written is read again a moment later."""
        deadline = time.monotonic() + _MOST_SETTLING_SECONDS
        while True:
            before = self._mark()
            self._read_at = [before]
            content = await asyncio.to_thread(read_file, self._path, most_bytes=self._most_bytes)
            age = time.time() - (before[1] / 1e9 if before else 0.0)
            if not 0 <= age < SETTLE_SECONDS and self._mark() == before:
                return content
            if time.monotonic() > deadline:
                raise InvalidConfigurationError(
                    f"{self.origin}: still being written after {_MOST_SETTLING_SECONDS:g} s; expected a file at rest"
                )
            await asyncio.sleep(SETTLE_SECONDS)

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield after each change of what the path leads to: content, symlinks on the way, or its coming and going."""
        # What was read, not what stands now: a change between the first reading and this moment counts.
        seen = self._read_at[0] if self._read_at else self._mark()
        while True:
            async with aclosing(_notices(self._folders())) as notices:
                async for _ in notices:
                    if (now := self._mark()) != seen:
                        seen = now
                        yield
                        break  # the folders to watch may be others now

    def _mark(self) -> _Mark:
        """Return what changes when the file does; None where there is none."""
        try:
            found = self._path.stat()
            return (os.path.realpath(self._path), found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
        except OSError:
            return None

    def _folders(self) -> tuple[Path, ...]:
        folders = {self._path.parent, Path(os.path.realpath(self._path)).parent}
        return tuple(folder for folder in folders if folder.is_dir())


async def _notices(folders: tuple[Path, ...]) -> AsyncGenerator[None, None]:
    """Yield when something happens in `folders`, and every `_LOOK_SECONDS` in any case."""
    from watchfiles import awatch  # noqa: PLC0415 - only a process that stays needs it

    if not folders:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            yield
    notices = awatch(
        *folders,
        watch_filter=None,
        debounce=50,
        step=10,
        rust_timeout=int(_LOOK_SECONDS * 1000),
        yield_on_timeout=True,
        recursive=False,
        ignore_permission_denied=True,
    )
    try:
        async with aclosing(notices):
            async for _ in notices:
                yield
    except (OSError, RuntimeError):
        # No inotify to be had, or a folder went while it was being watched: the look at the file must do this time.
        await asyncio.sleep(_LOOK_SECONDS)
        yield


class KeySource:
    """One key of a ConfigMap or Secret, followed by a watch on that one object."""

    def __init__(self, cluster: "Cluster", target: "Target", key: str) -> None:
        self._cluster = cluster
        self._target = target
        self._key = key
        self.origin = f"{target}, key {key}"

    async def read(self) -> bytes:
        """Return the key's bytes."""
        found = await self._cluster.get(self._target)
        if found is None:
            raise ConfigurationNotFoundError(f"there is no {self._target} at {self._cluster.place}")
        return key_of(found, self._key, origin=self.origin)

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield after each change of the object."""
        async for _ in _successes(self._cluster, self._target):
            yield


class MountedSource:
    """The ConfigMap with the GardenletConfiguration that a Deployment mounts, also when it mounts another."""

    def __init__(self, cluster: "Cluster", deployment: "Target") -> None:
        self._cluster = cluster
        self._deployment = deployment
        self.origin = f"the ConfigMap that {deployment} mounts"

    async def read(self) -> bytes:
        """Return the document that the Deployment's `--config` points to."""
        found = await self._cluster.get(self._deployment)
        if found is None:
            raise ConfigurationNotFoundError(f"there is no {self._deployment} at {self._cluster.place}")
        target, key = mounted_config_map(found, self._deployment)
        return await KeySource(self._cluster, target, key).read()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield after each change of the Deployment or of the ConfigMap that it mounts."""
        wake = asyncio.Event()

        async def follow_config_map(target: "Target") -> None:
            async for _ in _successes(self._cluster, target):
                wake.set()

        async def follow_deployment() -> None:
            mounted: Target | None = None
            task: asyncio.Task[None] | None = None
            async for found in _successes(self._cluster, self._deployment):
                try:
                    now = mounted_config_map(found, self._deployment)[0] if found else None
                except ReconcilerError:
                    now = None
                if now != mounted:
                    if task is not None:
                        task.cancel()
                    mounted, task = now, None if now is None else group.create_task(follow_config_map(now))
                wake.set()

        async with asyncio.TaskGroup() as group:
            follower = group.create_task(follow_deployment())
            try:
                while True:
                    await wake.wait()
                    wake.clear()
                    yield
            finally:
                follower.cancel()


async def _successes(cluster: "Cluster", target: "Target") -> AsyncGenerator["Manifest | None", None]:
    """Yield each state of the object, the first one too: it may have changed between a read and the watch's start.

    A watch that fails is logged, once for each reason: changes are noticed by the next read only.
    """
    import structlog  # noqa: PLC0415 - only where a cluster is in use already

    from reconciler.backoff import is_transient  # noqa: PLC0415 - likewise

    log: structlog.stdlib.BoundLogger = structlog.get_logger()
    complaint = ""
    async with aclosing(cluster.follow(target)) as states:
        async for state in states:
            if not isinstance(state, ReconcilerError):
                yield state
            elif str(state) != complaint:
                complaint = str(state)
                level = log.debug if is_transient(state) else log.error
                level("watch.failed", error=complaint)


def key_of(found: "Manifest", key: str, *, origin: str) -> bytes:
    """Return the bytes under `key` of a ConfigMap (data, binaryData) or Secret (data)."""
    is_secret = found.get("kind") == "Secret"
    if not is_secret and key in (found.get("data") or {}):
        return str(found["data"][key]).encode()
    encoded = (found.get("data" if is_secret else "binaryData") or {}).get(key)
    if encoded is None:
        keys = ", ".join(sorted({**(found.get("data") or {}), **(found.get("binaryData") or {})})) or "none"
        raise ConfigurationNotFoundError(f"{origin}: no such key; there are: {keys}")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise InvalidConfigurationError(f"{origin}: not base64") from error


def mounted_config_map(deployment: "Manifest", target: "Target") -> tuple["Target", str]:
    """Return the ConfigMap and key behind the `--config` argument of the Deployment's containers.

    The one that is named like the Deployment is asked first: a sidecar, such as ours, has a --config of its own.

    Source: gardenlet's chart: `--config=/etc/gardenlet/config/config.yaml` on a volume made of one ConfigMap.
    """
    from reconciler.cluster import CONFIG_MAPS, Target  # noqa: PLC0415 - only where a cluster is in use already

    pod = deployment["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume.get("configMap") for volume in pod.get("volumes") or ()}
    for container in sorted(pod["containers"], key=lambda one: bool(one["name"] != target.name)):
        for path in _config_arguments([*(container.get("command") or ()), *(container.get("args") or ())]):
            for mount in container.get("volumeMounts") or ():
                source = volumes.get(mount["name"])
                if source and (key := _key_at(path, mount, source)):
                    return Target(CONFIG_MAPS, source["name"], target.namespace), key
    raise InvalidConfigurationError(
        f"{target}: expected a container with --config=PATH where PATH lies on a volume made of a ConfigMap"
    )


def _config_arguments(arguments: list[str]) -> Iterator[str]:
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            yield argument.removeprefix("--config=")
        elif argument == "--config" and index + 1 < len(arguments):
            yield arguments[index + 1]


def _key_at(path: str, mount: "Manifest", source: "Manifest") -> str | None:
    """Return the ConfigMap's key that appears at `path` through `mount`; None where the path lies elsewhere."""
    if mount.get("subPath"):
        inside = mount["subPath"] if path == mount["mountPath"] else None
    else:
        root = mount["mountPath"].rstrip("/") + "/"
        inside = path.removeprefix(root) if path.startswith(root) else None
    if inside is None or not source.get("items"):
        return inside
    return next((item["key"] for item in source["items"] if item["path"] == inside), None)
