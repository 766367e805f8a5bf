"""Servers replaced one by one under load, as a Deployment rolls: nothing fails, and everybody is mutated."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.backend import SecretVolume, Server, serving, settings_for
from tests.cluster.answered import remove_secrets
from tests.endpoints import Endpoints
from tests.load import Load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.field import Field

DRAIN_SECONDS = 6.0
# Between the end of a pod and the moment when nobody sends to it any more.
PROPAGATION_SECONDS = 1.5


def test_servers_are_replaced_one_by_one_without_a_failed_pod(field: Field, tmp_path: Path) -> None:
    remove_secrets(field)
    seed = field.seed
    settings = tmp_path / "reconciler.yaml"
    inputs = ("--config", str(settings), "--gardenlet-config", str(seed.gardenlet))
    with Endpoints() as service, SecretVolume(seed, tmp_path / "tls") as volume, ExitStack() as stack:
        url = f"https://127.0.0.1:{service.port}/webhooks/seccomp-profile"
        settings.write_text(settings_for(url, registration={"failurePolicy": "Fail"}))
        assert seed.command("reconcile", *inputs).returncode == 0

        def started() -> Server:
            server = stack.enter_context(serving(seed, volume.folder, drain_seconds=DRAIN_SECONDS))
            server.wait_ready()
            return server

        servers = [started(), started()]
        service.ports = [server.port for server in servers]
        assert seed.command("reconcile", "--wait", *inputs).returncode == 0
        drained: list[float] = []
        with Load(seed) as load:
            time.sleep(1)
            for old in tuple(servers):
                new = started()
                service.ports = [*service.ports, new.port]
                before = old.metric(REVIEWS)
                old.process.process.terminate()
                # The API server goes on sending here until the endpoint is taken out.
                time.sleep(PROPAGATION_SECONDS)
                assert old.page("/readyz") == (503, "draining\n")
                service.ports = [port for port in service.ports if port != old.port]
                drained.append(old.metric(REVIEWS) - before)
                assert old.process.process.wait(timeout=30) == 0
            time.sleep(1)
        assert load.failures == []
        assert load.created > 20
        assert sum(drained) > 0, "a server that drains was to answer still"
    remove_secrets(field)


REVIEWS = 'seccomp_reconciler_admission_reviews_total{outcome="patched",reason="defaulted"}'
