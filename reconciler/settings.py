"""ReconcilerConfiguration: everything an operator can tune, with every default in this one place.

Bytes come in, a frozen model goes out, or an InvalidConfigurationError that names each wrong path and what is allowed
there. No I/O and no import of kubernetes enters here.
"""

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from reconciler import durations
from reconciler.bounded_yaml import refuse_depth
from reconciler.errors import InvalidConfigurationError

API_VERSION: Final = "seccomp-reconciler.config.gardener.cloud/v1alpha1"
KIND: Final = "ReconcilerConfiguration"
MAX_SETTINGS_BYTES: Final = 1024 * 1024  # a ConfigMap holds no more

_LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"


def _checked(pattern: str, longest: int, allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > longest or not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not allowed: expected {allowed}")
        return value

    return AfterValidator(check)


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is no duration: write a text such as "100ms", "15s" or "10m"')  # noqa: TRY004 - pydantic reports ValueError
    return durations.parse(value)


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    good_prefix = not slash or (len(prefix) <= 253 and re.fullmatch(_SUBDOMAIN, prefix))  # noqa: PLR2004 - RFC 1123
    if not good_prefix or not re.fullmatch(_LABEL_NAME, name):
        raise ValueError(f"{value!r} is no label key: expected name or dns.prefix/name, the name at most 63 characters")
    return value


def _server_name(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(rf"(\*\.)?{_SUBDOMAIN}", value) or len(value) > 253:  # noqa: PLR2004 - RFC 1123
            raise ValueError(f"{value!r} is not allowed: expected a DNS name or an IP address") from None
    return value


Seconds = Annotated[float, BeforeValidator(_duration)]
# Source: RBAC names are path segments: they may hold ':' and upper-case letters.
RoleName = Annotated[
    str, _checked(r"([^/%.\s][^/%\s]*)?", 253, "the name of a ClusterRole, without '/' and '%', or empty")
]
Subdomain = Annotated[str, _checked(_SUBDOMAIN, 253, "a DNS-1123 subdomain: lower-case letters, digits, '-' and '.'")]
DNSLabel = Annotated[
    str, _checked(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", 63, "a DNS-1123 label: lower-case letters, digits and '-'")
]
WebhookName = Annotated[
    str, _checked(rf"(?=[^.]+\.[^.]+\.[^.]+){_SUBDOMAIN}", 253, "a qualified DNS name with at least three segments")
]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[
    str, _checked(rf"({_LABEL_NAME})?", 63, "a label value: at most 63 letters, digits, '-', '_' and '.'")
]
ServerName = Annotated[str, AfterValidator(_server_name)]
URLPath = Annotated[str, _checked(r"/[^\s?#]*", 1024, "an absolute URL path, such as /webhooks/seccomp-profile")]
DataKey = Annotated[str, _checked(r"[-._a-zA-Z0-9]+", 253, "a key of a Secret or ConfigMap")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class FailurePolicy(StrEnum):
    """What the API server does with a pod when the webhook cannot be called; Adaptive follows the proof."""

    ADAPTIVE = "Adaptive"
    FAIL = "Fail"
    IGNORE = "Ignore"


class Ramp(StrEnum):
    """How Fail is reached: after a proof, or at once."""

    ON_PROOF = "OnProof"
    NEVER = "Never"


class OnTwin(StrEnum):
    """What is done where gardenlet's own entry stands: register ours beside it, or leave registration to it."""

    BESIDE = "Beside"
    DEFER = "Defer"


class ReinvocationPolicy(StrEnum):
    """Whether the API server may call the webhook again after another one changed the pod."""

    NEVER = "Never"
    IF_NEEDED = "IfNeeded"


class Operator(StrEnum):
    """Operators of a label selector's requirement."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


def _enum(kind: type[StrEnum]) -> BeforeValidator:
    """Strict mode takes no plain text for an enum; a configuration holds nothing else."""

    def convert(value: object) -> object:
        if isinstance(value, str) and value in list(kind):
            return kind(value)
        raise ValueError(f"{value!r} is not allowed: expected one of {', '.join(kind)}")

    return BeforeValidator(convert)


class Requirement(_Model):
    """One term of a label selector. Source: metav1.LabelSelectorRequirement."""

    key: LabelKey
    operator: Annotated[Operator, _enum(Operator)]
    values: Annotated[tuple[LabelValue, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        if (self.operator in (Operator.IN, Operator.NOT_IN)) != bool(self.values):
            raise ValueError("In and NotIn need values, Exists and DoesNotExist have none")
        return self


class LabelSelector(_Model):
    """A label selector; all of its terms must hold. Source: metav1.LabelSelector."""

    match_labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    match_expressions: Annotated[tuple[Requirement, ...], Field(strict=False)] = ()


class ObjectKey(_Model):
    """One key of a Secret or ConfigMap."""

    namespace: DNSLabel = "garden"
    name: Subdomain
    key: DataKey


class CAKey(ObjectKey):
    """The key of a Secret or ConfigMap that holds PEM certificates of the backend's CA."""

    name: Subdomain = "seccomp-reconciler-tls"
    key: DataKey = "ca.crt"


class CASecret(CAKey):
    """A Secret that somebody else writes; certificates that it no longer holds stay trusted for `overlap`."""

    overlap_seconds: Annotated[Seconds, Field(gt=0, alias="overlap")] = 600.0


class DocumentKey(ObjectKey):
    """The key of a ConfigMap that holds the GardenletConfiguration."""

    key: DataKey = "config.yaml"


class DeploymentReference(_Model):
    """The Deployment whose pods mount the ConfigMap with the GardenletConfiguration."""

    namespace: DNSLabel = "garden"
    name: Subdomain = "gardenlet"


def _exactly_one(model: BaseModel) -> None:
    chosen = [name for name in type(model).model_fields if getattr(model, name) is not None]
    if len(chosen) != 1:
        names = ", ".join(field.alias or name for name, field in type(model).model_fields.items())
        raise ValueError(f"expected exactly one of {names}")


class GardenletConfigurationSource(_Model):
    """Where the GardenletConfiguration is read from: exactly one of the three."""

    file: Annotated[str, Field(min_length=1)] | None = None
    config_map: DocumentKey | None = None
    deployment: DeploymentReference | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self)
        return self


class ServiceBackend(_Model):
    """The Service in front of the webhook server."""

    namespace: DNSLabel = "garden"
    name: DNSLabel = "seccomp-reconciler"
    port: Annotated[int, Field(ge=1, le=65535)] = 443
    path: URLPath = "/webhooks/seccomp-profile"


def _webhook_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"{value!r} is no URL: {error}") from error
    if parts.scheme != "https" or not parts.hostname or not port_is_valid:
        raise ValueError(f"{value!r} is not allowed: expected https://host[:port]/path")
    if not parts.hostname.isascii():
        raise ValueError(f"{value!r} is not allowed: expected an ASCII host, an international one as xn--...")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            f"{value!r} is not allowed: the API server takes no user, query or fragment in a webhook's URL"
        )
    return value


class Backend(_Model):
    """Who answers the webhook: a Service or a URL, exactly one."""

    service: ServiceBackend | None = None
    url: Annotated[str, AfterValidator(_webhook_url)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self)
        return self


class SelfSigned(_Model):
    """Certificates that the reconciler issues and rotates itself, in two Secrets; durations are kept in seconds."""

    namespace: DNSLabel = "garden"
    authority_secret: Subdomain = "seccomp-reconciler-ca"  # noqa: S105 - a name
    serving_secret: Subdomain = "seccomp-reconciler-tls"  # noqa: S105 - likewise
    extra_names: Annotated[tuple[ServerName, ...], Field(strict=False)] = ()
    authority_lifetime_seconds: Annotated[Seconds, Field(gt=0, alias="authorityLifetime")] = 365 * 24 * 3600.0
    serving_lifetime_seconds: Annotated[Seconds, Field(gt=0, alias="servingLifetime")] = 30 * 24 * 3600.0
    overlap_seconds: Annotated[Seconds, Field(gt=0, alias="overlap")] = 24 * 3600.0
    propagation_seconds: Annotated[Seconds, Field(gt=0, alias="propagation")] = 120.0

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.authority_secret == self.serving_secret:
            raise ValueError("authoritySecret and servingSecret must differ: the server mounts the second alone")
        # A third of each life is left when its renewal begins: the rotation must fit into it.
        waits = 3 * (2 * self.propagation_seconds + self.overlap_seconds)
        if self.authority_lifetime_seconds < waits:
            raise ValueError(
                f"authorityLifetime must be at least {durations.render(waits)}: 3 (2 propagation + overlap)"
            )
        if not 3 * self.propagation_seconds <= self.serving_lifetime_seconds <= self.authority_lifetime_seconds:
            raise ValueError("servingLifetime must lie between 3 propagation and authorityLifetime")
        return self


class CASource(_Model):
    """Where the caBundle comes from: exactly one. `inline` is the PEM text itself."""

    self_signed: SelfSigned | None = None
    file: Annotated[str, Field(min_length=1)] | None = None
    secret: CASecret | None = None
    config_map: CAKey | None = None
    inline: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self)
        return self


