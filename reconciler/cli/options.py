"""What commands share: exit codes, options and how they are put together, and small pieces of output."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from reconciler.cluster import Cluster
    from reconciler.gardenlet.featuregates import Decision
    from reconciler.settings import ReconcilerConfiguration

EXIT_CODES: Final = """
\b
Exit codes:
  0   done, whether or not something had to change
  1   diff: something would change; explain: a pod is unprotected, refused, or not known;
      audit: what --fail-on names
  64  wrong usage
  65  a configuration is invalid, or the API server refuses what it says
  66  a configuration was not found
  69  the API server could not be reached until the deadline
  70  a defect of this program
  73  an object of our name exists and is not ours
  75  another writer or a finalizer was in the way, or it is not proved or not well: try again later
  77  forbidden; the message names the rule that is missing
  130, 143  ended by SIGINT, SIGTERM
"""

# How long a credential plugin may take where the command has no deadline: a person may have to log in.
_LOGIN_SECONDS: Final = 60.0

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the options that all cluster commands share say."""

    config: Path | None
    gardenlet_config: Path | None
    ca_file: Path | None
    kubeconfig: Path | None
    context: str | None
    leader_election: bool | None = None

    def settings(self) -> "ReconcilerConfiguration":
        """Return the settings file with the command line laid over it; without a file, the defaults."""
        from reconciler import files, settings  # noqa: PLC0415 - heavy, and not every command needs it

        if self.config is None:
            return self.laid_over(settings.ReconcilerConfiguration())
        content = files.read_file(self.config, most_bytes=settings.MAX_SETTINGS_BYTES)
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
        if self.leader_election is not None:
            election = chosen.leader_election.model_copy(update={"enabled": self.leader_election})
            chosen = chosen.model_copy(update={"leader_election": election})
        return chosen

    def cluster(self, settings: "ReconcilerConfiguration", *, within: float | None = None) -> "Cluster":
        """Return a connection, not yet opened; what it has to tell goes to standard error, beside the result.

        `within` is the command's deadline in seconds, for a credential plugin, which may wait for a person.
        """
        import structlog  # noqa: PLC0415 - likewise

        from reconciler.backoff import Backoff  # noqa: PLC0415 - likewise
        from reconciler.cluster import Cluster  # noqa: PLC0415 - imports kubernetes
        from reconciler.telemetry.logging import configure  # noqa: PLC0415 - likewise

        if not structlog.is_configured():
            configure(level="warning", style="auto")
        return Cluster(
            kubeconfig=self.kubeconfig,
            context=self.context,
            request_timeout_seconds=settings.request_timeout_seconds,
            backoff=Backoff(settings.backoff.initial, settings.backoff.maximum),
            # A little less than the deadline: the plugin is then named as what took so long.
            login_timeout_seconds=_LOGIN_SECONDS if within is None else max(within - 0.5, within / 2),
            may_ask_a_person=True,
        )

    def lasting_cluster(self, settings: "ReconcilerConfiguration") -> "Cluster":
        """Return a connection for `run`: a credential plugin has as long as a request, and no terminal."""
        from reconciler.backoff import Backoff  # noqa: PLC0415 - likewise
        from reconciler.cluster import Cluster  # noqa: PLC0415 - imports kubernetes

        return Cluster(
            kubeconfig=self.kubeconfig,
            context=self.context,
            request_timeout_seconds=settings.request_timeout_seconds,
            backoff=Backoff(settings.backoff.initial, settings.backoff.maximum),
        )


def path_option(*names: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option that takes a file."""
    return click.option(*names, type=click.Path(path_type=Path), metavar="FILE", help=text)


def files_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option -f: files, or standard input, instead of a cluster."""
    return click.option(
        "-f",
        "--file",
        "files",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        multiple=True,
        help=text,
    )


def timeout_option(default: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option --timeout."""
    return click.option(
        "--timeout", type=click.FloatRange(min=1), default=default, show_default=True, help="Deadline in seconds."
    )


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that reads the settings."""
    for option in (
        path_option("--ca-file", text="PEM certificates for caBundle, instead of registration.ca."),
        path_option("--gardenlet-config", text="GardenletConfiguration, instead of gardenletConfiguration."),
        path_option("--config", text="ReconcilerConfiguration; without it every option has its default."),
    ):
        command = option(command)
    return command


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that talks to a cluster."""
    command = click.option("--context", help="Context of the kubeconfig.")(command)
    command = path_option("--kubeconfig", text="Default: $KUBECONFIG, the pod's ServiceAccount, ~/.kube/config.")(
        command
    )
    return settings_options(command)


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that logs."""
    levels = click.Choice(["debug", "info", "warning", "error"])
    styles = click.Choice(["auto", "json", "console"])
    command = click.option("--log-level", type=levels, default="info", show_default=True, help="Least level logged.")(
        command
    )
    return click.option(
        "--log-format", type=styles, default="auto", show_default=True, help="auto: console on a terminal, else JSON."
    )(command)


def decide(file: Path) -> "Decision":
    """Return what the GardenletConfiguration in `file` (- is standard input) says about the gate."""
    from reconciler.files import read_file  # noqa: PLC0415 - likewise
    from reconciler.gardenlet import document, featuregates  # noqa: PLC0415 - heavy, and not every command needs it

    if str(file) == "-":
        content, origin = sys.stdin.buffer.read(document.MAX_DOCUMENT_BYTES + 1), "standard input"
    else:
        content, origin = read_file(file, most_bytes=document.MAX_DOCUMENT_BYTES), str(file)
    return featuregates.decide(document.parse_any(content, origin=origin).feature_gates)


def decision_json(decision: "Decision") -> dict[str, object]:
    """Return a decision as --output json shows it."""
    return {
        "gate": decision.gate,
        "enabled": decision.enabled,
        "reason": decision.reason.value,
        "warnings": list(decision.warnings),
    }


def difference_json(difference: Any) -> dict[str, object]:  # noqa: ANN401 - drift.Difference, which is imported late
    """Return a drift.Difference as --output json shows it."""
    return {"path": difference.path, "desired": difference.desired, "observed": difference.observed}


def as_yaml(manifest: object) -> str:
    """Return it as YAML, one field a line."""
    import yaml  # noqa: PLC0415 - only text output needs it

    return yaml.safe_dump(manifest, sort_keys=False, width=1_000_000)
