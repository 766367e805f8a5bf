"""One pod on the node: its sandbox, its volumes and its containers, and what the API server is told of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from reconciler.timestamps import utc
from tests.node.container import API_PORT, Container
from tests.node.volumes import MissingError, Volumes
from tests.seed import MERGE_PATCH, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.seed import Connection

_REFRESH_SECONDS = 0.5


class Pod:
    """A pod that the scheduler gave us; `step` brings it forward, without ever waiting long."""

    def __init__(self, manifest: dict[str, Any], address: str, folder: Path, api: Path, kubelet: Connection) -> None:
        self.manifest = manifest
        self.address = address
        self.manifest.setdefault("status", {})["podIP"] = address
        self.is_over = False
        self._folder, self._kubelet = folder, kubelet
        folder.mkdir()
        (folder / "api.sock").symlink_to(api)
        self.socket = folder / "in.sock"
        self.volumes = Volumes(folder / "volumes", manifest, kubelet)
        spec = manifest["spec"]
        self.init = [self._container(one) for one in spec.get("initContainers") or ()]
        self.main = [self._container(one) for one in spec["containers"]]
        self._sandbox: subprocess.Popen[bytes] | None = None
        self._refreshed = 0.0
        self._waits_for = ""
        self._told: dict[str, Any] = {}
        self._ready_since: tuple[bool, str] = (False, "")

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def path(self) -> str:
        """Its path in the API."""
        metadata = self.manifest["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    @property
    def containers(self) -> list[Container]:
        """All of its containers."""
        return [*self.init, *self.main]

    def container(self, name: str) -> Container:
        """Return its container of that name."""
        return next(one for one in self.containers if one.name == name)

    def step(self) -> None:
        """Do what is to be done now, and tell the API server where something changed."""
        for one in self.containers:
            one.look(self.socket)
        if self.manifest["metadata"].get("deletionTimestamp"):
            self._end()
        elif self._phase() in ("Succeeded", "Failed"):
            for one in self.init:
                one.end(self._grace())
        else:
            self._forward()
        self._tell()
        if self.manifest["metadata"].get("deletionTimestamp") and not any(one.running for one in self.containers):
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.manifest["metadata"]["uid"]}}
            self._kubelet.request("DELETE", self.path, body)
            self.is_over = True

    def close(self) -> None:
        """End every process and forget the files."""
        for one in self.containers:
            if one.process is not None:
                one.process.kill()
                one.process.wait()
        if self._sandbox is not None:
            self._sandbox.kill()
            self._sandbox.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _container(self, spec: dict[str, Any]) -> Container:
        folder = self._folder / "root" / spec["name"]
        log = self._folder.parent / f"{self.manifest['metadata']['name']}_{spec['name']}.log"
        return Container(self.manifest, spec, self.volumes, folder, log)

    def _grace(self) -> float:
        return float(self.manifest["spec"].get("terminationGracePeriodSeconds", 30))

    def _forward(self) -> None:
        if not self._prepared():
            return
        assert self._sandbox is not None
        policy = self.manifest["spec"].get("restartPolicy", "Always")
        for one in self.containers:
            if one.wants_restart(policy if one not in self.init or one.is_sidecar else "OnFailure"):
                one.restart(self._sandbox.pid)
        for one in self.init:
            if not one.running and one.exit_code is None:
                one.start(self._sandbox.pid)
                return
            if not one.is_sidecar and one.exit_code != 0:
                return
        for one in self.main:
            if not one.running and one.exit_code is None:
                one.start(self._sandbox.pid)

    def _prepared(self) -> bool:
        if time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            try:
                self.volumes.refresh()
                self._waits_for = ""
            except MissingError as error:
                self._waits_for = str(error)
        if self._waits_for and not any(one.running for one in self.containers):
            return False
        if self._sandbox is None:
            argv = [sys.executable, "-m", "tests.node.sandbox", str(self._folder), str(API_PORT)]
            self._sandbox = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
        return self.socket.exists()

    def _end(self) -> None:
        for one in self.main:
            one.end(self._grace())
        if not any(one.running for one in self.main):
            for one in self.init:
                one.end(self._grace())

    def _phase(self) -> str:
        policy = self.manifest["spec"].get("restartPolicy", "Always")
        codes = [one.exit_code for one in self.main if not one.running]
        if len(codes) < len(self.main) or None in codes or policy == "Always":
            return "Running" if any(one.running for one in self.main) else "Pending"
        if any(codes):
            return "Pending" if policy == "OnFailure" else "Failed"
        return "Succeeded"

    def _tell(self) -> None:
        phase = self._phase()
        ready = phase == "Running" and all(one.ready for one in self.main)
        ready = ready and all(one.ready for one in self.init if one.is_sidecar)
        if not self._ready_since[1] or ready != self._ready_since[0]:
            self._ready_since = (ready, utc(time.time()))
        value, since = ("True" if ready else "False"), self._ready_since[1]
        status = {
            "phase": phase,
            "hostIP": "198.18.255.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": since},
                {"type": "Initialized", "status": "True", "lastTransitionTime": since},
                {"type": "ContainersReady", "status": value, "lastTransitionTime": since},
                {"type": "Ready", "status": value, "lastTransitionTime": since, "message": self._waits_for},
            ],
            "containerStatuses": [one.status() for one in self.main],
            **({"initContainerStatuses": [one.status() for one in self.init]} if self.init else {}),
        }
        if status != self._told:
            self._told = status
            self._kubelet.request("PATCH", f"{self.path}/status", {"status": status}, MERGE_PATCH)
