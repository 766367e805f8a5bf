"""The peer of the restore benchmarks: the least that can restore an object with this client.

`kubernetes.aio` watch, and after each event a server-side apply of the same manifest, blindly: no comparison, no
precondition, no retries. `python -m benchmarks.floor MANIFEST` runs until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from kubernetes.aio.client import AdmissionregistrationV1Api, ApiClient
from kubernetes.aio.config import load_kube_config
from kubernetes.aio.watch import Watch


async def restore(manifest: dict[str, object], name: str) -> None:
    """Apply once, then after each event, for ever."""
    await load_kube_config()  # type: ignore[no-untyped-call] # kubernetes has no types here
    async with ApiClient() as client:
        api = AdmissionregistrationV1Api(client)

        async def apply() -> None:
            await api.patch_mutating_webhook_configuration(
                name,
                manifest,
                field_manager="seccomp-reconciler",
                force=True,
                _content_type="application/apply-patch+yaml",
            )

        await apply()
        watch: Any = Watch  # kubernetes has no types here
        stream = watch().stream(api.list_mutating_webhook_configuration, field_selector=f"metadata.name={name}")
        async for _ in stream:
            await apply()


async def main() -> None:
    """Run until SIGTERM."""
    manifest = json.loads(Path(sys.argv[1]).read_text())
    task = asyncio.ensure_future(restore(manifest, manifest["metadata"]["name"]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


if __name__ == "__main__":
    asyncio.run(main())
