"""The owner of the registration: the ClusterRole that grants the right to create it. Pure.

The registration carries an ownerReference to that ClusterRole. When the ClusterRole is deleted, the garbage collector
of kube-controller-manager deletes the registration, and without the ClusterRole the reconciler cannot create it again.
So a removal in any order, without hooks and without `cleanup`, leaves no registration with failurePolicy Fail behind.

The garbage collector also deletes an object whose only owner does not exist under the uid that the reference gives. So
a reference is made only from a ClusterRole that was just read, or kept as it was found; a uid is never guessed.
"""

from dataclasses import dataclass
from typing import Any, Final

from reconciler.registration.identity import Manifest, applied_fields

API_VERSION: Final = "rbac.authorization.k8s.io/v1"
KIND: Final = "ClusterRole"
PATH: Final = "metadata.ownerReferences"


@dataclass(frozen=True, slots=True)
class Owner:
    """What was read: the ownerReference to set, else None and `trouble`, the reason; both empty: none is asked for."""

    reference: Manifest | None = None
    trouble: str = ""


def of(role: Manifest | None, name: str) -> Owner:
    """Return the owner that the ClusterRole `name` makes, as it was read; None where there is no such object."""
    if role is None:
        return Owner(
            trouble=f"clusterroles/{name} does not exist; expected the ClusterRole that grants `create`, as in "
            "config/rbac.yaml. Until then run `cleanup` before a removal. Its name is registration.ownerClusterRole"
        )
    if role["metadata"].get("deletionTimestamp") is not None:
        return Owner(trouble=f"clusterroles/{name} is being deleted")
    uid = role["metadata"]["uid"]
    return Owner({"apiVersion": API_VERSION, "kind": KIND, "name": name, "uid": uid})


def standing(observed: Manifest | None, name: str) -> Manifest | None:
    """Return the ownerReference to the ClusterRole `name` that `observed` carries; None where it carries none."""
    return next((_plain(one) for one in _references(observed) if _is_role(one) and one.get("name") == name), None)


def difference(desired: Manifest, observed: Manifest) -> tuple[str | None, str | None] | None:
    """Return the desired and the observed owner as text where they differ, from the metadata of both; else None.

    References of others are left alone. A reference of ours that is asked for no longer differs, too.
    """
    wanted = next(iter(desired.get("ownerReferences") or ()), None)
    present = _references({"metadata": observed})
    is_missing = wanted is not None and wanted not in [_plain(one) for one in present]
    fields = ((applied_fields({"metadata": observed}) or {}).get("f:metadata") or {}).get("f:ownerReferences") or {}
    asked = None if wanted is None else wanted["uid"]
    stale = [one for one in present if one["uid"] != asked and f'k:{{"uid":"{one["uid"]}"}}' in fields]
    if not is_missing and not stale:
        return None
    shown = [one for one in present if _is_role(one)] or stale
    return _text(wanted), _text(shown[0] if shown else None)


def _references(observed: Manifest | None) -> list[Manifest]:
    return list(((observed or {}).get("metadata") or {}).get("ownerReferences") or ())


def _is_role(reference: Manifest) -> bool:
    return (reference.get("apiVersion"), reference.get("kind")) == (API_VERSION, KIND)


def _plain(reference: Manifest) -> dict[str, Any]:
    return {key: reference.get(key) for key in ("apiVersion", "kind", "name", "uid")}


def _text(reference: Manifest | None) -> str | None:
    return None if reference is None else f"{reference.get('kind')}/{reference.get('name')} {reference.get('uid')}"
