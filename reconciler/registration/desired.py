"""What should stand: settings and a caBundle become the MutatingWebhookConfiguration. Pure, no I/O, no kubernetes."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from reconciler import legacy
from reconciler.registration.identity import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    REMEDIATION_EXCLUDE_LABEL,
    SELECTORS_ANNOTATION,
    Manifest,
)
from reconciler.registration.memory import State
from reconciler.settings import FailurePolicy, LabelSelector, Operator, Ramp, Registration, Requirement

# Gardener never mutates pods there. Source: upstream's entry.
ALWAYS_EXCLUDED_NAMESPACES: Final = ("kube-system", "kubernetes-dashboard")

# A profile without a type is not "a type said": has() is true for the empty type that the API server fills in.
UNTYPED: Final = (
    "!has(object.spec.securityContext) || !has(object.spec.securityContext.seccompProfile)"
    " || !has(object.spec.securityContext.seccompProfile.type) || object.spec.securityContext.seccompProfile.type == ''"
)
# has() first: a pod need not have annotations, and an error in a match condition counts as a webhook that failed.
_LEGACY: Final = f"object.metadata.annotations['{legacy.POD_ANNOTATION}']"
COMPATIBLE: Final = (
    f"!has(object.metadata.annotations) || !('{legacy.POD_ANNOTATION}' in object.metadata.annotations)"
    f" || {_LEGACY} in [{', '.join(map(repr, legacy.COMPATIBLE_VALUES))}]"
)


def render(
    registration: Registration,
    *,
    ca_bundle: bytes | None,
    state: State | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: Manifest | None = None,
) -> Manifest:
    """Return the manifest that `registration` asks for, as JSON values.

    `ca_bundle` is PEM; None leaves the field out, for a look at the manifest where the CA cannot be read. `state` is
    its failurePolicy as decided; None: that of the first registration.
    `annotations` are what the reconciler itself wants to remember on the object; `owner` is its ownerReference.
    Source of the fields: the entry that gardenlet registers itself; ours adds labels, a digest of the selectors and
    matchConditions that spare the call for pods which already say a type, or would be refused with one.
    """
    namespaces = _selector_manifest(_namespace_selector(registration))
    objects = _selector_manifest(_object_selector(registration))
    webhook: dict[str, Any] = {
        "name": registration.webhook_name,
        "admissionReviewVersions": ["v1beta1", "v1"],
        "clientConfig": _client_config(registration, ca_bundle),
        "failurePolicy": (state or first_state(registration)).value,
        "matchPolicy": "Exact",
        "namespaceSelector": namespaces,
        "objectSelector": objects,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "sideEffects": "None",
        "timeoutSeconds": registration.timeout_seconds,
    }
    if registration.skip_typed_pods:
        webhook["matchConditions"] = [
            {"name": "without-seccomp-profile-type", "expression": UNTYPED},
            {"name": "without-legacy-annotation", "expression": COMPATIBLE},
        ]
    if registration.reinvocation_policy is not None:
        webhook["reinvocationPolicy"] = registration.reinvocation_policy.value
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": registration.name,
            "labels": {
                **registration.labels,
                NAME_LABEL: "seccomp-reconciler",
                MANAGED_BY_LABEL: MANAGED_BY,
                REMEDIATION_EXCLUDE_LABEL: "true",
            },
            "annotations": {
                **registration.annotations,
                **(annotations or {}),
                SELECTORS_ANNOTATION: _digest([namespaces, objects]),
            },
            **({} if owner is None else {"ownerReferences": [owner]}),
        },
        "webhooks": [webhook],
    }


def first_state(registration: Registration) -> State:
    """Return the failurePolicy with which the object is created: Fail only where no proof is to be waited for."""
    is_fail = registration.failure_policy is FailurePolicy.FAIL and registration.ramp is Ramp.NEVER
    return State.FAIL if is_fail else State.IGNORE


def _namespace_selector(registration: Registration) -> LabelSelector:
    chosen = registration.namespace_selector
    excluded = tuple(dict.fromkeys((*ALWAYS_EXCLUDED_NAMESPACES, *registration.excluded_namespaces)))
    by_name = Requirement(key="kubernetes.io/metadata.name", operator=Operator.NOT_IN, values=excluded)
    return chosen.model_copy(update={"match_expressions": (*chosen.match_expressions, by_name)})


def _object_selector(registration: Registration) -> LabelSelector:
    return LabelSelector(
        match_expressions=(
            Requirement(key=registration.skip_label, operator=Operator.DOES_NOT_EXIST),
            Requirement(key="app", operator=Operator.NOT_IN, values=(registration.own_app_name,)),
            Requirement(key="static-pod", operator=Operator.NOT_IN, values=("true",)),
        )
    )


def _selector_manifest(selector: LabelSelector) -> dict[str, Any]:
    return selector.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _client_config(registration: Registration, ca_bundle: bytes | None) -> dict[str, Any]:
    backend = registration.backend
    config: dict[str, Any] = (
        {"url": backend.url} if backend.service is None else {"service": backend.service.model_dump()}
    )
    if ca_bundle is not None:
        config["caBundle"] = base64.b64encode(ca_bundle).decode()
    return config


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
