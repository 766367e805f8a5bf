"""How a command goes on until its deadline: what may pass by itself is tried again and told, what remains is raised."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from reconciler.errors import ConflictError, CredentialPluginError, UnavailableError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying

    from reconciler.settings import ReconcilerConfiguration


@contextmanager
def deadline(
    settings: "ReconcilerConfiguration", timeout: float, *, spent_seconds: float = 0.0
) -> Iterator["AsyncRetrying"]:
    """Yield the policy for passes that may take `timeout` seconds in all, of which some are spent already.

    What ends the block then, a TimeoutError or the last failure, is raised as what stood in the way: exit 69 or 75.
    """
    from reconciler.backoff import Backoff, is_transient, retrying  # noqa: PLC0415 - heavy, and not every command needs it

    last: list[BaseException] = []

    def announce(error: BaseException, delay_seconds: float) -> None:
        last.append(error)
        click.echo(f"retrying in {delay_seconds:.1f} s: {error}", err=True)

    backoff = Backoff(settings.backoff.initial, settings.backoff.maximum)
    try:
        # A plugin that fails is not started again and again: it may open a browser each time.
        yield retrying(
            backoff,
            deadline_seconds=max(timeout - spent_seconds, 0.0),
            retry_on=lambda error: is_transient(error) and not isinstance(error, CredentialPluginError),
            before_sleep=announce,
        )
    except CredentialPluginError:
        raise
    except (ConflictError, UnavailableError, TimeoutError) as error:
        cause = last[-1] if isinstance(error, TimeoutError) and last else error
        kind = ConflictError if isinstance(cause, ConflictError) else UnavailableError
        raise kind(f"gave up after {timeout:g} s: {str(cause) or 'no answer from the API server'}") from error
