"""Who wrote what on an object, as the API server keeps it in managedFields. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reconciler.registration.identity import FIELD_MANAGER, Manifest
from reconciler.timestamps import seconds

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Writer:
    """A field manager, and when it last wrote (seconds since the epoch; 0 where nobody tells)."""

    manager: str
    time: float


def last_foreign(observed: Manifest | None) -> Writer | None:
    """Return who wrote last besides us; None where nobody did."""
    found = [writer for writer, _ in _entries(observed) if writer.manager != FIELD_MANAGER]
    return max(found, key=lambda writer: writer.time, default=None)


def last_writer(observed: Manifest | None) -> Writer | None:
    """Return who wrote last, we included; None where nobody tells."""
    return max((writer for writer, _ in _entries(observed)), key=lambda writer: writer.time, default=None)


def of_field(observed: Manifest | None, path: str) -> str:
    """Return the manager who last wrote the field at `path`, as drift names it; UNKNOWN where nobody tells.

    Another reconciler writes as the same manager as we do: then it is ours that is named.
    """
    if path.startswith("metadata."):  # of one label or annotation: nearly everybody holds some
        name = path.partition("[")[2].removesuffix("]") or path.removeprefix("metadata.")
    else:
        name = path.removeprefix("webhooks[0].").partition("[")[0].split(".")[0]
    holders = [writer for writer, fields in _entries(observed) if f"f:{name}" in fields]
    foreign = [writer for writer in holders if writer.manager != FIELD_MANAGER]
    found = max(foreign or holders, key=lambda writer: writer.time, default=None)
    if found is None:
        found = last_foreign(observed)  # who removed a field holds it no more
    return UNKNOWN if found is None else found.manager


def _entries(observed: Manifest | None) -> Iterator[tuple[Writer, set[str]]]:
    for entry in ((observed or {}).get("metadata") or {}).get("managedFields") or ():
        writer = Writer(str(entry.get("manager") or UNKNOWN), seconds(entry.get("time")) or 0.0)
        yield writer, set(_names(entry.get("fieldsV1") or {}))


def _names(fields: Manifest) -> Iterator[str]:
    """Yield every field name in a fieldsV1 set, however deep."""
    for name, below in fields.items():
        yield name
        if isinstance(below, dict):
            yield from _names(below)
