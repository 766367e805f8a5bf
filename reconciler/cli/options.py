"""What commands share: exit codes, options and how they are put together, and small pieces of output."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from reconciler.cluster import Cluster
    from reconciler.controller.release import ReleaseSource
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


# Source: the chart's mounts, and config/sidecar, whose container has the second file alone.
_MOUNTED: Final = (
    Path("/etc/seccomp-reconciler/config/config.yaml"),
    Path("/etc/seccomp-reconciler/config/sidecar.yaml"),
)
_RELEASE_NAMESPACE: Final = "garden"


@dataclass(slots=True)
class Options:
    """What the options that all cluster commands share say, and the settings that they lead to."""

    config: Path | None
    gardenlet_config: Path | None
    ca_file: Path | None
    kubeconfig: Path | None
    context: str | None
    release_namespace: str | None = None
    leader_election: bool | None = None
    # Seconds that reading the settings from the cluster took: part of a command's deadline.
    spent_seconds: float = field(default=0.0, init=False)
    # After `helm uninstall` there is no release, and every option has its default.
    may_be_uninstalled: bool = field(default=False, init=False)
    _names_release: bool = field(default=False, init=False)
    _settings: "ReconcilerConfiguration | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Let --namespace win over a file that the environment names; with --config it is an error."""
        self._names_release = _is_given("release_namespace")
        if self._names_release and _is_given("config"):
            raise click.UsageError(
                "--namespace names the release whose settings are read: it does not go with --config"
            )
        if self._names_release:
            self.config = None

    @property
    def names_cluster(self) -> bool:
        """Whether the command line itself, not the environment, names a cluster or a release in it."""
        return any(map(_is_given, ("kubeconfig", "context", "release_namespace")))

    def refuse_cluster(self) -> None:
        """Raise a UsageError where the command line names a cluster, for commands that read files instead."""
        if self.names_cluster:
            raise click.UsageError(
                "-f reads no cluster: it does not go with --kubeconfig, --context or --release-namespace"
            )

    def settings(self, *, offline: bool = False, within: float | None = None) -> "ReconcilerConfiguration":
        """Return the settings with the command line laid over them; they are read once.

        From --config; else, in a pod, from the mounted file; else from the installed release. Where that is absent and
        the GardenletConfiguration is given all the same, every option has its default; so it has with `offline`, which
        asks no cluster. `within` is the deadline in seconds of a command that tries again until then.
        """
        if self._settings is None:
            from reconciler import files, settings  # noqa: PLC0415 - heavy, and not every command needs it

            if (file := self.settings_file()) is not None:
                content = files.read_file(file, most_bytes=settings.MAX_SETTINGS_BYTES)
                found = settings.parse(content, origin=str(file))
            elif offline or self.has_defaults:
                found = settings.ReconcilerConfiguration()
            else:
                began = time.monotonic()
                found = self._of_release(within)
                self.spent_seconds = time.monotonic() - began
            self._settings = self.laid_over(found)
        return self._settings

    def settings_file(self) -> Path | None:
        """Return the file that holds the settings; None: they are the installed release's, or the defaults."""
        if self.config is not None or self._names_release or not self._is_in_pod:
            return self.config
        return next((file for file in _MOUNTED if file.is_file()), None)

    @property
    def has_defaults(self) -> bool:
        """Whether this is a pod that has a GardenletConfiguration and no settings: every option has its default."""
        return self._is_in_pod and self._is_release_optional

    @property
    def _is_in_pod(self) -> bool:
        from reconciler.kube.kubeconfig import is_in_pod  # noqa: PLC0415 - not every command needs it

        return is_in_pod(self.kubeconfig)

    @property
    def _is_release_optional(self) -> bool:
        from reconciler.settings import ReconcilerConfiguration  # noqa: PLC0415 - heavy

        default = ReconcilerConfiguration().gardenlet_configuration.file or ""
        return not self._names_release and (self.gardenlet_config is not None or Path(default).is_file())

    def release(self, cluster: "Cluster") -> "ReleaseSource":
        """Return the source of the installed release's settings."""
        from reconciler.controller.release import ReleaseSource  # noqa: PLC0415 - imports kubernetes

        namespace = self.release_namespace or _RELEASE_NAMESPACE
        may_be_gone = self.may_be_uninstalled and not self._names_release
        return ReleaseSource(cluster, namespace, is_optional=self._is_release_optional, may_be_gone=may_be_gone)

    def _of_release(self, within: float | None) -> "ReconcilerConfiguration":
        import asyncio  # noqa: PLC0415 - not every command needs it

        from reconciler.cli.deadline import deadline  # noqa: PLC0415 - likewise
        from reconciler.settings import ReconcilerConfiguration, parse  # noqa: PLC0415 - heavy

        defaults = ReconcilerConfiguration()

        async def read() -> ReconcilerConfiguration:
            async with self.cluster(defaults, within=within) as cluster:
                source = self.release(cluster)
                if within is None:
                    content = await source.read()
                else:
                    with deadline(defaults, within) as policy:
                        async with asyncio.timeout(within):
                            content = await policy(source.read)
                if source.why_defaults and sys.stderr.isatty():
                    click.echo(f"note: every option has its default: {source.why_defaults}", err=True)
                return parse(content, origin=source.origin)

        return asyncio.run(read())

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


