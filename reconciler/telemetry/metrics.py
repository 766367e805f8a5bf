"""What `run` counts and measures, in a registry of its own. Names and units follow Prometheus' conventions.

`python -m reconciler.telemetry.metrics` prints the table of docs/metrics.md.
"""

import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from reconciler import errors

_PREFIX: Final = "seccomp_reconciler_"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_NAN: Final = float("nan")
# Label pairs of fields and managers: others name themselves as they like, and every pair is a series for ever.
_MOST_PAIRS: Final = 100
_MANAGER_CHARACTERS: Final = 63
_OTHER: Final = ("other", "other")
_INDICES: Final = re.compile(r"\[[^\]]*\]")

# The closed sets. They are the controller's enums, which this floor may not import: a test holds them equal.
STATES: Final = ("Absent", "Ignore", "Fail")
VERDICTS: Final = ("proved", "not-mutated", "unreachable", "inconclusive")
ACTIONS: Final = ("create", "apply", "replace", "delete")
REASONS: Final = ("registered", "updated", "repaired", "raised", "lowered", "removed")
RESULTS: Final = ("registered", "updated", "unchanged", "removed", "absent", "failed")

_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class Input(StrEnum):
    """What a pass is made of, and what may be unreadable."""

    CONFIGURATION = "configuration"
    CA = "ca"
    SETTINGS = "settings"


