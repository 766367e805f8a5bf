"""What the linter judges, as the cluster has it: the pods that must start without the webhook, and namespaces' labels.

What may not be read, or is not there, becomes a note, and the built-in expectation stands in for it.
"""

from collections.abc import Mapping
from typing import Final

from reconciler.cluster import DEPLOYMENTS, NAMESPACES, PODS, SERVICES, Cluster, Selection, Target
from reconciler.controller.reconcile import target_of
from reconciler.errors import ForbiddenError
from reconciler.registration import drift, lint
from reconciler.registration.desired import render
from reconciler.registration.identity import Manifest
from reconciler.registration.subjects import KUBE_SYSTEM, Subject, Why, completed, expected, recognised, subject
from reconciler.settings import DeploymentReference, ReconcilerConfiguration, Registration

# Findings that are told in one sentence.
_MOST_NAMED: Final = 3


async def judged(cluster: Cluster, registration: Registration) -> Manifest:
    """Return what stands after the next write: the rendered manifest with the terms that others added."""
    desired = render(registration, ca_bundle=None)
    observed = await cluster.get(target_of(registration))
    plan = drift.compare(desired=desired, observed=observed)
    if plan.action is drift.Action.NONE:
        return observed or desired
    return plan.manifest or desired


async def refusal(cluster: Cluster, settings: ReconcilerConfiguration) -> tuple[str, int]:
    """Return why the registration may not stand at Fail (empty: it may), and how many findings there are."""
    manifest = await judged(cluster, settings.registration)
    subjects, _ = await gather(cluster, settings, manifest)
    findings = lint.check(manifest, subjects)
    errors = [str(finding) for finding in findings if finding.severity is lint.Severity.ERROR]
    return "; ".join(errors[:_MOST_NAMED]), len(findings)


async def gather(
    cluster: Cluster, settings: ReconcilerConfiguration, manifest: Manifest | None = None
) -> tuple[tuple[Subject, ...], tuple[str, ...]]:
    """Return the subjects for lint.check, and notes about what was not looked at.

    `manifest` is what is to be judged, by default the rendered one: the pods of kube-system are listed only where it
    may catch one there. UnavailableError where the API server does not answer.
    """
    look = _Look(cluster)
    service = settings.registration.backend.service
    gardenlet = settings.gardenlet_configuration.deployment or DeploymentReference()
    own_namespace = settings.leader_election.namespace
    crowded = dict.fromkeys((*([service.namespace] if service else []), own_namespace, gardenlet.namespace))
    labels = await look.labels((*crowded, KUBE_SYSTEM, settings.proof.namespace))
    selector = await look.selector(Target(SERVICES, service.name, service.namespace)) if service else {}
    found: list[Subject] = []
    for name in crowded:
        found += await look.pods(name, server=selector if service and name == service.namespace else {})
    if (deployment := await look.get(Target(DEPLOYMENTS, gardenlet.name, gardenlet.namespace))) is not None:
        # Its template speaks for the next pods; those that are there now may be older.
        found = [one for one in found if one.why is not Why.GARDENLET] + [subject(Why.GARDENLET, deployment)]
    built_in = expected(
        settings.registration, settings.proof, own_namespace=own_namespace, gardenlet_namespace=gardenlet.namespace
    )
    look.note_absent(built_in, found)
    subjects = completed(found, built_in, labels)
    anybody = [one for one in subjects if one.why is Why.KUBE_SYSTEM]
    if lint.check(manifest or render(settings.registration, ca_bundle=None), anybody):
        subjects = completed([*found, *await look.pods(KUBE_SYSTEM, server={})], built_in, labels)
    return subjects, tuple(look.notes)


class _Look:
    """Reads what it may, and notes what it may not or what is not there."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._listed: set[str | None] = set()
        self.notes: list[str] = []

    async def get(self, target: Target) -> Manifest | None:
        try:
            found = await self._cluster.get(target)
        except ForbiddenError as error:
            self.notes.append(f"not looked at: {error}")
            return None
        if found is None:
            self.notes.append(f"not looked at: {target} does not exist")
        return found

    async def labels(self, namespaces: tuple[str, ...]) -> dict[str, Mapping[str, str]]:
        """Return the labels of the namespaces that could be read."""
        found = {name: await self.get(Target(NAMESPACES, name)) for name in dict.fromkeys(namespaces)}
        return {name: one["metadata"].get("labels") or {} for name, one in found.items() if one is not None}

    async def selector(self, service: Target) -> Mapping[str, str]:
        """Return the labels by which `service` chooses its pods; empty where it cannot be read or chooses none."""
        found = await self.get(service)
        selector: Mapping[str, str] = ((found or {}).get("spec") or {}).get("selector") or {}
        return selector

    async def pods(self, namespace: str, *, server: Mapping[str, str]) -> list[Subject]:
        """Return the pods of `namespace` that must start without the webhook."""
        # No selector finds mirror pods, so all are read, page by page.
        everybody = self._cluster.select(Selection(PODS, namespace))
        try:
            found = [one async for pod in everybody if (one := recognised(pod, server=server)) is not None]
        except ForbiddenError as error:
            self.notes.append(f"not looked at: {error}")
            return []
        self._listed.add(namespace)
        return found

    def note_absent(self, built_in: tuple[Subject, ...], found: list[Subject]) -> None:
        """Note which pods of ours are not there: what our manifests say is judged in their place."""
        kinds = {one.why for one in found}
        for one in built_in:
            if one.why in (Why.SERVER, Why.RECONCILER) and one.why not in kinds and one.namespace in self._listed:
                self.notes.append(f"not looked at: {one}: there are none; judged as our manifests make them")
