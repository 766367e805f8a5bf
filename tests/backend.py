"""The webhook's own side in a test: `serve` as a process, and the Secret that it mounts, as the kubelet brings it."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Protocol, Self

from tests.controlplane.errors import ApiError
from tests.controlplane.servers import free_port
from tests.seed import PROGRAM, Reconciler, Seed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

SECRET = "/api/v1/namespaces/garden/secrets/seccomp-reconciler-tls"  # noqa: S105 - a path
_POLL_SECONDS = 0.1
_START_SECONDS = 30.0


class SecretVolume:
    """A folder that follows a Secret as the kubelet does: each version in a folder of its own, then a symlink swap."""

    def __init__(self, stage: Seed, folder: Path, path: str = SECRET, *, delay_seconds: float = 0.0) -> None:
        self.folder = folder
        self._stage = stage
        self._path = path
        self._delay_seconds = delay_seconds
        self._version = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        with self._stage.writer("kubelet") as kubelet:
            while not self._stop.wait(_POLL_SECONDS):
                try:
                    found = kubelet.request("GET", self._path)
                except (OSError, HTTPException, ApiError):  # an API server that goes down, or has no etcd
                    kubelet.http.close()
                    continue
                if found is None or found["metadata"]["resourceVersion"] == self._version:
                    continue
                self._version = found["metadata"]["resourceVersion"]
                if self._stop.wait(self._delay_seconds):
                    return
                data = found.get("data") or {}
                put(self.folder, {name: base64.b64decode(value) for name, value in data.items()})


# Short clocks: a test waits for them.
ADAPTIVE = {"proofs": 2, "soak": "1s", "longestSoak": "8s", "lossTolerance": "3s", "floor": "1s", "calm": "20s"}
ELECTION = {"leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "400ms"}


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Put these files in place, all at once, as the kubelet does in a volume."""
    version = f"..{time.monotonic_ns()}"
    (folder / version).mkdir(parents=True)
    for name, content in files.items():
        (folder / version / name).write_bytes(content)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")
    new = folder / "..data_tmp"
    new.symlink_to(version)
    new.rename(folder / "..data")


class Stage(Protocol):
    """Where a process can be started."""

    def process(self, argv: list[str]) -> AbstractContextManager[Reconciler]:
        """Start a program; it is ended on leaving."""


class Server:
    """`seccomp-reconciler serve` as a process."""

    def __init__(self, process: Reconciler, port: int, status_port: int) -> None:
        self.process = process
        self.port = port
        self.status_port = status_port

    @property
    def url(self) -> str:
        """Where the API server finds it."""
        return f"https://127.0.0.1:{self.port}/webhooks/seccomp-profile"

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page of the plain port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """Return one sample, named with its labels as the page shows it."""
        for line in self.page("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        raise KeyError(name)

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Wait until it says that it is ready."""
        end = time.monotonic() + seconds
        while True:
            try:
                if self.page("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"serve is not ready:\n{self.process.last_words()}")
            time.sleep(0.02)


@contextmanager
def serving(stage: Stage, folder: Path, *arguments: str, drain_seconds: float = 0.0, port: int = 0) -> Iterator[Server]:
    """Start `serve` on free ports of 127.0.0.1; it is ended on leaving, whatever happened."""
    first = port or free_port()
    ports = (first, next(other for other in iter(free_port, None) if other != first))
    argv = [str(PROGRAM), "serve", "--certificates", str(folder), "--bind-address", "127.0.0.1"]
    argv += ["--port", str(ports[0]), "--status-port", str(ports[1]), "--drain-delay", str(drain_seconds), *arguments]
    with stage.process(argv) as process:
        yield Server(process, *ports)


def settings_for(url: str, *, propagation: str = "1s", overlap: str = "2s", **more: Any) -> str:  # noqa: ANN401 - JSON
    """Return a ReconcilerConfiguration for a backend at `url` with certificates of our own and a short clock.

    failurePolicy is Ignore where `registration` does not say another one: most tests are about something else.
    """
    own = {"propagation": propagation, "overlap": overlap, **more.pop("selfSigned", {})}
    answered = {"backend": {"url": url}, "ca": {"selfSigned": own}}
    registration = {"failurePolicy": "Ignore", **answered, **more.pop("registration", {})}
    return json.dumps(
        {
            "apiVersion": "seccomp-reconciler.config.gardener.cloud/v1alpha1",
            "kind": "ReconcilerConfiguration",
            "registration": registration,
            "proof": {"period": "1s"},
            "adaptive": ADAPTIVE,
            "leaderElection": ELECTION,
            **more,
        }
    )


def pod(name: str, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pod that says nothing about seccomp."""
    return {"metadata": {"name": name, **metadata}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}}


def profile_of(found: dict[str, Any]) -> str | None:
    """Return the type that the pod came back with."""
    context = found["spec"].get("securityContext") or {}
    kind: str | None = (context.get("seccompProfile") or {}).get("type")
    return kind
