"""A watch event too long for a line reader's limit, made from a real one so that everything else in it is true."""

from __future__ import annotations

import json
from typing import Final

ANNOTATION: Final = "faults.test/padding"


def carries_object(line: bytes) -> bool:
    """Tell whether a line of a watch stream carries a whole, living object (not BOOKMARK, DELETED, ERROR)."""
    return line.startswith((b'{"type":"ADDED"', b'{"type":"MODIFIED"'))


def lengthened(line: bytes, size_bytes: int) -> bytes:
    """Return the event as a MODIFIED whose line has this many bytes, newline included, by one huge annotation."""
    event = json.loads(line)
    annotations = event["object"].setdefault("metadata", {}).setdefault("annotations", {})
    annotations[ANNOTATION] = ""
    event["type"] = "MODIFIED"
    unpadded = len(json.dumps(event, separators=(",", ":"))) + 1
    annotations[ANNOTATION] = "x" * (size_bytes - unpadded)
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
