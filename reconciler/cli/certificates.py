"""The commands `certificates status` and `certificates rotate`."""

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import EXIT_CODES, OUTPUT, Options, cluster_options, timeout_option
from reconciler.errors import ConflictError, ExitCode, NotProvedError, UsageError
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from reconciler.certificates.authority import Certificate
    from reconciler.certificates.rotation import Phase
    from reconciler.settings import ReconcilerConfiguration, SelfSigned

_STEP_WAIT_SECONDS = 0.5
_NOT_OURS = "registration.ca is not selfSigned: these certificates are issued and rotated by another program"


@click.group()
def certificates() -> None:
    """Look at the certificates that the reconciler issues itself, or rotate them before they are due."""


@certificates.command(epilog=EXIT_CODES)
@cluster_options
@OUTPUT
def status(output: str, **options: Any) -> None:  # noqa: ANN401 - click's keywords, checked by Options
    """Show authorities and serving certificate, where a rotation stands, and its next step. Nothing is written.

    Exit 0: the serving certificate is valid and the registration trusts its authority; 75: not.
    """
    chosen = Options(**options)
    if chosen.ca_file is not None:
        raise UsageError(_NOT_OURS)
    settings = chosen.settings()
    own = _own(settings)
    report = asyncio.run(_report(chosen, settings, own))
    if output == "json":
        click.echo(json.dumps(report))
    else:
        for line in _lines(report):
            click.echo(line)
    sys.exit(ExitCode.OK if report["good"] else ExitCode.TRY_AGAIN)


@certificates.command(epilog=EXIT_CODES)
@cluster_options
@timeout_option(900.0)
@click.option("--now", is_flag=True, help="Carry it to its end here, with no more overlap than the propagation time.")
def rotate(timeout: float, *, now: bool, **options: Any) -> None:  # noqa: ANN401 - likewise
    """Begin a rotation of authority and serving certificate, before it is due.

    A running reconciler carries it on, in its own time; so does each `reconcile`. With --now this command does it:
    each turn waits for a proof, and for the time that a Secret takes to reach every server.
    """
    chosen = Options(**options)
    if chosen.ca_file is not None:
        raise UsageError(_NOT_OURS)
    settings = chosen.settings()
    own = _own(settings)
    phase = asyncio.run(_rotate(chosen, settings, own, seconds=timeout, to_the_end=now))
    click.echo(f"phase: {phase.value}")


def _own(settings: "ReconcilerConfiguration") -> "SelfSigned":
    own = settings.registration.ca.self_signed
    if own is None:
        raise UsageError(_NOT_OURS)
    return own


async def _report(options: Options, settings: "ReconcilerConfiguration", own: "SelfSigned") -> dict[str, Any]:
    from reconciler.certificates.authority import read, signed  # noqa: PLC0415 - heavy
    from reconciler.certificates.rotation import Facts, next_step  # noqa: PLC0415 - likewise
    from reconciler.controller import reconcile, trust  # noqa: PLC0415 - imports kubernetes

    async with options.cluster(settings) as cluster:
        standing = await trust.look(cluster, own)
        registration = await cluster.get(reconcile.target_of(settings.registration))
        now, words = cluster.clock.now(), cluster.clock.words
    trusted = trust.registered(registration)
    facts = Facts(now, trusted, None, trust.registered_since(registration))
    step = next_step(standing, facts, trust.policy_of(own, settings.registration.backend))
    held, leaf = standing.authorities, next(iter(read(standing.serving.certificate)), None)
    parts = [] if held is None else [("signer", held.signer), ("retiring", held.retiring)]
    if held is not None and held.next is not None:
        parts.insert(1, ("next", held.next.certificate))
    known = {one.der for one in trusted}
    good = (
        leaf is not None and leaf.is_valid_at(now) and any(signed(leaf, one) for one in trusted if one.is_valid_at(now))
    )
    return {
        "good": good,
        "clock": words or None,
        "phase": None if held is None else held.phase.value,
        "authorities": [
            {"role": role, **_described(one), "registered": one.der in known}
            for role, pem in parts
            for one in read(pem)
        ],
        "serving": None if leaf is None else {**_described(leaf), "names": sorted(leaf.names)},
        "next": {"action": step.action.value, "reason": step.reason, "due": utc(step.due) if step.due else None},
    }


def _described(one: "Certificate") -> dict[str, str]:
    return {"fingerprint": one.fingerprint, "notBefore": utc(one.not_before), "notAfter": utc(one.not_after)}


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"phase: {report['phase'] or 'nothing issued yet'}"]
    if report["clock"]:
        lines.append(f"clock: {report['clock']}")
    for one in report["authorities"]:
        registered = "registered" if one["registered"] else "not registered"
        lines.append(f"authority {one['fingerprint']} ({one['role']}): until {one['notAfter']}, {registered}")
    leaf = report["serving"]
    lines.append(
        "serving certificate: none"
        if leaf is None
        else f"serving certificate {leaf['fingerprint']}: until {leaf['notAfter']}, for {', '.join(leaf['names'])}"
    )
    step = report["next"]
    due = f"; looked at again {step['due']}" if step["due"] else ""
    lines.append(f"next step: {step['action']} ({step['reason']}){due}")
    return lines


async def _rotate(
    options: Options, settings: "ReconcilerConfiguration", own: "SelfSigned", *, seconds: float, to_the_end: bool
) -> "Phase":
    """Return the phase that was reached, the steps printed; NotProvedError where the end is not within `seconds`."""
    from reconciler.certificates.rotation import Phase, Proved  # noqa: PLC0415 - heavy
    from reconciler.controller import oneshot, proof  # noqa: PLC0415 - imports kubernetes

    overlap = own.propagation_seconds if to_the_end else None
    wish = oneshot.Rotation(begin=True, overlap_seconds=overlap)
    end = time.monotonic() + seconds
    async with options.cluster(settings) as cluster:
        while True:
            try:
                found = (await oneshot.one_pass(cluster, settings, rotation=wish)).trust
            except ConflictError:
                found = None  # a running reconciler was faster: read again
            else:
                if found is None:
                    raise UsageError(
                        "the gate is off, or a pause removed the registration: the certificates are left as they are"
                    )
                for step in found.steps:
                    click.echo(f"{step.action.value}: {step.reason}")
                if not to_the_end or found.phase is Phase.STABLE:
                    return found.phase
            if time.monotonic() + _STEP_WAIT_SECONDS > end:
                raise NotProvedError(f"the rotation is not over after {seconds:g} s; it goes on from where it stands")
            await asyncio.sleep(_STEP_WAIT_SECONDS)
            last = await proof.prove(cluster, settings.registration, settings.proof)
            proved = Proved(last.began, last.fingerprint) if last.verdict is proof.Verdict.PROVED else None
            wish = oneshot.Rotation(begin=found is None and wish.begin, overlap_seconds=overlap, proved=proved)
