"""An API server in this process, and the product's loop against it: what a test needs to see the order of requests.

It speaks HTTP on 127.0.0.1, so that the product is driven at the edge that it really has: its classes may change, the
requests may not. It keeps objects with uid and resourceVersion, lists, watches, and refuses a write whose precondition
does not hold, as the API server does (tried on a real one; tests/cluster holds that). It leaves out everything else:
admission, defaults, RBAC, fields that several managers share.

An answer can be withheld: the request is carried out, and the client hears of it when the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime as dt
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import yaml
from aiohttp import web

from reconciler import settings as configuration
from reconciler.backoff import Backoff
from reconciler.cluster import Cluster
from reconciler.controller.loop import Loop
from reconciler.controller.reporting import Known, Report
from reconciler.registration import memory
from reconciler.registration.desired import render
from reconciler.registration.memory import State
from reconciler.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path
    from types import TracebackType

    from reconciler.registration.identity import Manifest

REGISTRATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
REGISTRATION = f"{REGISTRATIONS}/seccomp-reconciler"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/garden/leases"
LEASE = f"{LEASES}/seccomp-reconciler"
SECRETS = "/api/v1/namespaces/garden/secrets"
AUTHORITY = f"{SECRETS}/seccomp-reconciler-ca"
SERVING = f"{SECRETS}/seccomp-reconciler-tls"
OWNERS = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
OWNER = f"{OWNERS}/seccomp-reconciler-create"
GARDENLET = "/api/v1/namespaces/garden/configmaps/gardenlet"
CANARIES = "/api/v1/namespaces/seccomp-canary/pods"
SKIP_LABEL = "seccompprofile.resources.gardener.cloud/skip"
ANNOTATION = "seccomp-reconciler.gardener.cloud/"

# Only a test that fails waits for so long.
PATIENCE_SECONDS = 20.0


@dataclass(eq=False)
class Request:
    """One request as it arrived (seconds since the epoch); `status` is 0 until it was carried out."""

    method: str
    path: str
    body: Any
    is_collection: bool
    is_dry_run: bool
    arrived: float = field(default_factory=time.time)
    status: int = 0

    @property
    def is_write(self) -> bool:
        return self.method != "GET" and not self.is_dry_run

    @property
    def precondition(self) -> tuple[str | None, str | None]:
        """uid and resourceVersion that the object must have."""
        if isinstance(self.body, list):
            found = {one["path"]: one["value"] for one in self.body}
            return found.get("/metadata/uid"), found.get("/metadata/resourceVersion")
        body = self.body or {}
        given = body.get("preconditions" if self.method == "DELETE" else "metadata") or {}
        return given.get("uid"), given.get("resourceVersion")


@dataclass(eq=False)
class Gate:
    """Stops up to `most` requests that match."""

    matches: Callable[[Request], bool]
    most: float
    arrived: list[Request] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def arrives(self, number: int = 1) -> None:
        """Wait until so many requests were carried out and wait for their answers."""
        await until(lambda: len(self.arrived) >= number)

    def open(self) -> None:
        self.opened.set()

    def takes(self, request: Request) -> bool:
        """Return whether it stops this request; then it counts."""
        if self.opened.is_set() or len(self.arrived) >= self.most or not self.matches(request):
            return False
        self.arrived.append(request)
        return True


class SeedApi:
    """The API server; `requests` is what arrived, in order. Use it as an async context manager."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Manifest] = {}
        self.requests: list[Request] = []
        self.versions: dict[str, Manifest] = {}  # each version of each object, by resourceVersion
        self.is_proving = True  # whether the canary gets its profile
        self._gates: list[Gate] = []
        self._refusals: list[Gate] = []
        self._listeners: list[Callable[[Request], object]] = []
        self._acts: set[asyncio.Future[None]] = set()
        self._history: list[tuple[int, str, str, Manifest]] = []
        self._changed = asyncio.Condition()
        self._version = 100
        self._folder = folder

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.kubeconfig = self._folder / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "seed",
                    "contexts": [{"name": "seed", "context": {"cluster": "seed", "user": "test"}}],
                    "clusters": [
                        {"name": "seed", "cluster": {"server": f"http://127.0.0.1:{self._runner.addresses[0][1]}"}}
                    ],
                    "users": [{"name": "test", "user": {"token": "test"}}],
                }
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gate in self._gates:
            gate.open()
        for act in self._acts:
            act.cancel()
        await self._runner.cleanup()

    # What a test does.

    def put(
        self, path: str, manifest: Manifest, *, manager: str = "seccomp-reconciler", is_applied: bool = True
    ) -> None:
        """Have `manifest` stored, written by `manager`; a known object keeps its uid."""
        before = self.objects.get(path)
        self._version += 1
        stored: dict[str, Any] = {"metadata": {}, **copy.deepcopy(dict(manifest))}
        metadata = stored["metadata"]
        metadata["name"] = path.rpartition("/")[2]
        metadata["uid"] = before["metadata"]["uid"] if before else f"uid-{self._version}"
        metadata["resourceVersion"] = str(self._version)
        fields = [one for one in metadata.pop("managedFields", ()) if one["manager"] != manager]
        owned = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
        entry = {
            "manager": manager,
            "operation": "Apply" if is_applied else "Update",
            "time": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "fieldsV1": _fields(owned) if is_applied else {},
        }
        metadata["managedFields"] = [*fields, entry]
        self._tell("MODIFIED" if before else "ADDED", path, stored)

    def edit(self, path: str, change: Callable[[Manifest], object]) -> None:
        """Have another writer change the object."""
        manifest = copy.deepcopy(self.objects[path])
        change(manifest)
        self.put(path, manifest, manager="somebody", is_applied=False)

    def remove(self, path: str) -> None:
        """Have the object removed."""
        self._version += 1
        self._tell("DELETED", path, self.objects[path])

    def hold(self, matches: Callable[[Request], bool], *, most: float = float("inf")) -> Gate:
        """Withhold the answers to these requests from now on."""
        gate = Gate(matches, most)
        self._gates.append(gate)
        return gate

    def refuse(self, matches: Callable[[Request], bool], *, most: float = 1) -> None:
        """Answer the next such requests with 500, and do nothing."""
        self._refusals.append(Gate(matches, most))

    def listen(self, hear: Callable[[Request], object]) -> None:
        """Call `hear` with each request before it is carried out."""
        self._listeners.append(hear)

    def meanwhile(self, act: Coroutine[Any, Any, None]) -> None:
        """Have something happen beside the test."""
        self._acts.add(asyncio.ensure_future(act))

    def writes(self, prefix: str = "/") -> list[Request]:
        """Return what was asked to be written below `prefix`, be it refused or not."""
        return [one for one in self.requests if one.is_write and one.path.startswith(prefix)]

    def standing(self) -> str | None:
        """Return the failurePolicy of the registration; None where it is absent."""
        found = self.objects.get(REGISTRATION)
        return None if found is None else found["webhooks"][0]["failurePolicy"]

    # What the client gets.

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        text = await http.read()
        path = http.path
        is_collection = path.rpartition("/")[2] in _PLURALS
        request = Request(http.method, path, json.loads(text) if text else None, is_collection, "dryRun" in http.query)
        self.requests.append(request)
        if http.query.get("watch") == "true":
            return await self._watch(http)
        for hear in self._listeners:
            hear(request)
        if any(one.takes(request) for one in self._refusals):
            status, body = 500, _status("refused by the test")
        else:
            status, body = self._carried_out(request, http)
        request.status = status
        if (gate := next((one for one in self._gates if one.takes(request)), None)) is not None:
            await gate.opened.wait()
        return web.json_response(body, status=status)

    async def _watch(self, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(http)
        seen = int(http.query["resourceVersion"])
        name = http.query.get("fieldSelector", "").removeprefix("metadata.name=")
        while True:
            for version, kind, path, manifest in self._history:
                collection, _, found = path.rpartition("/")
                if version > seen and collection == http.path and name in ("", found):
                    await response.write(json.dumps({"type": kind, "object": manifest}).encode() + b"\n")
            seen = self._version
            async with self._changed:
                await self._changed.wait_for(lambda: self._version > seen)  # noqa: B023 - called at once

    def _carried_out(self, request: Request, http: web.Request) -> tuple[int, Manifest]:
        if request.method == "GET":
            return self._read(request, http)
        if request.method == "POST" and request.path == CANARIES and request.is_dry_run:
            return self._canary(request.body)
        if request.method == "POST":
            return self._created(f"{request.path}/{request.body['metadata']['name']}", request.body)
        return self._written(request, is_apply="apply-patch" in http.headers["Content-Type"])

    def _read(self, request: Request, http: web.Request) -> tuple[int, Manifest]:
        if request.is_collection:
            name = http.query.get("fieldSelector", "").removeprefix("metadata.name=")
            within = {key: one for key, one in self.objects.items() if key.rpartition("/")[0] == request.path}
            items = [one for key, one in within.items() if name in ("", key.rpartition("/")[2])]
            return 200, {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        observed = self.objects.get(request.path)
        return (404, _status("not found")) if observed is None else (200, observed)

    def _written(self, request: Request, *, is_apply: bool) -> tuple[int, Manifest]:
        path, (uid, version) = request.path, request.precondition
        observed = self.objects.get(path)
        metadata = {"uid": None} if observed is None else observed["metadata"]
        if observed is None and not is_apply:
            return 404, _status("not found")
        if uid not in (None, metadata["uid"]) or (observed and version not in (None, metadata["resourceVersion"])):
            return 409, _status("the object has been modified")
        if request.method == "DELETE":
            self.remove(path)
            return 200, observed or {}
        if is_apply:
            self.put(path, request.body)
        elif isinstance(request.body, list):
            webhooks = next(one["value"] for one in request.body if one["path"] == "/webhooks")
            self.put(path, {**self.objects[path], "webhooks": webhooks})
        else:
            self.put(path, _merged(self.objects[path], request.body))
        return 200, self.objects[path]

    def _created(self, path: str, body: Manifest) -> tuple[int, Manifest]:
        if path in self.objects:
            return 409, _status("exists already")
        self.put(path, body)
        return 201, self.objects[path]

    def _canary(self, body: Manifest) -> tuple[int, Manifest]:
        is_control = SKIP_LABEL in body["metadata"]["labels"]
        if is_control:
            return 201, body
        if not self.is_proving:
            words = 'failed calling webhook "seccomp-profile.resources.gardener.cloud": failed to call webhook: refused'
            return 500, _status(words)
        context = {**body["spec"]["securityContext"], "seccompProfile": {"type": "RuntimeDefault"}}
        return 201, {**body, "spec": {**body["spec"], "securityContext": context}}

    def _tell(self, kind: str, path: str, manifest: Manifest) -> None:
        if kind == "DELETED":
            del self.objects[path]
        else:
            self.objects[path] = manifest
            self.versions[manifest["metadata"]["resourceVersion"]] = manifest
        metadata = {**manifest["metadata"], "resourceVersion": str(self._version)}
        self._history.append((self._version, kind, path, {**manifest, "metadata": metadata}))

        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        self.meanwhile(notify())


_PLURALS = {path.rpartition("/")[2] for path in (REGISTRATIONS, LEASES, SECRETS, OWNERS, CANARIES)} | {
    "configmaps",
    "deployments",
    "namespaces",
    "services",
}


def _status(message: str) -> Manifest:
    return {"kind": "Status", "metadata": {}, "message": message}


def _fields(value: object) -> Manifest:
    """Return the fieldsV1 set of what was applied."""
    if isinstance(value, dict):
        return {f"f:{key}": _fields(one) for key, one in value.items() if key not in ("uid", "resourceVersion", "name")}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        key = "uid" if "uid" in value[0] else "name"
        return {f"k:{json.dumps({key: one.get(key)}, separators=(',', ':'))}": _fields(one) for one in value}
    return {}


def _merged(value: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """Return `value` with a JSON merge patch. Source: RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, one in patch.items():
        if one is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), one)
    return merged


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited for {PATIENCE_SECONDS:g} s in vain") from None


class Running:
    """The product as it runs: how many passes and probes came to their end, by its metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @property
    def passes(self) -> float:
        return self._sum("seccomp_reconciler_passes_total")

    @property
    def probes(self) -> float:
        return self._sum("seccomp_reconciler_proofs_total")

    async def rests(self) -> None:
        """Wait until no pass came to its end for a while: what a start brings with it is over then."""
        passes = -1.0
        while passes != self.passes:
            passes = self.passes
            await asyncio.sleep(0.5)

    def _sum(self, name: str) -> float:
        samples = (sample for metric in self._metrics.registry.collect() for sample in metric.samples)
        return sum(sample.value for sample in samples if sample.name == name)


@contextlib.asynccontextmanager
async def running(api: SeedApi) -> AsyncIterator[Running]:
    """Run the product against `api` until the block ends: one successful probe is enough for Fail."""
    metrics = Metrics()
    async with Cluster(kubeconfig=api.kubeconfig, backoff=Backoff(0.01, 0.05)) as cluster:
        loop = Loop(_settings(), cluster, Report(metrics), identity="this-process", known=Known())
        task = asyncio.create_task(loop.run())
        try:
            yield Running(metrics)
            assert not task.done()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _settings() -> configuration.ReconcilerConfiguration:
    document = {
        "apiVersion": configuration.API_VERSION,
        "kind": configuration.KIND,
        "gardenletConfiguration": {"configMap": {"namespace": "garden", "name": "gardenlet"}},
        "registration": {"backend": {"url": "https://127.0.0.1:9443/webhooks/seccomp-profile"}},
        "adaptive": {"proofs": 1, "soak": "0s", "floor": "0s"},
        "leaderElection": {"leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "100ms"},
    }
    return configuration.parse(yaml.safe_dump(document).encode(), origin="test")


def registration(state: str, *, windows: tuple[tuple[float, float | None], ...] = (), flaps: int = 0) -> Manifest:
    """Return our registration at `state` for an hour, with these fail-open windows (seconds ago: start, end)."""
    recorded = memory.annotations(recorded_state(state, windows=windows, flaps=flaps))
    settings = _settings().registration
    return dict(render(settings, ca_bundle=None, state=State(state), annotations=recorded))


def recorded_state(
    state: str, *, windows: tuple[tuple[float, float | None], ...] = (), flaps: int = 0
) -> memory.Memory:
    """Return what is recorded of a registration at `state` for an hour."""
    now = time.time()
    kept = tuple(
        memory.Window(now - start, None if end is None else now - end, "a test recorded it") for start, end in windows
    )
    return memory.Memory(State(state), now - 3600, "a test recorded it", flaps, kept)


def gardenlet(*, gate: bool) -> Manifest:
    """Return the ConfigMap with the GardenletConfiguration."""
    document = {
        "apiVersion": "gardenlet.config.gardener.cloud/v1alpha1",
        "kind": "GardenletConfiguration",
        "featureGates": {"DefaultSeccompProfile": gate},
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"config.yaml": yaml.safe_dump(document)}}


def lease(holder: str, **annotations: str) -> Manifest:
    """Return our Lease; an empty `holder` has released it."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 1}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"annotations": annotations},
        "spec": spec,
    }


def secret(kind: str) -> Manifest:
    """Return a Secret of ours that holds nothing."""
    labels = {"app.kubernetes.io/managed-by": "seccomp-reconciler"}
    data = {"tls.crt": "", "tls.key": ""} if kind == "kubernetes.io/tls" else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": labels}, "type": kind, "data": data}
