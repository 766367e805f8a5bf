"""Would our own entry catch a pod that must never depend on the webhook, and does it catch the canary? Pure.

A pod that is refused while nobody answers, and without which nobody can answer, is a deadlock. Selectors are evaluated
as the API server does; where labels are not known, what may be caught counts as caught.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.registration import selectors
from reconciler.registration.desired import ALWAYS_EXCLUDED_NAMESPACES, UNTYPED
from reconciler.registration.identity import Manifest
from reconciler.registration.subjects import APP_LABEL, STATIC_LABEL, Subject, Why

# The API server puts it on every namespace and lets nobody change it.
_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
_AS_RENDERED: Final = "as `seccomp-reconciler render` prints it"
_OURS: Final = (Why.SERVER, Why.RECONCILER)


class Severity(StrEnum):
    """An error forbids Fail; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """A subject that is caught and must not be, or the other way round; the `terms` that decided it, and what to do."""

    subject: Subject
    severity: Severity
    verdict: str
    terms: tuple[str, ...]
    fix: str

    def __str__(self) -> str:
        return f"{self.subject} {self.verdict} {', '.join(self.terms)}; {self.fix}"


def check(manifest: Manifest, subjects: Iterable[Subject]) -> tuple[Finding, ...]:
    """Return what is wrong with `manifest`, a MutatingWebhookConfiguration, if it were registered with Fail.

    No entry may catch what must start without the webhook, and one of them must catch the canary.
    """
    entries = [entry for entry in manifest.get("webhooks") or () if covers_pod_creation(entry)]
    findings = []
    for subject in subjects:
        catching = next((entry for entry in entries if catches(entry, subject)), None)
        if subject.why is not Why.CANARY and catching is not None:
            findings.append(_caught(catching, subject))
        elif subject.why is Why.CANARY and catching is None:
            findings.append(_missed(entries[0] if entries else None, subject))
    return tuple(findings)


def catches(entry: Manifest, subject: Subject) -> bool:
    """Return whether the selectors and our own match condition of `entry` let `subject` in, or may do so.

    Match conditions of others are taken to hold: they are drift, and removed.
    """
    if subject.typed and any(one.get("expression") == UNTYPED for one in entry.get("matchConditions") or ()):
        return False
    return not any(_excluding(entry, subject))


def covers_pod_creation(entry: Manifest) -> bool:
    """Return whether a rule of `entry` covers the creation of pods. Source: apiserver webhook/predicates/rules."""
    return any(
        {"", "*"} & set(rule.get("apiGroups") or ())
        and {"v1", "*"} & set(rule.get("apiVersions") or ())
        and {"CREATE", "*"} & set(rule.get("operations") or ())
        and {"pods", "pods/*", "*", "*/*"} & set(rule.get("resources") or ())
        and rule.get("scope") != "Cluster"
        for rule in entry.get("rules") or ()
    )


def _excluding(entry: Manifest, subject: Subject) -> Iterator[tuple[str, Manifest]]:
    """Yield the terms of `entry` that keep `subject` out, each with its selector's name."""
    name = {_NAMESPACE_NAME: subject.namespace} if subject.namespace else {}
    is_known = subject.namespace_labels is not None and subject.namespace is not None
    for term in _failing(entry, "namespaceSelector", {**(subject.namespace_labels or {}), **name}, complete=is_known):
        yield "namespaceSelector", term
    for term in _failing(entry, "objectSelector", subject.labels or {}, complete=subject.labels is not None):
        yield "objectSelector", term


def _failing(entry: Manifest, selector: str, labels: Mapping[str, str], *, complete: bool) -> list[Manifest]:
    """Return the terms that do not hold; where `labels` are not complete, those that fail whatever the others are."""
    by_key: dict[str, list[Manifest]] = defaultdict(list)
    for term in _terms(entry, selector):
        by_key[term["key"]].append(term)
    failing: list[Manifest] = []
    for key, terms in by_key.items():
        candidates: list[dict[str, str]] = [{key: labels[key]} if key in labels else {}]
        if not complete and key not in labels:
            named = {value for term in terms for value in term.get("values") or ()}
            another = "x" + max(named, key=len, default="")
            candidates += [{key: value} for value in (*sorted(named), another)]
        unmet: Iterator[list[Manifest]] = ([term for term in terms if not _holds(term, one)] for one in candidates)
        fewest: list[Manifest] = min(unmet, key=len)
        failing += fewest
    return failing


def _holds(term: Manifest, labels: Mapping[str, str]) -> bool:
    return selectors.matches({"matchExpressions": [term]}, labels)


