"""The command line: parse arguments, call one function, map errors to exit codes. Commands import late."""

import os
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from signal import SIGTERM, signal
from typing import Any, Final, NoReturn

import click

from reconciler.cli.options import EXIT_CODES
from reconciler.errors import ExitCode, ReconcilerError
from reconciler.printable import printable

# Each command: its name, its module in this package, and the function there.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "check-config": ("offline", "check_config"),
    "render": ("offline", "render"),
    "diff": ("once", "diff"),
    "reconcile": ("once", "reconcile"),
    "run": ("daemons", "run"),
    "status": ("status", "status"),
    "prove": ("once", "prove"),
    "explain": ("explain", "explain"),
    "audit": ("audit", "audit"),
    "lint": ("lint", "lint"),
    "pause": ("pausing", "pause"),
    "resume": ("pausing", "resume"),
    "certificates": ("certificates", "certificates"),
    "cleanup": ("cleanup", "cleanup"),
    "serve": ("daemons", "serve"),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when that command is called, or the list of commands is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands, in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Return the command of this name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"reconciler.cli.{module}"), name)
        return command


def _show_version(context: click.Context, _parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401 - click's
    if value and not context.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - it loads as much as click does

        click.echo(f"seccomp-reconciler, version {version('seccomp-reconciler')}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SECCOMP_RECONCILER",
        "max_content_width": 110,
    },
    epilog=EXIT_CODES,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Default seccomp profiles for the pods of a Gardener seed: registered, answered and proved.

    The feature gate DefaultSeccompProfile of a GardenletConfiguration decides: on, and the
    MutatingWebhookConfiguration stands; off, and it does not. Start with `check-config` and `render`, which need no
    cluster; then `diff`; then `reconcile` (once, for a Job) or `run` (for ever: a Deployment or a sidecar). `serve`
    answers the webhook, `prove` asks the API server whether a pod really gets its profile, `status` shows everything on
    one screen.

    Every option but ports can be given by the environment: SECCOMP_RECONCILER_RUN_LOG_LEVEL=debug is
    `run --log-level debug`. Options that show a shorter variable take that, too, for all commands. NO_COLOR=1 turns
    colours off.
    """


def main() -> NoReturn:
    """Run the command line and end the process with one of the documented exit codes."""
    signal(SIGTERM, _terminated)
    # Commands that log replace this: see telemetry/logging.py.
    warnings.showwarning = _warned
    try:
        code = cli.main(standalone_mode=False, color=False if os.environ.get("NO_COLOR") else None)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except ReconcilerError as error:
        # It may quote names of others.
        click.echo("\n".join(printable(line) for line in f"error: {error}".split("\n")), err=True)
        code = error.exit_code
    except Exception:  # noqa: BLE001 - a defect must not end with 1, which means a difference to callers of diff
        from traceback import print_exc  # noqa: PLC0415 - only a defect needs it

        print_exc()
        code = ExitCode.INTERNAL
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _terminated(number: int, _frame: object) -> NoReturn:
    """End as the signal would: the first process of a container has no such default."""
    sys.exit(128 + number)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning of Python or a library without the path of the source file."""
    click.echo(f"warning: {message}", err=True)
