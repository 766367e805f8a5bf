"""The playing field of a cluster test: the product's identity and files, and other writers with every right."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from reconciler.controller.reconcile import Outcome, reconcile, target_of
from reconciler.registration.desired import render
from tests.faults import FaultProxy
from tests.seed import COLLECTION, REGISTRATION, Seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from reconciler.cluster import Cluster
    from reconciler.settings import Registration

JSON_PATCH = "application/json-patch+json"


class Field:
    """The playing field of a test: what the product sees, and other writers with every right."""

    def __init__(self, stage: Seed) -> None:
        self.seed = stage
        self.plane = stage.plane
        self.other = stage.writer("somebody-else")
        self._put: list[str] = []

    def standing(self) -> dict[str, Any] | None:
        """Return our object as it stands, None where it does not."""
        found: dict[str, Any] | None = self.other.request("GET", REGISTRATION)
        return found

    def webhook(self) -> dict[str, Any]:
        """Return the one webhook of our object."""
        found = self.standing()
        assert found is not None
        assert len(found["webhooks"]) == 1, found["webhooks"]
        webhook: dict[str, Any] = found["webhooks"][0]
        return webhook

    def patch(self, *operations: tuple[str, str, object]) -> None:
        """Change our object as somebody else: (op, path, value) of a JSON patch."""
        body = [
            {"op": op, "path": path, **({} if op == "remove" else {"value": value})} for op, path, value in operations
        ]
        assert self.other.request("PATCH", f"{REGISTRATION}?fieldManager=somebody-else", body, JSON_PATCH) is not None

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create an object as somebody else."""
        created: dict[str, Any] = self.other.request("POST", COLLECTION, manifest)
        return created

    def put(self, collection: str, manifest: dict[str, Any]) -> None:
        """Create the object or merge `manifest` into it, as admin."""
        path = f"{collection}/{manifest['metadata']['name']}"
        if self.other.request("GET", path) is None:
            self.plane.admin_request("POST", collection, manifest)
            self._put.append(path)
        else:
            self.plane.admin_request("PATCH", path, manifest, "application/merge-patch+json")

    def delete(self) -> None:
        """Delete our object, if it is there, finalizers and all."""
        if (found := self.standing()) is None:
            return
        if found["metadata"].get("finalizers"):
            self.patch(("remove", "/metadata/finalizers", None))
        self.other.request("DELETE", REGISTRATION)

    def leave(self) -> None:
        """Delete our object, its Lease and what `put` created; but rights remain: the API server notices them late."""
        self.delete()
        self.other.request("DELETE", "/apis/coordination.k8s.io/v1/namespaces/garden/leases/seccomp-reconciler")
        while self._put:
            if "/rbac.authorization.k8s.io/" not in (path := self._put.pop()):
                self.other.request("DELETE", path)
        self.other.http.close()

    def writes(self) -> list[dict[str, Any]]:
        """Return the audited write requests of the product's identity."""
        user = "system:serviceaccount:garden:seccomp-reconciler"
        verbs = {"create", "update", "patch", "delete", "deletecollection"}
        return [
            event
            for event in self.plane.audit_events()
            if event.get("user", {}).get("username") == user and event["verb"] in verbs
        ]


async def stand(
    cluster: Cluster, registration: Registration, *, ca_bundle: bytes | None, adopt: bool = False
) -> Outcome:
    """Make the registration stand with this caBundle, as it is first registered, or not stand where that is None."""
    desired = None if ca_bundle is None else render(registration, ca_bundle=ca_bundle)
    target = target_of(registration)
    return await reconcile(cluster, target, desired=desired, observed=await cluster.get(target), adopt=adopt)


@asynccontextmanager
async def proxied(stage: Seed) -> AsyncIterator[tuple[FaultProxy, Path]]:
    """Yield a fault proxy and the product's kubeconfig through it."""
    plane = stage.plane
    token = plane.token_for_service_account("garden", "seccomp-reconciler")
    pair = plane.issue_serving_certificate()
    async with FaultProxy(upstream=plane.url, upstream_ca=plane.ca_file, certificate=pair) as proxy:
        yield proxy, plane.kubeconfig_with(server=proxy.url, token=token)


def document(*, gate: str) -> str:
    """Return a GardenletConfiguration whose gate has this value."""
    return (
        "apiVersion: gardenlet.config.gardener.cloud/v1alpha1\nkind: GardenletConfiguration\n"
        f"featureGates:\n  DefaultSeccompProfile: {gate}\n"
    )
