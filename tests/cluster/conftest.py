"""One control plane and one seed for all cluster tests; the product has exactly config/rbac.yaml; clean each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.backoff import Backoff
from reconciler.cluster import Cluster
from tests.cluster.enforced import History, House, housed
from tests.cluster.field import Field, document
from tests.seed import seed
from tests.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.controlplane.plane import ControlPlane
    from tests.seed import Seed

QUICK = Backoff(0.02, 0.2)


@pytest.fixture(scope="session")
def shared_seed(control_plane: ControlPlane) -> Iterator[Seed]:
    with Zygote() as zygote, seed(control_plane, zygote) as stage:
        yield stage


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
