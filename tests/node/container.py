"""One container of a pod as a process: started, probed, restarted, ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from reconciler.timestamps import utc
from tests.node.volumes import Volumes, field
from tests.seed import ROOT

if TYPE_CHECKING:
    from pathlib import Path

API_PORT = 6443
# What stands for gardenlet: it needs its configuration, and answers its probes.
_GARDENLET = """
import http.server, pathlib
pathlib.Path("/etc/gardenlet/config/config.yaml").read_bytes()
class Probes(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("", 2728), Probes).serve_forever()
"""
IMAGES = {
    "seccomp-reconciler": [sys.executable, "-m", "reconciler"],
    "gardenlet": [sys.executable, "-c", _GARDENLET],
}
_PROBE_SECONDS = 0.3
_BACK_OFF_SECONDS = 0.5


def runnable(pod: dict[str, Any]) -> bool:
    """Whether every image of the pod is here."""
    return all(_image(one) in IMAGES for one in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]])


def _image(spec: dict[str, Any]) -> str:
    return re.split(r"[:@]", spec["image"].rsplit("/", 1)[-1])[0]


class Container:
    """A container by its spec, in a pod's sandbox."""

    def __init__(self, pod: dict[str, Any], spec: dict[str, Any], volumes: Volumes, folder: Path, log: Path) -> None:
        self.name: str = spec["name"]
        self.is_sidecar = spec.get("restartPolicy") == "Always"
        self.restarts = 0
        self.exit_code: int | None = None
        self.peak_memory_bytes = 0
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._pod, self._spec, self._volumes, self._folder = pod, spec, volumes, folder
        self._began, self._ended, self._kill_at = 0.0, 0.0, 0.0
        self._last_exit: dict[str, Any] | None = None
        self._ready = False
        self._failures = 0
        self._probed: dict[str, float] = {}

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.process is not None

    @property
    def ready(self) -> bool:
        """Whether it runs and, where it says how to ask, says that it is ready."""
        return self.running and (self._ready or "readinessProbe" not in self._spec)

    def start(self, sandbox: int) -> None:
        """Start the process in the pod's sandbox."""
        context = {**(self._pod["spec"].get("securityContext") or {}), **(self._spec.get("securityContext") or {})}
        environment = self._environment()
        expanded = [
            re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], item) for item in self._spec.get("args", ())
        ]
        code = [(sys.prefix, sys.prefix, True), (sys.base_prefix, sys.base_prefix, True)]
        code.append((str(ROOT / "reconciler"), str(ROOT / "reconciler"), True))
        mounts = [
            (str(self._volumes.folder(mount["name"])), mount["mountPath"], mount.get("readOnly", False))
            for mount in self._spec.get("volumeMounts", ())
        ]
        wanted = {
            "sandbox": sandbox,
            "root": str(self._folder),
            "mounts": [*code, *mounts],
            "read_only_root": bool(context.get("readOnlyRootFilesystem")),
            "user": (context.get("runAsUser", 0), context.get("runAsGroup", 0)),
            "argv": [*(self._spec.get("command") or IMAGES[_image(self._spec)]), *expanded],
            "environment": environment,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as document, self.log.open("ab") as log:
            document.write(json.dumps(wanted).encode())
            document.seek(0)
            argv = [sys.executable, "-m", "tests.node.enter", str(document.fileno())]
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[document.fileno()],
                start_new_session=True,
            )
        self.exit_code, self._began, self._ready, self._failures, self._kill_at = None, time.time(), False, 0, 0.0
        self._probed = {}

    def end(self, grace_seconds: float) -> None:
        """Send SIGTERM, once; `look` kills it after the grace."""
        if self.process is not None and not self._kill_at:
            self._kill_at = time.time() + grace_seconds
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as a node that runs out of memory does."""
        if self.process is not None:
            self.process.kill()

    def look(self, sandbox_socket: Path) -> None:
        """See whether it ended, and probe it."""
        if self.process is None:
            return
        self._measure()
        if self._kill_at and time.time() > self._kill_at:
            self.process.kill()
        status = self.process.poll()
        if status is not None:
            self.process, self._ready, self._ended = None, False, time.time()
            self.exit_code = status if status >= 0 else 128 - status
            return
        if self._kill_at:
            self._ready = False
            return
        if probe := self._due("readinessProbe", _PROBE_SECONDS):
            self._ready = self._answers(probe, sandbox_socket)
        if (live := self._spec.get("livenessProbe")) and self._due("livenessProbe", live.get("periodSeconds", 10)):
            self._failures = 0 if self._answers(live, sandbox_socket) else self._failures + 1
            if self._failures >= live.get("failureThreshold", 3):
                self.end(5.0)

    def wants_restart(self, policy: str) -> bool:
        """Whether it ended and is to run again now."""
        if self.process is not None or self.exit_code is None:
            return False
        again = self.is_sidecar or policy == "Always" or (policy == "OnFailure" and self.exit_code != 0)
        return again and time.time() - self._ended > _BACK_OFF_SECONDS

    def restart(self, sandbox: int) -> None:
        """Run it again."""
        self._last_exit = self._terminated()
        self.restarts += 1
        self.start(sandbox)

    def status(self) -> dict[str, Any]:
        """Return its status as a kubelet reports it."""
        state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        if self.process is not None:
            state = {"running": {"startedAt": utc(self._began)}}
        elif self.exit_code is not None:
            state = {"terminated": self._terminated()}
        return {
            "name": self.name,
            "image": self._spec["image"],
            "imageID": "",
            "ready": self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": state,
            **({"lastState": {"terminated": self._last_exit}} if self._last_exit else {}),
        }

    def _terminated(self) -> dict[str, Any]:
        reason = "Completed" if self.exit_code == 0 else "Error"
        times = {"startedAt": utc(self._began), "finishedAt": utc(self._ended)}
        return {"exitCode": self.exit_code, "reason": reason, **times}

    def _environment(self) -> dict[str, str]:
        found = {
            "PATH": os.defpath,
            "HOSTNAME": self._pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(API_PORT),
        }
        for item in self._spec.get("env", ()):
            found[item["name"]] = (
                field(self._pod, item["valueFrom"]["fieldRef"]["fieldPath"]) if "valueFrom" in item else item["value"]
            )
        return found

    def _due(self, kind: str, period: float) -> dict[str, Any] | None:
        if kind not in self._spec or time.monotonic() - self._probed.get(kind, 0.0) < period:
            return None
        self._probed[kind] = time.monotonic()
        probe: dict[str, Any] = self._spec[kind]
        return probe

    def _answers(self, probe: dict[str, Any], sandbox_socket: Path) -> bool:
        port = probe["httpGet"]["port"]
        if isinstance(port, str):
            port = next(one["containerPort"] for one in self._spec["ports"] if one["name"] == port)
        return fetch(sandbox_socket, port, probe["httpGet"]["path"])[0] == 200

    def _measure(self) -> None:
        try:
            text = open(f"/proc/{self.process.pid}/status").read() if self.process else ""  # noqa: SIM115
        except OSError:
            return
        if match := re.search(r"VmHWM:\s+(\d+) kB", text):
            self.peak_memory_bytes = max(self.peak_memory_bytes, int(match[1]) * 1024)


def fetch(sandbox_socket: Path, port: int, path: str) -> tuple[int, str]:
    """Return status and text of a plain page inside the pod; 0 where nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5.0)
            connection.connect(str(sandbox_socket))
            connection.sendall(f"{port}\nGET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n".encode())
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
    except OSError:
        return 0, ""
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d+)", head)
    return (int(match[1]) if match else 0), body.decode(errors="replace")
