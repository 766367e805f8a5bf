"""Bytes from one connection to another, both ways, until both have ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

_Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, onward: Awaitable[_Pair]) -> None:
    """Relay to where `onward` leads; where it leads nowhere, the connection is closed."""
    try:
        answer, request = await onward
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, request), _copy(answer, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()
