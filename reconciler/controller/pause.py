"""A pause is written on the Lease, which is made where there is none: anybody who leads or wants to reads it there."""

from reconciler.cluster import Cluster
from reconciler.controller.leadership import lease_of
from reconciler.errors import ConflictError, RejectedError
from reconciler.registration import pausing
from reconciler.registration.identity import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from reconciler.registration.pausing import Pause
from reconciler.settings import LeaderElection


async def written(
    cluster: Cluster, election: LeaderElection, pause: Pause | None, observed: Manifest | None
) -> Manifest:
    """Write `pause` (None: no pause) on the Lease, which was `observed` (None: there was none), and return it.

    ConflictError where it came or went meanwhile. That it changed is no harm: its leader renews it all the time.
    """
    target = lease_of(election)
    annotations = pausing.annotations(pause)
    if observed is not None:
        try:
            return await cluster.merge(target, {"metadata": {"annotations": annotations}})
        except RejectedError as error:
            raise ConflictError(f"{target}: went while a pause was written: {error}") from error
    metadata = {
        "name": target.name,
        "namespace": target.namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY},
        "annotations": {key: value for key, value in annotations.items() if value is not None},
    }
    # Nobody holds it: whoever wants to lead may at once.
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    return await cluster.post(target, {**lease, "spec": {"holderIdentity": ""}})
