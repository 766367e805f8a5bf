"""Certificates in the cluster: issued, rotated under load without a failed or an unmutated pod, mended when damaged."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from reconciler import settings as configuration
from reconciler.backoff import Backoff
from reconciler.certificates.authority import read
from reconciler.certificates.rotation import Phase, Proved
from reconciler.cluster import Cluster
from reconciler.controller import proof, trust
from reconciler.controller.oneshot import Rotation, one_pass
from reconciler.errors import ConflictError, ReconcilerError
from tests.backend import SECRET, serving
from tests.cluster.answered import AUTHORITY, Answered, answered
from tests.load import Load
from tests.seed import RUN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reconciler.cluster import Target
    from reconciler.registration.identity import Manifest
    from reconciler.settings import ReconcilerConfiguration
    from tests.cluster.field import Field

pytestmark = pytest.mark.main

MERGE = "application/merge-patch+json"
PROMPTLY_SECONDS = 60.0


@pytest.fixture
def path(field: Field, tmp_path: Path) -> Iterator[Answered]:
    with answered(field, tmp_path) as found:
        yield found


def status(path: Answered) -> dict[str, Any]:
    done = path.command("certificates", "status", "--output", "json")
    assert done.returncode in (0, 75), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def settings_of(path: Answered) -> ReconcilerConfiguration:
    read_settings = configuration.parse(path.settings.read_bytes(), origin="test")
    source = configuration.GardenletConfigurationSource(file=str(path.field.seed.gardenlet))
    return read_settings.model_copy(update={"gardenlet_configuration": source})


def data(path: Answered, secret: str) -> dict[str, bytes]:
    found = path.field.other.request("GET", secret)
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def bundle(path: Answered) -> bytes:
    return base64.b64decode(path.field.webhook()["clientConfig"]["caBundle"])


def test_what_is_issued_is_registered_and_the_key_stays_in_its_own_secret(path: Answered) -> None:
    path.registered()
    authority, serving_secret = data(path, AUTHORITY), data(path, SECRET)
    assert set(authority) == {"ca.crt", "ca.key"}
    assert set(serving_secret) == {"tls.crt", "tls.key", "ca.crt"}
    assert authority["ca.key"] not in serving_secret.values()
    assert bundle(path) == serving_secret["ca.crt"] == authority["ca.crt"]
    found = status(path)
    assert (found["good"], found["phase"], found["next"]["action"]) == (True, "stable", "none")
    assert found["serving"]["names"] == ["127.0.0.1"]


def test_a_foreign_secret_is_not_overwritten(field: Field, tmp_path: Path) -> None:
    with answered(field, tmp_path) as path:
        field.other.request("DELETE", SECRET)
        foreign = {"metadata": {"name": "seccomp-reconciler-tls"}, "data": {"ca.crt": "eA=="}}
        field.other.request("POST", SECRET.rpartition("/")[0], foreign)
        done = path.command("reconcile")
        assert done.returncode == 73
        assert "set registration.ca.secret" in done.stderr
        assert data(path, SECRET) == {"ca.crt": b"x"}


@contextlib.contextmanager
def rotating(path: Answered) -> Iterator[Load]:
    """Load with failurePolicy Fail through a complete rotation: nothing may fail, and everything must be new after."""
    path.registered(failurePolicy="Fail")
    before = status(path)
    old_bundle = bundle(path)
    with Load(path.field.seed) as load:
        time.sleep(1)
        yield load
        time.sleep(1)
    after = status(path)
    assert load.failures == []
    assert load.created > 20
    assert (after["good"], after["phase"], len(after["authorities"])) == (True, "stable", 1)
    assert after["authorities"][0]["fingerprint"] != before["authorities"][0]["fingerprint"]
    assert after["serving"]["fingerprint"] != before["serving"]["fingerprint"]
    assert not {one.der for one in read(old_bundle)} & {one.der for one in read(bundle(path))}


def test_a_rotation_under_load_fails_no_pod(path: Answered) -> None:
    with rotating(path):
        done = path.command("certificates", "rotate", "--now", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        assert "retire" in done.stdout


class DiesAfterOneWrite(Cluster):
    """A connection whose owner is killed right after its first write: every cut between two steps is taken."""

    async def create(self, target: Target, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        await super().create(target, manifest, dry_run=dry_run)
        raise KilledError(target.name)

    async def apply(self, target: Target, manifest: Manifest, *, observed: Manifest, dry_run: bool = False) -> Manifest:
        await super().apply(target, manifest, observed=observed, dry_run=dry_run)
        raise KilledError(target.name)


class KilledError(Exception):
    """The process is gone."""


async def test_killed_after_every_single_write_it_goes_on_from_there(path: Answered) -> None:
    writes: list[str] = []
    with rotating(path):
        settings = settings_of(path)
        wish = Rotation(begin=True)
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end
            async with DiesAfterOneWrite(kubeconfig=path.field.seed.kubeconfig) as cluster:
                try:
                    done = await one_pass(cluster, settings, rotation=wish)
                except KilledError as killed:
                    writes.append(str(killed))
                    wish = Rotation()
                    continue
                assert done.trust is not None
                if done.trust.phase is Phase.STABLE:
                    break
                last = await proof.prove(cluster, settings.registration, settings.proof)
                assert last.holds, last
                wish = Rotation(proved=Proved(last.began, last.fingerprint))
            await asyncio.sleep(0.2)
    authority, serving_secret, registration = "seccomp-reconciler-ca", "seccomp-reconciler-tls", "seccomp-reconciler"
    trusting = [authority, serving_secret, registration]
    assert writes == [*trusting, authority, serving_secret, *trusting]


async def test_two_writers_at_once_converge(path: Answered) -> None:
    path.registered(failurePolicy="Fail")
    settings = settings_of(path)

    async def writer(number: int) -> int:
        refused = 0
        wish = Rotation(begin=True)
        async with Cluster(kubeconfig=path.field.seed.kubeconfig, backoff=Backoff(0.02, 0.2)) as cluster:
            for _ in range(200):
                try:
                    done = await one_pass(cluster, settings, rotation=wish)
                except ConflictError:
                    refused += 1
                    continue
                last = await proof.prove(cluster, settings.registration, settings.proof)
                assert last.holds, (number, last)
                wish = Rotation(proved=Proved(last.began, last.fingerprint))
                if done.trust is not None and done.trust.phase is Phase.STABLE:
                    return refused
                await asyncio.sleep(0.05)
        raise AssertionError("not settled")

    refused = await asyncio.gather(*(writer(number) for number in range(3)))
    found = status(path)
    assert (found["good"], found["phase"], len(found["authorities"])) == (True, "stable", 1)
    assert sum(refused) > 0, "they were to meet"


@pytest.mark.parametrize(
    ("secret", "change"),
    [
        (SECRET, {"tls.crt": b"garbage"}),
        (AUTHORITY, None),
    ],
    ids=["leaf", "authority-gone"],
)
def test_a_damaged_secret_is_mended_by_the_loop_and_no_pod_fails(
    path: Answered, secret: str, change: dict[str, bytes] | None
) -> None:
    path.registered(failurePolicy="Fail")
    with path.field.seed.process(
        [*RUN, "--config", str(path.settings), "--gardenlet-config", str(path.field.seed.gardenlet)]
    ) as running:
        end = time.monotonic() + PROMPTLY_SECONDS
        while not running.events("proof.held"):
            assert time.monotonic() < end, running.last_words()
            time.sleep(0.05)
        before = path.field.other.request("GET", secret)["metadata"]["resourceVersion"]
        with Load(path.field.seed) as load:
            if change is None:
                path.field.other.request("DELETE", secret)
            else:
                encoded = {key: base64.b64encode(value).decode() for key, value in change.items()}
                path.field.other.request("PATCH", secret, {"data": encoded}, MERGE)
            while True:
                assert time.monotonic() < end, running.last_words()
                found = path.field.other.request("GET", secret)
                settled = found is not None and found["metadata"]["resourceVersion"] != before
                if settled and (now := status(path))["good"] and now["phase"] == "stable":
                    break
                time.sleep(0.2)
            time.sleep(1.5)
        assert load.failures == []
        assert "Traceback" not in running.last_words(1000)
        assert len(running.events("certificates.advanced")) > 0


async def test_a_reader_without_rights_to_the_secrets_is_told_which_rule_is_missing(path: Answered) -> None:
    limited = path.field.plane.kubeconfig_for_service_account("garden", "without-secrets")
    async with Cluster(kubeconfig=limited) as cluster:
        own = settings_of(path).registration.ca.self_signed
        assert own is not None
        with pytest.raises(ReconcilerError, match=r"Role in namespace garden.*secrets.*verbs: \[get\]"):
            await trust.look(cluster, own)


def test_a_server_is_not_needed_to_issue_and_status_says_what_is_missing(path: Answered) -> None:
    path.server.process.stop()
    for secret in (SECRET, AUTHORITY):
        path.field.other.request("DELETE", secret)
    found = status(path)
    assert (found["good"], found["phase"], found["next"]["action"]) == (False, None, "issue-authority")
    assert path.command("reconcile").returncode == 0
    assert status(path)["good"]
    with serving(path.field.seed, path.volume.folder, port=path.server.port) as again:
        again.wait_ready()
