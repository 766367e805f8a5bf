"""The seed under fire: two reconcilers, each behind a fault proxy, two servers behind one address, and other writers.

It knows at every moment whether a reconciler of ours could do its work, since the bound on refusals counts only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack, asynccontextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

from reconciler.certificates import authority
from tests.backend import SecretVolume
from tests.chaos import terms
from tests.chaos.members import Clock, Member
from tests.chaos.plan import MEMBERS
from tests.chaos.spans import Spans
from tests.controlplane.errors import ApiError
from tests.controlplane.servers import free_port
from tests.endpoints import Endpoints
from tests.faults import FaultProxy
from tests.seed import PROGRAM, Connection, Seed, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.controlplane.plane import ControlPlane

_PATH: Final = "/webhooks/seccomp-profile"
_PROBE_SECONDS: Final = 0.5
_RESTART_SECONDS: Final = 0.3
_DRAIN_SECONDS: Final = 1.0
_GATE_SECONDS: Final = 3.0
_OTHERS_SECONDS: Final = 20.0
_LASTING_SECONDS: Final = 500 * 86400.0  # more than any clock here is ever wrong
_PASSING: Final = frozenset((401, 403, 404, 409, 429, 500, 502, 503, 504))


class World:
    """Everything that can be hit, and the times in which it mattered (`able`: monotonic; the others: wall clock)."""

    def __init__(self, stage: Seed, endpoints: Endpoints, proxies: dict[str, FaultProxy]) -> None:
        self.stage = stage
        self.plane: ControlPlane = stage.plane
        self.proxies = proxies
        self.reconcilers: dict[str, Member] = {}
        self.servers: dict[str, Member] = {}
        self.clocks: dict[str, Clock] = {}
        self.able = Spans()
        self.disturbances = Spans()
        self.gate_off = Spans()
        self.gate_on_since: float | None = None
        """When the gate came on again (monotonic); None where it did not, or all is as it was before it went off."""
        self.unseen = Spans()
        self.clock_wrong = Spans()
        self.severed: dict[str, int] = dict.fromkeys(MEMBERS, 0)
        self.is_plane_up = True
        self.gardenlet = stage.gardenlet.read_text()
        self.inputs: tuple[str, ...] = ()
        self._endpoints = endpoints

    @property
    def members(self) -> list[Member]:
        """Every process of ours."""
        return [*self.reconcilers.values(), *self.servers.values()]

    def recruit(self, kubeconfigs: dict[str, str], folders: dict[str, str]) -> None:
        """Prepare the processes; none is started."""
        directory = self.stage.directory
        # The Kubernetes client keeps the CA in a temporary file, and a killed process leaves it.
        common = {**self.stage.environment, "TMPDIR": str(directory)}
        settings = directory / "reconciler.yaml"
        settings.write_text(terms.settings(f"https://127.0.0.1:{self._endpoints.port}{_PATH}"))
        self.inputs = ("--config", str(settings), "--gardenlet-config", str(self.stage.gardenlet))
        for name in MEMBERS:
            clock = self.clocks[name] = Clock(directory / f"clock-{name}")
            environment = {**common, "KUBECONFIG": kubeconfigs[name], **clock.environment}
            where = ["--bind-address", "127.0.0.1", "--status-port"]
            argv = [str(PROGRAM), "run", *self.inputs, *where, str(free_port())]
            self.reconcilers[name] = Member(f"reconciler {name}", argv, directory, environment)
            argv = [str(PROGRAM), "serve", "--certificates", folders[name], *where, str(free_port())]
            argv += ["--port", str(free_port()), "--drain-delay", str(_DRAIN_SECONDS)]
            self.servers[name] = Member(f"server {name}", argv, directory, common)

    def noted(self) -> None:
        """Note whether a reconciler can do its work from now on."""
        works = any(member.works and not self.severed[name] for name, member in self.reconcilers.items())
        self.able.note(holds=self.is_plane_up and works, at=time.monotonic())

    def gate_goes_off(self) -> None:
        """Note that from now on no pod needs a profile, and since when nobody of ours may have been looking.

        What somebody did since then is seen by nobody any more: with the gate off there is nothing to put right.
        """
        now = since = time.monotonic()
        while (earlier := self.disturbances.reaching(since - terms.bound().disturbed_seconds, now)) < since:
            since = earlier
        wall = time.time()
        self.unseen.add(wall - (now - since), wall)
        self.gate_off.note(holds=True, at=wall)
        self.gate_on_since = None

    def seen_at_fail(self) -> None:
        """Note that the registration stands at Fail: what was excused until then is over.

        With the gate on again it begins anew, from Ignore; but what stands at once may be what was not yet taken away.
        """
        if not any(clock.offset for clock in self.clocks.values()):
            self.clock_wrong.note(holds=False, at=time.time())
        if self.gate_on_since is not None and time.monotonic() - self.gate_on_since > _GATE_SECONDS:
            self.gate_off.note(holds=False, at=time.time())
            self.gate_on_since = None

    def other(self, name: str, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:  # noqa: ANN401 - JSON
        """Do this as another writer with every right, as soon as the API server lets him; None: no such object.

        Raises ApiError for what it will never take.
        """
        end = time.monotonic() + _OTHERS_SECONDS
        kubeconfig = self.plane.kubeconfig_for_user(name, ["system:masters"])
        while True:
            try:
                with Connection(kubeconfig, timeout_seconds=5.0) as connection:
                    return connection.request(method, path, body, kind)
            except ApiError as error:
                if error.status not in _PASSING or time.monotonic() > end:
                    raise
            except (OSError, HTTPException):
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    async def look_after(self) -> None:
        """Do the kubelet's and the endpoint controller's part for ever: restart what ended, route to what is ready."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._restart())
            group.create_task(self._route())

    async def _restart(self) -> None:
        while True:
            await asyncio.sleep(_RESTART_SECONDS)
            for member in self.members:
                if member.look_after():
                    self.noted()

    async def _route(self) -> None:
        while True:
            ready = await asyncio.gather(*(asyncio.to_thread(self._is_ready, name) for name in MEMBERS))
            ports = [self.servers[name].port("--port") for name, good in zip(MEMBERS, ready, strict=True) if good]
            self._endpoints.ports = ports
            await asyncio.sleep(_PROBE_SECONDS)

    def _is_ready(self, name: str) -> bool:
        try:
            self.servers[name].page("/readyz")
        except (OSError, HTTPException):
            return False
        return True


