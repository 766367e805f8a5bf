"""The faults that are armed now: in the order of arming, the first that wants a request meets it, alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.fault import Fault
    from tests.faults.journal import Bell
    from tests.faults.request import Request


class Armed:
    """A fault in force; as a context manager it is removed at the end of the block."""

    def __init__(self, fault: Fault, bell: Bell, remove: Callable[[Armed], None]) -> None:
        self.fault = fault
        self.hits = 0
        """How many requests it has met."""
        self._bell = bell
        self._remove = remove

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Take it out of force; a second time does nothing."""
        self._remove(self)

    @property
    def is_spent(self) -> bool:
        """Whether it has met as many requests as it was meant for."""
        return self.fault.times is not None and self.hits >= self.fault.times

    async def hit(self, count: int = 1, *, timeout_seconds: float = 30.0) -> None:
        """Return once it has met this many requests; raises TimeoutError."""
        await self._bell.until(lambda: self.hits >= count, timeout_seconds=timeout_seconds)

    def meet(self, request: Request) -> bool:
        """Count the request as met and return True, if it is still to be met by this fault."""
        if self.is_spent or not self.fault.wants(request):
            return False
        self.hits += 1
        self._bell.ring()
        return True


class Arsenal:
    """All faults armed."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    def add(self, armed: Armed) -> None:
        """Put it last."""
        self._armed.append(armed)

    def discard(self, armed: Armed) -> None:
        """Take it out, if it is in."""
        if armed in self._armed:
            self._armed.remove(armed)

    @property
    def faults(self) -> list[Fault]:
        """The faults in force, in their order, spent ones included."""
        return [armed.fault for armed in self._armed]

    def for_request(self, request: Request) -> Fault | None:
        """Return the fault for a request that just came, counting it."""
        return next((armed.fault for armed in self._armed if armed.meet(request)), None)
