"""`audit --shoot` and `audit --garden-kubeconfig`: whether the gate is needed beside the kubelet's own default."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.files import read_file

if TYPE_CHECKING:
    from reconciler.settings import ReconcilerConfiguration


def show(
    settings: "ReconcilerConfiguration",
    shoot: Path | None,
    garden_kubeconfig: Path | None,
    managed_seed: str | None,
    output: str,
) -> None:
    """Print the answer for the Shoot in a file, or behind a ManagedSeed; raises as both are read."""
    from pydantic import ValidationError  # noqa: PLC0415 - heavy, and not every command needs it

    from reconciler.cli import kubelet_report  # noqa: PLC0415 - likewise
    from reconciler.pods import kubelet  # noqa: PLC0415 - likewise
    from reconciler.registration.manifests import MAX_BYTES  # noqa: PLC0415 - likewise
    from reconciler.settings import GardenSource, ShootSource  # noqa: PLC0415 - likewise

    if output not in ("table", "json"):
        raise click.UsageError(f"--output {output} does not go with --shoot and --garden-kubeconfig: use table or json")
    if shoot is not None and (garden_kubeconfig or managed_seed):
        raise click.UsageError("--shoot reads no cluster: it does not go with --garden-kubeconfig or --managed-seed")
    if shoot is not None:
        if str(shoot) == "-":
            content, origin = sys.stdin.buffer.read(MAX_BYTES + 1), "standard input"
        else:
            content, origin = read_file(shoot, most_bytes=MAX_BYTES), str(shoot)
        found = kubelet.parse(content, origin=origin)
    else:
        if not garden_kubeconfig or not managed_seed:
            raise click.UsageError("--garden-kubeconfig and --managed-seed go together")
        try:
            source = ShootSource(garden=GardenSource(kubeconfig=str(garden_kubeconfig), managed_seed=managed_seed))
        except ValidationError as error:
            raise click.UsageError(f"--managed-seed {managed_seed!a}: expected the name of a ManagedSeed") from error
        from reconciler.controller import managed_seed as garden  # noqa: PLC0415 - imports kubernetes

        found = asyncio.run(garden.kubelets(source, settings))
    if output == "json":
        click.echo(json.dumps(kubelet_report.as_json(found)))
    else:
        for line in kubelet_report.lines(found):
            click.echo(line)
