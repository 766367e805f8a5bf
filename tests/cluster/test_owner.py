"""The registration's ownerReference on a real API server: set, repaired, and never taken from what cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.rights import RBAC, account, given

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.field import Field

ROLE = "seccomp-reconciler-create"
PATH = f"{RBAC}/clusterroles/{ROLE}"


@pytest.fixture
def role(field: Field) -> Iterator[dict[str, Any]]:
    """The ClusterRole of config/rbac.yaml; it is there again afterwards."""
    found: dict[str, Any] = field.plane.admin_request("GET", PATH)
    yield found
    if field.plane.admin_request("GET", PATH) is None:
        create(field, found)


def create(field: Field, role: dict[str, Any]) -> str:
    """Create the ClusterRole anew and return its uid."""
    manifest = {"metadata": {"name": ROLE, "labels": role["metadata"].get("labels")}, "rules": role["rules"]}
    return str(field.plane.admin_request("POST", PATH.rpartition("/")[0], manifest)["metadata"]["uid"])


def reconciled(field: Field, *more: str) -> str:
    """Run `reconcile` and return what it says on standard error."""
    inputs = ("--gardenlet-config", str(field.seed.gardenlet), "--ca-file", str(field.seed.ca))
    done = field.seed.command("reconcile", *inputs, *more)
    assert done.returncode == 0, done.stderr
    return done.stderr


def owners(field: Field) -> list[tuple[str, str]]:
    standing = field.standing()
    assert standing is not None
    found = standing["metadata"].get("ownerReferences", [])
    assert all(not one.get("blockOwnerDeletion") and not one.get("controller") for one in found)
    return [(one["name"], one["uid"]) for one in found]


def test_owner_is_set_and_follows_the_role(field: Field, role: dict[str, Any]) -> None:
    before = role["metadata"]["uid"]
    assert "ownerReference" not in reconciled(field)
    assert owners(field) == [(ROLE, before)]
    # Repeated, it writes nothing.
    version = field.standing()["metadata"]["resourceVersion"]  # type: ignore[index]
    reconciled(field)
    assert field.standing()["metadata"]["resourceVersion"] == version  # type: ignore[index]
    # Taken away, it comes back.
    field.patch(("remove", "/metadata/ownerReferences", None))
    reconciled(field)
    assert owners(field) == [(ROLE, before)]
    # The role is deleted: the reference stays, and the garbage collector decides (there is none here).
    field.plane.admin_request("DELETE", PATH)
    assert f"no ownerReference: clusterroles/{ROLE} does not exist" in reconciled(field)
    assert owners(field) == [(ROLE, before)]
    # It is created again: another uid.
    after = create(field, role)
    assert "ownerReference" not in reconciled(field)
    assert owners(field) == [(ROLE, after)]


def test_role_that_cannot_be_read_is_never_guessed(field: Field, role: dict[str, Any]) -> None:
    rights = [one for one in given("config/rbac.yaml", "config/canary.yaml") if one.resource != "clusterroles"]
    limited = str(account(field, "lacks-the-owner", rights))
    words = reconciled(field, "--kubeconfig", limited)
    assert f"resources: [clusterroles], resourceNames: [{ROLE}], verbs: [get]" in words
    assert owners(field) == []
    reconciled(field)
    assert owners(field) == [(ROLE, role["metadata"]["uid"])]
    # Who cannot read it keeps what is there.
    reconciled(field, "--kubeconfig", limited)
    assert owners(field) == [(ROLE, role["metadata"]["uid"])]
