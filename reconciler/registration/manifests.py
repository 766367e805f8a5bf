"""Manifests for the linter: bytes become objects, checked as far as they are looked at, and these subjects. Pure.

Whatever kind is of no interest here is passed over, so that the whole output of a chart can be given.
"""

import json
import re
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from reconciler import bounded_json
from reconciler.bounded_yaml import refuse_depth
from reconciler.errors import InvalidConfigurationError
from reconciler.registration.identity import Manifest
from reconciler.registration.subjects import WORKLOADS, Subject, completed, expected, recognised
from reconciler.settings import DeploymentReference, LabelSelector, ReconcilerConfiguration

# A large chart has one MiB, a list of a few thousand pods has the rest.
MAX_BYTES: Final = 64 * 1024 * 1024
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_REGISTRATION: Final = "MutatingWebhookConfiguration"


class _Partial(BaseModel):
    """What is looked at of an object; the rest is the API server's business."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class _Owner(_Partial):
    kind: str
    name: str | None = None


class _Metadata(_Partial):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    owner_references: list[_Owner] | None = None


class _Profile(_Partial):
    type: str | None = None
    localhost_profile: str | None = None


class _SecurityContext(_Partial):
    seccomp_profile: _Profile | None = None
    privileged: bool | None = None


class _Container(_Partial):
    name: str
    restart_policy: str | None = None
    security_context: _SecurityContext | None = None


class _OperatingSystem(_Partial):
    name: str | None = None


class _PodSpec(_Partial):
    os: _OperatingSystem | None = None
    security_context: _SecurityContext | None = None
    init_containers: list[_Container] | None = None
    containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None


class _Pod(_Partial):
    metadata: _Metadata | None = None
    spec: _PodSpec | None = None


class _Templated(_Partial):
    template: _Pod | None = None


class _Job(_Partial):
    spec: _Templated | None = None


class _CronJobSpec(_Partial):
    job_template: _Job | None = None


class _CronJob(_Partial):
    spec: _CronJobSpec | None = None


class _ServiceSpec(_Partial):
    selector: dict[str, str] | None = None


class _Service(_Partial):
    spec: _ServiceSpec | None = None


class _Condition(_Partial):
    name: str
    expression: str


class _Rule(_Partial):
    api_groups: list[str] | None = None
    api_versions: list[str] | None = None
    operations: list[str] | None = None
    resources: list[str] | None = None
    scope: str | None = None


class _Entry(_Partial):
    name: str
    namespace_selector: LabelSelector | None = None
    object_selector: LabelSelector | None = None
    match_conditions: list[_Condition] | None = None
    rules: list[_Rule] | None = None


class _Registration(_Partial):
    metadata: _Metadata | None = None
    webhooks: list[_Entry] | None = None


class _Object(_Partial):
    metadata: _Metadata


_SHAPES: Final[dict[str, type[_Partial]]] = {
    **dict.fromkeys(WORKLOADS, _Job),
    "CronJob": _CronJob,
    "PodTemplate": _Templated,
    "Pod": _Pod,
    "Namespace": _Object,
    "Service": _Service,
    _REGISTRATION: _Registration,
}


class _Loader(yaml.CSafeLoader):
    """YAML as PyYAML reads it, but a date stays a text, as it is to kubectl."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def parse(content: bytes, *, origin: str) -> tuple[Manifest, ...]:
    """Return the objects of interest in `content`: JSON or YAML of any number of documents, lists taken apart.

    InvalidConfigurationError names `origin`, the document and the field.
    """
    found = []
    # JSON may hold half of a surrogate pair, YAML may not.
    is_suspect = _SURROGATE.search(content) is not None
    for place, one in _objects(documents(content, origin), origin):
        check(one, place)
        if is_suspect and not _is_text(one):
            raise InvalidConfigurationError(f"{place}: expected text, got half of a surrogate pair, such as \\ud800")
        found.append(one)
    return tuple(found)


