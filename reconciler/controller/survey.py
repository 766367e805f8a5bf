"""The pods that a window let through: those that still run without a profile, found in the managed namespaces."""

from dataclasses import dataclass
from typing import Final

from reconciler.cluster import NAMESPACES, PODS, Cluster, Selection
from reconciler.pods import exposure
from reconciler.pods.exposure import Exposed, Exposure
from reconciler.registration import selectors
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory

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
