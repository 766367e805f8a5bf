"""Why a pod gets, or lacks, the profile: each registered entry in order, its terms, and what comes out. Pure.

Entries are called as the API server calls them: by the names of their MutatingWebhookConfigurations, then in the order
of the list; each sees the pod as the one before left it. Source: k8s.io/apiserver,
pkg/admission/configuration/mutating_webhook_manager.go. The servers' answers are given as functions.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from reconciler.pods import coverage, matching, profile, validation
from reconciler.pods.coverage import Coverage, Verdict
from reconciler.pods.exposure import CAUSES, Cause, Registered, cause
from reconciler.pods.matching import Match
from reconciler.pods.profile import ContainerProfile
from reconciler.registration import twin
from reconciler.registration.identity import Manifest
from reconciler.settings import Registration


class Owner(StrEnum):
    """Whose entry it is."""

    OURS = "ours"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers: its reason, and the pod as it is then."""

    reason: str
    pod: Manifest


Server = Callable[[Manifest], Answer]


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered webhook entry for the profile of pods; `configuration` is the name of its object."""

    configuration: str
    webhook: Manifest
    owner: Owner

    def __str__(self) -> str:
        return f"{self.configuration}/{self.webhook.get('name', '')}"


@dataclass(frozen=True, slots=True)
class Step:
    """One entry: whether it is called, and the reason that its server answers with; empty where it is not called."""

    entry: Entry
    match: Match
    answer: str


class Result(StrEnum):
    """What is said of the pod; REFUSED: the API server does not create it, UNKNOWN: a deciding term is not known."""

    PROTECTED = "protected"
    EXEMPT = "exempt"
    UNPROTECTED = "unprotected"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one pod, or of the next pods of a workload; `pod` is what the API server would store."""

    subject: str
    namespace: str
    result: Result
    sentence: str
    reason: str
    steps: tuple[Step, ...]
    containers: tuple[ContainerProfile, ...]
    pod: Manifest
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    # The pod exists: the entries show what happens if it were created now.
    is_stored: bool = False

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether the pod is protected, or exempt."""
        return self.result in (Result.PROTECTED, Result.EXEMPT)


def upstream_server(pod: Manifest) -> Answer:
    """Return what gardener-resource-manager answers: any pod without a type gets one, and nothing is left alone.

    Source: gardener/gardener, pkg/resourcemanager/webhook/seccompprofile/handler.go.
    """
    if profile.pod_type(pod) is not None:
        return Answer("already-typed", pod)
    spec = pod.get("spec") or {}
    context = {**(spec.get("securityContext") or {}), "seccompProfile": {"type": profile.RUNTIME_DEFAULT}}
    return Answer("defaulted", {**pod, "spec": {**spec, "securityContext": context}})


def entries(configurations: Iterable[Manifest], registration: Registration) -> tuple[Entry, ...]:
    """Return the entries for the profile of pods in the order of the API server."""
    found: list[Entry] = []
    for one in sorted(configurations, key=_name):
        name = _name(one)
        owner = Owner.UPSTREAM if name == registration.twin_name else Owner.OURS
        # Other objects hold other entries, too; in ours, drift may have changed what an entry is about.
        found += [
            Entry(name, webhook, owner)
            for webhook in one.get("webhooks") or ()
            if name == registration.name or twin.entry_of({"webhooks": [webhook]}, registration) is not None
        ]
    return tuple(found)


def _name(configuration: Manifest) -> str:
    return str((configuration.get("metadata") or {}).get("name") or "")


def explain(
    pod: Manifest,
    subject: str,
    *,
    registered: Iterable[Entry],
    intended: Manifest,
    servers: Mapping[Owner, Server],
    namespace_labels: Mapping[str, str] | None,
    kubelet_default: bool | None = None,
) -> Explanation:
    """Return what becomes of `pod`, whose metadata names its namespace.

    `intended` is the entry as the settings ask for it: it says which pods should have the profile. Labels that are
    None are not known.
    """
    namespace = str(pod["metadata"].get("namespace") or "default")
    steps, current = [], pod
    for entry in registered:
        found = matching.match(entry.webhook, current, namespace, namespace_labels)
        answer = Answer("", current)
        if found.is_called:
            answer = servers[entry.owner](current)
        elif found.is_called is None:
            answer = Answer("not known", current)
        steps.append(Step(entry, found, answer.reason))
        current = answer.pod
    should = matching.match({**intended, "objectSelector": {}}, pod, namespace, namespace_labels)
    by_namespace = [term.holds for term in should.terms if term.part == "namespaceSelector"]
    covered = coverage.of_pod(current, intended, is_selected=False not in by_namespace)
    refused = validation.refusals(current)
    is_open = any(step.match.is_called is None for step in steps) or (
        None in by_namespace and False not in by_namespace
    )
    result, reason = _judged(covered, steps, refused, is_open=is_open)
    return Explanation(
        subject,
        namespace,
        result,
        _sentence(f"{subject} in namespace {namespace}", result, reason, steps, pod),
        reason,
        tuple(steps),
        profile.of_pod(current, kubelet_default=kubelet_default),
        current,
        refused,
        _notes(pod, profile.of_pod(current)),
    )


def explain_stored(again: Explanation, pod: Manifest, recorded: Registered, *, is_selected: bool) -> Explanation:
    """Return what a pod that is stored has, and why; `again` is what it would get if it were created now.

    `is_selected`: whether the registration, as the settings ask for it, selects the namespace.
    """
    who = f"{again.subject} in namespace {again.namespace}"
    found = coverage.of_pod(pod, recorded.entry, is_selected=is_selected)
    created = (pod.get("metadata") or {}).get("creationTimestamp") or "at an unknown time"
    result, reason = Result(found.verdict.value), found.reason.value
    match found.verdict:
        case Verdict.PROTECTED if found.reason is coverage.Reason.POD_FIELD:
            sentence = f"{who} is protected: the pod names the profile {profile.pod_type(pod)}."
        case Verdict.PROTECTED:
            sentence = f"{who} is protected: every container names a profile."
        case Verdict.EXEMPT:
            sentence = f"{who} is exempt: {_EXEMPTIONS.get(reason, reason)}."
        case _:
            why, window = cause(pod, recorded.memory, recorded.since) if recorded.is_known else (Cause.NOT_KNOWN, "")
            reason = why.value
            words = CAUSES[why] + (f" ({window})" if window else "")
            sentence = f"{who} is unprotected: it was created {created}; {words}. {_again(again)}"
    return replace(
        again,
        result=result,
        reason=reason,
        sentence=sentence,
        containers=profile.of_pod(pod),
        pod=pod,
        refusals=(),
        is_stored=True,
    )


def _again(again: Explanation) -> str:
    match again.result:
        case Result.PROTECTED:
            return "Created again now, it gets RuntimeDefault."
        case Result.UNPROTECTED:
            return "Created again now, it would lack the profile, too."
        case Result.REFUSED:
            return f"Created again now, it would be refused: {again.reason}."
    return "It is not known what it would get if it were created again now."


def _judged(covered: Coverage, steps: list[Step], refused: tuple[str, ...], *, is_open: bool) -> tuple[Result, str]:
    if refused:
        return Result.REFUSED, "; ".join(refused)
    if covered.verdict is Verdict.UNPROTECTED and is_open:
        return Result.UNKNOWN, _open_term(steps)
    return Result(covered.verdict.value), covered.reason.value


def _open_term(steps: list[Step]) -> str:
    terms = (step.match.decided_by for step in steps if step.match.is_called is None)
    return next((str(term) for term in terms if term is not None), "the labels of the namespace")


def _sentence(who: str, result: Result, reason: str, steps: list[Step], pod: Manifest) -> str:
    match result:
        case Result.REFUSED:
            return f"{who} is refused by the API server: {reason}."
        case Result.UNKNOWN:
            way = " Give the Namespace object, or --namespace-labels." if reason.startswith("namespaceSelector") else ""
            asked = who[0].lower() + who[1:]
            return f"It is not known whether {asked} gets the profile: {reason} cannot be evaluated.{way}"
        case Result.PROTECTED:
            return f"{who} {_protected(reason, steps, pod)}."
        case Result.EXEMPT:
            return f"{who} is exempt: {_EXEMPTIONS.get(reason, reason)}."
    return f"{who} is unprotected: {_unprotected(steps)}."


def _protected(reason: str, steps: list[Step], pod: Manifest) -> str:
    giving = next((step for step in steps if step.answer == "defaulted"), None)
    if giving is not None and profile.pod_type(pod) is None:
        return f"gets RuntimeDefault: {giving.entry} is called and sets it"
    if reason == coverage.Reason.CONTAINER_FIELDS.value:
        return "is protected by its own spec: every container names a profile"
    return f"is protected by its own spec: the pod names the profile {profile.pod_type(pod)}"


def _unprotected(steps: list[Step]) -> str:
    if not steps:
        return "no entry for seccomp profiles is registered"
    deciding = next((step for step in steps if not step.match.is_called), None)
    if deciding is None:
        return f"{steps[-1].entry} is called and leaves it alone ({steps[-1].answer})"
    return f"{deciding.entry} is not called, because {deciding.match.decided_by} does not match"


_EXEMPTIONS: dict[str, str] = {
    coverage.Reason.UNCONFINED_POD.value: "its own spec asks for Unconfined",
    coverage.Reason.UNCONFINED_CONTAINER.value: "its own spec asks for Unconfined in a container",
    coverage.Reason.WINDOWS.value: "it is a Windows pod, which has no seccomp profile",
    coverage.Reason.MIRROR.value: "it is a mirror pod, which only shows a static pod",
    coverage.Reason.LEGACY_ANNOTATION.value: "its legacy seccomp annotation contradicts RuntimeDefault",
    coverage.Reason.NAMESPACE.value: "the registration does not select its namespace",
    coverage.Reason.SKIP_LABEL.value: "it has the skip label",
    coverage.Reason.OWN_APP.value: "it has the label app of the webhook's own server",
    coverage.Reason.STATIC.value: "it is labelled as a static pod",
    coverage.Reason.OBJECT_SELECTOR.value: "the registration does not select its labels",
}


def _notes(pod: Manifest, containers: tuple[ContainerProfile, ...]) -> tuple[str, ...]:
    notes = []
    privileged = [one.name for one in containers if one.source is profile.Source.PRIVILEGED]
    if privileged:
        notes.append(f"privileged, so Unconfined whatever the profile says: {', '.join(privileged)}")
    unconfined = [one.name for one in containers if one.is_unconfined and one.source is profile.Source.CONTAINER]
    if unconfined:
        notes.append(f"Unconfined by their own field: {', '.join(unconfined)}")
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    legacy = [
        key
        for key in annotations
        if key == profile.LEGACY_POD_ANNOTATION or key.startswith(profile.LEGACY_CONTAINER_ANNOTATION)
    ]
    if legacy:
        notes.append(f"Kubernetes reads no profile from annotations since 1.27: {', '.join(sorted(legacy))}")
    return tuple(notes)