def check(one: Manifest, place: str) -> None:
    """Raise InvalidConfigurationError, which names `place` and the field, where `one` has not the shape of its kind."""
    try:
        _Object.model_validate(one)
        _SHAPES[one["kind"]].model_validate(one)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidConfigurationError(f"{place}: {path}: {message}, got {reprlib.repr(first['input'])}") from error


def _is_text(one: Manifest) -> bool:
    try:
        json.dumps(one, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True


def documents(content: bytes, origin: str) -> list[Any]:
    """Return the documents; Any: they may hold whatever YAML can."""
    if len(content) > MAX_BYTES:
        raise InvalidConfigurationError(f"{origin}: larger than {MAX_BYTES} bytes, which is the most that is read")
    try:
        if content.lstrip().startswith(b"{"):
            try:
                return [bounded_json.loads(content)]
            except ValueError:
                pass  # YAML may begin so too
        refuse_depth(content)
        return list(yaml.load_all(content, Loader=_Loader))
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML stumbles over a scalar that does not fit its tag, such as !!int "".
        raise InvalidConfigurationError(f"{origin}: not readable as YAML or JSON: {error}") from error


def _objects(documents: list[Any], origin: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        place = f"{origin}, document {number}"
        kind = _kind(document, place)
        if not kind.endswith("List"):
            items, within = [document], ""
        elif isinstance(document.get("items") or [], list):
            items, within = document.get("items") or [], kind.removesuffix("List")
        else:
            raise InvalidConfigurationError(f"{place}: items: expected a list of objects in a {kind}")
        for index, item in enumerate(items):
            where = place if item is document else f"{place}, item {index}"
            # Items of a list that comes straight from the API server say no kind.
            one = {"kind": within, **item} if within and isinstance(item, dict) else item
            if _kind(one, where) in _SHAPES:
                yield f"{where} ({one['kind']})", one


def _kind(document: object, place: str) -> str:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise InvalidConfigurationError(
            f"{place}: expected a Kubernetes object with a kind, got {reprlib.repr(document)}"
        )
    return str(document["kind"])


def registration_in(objects: Iterable[Manifest], webhook_name: str) -> Manifest | None:
    """Return the entries of that name as one MutatingWebhookConfiguration; None where `objects` hold no such object.

    InvalidConfigurationError where all its entries have other names.
    """
    standing = [one for one in objects if one["kind"] == _REGISTRATION]
    entries = [entry for one in standing for entry in one.get("webhooks") or ()]
    ours = [entry for entry in entries if entry["name"] == webhook_name]
    if entries and not ours:
        names = ", ".join(dict.fromkeys(entry["name"] for entry in entries))
        raise InvalidConfigurationError(
            f"expected a webhook {webhook_name} in the manifests, found {names}: "
            "set registration.webhookName to the one that is to be judged"
        )
    return {"kind": _REGISTRATION, "webhooks": ours} if standing else None


def subjects_in(objects: Iterable[Manifest], settings: ReconcilerConfiguration) -> tuple[Subject, ...]:
    """Return the subjects among `objects`, with the labels of their namespaces, and the built-in ones for the rest."""
    objects = tuple(objects)
    service = settings.registration.backend.service
    # A chart may leave the namespace to the one who installs it.
    near = (None, service.namespace) if service else ()
    selector: Manifest = {}
    for one in objects:
        if one["kind"] == "Service" and service and one["metadata"].get("name") == service.name and _in(one, near):
            selector = (one.get("spec") or {}).get("selector") or {}
    found = [recognised(one, server=selector if _in(one, near) else {}) for one in objects]
    namespaces = {
        one["metadata"].get("name") or "": one["metadata"].get("labels") or {}
        for one in objects
        if one["kind"] == "Namespace"
    }
    built_in = expected(
        settings.registration,
        settings.proof,
        own_namespace=settings.leader_election.namespace,
        gardenlet_namespace=(settings.gardenlet_configuration.deployment or DeploymentReference()).namespace,
    )
    return completed((one for one in found if one is not None), built_in, namespaces)


def _in(one: Manifest, namespaces: tuple[str | None, ...]) -> bool:
    return one["metadata"].get("namespace") in namespaces
