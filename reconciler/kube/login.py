"""The credentials of one kubeconfig context over time: asked for once, kept until they expire or are refused.

Several requests that need them at the same time ask the plugin once; after a failure it is left alone for a moment, so
that watches that try again do not start it again and again.
"""

import asyncio
import json
from collections.abc import Mapping
from time import monotonic
from time import time as now
from typing import Any

import structlog

from reconciler.backoff import Backoff
from reconciler.errors import CredentialPluginError
from reconciler.kube.credential_plugin import Credential, CredentialPlugin, parse
from reconciler.kube.kubeconfig import Context

# Credentials of this process, by what the plugin is told: two connections to one cluster ask a person once.
_KEPT: dict[str, Credential] = {}

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Login:
    """The user of one context, with what its plugin answered."""

    def __init__(self, context: Context, *, timeout_seconds: float, may_ask_a_person: bool, backoff: Backoff) -> None:
        self.context = context
        self._timeout_seconds = timeout_seconds
        self._may_ask_a_person = may_ask_a_person
        self._backoff = backoff
        self._failures = 0
        self._failed: CredentialPluginError | None = None
        self._again_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self.plugin: CredentialPlugin | None = parse(
            context.user, context.cluster, origin=f"{context.origin}: user {context.user_name!r}"
        )
        self._key = "" if self.plugin is None else json.dumps([context.user, context.cluster], default=str)

    @property
    def is_due(self) -> bool:
        """Whether the plugin has to be asked before the next request."""
        return self.plugin is not None and (self._key not in _KEPT or _KEPT[self._key].renew_at <= now())

    @property
    def trouble(self) -> str:
        """Why there are no credentials: what the plugin failed with last, or that it is still asked; else empty."""
        if self._failed is not None:
            return str(self._failed)
        return f"{self.plugin} is asked for credentials" if self._asking else ""

    async def user(self) -> Mapping[str, Any]:
        """Return the kubeconfig's user with its credentials; CredentialPluginError where a plugin has none.

        A caller that is cancelled leaves the plugin to the others: a request that gives up early must not end it.
        """
        user = {key: value for key, value in self.context.user.items() if key != "exec"}
        if self.plugin is None:
            return user
        if self.is_due:
            if self._asking is None:
                if self._failed is not None and monotonic() < self._again_at:
                    raise CredentialPluginError(str(self._failed))
                self._asking = asyncio.create_task(self._ask(self.plugin))
            await asyncio.shield(self._asking)
            if self._failed is not None:
                raise CredentialPluginError(str(self._failed))
        return {**user, **_KEPT[self._key].as_user()}

    async def close(self) -> None:
        """End a plugin that is still asked."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def refused(self) -> None:
        """Forget the credentials: the API server does not accept them (401)."""
        _KEPT.pop(self._key, None)

    async def _ask(self, plugin: CredentialPlugin) -> None:
        try:
            found = await plugin.ask(timeout_seconds=self._timeout_seconds, may_ask_a_person=self._may_ask_a_person)
        except CredentialPluginError as error:
            self._failures += 1
            self._failed = error
            self._again_at = monotonic() + self._backoff.delay(self._failures)
            if not self._may_ask_a_person:
                log.error("credential_plugin.failed", error=str(error))  # noqa: TRY400 - the message is the point
        else:
            self._failures, self._failed = 0, None
            _KEPT[self._key] = found
        finally:
            self._asking = None
