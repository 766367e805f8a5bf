"""The command line: parse arguments, call one function, map errors to exit codes. Commands import late."""

import asyncio
import json
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from reconciler.errors import ConflictError, ExitCode, ReconcilerError, UnavailableError

if TYPE_CHECKING:
    from reconciler.cluster import Cluster
    from reconciler.controller.reconcile import Outcome
    from reconciler.gardenlet.featuregates import Decision
    from reconciler.registration.identity import Manifest
    from reconciler.settings import ReconcilerConfiguration

EXIT_CODES: Final = """
\b
Exit codes:
  0   done, whether or not something had to change
  1   diff: something would change
  64  wrong usage
  65  a configuration is invalid, or the API server refuses what it says
  66  a configuration was not found
  69  the API server could not be reached until the deadline
  70  a defect of this program
  73  an object of our name exists and is not ours
  75  another writer or a finalizer was in the way: try again later
  77  forbidden; the message names the rule that is missing
"""

_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@dataclass(frozen=True, slots=True)
class _Options:
    """What the options that all cluster commands share say."""

    config: Path | None
    gardenlet_config: Path | None
    ca_file: Path | None
    kubeconfig: Path | None
    context: str | None

    def settings(self) -> "ReconcilerConfiguration":
        """Return the settings file with the command line laid over it; without a file, the defaults."""
        from reconciler import settings, sources  # noqa: PLC0415 - heavy, and not every command needs it

        if self.config is None:
            return self.laid_over(settings.ReconcilerConfiguration())
        content = sources.read_file(self.config, most_bytes=settings.MAX_SETTINGS_BYTES)
        return self.laid_over(settings.parse(content, origin=str(self.config)))

    def laid_over(self, chosen: "ReconcilerConfiguration") -> "ReconcilerConfiguration":
        """Return `chosen` with what the command line says instead."""
        from reconciler.settings import CASource, GardenletConfigurationSource  # noqa: PLC0415 - likewise

        if self.gardenlet_config is not None:
            source = GardenletConfigurationSource(file=str(self.gardenlet_config))
            chosen = chosen.model_copy(update={"gardenlet_configuration": source})
        if self.ca_file is not None:
            registration = chosen.registration.model_copy(update={"ca": CASource(file=str(self.ca_file))})
            chosen = chosen.model_copy(update={"registration": registration})
        return chosen

    def cluster(self, settings: "ReconcilerConfiguration") -> "Cluster":
        """Return a connection, not yet opened."""
        from reconciler.backoff import Backoff  # noqa: PLC0415 - likewise
        from reconciler.cluster import Cluster  # noqa: PLC0415 - imports kubernetes

        return Cluster(
            kubeconfig=self.kubeconfig,
            context=self.context,
            request_timeout_seconds=settings.request_timeout_seconds,
            backoff=Backoff(settings.backoff.initial, settings.backoff.maximum),
        )


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass: what was asked, the object before it (read for a dry-run only), and what came of it."""

    decision: "Decision"
    before: "Manifest | None"
    outcome: "Outcome"


def _path_option(*names: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(*names, type=click.Path(path_type=Path), metavar="FILE", help=text)


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        _path_option("--ca-file", text="PEM certificates for caBundle, instead of registration.ca."),
        _path_option("--gardenlet-config", text="GardenletConfiguration, instead of gardenletConfiguration."),
        _path_option("--config", text="ReconcilerConfiguration; without it every option has its default."),
    ):
        command = option(command)
    return command


def _cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--context", help="Context of the kubeconfig.")(command)
    command = _path_option("--kubeconfig", text="Default: $KUBECONFIG, the pod's ServiceAccount, ~/.kube/config.")(
        command
    )
    return _settings_options(command)


def _log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    levels = click.Choice(["debug", "info", "warning", "error"])
    styles = click.Choice(["auto", "json", "console"])
    command = click.option("--log-level", type=levels, default="info", show_default=True, help="Least level logged.")(
        command
    )
    return click.option(
        "--log-format", type=styles, default="auto", show_default=True, help="auto: console on a terminal, else JSON."
    )(command)


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SECCOMP_RECONCILER",
        "max_content_width": 110,
    },
    epilog=EXIT_CODES,
)
@click.version_option(version("seccomp-reconciler"), prog_name="seccomp-reconciler")
def cli() -> None:
    """Keep the default-seccomp-profile webhook of a Gardener seed registered as gardenlet's configuration asks.

    The feature gate DefaultSeccompProfile of a GardenletConfiguration decides: on, and the
    MutatingWebhookConfiguration stands; off, and it does not. Start with `check-config` and `render`, which need no
    cluster; then `diff`; then `reconcile` (once, for a Job) or `run` (for ever, for a sidecar).

    Every option can be given by the environment: SECCOMP_RECONCILER_RUN_LOG_LEVEL=debug is `run --log-level debug`.
    """


@cli.command("check-config", epilog=EXIT_CODES)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")
@_OUTPUT
def check_config(file: Path, output: str) -> None:
    """Say whether the gate is on in FILE, and why, exactly as gardenlet decides it.

    FILE is a GardenletConfiguration, or a Gardenlet or ManagedSeed object that embeds one; - is standard input.
    """
    decision = _decide(file)
    if output == "json":
        click.echo(json.dumps(_decision_json(decision)))
        return
    click.echo(f"{decision.gate}: {'on' if decision.enabled else 'off'} ({decision.reason.value})")
    for warning in decision.warnings:
        click.echo(f"warning: {warning}", err=True)


@cli.command(epilog=EXIT_CODES)
@_settings_options
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Format.")
def render(config: Path | None, gardenlet_config: Path | None, ca_file: Path | None, output: str) -> None:
    """Print the MutatingWebhookConfiguration, without a cluster.

    With --gardenlet-config nothing is printed where the gate is off. A caBundle that lies in the cluster is left out,
    and a note on standard error says so.
    """
    from reconciler.registration import ca_bundle, desired  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.sources import read_file  # noqa: PLC0415 - likewise

    registration = _Options(config, gardenlet_config, ca_file, None, None).settings().registration
    if gardenlet_config is not None and not (decision := _decide(gardenlet_config)).enabled:
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
    manifest = desired.render(registration, ca_bundle=bundle)
    click.echo(json.dumps(manifest, indent=2) if output == "json" else _yaml(manifest), nl=output == "json")


@cli.command(epilog=EXIT_CODES)
@_cluster_options
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Deadline in seconds.")
def diff(timeout: float, **options: Any) -> None:  # noqa: ANN401 - click's keywords, checked by _Options
    """Show what `reconcile` would change in the cluster. Exit 0: nothing; 1: something; more: an error.

    The API server computes the result by a dry-run; nothing is written.
    """
    from reconciler.registration.present import unified  # noqa: PLC0415 - heavy, and not every command needs it

    done = _once(_Options(**options), timeout=timeout, dry_run=True)
    text = unified(done.before, done.outcome.observed)
    for line in text:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(click.style(line, fg=colour))
    sys.exit(ExitCode.DIFFERENT if text else ExitCode.OK)


@cli.command(epilog=EXIT_CODES)
@_cluster_options
@_OUTPUT
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Deadline in seconds.")
@click.option("--dry-run", is_flag=True, help="Let the API server check everything and keep nothing.")
@click.option("--adopt", is_flag=True, help="Take over an object of our name that is not ours.")
def reconcile(timeout: float, output: str, *, dry_run: bool, adopt: bool, **options: Any) -> None:  # noqa: ANN401 - likewise
    """Make the cluster match, once: for a Job in seed bootstrap.

    Prints one line: registered, updated, unchanged, removed or absent.
    """
    chosen = _Options(**options)
    done = _once(chosen, timeout=timeout, dry_run=dry_run, adopt=adopt)
    outcome = done.outcome
    name = chosen.settings().registration.name
    if output == "json":
        click.echo(
            json.dumps(
                {
                    "result": outcome.result.value,
                    "name": name,
                    "gate": _decision_json(done.decision),
                    "dryRun": dry_run,
                    "differences": [_difference_json(item) for item in outcome.differences],
                    "addedByOthers": [_difference_json(item) for item in outcome.tolerated],
                }
            )
        )
        return
    paths = ", ".join(item.path for item in outcome.differences)
    click.echo(
        f"{outcome.result.value} mutatingwebhookconfiguration/{name}"
        + (f" ({paths})" if paths else "")
        + (" (dry run)" if dry_run else "")
    )


@cli.command(epilog=EXIT_CODES)
@_cluster_options
@_log_options
def run(log_level: str, log_format: str, **options: Any) -> None:  # noqa: ANN401 - likewise
    """Keep the cluster matching, for ever: for a sidecar of gardenlet.

    Follows the configuration, the settings, the CA and the registration itself. SIGTERM ends it within two seconds;
    the registration stays. An unreadable configuration changes nothing: the last good one stays in force.
    """
    from reconciler import settings  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.controller import loop  # noqa: PLC0415 - imports kubernetes
    from reconciler.sources import FileSource, InlineSource, Source  # noqa: PLC0415 - likewise
    from reconciler.telemetry.logging import configure  # noqa: PLC0415 - likewise

    configure(level=log_level, style=log_format)
    chosen = _Options(**options)
    source: Source = (
        FileSource(chosen.config, most_bytes=settings.MAX_SETTINGS_BYTES)
        if chosen.config is not None
        else InlineSource(f"apiVersion: {settings.API_VERSION}\nkind: {settings.KIND}\n".encode(), "defaults")
    )
    _until_signalled(loop.run(source, chosen.cluster, chosen.laid_over))
    loop.log.info("run.stopped")


def _once(options: _Options, *, timeout: float, dry_run: bool = False, adopt: bool = False) -> _Pass:
    """Run one pass until it succeeds or `timeout` seconds are over."""
    from reconciler.backoff import Backoff, retrying  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.controller import inputs, reconcile  # noqa: PLC0415 - imports kubernetes

    settings = options.settings()
    registration = settings.registration
    last: list[BaseException] = []
    warned: set[str] = set()

    def announce(error: BaseException, delay_seconds: float) -> None:
        last.append(error)
        click.echo(f"retrying in {delay_seconds:.1f} s: {error}", err=True)

    async def one_pass(cluster: "Cluster") -> _Pass:
        decision = await inputs.read_decision(inputs.configuration_source(settings.gardenlet_configuration, cluster))
        for warning in set(decision.warnings) - warned:
            click.echo(f"warning: {warning}", err=True)
            warned.add(warning)
        bundle = await inputs.read_ca_bundle(inputs.ca_source(registration.ca, cluster)) if decision.enabled else None
        before = await cluster.get(reconcile.target_of(registration)) if dry_run else None
        outcome = await reconcile.reconcile(cluster, registration, ca_bundle=bundle, adopt=adopt, dry_run=dry_run)
        return _Pass(decision, before, outcome)

    async def until_deadline() -> _Pass:
        policy = retrying(
            Backoff(settings.backoff.initial, settings.backoff.maximum),
            deadline_seconds=timeout,
            before_sleep=announce,
        )
        try:
            async with asyncio.timeout(timeout), options.cluster(settings) as cluster:
                return await policy(one_pass, cluster)
        except (ConflictError, UnavailableError, TimeoutError) as error:
            cause = last[-1] if isinstance(error, TimeoutError) and last else error
            kind = ConflictError if isinstance(cause, ConflictError) else UnavailableError
            raise kind(f"gave up after {timeout:g} s: {str(cause) or 'no answer from the API server'}") from error

    return asyncio.run(until_deadline())


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


def _decide(file: Path) -> "Decision":
    from reconciler.gardenlet import document, featuregates  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.sources import read_file  # noqa: PLC0415 - likewise

    if str(file) == "-":
        content, origin = sys.stdin.buffer.read(document.MAX_DOCUMENT_BYTES + 1), "standard input"
    else:
        content, origin = read_file(file, most_bytes=document.MAX_DOCUMENT_BYTES), str(file)
    return featuregates.decide(document.parse_any(content, origin=origin).feature_gates)


def _decision_json(decision: "Decision") -> dict[str, object]:
    return {
        "gate": decision.gate,
        "enabled": decision.enabled,
        "reason": decision.reason.value,
        "warnings": list(decision.warnings),
    }


def _difference_json(difference: Any) -> dict[str, object]:  # noqa: ANN401 - drift.Difference, which is imported late
    return {"path": difference.path, "desired": difference.desired, "observed": difference.observed}


def _yaml(manifest: object) -> str:
    import yaml  # noqa: PLC0415 - only text output needs it

    return yaml.safe_dump(manifest, sort_keys=False, width=1_000_000)


def main() -> NoReturn:
    """Run the command line and end the process with one of the documented exit codes."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except ReconcilerError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except Exception:  # noqa: BLE001 - a defect must not end with 1, which means a difference to callers of diff
        traceback.print_exc()
        code = ExitCode.INTERNAL
    sys.exit(code if isinstance(code, int) else ExitCode.OK)
