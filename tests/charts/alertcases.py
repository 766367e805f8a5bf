"""When each alert of the chart fires, and when it does not: what Prometheus scraped, and how much later it looks.

`leads` is what the leader shows; `once_led` what a former leader still shows, which is as old as its lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

Series = Mapping[str, str]
Samples = Mapping[str, float | str]

NAN: Final = "NaN"
HOUR: Final = 60
DAY: Final = 24 * HOUR
_DAY_SECONDS: Final = 24 * 3600
_STEPS: Final = 1440


@dataclass(frozen=True, slots=True)
class Case:
    """`firing` are the labels of the one alert that fires after `minutes`, besides the rule's own; None: it is silent.

    `value` is what the description says for {{ $value }}; a sample stands for `interval_minutes`.
    """

    alert: str
    why: str
    series: Series
    minutes: int
    firing: Mapping[str, str] | None
    value: str = ""
    interval_minutes: int = 1

    @property
    def name(self) -> str:
        """What the case shows."""
        return f"{self.alert} {'is silent' if self.firing is None else 'fires'} {self.why}"


def fires(alert: str, why: str, minutes: int, series: Series, value: str = "", **labels: str) -> Case:
    """Return the case in which it fires."""
    return Case(f"SeccompReconciler{alert}", why, series, minutes, labels, value)


def is_silent(alert: str, why: str, minutes: int, series: Series) -> Case:
    """Return the case in which it does not fire, and nobody should be woken."""
    return Case(f"SeccompReconciler{alert}", why, series, minutes, None)


def every(minutes: int, case: Case) -> Case:
    """Return the case with a sample each `minutes`: it lasts for long."""
    return replace(case, interval_minutes=minutes)


def steady(value: float, steps: int = _STEPS) -> str:
    """Return a series that stays at `value`."""
    return f"{value}+0x{steps}"


def growing(step: float) -> str:
    """Return a counter, or a clock, that grows by `step` with each sample."""
    return f"0+{step}x{_STEPS}"


def shown(instance: str, samples: Samples, steps: int = _STEPS) -> dict[str, str]:
    """Return what one pod shows, as a ServiceMonitor labels it; a number stays, NaN too, a text is taken as it is."""
    series = {}
    for name, value in samples.items():
        plain, _, labels = name.partition("{")
        own = f'instance="{instance}:8080",pod="pod-{instance}"'
        full = f"seccomp_reconciler_{plain}{{{own}{',' + labels if labels else '}'}"
        unknown = " ".join([NAN] * (steps + 1))
        series[full] = steady(value, steps) if isinstance(value, (int, float)) else unknown if value == NAN else value
    return series


def leads(samples: Samples | None = None, steps: int = _STEPS) -> dict[str, str]:
    """Return what the leader shows, beside another reconciler that does not lead."""
    return shown("a", {"leader": 1, **(samples or {})}, steps) | shown("b", {"leader": 0}, steps)


def once_led(samples: Samples) -> dict[str, str]:
    """Return what a former leader still shows."""
    return shown("c", {"leader": 0, **samples})


def certificate(which: str, days: float, *, steps: int = _STEPS, gate: int = 1) -> dict[str, str]:
    """Return what the leader shows of a certificate that is valid for so many days from the beginning on."""
    samples = {
        "gate_enabled": gate,
        f'certificate_not_before_timestamp_seconds{{certificate="{which}"}}': 0,
        f'certificate_expiry_timestamp_seconds{{certificate="{which}"}}': days * _DAY_SECONDS,
    }
    return leads(samples, steps)


def served(instance: str, days: float, *, steps: int = _STEPS) -> dict[str, str]:
    """Return what a server shows of such a certificate."""
    samples = {
        "admission_certificate_not_before_timestamp_seconds": 0,
        "admission_certificate_expiry_timestamp_seconds": days * _DAY_SECONDS,
    }
    return shown(instance, samples, steps)


def server(instance: str) -> dict[str, str]:
    """Return the labels by which an alert names a server."""
    return {"instance": f"{instance}:8080", "pod": f"pod-{instance}"}


NOBODY: Final = {"up": steady(1)}
FAIL: Final = {'failure_policy{state="Fail"}': 1, 'failure_policy{state="Ignore"}': 0}
IGNORE: Final = {'failure_policy{state="Fail"}': 0, 'failure_policy{state="Ignore"}': 1}
PROOFS: Final = {f'proofs_total{{verdict="{one}"}}': 7 for one in ("proved", "not-mutated", "unreachable")}
AT_FAIL: Final = {**FAIL, **PROOFS}
UNREACHABLE: Final = {'proofs_total{verdict="unreachable"}': growing(2)}
OUTSIDE: Final = "unprofiled_pods_outside_windows"
PROOF: Final = "proof_last_success_timestamp_seconds"
STANDS: Final = {"gate_enabled": 1, "registration_present": 1}
WAR: Final = 'conflict{manager="argocd",field="webhooks.failurePolicy"}'
UNREADABLE_CA: Final = 'configuration_unreadable{input="ca"}'
UNREADABLE: Final = 'configuration_unreadable{input="configuration"}'
REJECTED: Final = "admission_rejected_requests_total"

RECONCILER: Final = (
    fires("Absent", "where nobody is scraped", 12, NOBODY),
    fires("Absent", "where everybody is gone", 32, shown("a", {"leader": "1+0x15"})),
    is_silent("Absent", "while it is new", 8, NOBODY),
    is_silent("Absent", "where one is scraped", HOUR, leads()),
    fires("NoLeader", "where nobody holds the Lease", 7, shown("a", {"leader": 0}) | shown("b", {"leader": 0})),
    is_silent("NoLeader", "while it is new", 4, shown("a", {"leader": 0})),
    is_silent("NoLeader", "where one leads", HOUR, leads()),
    is_silent(
        "NoLeader",
        "when another takes over",
        HOUR,
        shown("a", {"leader": "1+0x10 0+0x60"}) | shown("b", {"leader": "0+0x12 1+0x60"}),
    ),
    fires("PassesFailing", "when a trigger waits", 20, leads({"queue_age_seconds": growing(60)}), value="20m 0s"),
    is_silent("PassesFailing", "while it is new", 11, leads({"queue_age_seconds": growing(60)})),
    is_silent("PassesFailing", "when passes answer", HOUR, leads({"queue_age_seconds": "0+60x8 0+0x60"})),
    is_silent(
        "PassesFailing",
        "for a former leader",
        HOUR,
        leads({"queue_age_seconds": 0}) | once_led({"queue_age_seconds": growing(60)}),
    ),
    fires("PodsRefused", "at Fail without the webhook", 12, leads({**AT_FAIL, **UNREACHABLE})),
    is_silent("PodsRefused", "while it is new", 4, leads({**AT_FAIL, **UNREACHABLE})),
    is_silent("PodsRefused", "at Ignore", HOUR, leads({**PROOFS, **UNREACHABLE, **IGNORE})),
    is_silent(
        "PodsRefused",
        "where the webhook is not even called",
        HOUR,
        leads({**AT_FAIL, 'proofs_total{verdict="not-mutated"}': growing(2)}),
    ),
    is_silent(
        "PodsRefused",
        "when it is lowered in time",
        HOUR,
        leads({**AT_FAIL, **UNREACHABLE, 'failure_policy{state="Fail"}': "1+0x4 0+0x60"}),
    ),
    is_silent(
        "PodsRefused",
        "where other proofs succeed",
        HOUR,
        leads({**AT_FAIL, **UNREACHABLE, 'proofs_total{verdict="proved"}': growing(1)}),
    ),
    is_silent(
        "PodsRefused",
        "for a former leader",
        HOUR,
        leads(AT_FAIL) | once_led({**AT_FAIL, **UNREACHABLE}),
    ),
    fires("FailOpen", "when a window stays open", 47, leads({"fail_open": 1, "paused": 0})),
    fires(
        "FailOpen", "whatever a former leader says of a pause", 47, leads({"fail_open": 1}) | once_led({"paused": 1})
    ),
    fires(
        "FailOpen",
        "though another took the lead meanwhile",
        47,
        shown("a", {"leader": "1+0x30 0+0x60", "fail_open": 1})
        | shown("b", {"leader": "0+0x30 1+0x60", "fail_open": "0+0x30 1+0x60"}),
    ),
    is_silent("FailOpen", "for as long as a soak may take", 44, leads({"fail_open": 1, "paused": 0})),
    is_silent("FailOpen", "when the window closes", HOUR, leads({"fail_open": "1+0x30 0+0x60"})),
    is_silent("FailOpen", "in a pause", 2 * HOUR, leads({"fail_open": 1, "paused": 1})),
    is_silent("FailOpen", "for a former leader", 2 * HOUR, leads({"fail_open": 0}) | once_led({"fail_open": 1})),
    fires("UnexplainedPods", "when there are some", 17, leads({OUTSIDE: 3}) | once_led({OUTSIDE: 0}), value="3"),
    is_silent("UnexplainedPods", "while it is new", 14, leads({OUTSIDE: 3})),
    is_silent("UnexplainedPods", "when there are none", HOUR, leads({OUTSIDE: 0})),
    is_silent("UnexplainedPods", "when nobody can tell", HOUR, leads({OUTSIDE: NAN}) | once_led({OUTSIDE: 3})),
    is_silent("UnexplainedPods", "for a former leader", HOUR, leads({OUTSIDE: 0}) | once_led({OUTSIDE: 3})),
    fires("NotProved", "when the last proof is old", 24, leads({**STANDS, PROOF: 120})),
    fires("NotProved", "when there never was one", 22, leads({**STANDS, PROOF: 0})),
    is_silent("NotProved", "while it is new", 20, leads({**STANDS, PROOF: 120})),
    is_silent("NotProved", "while proofs succeed", DAY, leads({**STANDS, PROOF: growing(60)})),
    is_silent("NotProved", "with the gate off", HOUR, leads({**STANDS, PROOF: 0, "gate_enabled": 0})),
    is_silent("NotProved", "where nothing stands", HOUR, leads({**STANDS, PROOF: 0, "registration_present": 0})),
    is_silent(
        "NotProved",
        "for a former leader",
        HOUR,
        leads({**STANDS, PROOF: growing(60)}) | once_led({**STANDS, PROOF: 120}),
    ),
    fires("Flapping", "after four losses", 8, leads({"failure_policy_flaps": 4}), value="4"),
    is_silent("Flapping", "while it is new", 4, leads({"failure_policy_flaps": 4})),
    is_silent("Flapping", "after two", HOUR, leads({"failure_policy_flaps": 2})),
    is_silent(
        "Flapping",
        "for a former leader",
        HOUR,
        leads({"failure_policy_flaps": 0}) | once_led({"failure_policy_flaps": 6}),
    ),
    fires("PodsLetThrough", "when they run for hours", 362, leads({"fail_open_pods": 12}), value="12"),
    is_silent("PodsLetThrough", "while they are new", 350, leads({"fail_open_pods": 12})),
    is_silent("PodsLetThrough", "when they are gone", 500, leads({"fail_open_pods": "12+0x300 0+0x300"})),
    is_silent("PodsLetThrough", "when nobody can tell", 500, leads({"fail_open_pods": NAN})),
    is_silent(
        "PodsLetThrough", "for a former leader", 500, leads({"fail_open_pods": 0}) | once_led({"fail_open_pods": 12})
    ),
    fires("Conflict", "in a war", 12, leads({WAR: 1}), manager="argocd", field="webhooks.failurePolicy"),
    is_silent("Conflict", "while it is new", 9, leads({WAR: 1})),
    is_silent("Conflict", "when it is over", HOUR, leads({WAR: "1+0x8"})),
    is_silent("Conflict", "in peace", HOUR, leads()),
    is_silent("Conflict", "for a former leader", HOUR, leads() | once_led({WAR: 1})),
    fires("LintFindings", "when they keep it at Ignore", 12, leads({**IGNORE, "lint_findings": 2}), value="2"),
    is_silent("LintFindings", "while they are new", 9, leads({**IGNORE, "lint_findings": 2})),
    is_silent("LintFindings", "when there are none", HOUR, leads({**IGNORE, "lint_findings": 0})),
    is_silent(
        "LintFindings",
        "at Fail, where they are no more than warnings",
        HOUR,
        leads({**FAIL, "lint_findings": 2}),
    ),
    is_silent(
        "LintFindings",
        "for a former leader",
        HOUR,
        leads({**IGNORE, "lint_findings": 0}) | once_led({**IGNORE, "lint_findings": 2}),
    ),
    fires("ConfigurationUnreadable", "for the gate", 17, leads({UNREADABLE: 1}), input="configuration"),
    fires("ConfigurationUnreadable", "for the caBundle", 17, leads({UNREADABLE_CA: 1, "gate_enabled": 1}), input="ca"),
    is_silent("ConfigurationUnreadable", "while it is new", 14, leads({UNREADABLE: 1})),
    is_silent("ConfigurationUnreadable", "when it is readable", HOUR, leads({UNREADABLE: "1+0x10 0+0x60"})),
    is_silent(
        "ConfigurationUnreadable",
        "for a caBundle that nobody needs",
        HOUR,
        leads({UNREADABLE_CA: 1, "gate_enabled": 0}),
    ),
    is_silent(
        "ConfigurationUnreadable",
        "for a former leader",
        HOUR,
        leads({UNREADABLE_CA: 0, "gate_enabled": 1}) | once_led({UNREADABLE_CA: 1, "gate_enabled": 1}),
    ),
    every(
        HOUR,
        fires(
            "CertificateExpiring",
            "in the last quarter of a month",
            24 * DAY,
            certificate("serving", 30),
            value="6d 0h 0m 0s",
            certificate="serving",
        ),
    ),
    every(
        HOUR, is_silent("CertificateExpiring", "while more of a month is left", 22 * DAY, certificate("serving", 30))
    ),
    every(
        DAY,
        fires(
            "CertificateExpiring",
            "in the last month of a year",
            340 * DAY,
            certificate("authority", 365),
            value="25d 0h 0m 0s",
            certificate="authority",
        ),
    ),
    every(
        DAY,
        is_silent(
            "CertificateExpiring",
            "while more of a year is left",
            330 * DAY,
            certificate("authority", 365),
        ),
    ),
    fires(
        "CertificateExpiring",
        "in the last quarter of a day",
        20 * HOUR,
        certificate("serving", 1),
        value="4h 0m 0s",
        certificate="serving",
    ),
    is_silent("CertificateExpiring", "while it is new", 18 * HOUR + 30, certificate("serving", 1)),
    is_silent("CertificateExpiring", "with the gate off", 20 * HOUR, certificate("serving", 1, gate=0)),
    is_silent(
        "CertificateExpiring",
        "when nobody knows",
        20 * HOUR,
        leads(
            {
                "gate_enabled": 1,
                'certificate_not_before_timestamp_seconds{certificate="serving"}': NAN,
                'certificate_expiry_timestamp_seconds{certificate="serving"}': NAN,
            }
        ),
    ),
    is_silent(
        "CertificateExpiring",
        "for a former leader",
        20 * HOUR,
        certificate("serving", 30)
        | once_led(
            {
                "gate_enabled": 1,
                'certificate_not_before_timestamp_seconds{certificate="serving"}': 0,
                'certificate_expiry_timestamp_seconds{certificate="serving"}': _DAY_SECONDS,
            }
        ),
    ),
    fires("Paused", "when it is forgotten", 722, leads({"paused": 1})),
    is_silent("Paused", "for a shift", 11 * HOUR, leads({"paused": 1})),
    is_silent("Paused", "when it is over", 1000, leads({"paused": "1+0x600 0+0x600"})),
    is_silent("Paused", "for a former leader", 1000, leads({"paused": 0}) | once_led({"paused": 1})),
)

SERVER: Final = (
    fires("ServerAbsent", "where nobody is scraped", 12, leads()),
    fires("ServerAbsent", "where everybody is gone", 32, shown("s", {"admission_connections": "4+0x15"})),
    is_silent("ServerAbsent", "while it is new", 8, leads()),
    is_silent("ServerAbsent", "where one is scraped", HOUR, shown("s", {"admission_connections": 0})),
    fires("ServerWithoutCertificate", "where there never was one", 7, served("s", 0), **server("s")),
    fires("ServerWithoutCertificate", "when it is expired", DAY - 10, served("s", 0.9), **server("s")),
    fires("ServerWithoutCertificate", "for the one of two", 7, served("s", 0) | served("t", 30), **server("s")),
    is_silent("ServerWithoutCertificate", "while it is new", 4, served("s", 0)),
    is_silent("ServerWithoutCertificate", "while it is valid", 20 * HOUR, served("s", 0.9)),
    every(
        HOUR,
        fires(
            "ServerCertificateExpiring",
            "in the last quarter of a month",
            24 * DAY,
            served("s", 30) | served("t", 300),
            value="6d 0h 0m 0s",
            **server("s"),
        ),
    ),
    every(HOUR, is_silent("ServerCertificateExpiring", "while more of a month is left", 22 * DAY, served("s", 30))),
    is_silent("ServerCertificateExpiring", "while it is new", 18 * HOUR + 30, served("s", 1)),
    is_silent("ServerCertificateExpiring", "where there never was one", 5 * HOUR, served("s", 0)),
    is_silent("ServerCertificateExpiring", "when it is expired", DAY - 10, served("s", 0.9)),
    fires(
        "ServerRejects",
        "when requests are turned away all the time",
        30,
        shown("s", {f'{REJECTED}{{cause="client-name"}}': growing(2)})
        | shown("t", {f'{REJECTED}{{cause="client-name"}}': growing(1)}),
        value="45",
        cause="client-name",
    ),
    fires(
        "ServerRejects",
        "for one defect",
        20,
        shown("s", {f'{REJECTED}{{cause="defect"}}': "0+0x12 1+0x60"}),
        value="1",
        cause="defect",
    ),
    is_silent("ServerRejects", "while it is new", 4, shown("s", {f'{REJECTED}{{cause="defect"}}': growing(1)})),
    is_silent(
        "ServerRejects",
        "when a scanner passes by",
        40,
        shown("s", {f'{REJECTED}{{cause="malformed"}}': "0+0x30 8+0x60"}),
    ),
    is_silent("ServerRejects", "when nothing is turned away", HOUR, shown("s", {f'{REJECTED}{{cause="path"}}': 400})),
)

CASES: Final = (*RECONCILER, *SERVER)
