"""Commands that need no cluster: check-config and render."""

import json
from pathlib import Path

import click

from reconciler.cli.options import EXIT_CODES, OUTPUT, Options, as_yaml, decide, decision_json, settings_options


@click.command("check-config", epilog=EXIT_CODES)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")
@OUTPUT
def check_config(file: Path, output: str) -> None:
    """Say whether the gate is on in FILE, and why, exactly as gardenlet decides it.

    FILE is a GardenletConfiguration, or an object that carries one: a Gardenlet, a ManagedSeed, a ConfigMap or a List,
    as kubectl prints it; - is standard input.
    """
    decision = decide(file)
    if output == "json":
        click.echo(json.dumps(decision_json(decision)))
        return
    click.echo(f"{decision.gate}: {'on' if decision.enabled else 'off'} ({decision.reason.value})")
    for warning in decision.warnings:
        click.echo(f"warning: {warning}", err=True)


@click.command(epilog=EXIT_CODES)
@settings_options
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Format.")
def render(config: Path | None, gardenlet_config: Path | None, ca_file: Path | None, output: str) -> None:
    """Print the MutatingWebhookConfiguration, without a cluster.

    With --gardenlet-config nothing is printed where the gate is off. A caBundle that lies in the cluster is left out,
    and a note on standard error says so.
    """
    from reconciler.files import read_file  # noqa: PLC0415 - likewise
    from reconciler.registration import ca_bundle, desired  # noqa: PLC0415 - heavy, and not every command needs it

    registration = Options(config, gardenlet_config, ca_file, None, None).settings(offline=True).registration
    if gardenlet_config is not None and not (decision := decide(gardenlet_config)).enabled:
        click.echo(f"# {decision.gate} is off ({decision.reason.value}): nothing should stand", err=True)
        return
    bundle = None
    if registration.ca.file is not None:
        path = Path(registration.ca.file)
        bundle = ca_bundle.parse(read_file(path, most_bytes=ca_bundle.MAX_BYTES), origin=str(path))
    elif registration.ca.inline is not None:
        bundle = ca_bundle.parse(registration.ca.inline.encode(), origin="registration.ca.inline")
    else:
        click.echo("# caBundle is left out: it lies in the cluster; --ca-file gives one here", err=True)
    if registration.owner_cluster_role:
        role = registration.owner_cluster_role
        click.echo(f"# ownerReferences is left out: the uid of clusterroles/{role} is in the cluster", err=True)
    manifest = desired.render(registration, ca_bundle=bundle)
    click.echo(json.dumps(manifest, indent=2) if output == "json" else as_yaml(manifest), nl=output == "json")
