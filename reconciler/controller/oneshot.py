"""One whole pass for a command: what is asked, the certificates where they are ours, and the registration."""

import time
from dataclasses import dataclass

from reconciler.certificates.rotation import Facts, Proved
from reconciler.cluster import Cluster
from reconciler.controller import inputs, trust
from reconciler.controller.proof import Proof
from reconciler.controller.reconcile import Outcome, reconcile, target_of
from reconciler.controller.trust import Trust
from reconciler.gardenlet.featuregates import Decision
from reconciler.registration.identity import Manifest
from reconciler.settings import ReconcilerConfiguration


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a command wants of the rotation: to begin one, another overlap than the settings', the last proof."""

    begin: bool = False
    overlap_seconds: float | None = None
    proved: Proved | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What was asked, the object before (None where it was not read), and what came of it."""

    decision: Decision
    before: Manifest | None
    outcome: Outcome
    trust: Trust | None = None
    proof: Proof | None = None


async def one_pass(
    cluster: Cluster,
    settings: ReconcilerConfiguration,
    *,
    dry_run: bool = False,
    adopt: bool = False,
    rotation: Rotation | None = None,
) -> Pass:
    """Make the registration stand, or not stand, as the GardenletConfiguration asks now."""
    registration = settings.registration
    decision = await inputs.read_decision(inputs.configuration_source(settings.gardenlet_configuration, cluster))
    own = registration.ca.self_signed if decision.enabled else None
    before = await cluster.get(target_of(registration)) if dry_run or own is not None else None
    issued: Trust | None = None
    bundle: bytes | None = None
    if own is not None:
        wish = rotation or Rotation()
        policy = trust.policy_of(own, registration.backend, overlap_seconds=wish.overlap_seconds)
        facts = Facts(time.time(), trust.registered(before), wish.proved, trust.registered_since(before))
        issued = await trust.ensure(cluster, own, policy, facts, rotate=wish.begin, dry_run=dry_run)
        bundle = issued.bundle
    elif decision.enabled:
        bundle = await inputs.read_ca_bundle(inputs.ca_source(registration.ca, cluster))
    outcome = await reconcile(cluster, registration, ca_bundle=bundle, adopt=adopt, dry_run=dry_run)
    return Pass(decision, before, outcome, issued)
