"""Faults of processes: ours, and those of the control plane."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.members import Member
    from tests.chaos.plan import Step
    from tests.chaos.world import World

_GRACE_SECONDS: Final = 3.0


def _chosen(world: World, step: Step) -> list[Member]:
    members = world.servers if step.kind.name.startswith("server") else world.reconcilers
    return [members[name] for name in step.members]


async def kill(world: World, step: Step) -> None:
    """SIGKILL; started again after a while, as the kubelet does."""
    for member in _chosen(world, step):
        member.kill()
    await _hold(world, step)
    for member in _chosen(world, step):
        member.start()


async def freeze(world: World, step: Step) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    for member in _chosen(world, step):
        member.freeze()
    await _hold(world, step)
    for member in _chosen(world, step):
        member.thaw()


async def restart(world: World, step: Step) -> None:
    """SIGTERM, and a new process once the old one has ended."""
    members = _chosen(world, step)
    # Ending takes a while, and what they still say to the API server goes through this process.
    await asyncio.gather(*(asyncio.to_thread(member.end) for member in members))
    for member in members:
        member.start()


async def clock(world: World, step: Step) -> None:
    """The wall clock jumps, and jumps back; the monotonic one goes on."""
    amount, unit = float(step.variant[:-1]), step.variant[-1]
    seconds = amount * {"s": 1, "h": 3600, "d": 86400}[unit]
    world.clock_wrong.note(holds=True, at=time.time())
    for name in step.members:
        world.clocks[name].offset = seconds
    await _hold(world, step)
    for name in step.members:
        world.clocks[name].offset = 0.0


async def apiserver_kill(world: World, step: Step) -> None:
    """SIGKILL of kube-apiserver, and a new one."""
    await _plane(world, step, world.plane.kill_apiserver, world.plane.start_apiserver)


async def apiserver_restart(world: World, step: Step) -> None:
    """SIGTERM of kube-apiserver, and a new one."""

    def stop() -> None:
        world.plane.stop_apiserver(grace_seconds=_GRACE_SECONDS)

    await _plane(world, step, stop, world.plane.start_apiserver)


async def etcd_kill(world: World, step: Step) -> None:
    """SIGKILL of etcd, and a new one on the same files."""
    await _plane(world, step, world.plane.kill_etcd, world.plane.start_etcd)


async def etcd_restart(world: World, step: Step) -> None:
    """SIGTERM of etcd, and a new one on the same files."""
    await _plane(world, step, world.plane.stop_etcd, world.plane.start_etcd)


async def _plane(world: World, step: Step, down: Callable[[], None], up: Callable[[], None]) -> None:
    world.is_plane_up = False
    await asyncio.to_thread(down)
    await _hold(world, step)
    await asyncio.to_thread(up)
    world.is_plane_up = True


async def _hold(world: World, step: Step) -> None:
    world.noted()
    await asyncio.sleep(step.hold_seconds)
