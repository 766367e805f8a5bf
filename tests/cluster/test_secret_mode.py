"""Certificates of somebody else, as cert-manager keeps them: CA and serving certificate swapped at once, under load."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from reconciler.certificates.authority import issue_authority, issue_serving, read
from tests.backend import SECRET, SecretVolume, serving
from tests.cluster.answered import remove_secrets
from tests.controlplane.servers import free_port
from tests.load import Load
from tests.seed import RUN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.field import Field

# Longer than anything else here: the API server knows the new CA long before a server has the new certificate.
KUBELET_SECONDS = 2.0


def issued() -> dict[str, bytes]:
    """Return the files of a Secret with a CA of its own."""
    authority = issue_authority(now=time.time(), lifetime_seconds=3600)
    leaf = issue_serving(authority, names=["127.0.0.1"], now=time.time(), lifetime_seconds=1800)
    return {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.certificate}


def secret(files: dict[str, bytes]) -> dict[str, Any]:
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    return {"metadata": {"name": "seccomp-reconciler-tls"}, "type": "kubernetes.io/tls", "data": encoded}


def trusted(field: Field) -> set[bytes]:
    return {one.der for one in read(base64.b64decode(field.webhook()["clientConfig"]["caBundle"]))}


def test_a_swap_of_ca_and_certificate_at_once_opens_no_gap(field: Field, tmp_path: Path) -> None:
    remove_secrets(field)
    port = free_port()
    first, second = issued(), issued()
    collection = SECRET.rpartition("/")[0]
    field.put(collection, secret(first))
    settings = {
        "apiVersion": "seccomp-reconciler.config.gardener.cloud/v1alpha1",
        "kind": "ReconcilerConfiguration",
        "registration": {
            "failurePolicy": "Fail",
            "backend": {"url": f"https://127.0.0.1:{port}/webhooks/seccomp-profile"},
            "ca": {"secret": {"overlap": "5s"}},
        },
        "proof": {"period": "1s"},
        "resyncPeriod": "10s",
    }
    path = tmp_path / "reconciler.yaml"
    path.write_text(json.dumps(settings))
    argv = [*RUN, "--config", str(path), "--gardenlet-config", str(field.seed.gardenlet)]
    with (
        SecretVolume(field.seed, tmp_path / "tls", delay_seconds=KUBELET_SECONDS) as volume,
        serving(field.seed, volume.folder, port=port) as server,
    ):
        server.wait_ready()
        with field.seed.process(argv) as running:
            until(lambda: running.events("proof.held"))
            with Load(field.seed) as load:
                time.sleep(1)
                field.put(collection, secret(second))
                (old,), (new,) = (read(files["ca.crt"]) for files in (first, second))
                until(lambda: trusted(field) == {old.der, new.der})
                until(lambda: len(server.process.events("certificate.loaded")) == 2)
                until(lambda: trusted(field) == {new.der})  # the overlap is over: at the next resync
                time.sleep(1)
            assert load.failures == []
            assert load.created > 20
    remove_secrets(field)


def until(fact: Any) -> None:  # noqa: ANN401 - a callable of any truth
    end = time.monotonic() + 40
    while not fact():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
