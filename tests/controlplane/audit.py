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
        # MiB; beyond it the log is rotated, and rotated files are read as well.
        "--audit-log-maxsize=1024",
    ]


def log_file(directory: Path) -> Path:
    """Return where the events go."""
    return directory / "audit.log"


def read(directory: Path) -> list[Event]:
    """Return the events in the order in which they were written; a last line still being written is left out."""
    events: list[Event] = []
    for path in [*sorted(directory.glob("audit-*.log")), log_file(directory)]:
        if path.exists():
            complete, _, _ = path.read_bytes().rpartition(b"\n")
            events.extend(json.loads(line) for line in complete.splitlines() if line)
    return events
