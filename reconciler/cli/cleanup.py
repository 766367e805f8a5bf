"""The command `cleanup`."""

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.deadline import deadline
from reconciler.cli.options import EXIT_CODES, OUTPUT, Options, cluster_options, timeout_option
from reconciler.cli.pausing import duration
from reconciler.errors import HeldError, UsageError

if TYPE_CHECKING:
    from reconciler.controller.cleanup import Cleanup, Removal
    from reconciler.registration.pausing import Pause


@click.command(epilog=EXIT_CODES)
@cluster_options
@OUTPUT
@timeout_option(60.0)
@click.option("--dry-run", is_flag=True, help="Let the API server check each deletion and keep everything.")
@click.option("--leave-paused", is_flag=True, help="Keep the Lease, and the pause on it: something of ours still runs.")
@click.option(
    "--for",
    "seconds",
    default="1h",
    show_default=True,
    callback=duration,
    metavar="DURATION",
    help="How long the pause lasts, which comes first.",
)
def cleanup(
    timeout: float,
    output: str,
    seconds: float,
    *,
    dry_run: bool,
    leave_paused: bool,
    **options: Any,  # noqa: ANN401 - click's keywords, checked by Options
) -> None:
    """Remove everything of ours that is no manifest: the registration, our own certificates, and the Lease.

    First a pause is written, so that a reconciler which still runs puts nothing back; then the registration goes, then
    the two Secrets of registration.ca.selfSigned, and last the Lease, once nobody renews it. Who renews it until
    --timeout is named, exit 75; everything stays paused meanwhile. With --leave-paused the Lease stays: for a hook that
    runs before the Deployments go; a second run without it ends the work.

    Prints a line for each object: removed, absent or left. An object of our name that is not ours is left; where that
    is the registration, nothing is touched at all, exit 73. Neither the gate nor the GardenletConfiguration is asked.
    Safe to run again, and to be killed anywhere.
    """
    from reconciler.registration.pausing import Mode, Pause  # noqa: PLC0415 - heavy, and not every command needs it

    if seconds < 2 * timeout:  # also a pause that stands already, and ends a little sooner, must outlast the work
        raise UsageError(f"--for must be at least twice --timeout ({timeout:g} s): the pause must outlast the work")
    wanted = Pause(time.time() + seconds, "cleanup", Mode.REMOVE)
    chosen = Options(**options)
    chosen.may_be_uninstalled = True
    chosen.settings(within=timeout)  # read here: it may ask the cluster in a loop of its own
    asyncio.run(_cleaned(chosen, wanted, output, within=timeout, leave_paused=leave_paused, dry_run=dry_run))


async def _cleaned(
    options: Options, wanted: "Pause", output: str, *, within: float, leave_paused: bool, dry_run: bool
) -> None:
    from reconciler.controller.cleanup import Cleanup  # noqa: PLC0415 - imports kubernetes

    settings = options.settings()
    left = max(within - options.spent_seconds, 0.0)
    with deadline(settings, within, spent_seconds=options.spent_seconds) as policy:
        async with options.cluster(settings, within=left) as cluster:
            cleaning = Cleanup(cluster, settings, wanted, leaves_paused=leave_paused, dry_run=dry_run)
            try:
                async with asyncio.timeout(left):
                    await policy(cleaning.run)
            except TimeoutError as error:
                if not cleaning.waits_for:
                    raise
                raise HeldError(f"gave up after {within:g} s: {cleaning.waits_for}") from error
            finally:
                _tell(cleaning, output, dry_run=dry_run)


def _tell(cleaning: "Cleanup", output: str, *, dry_run: bool) -> None:
    """Print what became of everything so far, however the work ended."""
    if output == "json":
        objects = [{"object": _name(one), "result": one.result.value, "why": one.why} for one in cleaning.removals]
        click.echo(json.dumps({"dryRun": dry_run, "objects": objects}))
        return
    for one in cleaning.removals:
        why = f" ({one.why})" if one.why else ""
        click.echo(f"{one.result.value} {_name(one)}{why}" + (" (dry run)" if dry_run else ""))


def _name(one: "Removal") -> str:
    """Return the object as kubectl names it, and its namespace."""
    target = one.target
    where = f" in namespace {target.namespace}" if target.namespace else ""
    return f"{target.resource.plural.removesuffix('s')}/{target.name}{where}"