def _default_namespace_selector() -> LabelSelector:
    return LabelSelector(match_expressions=(Requirement(key="gardener.cloud/role", operator=Operator.EXISTS),))


class Registration(_Model):
    """What the MutatingWebhookConfiguration says. Source of the defaults: the entry that gardenlet itself registers."""

    name: Subdomain = "seccomp-reconciler"
    webhook_name: WebhookName = "seccomp-profile.resources.gardener.cloud"
    namespace_selector: LabelSelector = Field(default_factory=_default_namespace_selector)
    excluded_namespaces: Annotated[tuple[DNSLabel, ...], Field(strict=False)] = ()
    skip_label: LabelKey = "seccompprofile.resources.gardener.cloud/skip"
    own_app_name: LabelValue = "seccomp-reconciler"
    failure_policy: Annotated[FailurePolicy, _enum(FailurePolicy)] = FailurePolicy.ADAPTIVE
    ramp: Annotated[Ramp, _enum(Ramp)] = Ramp.ON_PROOF
    on_twin: Annotated[OnTwin, _enum(OnTwin)] = OnTwin.BESIDE
    twin_name: Subdomain = "gardener-resource-manager"
    # The ClusterRole that owns the object: with it the garbage collector removes the registration. Empty: no owner.
    owner_cluster_role: RoleName = "seccomp-reconciler-create"
    timeout_seconds: Annotated[int, Field(ge=1, le=15)] = 10
    reinvocation_policy: Annotated[ReinvocationPolicy, _enum(ReinvocationPolicy)] | None = None
    skip_typed_pods: bool = True
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelKey, str] = Field(default_factory=dict)
    backend: Backend = Backend(service=ServiceBackend())
    ca: CASource = CASource(self_signed=SelfSigned())

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.ramp is Ramp.NEVER and self.failure_policy is not FailurePolicy.FAIL:
            raise ValueError("ramp: Never goes with failurePolicy: Fail alone")
        if self.name == self.twin_name:
            raise ValueError("name and twinName must differ: gardenlet owns that object")
        return self


