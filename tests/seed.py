"""A seed as the reconciler finds it: its restricted identity, its files, the real program as a process, other writers.

The demo and the benchmarks stand on it; each takes a control plane and leaves nothing behind.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

import yaml

from tests.controlplane.errors import ApiError
from tests.controlplane.supervisor import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tests.controlplane.plane import ControlPlane
    from tests.zygote import Zygote

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).with_name("seccomp-reconciler")
# The status port is any that is free: several of them run at once.
RUN = (str(PROGRAM), "run", "--bind-address", "127.0.0.1", "--status-port", "0")
COLLECTION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
REGISTRATION = f"{COLLECTION}/seccomp-reconciler"
USER = "system:serviceaccount:garden:seccomp-reconciler"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
CANARY = "seccomp-canary"
MANAGED = "shoot--demo"
_PLURALS = {"NetworkPolicy": "networkpolicies", "PriorityClass": "priorityclasses"}
_TIMEOUT_SECONDS = 30.0
_END_SECONDS = 10.0
_COMMAND_SECONDS = 60.0


class Connection:
    """One kept connection to the API server, so that a measured time holds no TLS handshake."""

    def __init__(self, kubeconfig: Path, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        if "client-key-data" in user:
            pair = kubeconfig.with_suffix(".pem")
            pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
            context.load_cert_chain(pair)
        token = user.get("token")
        self._headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        address = urlsplit(cluster["server"])
        self.http = HTTPSConnection(address.hostname or "", address.port, timeout=timeout_seconds, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def send(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> None:
        """Send one request; the answer is read from `http`."""
        payload = None if body is None else json.dumps(body)
        self.http.request(method, path, payload, {**self._headers, "Content-Type": content_type})

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:  # noqa: ANN401 - whatever JSON the API server answers
        """Return the parsed answer, None where there is no such object; ApiError for any other refusal."""
        self.send(method, path, body, content_type)
        response = self.http.getresponse()
        text = response.read().decode()
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(method, path, response.status, text)
        return json.loads(text)


class Process(Protocol):
    """What a started program and a fork of a zygote have in common, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """Send it SIGKILL."""


class Reconciler:
    """`seccomp-reconciler run` as a process; its log goes to a file."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of that name so far."""
        lines = self._log.read_text(errors="replace").splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in parsed if event.get("event") == name]

    def last_words(self, lines: int = 10) -> str:
        """Return the end of the log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) or "(no output)"

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds it took. TimeoutExpired after ten seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_END_SECONDS), time.monotonic() - began


class Seed:
    """A control plane with exactly config/rbac.yaml, and a directory with the product's files.

    With a zygote the product's processes are its forks; otherwise the program is started each time.
    """

    def __init__(self, plane: ControlPlane, directory: Path, zygote: Zygote | None = None) -> None:
        self.plane = plane
        self.zygote = zygote
        self.directory = directory
        self.gardenlet = directory / "config.yaml"
        self.ca = directory / "ca.crt"
        plane.ensure_namespace("garden")
        plane.ensure_namespace(MANAGED, {"gardener.cloud/role": "shoot"})
        for name in ("rbac.yaml", "canary.yaml"):
            self.install(name)
        # As kube-controller-manager does, which does not run here.
        status = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}
        quota = f"/api/v1/namespaces/{CANARY}/resourcequotas/{CANARY}"
        plane.admin_request("PATCH", f"{quota}/status", status, MERGE_PATCH)
        self.kubeconfig = plane.kubeconfig_for_service_account("garden", "seccomp-reconciler", seconds=4 * 3600)
        self.configure((ROOT / "config" / "gardenlet.yaml").read_text())
        self.ca.write_bytes(plane.ca_pem)
        # No release is installed here.
        settings = directory / "defaults.yaml"
        settings.write_text(
            "apiVersion: seccomp-reconciler.config.gardener.cloud/v1alpha1\nkind: ReconcilerConfiguration\n"
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SECCOMP_", "KUBE"))}
        # HOME: neither the product nor kubectl may find, or leave, anything in the user's own.
        self.environment = {
            **kept,
            "KUBECONFIG": str(self.kubeconfig),
            "SECCOMP_RECONCILER_CONFIG": str(settings),
            "HOME": str(directory),
            "TMPDIR": str(directory),
        }
        self.inputs = ("--gardenlet-config", str(self.gardenlet), "--ca-file", str(self.ca))

    def install(self, name: str) -> None:
        """Create everything in that file of config/."""
        for document in yaml.safe_load_all((ROOT / "config" / name).read_text()):
            self.plane.admin_request("POST", collection(document), document)

    def configure(self, text: str) -> None:
        """Put this GardenletConfiguration in place, whole: as the kubelet swaps a ConfigMap's files."""
        new = self.gardenlet.with_suffix(".new")
        new.write_text(text)
        new.replace(self.gardenlet)

    def writer(self, name: str) -> Connection:
        """Return a connection of another writer, with every right."""
        return Connection(self.plane.kubeconfig_for_user(name, ["system:masters"]))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the product to its end, as the restricted ServiceAccount."""
        return completed([str(PROGRAM), *arguments], self.environment, self.zygote)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Reconciler]:
        """Start `seccomp-reconciler run` with the seed's inputs; it is ended on leaving, whatever happened."""
        with self.process([*RUN, *self.inputs, *arguments]) as reconciler:
            yield reconciler

    @contextmanager
    def process(self, argv: list[str]) -> Iterator[Reconciler]:
        """Start a program as the restricted ServiceAccount; it is ended on leaving, whatever happened."""
        with started(argv, self.directory, self.environment, self.zygote) as reconciler:
            yield reconciler


def start(
    argv: list[str], environment: dict[str, str], zygote: Zygote | None = None, *, stdout: int, stderr: int
) -> Process:
    """Start a program with these files; the zygote forks where the program is ours."""
    if zygote is not None and argv[0] == str(PROGRAM):
        return zygote.start(argv, environment=environment, directory=ROOT, stdout=stdout, stderr=stderr)
    # Its own session: Ctrl-C reaches us, and we decide the order in which things end.
    return subprocess.Popen(
        argv,
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - also when we are killed; no thread holds a lock here
    )


def completed(
    argv: list[str], environment: dict[str, str], zygote: Zygote | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, which must come within a minute; stdout and stderr are texts."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(argv, environment, zygote, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = process.wait(_COMMAND_SECONDS)
        finally:
            process.kill()
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(argv, code, *texts)


@contextmanager
def started(
    argv: list[str], directory: Path, environment: dict[str, str], zygote: Zygote | None = None
) -> Iterator[Reconciler]:
    """Start a program whose log is kept in `directory`; it is ended on leaving, whatever happened."""
    descriptor, name = tempfile.mkstemp(suffix=".log", dir=directory)
    process = start(argv, environment, zygote, stdout=descriptor, stderr=descriptor)
    os.close(descriptor)
    reconciler = Reconciler(process, Path(name))
    try:
        yield reconciler
    finally:
        if process.poll() is None:
            try:
                reconciler.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def collection(manifest: dict[str, Any]) -> str:
    """Return the URL path under which objects like this one are created."""
    version, kind, namespace = manifest["apiVersion"], manifest["kind"], manifest["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{_PLURALS.get(kind, f'{kind.lower()}s')}"


@contextmanager
def seed(plane: ControlPlane, zygote: Zygote | None = None) -> Iterator[Seed]:
    """Make `plane` a seed; the product's files are gone on leaving."""
    with tempfile.TemporaryDirectory(prefix="seccomp-seed-") as directory:
        yield Seed(plane, Path(directory), zygote)
