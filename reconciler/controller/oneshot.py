"""One whole pass for a command: what is asked, the certificates where they are ours, and the registration.

It takes no Lease: each write carries the version that it was planned on, so that a running loop and this one cannot
undo each other.
"""

import time
from dataclasses import dataclass, field

from reconciler.certificates.rotation import Facts, Proved
from reconciler.cluster import Cluster
from reconciler.controller import inputs, linting, observing, trust
from reconciler.controller.alone import read_annotations
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.keeping import Keeper
from reconciler.controller.proof import Proof, Way, prove
from reconciler.controller.reconcile import Outcome, target_of
from reconciler.controller.trust import Trust
from reconciler.errors import ForbiddenError
from reconciler.gardenlet.featuregates import Decision
from reconciler.registration import pausing, twin
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory
from reconciler.registration.pausing import Mode, Pause
from reconciler.settings import OnTwin, ReconcilerConfiguration


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a command wants of the rotation: to begin one, another overlap than the settings', the last proof."""

    begin: bool = False
    overlap_seconds: float | None = None
    proved: Proved | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What was asked, the object before, what came of it, and what was in the way."""

    decision: Decision
    before: Manifest | None
    outcome: Outcome
    trust: Trust | None = None
    proof: Proof | None = None
    memory: Memory | None = None
    pause: Pause | None = None
    is_deferred: bool = False
    refused: str = ""  # why the linter lets it not stand at Fail
    ownerless: str = ""  # why no owner could be read


@dataclass(slots=True)
class OneShot:
    """Passes of one command over one connection: what the first has seen, the next one knows."""

    cluster: Cluster
    settings: ReconcilerConfiguration
    dry_run: bool = False
    adopt: bool = False
    enforcement: Enforcement = field(init=False)
    proof: Proof | None = field(default=None, init=False)
    _keeper: Keeper = field(init=False)
    _trust: Trust | None = field(default=None, init=False)
    _way: Way = field(default_factory=Way, init=False)

    def __post_init__(self) -> None:
        """Begin to know."""
        self.enforcement = Enforcement(self.settings)
        self.enforcement.certificates_now = self.cluster.clock.now
        self._keeper = Keeper(self.settings, self.cluster, self.enforcement, prove=self._prove, lint=self._lint)

    async def run(self, rotation: Rotation | None = None) -> Pass:
        """Make the registration stand, or not stand, as the GardenletConfiguration asks now."""
        registration = self.settings.registration
        decision = await inputs.read_decision(
            inputs.configuration_source(self.settings.gardenlet_configuration, self.cluster)
        )
        before = await self.cluster.get(target_of(registration))
        annotations = await read_annotations(self.cluster, self.settings.leader_election)
        self.enforcement.pause = pause = pausing.of(annotations, now=time.time())
        is_removed = pause is not None and pause.mode is Mode.REMOVE
        is_deferred = decision.enabled and await self.look_for_twin()
        if not decision.enabled or is_removed or is_deferred:
            kept = await self._keeper.remove(before, dry_run=self.dry_run)
        else:
            kept = await self._keeper.keep(
                before,
                lambda observed: self._bundle(observed, rotation or Rotation()),
                annotations=annotations,
                last_renewal=None,
                adopt=self.adopt,
                dry_run=self.dry_run,
            )
        return Pass(
            decision,
            before,
            kept.outcome,
            self._trust,
            self.proof,
            kept.memory,
            pause,
            is_deferred,
            self.enforcement.refused,
            kept.ownerless,
        )

    async def look_for_twin(self) -> bool:
        """Look for gardenlet's own entry, which the canary passes by; returns whether registration is left to it."""
        registration = self.settings.registration
        entry = twin.entry_of(await self.cluster.get(observing.twin_target(registration)), registration)
        is_deferred = entry is not None and registration.on_twin is OnTwin.DEFER
        self._way = Way(is_twins=True) if is_deferred else Way(twin.past(entry, registration))
        return is_deferred

    async def prove(self) -> Proof:
        """Prove the path, and take the verdict in."""
        self.proof = await prove(self.cluster, self.settings.registration, self.settings.proof, self._way)
        self.enforcement.saw(self.proof)
        return self.proof

    async def _prove(self) -> None:
        try:
            await self.prove()
        except ForbiddenError:
            return  # a Job that may not prove does not lower what a loop, which may, has raised

    async def _lint(self) -> None:
        self.enforcement.refused, _ = await linting.refusal(self.cluster, self.settings)

    async def _bundle(self, observed: Manifest | None, wish: Rotation) -> bytes:
        registration = self.settings.registration
        own = registration.ca.self_signed
        if own is None:
            return await inputs.read_ca_bundle(inputs.ca_source(registration.ca, self.cluster))
        policy = trust.policy_of(own, registration.backend, overlap_seconds=wish.overlap_seconds)
        facts = Facts(
            self.cluster.clock.now(), trust.registered(observed), wish.proved, trust.registered_since(observed)
        )
        self._trust = await trust.ensure(self.cluster, own, policy, facts, rotate=wish.begin, dry_run=self.dry_run)
        self.enforcement.serves(self._trust.standing.serving.certificate)
        return self._trust.bundle


async def one_pass(
    cluster: Cluster,
    settings: ReconcilerConfiguration,
    *,
    dry_run: bool = False,
    adopt: bool = False,
    rotation: Rotation | None = None,
) -> Pass:
    """Make one pass, and know nothing of others."""
    return await OneShot(cluster, settings, dry_run=dry_run, adopt=adopt).run(rotation)
