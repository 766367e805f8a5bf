"""Whether the API server calls a webhook entry for the creation of a pod, and which term decides it. Pure.

Parts are looked at in the order of the API server: namespaceSelector, objectSelector, rules, matchConditions. Source:
k8s.io/apiserver, pkg/admission/plugin/webhook/generic/webhook.go, ShouldCallHook. Match conditions are CEL: the ones
that this project renders are known here, every other one is shown as unknown.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.pods import profile
from reconciler.registration import selectors
from reconciler.registration.desired import COMPATIBLE, UNTYPED
from reconciler.registration.identity import Manifest
from reconciler.registration.lint import covers_pod_creation

# The API server puts it on every namespace.
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
_KNOWN_CONDITIONS: Final[Mapping[str, Callable[[Manifest], bool]]] = {
    UNTYPED: lambda pod: profile.pod_type(pod) is None,
    COMPATIBLE: profile.is_compatible,
}


@dataclass(frozen=True, slots=True)
class Term:
    """One term of one part of an entry; `holds` None: it cannot be told from what is given."""

    part: str
    text: str
    holds: bool | None

    def __str__(self) -> str:
        return f"{self.part} {self.text}"


@dataclass(frozen=True, slots=True)
class Match:
    """The terms in order, and whether the entry is called; None: a term that decides it is not known."""

    terms: tuple[Term, ...]

    @property
    def is_called(self) -> bool | None:
        """Whether all terms hold."""
        answers = {term.holds for term in self.terms}
        return False if False in answers else None if None in answers else True

    @property
    def decided_by(self) -> Term | None:
        """The first term that does not hold, else the first that is not known; None where all hold."""
        return next((one for answer in (False, None) for one in self.terms if one.holds is answer), None)


def match(entry: Manifest, pod: Manifest, namespace: str, namespace_labels: Mapping[str, str] | None) -> Match:
    """Return how `entry` matches the creation of `pod`; labels that are None are not known, but for the name."""
    labels = {**(namespace_labels or {}), NAMESPACE_NAME: namespace}
    is_complete = namespace_labels is not None
    terms = [
        Term("namespaceSelector", text, holds if is_complete or key == NAMESPACE_NAME else None)
        for key, text, holds in _selected(entry.get("namespaceSelector"), labels)
    ]
    own = (pod.get("metadata") or {}).get("labels") or {}
    terms += [Term("objectSelector", text, holds) for _, text, holds in _selected(entry.get("objectSelector"), own)]
    terms.append(Term("rules", "CREATE of pods", covers_pod_creation(entry)))
    for condition in entry.get("matchConditions") or ():
        known = _KNOWN_CONDITIONS.get(condition.get("expression", ""))
        terms.append(Term("matchConditions", str(condition.get("name", "")), None if known is None else known(pod)))
    return Match(tuple(terms))


def _selected(selector: Manifest | None, labels: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Yield key, text and answer of each term of a label selector."""
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        yield key, f"{key} In [{value}]", labels.get(key) == value
    for term in (selector or {}).get("matchExpressions") or ():
        values = f" [{', '.join(term['values'])}]" if term.get("values") else ""
        holds = selectors.matches({"matchExpressions": [term]}, labels)
        yield term["key"], f"{term['key']} {term['operator']}{values}", holds
