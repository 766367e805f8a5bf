"""A small world in which certificates rotate: two Secrets, a registration, servers that learn late, writers that die.

A pass is written as `trust.ensure` and `reconcile` are, out of the product's own pure functions, but it stops before
each write: there it can be killed, overtaken, or left waiting. The clock is the world's; a pass takes no time but that.
"""

from __future__ import annotations

import base64
import functools
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from reconciler.certificates import rotation, store
from reconciler.certificates.authority import Certificate, read, signed
from reconciler.certificates.rotation import Action, Facts, Phase, Policy, Proved, Standing
from reconciler.controller import trust

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from reconciler.registration.identity import Manifest

# Seconds, all of them.
START: Final = 1_800_000_000
MINUTE: Final = 60
DAY: Final = 24 * 60 * MINUTE
OVERLAP: Final = DAY
PROPAGATION: Final = 2 * MINUTE
AUTHORITY_LIFE: Final = 365 * DAY
LEAF_LIFE: Final = 30 * DAY
# A pass plans by the time at which it began, so that its own length is a part of the propagation. One that takes longer
# is given up here. Nothing in the product ends it; but a request does not outlive its timeout.
LONGEST_PASS: Final = 20
LATEST: Final = PROPAGATION - LONGEST_PASS
RETRY: Final = MINUTE  # after a pass that failed

POLICY: Final = Policy(("a.garden.svc", "127.0.0.1"), AUTHORITY_LIFE, LEAF_LIFE, OVERLAP, PROPAGATION)
# What `certificates rotate --now` asks for.
HURRIED: Final = Policy(POLICY.names, AUTHORITY_LIFE, LEAF_LIFE, PROPAGATION, PROPAGATION)

AUTHORITY: Final = "authority"
SERVING: Final = "serving"
API_SERVERS: Final = 3
ADMISSION_SERVERS: Final = 2

Seen = TypeVar("Seen")


class StaleError(Exception):
    """A write was planned on what stands no more."""


@functools.cache
def believes(leaf: Certificate, authority: Certificate) -> bool:
    """Return whether `authority` signed `leaf`; remembered, since the world asks again and again."""
    return signed(leaf, authority)


@dataclass
class Server(Generic[Seen]):
    """It sees each version of what was written `LATEST` seconds after that, and at once while it is prompt."""

    history: list[tuple[int, Seen]]
    count: int = 0
    is_prompt: bool = False

    @property
    def sees(self) -> Seen | None:
        """What it has seen last; None: nothing yet."""
        return self.history[self.count - 1][1] if self.count else None

    @property
    def deadline(self) -> float:
        """When it sees the next version at the latest."""
        return self.history[self.count][0] + LATEST if self.count < len(self.history) else math.inf


