"""The command line: parse arguments, call one function, map errors to exit codes. Commands import late."""

import signal
import sys
import traceback
from importlib.metadata import version
from typing import NoReturn

import click

from reconciler.cli.audit import audit
from reconciler.cli.certificates import certificates
from reconciler.cli.cleanup import cleanup
from reconciler.cli.daemons import run, serve
from reconciler.cli.explain import explain
from reconciler.cli.lint import lint
from reconciler.cli.offline import check_config, render
from reconciler.cli.once import diff, prove, reconcile
from reconciler.cli.options import EXIT_CODES
from reconciler.cli.pausing import pause, resume
from reconciler.cli.status import status
from reconciler.errors import ExitCode, ReconcilerError


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
    """Default seccomp profiles for the pods of a Gardener seed: registered, answered and proved.

    The feature gate DefaultSeccompProfile of a GardenletConfiguration decides: on, and the
    MutatingWebhookConfiguration stands; off, and it does not. Start with `check-config` and `render`, which need no
    cluster; then `diff`; then `reconcile` (once, for a Job) or `run` (for ever: a Deployment or a sidecar). `serve`
    answers the webhook, `prove` asks the API server whether a pod really gets its profile, `status` shows everything on
    one screen.

    Every option can be given by the environment: SECCOMP_RECONCILER_RUN_LOG_LEVEL=debug is `run --log-level debug`.
    """


for command in (
    check_config,
    render,
    diff,
    reconcile,
    run,
    status,
    prove,
    explain,
    audit,
    lint,
    pause,
    resume,
    certificates,
    cleanup,
    serve,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and end the process with one of the documented exit codes."""
    signal.signal(signal.SIGTERM, _terminated)
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


def _terminated(number: int, _frame: object) -> NoReturn:
    """End as the signal would: the first process of a container has no such default."""
    sys.exit(128 + number)
