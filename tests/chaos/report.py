"""What a run came to, in words: counts for everybody, and for a broken rule what is needed to find out why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.chaos import terms
from tests.chaos.plan import Group
from tests.chaos.traffic import UNMANAGED, Fate
from tests.seed import MANAGED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.campaign import Results
    from tests.chaos.chronicle import Chronicle
    from tests.chaos.world import World

_EVENTS: Final = 40
_LOG_LINES: Final = 12
_WIDTH: Final = 16
_LINE: Final = 500


def told(results: Results, *, seed: int, version: str) -> str:
    """Return the report."""
    lines = [
        f"{len(results.done)} of {len(results.steps)} faults in {results.seconds:.0f} s, seed {seed}, on {version}",
        *_faults(results),
        *_pods(results),
        _row("refused longest", str(results.longest or "never by the webhook")),
        _row("bound", str(terms.bound())),
        _row(
            "at Fail",
            f"{results.at_fail_share:.0%} of the time; raised {results.raised} times, lowered or taken away "
            f"{results.lowered} times; {results.windows} windows recorded",
        ),
        _row("at rest", f"{results.rests_at_fail} of {results.rests} rests between faults ended at Fail"),
        _row(
            "processes",
            f"{results.starts} starts of ours; a reconciler could do its work {results.able_share:.0%} of the time",
        ),
        _row("convergence", _convergence(results)),
    ]
    return "\n".join(lines)


def failed(error: BaseException, chronicle: Chronicle, found: World | None, *, seed: int, faults: int) -> str:
    """Return what is needed to find out why: the rule, the time line, the ends of the logs, how to do it again."""
    parts = [f"FAILED: {error}", f"what happened last:\n{chronicle.last(_EVENTS)}"]
    members = found.members if found is not None else ()
    parts += [f"the end of the log of {member.name}:\n{_cut(member.last_words(_LOG_LINES))}" for member in members]
    parts.append(f"seed {seed}: {error}\nonce more: python -m tests.chaos --seed {seed} --faults {faults}")
    return "\n\n".join(parts)


def _faults(results: Results) -> Iterable[str]:
    for group in Group:
        kinds = Counter(step.kind.name for step in results.done if step.kind.group is group)
        if kinds:
            counted = ", ".join(f"{name} {count}" for name, count in sorted(kinds.items()))
            yield _row(f"{group} {kinds.total()}", counted)
    if results.skipped:
        yield _row(f"skipped {len(results.skipped)}", "clock jumps: there is no libfaketime here (pip or apt has it)")


def _pods(results: Results) -> Iterable[str]:
    for namespace, title in ((MANAGED, "pods, managed"), (UNMANAGED, "pods, unmanaged")):
        counts = {fate: results.fates.get((namespace, fate.value), 0) for fate in Fate}
        said = ", ".join(f"{count} {fate.value}" for fate, count in counts.items() if count)
        yield _row(title, f"{sum(counts.values())}: {said}")
    unmutated = ", ".join(f"{count} {excuse or 'WITHOUT EXCUSE'}" for excuse, count in results.unmutated.items())
    yield _row("unmutated", unmutated or "none")
    if (survey := results.surveyed) is not None:
        said = f"{survey['inWindows']} in windows that are still listed, {survey['unexplained']} unexplained"
        yield _row("status says", said)


def _convergence(results: Results) -> str:
    if results.convergence_seconds is None:
        return "not reached"
    return f"{results.convergence_seconds:.1f} s after the last fault, allowed {terms.CONVERGENCE_SECONDS:g} s"


def _cut(text: str) -> str:
    """Return lines that a person can read: a log line may carry a whole history."""
    return "\n".join(line if len(line) <= _LINE else f"{line[:_LINE]} …" for line in text.splitlines())


def _row(title: str, text: str) -> str:
    return f"  {title:<{_WIDTH}} {text}"
