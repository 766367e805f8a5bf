"""A seed at work: `run` and `serve` as processes that a test may kill, and what somebody outside sees of them.

Everything is judged by what the API server keeps: the object as a watch saw it, the audit log, Events, pods.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from reconciler.registration import memory
from tests.backend import SecretVolume, Server, pod, profile_of, serving, settings_for
from tests.cluster.answered import remove_secrets
from tests.cluster.field import Field, document
from tests.cluster.patience import until
from tests.controlplane.errors import ApiError
from tests.controlplane.servers import free_port
from tests.seed import COLLECTION, MANAGED, RUN, Connection, Reconciler, Seed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from reconciler.registration.memory import Memory

LEASE = "/apis/coordination.k8s.io/v1/namespaces/garden/leases/seccomp-reconciler"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
PODS = f"/api/v1/namespaces/{MANAGED}/pods"
NAME = "seccomp-reconciler"
_SERIAL = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sight:
    """Our object at one moment: its failurePolicy (empty: absent), its resourceVersion, when it was seen."""

    policy: str
    version: int
    at: float  # seconds since the epoch
    memory: Memory | None


class History:
    """Every state of our object, by a watch; a context manager."""

    def __init__(self, stage: Seed) -> None:
        admin = stage.plane.kubeconfig_for_user("historian", ["system:masters"])
        self._connection = Connection(admin, timeout_seconds=300.0)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.sights: list[Sight] = []

    def __enter__(self) -> Self:
        listed = self._connection.request("GET", COLLECTION)
        version = listed["metadata"]["resourceVersion"]
        selector = f"watch=true&fieldSelector=metadata.name%3D{NAME}&resourceVersion={version}"
        self._connection.send("GET", f"{COLLECTION}?{selector}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.http.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.http.close()

    @property
    def policies(self) -> list[str]:
        """The failurePolicy after each change, repetitions left out."""
        return [policy for policy, _ in itertools.groupby(sight.policy for sight in self.sights)]

    def _follow(self) -> None:
        response = self._connection.http.getresponse()
        try:
            while line := response.readline():
                event = json.loads(line)
                found = event["object"]
                policy = "" if event["type"] == "DELETED" else policy_of(found)
                version = int(found["metadata"]["resourceVersion"])
                self.sights.append(Sight(policy, version, time.time(), memory.of(found)))
        except OSError:
            return


def policy_of(found: dict[str, Any] | None) -> str:
    """Return the failurePolicy of our entry; empty where nothing stands."""
    entries = (found or {}).get("webhooks") or ()
    return str(entries[0]["failurePolicy"]) if entries else ""


class Running:
    """`seccomp-reconciler run`, with its metrics."""

    def __init__(self, process: Reconciler) -> None:
        self.process = process

    def kill(self) -> None:
        """Kill it: it cannot say good-bye."""
        self.process.process.kill()
        self.process.process.wait()

    def log(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of that name."""
        return self.process.events(name)

    def metric(self, name: str) -> float:
        """Return one sample of ours, named with its labels and without the prefix; 0 before the page is there."""
        lines = self._metrics()
        for line in lines:
            if line.rpartition(" ")[0] == f"seccomp_reconciler_{name}":
                return float(line.rpartition(" ")[2])
        if not lines:
            return 0.0
        raise KeyError(name)

    def has_metric(self, beginning: str) -> bool:
        """Return whether any sample of ours begins so, without the prefix."""
        return any(line.startswith(f"seccomp_reconciler_{beginning}") for line in self._metrics())

    def _metrics(self) -> list[str]:
        if not (listening := self.log("run.listening")):
            return []
        with urllib.request.urlopen(f"http://127.0.0.1:{listening[0]['status_port']}/metrics", timeout=5) as page:
            return str(page.read().decode()).splitlines()

    def words(self) -> str:
        """Return the end of its log."""
        return self.process.last_words(40)


