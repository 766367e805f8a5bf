"""One pass: observe, plan, act, verify."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.cluster import MUTATING_WEBHOOK_CONFIGURATIONS, Cluster, Target
from reconciler.errors import ConflictError, ForeignObjectError
from reconciler.registration import drift
from reconciler.registration.drift import Action, Difference, Plan
from reconciler.registration.identity import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from reconciler.settings import Registration

# Replace a list, then apply the rest: more writes than that in one pass mean that somebody writes against us.
_MOST_WRITES: Final = 3


class Result(StrEnum):
    """What a pass came to."""

    REGISTERED = "registered"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a pass, why it wrote, what it tolerates, the object as it stands now (None: absent), the writes."""

    result: Result
    differences: tuple[Difference, ...] = ()
    tolerated: tuple[Difference, ...] = ()
    observed: Manifest | None = None
    actions: tuple[Action, ...] = ()


def target_of(registration: Registration) -> Target:
    """Return the object that `registration` is about."""
    return Target(MUTATING_WEBHOOK_CONFIGURATIONS, registration.name)


async def reconcile(
    cluster: Cluster,
    target: Target,
    *,
    desired: Manifest | None,
    observed: Manifest | None,
    adopt: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Make `desired` stand (None: nothing), from what was `observed` when it was planned.

    Raises ForeignObjectError where an object of that name is not ours (with `adopt` it is taken over), ConflictError
    where another writer was faster or the object waits for a finalizer, and the errors of `cluster`. With `dry_run`
    the API server checks the first write and keeps nothing.
    """
    result = Result.ABSENT if desired is None else Result.UNCHANGED
    written: tuple[Difference, ...] = ()
    actions: tuple[Action, ...] = ()
    for _ in range(_MOST_WRITES):
        plan = drift.compare(desired=desired, observed=observed, adopt=adopt)
        if plan.action is Action.NONE:
            return Outcome(result, written, plan.tolerated, observed, actions)
        result = _first(result, _result_of(plan.action))
        written = written or plan.differences
        observed = await act(cluster, target, plan, observed, dry_run=dry_run)
        actions += (plan.action,)
        if dry_run:
            return Outcome(result, written, plan.tolerated, observed, actions)
    plan = drift.compare(desired=desired, observed=observed, adopt=adopt)
    if plan.action is Action.NONE:
        return Outcome(result, written, plan.tolerated, observed, actions)
    paths = ", ".join(difference.path for difference in plan.differences) or plan.action
    raise ConflictError(f"{target}: differs again after {_MOST_WRITES} writes ({paths}): another writer is at work")


async def act(
    cluster: Cluster, target: Target, plan: Plan, observed: Manifest | None, *, dry_run: bool = False
) -> Manifest | None:
    """Carry out `plan` by one write and return the object as it then stands (as it would stand, with `dry_run`)."""
    manifest = plan.manifest
    if plan.action is Action.CREATE and manifest is not None:
        return await cluster.create(target, manifest, dry_run=dry_run)
    if observed is None:
        return None
    if plan.action is Action.APPLY and manifest is not None:
        return await cluster.apply(target, manifest, observed=observed, dry_run=dry_run)
    if plan.action is Action.REPLACE and manifest is not None:
        return await cluster.replace_webhooks(target, manifest, observed=observed, dry_run=dry_run)
    if plan.action is Action.DELETE:
        await cluster.delete(target, observed=observed, dry_run=dry_run)
        return None if dry_run else await cluster.get(target)
    if plan.action is Action.REFUSE:
        raise foreign(target, observed)
    if plan.action is Action.WAIT:
        finalizers = ", ".join(observed["metadata"].get("finalizers") or ()) or "none"
        raise ConflictError(f"{target}: is being deleted and waits for its finalizers ({finalizers})")
    return observed


def foreign(target: Target, observed: Manifest) -> ForeignObjectError:
    """Return the error that tells of an object of our name that is not ours."""
    label = (observed["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL)
    found = f"{MANAGED_BY_LABEL}: {label}" if label is not None else f"no label {MANAGED_BY_LABEL}"
    return ForeignObjectError(
        f"{target} exists and is not ours: found {found}, expected {MANAGED_BY}. It is left as it is. "
        "Choose another registration.name, delete it, or take it over with `reconcile --adopt`"
    )


def _result_of(action: Action) -> Result:
    return {Action.CREATE: Result.REGISTERED, Action.DELETE: Result.REMOVED}.get(action, Result.UPDATED)


def _first(result: Result, now: Result) -> Result:
    return now if result in (Result.UNCHANGED, Result.ABSENT) else result
