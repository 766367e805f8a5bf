"""The pods that a window let through: those that still run without a profile, found in the managed namespaces."""

from dataclasses import dataclass
from typing import Final

from reconciler.cluster import NAMESPACES, PODS, Cluster, Selection
from reconciler.controller import observing
from reconciler.controller.reconcile import target_of
from reconciler.errors import ForbiddenError
from reconciler.pods import exposure
from reconciler.pods.audit import Registered, registered_among
from reconciler.pods.exposure import Exposed, Exposure
from reconciler.registration import selectors, twin
from reconciler.registration.desired import render
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory
from reconciler.settings import Registration

# Pods that are named; the others are counted.
MOST_NAMED: Final = 50


@dataclass(frozen=True, slots=True)
class Survey:
    """How many pods lie in windows, how many are unexplained, and the first of them by name."""

    in_windows: int
    unexplained: int
    named: tuple[Exposed, ...]


async def survey(cluster: Cluster, entry: Manifest, memory: Memory) -> Survey:
    """Look at every pod of every namespace that the webhook `entry` selects; raises as `cluster` does.

    It costs one list of namespaces and one of pods for each that is managed, page by page.
    """
    counts = dict.fromkeys(Exposure, 0)
    named: list[Exposed] = []
    async for namespace in cluster.select(Selection(NAMESPACES)):
        metadata = namespace["metadata"]
        # The API server gives every namespace this label.
        labels = {"kubernetes.io/metadata.name": metadata["name"], **(metadata.get("labels") or {})}
        if not selectors.matches(entry.get("namespaceSelector"), labels):
            continue
        async for pod in cluster.select(Selection(PODS, metadata["name"])):
            found = exposure.of_pod(pod, entry, memory)
            if found is not None:
                counts[found.exposure] += 1
                if len(named) < MOST_NAMED:
                    named.append(found)
    return Survey(counts[Exposure.IN_WINDOW], counts[Exposure.UNEXPLAINED], tuple(named))


async def registered_in(cluster: Cluster, registration: Registration) -> tuple[Registered, list[str]]:
    """Return what decides in this cluster, for an audit, and notes; raises as `cluster` does."""
    observed = await cluster.get(target_of(registration))
    if observed is not None:
        return registered_among([observed], registration)
    try:
        upstream = await cluster.get(observing.twin_target(registration))
    except ForbiddenError as error:
        return Registered(render(registration, ca_bundle=None)["webhooks"][0], is_known=False), [str(error)]
    if twin.entry_of(upstream, registration) is not None:
        return registered_among([upstream or {}], registration)
    return Registered(render(registration, ca_bundle=None)["webhooks"][0]), [
        "no entry for seccomp profiles is registered"
    ]
