"""The loop on a real API server, through a proxy that makes faults, as the restricted ServiceAccount."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import yaml

from reconciler.backoff import Backoff
from reconciler.cluster import Cluster
from reconciler.controller.running import Options, run
from reconciler.settings import CASource, GardenletConfigurationSource, ReconcilerConfiguration
from reconciler.sources import FileSource
from tests.cluster.field import Field, document, proxied
from tests.cluster.test_reconcile import foreign_manifest, gardenlet_deployment, header
from tests.controlplane.plane import ControlPlane
from tests.faults import Fault, FaultProxy, Match
from tests.seed import seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.controlplane.binaries import Binaries

    Log = Sequence[Any]  # entries of structlog, whose values are anything that can be logged

pytestmark = pytest.mark.main

PROMPTLY_SECONDS = 60.0
SILENCE_SECONDS = 2.0
REGISTRATION = Match(path="mutatingwebhookconfigurations", watch=True)


@dataclass(frozen=True, slots=True)
class Running:
    """A running loop: its log, its settings file, the proxy between it and the API server."""

    log: Log
    settings: Path
    proxy: FaultProxy

    def events(self, name: str) -> list[Any]:
        return [entry for entry in self.log if entry["event"] == name]


async def until(fact: Callable[[], object], *, seconds: float = PROMPTLY_SECONDS) -> None:
    """Wait until `fact` holds; looked at often, given up late."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(fact):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def looping(
    field: Field, settings: dict[str, Any] | None = None, *, watch_silence_seconds: float = 90.0
) -> AsyncIterator[Running]:
    """Run the loop on the field's files through a proxy; it must still be running at the end."""
    path = field.seed.directory / "settings.yaml"
    path.write_text(yaml.safe_dump({**header(), **(settings or {})}))
    chosen = settings or {}

    def adapt(read: ReconcilerConfiguration) -> ReconcilerConfiguration:
        if "gardenletConfiguration" not in chosen:
            source = GardenletConfigurationSource(file=str(field.seed.gardenlet))
            read = read.model_copy(update={"gardenlet_configuration": source})
        if "ca" not in chosen.get("registration", {}):
            registration = read.registration.model_copy(update={"ca": CASource(file=str(field.seed.ca))})
            read = read.model_copy(update={"registration": registration})
        return read

    async with proxied(field.seed) as (proxy, kubeconfig):

        def connect(read: ReconcilerConfiguration) -> Cluster:
            return Cluster(
                kubeconfig=kubeconfig,
                request_timeout_seconds=SILENCE_SECONDS,
                watch_silence_seconds=watch_silence_seconds,
                backoff=Backoff(read.backoff.initial, read.backoff.maximum),
            )

        wishes = Options(connect, adapt, "127.0.0.1", 0)
        with structlog.testing.capture_logs() as log:
            task = asyncio.create_task(run(FileSource(path, most_bytes=1 << 20), wishes))
            try:
                yield Running(log, path, proxy)
                assert not task.done(), "the loop ended by itself"
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def standing(field: Field) -> None:
    await until(field.standing)


async def gone(field: Field) -> None:
    await until(lambda: field.standing() is None)


async def repaired(field: Field) -> None:
    """Make drift and wait for the repair: the loop is alive and its watch works, or it would take a resync."""
    await asyncio.to_thread(field.patch, ("replace", "/webhooks/0/timeoutSeconds", 3))
    await until(lambda: field.standing() is not None and field.webhook()["timeoutSeconds"] == 10)


async def test_the_gate_is_followed_off_and_on(field: Field) -> None:
    async with looping(field) as running:
        await standing(field)
        field.seed.configure(document(gate="false"))
        await gone(field)
        field.seed.gardenlet.write_text(document(gate="true"))  # in place, not swapped
        await standing(field)
        assert [entry["enabled"] for entry in running.events("configuration.read")] == [True, False, True]


