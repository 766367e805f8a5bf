"""Whether the kubelet's own default makes the gate redundant, for each worker pool of the Shoot behind a seed. Pure.

Example: with `spec.kubernetes.kubelet.seccompDefault: true` and a worker whose own `kubernetes.kubelet` says only
`maxPods: 50`, that worker's default is off: its kubelet section replaces the shoot's, nothing is merged.

Sources, gardener at b312835d: pkg/api/core/v1beta1/helper/shoot.go (CalculateEffectiveKubeletConfiguration,
CalculateEffectiveKubernetesVersion), pkg/component/extensions/operatingsystemconfig/operatingsystemconfig.go
(newDeployer), docs/usage/security/default_seccomp_profile.md. The default needs the kubelet's feature gate
SeccompDefault, which is on by default from Kubernetes 1.25.
"""

import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from reconciler.errors import InvalidConfigurationError
from reconciler.registration import manifests
from reconciler.registration.identity import Manifest

GROUP: Final = "core.gardener.cloud"
KIND: Final = "Shoot"
# Major and minor version from which on the kubelet knows seccompDefault without a feature gate.
_FIRST: Final = (1, 25)
_VERSION: Final = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(\.|$)")
_MOST_NAMED: Final = 5
DIFFERENCES: Final = (
    "a pod's seccompProfile stays empty: PodSecurity restricted refuses the pod, and audits (this one too) miss it",
    "it covers every pod of the node, other namespaces and the skip label included; an explicit Unconfined stays",
    "containers that were started before it was switched on stay Unconfined until they are started again",
    "privileged containers stay Unconfined, as they do with the gate",
)


class Default(StrEnum):
    """Whether the kubelets of a pool run a container without a profile as RuntimeDefault."""

    ON = "on"
    OFF = "off"
    MIXED = "mixed"
    NOT_KNOWN = "not-known"


class Need(StrEnum):
    """Whether the gate is needed beside the kubelet's default."""

    REDUNDANT = "redundant"
    NEEDED = "needed"
    FOR_POOLS = "needed-for-pools"
    NOT_KNOWN = "not-known"


@dataclass(frozen=True, slots=True)
class Pool:
    """One worker pool; `source` is the field of the Shoot that decides, or why it does not count."""

    name: str
    version: str
    default: Default
    source: str


@dataclass(frozen=True, slots=True)
class Kubelets:
    """The worker pools of one Shoot. `is_pending`: its specification is newer than what was rolled out."""

    namespace: str
    name: str
    pools: tuple[Pool, ...]
    is_pending: bool = False

    @property
    def default(self) -> Default:
        """The default of all pools together."""
        found = {pool.default for pool in self.pools}
        if len(found) == 1:
            return found.pop()
        return Default.NOT_KNOWN if found == {Default.ON, Default.NOT_KNOWN} else Default.MIXED

    @property
    def need(self) -> Need:
        """Whether the gate is needed."""
        match self.default:
            case Default.ON:
                return Need.REDUNDANT
            case Default.OFF:
                return Need.NEEDED
            case Default.MIXED:
                return Need.FOR_POOLS
        return Need.NOT_KNOWN

    @property
    def needed_for(self) -> tuple[str, ...]:
        """The names of the pools whose default is off or not known."""
        return tuple(pool.name for pool in self.pools if pool.default is not Default.ON)

    def __str__(self) -> str:
        where = f"{len(self.pools)} worker pools of shoot {self.namespace}/{self.name}"
        match self.need:
            case Need.REDUNDANT:
                return f"The gate is redundant: the kubelet's default is on in all {where}."
            case Need.NEEDED:
                return f"The gate is needed: the kubelet's default is off in all {where}."
            case Need.FOR_POOLS:
                return f"The gate is needed for {len(self.needed_for)} of {where}: {', '.join(self.needed_for)}."
        named = ", ".join(pool.name for pool in self.pools if pool.default is Default.NOT_KNOWN)
        return f"Whether the gate is needed is not known: the kubelet's default is not, for {named} of {where}."


class _Partial(BaseModel):
    """What is looked at of a Shoot; the rest is Gardener's business."""

    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel)


# Names and versions are printed: nothing else than the API server takes may be in them.
_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+-]{1,253}$")]


class _Kubelet(_Partial):
    seccomp_default: bool | None = None


class _WorkerKubernetes(_Partial):
    kubelet: _Kubelet | None = None
    version: _Word | None = None


class _Worker(_Partial):
    name: _Word
    kubernetes: _WorkerKubernetes | None = None


class _Provider(_Partial):
    workers: list[_Worker] | None = None