@asynccontextmanager
async def world(plane: ControlPlane) -> AsyncIterator[World]:
    """Make `plane` a seed with everything on it; all of it is ended on leaving, in good order, by its id."""
    async with AsyncExitStack() as stack:
        stage = stack.enter_context(seed(plane))
        endpoints = stack.enter_context(Endpoints())
        trust, pair = _lasting_pair(stage.directory)
        proxies: dict[str, FaultProxy] = {}
        kubeconfigs: dict[str, str] = {}
        folders: dict[str, str] = {}
        for name, delay_seconds in zip(MEMBERS, (0.0, 0.5), strict=True):
            proxy = FaultProxy(upstream=plane.url, upstream_ca=plane.ca_file, certificate=pair)
            proxies[name] = await stack.enter_async_context(proxy)
            token = plane.token_for_service_account("garden", "seccomp-reconciler", seconds=4 * 3600)
            kubeconfigs[name] = str(plane.kubeconfig_with(server=proxies[name].url, ca=trust, token=token))
            # Secrets reach the two servers at different times, and both before the propagation time is over.
            volume = SecretVolume(stage, stage.directory / f"tls-{name}", delay_seconds=delay_seconds)
            folders[name] = str(stack.enter_context(volume).folder)
        found = World(stage, endpoints, proxies)
        found.recruit(kubeconfigs, folders)
        stack.push_async_callback(_close, found)
        for member in found.members:
            member.start()
        found.noted()
        keeping = asyncio.create_task(found.look_after())
        try:
            yield found
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping


def _lasting_pair(directory: Path) -> tuple[bytes, tuple[Path, Path]]:
    """Return CA, and files of certificate and key for the proxies: valid also for a client whose clock is wrong."""
    issued, lifetime_seconds = time.time() - _LASTING_SECONDS, 3 * _LASTING_SECONDS
    signer = authority.issue_authority(now=issued, lifetime_seconds=lifetime_seconds)
    pair = authority.issue_serving(signer, names=("127.0.0.1",), now=issued, lifetime_seconds=lifetime_seconds)
    files = directory / "proxy.crt", directory / "proxy.key"
    files[0].write_bytes(pair.certificate)
    files[1].write_bytes(pair.key)
    return signer.certificate, files


async def _close(found: World) -> None:
    """End the processes side by side, in threads: what they still say to the API server goes through the proxies."""
    await asyncio.gather(*(asyncio.to_thread(member.close) for member in found.members))
