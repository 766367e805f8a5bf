"""The commands `pause` and `resume`."""

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import EXIT_CODES, Options, cluster_options, timeout_option
from reconciler.errors import ExitCode, ForeignObjectError, UsageError

if TYPE_CHECKING:
    from reconciler.cluster import Cluster
    from reconciler.registration.identity import Manifest
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
    itself. Exit 0: the registration was read back as absent or Ignore; 73: an object of our name is not ours and may
    refuse pods; 75: no reconciler applied the pause within --timeout. Both print the kubectl line that does it.
    """
    from reconciler.registration.pausing import Mode, Pause  # noqa: PLC0415 - heavy, and not every command needs it

    if not reason.strip():
        raise UsageError("--reason is empty: say why, for whoever looks next")
    chosen = Pause(time.time() + seconds, reason.strip()[:200], Mode.REMOVE if remove else Mode.IGNORE)
    found = Options(**options)
    settings = found.settings()
    left = asyncio.run(_paused(found, settings, chosen, within=timeout))
    click.echo(str(chosen))
    if left is None:
        return
    click.echo(
        f"The pause is recorded, but no reconciler applied it within {timeout:g} s: run `reconcile`, or by hand:\n"
        f"  {_by_hand(left, remove=remove)}",
        err=True,
    )
    sys.exit(ExitCode.TRY_AGAIN)


@click.command(epilog=EXIT_CODES)
@cluster_options
def resume(**options: Any) -> None:  # noqa: ANN401 - likewise
    """End a pause: a running reconciler registers again at once, and raises to Fail by proofs as ever."""
    found = Options(**options)
    ended = asyncio.run(_resumed(found, found.settings()))
    click.echo("resumed" if ended else "there was no pause")


async def _paused(
    options: Options, settings: "ReconcilerConfiguration", chosen: "Pause", *, within: float
) -> "Manifest | None":
    """Write the pause on the Lease; returns None once it is in force, else the registration that is left."""
    from reconciler.controller import pause  # noqa: PLC0415 - imports kubernetes
    from reconciler.controller.leadership import lease_of  # noqa: PLC0415 - likewise

    election = settings.leader_election
    async with options.cluster(settings) as cluster:
        await pause.written(cluster, election, chosen, await cluster.get(lease_of(election)))
        return await _left(cluster, settings, chosen, within=within)


async def _resumed(options: Options, settings: "ReconcilerConfiguration") -> bool:
    """Remove the pause from the Lease; returns whether there was one that had not ended yet."""
    from reconciler.controller import pause  # noqa: PLC0415 - imports kubernetes
    from reconciler.controller.leadership import lease_of  # noqa: PLC0415 - likewise
    from reconciler.controller.lease import annotations_of  # noqa: PLC0415 - likewise
    from reconciler.registration import pausing  # noqa: PLC0415 - heavy

    election = settings.leader_election
    async with options.cluster(settings) as cluster:
        lease = await cluster.get(lease_of(election))
        if lease is None:
            return False
        await pause.written(cluster, election, None, lease)
        return pausing.of(annotations_of(lease), now=time.time()) is not None


async def _left(
    cluster: "Cluster", settings: "ReconcilerConfiguration", chosen: "Pause", *, within: float
) -> "Manifest | None":
    """Return None once the registration is read back as the pause wants it, else what is left of it at the end.

    What counts is what the API server holds, whatever its owner. ForeignObjectError where the object of our name is not
    ours and may refuse pods: no reconciler changes such an object.
    """
    from reconciler.controller.reconcile import foreign, target_of  # noqa: PLC0415 - imports kubernetes
    from reconciler.registration.identity import is_ours  # noqa: PLC0415 - heavy
    from reconciler.registration.memory import may_refuse  # noqa: PLC0415 - likewise
    from reconciler.registration.pausing import Mode  # noqa: PLC0415 - likewise

    target, end = target_of(settings.registration), time.monotonic() + within
    while True:
        observed = await cluster.get(target)
        if observed is None or (chosen.mode is Mode.IGNORE and not may_refuse(observed)):
            return None
        if not is_ours(observed):
            raise ForeignObjectError(
                f"the pause is recorded, but it does not take effect: {foreign(target, observed)}. "
                f"To end what it does to pods now:\n  {_by_hand(observed, remove=chosen.mode is Mode.REMOVE)}"
            )
        if time.monotonic() > end:
            return observed
        await asyncio.sleep(_LOOK_SECONDS)


def _by_hand(observed: "Manifest", *, remove: bool) -> str:
    """Return the kubectl line that removes `observed`, or sets each of its entries to Ignore."""
    name = observed["metadata"]["name"]
    if remove:
        return f"kubectl delete mutatingwebhookconfiguration {name}"
    patch = [
        {"op": "add", "path": f"/webhooks/{index}/failurePolicy", "value": "Ignore"}
        for index, _ in enumerate(observed.get("webhooks") or ())
    ]
    text = json.dumps(patch, separators=(",", ":"))
    return f"kubectl patch mutatingwebhookconfiguration {name} --type=json -p '{text}'"
