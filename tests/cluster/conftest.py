"""One control plane and one seed for all cluster tests; the product has exactly config/rbac.yaml; clean each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.backoff import Backoff
from reconciler.cluster import Cluster
from tests.cluster.enforced import History, House, housed
from tests.cluster.field import Field, document
from tests.cluster.patience import until
from tests.seed import CANARY, seed
from tests.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.controlplane.plane import ControlPlane
    from tests.seed import Seed

QUICK = Backoff(0.02, 0.2)
KINDS = (
    "/api/v1/configmaps",
    "/api/v1/pods",
    "/api/v1/resourcequotas",
    "/api/v1/secrets",
    "/api/v1/services",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "/apis/apps/v1/deployments",
    "/apis/coordination.k8s.io/v1/leases",
    "/apis/discovery.k8s.io/v1/endpointslices",
)


@pytest.fixture(scope="session")
def shared_seed(control_plane: ControlPlane) -> Iterator[Seed]:
    with Zygote() as zygote, seed(control_plane, zygote) as stage:
        yield stage


@pytest.fixture(scope="module", autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a file leaves behind what another file would find: which comes next differs from run to run."""
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    if not any("shared_seed" in getattr(item, "fixturenames", ()) for item in items):
        yield
        return
    stage: Seed = request.getfixturevalue("shared_seed")
    before = _objects(stage.plane)
    yield
    until(
        lambda: _objects(stage.plane) <= before,
        seconds=10,
        told=lambda: f"left behind: {_objects(stage.plane) - before}",
    )


def _objects(plane: ControlPlane) -> set[str]:
    """Return every object of these kinds where the product runs and probes, and of the whole cluster."""
    found = set()
    for kind in KINDS:
        for one in plane.admin_request("GET", kind)["items"]:
            where, name = one["metadata"].get("namespace", ""), one["metadata"]["name"]
            if where in ("", "garden", CANARY) and name != "kube-root-ca.crt":
                found.add(f"{kind.rpartition('/')[2]} {where}/{name}")
    return found


@pytest.fixture
def field(shared_seed: Seed) -> Iterator[Field]:
    """A seed without our object, with the gate on and a good CA file."""
    found = Field(shared_seed)
    found.delete()
    shared_seed.configure(document(gate="true"))
    shared_seed.ca.write_bytes(shared_seed.plane.ca_pem)
    yield found
    found.leave()


@pytest.fixture
async def cluster(shared_seed: Seed) -> AsyncIterator[Cluster]:
    """A connection with exactly the documented rights."""
    async with Cluster(kubeconfig=shared_seed.kubeconfig, backoff=QUICK) as connection:
        yield connection


@pytest.fixture(scope="module")
def built(shared_seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A seed at work for the tests of one file."""
    with housed(shared_seed, tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def house(built: House) -> Iterator[House]:
    """It, without a registration, and with a server that answers."""
    built.clean()
    built.serve()
    yield built
    built.clean()


@pytest.fixture
def history(house: House) -> Iterator[History]:
    """What the registration was, from now on."""
    with History(house.seed) as found:
        yield found