class World:
    """Everything there is. `check` is the promise; after an expiry, which breaks it, `recover` is."""

    def __init__(self) -> None:
        self.clock = START
        self.secrets: dict[str, Manifest] = {}
        self.registration: Manifest | None = None
        self.bundles: list[tuple[int, tuple[Certificate, ...]]] = []
        self.leaves: list[tuple[int, Certificate]] = []
        self.api_servers = [Server(self.bundles) for _ in range(API_SERVERS)]
        self.admission_servers = [Server(self.leaves) for _ in range(ADMISSION_SERVERS)]
        self.servers: list[Server[Any]] = [*self.api_servers, *self.admission_servers]
        self.writers = [Writer(self), Writer(self)]
        self.recoveries = 0
        self.is_recovering = False
        self._version = 0

    # What stands in the cluster.

    @property
    def standing(self) -> Standing:
        """Both Secrets, as they stand now."""
        held = store.authorities_of(self.secrets.get(AUTHORITY))
        return Standing(held, store.serving_of(self.secrets.get(SERVING)))

    @property
    def phase(self) -> Phase:
        """Where the rotation stands; stable, too, before anything was issued."""
        held = self.standing.authorities
        return Phase.STABLE if held is None else held.phase

    @property
    def left(self) -> float:
        """How long the signing authority lives yet; infinity before there is one."""
        held = self.standing.authorities
        return math.inf if held is None else min(one.not_after for one in read(held.signer)) - self.clock

    def write(self, name: str, manifest: Manifest, observed: Manifest | None) -> Manifest:
        """Store `manifest` onto exactly the `observed` one, as the API server does; raises StaleError."""
        if version(self.secrets.get(name)) != version(observed):
            raise StaleError(name)
        self._version += 1
        written = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self._version)}}
        self.secrets[name] = written
        if name == SERVING and (leaves := read(store.serving_of(written).certificate)):
            self.leaves.append((self.clock, leaves[0]))
            self._tell_the_prompt()
        return written

    def register(self, bundle: bytes) -> bool:
        """Have the registration say `bundle`; returns whether that was a change."""
        webhooks = [{"clientConfig": {"caBundle": base64.b64encode(bundle).decode()}}]
        if self.registration is not None and self.registration["webhooks"] == webhooks:
            return False
        written = datetime.fromtimestamp(self.clock, UTC).isoformat()
        self.registration = {"metadata": {"managedFields": [{"time": written}]}, "webhooks": webhooks}
        self.bundles.append((self.clock, read(bundle)))
        self._tell_the_prompt()
        return True

    def registered_since(self, certificate: Certificate) -> float:
        """Return when the caBundle that stands got `certificate`; infinity where it lacks it."""
        since = math.inf
        for written, bundle in reversed(self.bundles):
            if certificate not in bundle:
                break
            since = written
        return since

    # The promise.

    def check(self) -> None:
        """Every API server that knows of the webhook believes every leaf that is shown to it while that is valid."""
        for api_server in self.api_servers:
            for admission_server in self.admission_servers:
                leaf, trusted = admission_server.sees, api_server.sees
                if trusted is not None and leaf is not None and leaf.is_valid_at(self.clock):
                    assert self.path(api_server, admission_server), (
                        f"{self.phase}: {leaf.fingerprint} is shown, {[one.fingerprint for one in trusted]} is trusted"
                    )

    def path(self, api_server: Server[tuple[Certificate, ...]], admission_server: Server[Certificate]) -> bool:
        """Return whether the one calls the other with success."""
        leaf = admission_server.sees
        if leaf is None or not leaf.is_valid_at(self.clock):
            return False
        return any(believes(leaf, one) and one.is_valid_at(self.clock) for one in api_server.sees or ())

    @property
    def is_good(self) -> bool:
        """Whether every API server calls every admission server with success."""
        return all(self.path(one, other) for one in self.api_servers for other in self.admission_servers)

    @property
    def has_overslept(self) -> bool:
        """Whether something expired that had to be replaced before: the serving certificate, or who signs it."""
        standing = self.standing
        if standing.authorities is None or not standing.serving.certificate:
            return False
        stored = (*read(standing.serving.certificate)[:1], *read(standing.authorities.signer))
        return any(not one.is_valid_at(self.clock) for one in stored)

    # What happens.

    def are_prompt(self, numbers: Collection[int]) -> None:
        """Have these of the servers, and no others, see at once what is written from now on, and what was."""
        for number, server in enumerate(self.servers):
            server.is_prompt = number in numbers
        self._tell_the_prompt()

    def advance(self, seconds: float) -> None:
        """Let time pass: servers learn in the order of their deadlines, and the promise is checked at each."""
        end = self.clock + math.ceil(seconds)
        while (following := min(self.servers, key=lambda one: one.deadline)).deadline <= end:
            self.clock = max(self.clock, int(following.deadline))
            following.count += 1
            if not self.is_recovering:
                self.check()
        self.clock = end
        for writer in self.writers:
            writer.give_up()
        if self.has_overslept and not self.is_recovering:
            self.recover()

    def recover(self) -> None:
        """Wake up after an expiry: one pass, and the time in which every server learns of it, make a good path."""
        self.is_recovering = True
        for writer in self.writers:
            writer.kill()
        self.writers[0].run()
        self.advance(LATEST)
        assert self.is_good, "one pass after an expiry did not make the path good"
        self.is_recovering = False
        self.recoveries += 1

    def _tell_the_prompt(self) -> None:
        for server in self.servers:
            if server.is_prompt:
                server.count = len(server.history)


