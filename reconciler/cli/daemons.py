"""Commands that stay: run and serve."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click

from reconciler.cli.options import EXIT_CODES, Options, cluster_options, log_options, path_option, port_option


@click.command(epilog=EXIT_CODES)
@cluster_options
@click.option("--bind-address", default="", metavar="ADDRESS", help="Address of the status port; every one by default.")
@port_option("--status-port", 8081, "Plain port of /healthz, /readyz and /metrics; 0 takes any that is free.")
@click.option(
    "--leader-election",
    type=bool,
    metavar="BOOL",
    help="Whether to write only while holding the Lease; by default what leaderElection.enabled says.",
)
@log_options
def run(log_level: str, log_format: str, bind_address: str, status_port: int, **options: Any) -> None:  # noqa: ANN401 - likewise
    """Keep the cluster matching, for ever: in a Deployment, or as a sidecar of gardenlet.

    Follows the configuration, the settings, the CA and the registration itself. Of several, the one that holds the
    Lease writes. SIGTERM ends it within two seconds; the registration stays. An unreadable configuration changes
    nothing: the last good one stays in force, and the first good settings are waited for. /readyz never depends on the
    webhook: a sidecar must not make gardenlet unready.
    """
    from reconciler import settings  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.controller import running  # noqa: PLC0415 - imports kubernetes
    from reconciler.sources import FileSource, InlineSource, Source  # noqa: PLC0415 - likewise
    from reconciler.telemetry.logging import configure  # noqa: PLC0415 - likewise

    configure(level=log_level, style=log_format)
    chosen = Options(**options)
    wishes = running.Options(chosen.lasting_cluster, chosen.laid_over, bind_address, status_port)

    async def following() -> NoReturn:
        source: Source
        if (file := chosen.settings_file()) is not None:
            source = FileSource(file, most_bytes=settings.MAX_SETTINGS_BYTES)
        elif chosen.has_defaults:
            source = InlineSource(f"apiVersion: {settings.API_VERSION}\nkind: {settings.KIND}\n".encode(), "defaults")
        else:
            async with chosen.lasting_cluster(settings.ReconcilerConfiguration()) as cluster:
                await running.run(chosen.release(cluster), wishes)
        await running.run(source, wishes)

    _until_signalled(following())
    running.log.info("run.stopped")


@click.command(epilog=EXIT_CODES)
@click.option(
    "--certificates",
    type=click.Path(path_type=Path),
    default="/etc/seccomp-reconciler/tls",
    show_default=True,
    metavar="FOLDER",
    help="Folder with tls.crt and tls.key: a mounted Secret, followed when it changes.",
)
@click.option("--bind-address", default="", metavar="ADDRESS", help="Address to listen on; every one by default.")
@port_option("--port", 9443, "Port of the webhook.")
@port_option("--status-port", 8080, "Plain port of /healthz, /readyz and /metrics.")
@path_option("--client-ca", text="CA (PEM) of the API server's client certificate; without it no client shows one.")
@click.option("--client-name", multiple=True, metavar="NAME", help="Common name that --client-ca's clients may have.")
@click.option(
    "--skip-label",
    default="seccompprofile.resources.gardener.cloud/skip",
    show_default=True,
    metavar="KEY",
    help="Pods with this label are left alone, whatever its value.",
)
@click.option(
    "--untyped-profile",
    type=click.Choice(["Leave", "Override"]),
    default="Leave",
    show_default=True,
    help="What is done with a localhostProfile without a type: Override replaces it, as upstream does.",
)
@click.option(
    "--drain-delay",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to go on serving after SIGTERM, until no API server sends here any more.",
)
@click.option(
    "--max-connections", type=click.IntRange(min=8), default=1000, show_default=True, help="Most connections at once."
)
@log_options
def serve(  # noqa: PLR0917 - click calls it by keywords
    certificates: Path,
    bind_address: str,
    port: int,
    status_port: int,
    client_ca: Path | None,
    client_name: tuple[str, ...],
    skip_label: str,
    untyped_profile: str,
    drain_delay: float,
    max_connections: int,
    log_level: str,
    log_format: str,
) -> None:
    """Answer the webhook: give pods RuntimeDefault, unless they are labelled to be skipped or say a type.

    Needs no access to the API server, no token and no writable file. A new certificate in FOLDER serves from the next
    handshake on; one that cannot be used leaves the old one in place. SIGTERM: not ready at once, goes on serving for
    --drain-delay, then ends; a second SIGTERM ends it at once.
    """
    from reconciler.admission import review  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.admission.listener import Limits  # noqa: PLC0415 - likewise
    from reconciler.admission.serve import Options, serve  # noqa: PLC0415 - likewise
    from reconciler.telemetry.logging import configure  # noqa: PLC0415 - likewise

    configure(level=log_level, style=log_format)
    options = Options(
        certificates=certificates,
        bind_address=bind_address,
        port=port,
        status_port=status_port,
        client_ca=client_ca,
        client_names=frozenset(client_name),
        rules=review.Rules(skip_label, review.UntypedProfile(untyped_profile)),
        drain_delay_seconds=drain_delay,
        limits=Limits(connections=max_connections),
    )
    asyncio.run(serve(options))


def _until_signalled(work: Coroutine[Any, Any, NoReturn]) -> None:
    """Run `work` until SIGTERM or SIGINT cancels it, or it raises."""

    async def supervise() -> None:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    asyncio.run(supervise())
