"""Our own certificates for ever: the rotation's steps are taken when they are due, by the wall clock."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NoReturn

from reconciler.certificates.rotation import Facts, Phase, Proved
from reconciler.cluster import Cluster
from reconciler.controller import trust
from reconciler.registration.identity import Manifest
from reconciler.settings import Registration, SelfSigned

# The wall clock is looked at this often: a machine that slept notices at once what became due meanwhile.
_LOOK_AT_CLOCK_SECONDS: Final = 5.0
_LEAST_WAIT_SECONDS: Final = 0.05


class Issuer:
    """Issues and rotates the certificates behind one registration."""

    def __init__(self, setting: SelfSigned, registration: Registration, cluster: Cluster) -> None:
        self.phase = Phase.STABLE
        self._setting = setting
        self._policy = trust.policy_of(setting, registration.backend)
        self._cluster = cluster
        self._due = float("inf")

    async def issue(self, observed: Manifest | None, proved: Proved | None, *, retry_seconds: float) -> trust.Trust:
        """Take the steps that are due, given the registration as it was `observed`.

        What comes of it may only be registered on exactly that object: an older one may trust less than is served.
        Raises as `trust.ensure` does, and wants to be asked again after `retry_seconds` then.
        """
        self._due = time.time() + retry_seconds
        facts = Facts(self._cluster.clock.now(), trust.registered(observed), proved, trust.registered_since(observed))
        found = await trust.ensure(self._cluster, self._setting, self._policy, facts)
        self.phase, self._due = found.phase, found.due + self._cluster.clock.ahead_seconds
        return found

    async def run(self, due: Callable[[], None]) -> NoReturn:
        """Call `due` whenever it is time to issue again."""
        while True:
            left = self._due - time.time()
            await asyncio.sleep(max(min(left, _LOOK_AT_CLOCK_SECONDS), _LEAST_WAIT_SECONDS))
            if time.time() >= self._due:
                self._due = time.time() + _LOOK_AT_CLOCK_SECONDS  # the answer says when it is due again
                due()