def version(manifest: Manifest | None) -> str:
    """Return the resource version; empty where there is no object."""
    return "" if manifest is None else str(manifest["metadata"]["resourceVersion"])


@dataclass
class Writer:
    """A reconciler, or a command: at most one pass at a time, and the last proof in memory."""

    world: World
    proved: Proved | None = None
    due: float = 0.0
    taken: list[Action] = field(default_factory=list)  # the steps of all passes
    refused: int = 0
    _pass: Iterator[None] | None = None
    _began: int = 0

    def begin(self, *, rotate: bool = False, hurried: bool = False) -> None:
        """Begin a pass: it reads, plans, and stops before its first write."""
        self._pass = self._passes(rotate=rotate, policy=HURRIED if hurried else POLICY)
        self._began = self.world.clock
        self.due = self.world.clock + RETRY
        self._plan()

    def go_on(self) -> bool:
        """Write, and plan up to the next write; returns False where the pass is over."""
        if self._pass is not None:
            self._plan()
            if not self.world.is_recovering:
                self.world.check()
        return self._pass is not None

    def run(self, *, rotate: bool = False, hurried: bool = False) -> None:
        """Carry out a whole pass."""
        self.begin(rotate=rotate, hurried=hurried)
        while self.go_on():
            pass

    def kill(self) -> None:
        """SIGKILL, and another process in its place."""
        self._pass, self.proved = None, None

    def give_up(self) -> None:
        """End a pass that takes too long."""
        if self.world.clock > self._began + LONGEST_PASS:
            self._pass = None

    def prove(self, api_server: int, admission_server: int) -> bool:
        """Send a pod through one API server to one admission server; returns whether it came through."""
        world, shown = self.world, self.world.admission_servers[admission_server]
        self.proved = None
        if shown.sees is not None and world.path(world.api_servers[api_server], shown):
            self.proved = Proved(float(world.clock), shown.sees.fingerprint)
        return self.proved is not None

    def _plan(self) -> None:
        try:
            next(self._pass or iter(()))
        except StopIteration:
            self._pass = None
        except StaleError:
            self.refused += 1
            self._pass = None

    def _passes(self, *, rotate: bool, policy: Policy) -> Iterator[None]:
        world = self.world
        facts = Facts(
            float(world.clock),
            trust.registered(world.registration),
            self.proved,
            trust.registered_since(world.registration),
        )
        at_authority, at_serving = world.secrets.get(AUTHORITY), world.secrets.get(SERVING)
        standing = Standing(store.authorities_of(at_authority), store.serving_of(at_serving))
        if rotate and standing.authorities is not None and standing.authorities.phase is Phase.STABLE:
            standing = rotation.requested(standing)
        for _ in range(trust._MOST_STEPS):
            step = rotation.next_step(standing, facts, policy)
            if step.action is Action.NONE:
                break
            after = rotation.advance(step, standing, facts, policy)
            if after.authorities != standing.authorities and after.authorities is not None:
                yield
                manifest = store.authority_secret(AUTHORITY, "garden", after.authorities)
                at_authority = world.write(AUTHORITY, manifest, at_authority)
            if after.serving != standing.serving:
                yield
                manifest = store.serving_secret(SERVING, "garden", after.serving)
                at_serving = world.write(SERVING, manifest, at_serving)
            standing = after
            self.taken.append(step.action)
        else:
            raise AssertionError(f"not settled: {self.taken[-trust._MOST_STEPS :]}")
        assert standing.authorities is not None
        yield
        if world.register(rotation.bundle(standing.authorities, facts.now)):
            self.proved = None  # it says nothing about what stands now
        self.due = step.due
