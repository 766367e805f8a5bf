"""A field whose webhook is answered: `serve` as a process, its Secret mounted, certificates of our own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.backend import SECRET, SecretVolume, Server, pod, profile_of, serving, settings_for
from tests.cluster.patience import until
from tests.controlplane.servers import free_port
from tests.seed import MANAGED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.field import Field

AUTHORITY = "/api/v1/namespaces/garden/secrets/seccomp-reconciler-ca"


class Answered:
    """The field, the server, and the settings that bring them together."""

    def __init__(self, field: Field, volume: SecretVolume, server: Server, settings: Path) -> None:
        self.field = field
        self.volume = volume
        self.server = server
        self.settings = settings
        self.inputs = ("--config", str(settings), "--gardenlet-config", str(field.seed.gardenlet))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the product with these settings."""
        return self.field.seed.command(*arguments, *self.inputs)

    def configure(self, **more: Any) -> None:  # noqa: ANN401 - JSON
        """Write other settings for the same backend."""
        self.settings.write_text(settings_for(self.server.url, **more))

    def registered(self, **registration: Any) -> None:  # noqa: ANN401 - JSON
        """Register with these settings, and prove it."""
        self.configure(registration=registration)
        done = self.command("reconcile", "--wait", "--timeout", "30")
        assert done.returncode == 0, done.stderr


@contextmanager
def answered(field: Field, folder: Path) -> Iterator[Answered]:
    """Start the server; its certificates are issued, and nothing is registered, as the API server knows by then."""
    remove_secrets(field)
    port = free_port()
    settings = folder / "reconciler.yaml"
    settings.write_text(settings_for(f"https://127.0.0.1:{port}/webhooks/seccomp-profile"))
    issued = field.seed.command("reconcile", "--config", str(settings), "--gardenlet-config", str(field.seed.gardenlet))
    assert issued.returncode == 0, issued.stderr
    try:
        with (
            SecretVolume(field.seed, folder / "tls") as volume,
            serving(field.seed, folder / "tls", port=port) as server,
        ):
            server.wait_ready()
            field.delete()
            try_out = f"/api/v1/namespaces/{MANAGED}/pods?dryRun=All"
            until(lambda: profile_of(field.other.request("POST", try_out, pod("before-all"))) is None)
            yield Answered(field, volume, server, settings)
    finally:
        remove_secrets(field)


def remove_secrets(field: Field) -> None:
    """Delete both Secrets, where they are."""
    for path in (SECRET, AUTHORITY):
        if field.other.request("GET", path) is not None:
            field.other.request("DELETE", path)