class Certificate(StrEnum):
    """The certificates that expire under us."""

    AUTHORITY = "authority"
    SERVING = "serving"


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric as /metrics shows it; a label without values is open."""

    name: str
    kind: str
    labels: Mapping[str, tuple[str, ...]]
    meaning: str


class Metrics:
    """One process' metrics; `registry` is what /metrics shows. Times are seconds since the epoch, True is 1."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus_client has no types here
        self.registry: Final = CollectorRegistry()
        self.definitions: Final[list[Definition]] = []
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._build_info()
        self.gate_enabled: Final = self._gauge("gate_enabled", "1 while the gate DefaultSeccompProfile is on.")
        self.registration_desired: Final = self._gauge("registration_desired", "1 while a registration is asked for.")
        self.registration_present: Final = self._gauge("registration_present", "1 while our registration stands.")
        self._failure_policy()
        self._proofs()
        self._passes()
        self.leader: Final = self._gauge("leader", "1 while this process holds the Lease, or needs none.")
        self.paused: Final = self._gauge("paused", "1 while a pause is in force.")
        self.twin: Final = self._gauge("twin", "1 while another registration holds upstream's entry.")
        self._certificates()
        self._conflicts()
        unreadable = self._counter(
            "configuration_errors_total", "Readings that failed; the last good one stays.", input=tuple(Input)
        )
        self.configuration_errors: Final = {one: unreadable.labels(one.value) for one in Input}
        lasting = self._gauge(
            "configuration_unreadable",
            "1 while the last reading failed: the last good one stays, or nothing is done where there is none.",
            input=tuple(Input),
        )
        self.configuration_unreadable: Final = {one: lasting.labels(one.value) for one in Input}
        self.lint_findings: Final = self._gauge(
            "lint_findings", "Findings of the last lint: pods that our own selectors must never catch and do."
        )

    def failure_policy_is(self, state: str, *, since: float | None, flaps: int) -> None:
        """Note what stands, one of STATES; `since` None where nobody knows."""
        for one in STATES:
            self._state.labels(one).set(one == state)
        self._last_change.set(_NAN if since is None else since)
        self._flaps.set(flaps)

    def proof_ended(self, verdict: str, *, seconds: float, at: float) -> None:
        """Note a proof that ended at `at` with one of VERDICTS and took `seconds`."""
        self._proved.labels(verdict).inc()
        self._proof_duration.observe(seconds)
        if verdict == "proved":
            self._last_success.set(at)

    def pass_ended(self, result: str, *, seconds: float) -> None:
        """Note a pass that came to one of RESULTS and took `seconds`."""
        self._passed.labels(result).inc()
        self._pass_duration.observe(seconds)

    def wrote(self, action: str, reason: str) -> None:
        """Note a write to the registration: one of ACTIONS for one of REASONS."""
        self._writes.labels(action, reason).inc()

    def certificate_is(self, which: Certificate, *, not_before: float, not_after: float) -> None:
        """Note the validity of the certificate that is in use now."""
        self._certificate_start[which].set(not_before)
        self._certificate_expiry[which].set(not_after)

    def failed(self, error: errors.ReconcilerError) -> None:
        """Note an error, whoever caught it."""
        self._errors.labels(type(error).__name__).inc()

    def drifted(self, field: str, manager: str) -> None:
        """Note that `field` was found changed by `manager`; `field` as drift names it."""
        pair = _pair(field, manager)
        if pair not in self._drifted and len(self._drifted) >= _MOST_PAIRS:
            pair = _OTHER
        self._drifted.add(pair)
        self._drift.labels(*pair).inc()

    def wars_are(self, sides: Iterable[tuple[str, str]]) -> None:
        """Note with whom it is a war now: all pairs of manager and field, as drift names it."""
        pairs = sorted({_pair(field, manager) for manager, field in sides})
        self._conflict.clear()
        for field, manager in [*pairs[:_MOST_PAIRS], *([_OTHER] if len(pairs) > _MOST_PAIRS else [])]:
            self._conflict.labels(manager, field).set(1)

    def _build_info(self) -> None:
        found, meaning = version("seccomp-reconciler"), "Version of the program."
        Info(f"{_PREFIX}build", meaning, registry=self.registry).info({"version": found})
        self.definitions.append(Definition(f"{_PREFIX}build_info", "gauge", {"version": ()}, meaning))

    def _failure_policy(self) -> None:
        self._state = self._gauge(
            "failure_policy", "1 for the failurePolicy that stands, else 0; all 0 until known.", state=STATES
        )
        self._last_change = self._gauge(
            "failure_policy_last_change_timestamp_seconds", "When the failurePolicy last changed; NaN until known."
        )
        self._last_change.set(_NAN)
        self._flaps = self._gauge("failure_policy_flaps", "Losses of Fail since the last calm: each doubles the soak.")
        self.fail_open = self._gauge("fail_open", "1 while a window is open: not at Fail, after having been there.")
        self.fail_open_windows = self._counter("fail_open_windows_total", "Windows that this process recorded.")
        self.fail_open_pods = self._gauge(
            "fail_open_pods",
            "Pods without a profile that were created in a recorded window; NaN until known.",
        )
        self.unprofiled_pods_outside_windows = self._gauge(
            "unprofiled_pods_outside_windows",
            "Pods without a profile that were created at Fail, outside every window; NaN until known.",
        )
        self.fail_open_pods.set(_NAN)
        self.unprofiled_pods_outside_windows.set(_NAN)

    def _proofs(self) -> None:
        self._proved = self._counter("proofs_total", "Proofs through the API server.", verdict=VERDICTS)
        self._proof_duration = self._histogram("proof_duration_seconds", "Seconds that a proof took.")
        self._last_success = self._gauge(
            "proof_last_success_timestamp_seconds", "When the path was last proved; 0 before the first time."
        )

    def _passes(self) -> None:
        self._passed = self._counter("passes_total", "Passes of the loop that ended.", result=RESULTS)
        self._pass_duration = self._histogram("pass_duration_seconds", "Seconds that a pass took.")
        self._writes = self._counter("writes_total", "Writes to the registration.", action=ACTIONS, reason=REASONS)
        self._errors = self._counter("errors_total", "Errors by their class.", kind=_kinds())
        self.retries = self._counter("retries_total", "Passes that failed and are tried again.")
        # The loop gives the function: set_function(lambda: wake.age_seconds).
        self.queue_age = self._gauge(
            "queue_age_seconds", "Age of the oldest trigger that no pass has answered; 0 when there is none."
        )

    def _certificates(self) -> None:
        # `run` gives the function, as for queue_age.
        self.clock_ahead = self._gauge(
            "clock_ahead_seconds",
            "Seconds by which this machine's clock is ahead of the API server's, negative: behind; 0 within five "
            "minutes, or where unknown.",
        )
        start = self._gauge(
            "certificate_not_before_timestamp_seconds",
            "When the certificate's validity began; NaN until known.",
            certificate=tuple(Certificate),
        )
        expiry = self._gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate expires; NaN until known.",
            certificate=tuple(Certificate),
        )
        self._certificate_start = {one: start.labels(one.value) for one in Certificate}
        self._certificate_expiry = {one: expiry.labels(one.value) for one in Certificate}
        for one in Certificate:
            self.certificate_is(one, not_before=_NAN, not_after=_NAN)

    def _conflicts(self) -> None:
        self._drift = self._counter(
            "drift_total", f"Fields found changed, and by whom; other after {_MOST_PAIRS} pairs.", field=(), manager=()
        )
        self._drifted: set[tuple[str, str]] = set()
        self._conflict = self._gauge(
            "conflict", "1 while a manager keeps changing the field back; else no series.", manager=(), field=()
        )

    def _counter(self, name: str, meaning: str, **labels: tuple[str, ...]) -> Counter:
        return self._defined(Counter(f"{_PREFIX}{name}", meaning, labels, registry=self.registry), name, labels)

    def _gauge(self, name: str, meaning: str, **labels: tuple[str, ...]) -> Gauge:
        return self._defined(Gauge(f"{_PREFIX}{name}", meaning, labels, registry=self.registry), name, labels)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        made = Histogram(f"{_PREFIX}{name}", meaning, buckets=_BUCKETS, registry=self.registry)
        return self._defined(made, name, {})

    def _defined(self, metric: _Metric, name: str, labels: Mapping[str, tuple[str, ...]]) -> _Metric:
        """Write the metric down for the table, and make its series: all of them exist from the start."""
        described = next(iter(metric.describe()))
        self.definitions.append(Definition(f"{_PREFIX}{name}", described.type, labels, described.documentation))
        if labels:
            for values in itertools.product(*labels.values()):
                metric.labels(*values)
        return metric


def table() -> str:
    """Return every metric of ours as a Markdown table."""
    rows = [
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
        *(
            f"| `{one.name}` | {one.kind} | {'; '.join(map(_label, one.labels.items()))} | {one.meaning} |"
            for one in sorted(Metrics().definitions, key=lambda one: one.name)
        ),
    ]
    return "\n".join(rows) + "\n"


def _label(label: tuple[str, tuple[str, ...]]) -> str:
    name, values = label
    return f"`{name}`: {', '.join(values)}" if values else f"`{name}`"


def _pair(field: str, manager: str) -> tuple[str, str]:
    """Return field and manager as labels: `webhooks[0].rules` is `webhooks.rules`, whichever entry it was."""
    return _INDICES.sub("", field), manager[:_MANAGER_CHARACTERS]


def _kinds() -> tuple[str, ...]:
    """Return the classes of errors.py: what others derive from them must not change the table."""
    classes = (one for one in vars(errors).values() if isinstance(one, type))
    return tuple(one.__name__ for one in classes if issubclass(one, errors.ReconcilerError))


if __name__ == "__main__":
    sys.stdout.write(table())
