"""Bytes and the notice of their change, on real files."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.cluster import CONFIG_MAPS, DEPLOYMENTS, Target
from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError
from reconciler.files import read_file
from reconciler.sources import SETTLE_SECONDS, FileSource, key_of, mounted_config_map

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST = 1000
GARDENLET = Target(DEPLOYMENTS, "gardenlet", "garden")


def volume(root: Path, name: str, content: str) -> None:
    """Publish `content` as the kubelet does: a new folder, and `..data` swapped onto it."""
    (root / name).mkdir()
    (root / name / "config.yaml").write_text(content)
    (root / "..data_tmp").symlink_to(name)
    os.replace(root / "..data_tmp", root / "..data")


def mounted(root: Path) -> Path:
    volume(root, "..one", "one")
    (root / "config.yaml").symlink_to("..data/config.yaml")
    return root / "config.yaml"


def plain(root: Path) -> Path:
    (root / "config.yaml").write_text("one")
    return root / "config.yaml"


def in_place(root: Path) -> None:
    (root / "config.yaml").write_text("two")


def replaced(root: Path) -> None:
    (root / "new").write_text("two")
    os.replace(root / "new", root / "config.yaml")


def folder_recreated(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    (root / "config.yaml").write_text("two")


CHANGES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None]]] = {
    "kubelet-swap": (mounted, lambda root: volume(root, "..two", "two")),
    "in-place": (plain, in_place),
    "replaced": (plain, replaced),
    "folder-recreated": (plain, folder_recreated),
    "appearing": (lambda root: root / "config.yaml", in_place),
    "folder-appearing": (lambda root: root / "later" / "config.yaml", lambda _: None),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_noticed_and_read(tmp_path: Path, name: str) -> None:
    prepare, change = CHANGES[name]
    root = tmp_path / "volume"
    root.mkdir()
    path = prepare(root)
    source = FileSource(path, most_bytes=MOST)
    async with aclosing(source.changes()) as changes:
        noticed = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.2)
        change(root)
        if name == "folder-appearing":
            path.parent.mkdir()
            path.write_text("two")
        async with asyncio.timeout(20):
            await noticed
            while (content := await source.read()) != b"two":
                assert content == b"one"
                await anext(changes)


async def test_a_change_between_two_notices_is_not_lost(tmp_path: Path) -> None:
    path = plain(tmp_path)
    async with aclosing(FileSource(path, most_bytes=MOST).changes()) as changes, asyncio.timeout(20):
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.2)
        path.write_text("two")
        await first
        path.write_text("three!")  # while nobody waits
        await anext(changes)


async def test_a_change_between_the_first_reading_and_the_start_of_following_is_not_lost(tmp_path: Path) -> None:
    path = plain(tmp_path)
    source = FileSource(path, most_bytes=MOST)
    assert await source.read() == b"one"
    path.write_text("two")
    async with aclosing(source.changes()) as changes, asyncio.timeout(20):
        await anext(changes)


async def test_half_a_document_is_never_read(tmp_path: Path) -> None:
    """A writer that truncates, pauses for less than what settles a file, and goes on."""
    path = tmp_path / "config.yaml"
    whole = "x" * 600
    path.write_text(whole)
    stop = threading.Event()
    pauses = [0.0]

    def write_slowly() -> None:
        while not stop.is_set():
            last = time.monotonic()
            with path.open("w") as file:
                for _ in range(3):
                    file.write("x" * 200)
                    file.flush()
                    now = time.monotonic()
                    pauses.append(now - last)
                    last = now
                    time.sleep(0.05)
            time.sleep(0.6)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    try:
        for _ in range(5):
            content = await FileSource(path, most_bytes=MOST).read()
            if content != whole.encode():
                # On a loaded machine even the writer may be held up for so long that its half is a file at rest.
                stop.set()
                writer.join()
                assert max(pauses) >= SETTLE_SECONDS - 0.02
                break
    finally:
        stop.set()
        writer.join()


async def test_cancelling_leaves_no_thread(tmp_path: Path) -> None:
    path = plain(tmp_path)

    async def follow() -> None:
        async with aclosing(FileSource(path, most_bytes=MOST).changes()) as changes:
            async for _ in changes:
                pass

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.3)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (lambda _: None, ConfigurationNotFoundError, "no such file"),
        (lambda path: path.mkdir(), InvalidConfigurationError, "found a folder"),
        (os.mkfifo, InvalidConfigurationError, "found a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), InvalidConfigurationError, "found a device"),
        (lambda path: path.symlink_to(path), InvalidConfigurationError, "cannot be read"),
        (lambda path: path.write_bytes(b"x" * (MOST + 1)), InvalidConfigurationError, "larger than 1000"),
    ],
    ids=["missing", "folder", "pipe", "device", "loop", "large"],
)
def test_what_is_no_readable_file_is_named(
    tmp_path: Path, prepare: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    path = tmp_path / "config.yaml"
    prepare(path)
    with pytest.raises(error, match=words):
        read_file(path, most_bytes=MOST)


def test_keys_of_secrets_and_config_maps() -> None:
    assert key_of({"kind": "Secret", "data": {"a": "b25l"}}, "a", origin="s") == b"one"
    assert key_of({"kind": "ConfigMap", "data": {"a": "one"}}, "a", origin="s") == b"one"
    assert key_of({"kind": "ConfigMap", "binaryData": {"a": "b25l"}}, "a", origin="s") == b"one"
    with pytest.raises(ConfigurationNotFoundError, match="there are: a, b"):
        key_of({"kind": "ConfigMap", "data": {"a": ""}, "binaryData": {"b": ""}}, "c", origin="s")
    with pytest.raises(ConfigurationNotFoundError, match="there are: none"):
        key_of({"kind": "Secret", "data": None}, "c", origin="s")
    with pytest.raises(InvalidConfigurationError, match="not base64"):
        key_of({"kind": "Secret", "data": {"a": "?"}}, "a", origin="s")


def deployment(arguments: list[str], mount: dict[str, Any], source: dict[str, Any] | None = None) -> dict[str, Any]:
    container = {"name": "gardenlet", "args": arguments, "volumeMounts": [{"name": "config", **mount}]}
    volumes = [{"name": "token"}, {"name": "config", "configMap": source or {"name": "one"}}]
    return {"spec": {"template": {"spec": {"containers": [{"name": "other"}, container], "volumes": volumes}}}}


@pytest.mark.parametrize(
    ("found", "key"),
    [
        (deployment(["--config=/etc/g/config.yaml"], {"mountPath": "/etc/g"}), "config.yaml"),
        (deployment(["--config", "/etc/g/config.yaml"], {"mountPath": "/etc/g/"}), "config.yaml"),
        (deployment(["--config=/etc/g/c"], {"mountPath": "/etc/g/c", "subPath": "config.yaml"}), "config.yaml"),
        (
            deployment(
                ["--config=/etc/g/c"], {"mountPath": "/etc/g"}, {"name": "one", "items": [{"key": "k", "path": "c"}]}
            ),
            "k",
        ),
    ],
    ids=["joined", "apart", "sub-path", "items"],
)
def test_the_mounted_config_map_is_found(found: dict[str, Any], key: str) -> None:
    assert mounted_config_map(found, GARDENLET) == (Target(CONFIG_MAPS, "one", "garden"), key)


def test_a_sidecar_with_a_configuration_of_its_own_is_not_asked_before_gardenlet() -> None:
    found = deployment(["--config=/etc/g/config.yaml"], {"mountPath": "/etc/g"})
    pod = found["spec"]["template"]["spec"]
    mounts = [{"name": "ours", "mountPath": "/etc/ours"}]
    pod["containers"].insert(0, {"name": "sidecar", "args": ["--config=/etc/ours/a"], "volumeMounts": mounts})
    pod["volumes"].append({"name": "ours", "configMap": {"name": "ours"}})
    assert mounted_config_map(found, GARDENLET)[0].name == "one"


@pytest.mark.parametrize(
    "found",
    [
        deployment([], {"mountPath": "/etc/g"}),
        deployment(["--config=/other/config.yaml"], {"mountPath": "/etc/g"}),
        deployment(["--config=/etc/gx/config.yaml"], {"mountPath": "/etc/g"}),
    ],
    ids=["no-argument", "elsewhere", "a-longer-name"],
)
def test_a_deployment_without_it_is_an_error(found: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigurationError, match="--config=PATH"):
        mounted_config_map(found, GARDENLET)
