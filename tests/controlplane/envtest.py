"""The release archives that setup-envtest downloads: find one in the index, verify its checksum, take two files out."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Any, cast

import yaml

from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.versions import Version, platform_name, version_or_none

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.progress import Display
    from tests.controlplane.versions import Wanted

INDEX_VARIABLE = "SECCOMP_RECONCILER_ENVTEST_INDEX"
# Source: controller-runtime, tools/setup-envtest/remote/http_client.go, DefaultIndexURL.
DEFAULT_INDEX = "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml"
PROGRAMS = ("kube-apiserver", "etcd")

# Name resolution included: without a network the build from modules should begin at once.
ANSWER_SECONDS = 3.0
_STALL_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20
# The index is some 200 KB, an archive some 60 MB and a program some 130 MB: bounds against nonsense, not estimates.
_MAX_INDEX_BYTES = 16 << 20
_MAX_PROGRAM_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Archive:
    """One entry of the index."""

    version: Version
    name: str
    address: str
    sha512: str


def index_address() -> str:
    """Return the configured address of the index; empty means that nothing is to be downloaded."""
    return os.environ.get(INDEX_VARIABLE, DEFAULT_INDEX).strip()


def find(wanted: Wanted) -> Archive:
    """Return the archive for this platform: the preferred release, else the newest that will do.

    ControlPlaneError says why there is none.
    """
    address = index_address()
    if not address:
        raise ControlPlaneError(f"{INDEX_VARIABLE} is empty: downloads are switched off")
    with _open(address) as response:
        archives = parse_index(_read(response, address))
    suitable = [archive for archive in archives if wanted.accepts(archive.version)]
    if not suitable:
        near = sorted({a.version for a in archives if a.version.minor == wanted.preferred.minor})
        of_minor = f" (of that minor version: {', '.join(map(str, near)) or 'none'})"
        raise ControlPlaneError(f"{address} lists no {wanted} for {platform_name()}{of_minor}")
    return max(suitable, key=lambda archive: (archive.version == wanted.preferred, archive.version))


def parse_index(document: bytes) -> list[Archive]:
    """Return the archives for this platform: `releases.<version>.<archive name>.{hash,selfLink}`."""
    found = []
    try:
        for text, entries in yaml.safe_load(document)["releases"].items():
            name = f"envtest-{text}-{platform_name()}.tar.gz"
            # Pre-releases, such as v1.30.0-rc.1, are listed too.
            if name in entries and (version := version_or_none(str(text))) is not None:
                entry = entries[name]
                found.append(Archive(version, name, str(entry["selfLink"]), str(entry["hash"])))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ControlPlaneError(f"the envtest index is not as expected ({type(error).__name__}: {error})") from error
    return found


def download(archive: Archive, folder: Path, show: Display) -> None:
    """Put the two programs of a verified archive into the folder; ControlPlaneError when anything is amiss."""
    packed = folder / archive.name
    digest = hashlib.sha512()
    try:
        with _open(archive.address) as response, packed.open("wb") as file:
            length = response.headers.get("Content-Length")
            with show.task(f"Downloading {archive.name}", float(length) if length else None) as completed:
                while chunk := response.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                    completed(file.tell())
    except (OSError, HTTPException) as error:
        raise ControlPlaneError(f"{archive.address} broke off: {error}") from error
    if digest.hexdigest() != archive.sha512.lower():
        raise ControlPlaneError(
            f"{archive.address} has the wrong checksum: sha512 {digest.hexdigest()[:16]}…, the index says "
            f"{archive.sha512[:16]}… (a truncated or a changed file; nothing of it was kept)"
        )
    extract(packed, folder)
    packed.unlink()


def extract(packed: Path, folder: Path) -> None:
    """Take kube-apiserver and etcd, and nothing else, out of the archive; paths within it are not believed."""
    try:
        with tarfile.open(packed) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name not in PROGRAMS or not member.isreg():
                    continue
                if member.size > _MAX_PROGRAM_BYTES:
                    raise ControlPlaneError(f"{name} in {packed.name} claims {member.size} bytes: refused")
                with cast("IO[bytes]", archive.extractfile(member)) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ControlPlaneError(f"{packed.name} cannot be unpacked: {error}") from error
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if missing:
        raise ControlPlaneError(f"{packed.name} holds no {' and no '.join(missing)}")


def _open(address: str) -> Any:  # noqa: ANN401 - urllib's response has no public common type
    """Open an address within the time for an answer; afterwards only a stall is an error.

    urllib's own timeout leaves name resolution out, so it is waited for from outside.
    """
    if not address.startswith(("http://", "https://")):
        raise ControlPlaneError(f"{address!r} is no http(s) address")
    outcome: list[Any] = []

    def attempt() -> None:
        try:
            outcome.append(urllib.request.urlopen(address, timeout=_STALL_SECONDS))  # noqa: S310 - checked above
        except urllib.error.HTTPError as error:
            error.close()
            outcome.append(error)
        except (OSError, HTTPException, ValueError) as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, name="envtest-download", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if not outcome:
        raise ControlPlaneError(f"{address} did not answer within {ANSWER_SECONDS:.0f} s")
    if isinstance(outcome[0], Exception):
        error = outcome[0]
        raise ControlPlaneError(f"{address} cannot be read: {error}") from error
    return outcome[0]


def _read(response: IO[bytes], address: str) -> bytes:
    try:
        content = response.read(_MAX_INDEX_BYTES + 1)
    except (OSError, HTTPException) as error:
        raise ControlPlaneError(f"{address} broke off: {error}") from error
    if len(content) > _MAX_INDEX_BYTES:
        raise ControlPlaneError(f"{address} is larger than {_MAX_INDEX_BYTES} bytes: that is no envtest index")
    return content