class House:
    """The field, the settings, and a server that can be killed and comes back."""

    def __init__(self, field: Field, folder: Path, stack: ExitStack) -> None:
        self.field = field
        self.seed = field.seed
        self.settings = folder / "reconciler.yaml"
        self.volume = SecretVolume(field.seed, folder / "tls")
        self.port = free_port()
        self.server: Server | None = None
        self._stack = stack
        self._pods: list[str] = []
        self._deep_pods: list[str] = []
        self.inputs = ("--config", str(self.settings), "--gardenlet-config", str(field.seed.gardenlet))

    # the server

    def serve(self) -> Server:
        """Have a server, a new one where the last is gone; its certificates must have been issued."""
        if self.server is None:
            self.server = self._stack.enter_context(serving(self.seed, self.volume.folder, port=self.port))
            self.server.wait_ready()
        return self.server

    def kill_server(self) -> None:
        """Kill the server, if there is one."""
        if self.server is not None:
            self.server.process.process.kill()
            self.server.process.process.wait()
            self.server = None

    def reviews(self) -> float:
        """Return how many reviews the server has answered."""
        lines = self.serve().page("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if "_reviews_total{" in line)

    # the product

    def configure(self, **more: Any) -> None:  # noqa: ANN401 - JSON
        """Write settings: Adaptive where `registration` does not say another policy."""
        registration = {"failurePolicy": "Adaptive", **more.pop("registration", {})}
        url = f"https://127.0.0.1:{self.port}/webhooks/seccomp-profile"
        self.settings.write_text(settings_for(url, registration=registration, **more))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the product with these settings."""
        return self.seed.command(*arguments, *self.inputs)

    def status(self) -> tuple[int, dict[str, Any]]:
        """Return exit code and report of `status`."""
        done = self.command("status", "--output", "json")
        assert done.returncode in (0, 75), done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """Start `run`; it is ended on leaving, and must not have ended by itself or told of a defect."""
        with self.seed.process([*RUN, *self.inputs, *arguments]) as process:
            running = Running(process)
            yield running
            assert process.process.poll() in (None, -9), running.words()
            assert "Traceback" not in process.last_words(100_000)

    def reaches(self, policy: str, *, told: Callable[[], object] = lambda: "") -> dict[str, Any]:
        """Wait until our object stands at `policy`, and return it."""
        return until(lambda: found if policy_of(found := self.standing()) == policy else None, told=told)

    # what is seen from outside

    def standing(self) -> dict[str, Any]:
        """Return our object; empty where it is absent."""
        return self.field.standing() or {}

    def remembered(self) -> Memory:
        """Return what our object remembers."""
        found = memory.of(self.field.standing())
        assert found is not None
        return found

    def announced(self, since: float) -> dict[str, str]:
        """Return the notes of the Events about our object since then, by reason; the last one of each."""
        found = self.field.other.request("GET", EVENTS)["items"]
        ours = [one for one in found if one["regarding"]["name"] == NAME and _time_of(one) >= since]
        return {one["reason"]: one["note"] for one in sorted(ours, key=_time_of)}

    def writes(self) -> list[tuple[str, str, str]]:
        """Return verb, resource and name of each write of the product, but those of its Lease, Events and canaries."""
        left_out = ("leases", "events", "pods")
        references = [(event["verb"], event.get("objectRef") or {}) for event in self.field.writes()]
        return [
            (verb, found["resource"], found.get("name", ""))
            for verb, found in references
            if found.get("resource") not in left_out
        ]

    def create_pod(self, **metadata: Any) -> str | None:  # noqa: ANN401 - JSON
        """Create a pod in a managed namespace and return the type of its profile; ApiError where it is refused."""
        name = f"enforced-{next(_SERIAL)}"
        created = profile_of(self.field.other.request("POST", PODS, pod(name, **metadata)))
        self._pods.append(name)
        return created

    def create_deep_pod(self, levels: int) -> str:
        """Create a pod whose managedFields nest so deeply, in bytes: Python cannot write it, nor read what is answered.

        It has no profile where no webhook is called.
        """
        name = f"deep-{next(_SERIAL)}"
        fields = b'{"f:x":' * levels + b"{}" + b"}" * levels
        manager = b'{"manager":"deep","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":'
        text = json.dumps(pod(name)).encode()
        text = text.replace(b'"metadata": {', b'"metadata": {"managedFields": [' + manager + fields + b"}], ", 1)
        http, headers = self.field.other.http, {"Content-Type": "application/json"}
        http.request("POST", PODS, text, headers)
        answer = http.getresponse()
        words = answer.read()
        assert answer.status == HTTPStatus.CREATED, words[:500]
        assert words.count(b'{"f:x":') >= levels, "the API server keeps them"
        self._deep_pods.append(name)
        return name

    def refuses(self) -> None:
        """Wait until pods are refused because of the webhook: the API server may learn of Fail a moment late."""

        def is_refused() -> bool:
            try:
                self.field.other.request("POST", f"{PODS}?dryRun=All", pod("refused"))
            except ApiError as error:
                return "failed calling webhook" in str(error)
            return False

        until(is_refused)

    def lets_through(self) -> str:
        """Return the name of a pod that came through without a profile, as soon as the API server has learned of it."""

        def is_bare() -> bool:
            try:
                return self.create_pod() is None
            except ApiError:
                return False

        until(is_bare)
        return self._pods[-1]

    # from one test to the next

    def clean(self) -> None:
        """Leave nothing but the Secrets, the server and default settings."""
        self.field.delete()
        other = self.field.other
        if other.request("GET", LEASE) is not None:
            other.request("DELETE", LEASE)
        while self._deep_pods:
            other.send("DELETE", f"{PODS}/{self._deep_pods.pop()}?gracePeriodSeconds=0")
            other.http.getresponse().read()
        while self._pods:
            other.request("DELETE", f"{PODS}/{self._pods.pop()}?gracePeriodSeconds=0")
        self.seed.configure(document(gate="true"))
        self.configure()

    def issue(self) -> None:
        """Have certificates issued, and nothing registered."""
        self.configure()
        done = self.command("reconcile")
        assert done.returncode == 0, done.stderr
        self.field.delete()
        until((self.volume.folder / "tls.crt").exists)


@contextmanager
def housed(stage: Seed, folder: Path) -> Iterator[House]:
    """Yield a house whose server answers; its processes and Secrets are gone on leaving."""
    field = Field(stage)
    remove_secrets(field)
    with ExitStack() as stack:
        house = House(field, folder, stack)
        stack.callback(remove_secrets, field)
        house.clean()
        stack.enter_context(house.volume)
        house.issue()
        yield house
        house.clean()
    field.leave()


def _time_of(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["eventTime"]).timestamp()


def enforced(house: House) -> None:
    """Have it stand at Fail, with nobody running; the policy is Fail for that, which one proof raises."""
    house.configure(registration={"failurePolicy": "Fail"})
    done = house.command("reconcile", "--wait", "--timeout", "45")
    assert done.returncode == 0, done.stderr
    house.configure()
