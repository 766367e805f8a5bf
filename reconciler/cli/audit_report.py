"""How `audit` shows its counts: a table for a person, JSON or CSV for a script."""

import csv
import io
import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from reconciler.cli.explanation import API_VERSION, table
from reconciler.pods.audit import Audit, Tally
from reconciler.pods.coverage import Verdict
from reconciler.pods.exposure import CAUSES, Cause, Registered
from reconciler.pods.origin import ORIGINS, Origin
from reconciler.printable import printable
from reconciler.timestamps import seconds, utc

_COLUMNS = (
    "pods",
    "protected",
    "exempt",
    "unprotected",
    "localhost",
    "privileged",
    "unconfinedPods",
    "unconfinedContainers",
    "protectedAtAdmission",
    "protectedByOwnSpec",
    "protectedByUnknown",
)
_HTML_COLUMNS = (
    ("pods", "Pods"),
    ("protected", "Protected"),
    ("exempt", "Exempt"),
    ("unprotected", "Unprotected"),
    ("localhost", "Localhost"),
    ("privileged", "Privileged"),
    ("unconfinedPods", "Unconfined pod"),
    ("unconfinedContainers", "Unconfined container"),
    ("protectedAtAdmission", "Protected at admission"),
    ("protectedByOwnSpec", "Protected by own spec"),
    ("protectedByUnknown", "Protected, not known by which"),
)


def rendered(output: str, found: Audit, registered: Registered, notes: list[str]) -> str:
    """Return the whole report in the format `output`, with its last newline."""
    match output:
        case "json":
            return json.dumps(as_json(found, registered, notes)) + "\n"
        case "csv":
            return _csv(found)
        case "html":
            return as_html(as_json(found, registered, notes), created=utc(time.time()))
    return "\n".join(_lines(found)) + "\n"


def _counts(tally: Tally) -> dict[str, int]:
    return {
        "pods": tally.pods,
        "protected": tally.verdicts[Verdict.PROTECTED],
        "exempt": tally.verdicts[Verdict.EXEMPT],
        "unprotected": tally.unprotected,
        "localhost": tally.localhost,
        "privileged": tally.with_privileged,
        "unconfinedPods": tally.unconfined_pods,
        "unconfinedContainers": tally.unconfined_containers,
        "protectedAtAdmission": tally.origins[Origin.ADMISSION],
        "protectedByOwnSpec": tally.origins[Origin.OWN_SPEC],
        "protectedByUnknown": tally.origins[Origin.UNKNOWN],
    }


def as_json(found: Audit, registered: Registered, notes: list[str]) -> dict[str, object]:
    """Return what --output json shows."""
    windows = () if registered.memory is None else registered.memory.windows
    return {
        "apiVersion": API_VERSION,
        "kind": "AuditReport",
        "summary": _tally_json(found.total),
        "notJudged": len(found.unreadable),
        "namespaces": [{"namespace": name, **_tally_json(tally)} for name, tally in sorted(found.by_namespace.items())],
        "workloads": [
            {"namespace": one.namespace, "kind": one.kind, "name": one.name, **_tally_json(tally)}
            for one, tally in sorted(found.by_workload.items())
        ],
        "restarts": [
            {
                "namespace": namespace,
                "workloads": [
                    {
                        "kind": one.workload.kind,
                        "name": one.workload.name,
                        "pods": one.pods,
                        "command": one.command or None,
                        "advice": one.advice or None,
                    }
                    for one in restarts
                ],
            }
            for namespace, restarts in found.restarts()
        ],
        "registeredSince": None if registered.since is None else utc(registered.since),
        "windows": [
            {"start": utc(one.start), "end": None if one.end is None else utc(one.end), "reason": one.reason}
            for one in windows
        ],
        "notes": notes,
    }


def _tally_json(tally: Tally) -> dict[str, object]:
    return {
        **_counts(tally),
        "reasons": dict(sorted(tally.reasons.items())),
        "causes": dict(sorted(tally.causes.items())),
    }


