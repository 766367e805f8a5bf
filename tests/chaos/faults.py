"""Which coroutine does which fault: each inflicts it, holds it, and undoes what the product is not to undo."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from tests.chaos import processes, tampering, wire
from tests.chaos.plan import KINDS, Group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.plan import Kind, Step
    from tests.chaos.world import World

    Infliction = Callable[[World, Step], Awaitable[None]]

_BY_NAME: Final[dict[str, Infliction]] = {
    "reconciler-kill": processes.kill,
    "reconciler-freeze-briefly": processes.freeze,
    "reconciler-freeze-past-lease": processes.freeze,
    "reconciler-restart": processes.restart,
    "reconciler-clock": processes.clock,
    "server-kill": processes.kill,
    "server-freeze": processes.freeze,
    "server-restart": processes.restart,
    "server-outage": processes.kill,
    "apiserver-kill": processes.apiserver_kill,
    "apiserver-restart": processes.apiserver_restart,
    "etcd-kill": processes.etcd_kill,
    "etcd-restart": processes.etcd_restart,
    "wire-partition": wire.partition,
    "wire-reset": wire.reset,
    "registration-term": tampering.term,
    "registration-war": tampering.war,
    "lease-deleted": tampering.lease,
    "lease-holder": tampering.lease,
    "lease-annotations": tampering.lease,
}
_BY_GROUP: Final[dict[Group, Infliction]] = {
    Group.WIRE: wire.fault,
    Group.CERTIFICATES: tampering.certificates,
    Group.OBJECTS: tampering.registration,
    Group.CONFIGURATION: tampering.configuration,
}


def _infliction(kind: Kind) -> Infliction:
    return _BY_NAME[kind.name] if kind.name in _BY_NAME else _BY_GROUP[kind.group]


INFLICTIONS: Final[dict[str, Infliction]] = {kind.name: _infliction(kind) for kind in KINDS}
"""By the name of the kind: complete, or this module could not be imported."""


async def inflict(world: World, step: Step) -> None:
    """Do the fault to its end, and have the world know for how long it disturbs the reconcilers."""
    with world.disturbances.during() if disturbs(step) else nullcontext():
        await INFLICTIONS[step.kind.name](world, step)
        world.noted()


def disturbs(step: Step) -> bool:
    """Return whether the leader may lose its lead by it, or have to find out anew how things stand.

    What slows it down a little does not count: that is what the slack of the bound is for.
    """
    name = step.kind.name
    if name in ("wire-delay", "wire-trickle"):
        return step.variant not in ("0.3", "0")
    groups = (Group.RECONCILERS, Group.CONTROL_PLANE, Group.WIRE)
    return (step.kind.group in groups and not name.startswith("watch-")) or name in ("lease-deleted", "lease-holder")
