"""The node: it runs every pod whose images it has, and is the way from the API server to it.

Pods have addresses of a network that does not exist (198.18.0.0/15, for tests of networks). The API server reaches
them by its egress selector, as it does through Konnectivity: a proxy on a socket, here ours.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.controlplane.errors import ApiError
from tests.node.container import fetch, runnable
from tests.node.pod import Pod
from tests.relay import relay
from tests.seed import Connection

if TYPE_CHECKING:
    from types import TracebackType

    from tests.controlplane.plane import ControlPlane

NAME = "node-1"
_TICK_SECONDS = 0.05


class Node:
    """A context manager; make it before the control plane, whose `flags` it gives, and `serve` it then."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="seccomp-node-"))
        self.directory.chmod(0o755)
        self.pods: dict[str, Pod] = {}
        self.problems: list[str] = []
        self._addresses = itertools.count(1)
        self._stop = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._threads: list[threading.Thread] = []
        self._plane: ControlPlane | None = None
        selection = {
            "name": "cluster",
            "connection": {
                "proxyProtocol": "HTTPConnect",
                "transport": {"uds": {"udsName": str(self.directory / "tunnel.sock")}},
            },
        }
        kind = {"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration"}
        (self.directory / "egress.json").write_text(json.dumps({**kind, "egressSelections": [selection]}))
        self.flags = (f"--egress-selector-config-file={self.directory / 'egress.json'}",)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.name == "kubelet":
                thread.join()
        for pod in self.pods.values():
            pod.close()
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self.directory, ignore_errors=True)

    def serve(self, plane: ControlPlane) -> None:
        """Register with this control plane and run its pods from now on."""
        self._plane = plane
        plane.admin_request("POST", "/api/v1/nodes", {"metadata": {"name": NAME}})
        for name, work in (("tunnel", self._relay), ("kubelet", self._run)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def pod(self, prefix: str) -> Pod:
        """Return the newest pod whose name begins so."""
        return [pod for pod in list(self.pods.values()) if pod.name.startswith(prefix)][-1]

    def of(self, **labels: str) -> list[Pod]:
        """Return the pods with these labels (`_` for `.` and `/` is not translated: use plain keys)."""
        return [
            pod
            for pod in list(self.pods.values())
            if labels.items() <= (pod.manifest["metadata"].get("labels") or {}).items()
        ]

    def page(self, pod: Pod, port: int, path: str) -> tuple[int, str]:
        """Return status and text of a plain page of that pod."""
        return fetch(pod.socket, port, path)

    def logs(self) -> str:
        """Return the end of every container's log, of those that are gone, too."""
        parts = []
        for path in sorted(self.directory.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"== {path.stem}", *lines]))
        return "\n".join([*parts, *self.problems])

    def _run(self) -> None:
        assert self._plane is not None
        with Connection(self._plane.kubeconfig_for_user("kubelet", ["system:masters"])) as kubelet:
            while not self._stop.wait(_TICK_SECONDS):
                try:
                    self._look(kubelet)
                except Exception:  # noqa: BLE001 - whatever it is, it is told, and the other pods go on
                    self.problems.append(traceback.format_exc())
                    kubelet.http.close()
                    time.sleep(0.2)

    def _look(self, kubelet: Connection) -> None:
        # What it can run has the label: a load's pods are not even read.
        listed = kubelet.request("GET", "/api/v1/pods?labelSelector=app")["items"]
        found = {one["metadata"]["uid"]: one for one in listed}
        for uid, manifest in found.items():
            if uid not in self.pods:
                if manifest["spec"].get("nodeName") not in (None, NAME) or not runnable(manifest):
                    continue
                self._take(kubelet, manifest)
            else:
                self.pods[uid].manifest["metadata"].update(manifest["metadata"])
        for uid, pod in list(self.pods.items()):
            try:
                if uid in found and not pod.is_over:
                    pod.step()
            except ApiError as error:
                self.problems.append(f"{pod.name}: {error}")
            if uid not in found or pod.is_over:
                pod.close()
                del self.pods[uid]

    def _take(self, kubelet: Connection, manifest: dict[str, Any]) -> None:
        metadata = manifest["metadata"]
        if not manifest["spec"].get("nodeName"):
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
            body = {"metadata": {"name": metadata["name"]}, "target": {"kind": "Node", "name": NAME}}
            kubelet.request("POST", path, body)
        number = next(self._addresses)
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        folder = self.directory / str(number)
        self.pods[metadata["uid"]] = Pod(manifest, address, folder, self.directory / "api.sock", kubelet)

    def _relay(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_unix_server(self._tunnel, self.directory / "tunnel.sock"))
        self._loop.run_until_complete(asyncio.start_unix_server(self._to_api, self.directory / "api.sock"))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _to_api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._plane is not None
        await relay(reader, writer, asyncio.open_connection("127.0.0.1", self._plane.port))

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one CONNECT of the API server."""
        host, _, port = (await reader.readline()).split()[1].decode().rpartition(":")
        while (await reader.readline()).strip():
            pass
        pod = next((one for one in list(self.pods.values()) if one.address == host), None)
        try:
            if pod is None:
                raise ConnectionRefusedError
            answer, request = await asyncio.open_unix_connection(pod.socket)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        request.write(f"{port}\n".encode())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return answer, request

        await relay(reader, writer, connected())