def as_html(report: Mapping[str, Any], *, created: str) -> str:
    """Return what `as_json` returned as one page that needs no network; Any: JSON."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only html needs it

    environment = Environment(
        loader=PackageLoader("reconciler.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        # What macros return is markup already.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    labels = {cause.value: words for cause, words in CAUSES.items()}
    summary = report["summary"]
    by_count = sorted(summary["causes"].items(), key=lambda one: -one[1])
    return (
        environment.get_template("audit.html.j2").render(
            **{key: report[key] for key in ("summary", "restarts", "notes")},
            **_windows(report, created),
            workloads=sorted(report["workloads"], key=lambda one: -one["unprotected"]),
            namespaces=sorted(report["namespaces"], key=lambda one: (-one["unprotected"], one["namespace"])),
            created=created,
            affected=sum(1 for one in report["namespaces"] if one["unprotected"]),
            causes=[(labels[cause], count) for cause, count in by_count],
            reasons=sorted(summary["reasons"].items(), key=lambda one: -one[1]),
            columns=_HTML_COLUMNS,
            cards=_HTML_COLUMNS[1:],
        )
        + "\n"
    )


def _windows(report: Mapping[str, Any], created: str) -> dict[str, Any]:
    """Return the windows with their lengths and, in percent, their places on a line from the registration to now."""
    now = seconds(created) or 0.0
    spans = [(seconds(one["start"]) or now, seconds(one["end"]) or now) for one in report["windows"]]
    begin = min([seconds(report["registeredSince"]) or now, *(start for start, _ in spans)])
    # A window of a clock ahead of ours may lie in the future.
    until = max([now, *(end for _, end in spans)])
    whole = max(until - begin, 1.0)
    windows = [
        {
            **one,
            "length": _length(end - start),
            "left": round(100 * (start - begin) / whole, 2),
            "width": round(100 * max(end - start, 0.0) / whole, 2),
        }
        for one, (start, end) in zip(report["windows"], spans, strict=True)
    ]
    open_time = _length(sum(max(end - start, 0.0) for start, end in spans))
    return {"windows": windows, "open_time": open_time, "axis": (utc(begin), utc(until))}


def _length(span: float) -> str:
    """Return a span of seconds as hours, minutes and seconds: 605 -> 0:10:05."""
    return str(timedelta(seconds=max(round(span), 0)))


def _csv(found: Audit) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("namespace", "kind", "name", *_COLUMNS))
    for one, tally in sorted(found.by_workload.items()):
        writer.writerow((*map(_cell, (one.namespace, one.kind, one.name)), *_counts(tally).values()))
    return text.getvalue()


def _cell(text: str) -> str:
    """Return `text` as a cell that no spreadsheet takes for a formula. Source: OWASP, CSV Injection."""
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable(text)


def _lines(found: Audit) -> list[str]:
    total = found.total
    affected = sum(1 for tally in found.by_namespace.values() if tally.unprotected)
    verdicts = f"{total.verdicts[Verdict.PROTECTED]} are protected, {total.verdicts[Verdict.EXEMPT]} exempt"
    where = f"in {affected} of {len(found.by_namespace)} namespaces"
    lines = [f"{total.unprotected} of {total.pods} pods are unprotected, {where}; {verdicts}."]
    if total.origins:
        lines += ["", "protected:"]
        lines += [f"  {count:>6}  {ORIGINS[one]}" for one, count in total.origins.most_common()]
    if total.causes:
        lines += ["", "unprotected:"]
        lines += [f"  {count:>6}  {CAUSES[Cause(cause)]}" for cause, count in total.causes.most_common()]
    if total.reasons:
        lines += ["", "protected or exempt, by reason:"]
        lines += [f"  {count:>6}  {reason}" for reason, count in total.reasons.most_common()]
    lines += ["", "pods with a property of their own:"]
    lines.append(f"  {total.with_privileged:>6}  a privileged container (Unconfined)")
    lines.append(f"  {total.localhost:>6}  a Localhost profile")
    rows: list[tuple[str, ...]] = [
        ("NAMESPACE", "PODS", "PROTECTED", "EXEMPT", "UNPROTECTED", "PRIVILEGED", "UNCONFINED")
    ]
    for name, tally in sorted(found.by_namespace.items(), key=lambda one: (-one[1].unprotected, one[0])):
        counts = _counts(tally)
        shown = [str(counts[key]) for key in ("pods", "protected", "exempt", "unprotected", "privileged")]
        rows.append((name, *shown, str(tally.unconfined)))
    lines += ["", *table(rows)]
    if groups := found.restarts():
        lines += ["", "what to restart:"]
    for namespace, restarts in groups:
        lines.append(printable(f"# {namespace}"))
        commands = (one.command or f"# {one.workload} ({one.pods} pods): {one.advice}" for one in restarts)
        lines += [printable(one) for one in commands]
    return lines