async def test_a_config_map_volume_is_followed_through_its_symlink_swap(field: Field, tmp_path: Path) -> None:
    def publish(name: str, gate: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(document(gate=gate))
        (tmp_path / "..data_tmp").symlink_to(name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    publish("..one", "true")
    mounted = tmp_path / "config.yaml"
    mounted.symlink_to("..data/config.yaml")
    async with looping(field, {"gardenletConfiguration": {"file": str(mounted)}}):
        await standing(field)
        publish("..two", "false")
        await gone(field)
        publish("..three", "true")
        await standing(field)


INHERITS = """apiVersion: seedmanagement.gardener.cloud/v1alpha1
kind: ManagedSeed
spec: {gardenlet: {config: {kind: GardenletConfiguration, logLevel: info}}}
"""


@pytest.mark.parametrize(
    "broken",
    ["", "featureGates: [", "\x00\x01", INHERITS, None],
    ids=["emptied", "cut", "binary", "a part", "deleted"],
)
async def test_an_unreadable_configuration_keeps_the_last_good_state_in_force(field: Field, broken: str | None) -> None:
    async with looping(field) as running:
        await standing(field)
        if broken is None:
            field.seed.gardenlet.unlink()
        else:
            field.seed.configure(broken)
        await until(lambda: running.events("configuration.invalid"))
        await repaired(field)
        assert running.events("configuration.invalid")[0]["kept"] == "last good: gate on"
        field.seed.configure(document(gate="false"))
        await gone(field)
        assert running.events("configuration.recovered")
        assert len(running.events("configuration.invalid")) == 1


@pytest.mark.parametrize("present", [True, False])
async def test_a_start_without_a_readable_configuration_changes_nothing(field: Field, *, present: bool) -> None:
    if present:
        field.seed.command("reconcile", *field.seed.inputs)
    before = field.standing()
    field.seed.configure("broken: [")
    async with looping(field) as running:
        await until(lambda: running.events("configuration.invalid"))
        await running.proxy.watching(REGISTRATION)
        assert field.standing() == before
        field.seed.configure(document(gate="false" if present else "true"))
        await (gone(field) if present else standing(field))


async def test_settings_are_followed_and_bad_ones_are_not(field: Field) -> None:
    async with looping(field) as running:
        await standing(field)
        running.settings.write_text(yaml.safe_dump({**header(), "registration": {"timeoutSeconds": 99}}))
        await until(lambda: running.events("settings.invalid"))
        await repaired(field)
        running.settings.write_text(yaml.safe_dump({**header(), "registration": {"timeoutSeconds": 5}}))
        await until(lambda: field.webhook()["timeoutSeconds"] == 5)


async def test_the_ca_is_followed_and_its_loss_keeps_the_last_one(field: Field) -> None:
    plane = field.plane
    pem = plane.ca_pem
    async with looping(field) as running:
        await standing(field)
        field.seed.ca.write_bytes(pem * 2)
        await until(lambda: base64.b64decode(field.webhook()["clientConfig"]["caBundle"]) == pem * 2)
        field.seed.ca.unlink()
        await until(lambda: running.events("ca.invalid"))
        await repaired(field)
        assert base64.b64decode(field.webhook()["clientConfig"]["caBundle"]) == pem * 2


async def test_a_secret_and_a_config_map_in_the_cluster_are_followed(field: Field) -> None:
    """The CA in a Secret; the GardenletConfiguration in whichever ConfigMap the Deployment gardenlet mounts."""
    pem = field.plane.ca_pem
    core, apps = "/api/v1/namespaces/garden", "/apis/apps/v1/namespaces/garden/deployments"

    def secret(content: bytes) -> dict[str, Any]:
        return {"metadata": {"name": "seccomp-reconciler-tls"}, "data": {"ca.crt": base64.b64encode(content).decode()}}

    def config_map(name: str, gate: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "data": {"config.yaml": document(gate=gate)}}

    field.put(f"{core}/secrets", secret(pem))
    field.put(f"{core}/configmaps", config_map("config-one", "true"))
    field.put(f"{core}/configmaps", config_map("config-two", "false"))
    field.put(apps, gardenlet_deployment("config-one"))
    settings = {
        "gardenletConfiguration": {"deployment": {}},
        "registration": {"ca": {"secret": {}}},
    }
    async with looping(field, settings) as running:
        await standing(field)
        await running.proxy.watching(Match(path="configmaps", watch=True))
        await running.proxy.watching(Match(path="secrets", watch=True))
        field.put(f"{core}/secrets", secret(pem * 2))
        await until(lambda: base64.b64decode(field.webhook()["clientConfig"]["caBundle"]) == pem * 2)
        field.put(f"{core}/configmaps", config_map("config-one", "false"))
        await gone(field)
        field.put(f"{core}/configmaps", config_map("config-two", "true"))
        field.put(apps, gardenlet_deployment("config-two"))
        await standing(field)


async def test_a_foreign_object_is_left_alone_and_its_going_is_noticed_at_once(field: Field) -> None:
    foreign = field.create(foreign_manifest())
    async with looping(field) as running:
        await until(lambda: [e for e in running.events("pass.failed") if e["kind"] == "ForeignObjectError"])
        assert field.standing() == foreign
        began = time.monotonic()
        field.other.request(
            "DELETE", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/seccomp-reconciler"
        )
        await standing(field)
        assert time.monotonic() - began < 25  # the wait between tries is 30 s at least


async def test_a_gate_switched_off_is_not_kept_waiting_by_a_foreign_object(field: Field) -> None:
    field.create(foreign_manifest())
    async with looping(field) as running:
        await until(lambda: running.events("pass.failed"))
        field.seed.configure(document(gate="false"))
        await until(lambda: running.events("pass.recovered"))


async def test_a_steady_state_sends_nothing(field: Field) -> None:
    """After the first passes only watches, proofs and the Lease stand; our own write costs no more than one look."""

    def others(requests: Sequence[Any]) -> list[tuple[str, str]]:
        known = ("/pods", "/leases/", "/events")
        return [(r.method, r.path) for r in requests if not r.is_watch and not any(one in r.path for one in known)]

    async with looping(field) as running:
        await standing(field)
        await running.proxy.watching(REGISTRATION)
        await repaired(field)
        await asyncio.sleep(1.0)
        running.proxy.forget()
        await asyncio.sleep(5.0)
        assert others(running.proxy.requests) == []
        before = len(others(running.proxy.writes()))
        await repaired(field)
        await asyncio.sleep(1.0)
        assert len(others(running.proxy.writes())) == before + 1
        assert len(others(running.proxy.reads())) <= 2


WATCH_FAULTS = {
    "closed": Fault.close_watch(times=3),
    "reset": Fault.close_watch(abruptly=True, times=3),
    "410-event": Fault.watch_error(times=2),
    "410-status": Fault.gone(times=2),
    "long-line": Fault.long_line(5 << 20, times=1),
    "garbled-line": Fault.garbled_watch(times=1),
    "cut-line": Fault.cut_watch(times=1),
}
REQUEST_FAULTS = {
    "dropped": Fault.drop(times=4),
    "429": Fault.too_many_requests(1, times=2),
    "500": Fault.refuse_status(500, times=4),
    "503": Fault.refuse_status(503, times=4),
    "401": Fault.refuse_status(401, times=1, match=Match(write=True)),
    "409": Fault.refuse_status(409, times=4, match=Match(write=True)),
    "cut": Fault.cut_body(times=3),
    "lost-answer": Fault.lost_answer(times=2, match=Match(write=True)),
    "garbage": Fault.garbage(b"<html>", times=3),
    "json-of-another": Fault.garbage(b'{"ok": true}', times=3),
    "json-list": Fault.garbage(b"[]", times=2),
    "truncated": Fault.truncated_json(times=3),
    "silent": Fault.half_open(times=1, match=Match(write=True)),
    "trickle": Fault.trickle(0.0005, times=1),
}


@pytest.mark.parametrize("name", WATCH_FAULTS)
async def test_a_watch_that_breaks_is_taken_up_again(field: Field, name: str) -> None:
    async with looping(field, {"backoff": {"maximum": "1s"}}) as running:
        await standing(field)
        await running.proxy.watching(REGISTRATION)
        with running.proxy.fault(WATCH_FAULTS[name]) as armed:
            if name == "410-status":
                running.proxy.reset_connections()  # it meets the start of a watch
            await asyncio.to_thread(field.patch, ("replace", "/webhooks/0/timeoutSeconds", 4))
            await armed.hit(1)
        await until(lambda: field.webhook()["timeoutSeconds"] == 10)
        await repaired(field)


async def test_a_silent_watch_is_given_up(field: Field) -> None:
    """A connection that stays up and says nothing: bookmarks are due each minute, here silence is two seconds."""
    async with looping(field, watch_silence_seconds=SILENCE_SECONDS) as running:
        await standing(field)
        await running.proxy.watching(REGISTRATION)
        with running.proxy.fault(Fault.half_open(times=1, match=REGISTRATION)) as armed:
            await armed.hit(1)
            await repaired(field)


async def test_a_server_that_keeps_closing_watches_is_not_hammered(field: Field) -> None:
    async with looping(field) as running:
        await standing(field)
        await running.proxy.watching(REGISTRATION)
        with running.proxy.fault(Fault.close_watch()):
            running.proxy.forget()
            await asyncio.sleep(5)
            # 0.1 s doubled each time: six or seven tries in five seconds for each of the watches.
            assert len(running.proxy.watches(REGISTRATION)) < 15
        await repaired(field)


@pytest.mark.parametrize("name", REQUEST_FAULTS)
async def test_a_fault_while_repairing_is_lived_through(field: Field, name: str) -> None:
    async with looping(field, {"backoff": {"maximum": "1s"}}) as running:
        await standing(field)
        await running.proxy.watching(REGISTRATION)
        with running.proxy.fault(REQUEST_FAULTS[name]) as armed:
            await repaired(field)
            assert armed.hits > 0
        await repaired(field)


async def test_an_api_server_out_of_reach_is_waited_for(field: Field) -> None:
    async with looping(field, {"backoff": {"maximum": "1s"}}) as running:
        await standing(field)
        with running.proxy.fault(Fault.refuse_connections()):
            field.seed.configure(document(gate="false"))
            await until(lambda: running.events("pass.failed"))
        await gone(field)
        with running.proxy.partition():
            field.seed.configure(document(gate="true"))
            await asyncio.sleep(3)
        await standing(field)
        await repaired(field)


async def test_kube_apiserver_and_etcd_may_die(controlplane_binaries: Binaries) -> None:
    with ControlPlane.start_from(controlplane_binaries, audit=False) as plane, seed(plane) as stage:
        field = Field(stage)
        stage.configure(document(gate="true"))
        async with looping(field, {"backoff": {"maximum": "1s"}}):
            await standing(field)
            for kill, start in ((plane.kill_apiserver, plane.start_apiserver), (plane.kill_etcd, plane.start_etcd)):
                await asyncio.to_thread(kill)
                stage.configure(document(gate="false"))
                await asyncio.sleep(1)
                await asyncio.to_thread(start)
                await asyncio.to_thread(plane.wait_ready)
                field.other.http.close()
                field.other = stage.writer("after")
                await gone(field)
                stage.configure(document(gate="true"))
                await standing(field)


async def test_missing_rights_are_asked_for_again(field: Field) -> None:
    """Rights that come later are noticed without a restart."""
    async with looping(field, {"backoff": {"maximum": "1s"}}) as running:
        with running.proxy.fault(Fault.refuse_status(403, match=Match(path="mutatingwebhookconfigurations"))):
            await until(lambda: [e for e in running.events("pass.failed") if e["kind"] == "ForbiddenError"])
        await standing(field)
        await repaired(field)


@pytest.mark.parametrize("state", ["idle", "refused", "hanging"])
async def test_sigterm_ends_it_promptly_and_the_registration_stays(field: Field, state: str) -> None:
    async with proxied(field.seed) as (proxy, kubeconfig):
        with field.seed.running("--kubeconfig", str(kubeconfig)) as process:
            await until(lambda: process.events("registration.registered"))
            fault = {"refused": Fault.refuse_connections(), "hanging": Fault.half_open()}.get(state)
            with proxy.fault(fault) if fault else contextlib.nullcontext():
                if fault:
                    field.seed.configure(document(gate="false"))
                    await until(lambda: len(process.events("configuration.read")) == 2)
                code, seconds = await asyncio.to_thread(process.stop)
            assert code == 0
            print(f"{state}: ended in {seconds:.2f} s")
            assert seconds < (5 if state == "hanging" else 2), "a pod that hangs is killed after 30 s"
            assert "Traceback" not in process.last_words(1000)
            assert process.events("run.stopped")
    assert field.standing() is not None
