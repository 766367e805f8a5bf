"""The fields of a pod that are looked at, and pages of pods read for these alone. Pure.

Everything else of a pod is skipped while its JSON is read, which takes a tenth of the time and of the memory of
reading it whole. What has not this shape is told apart from the other pods, never guessed at.

>>> page_of(b'{"metadata": {}, "items": [{"metadata": {"name": "a", "uid": "1"}, "status": {}}]}').pods
[{'metadata': {'name': 'a'}}]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Required, TypedDict

import msgspec

from reconciler import bounded_json
from reconciler.printable import printable
from reconciler.registration.identity import Manifest


class _Owner(TypedDict, total=False):
    kind: str | None
    name: str | None
    controller: bool | None


# What `origin` looks at.
_Context = TypedDict("_Context", {"f:seccompProfile": dict[str, Any] | None}, total=False)
_ManagedSpec = TypedDict("_ManagedSpec", {"f:securityContext": _Context | None}, total=False)
_Fields = TypedDict("_Fields", {"f:spec": _ManagedSpec | None}, total=False)


class _Managed(TypedDict, total=False):
    fieldsV1: _Fields | None


class _Metadata(TypedDict, total=False):
    name: Required[str]
    namespace: str | None
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    creationTimestamp: str | None
    ownerReferences: list[_Owner] | None
    # As they are: a user can send almost anything here, and it must not hide the pod.
    managedFields: msgspec.Raw


class _Profile(TypedDict, total=False):
    type: str | None
    localhostProfile: str | None


class _SecurityContext(TypedDict, total=False):
    privileged: bool | None
    seccompProfile: _Profile | None


class _Container(TypedDict, total=False):
    name: Required[str]
    restartPolicy: str | None
    securityContext: _SecurityContext | None


class _OperatingSystem(TypedDict, total=False):
    name: str | None


class _Spec(TypedDict, total=False):
    os: _OperatingSystem | None
    securityContext: _SecurityContext | None
    initContainers: list[_Container] | None
    containers: list[_Container] | None
    ephemeralContainers: list[_Container] | None


class _Pod(TypedDict, total=False):
    metadata: Required[_Metadata]
    spec: _Spec | None


_ListMetadata = TypedDict("_ListMetadata", {"continue": str | None}, total=False)


class _List(TypedDict, total=False):
    metadata: Required[_ListMetadata]
    items: list[_Pod] | None


# Pods that a sentence names.
_NAMED: Final = 3
_MANAGED: Final = msgspec.json.Decoder(list[_Managed])
_LIST: Final = msgspec.json.Decoder(_List)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its pods, what has not the shape of one, and where the next page begins (empty: nowhere).

    `unreadable` names each such pod and its field: "shoot--a/api: Expected `object`, got `int` - at `$.spec`".
    """

    pods: list[Manifest]
    unreadable: tuple[str, ...]
    following: str


def page_of(text: bytes) -> Page:
    """Return what a page of a list of pods holds; ValueError where it is no list."""
    try:
        found: Mapping[str, Any] = _LIST.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _page_by_pod(bounded_json.loads(text))
    pods = found.get("items") or []
    for pod in pods:
        if (raw := pod["metadata"].get("managedFields")) is not None:
            pod["metadata"]["managedFields"] = _managed(raw)
    return Page(pods, (), found["metadata"].get("continue") or "")


def _page_by_pod(page: object) -> Page:
    """Return the same, each pod by itself: one is nested too deeply to be read at once, or has another shape."""
    if not isinstance(page, dict) or not isinstance(page.get("metadata"), dict):
        raise ValueError("no list")  # noqa: TRY004 - as when it is no JSON
    items = page.get("items") or []
    if not isinstance(items, list):
        raise ValueError("no list of objects")  # noqa: TRY004 - likewise
    pods, unreadable = [], []
    for index, item in enumerate(items):
        try:
            pods.append(pod_of(item))
        except ValueError as error:
            unreadable.append(f"{_named(item) or f'item {index}'}: {error}")
    return Page(pods, tuple(unreadable), str(page["metadata"].get("continue") or ""))


def pod_of(value: object) -> Manifest:
    """Return the fields that are looked at of a decoded pod; ValueError says which field has another shape."""
    managed = None
    if isinstance(value, dict) and isinstance(metadata := value.get("metadata"), dict):
        managed = metadata.get("managedFields")
        value = {**value, "metadata": {key: metadata[key] for key in metadata if key != "managedFields"}}
    found: Manifest = msgspec.convert(value, _Pod)
    if managed is not None:
        found["metadata"]["managedFields"] = _managed(managed)
    try:
        msgspec.json.encode(found)
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair, which is no character") from error
    return found


def _managed(value: object) -> list[_Managed]:
    """Return of managedFields what is looked at; nothing where they have another shape."""
    try:
        if isinstance(value, msgspec.Raw):
            return _MANAGED.decode(value)
        return msgspec.convert(value, list[_Managed])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return []


def unreadable(found: Sequence[str]) -> str:
    """Return the sentence about the pods of `Page.unreadable`."""
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{len(found)} pods cannot be judged: {'; '.join(found[:_NAMED])}{more}"


def _named(item: object) -> str:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        return ""
    return printable(f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}")
