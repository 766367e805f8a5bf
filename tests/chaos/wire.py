"""Faults between the reconcilers and the API server: each that the proxy knows, for the requests that a step names."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.chaos.terms import REQUEST_TIMEOUT_SECONDS
from tests.faults import Fault, Match, anything
from tests.faults.fault import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.plan import Step
    from tests.chaos.world import World

_FEW: Final = 4
_NO_WATCH: Final = Match(watch=False)


def _scope(name: str) -> Scope:
    return {
        "everything": Scope(match=anything),
        "writes": Scope(match=Match(write=True)),
        "proofs": Scope(match=Match(write=True, dry_run=True)),
        "leases": Scope(match=Match(path="/leases/")),
        "few": Scope(match=_NO_WATCH, times=_FEW),
    }[name]


def _status(variant: str) -> Fault:
    code, scope = variant.split(" ")
    return Fault.refuse_status(int(code), **_scope(scope))


def _abruptly(variant: str) -> bool:
    return variant == "abruptly"


_FAULTS: Final[dict[str, Callable[[str], Fault]]] = {
    "wire-drop": lambda variant: Fault.drop(**_scope(variant)),
    "wire-lost-answer": lambda variant: Fault.lost_answer(**_scope(variant)),
    "wire-refused": lambda variant: Fault.refuse_connections(keep_established=variant == "kept"),
    "wire-delay": lambda variant: Fault.delay(float(variant), match=_NO_WATCH),
    "wire-status": _status,
    "wire-too-many-requests": lambda variant: Fault.too_many_requests(**_scope(variant)),
    "wire-overloaded": lambda variant: Fault.overloaded(**_scope(variant)),
    "wire-garbage": lambda variant: Fault.garbage(**_scope(variant)),
    "wire-cut-body": lambda variant: Fault.cut_body(abruptly=_abruptly(variant)),
    "wire-truncated-json": lambda variant: Fault.truncated_json(**_scope(variant)),
    "wire-half-open": lambda variant: Fault.half_open(**_scope(variant)),
    "wire-trickle": lambda variant: Fault.trickle(float(variant), match=_NO_WATCH),
    "watch-gone": lambda _: Fault.gone(),
    "watch-error": lambda _: Fault.watch_error(),
    "watch-close": lambda variant: Fault.close_watch(abruptly=_abruptly(variant)),
    # One for each watch: one in every line that is read again would only be the same.
    "watch-long-line": lambda _: Fault.long_line(times=_FEW),
    "watch-cut": lambda variant: Fault.cut_watch(abruptly=_abruptly(variant)),
    "watch-garbled": lambda _: Fault.garbled_watch(),
}


async def fault(world: World, step: Step) -> None:
    """Arm the proxy, and disarm it after a while."""
    with ExitStack() as armed:
        for name in step.members:
            armed.enter_context(world.proxies[name].fault(_FAULTS[step.kind.name](step.variant)))
        await _hold(world, step, severs=_severs(step))


async def partition(world: World, step: Step) -> None:
    """Let nothing pass for a while; what was held back passes on then."""
    with ExitStack() as held:
        for name in step.members:
            held.enter_context(world.proxies[name].partition())
        await _hold(world, step, severs=True)


async def reset(world: World, step: Step) -> None:
    """End every connection with RST."""
    for name in step.members:
        world.proxies[name].reset_connections()


async def _hold(world: World, step: Step, *, severs: bool) -> None:
    for name in step.members:
        world.severed[name] += severs
    world.noted()
    try:
        await asyncio.sleep(step.hold_seconds)
    finally:
        for name in step.members:
            world.severed[name] -= severs


def _severs(step: Step) -> bool:
    """Return whether a reconciler cannot do its work meanwhile: write, prove and keep its Lease."""
    if step.kind.name.startswith("watch-"):
        return False
    if step.kind.name in ("wire-delay", "wire-trickle"):
        # A trickle is a byte each hundredth of a second: an object takes longer than a request may.
        return float(step.variant) >= REQUEST_TIMEOUT_SECONDS or step.variant == "0.01"
    return not step.variant.endswith("few")
