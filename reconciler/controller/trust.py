"""Certificates in the cluster: the two Secrets are read, the rotation takes the steps that are due, and they are kept.

Each step is one write, bound to what it was planned on: of two writers one is refused and reads again.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from reconciler import timestamps
from reconciler.certificates import rotation, store
from reconciler.certificates.authority import Certificate, read
from reconciler.certificates.rotation import Action, Authorities, Facts, Phase, Policy, Standing, Step
from reconciler.cluster import SECRETS, Cluster, Target
from reconciler.errors import ConflictError, ForeignObjectError
from reconciler.registration.identity import MANAGED_BY, MANAGED_BY_LABEL, Manifest, is_ours
from reconciler.settings import Backend, SelfSigned

# The longest way from anything broken to a good state takes five.
_MOST_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Trust:
    """What is to be trusted now (PEM), where the rotation stands, what was done, and when to look again.

    Times are those of the cluster's clock.
    """

    bundle: bytes
    phase: Phase
    steps: tuple[Step, ...]
    due: float
    standing: Standing
    clock: str = ""  # how our clock differs from the API server's, in words; empty where it does not


def targets(setting: SelfSigned) -> tuple[Target, Target]:
    """Return the Secrets of the authority and of the server."""
    return (
        Target(SECRETS, setting.authority_secret, setting.namespace),
        Target(SECRETS, setting.serving_secret, setting.namespace),
    )


def policy_of(setting: SelfSigned, backend: Backend, *, overlap_seconds: float | None = None) -> Policy:
    """Return the rotation's policy for a server behind `backend`."""
    if backend.service is not None:
        name, namespace = backend.service.name, backend.service.namespace
        # The API server asks for the one with .svc; the others are what people call it by.
        names: tuple[str, ...] = (
            f"{name}.{namespace}.svc",
            f"{name}.{namespace}.svc.cluster.local",
            f"{name}.{namespace}",
            name,
        )
    else:
        names = (urlsplit(backend.url or "").hostname or "",)
    return Policy(
        tuple(dict.fromkeys((*names, *setting.extra_names))),
        setting.authority_lifetime_seconds,
        setting.serving_lifetime_seconds,
        setting.overlap_seconds if overlap_seconds is None else overlap_seconds,
        setting.propagation_seconds,
    )


def registered(observed: Manifest | None) -> tuple[Certificate, ...]:
    """Return the certificates in the caBundle that stands; none where there is no such thing."""
    found: list[Certificate] = []
    for entry in (observed or {}).get("webhooks") or ():
        try:
            pem = base64.b64decode((entry.get("clientConfig") or {}).get("caBundle") or "", validate=True)
        except binascii.Error:
            continue
        found += read(pem)
    return tuple(found)


def registered_since(observed: Manifest | None) -> float:
    """Return when the registration was last written, by whomever (seconds since the epoch); 0 where nobody tells."""
    entries = ((observed or {}).get("metadata") or {}).get("managedFields") or ()
    times = [timestamps.seconds(entry.get("time")) or 0.0 for entry in entries]
    # The API server keeps whole seconds.
    return max(times) + 1.0 if times else 0.0


async def look(cluster: Cluster, setting: SelfSigned) -> Standing:
    """Return what stands in the Secrets; nothing is written."""
    authority, serving = targets(setting)
    held = store.authorities_of(await cluster.get(authority))
    return Standing(held, store.serving_of(await cluster.get(serving)))


async def ensure(
    cluster: Cluster,
    setting: SelfSigned,
    policy: Policy,
    facts: Facts,
    *,
    rotate: bool = False,
    dry_run: bool = False,
) -> Trust:
    """Take every step that is due by the cluster's clock; with `rotate` begin a rotation where none is under way.

    Raises ForeignObjectError where a Secret of that name is not ours, ConflictError where another writer was faster.
    """
    authority, serving = targets(setting)
    at_authority, at_serving = await _ours(cluster, authority), await _ours(cluster, serving)
    # Only now the clock: these answers told of the API server's.
    facts = replace(facts, now=cluster.clock.now(), ahead_seconds=cluster.clock.ahead_seconds)
    standing = Standing(store.authorities_of(at_authority), store.serving_of(at_serving))
    if rotate and standing.authorities is not None and standing.authorities.phase is Phase.STABLE:
        standing = rotation.requested(standing)
    steps: list[Step] = []
    for _ in range(_MOST_STEPS):
        step = rotation.next_step(standing, facts, policy)
        if step.action is Action.NONE:
            return replace(_trust(standing, facts, steps, step.due), clock=cluster.clock.words)
        after = rotation.advance(step, standing, facts, policy)
        if after.authorities != standing.authorities and after.authorities is not None:
            manifest = store.authority_secret(authority.name, setting.namespace, after.authorities)
            at_authority = await _written(cluster, authority, manifest, at_authority, dry_run=dry_run)
        if after.serving != standing.serving:
            manifest = store.serving_secret(serving.name, setting.namespace, after.serving)
            at_serving = await _written(cluster, serving, manifest, at_serving, dry_run=dry_run)
        standing = after
        steps.append(step)
    raise ConflictError(
        f"{authority}: not settled after {_MOST_STEPS} steps: {', '.join(step.action for step in steps)}"
    )


def _trust(standing: Standing, facts: Facts, steps: list[Step], due: float) -> Trust:
    held = standing.authorities
    assert isinstance(held, Authorities)  # noqa: S101 - the first step issues them
    return Trust(rotation.bundle(held, facts.now), held.phase, tuple(steps), due, standing)


async def _ours(cluster: Cluster, target: Target) -> Manifest | None:
    observed = await cluster.get(target)
    if observed is not None and not is_ours(observed):
        raise ForeignObjectError(
            f"{target} exists and is not ours: it lacks {MANAGED_BY_LABEL}: {MANAGED_BY}. It is left as it is. Where "
            "somebody else writes it, such as cert-manager, set registration.ca.secret; else choose another name"
        )
    return observed


async def _written(
    cluster: Cluster, target: Target, manifest: Manifest, observed: Manifest | None, *, dry_run: bool
) -> Manifest | None:
    if observed is None:
        written = await cluster.create(target, manifest, dry_run=dry_run)
    else:
        written = await cluster.apply(target, manifest, observed=observed, dry_run=dry_run)
    # A dry-run leaves what stands as it is: that is what the next one is planned on, too.
    return observed if dry_run else written