class Adaptive(_Model):
    """When failurePolicy Adaptive is raised to Fail and lowered to Ignore; durations are kept in seconds."""

    proofs: Annotated[int, Field(ge=1, le=100)] = 3
    soak_seconds: Annotated[Seconds, Field(ge=0, alias="soak")] = 30.0
    longest_soak_seconds: Annotated[Seconds, Field(ge=0, alias="longestSoak")] = 1800.0
    loss_tolerance_seconds: Annotated[Seconds, Field(ge=1, alias="lossTolerance")] = 60.0
    floor_seconds: Annotated[Seconds, Field(ge=0, alias="floor")] = 10.0
    calm_seconds: Annotated[Seconds, Field(gt=0, alias="calm")] = 3600.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.longest_soak_seconds < self.soak_seconds:
            raise ValueError("longestSoak must not be shorter than soak")
        return self


class Conflicts(_Model):
    """When another writer changes the same fields back again and again: how often is too often, and the waits then."""

    repeats: Annotated[int, Field(ge=1)] = 3
    initial_seconds: Annotated[Seconds, Field(ge=1, alias="initial")] = 180.0
    maximum_seconds: Annotated[Seconds, Field(ge=1, alias="maximum")] = 900.0
    memory_seconds: Annotated[Seconds, Field(ge=1, alias="memory")] = 2700.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.initial_seconds <= self.maximum_seconds < self.memory_seconds:
            raise ValueError("expected initial <= maximum < memory")
        return self


class LeaderElection(_Model):
    """Who of several reconcilers writes: the holder of a Lease of our own; durations are kept in seconds."""

    enabled: bool = True
    namespace: DNSLabel = "garden"
    name: Subdomain = "seccomp-reconciler"
    lease_duration_seconds: Annotated[Seconds, Field(ge=1, alias="leaseDuration")] = 15.0
    renew_deadline_seconds: Annotated[Seconds, Field(gt=0, alias="renewDeadline")] = 10.0
    retry_period_seconds: Annotated[Seconds, Field(gt=0, alias="retryPeriod")] = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 2 * self.retry_period_seconds < self.renew_deadline_seconds < self.lease_duration_seconds:
            raise ValueError("expected 2 retryPeriod < renewDeadline < leaseDuration")
        return self


class Backoff(_Model):
    """Waits between failed tries: exponential with full jitter between the two."""

    initial: Annotated[Seconds, Field(gt=0, alias="initial")] = 0.1
    maximum: Annotated[Seconds, Field(gt=0, alias="maximum")] = 60.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.initial > self.maximum:
            raise ValueError("initial must not be longer than maximum")
        return self


class GardenSource(_Model):
    """A ManagedSeed in the garden cluster: the kubeconfig's file, and its name in the namespace `garden`."""

    kubeconfig: Annotated[str, Field(min_length=1)]
    managed_seed: Subdomain


class ShootSource(_Model):
    """Where the Shoot behind the ManagedSeed is read from: exactly one of the two."""

    file: Annotated[str, Field(min_length=1)] | None = None
    garden: GardenSource | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self)
        return self


