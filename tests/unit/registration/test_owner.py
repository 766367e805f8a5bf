"""The ownerReference to the ClusterRole that grants create: made from what was read, compared, and kept."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.registration import desired, drift, owner
from reconciler.registration.drift import Action
from reconciler.settings import Registration

NAME = "seccomp-reconciler-create"


def reference(uid: str = "1", name: str = NAME, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"apiVersion": owner.API_VERSION, "kind": "ClusterRole", "name": name, "uid": uid, **more}


OTHER = {"apiVersion": "v1", "kind": "Namespace", "name": "garden", "uid": "7"}


def observed(*present: dict[str, Any], ours: tuple[str, ...] = ()) -> dict[str, Any]:
    """Our object with these owners, of which we applied those with the uids `ours`."""
    found: dict[str, Any] = dict(desired.render(Registration(), ca_bundle=b"CA"))
    fields: dict[str, Any] = {"f:metadata": {"f:ownerReferences": {f'k:{{"uid":"{uid}"}}': {} for uid in ours}}}
    entry = {"manager": "seccomp-reconciler", "operation": "Apply", "fieldsV1": fields}
    found["metadata"] = {**found["metadata"], "ownerReferences": list(present), "managedFields": [entry]}
    return found


@pytest.mark.parametrize(
    ("role", "uid", "words"),
    [
        ({"metadata": {"name": NAME, "uid": "1"}}, "1", ""),
        (None, None, "does not exist"),
        ({"metadata": {"name": NAME, "uid": "1", "deletionTimestamp": "2026-11-28T00:00:00Z"}}, None, "being deleted"),
    ],
    ids=["present", "absent", "being deleted"],
)
def test_reference_is_made_only_from_a_role_that_stays(
    role: dict[str, Any] | None, uid: str | None, words: str
) -> None:
    found = owner.of(role, NAME)
    assert found.reference == (None if uid is None else reference(uid))
    assert words in found.trouble
    assert bool(found.trouble) is (uid is None)


@pytest.mark.parametrize(
    ("wanted", "present", "ours", "expected"),
    [
        ("1", [reference("1")], ("1",), Action.NONE),
        ("1", [reference("1", controller=False, blockOwnerDeletion=True)], ("1",), Action.NONE),
        ("1", [reference("1")], (), Action.NONE),
        ("1", [OTHER, reference("1")], ("1",), Action.NONE),
        ("1", [], (), Action.APPLY),
        ("1", [OTHER], (), Action.APPLY),
        ("2", [reference("1")], ("1",), Action.APPLY),
        # Set by another manager: ours is added, and the garbage collector takes the wrong one away.
        ("1", [reference("2")], (), Action.APPLY),
        ("1", [reference("2"), reference("1")], ("1",), Action.NONE),
        ("1", [reference("1", name="renamed")], ("1",), Action.APPLY),
        (None, [], (), Action.NONE),
        (None, [reference("1")], ("1",), Action.APPLY),
        (None, [OTHER, reference("1")], (), Action.NONE),
    ],
    ids=[
        "as asked",
        "fields that are not ours",
        "as asked, of another manager",
        "beside an owner of others",
        "missing",
        "missing beside an owner of others",
        "the role was made again",
        "a wrong uid of another manager",
        "a wrong uid beside ours",
        "another name",
        "none asked for",
        "none asked for any more",
        "owners of others",
    ],
)
def test_only_our_own_reference_is_compared(
    wanted: str | None, present: list[dict[str, Any]], ours: tuple[str, ...], expected: Action
) -> None:
    asked = desired.render(Registration(), ca_bundle=b"CA", owner=None if wanted is None else reference(wanted))
    plan = drift.compare(desired=asked, observed=observed(*present, ours=ours))
    assert plan.action is expected
    assert [one.path for one in plan.differences] == ([] if expected is Action.NONE else [owner.PATH])


def test_difference_names_both_uids() -> None:
    asked = desired.render(Registration(), ca_bundle=b"CA", owner=reference("2"))
    (found,) = drift.compare(desired=asked, observed=observed(reference("1"), ours=("1",))).differences
    assert (found.desired, found.observed) == (f"ClusterRole/{NAME} 2", f"ClusterRole/{NAME} 1")


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], None),
        ([OTHER], None),
        ([reference("1", name="another")], None),
        ([OTHER, reference("1", blockOwnerDeletion=False)], reference("1")),
    ],
    ids=["none", "of others", "another role", "ours"],
)
def test_standing_reference_is_that_to_the_role(present: list[dict[str, Any]], expected: dict[str, Any] | None) -> None:
    assert owner.standing(observed(*present), NAME) == expected
    assert owner.standing(None, NAME) is None
