"""The pods that a window let through: those that still run without a profile, found in the managed namespaces."""

from dataclasses import dataclass
from typing import Final

from reconciler.cluster import NAMESPACES, PODS, Cluster, Resource, Selection, Target
from reconciler.controller import observing
from reconciler.controller.reconcile import target_of
from reconciler.errors import ConfigurationNotFoundError, ForbiddenError, UsageError
from reconciler.pods import exposure, shape
from reconciler.pods.audit import registered_among
from reconciler.pods.exposure import Exposed, Exposure, Registered
from reconciler.registration import selectors, twin
from reconciler.registration.desired import render
from reconciler.registration.identity import Manifest
from reconciler.registration.memory import Memory
from reconciler.settings import Registration

# Pods that are named; the others are counted.
MOST_NAMED: Final = 50


@dataclass(frozen=True, slots=True)
class Survey:
    """How many pods lie in windows, how many are unexplained, and the first of them by name.

    `unreadable` are pods that cannot be judged, each with the field that has another shape.
    """

    in_windows: int
    unexplained: int
    named: tuple[Exposed, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def troubles(self) -> dict[str, str]:
        """What could not be looked at, as `status` shows it."""
        return {"pods": shape.unreadable(self.unreadable)} if self.unreadable else {}


async def survey(cluster: Cluster, entry: Manifest, memory: Memory) -> Survey:
    """Look at every pod of every namespace that the webhook `entry` selects; raises as `cluster` does.

    It costs one list of namespaces and one of all pods, page by page. Of a pod whose namespace is younger than the list
    of namespaces, the next survey tells.
    """
    selected: set[str] = set()
    async for namespace in cluster.select(Selection(NAMESPACES)):
        metadata = namespace["metadata"]
        # The API server gives every namespace this label.
        labels = {"kubernetes.io/metadata.name": metadata["name"], **(metadata.get("labels") or {})}
        if selectors.matches(entry.get("namespaceSelector"), labels):
            selected.add(metadata["name"])
    counts = dict.fromkeys(Exposure, 0)
    named: list[Exposed] = []
    unreadable: tuple[str, ...] = ()
    async for page in cluster.pages(Selection(PODS), shape.page_of):
        unreadable += page.unreadable
        for pod in page.pods:
            if pod["metadata"].get("namespace") not in selected:
                continue
            found = exposure.of_pod(pod, entry, memory)
            if found is not None:
                counts[found.exposure] += 1
                if len(named) < MOST_NAMED:
                    named.append(found)
    return Survey(counts[Exposure.IN_WINDOW], counts[Exposure.UNEXPLAINED], tuple(named), unreadable)


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


async def configurations(cluster: Cluster, registration: Registration) -> list[Manifest]:
    """Return our registration and the object with the upstream webhook, those that are there."""
    targets = (target_of(registration), observing.twin_target(registration))
    found = [await cluster.get(target) for target in targets]
    return [{"kind": "MutatingWebhookConfiguration", **one} for one in found if one is not None]


async def namespace_labels(cluster: Cluster, name: str) -> dict[str, str]:
    """Return the labels of a namespace; ConfigurationNotFoundError where there is none."""
    found = await cluster.get(Target(NAMESPACES, name))
    if found is None:
        raise ConfigurationNotFoundError(
            f"no such namespace at {cluster.place}: {name}; check --namespace and --context"
        )
    labels: dict[str, str] = found["metadata"].get("labels") or {}
    return labels


async def subject(cluster: Cluster, kind: str, name: str, namespace: str) -> Manifest:
    """Return the pod or workload `kind`/`name`; the right to list pods is enough for a pod."""
    short = kind.lower().removesuffix("s")
    if short in ("pod", "po"):
        async for pod in cluster.select(Selection(PODS, namespace)):
            if pod["metadata"]["name"] == name:
                return {**pod, "kind": "Pod"}
    elif short in _WORKLOADS:
        group, proper = _WORKLOADS[short]
        found = await cluster.get(Target(Resource(group, "v1", f"{proper.lower()}s"), name, namespace))
        if found is not None:
            return {**found, "kind": proper}
    else:
        raise UsageError(f"{kind}/{name}: expected pod/NAME or one of {', '.join(sorted(_KINDS))} with its name")
    raise ConfigurationNotFoundError(
        f"no {kind}/{name} in namespace {namespace} at {cluster.place}; check the name, --namespace and --context"
    )


_KINDS: Final = {
    "deployment": ("apps", "Deployment"),
    "statefulset": ("apps", "StatefulSet"),
    "daemonset": ("apps", "DaemonSet"),
    "replicaset": ("apps", "ReplicaSet"),
    "job": ("batch", "Job"),
    "cronjob": ("batch", "CronJob"),
}
# As kubectl shortens them.
_WORKLOADS: Final = {
    **_KINDS,
    "deploy": _KINDS["deployment"],
    "cj": _KINDS["cronjob"],
}
