"""The commands `pause` and `resume`."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import EXIT_CODES, Options, cluster_options, timeout_option
from reconciler.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from reconciler.cluster import Cluster
    from reconciler.registration.pausing import Pause
    from reconciler.settings import ReconcilerConfiguration

_LONGEST_SECONDS = 7 * 24 * 3600.0
_LOOK_SECONDS = 0.25


def duration(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return how long a pause lasts (seconds), for click."""
    from reconciler import durations  # noqa: PLC0415 - not every command needs it

    try:
        seconds = durations.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise click.BadParameter("expected more than 0s and at most 168h: a pause ends by itself")
    return seconds


@click.command(epilog=EXIT_CODES)
@cluster_options
@click.option("--for", "seconds", required=True, callback=duration, metavar="DURATION", help="Such as 30m or 2h.")
@click.option("--reason", required=True, help="Why, for whoever looks next.")
@click.option("--remove", is_flag=True, help="Remove the registration instead of setting it to Ignore.")
@timeout_option(10.0)
def pause(seconds: float, reason: str, timeout: float, *, remove: bool, **options: Any) -> None:  # noqa: ANN401 - click's keywords, checked by Options
    """Enforce nothing for a while: the registration is set to Ignore, or removed with --remove.

    Kept as an annotation on the Lease, so that every reconciler honours it and it survives their restart; it ends by
    itself. Exit 0: it is in force; 75: nobody of ours followed within --timeout: run `reconcile`, or the kubectl line
    that is printed.
    """
    from reconciler.registration.pausing import Mode, Pause  # noqa: PLC0415 - heavy, and not every command needs it

    if not reason.strip():
        raise UsageError("--reason is empty: say why, for whoever looks next")
    chosen = Pause(time.time() + seconds, reason.strip()[:200], Mode.REMOVE if remove else Mode.IGNORE)
    found = Options(**options)
    settings = found.settings()
    in_force = asyncio.run(_written(found, settings, chosen, within=timeout))
    click.echo(str(chosen))
    if in_force:
        return
    name = settings.registration.name
    by_hand = (
        f"kubectl delete mutatingwebhookconfiguration {name}"
        if remove
        else f"kubectl patch mutatingwebhookconfiguration {name} --type=json "
        """-p '[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]'"""
    )
    click.echo(f"noted, but nobody followed within {timeout:g} s: run `reconcile`, or by hand:\n  {by_hand}", err=True)
    sys.exit(ExitCode.TRY_AGAIN)


@click.command(epilog=EXIT_CODES)
@cluster_options
def resume(**options: Any) -> None:  # noqa: ANN401 - likewise
    """End a pause: a running reconciler registers again at once, and raises to Fail by proofs as ever."""
    found = Options(**options)
    ended = asyncio.run(_written(found, found.settings(), None, within=0.0))
    click.echo("resumed" if ended else "there was no pause")


async def _written(
    options: Options, settings: "ReconcilerConfiguration", chosen: "Pause | None", *, within: float
) -> bool:
    """Write the pause (None: remove it) on the Lease; returns whether it is in force, or whether there was one."""
    from reconciler.controller import pause  # noqa: PLC0415 - imports kubernetes
    from reconciler.controller.leadership import lease_of  # noqa: PLC0415 - likewise
    from reconciler.controller.lease import annotations_of  # noqa: PLC0415 - likewise
    from reconciler.registration import pausing  # noqa: PLC0415 - heavy

    election = settings.leader_election
    async with options.cluster(settings) as cluster:
        lease = await cluster.get(lease_of(election))
        if lease is None and chosen is None:
            return False
        await pause.written(cluster, election, chosen, lease)
        if chosen is None:
            return pausing.of(annotations_of(lease), now=time.time()) is not None
        return await _followed(cluster, settings, chosen, within=within)


async def _followed(cluster: "Cluster", settings: "ReconcilerConfiguration", chosen: "Pause", *, within: float) -> bool:
    from reconciler.controller.reconcile import target_of  # noqa: PLC0415 - imports kubernetes
    from reconciler.registration.memory import State, standing  # noqa: PLC0415 - heavy
    from reconciler.registration.pausing import Mode  # noqa: PLC0415 - likewise

    end = time.monotonic() + within
    while True:
        state = standing(await cluster.get(target_of(settings.registration)))
        if state is None or (chosen.mode is Mode.IGNORE and state is State.IGNORE):
            return True
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