class _Shared(click.Option):
    """An option of many commands: SECCOMP_RECONCILER_COMMAND_NAME gives it to one, SECCOMP_RECONCILER_NAME to all.

    Never a port: a Service named seccomp-reconciler puts SECCOMP_RECONCILER_PORT=tcp://... into the pods beside it.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the environment says to this command, else to all."""
        own = os.environ.get(f"{ctx.auto_envvar_prefix}_{(self.name or '').upper()}")
        return own or super().resolve_envvar_value(ctx)


def _shared_option(*names: str, variable: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401 - those of click.option
    return click.option(*names, cls=_Shared, envvar=f"SECCOMP_RECONCILER_{variable}", show_envvar=True, **attributes)


def _is_given(name: str) -> bool:
    """Return whether the command line itself has this parameter, not the environment and no default."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def path_option(*names: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option that takes a file."""
    return click.option(*names, type=click.Path(path_type=Path), metavar="FILE", help=text)


def _shared_path_option(name: str, variable: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return _shared_option(name, variable=variable, type=click.Path(path_type=Path), metavar="FILE", help=text)


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


def port_option(name: str, default: int, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option for a port, which no environment variable gives: see `_Shared`."""
    return click.option(
        name,
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        allow_from_autoenv=False,
        help=text,
    )


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that reads the settings."""
    for option in (
        _shared_path_option("--ca-file", "CA_FILE", "PEM certificates for caBundle, instead of registration.ca."),
        _shared_path_option(
            "--gardenlet-config", "GARDENLET_CONFIG", "GardenletConfiguration, instead of gardenletConfiguration."
        ),
        _shared_path_option(
            "--config",
            "CONFIG",
            "ReconcilerConfiguration. Default: the mounted one in a pod; else, where a cluster is asked, that of the "
            "installed release.",
        ),
    ):
        command = option(command)
    return command


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that talks to a cluster."""
    return _cluster_options(command, "-n", "--namespace", "--release-namespace")


def cluster_options_of_pods(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add them to a command whose --namespace is that of pods."""
    return _cluster_options(command, "--release-namespace")


def _cluster_options(command: Callable[..., Any], *release_names: str) -> Callable[..., Any]:
    command = _shared_option(
        *release_names,
        "release_namespace",
        variable="NAMESPACE",
        help=f"Namespace of the installed release whose settings are read.  [default: {_RELEASE_NAMESPACE}]",
    )(command)
    command = _shared_option("--context", variable="CONTEXT", help="Context of the kubeconfig.")(command)
    command = _shared_path_option(
        "--kubeconfig", "KUBECONFIG", "Default: $KUBECONFIG, the pod's ServiceAccount, ~/.kube/config."
    )(command)
    return settings_options(command)


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that logs."""
    command = _shared_option(
        "--log-level",
        variable="LOG_LEVEL",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="Least level logged.",
    )(command)
    return _shared_option(
        "--log-format",
        variable="LOG_FORMAT",
        type=click.Choice(["auto", "json", "console"]),
        default="auto",
        show_default=True,
        help="auto: console on a terminal, else JSON.",
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
