"""How `explain` shows an explanation: lines for a person, fields for a script."""

from collections.abc import Iterable, Sequence

import click

from reconciler.pods.explain import Explanation, Result, Step
from reconciler.pods.matching import Match, Term
from reconciler.printable import printable

API_VERSION = "seccomp-reconciler.gardener.cloud/v1alpha1"
_COLOURS = {Result.PROTECTED: "green", Result.EXEMPT: "green", Result.UNKNOWN: "yellow"}
_ANSWERS = {True: "yes", False: "no", None: "unknown"}


def lines(found: Explanation) -> list[str]:
    """Return the sentence, the containers, each entry with its terms, and notes."""
    shown = [click.style(printable(found.sentence), fg=_COLOURS.get(found.result, "red"))]
    rows = [("CONTAINER", "ROLE", "PROFILE", "FROM")]
    rows += [(one.name, one.role.value, one.profile, one.source.value) for one in found.containers]
    shown += ["", *table(rows)]
    if found.is_stored and found.steps:
        shown += ["", "If it were created now:"]
    for step in found.steps:
        entry = step.entry
        policy = entry.webhook.get("failurePolicy", "Fail")
        shown += ["", printable(f"{entry} ({entry.owner.value}, failurePolicy {policy}): {_outcome(step)}")]
        terms = [("MATCHES", "PART", "TERM")]
        terms += [(_ANSWERS[term.holds], term.part, term.text) for term in step.match.terms]
        shown += [f"  {line}" for line in table(terms)]
    shown += [f"note: {printable(note)}" for note in found.notes]
    return shown


def _outcome(step: Step) -> str:
    if step.match.is_called:
        return f"called, answers {step.answer}"
    return "not called" if step.match.is_called is False else "not known whether it is called"


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the rows as lines with aligned columns; what is not shown is escaped."""
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def as_json(found: Iterable[Explanation]) -> dict[str, object]:
    """Return what --output json shows."""
    return {"apiVersion": API_VERSION, "kind": "ExplanationList", "items": [_item(one) for one in found]}


def _item(found: Explanation) -> dict[str, object]:
    return {
        "subject": found.subject,
        "namespace": found.namespace,
        "result": found.result.value,
        "reason": found.reason,
        "message": found.sentence,
        "seccompProfile": ((found.pod.get("spec") or {}).get("securityContext") or {}).get("seccompProfile"),
        "containers": [
            {
                "name": one.name,
                "role": one.role.value,
                "profile": one.profile,
                "source": one.source.value,
                "legacyAnnotation": one.legacy or None,
            }
            for one in found.containers
        ],
        "entries": [
            {
                "configuration": step.entry.configuration,
                "webhook": step.entry.webhook.get("name"),
                "owner": step.entry.owner.value,
                "failurePolicy": step.entry.webhook.get("failurePolicy", "Fail"),
                "called": step.match.is_called,
                "answer": step.answer or None,
                "decidedBy": _term(step.match),
                "terms": [_term_json(term) for term in step.match.terms],
            }
            for step in found.steps
        ],
        "refusals": list(found.refusals),
        "notes": list(found.notes),
    }


def _term(match: Match) -> dict[str, object] | None:
    return None if match.decided_by is None else _term_json(match.decided_by)


def _term_json(term: Term) -> dict[str, object]:
    return {"part": term.part, "term": term.text, "matches": term.holds}
