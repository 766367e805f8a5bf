"""The processes of a control plane: started, watched until they are ready, stopped, killed and started again."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, Self

from tests.controlplane import audit as audit_log
from tests.controlplane import commands, pki
from tests.controlplane.client import AdminClient
from tests.controlplane.errors import ApiError, ControlPlaneError
from tests.controlplane.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.controlplane.binaries import Binaries

_ETCD, _APISERVER, _CONTROLLERS = "etcd", "kube-apiserver", "kube-controller-manager"
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.05
# Short: on a port that another process took meanwhile, nobody may ever answer.
_PROBE_SECONDS = 3.0
_PORT_ATTEMPTS = 8
_PORT_PAUSE_SECONDS = 0.2
# Below the ports that Linux and macOS give to outgoing connections, so that a stopped server finds its own again.
_PORTS = range(20000, 32000)


class Servers:
    """etcd and kube-apiserver in a directory of their own, and faults to order; a context manager."""

    def __init__(self, found: Binaries, *, audit: bool, extra_flags: Sequence[str], controllers: bool) -> None:
        self.version = str(found.version)
        self._controllers = controllers
        self.port = 0
        self._found = found
        self._audit = audit
        self._extra_flags = tuple(extra_flags)
        self._supervision = Supervision()
        self.directory: Path = self._supervision.directory
        self._authority = pki.Authority(self.directory)
        self._admin_pair = self._authority.issue_client("admin", ["system:masters"])
        self._admin_files = pki.write_pair(self.directory, "admin", self._admin_pair)
        names = ["127.0.0.1", "localhost", "::1", "kubernetes.default.svc"]
        self._serving = pki.write_pair(self.directory, "apiserver", self._authority.issue_serving(names))
        self._signing = pki.write_signing_key(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The PEM file of the authority that signed everything here."""
        return self._authority.file

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of what runs, by name, and of the supervisor."""
        return {**self._supervision.pids, "supervisor": self._supervision.pid}

    def admin_request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:  # noqa: ANN401 - whatever JSON the API server answers
        """Ask as admin and return the parsed JSON; ApiError carries the status of a refusal."""
        client = AdminClient(self.url, self.ca_file, *self._admin_files)
        return client.request(method, path, body, content_type)

    def boot(self) -> None:
        """Start both on a free port and wait until they are ready."""
        self._launch_etcd()
        for _ in range(_PORT_ATTEMPTS):
            self.port = free_port()
            if self._launch_apiserver():
                return
        raise self.failure(f"found its port taken {_PORT_ATTEMPTS} times")

    def start_controllers(self, program: Path, kubeconfig: Path) -> None:
        """Start kube-controller-manager; what it has not done yet, nobody waits for here."""
        argv = commands.kube_controller_manager(program, kubeconfig=kubeconfig, ca_file=self.ca_file)
        self._supervision.start(_CONTROLLERS, argv)

    def stop(self) -> None:
        """End everything and remove the directory; more than once is fine."""
        self._supervision.close()

    def stop_apiserver(self, *, grace_seconds: float = 20.0) -> None:
        """End kube-apiserver in good order (SIGTERM): requests are finished, watches are closed.

        A client that neither reads nor leaves can hold that up for ever: after the grace it is killed.
        """
        self._supervision.end(_APISERVER, grace_seconds=grace_seconds)

    def kill_apiserver(self) -> None:
        """End kube-apiserver at once (SIGKILL)."""
        self._supervision.end(_APISERVER, signal_number=signal.SIGKILL)

    def start_apiserver(self) -> None:
        """Start kube-apiserver again on the same port and data, and wait until it is ready."""
        for attempt in range(_PORT_ATTEMPTS):
            if self._launch_apiserver():
                return
            time.sleep(_PORT_PAUSE_SECONDS * (attempt + 1))
        raise self.failure(f"cannot start again: another process has taken port {self.port}")

    def kill_etcd(self) -> None:
        """End etcd at once (SIGKILL): the API server stays and can neither read nor write."""
        self._supervision.end(_ETCD, signal_number=signal.SIGKILL)

    def stop_etcd(self) -> None:
        """End etcd in good order (SIGTERM): the API server stays and can neither read nor write."""
        self._supervision.end(_ETCD)

    def start_etcd(self) -> None:
        """Start etcd again on the same data; where kube-apiserver runs, wait until that is ready again."""
        self._launch_etcd()
        if _APISERVER in self._supervision.pids:
            self.wait_ready()

    def running(self) -> bool:
        """Whether everything that was started, and not ended through this object, still runs."""
        return all(self._supervision.exit_status(name) is None for name in tuple(self._supervision.pids))

    def failure(self, what: str, name: str = _APISERVER) -> ControlPlaneError:
        """Return an error that carries the end of a program's log."""
        log = self._supervision.log(name)
        return ControlPlaneError(f"the control plane {what}; the end of {name}'s log:\n{log}")

    def wait_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until /readyz says ok (RBAC's roles are a part of it) and the system's namespaces exist."""
        deadline = time.monotonic() + seconds
        client = AdminClient(self.url, self.ca_file, *self._admin_files, timeout_seconds=_PROBE_SECONDS)
        while True:
            try:
                client.request("GET", "/readyz")
                client.request("GET", "/api/v1/namespaces/default")
                client.request("GET", "/api/v1/namespaces/kube-system")
            except (OSError, ApiError) as error:
                if time.monotonic() > deadline:
                    raise self.failure(f"was not ready within {seconds:.0f} s (last answer: {error})") from error
            else:
                return
            for name in tuple(self._supervision.pids):
                if (status := self._supervision.exit_status(name)) is not None:
                    raise self.failure(f"lost {name} (exit status {status}) before it was ready", name)
            time.sleep(_POLL_SECONDS)

    def _launch_etcd(self) -> None:
        for stale in ("etcd.sock", "peer.sock"):
            (self.directory / stale).unlink(missing_ok=True)
        self._supervision.start(_ETCD, commands.etcd(self._found.etcd, self.directory))

    def _launch_apiserver(self) -> bool:
        """Start it and wait until it is ready; False when another process has the port."""
        argv = commands.kube_apiserver(
            self._found.kube_apiserver,
            self.directory,
            port=self.port,
            ca_file=self.ca_file,
            serving=self._serving,
            signing=self._signing,
            controllers=self._controllers,
        )
        if self._audit:
            argv += audit_log.flags(self.directory)
        log = self.directory / f"{_APISERVER}.log"
        before = log.stat().st_size if log.exists() else 0
        self._supervision.start(_APISERVER, [*argv, *self._extra_flags])
        try:
            self.wait_ready()
        except ControlPlaneError:
            if b"address already in use" in log.read_bytes()[before:]:
                self.kill_apiserver()
                return False
            raise
        return True


def free_port() -> int:
    """Return a port that nobody listens on now; whether it stays free, the server will see."""
    for port in random.sample(_PORTS, 200):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ControlPlaneError(f"no free port of 127.0.0.1 among {_PORTS}")
