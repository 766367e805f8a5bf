"""The audit log: the policy that writes it, and its events as the API server wrote them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# One event for a request; a watch has two: ResponseStarted, and ResponseComplete when it ends.
POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
"""

Event = dict[str, Any]  # audit.k8s.io/v1 Event


def flags(directory: Path) -> list[str]:
    """Write the policy and return the API server's flags that make it log to `audit.log` in the directory."""
    policy = directory / "audit-policy.yaml"
    policy.write_text(POLICY)
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log_file(directory)}",
        "--audit-log-format=json",
        # Not batch: an event is in the file when its request is done.
        "--audit-log-mode=blocking",
        # MiB: it is never rotated.
        "--audit-log-maxsize=102400",
    ]


def log_file(directory: Path) -> Path:
    """Return where the events go."""
    return directory / "audit.log"


class Log:
    """The events of one control plane; what was read once is not parsed again."""

    def __init__(self, directory: Path) -> None:
        self._file = log_file(directory)
        self._offset = 0
        self._events: list[Event] = []

    def read(self) -> list[Event]:
        """Return the events in the order in which they were written; a last line still being written is left out."""
        if self._file.exists():
            with self._file.open("rb") as file:
                file.seek(self._offset)
                complete, end, _ = file.read().rpartition(b"\n")
            self._offset += len(complete) + len(end)
            self._events.extend(json.loads(line) for line in complete.splitlines() if line)
        return list(self._events)
