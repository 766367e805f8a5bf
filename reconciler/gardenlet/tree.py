"""YAML collections as go-yaml v2 decodes them: duplicate and merge keys, anchors, aliases and their bound."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from reconciler.gardenlet.scalars import MERGE_TAG, resolve_scalar
from reconciler.gardenlet.values import MAX_NESTING, Collection, Number, Object, Scalar, Unreadable, Value, excerpt


def unfit_value(value: Value) -> str | None:
    """Return why JSON cannot hold `value`, None where it can."""
    if type(value) is Collection:
        return value.unfit
    if type(value) is Number and not math.isfinite(value.value):
        return "infinity and not-a-number have no place in JSON"
    return None


def _unfit_key(key: Scalar) -> str | None:
    if key is None:
        return "a null key has no place in JSON"
    if type(key) is Number and key.go_type == "uint64":
        return "a key is a number beyond 64 bits with sign"
    return None


@dataclass(slots=True)
class _Frame:
    """An open collection and what is awaited within it."""

    collection: Collection
    anchor: str | None
    steps_before: int
    in_flow: bool
    is_mapping: bool
    merges: "list[Collection] | None" = None  # not None: this list is the value of a merge key
    awaits_key: bool = True
    merging: bool = False
    key: Scalar = None


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Value
    steps: int


# Source: go-yaml decode.go, allowedAliasRatio.
_RATIO_LOW: Final = 400_000
_RATIO_HIGH: Final = 4_000_000


def _allowed_alias_ratio(steps: int) -> float:
    if steps <= _RATIO_LOW:
        return 0.99
    if steps >= _RATIO_HIGH:
        return 0.10
    return 0.99 - 0.89 * ((steps - _RATIO_LOW) / (_RATIO_HIGH - _RATIO_LOW))


@dataclass(slots=True)
class Decoder:
    """Turns events into one value, without recursion and in linear time.

    go-yaml decodes what an alias names once more for each alias, and refuses when that becomes most of its work. Here
    each anchored value is kept with the number of decoding steps it stands for, so that the same sum is only counted.
    """

    root: Value = None
    steps: int = 1  # the document node
    aliased_steps: int = 0
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Anchored] = field(default_factory=dict)

    def count(self, steps: int, aliased_steps: int) -> None:
        """Account for decoding steps, and refuse what consists almost only of aliases."""
        self.steps += steps
        self.aliased_steps += aliased_steps
        if (
            self.aliased_steps > 100  # noqa: PLR2004 - go-yaml's number
            and self.steps > 1000  # noqa: PLR2004 - likewise
            and self.aliased_steps / self.steps > _allowed_alias_ratio(self.steps)
        ):
            raise Unreadable("the document consists almost only of aliases")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        """Take a scalar: a key, a value, or the root."""
        tag, text, implicit = event.tag, event.value, event.implicit[0]
        frame = self.stack[-1] if self.stack else None
        if (
            frame is not None
            and frame.is_mapping
            and frame.awaits_key
            and text == "<<"
            and (implicit or tag == MERGE_TAG)
        ):
            frame.awaits_key = False
            frame.merging = True
            if event.anchor is not None:
                self.anchors[event.anchor] = _Anchored(text, 1)
            return
        value = text if tag is None and not implicit else resolve_scalar(tag, text)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, 1)
        self.count(1, 0)
        self.deliver(value)

    def alias(self, event: yaml.AliasEvent) -> None:
        """Take an alias: the anchored value again, with the steps that decoding it again costs."""
        name = str(event.anchor)
        anchored = self.anchors.get(name)
        if anchored is None:
            raise Unreadable(f"no anchor {excerpt(name)} stands before this alias")
        if isinstance(anchored.value, Collection) and anchored.value.is_open:
            raise Unreadable(f"the value of the anchor {excerpt(name)} contains itself")
        self.count(1, 0)
        self.count(anchored.steps, anchored.steps)
        self.deliver(anchored.value)

    def start(self, event: yaml.CollectionStartEvent, *, is_mapping: bool) -> None:
        """Open a mapping or a list."""
        frame = self.stack[-1] if self.stack else None
        if len(self.stack) >= MAX_NESTING:
            raise Unreadable(f"nested more than {MAX_NESTING} levels deep")
        collection = Collection({} if is_mapping else None)
        merges: list[Collection] | None = None
        if frame is not None and frame.merging and not is_mapping:
            merges = []  # go-yaml decodes the mappings of the list, never the list
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(collection, 0)
        in_flow = bool(event.flow_style) or (frame is not None and frame.in_flow)
        self.stack.append(_Frame(collection, event.anchor, self.steps, in_flow, is_mapping, merges))
        if merges is None:
            self.count(1, 0)

    def end(self) -> None:
        """Close the innermost mapping or list and hand it on."""
        frame = self.stack.pop()
        collection = frame.collection
        collection.is_open = False
        if frame.is_mapping and collection.suspect:
            collection.unfit = _surviving_unfit(collection.entries or {})
        if collection.depth > MAX_NESTING:
            raise Unreadable(f"nested more than {MAX_NESTING} levels deep by its aliases")
        if frame.anchor is not None and self.anchors[frame.anchor].value is collection:
            steps = self.steps - frame.steps_before + (frame.merges is not None)
            self.anchors[frame.anchor] = _Anchored(collection, steps)
        if frame.merges is None:
            self.deliver(collection)
        else:
            self.merge_list(frame.merges)

    def merge_list(self, sources: list[Collection]) -> None:
        """Merge the sources of a list behind `<<`, the first of them strongest."""
        target = self.stack[-1]
        for source in reversed(sources):
            _merge(target.collection, source)
        target.merging = False
        target.awaits_key = True

    def deliver(self, value: Value) -> None:
        """Hand a finished value to the innermost open collection, or make it the root."""
        if not self.stack:
            self.root = value
            return
        frame = self.stack[-1]
        collection = frame.collection
        if type(value) is Collection and value.depth >= collection.depth:
            collection.depth = value.depth + 1
        if frame.is_mapping:
            self.deliver_to_mapping(frame, value)
            return
        if frame.merges is not None:
            if not isinstance(value, Collection) or value.entries is None:
                raise Unreadable("a merge (<<) takes a mapping or a list of mappings")
            frame.merges.append(value)
        else:
            collection.elements.append(value)
        collection.unfit = collection.unfit or unfit_value(value)

    def deliver_to_mapping(self, frame: _Frame, value: Value) -> None:
        """Take a key, the value for it, or the source of a merge."""
        collection = frame.collection
        entries = collection.entries
        if frame.awaits_key:
            if isinstance(value, Collection | Object | list):
                raise Unreadable("a mapping or a list cannot be a key")
            frame.key = value
            frame.awaits_key = False
            return
        frame.awaits_key = True
        if frame.merging:
            if not isinstance(value, Collection) or value.entries is None:
                raise Unreadable("a merge (<<) takes a mapping or a list of mappings")
            _merge(collection, value)
            frame.merging = False
        elif entries is not None:
            entries[frame.key] = value
            if _unfit_key(frame.key) or unfit_value(value):
                collection.suspect = True


def _merge(target: Collection, source: Collection) -> None:
    """Override what `target` holds so far: in go-yaml the later wins, be it a key of its own or a merged one."""
    if target.entries is not None and source.entries is not None:
        target.entries.update(source.entries)
    target.suspect = target.suspect or source.suspect
    target.depth = max(target.depth, source.depth)


def _surviving_unfit(entries: Mapping[Scalar, Value]) -> str | None:
    for key, value in entries.items():
        if reason := _unfit_key(key) or unfit_value(value):
            return reason
    return None