def _terms(entry: Manifest, selector: str) -> list[Manifest]:
    found = entry.get(selector) or {}
    exact = [{"key": key, "operator": "In", "values": [one]} for key, one in (found.get("matchLabels") or {}).items()]
    return [*exact, *(found.get("matchExpressions") or ())]


def _text(selector: str, term: Manifest) -> str:
    values = f" [{', '.join(term['values'])}]" if term.get("values") else ""
    return f"{selector}: {term['key']} {term['operator']}{values}"


def _caught(entry: Manifest, subject: Subject) -> Finding:
    is_known = None not in (subject.namespace, subject.labels, subject.namespace_labels)
    guards = [_text(selector, term) for selector, term in _guards(entry, subject.why)]
    admitting = [_text("namespaceSelector", term) for term in _terms(entry, "namespaceSelector")]
    return Finding(
        subject,
        Severity.WARNING if subject.why is Why.MIRROR else Severity.ERROR,
        f"{'would' if is_known else 'may'} be caught, {'not left out' if guards else 'let in'} by",
        tuple(guards or admitting or ("namespaceSelector: every namespace",)),
        _way_out(entry, subject),
    )


def _guards(entry: Manifest, why: Why) -> Iterator[tuple[str, Manifest]]:
    """Yield the terms whose purpose it is to leave such pods out."""
    for term in _terms(entry, "namespaceSelector"):
        if why is Why.KUBE_SYSTEM and (term["key"], term["operator"]) == (_NAMESPACE_NAME, "NotIn"):
            yield "namespaceSelector", term
    for term in _terms(entry, "objectSelector"):
        is_own_app = why in _OURS and (term["key"], term["operator"]) == (APP_LABEL, "NotIn")
        if is_own_app or (why in (*_OURS, Why.GARDENLET) and term["operator"] == "DoesNotExist"):
            yield "objectSelector", term


def _way_out(entry: Manifest, subject: Subject) -> str:
    guards = [term for _, term in _guards(entry, subject.why)]
    skip = next((f'the label {term["key"]}: "true"' for term in guards if term["operator"] == "DoesNotExist"), None)
    own = next((term["values"][0] for term in guards if term["operator"] == "NotIn"), None)
    match subject.why:
        case Why.KUBE_SYSTEM:
            return f"add it to the term {_NAMESPACE_NAME} NotIn, {_AS_RENDERED}"
        case Why.MIRROR:
            return f'its static pod runs all the same; to have it left out, give it the label {STATIC_LABEL}: "true"'
        case Why.SERVER | Why.RECONCILER if own is not None:
            app = (subject.labels or {}).get(APP_LABEL)
            by_app = f"give the pods the label {APP_LABEL}: {own}" if not app else f"set registration.ownAppName: {app}"
            return f"{by_app}, or give them {skip}" if skip else by_app
        case Why.SERVER | Why.RECONCILER | Why.GARDENLET if skip is not None:
            excluded = f"add {subject.namespace or 'their namespace'} to registration.excludedNamespaces"
            return f"give the pods {skip}, or {excluded}"
    return f"add the term that leaves such pods out, {_AS_RENDERED}"


def _missed(entry: Manifest | None, subject: Subject) -> Finding:
    verdict = "would not be caught, so that nothing can be proved, kept out by"
    if entry is None:
        terms: tuple[str, ...] = ("rules: no creation of pods",)
        return Finding(subject, Severity.ERROR, verdict, terms, f"set the rules {_AS_RENDERED}")
    excluding = list(_excluding(entry, subject))
    terms = tuple(_text(selector, term) for selector, term in excluding)
    fixes = dict.fromkeys(_way_in(selector, term, subject.namespace or "") for selector, term in excluding)
    return Finding(subject, Severity.ERROR, verdict, terms, "; and ".join(fixes))


def _way_in(selector: str, term: Manifest, namespace: str) -> str:
    key, values = term["key"], term.get("values") or ()
    if selector == "objectSelector":
        return f"remove the term about {key} from objectSelector: it keeps the webhook from pods that need it"
    if key == _NAMESPACE_NAME:
        if term["operator"] == "NotIn" and namespace not in ALWAYS_EXCLUDED_NAMESPACES:
            return f"take {namespace} out of registration.excludedNamespaces"
        return "set proof.namespace to a namespace that the registration covers"
    match term["operator"]:
        case "Exists":
            return f"label the namespace {namespace} with {key}"
        case "In":
            return f"label the namespace {namespace} with {key}: {' or '.join(values)}"
    return f"take the label {key} off the namespace {namespace}"
