"""A page in headless Chromium, driven by its debugging protocol; nothing but the page's own file can be loaded."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.controlplane.supervisor import die_with_parent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_LISTENING = re.compile(rb"DevTools listening on (ws://127\.0\.0\.1:\S+)")
# Generous: a loaded machine is slow.
_PATIENCE_SECONDS = 90.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root, and the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
)


def program() -> str | None:
    """Return the path of Chromium, None where there is none."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


class Page:
    """One page. `requests` are the URLs that it asked for, `troubles` its uncaught errors and refused loads."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return the result of one call of the protocol; events that come before it are kept."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        while True:
            message = await self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self._socket.receive_str(timeout=_PATIENCE_SECONDS))
        if "method" in message:
            self._events.append(message)
        return message

    async def open(self, file: Path) -> Self:
        """Load `file` in a new tab and wait until all of it is there."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        self._events.clear()
        await self.call("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            await self._receive()
        return self

    async def value(self, expression: str) -> Any:  # noqa: ANN401 - JSON
        """Return what JavaScript makes of `expression`."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def of(self, method: str) -> list[dict[str, Any]]:
        """Return the events of that name so far."""
        return [event["params"] for event in self._events if event["method"] == method]

    @property
    def requests(self) -> list[str]:
        """The URLs that the page asked for."""
        return [event["request"]["url"] for event in self.of("Network.requestWillBeSent")]

    @property
    def troubles(self) -> list[dict[str, Any]]:
        """Uncaught errors, and what was logged, refused loads among it."""
        return self.of("Runtime.exceptionThrown") + self.of("Log.entryAdded")


@asynccontextmanager
async def opened(file: Path, chromium: str, folder: Path) -> AsyncIterator[Page]:
    """Yield the page in a browser of its own, whose files are in `folder`; it is ended on leaving."""
    process = await asyncio.create_subprocess_exec(
        chromium,
        *_FLAGS,
        f"--user-data-dir={folder}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder)},
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        address = await asyncio.wait_for(_address(process), _PATIENCE_SECONDS)
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            yield await Page(socket).open(file)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = []
    async for line in process.stderr:
        if match := _LISTENING.search(line):
            return match[1].decode()
        said.append(line.decode(errors="replace"))
    raise AssertionError(f"Chromium ended without an address: {''.join(said[-5:])}")
