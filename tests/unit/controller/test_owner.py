"""Which owner a pass asks for, where the ClusterRole comes, goes and cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from reconciler.cluster import CLUSTER_ROLES, Cluster, Target
from reconciler.controller.enforcement import Enforcement
from reconciler.controller.keeping import Keeper
from reconciler.errors import ForbiddenError
from reconciler.registration.drift import Action
from reconciler.settings import ReconcilerConfiguration, Registration

if TYPE_CHECKING:
    from reconciler.controller.keeping import Kept
    from reconciler.registration.identity import Manifest

NAME = "seccomp-reconciler-create"


class Seed:
    """Our object and the ClusterRole, as values; `role` None: absent, an error: it may not be read."""

    def __init__(self, role: str | ForbiddenError | None, owner: str = NAME) -> None:
        self.role = role
        self.standing: Manifest | None = None
        settings = ReconcilerConfiguration(registration=Registration(owner_cluster_role=owner))
        cluster = cast("Cluster", self)
        self._keeper = Keeper(settings, cluster, Enforcement(settings), prove=self._nothing, lint=self._nothing)

    async def get(self, target: Target) -> Manifest | None:
        assert target == Target(CLUSTER_ROLES, NAME)
        if isinstance(self.role, ForbiddenError):
            raise self.role
        return None if self.role is None else {"metadata": {"name": NAME, "uid": self.role}}

    async def create(self, _: Target, manifest: Manifest, *, dry_run: bool) -> Manifest:
        assert not dry_run
        return await self.apply(_, manifest)

    async def apply(self, _: Target, manifest: Manifest, **__: Any) -> Manifest:  # noqa: ANN401 - as Cluster.apply
        owners = manifest["metadata"].get("ownerReferences", ())
        fields: Manifest = {"f:metadata": {"f:ownerReferences": {f'k:{{"uid":"{one["uid"]}"}}': {} for one in owners}}}
        entry = {"manager": "seccomp-reconciler", "operation": "Apply", "fieldsV1": fields}
        self.standing = {**manifest, "metadata": {**manifest["metadata"], "managedFields": [entry]}}
        return self.standing

    async def keep(self) -> Kept:
        return await self._keeper.keep(self.standing, self._bundle, annotations={}, last_renewal=None)

    @property
    def owners(self) -> list[str]:
        assert self.standing is not None
        return [one["uid"] for one in self.standing["metadata"].get("ownerReferences", ())]

    async def _bundle(self, _: Manifest | None) -> bytes:
        return b"CA"

    async def _nothing(self) -> None:
        return


REFUSED = ForbiddenError("get clusterroles/seccomp-reconciler-create: forbidden")


async def test_owner_follows_the_uid_of_the_role() -> None:
    seed = Seed("1")
    await seed.keep()
    assert seed.owners == ["1"]
    assert (await seed.keep()).written == ()
    seed.role = "2"
    assert [action for action, _ in (await seed.keep()).written] == [Action.APPLY]
    assert seed.owners == ["2"]


@pytest.mark.parametrize("role", [None, REFUSED], ids=["absent", "forbidden"])
async def test_role_that_cannot_be_read_changes_nothing(role: ForbiddenError | None) -> None:
    seed = Seed("1")
    await seed.keep()
    seed.role = role
    kept = await seed.keep()
    assert (kept.written, seed.owners) == ((), ["1"])
    assert NAME in kept.ownerless


@pytest.mark.parametrize("role", [None, REFUSED], ids=["absent", "forbidden"])
async def test_registration_gets_no_owner_that_was_never_read(role: ForbiddenError | None) -> None:
    seed = Seed(role)
    kept = await seed.keep()
    assert seed.owners == []
    assert NAME in kept.ownerless


@pytest.mark.parametrize("role", [None, REFUSED], ids=["absent", "forbidden"])
async def test_registration_that_went_with_its_owner_is_not_created_again(role: ForbiddenError | None) -> None:
    seed = Seed("1")
    await seed.keep()
    seed.role, seed.standing = role, None
    with pytest.raises(ForbiddenError, match=f"without the ClusterRole that owns it: .*{NAME}"):
        await seed.keep()
    assert seed.standing is None
    seed.role = "2"
    await seed.keep()
    assert seed.owners == ["2"]


async def test_no_owner_is_asked_for_where_the_name_is_empty() -> None:
    seed = Seed("1", owner="")
    kept = await seed.keep()
    assert (seed.owners, kept.ownerless) == ([], "")