class ManagedSeed(_Model):
    """The ManagedSeed that this seed is; without `shoot` nothing is known of its kubelets."""

    shoot: ShootSource | None = None


class Proof(_Model):
    """How the path through the API server is proved: dry-run pods in a namespace of its own."""

    namespace: DNSLabel = "seccomp-canary"
    period_seconds: Annotated[Seconds, Field(ge=1, alias="period")] = 60.0


class ReconcilerConfiguration(_Model):
    """The reconciler's own configuration file; durations are kept in seconds."""

    api_version: Literal["seccomp-reconciler.config.gardener.cloud/v1alpha1"] = API_VERSION
    kind: Literal["ReconcilerConfiguration"] = KIND
    gardenlet_configuration: GardenletConfigurationSource = GardenletConfigurationSource(
        file="/etc/gardenlet/config/config.yaml"
    )
    registration: Registration = Registration()
    proof: Proof = Proof()
    adaptive: Adaptive = Adaptive()
    conflicts: Conflicts = Conflicts()
    leader_election: LeaderElection = LeaderElection()
    managed_seed: ManagedSeed = ManagedSeed()
    resync_period_seconds: Annotated[Seconds, Field(ge=10, alias="resyncPeriod")] = 600.0
    request_timeout_seconds: Annotated[Seconds, Field(ge=1, le=300, alias="requestTimeout")] = 15.0
    backoff: Backoff = Backoff()


class _UniqueKeyLoader(yaml.CSafeLoader):
    """YAML as PyYAML reads it, but a repeated key is an error instead of a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature; Any: keys are whatever YAML holds
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(document: bytes, *, origin: str) -> ReconcilerConfiguration:
    """Return the configuration in `document`; raises InvalidConfigurationError naming `origin` and every wrong path."""
    if len(document) > MAX_SETTINGS_BYTES:
        raise InvalidConfigurationError(f"{origin}: {len(document)} bytes, expected at most {MAX_SETTINGS_BYTES}")
    try:
        refuse_depth(document)
        content = yaml.load(document, Loader=_UniqueKeyLoader)  # noqa: S506 - a subclass of CSafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidConfigurationError(f"{origin}: not readable as YAML: {error}") from error
    if isinstance(content, dict):
        _check_type(content, origin)
    if not isinstance(content, dict) or "kind" not in content or "apiVersion" not in content:
        raise InvalidConfigurationError(
            f"{origin}: expected a document with apiVersion: {API_VERSION} and kind: {KIND}"
        )
    try:
        return ReconcilerConfiguration.model_validate(content)
    except ValidationError as error:
        raise InvalidConfigurationError(f"{origin}: {_explain(error)}") from error


# What carries a GardenletConfiguration, by group. settings.py imports nothing of the packages that read it.
_GARDENLET_GROUPS: Final = ("gardenlet.config.gardener.cloud", "seedmanagement.gardener.cloud")
_GARDENLET_KIND: Final = "GardenletConfiguration"
_EMBEDDING_KINDS: Final = ("Gardenlet", "ManagedSeed")
_OWN_GROUP: Final = API_VERSION.partition("/")[0]


def _check_type(content: dict[Any, Any], origin: str) -> None:
    """Refuse a document of another type in one line; Any: what YAML holds. What is missing is judged elsewhere."""
    api_version, kind = content.get("apiVersion"), content.get("kind")
    group = api_version.partition("/")[0] if isinstance(api_version, str) else ""
    is_untyped = api_version is None and kind is None
    if group in _GARDENLET_GROUPS or kind == _GARDENLET_KIND or (is_untyped and "featureGates" in content):
        found = kind if kind in _EMBEDDING_KINDS else _GARDENLET_KIND
        raise InvalidConfigurationError(
            f"{origin}: a {found}, expected a {KIND}; give it with --gardenlet-config instead of --config"
        )
    if isinstance(api_version, str) and isinstance(kind, str) and group != _OWN_GROUP and kind != KIND:
        raise InvalidConfigurationError(
            f"{origin}: found apiVersion: {api_version[:60]!a} and kind: {kind[:60]!a}, "
            f"expected apiVersion: {API_VERSION} and kind: {KIND}; give the document itself, not an object with it"
        )


def _explain(error: ValidationError) -> str:
    """Return one line per wrong value: its path, what is wrong, what is allowed."""
    lines = []
    for item in error.errors(include_url=False):
        path = ".".join(str(part) for part in item["loc"]) or "document"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "no such option; config/reconciler.yaml lists all of them"
        elif item["type"] not in ("value_error", "missing"):
            message = f"{message}, got {item['input']!r:.80}"
        lines.append(f"{path}: {message}")
    return "\n  ".join(["invalid configuration:", *lines]) if len(lines) > 1 else lines[0]