class _Kubernetes(_Partial):
    version: _Word
    kubelet: _Kubelet | None = None


class _Spec(_Partial):
    kubernetes: _Kubernetes
    provider: _Provider


class _Metadata(_Partial):
    name: _Word
    namespace: _Word | None = None
    generation: int | None = None


class _Status(_Partial):
    observed_generation: int | None = None


class _Shoot(_Partial):
    metadata: _Metadata
    spec: _Spec
    status: _Status | None = None


def parse(content: bytes, *, origin: str) -> Kubelets:
    """Return what the one Shoot in `content` says: YAML or JSON, also a List; InvalidConfigurationError otherwise."""
    found = list(_objects(manifests.documents(content, origin), origin))
    shoots = [(place, one) for place, one in found if one.get("kind") == KIND]
    if len(shoots) != 1:
        others = shoots or found
        names = ", ".join(_named(one) for _, one in others[:_MOST_NAMED]) + (", ..." if others[_MOST_NAMED:] else "")
        raise InvalidConfigurationError(
            f"{origin}: expected one {KIND} of {GROUP}, found {len(shoots) or 'none'}{f' ({names})' if names else ''}; "
            "give what `kubectl --namespace garden get shoot NAME --output yaml` prints for the seed's own Shoot"
        )
    place, shoot = shoots[0]
    return of_shoot(shoot, origin=place)


def of_shoot(shoot: Manifest, *, origin: str) -> Kubelets:
    """Return what `shoot` says; InvalidConfigurationError, which names `origin` and the field, where it is none."""
    group = str(shoot.get("apiVersion") or GROUP).partition("/")[0]
    if group != GROUP:
        raise InvalidConfigurationError(f"{origin}: a {KIND} of {group[:60]!a}, expected one of {GROUP}")
    try:
        read = _Shoot.model_validate(shoot)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        wrong = "" if first["type"] == "missing" else f", got {reprlib.repr(first['input'])}"
        raise InvalidConfigurationError(f"{origin}: {path}: {first['msg']}{wrong}; expected a {KIND}") from error
    workers = read.spec.provider.workers or ()
    if not workers:
        raise InvalidConfigurationError(
            f"{origin}: spec.provider.workers: a Shoot without worker pools is no seed; give the seed's own Shoot"
        )
    pools = tuple(_pool(index, worker, read.spec.kubernetes) for index, worker in enumerate(workers))
    observed = None if read.status is None else read.status.observed_generation
    generation = read.metadata.generation
    is_pending = generation is not None and observed is not None and observed < generation
    return Kubelets(read.metadata.namespace or "default", read.metadata.name, pools, is_pending)


def _pool(index: int, worker: _Worker, shoot: _Kubernetes) -> Pool:
    own = worker.kubernetes
    version = (own.version if own else None) or shoot.version
    if own is not None and own.kubelet is not None:
        kubelet, source = own.kubelet, f"spec.provider.workers[{index}].kubernetes.kubelet"
    else:
        kubelet, source = shoot.kubelet or _Kubelet(), "spec.kubernetes.kubelet"
    if not kubelet.seccomp_default:
        word = "false" if kubelet.seccomp_default is False else "not set"
        return Pool(worker.name, version, Default.OFF, f"{source}.seccompDefault: {word}")
    if (match := _VERSION.match(version)) is None:
        return Pool(worker.name, version, Default.NOT_KNOWN, f"{source}.seccompDefault: true, version not readable")
    if (int(match[1]), int(match[2])) < _FIRST:
        return Pool(worker.name, version, Default.OFF, f"{source}.seccompDefault: true, but Kubernetes before 1.25")
    return Pool(worker.name, version, Default.ON, f"{source}.seccompDefault: true")


def _objects(documents: Iterable[object], origin: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects, lists taken apart; the items of a ShootList may say no kind."""
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        place = f"{origin}, document {number}"
        if not isinstance(document, dict):
            raise InvalidConfigurationError(f"{place}: expected a {KIND}, got {reprlib.repr(document)}")
        kind = document.get("kind")
        if not isinstance(kind, str) or not kind.endswith("List"):
            yield place, document
            continue
        items = document.get("items") or []
        if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
            raise InvalidConfigurationError(f"{place}: items: expected a list of objects, got {reprlib.repr(items)}")
        within = {"kind": kind.removesuffix("List")} if kind != "List" else {}
        yield from ((f"{place}, item {index}", {**within, **one}) for index, one in enumerate(items))


def _named(one: Manifest) -> str:
    metadata = one.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else ""
    return ascii(f"{one.get('kind')!s:.60}/{name!s:.60}").strip("'")
