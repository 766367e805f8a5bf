"""Commands that work on a cluster once: diff, reconcile and prove."""

import asyncio
import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.deadline import deadline
from reconciler.cli.options import (
    EXIT_CODES,
    OUTPUT,
    Options,
    cluster_options,
    decision_json,
    difference_json,
    timeout_option,
)
from reconciler.errors import ExitCode, NotProvedError
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reconciler.controller.oneshot import OneShot, Pass
    from reconciler.controller.proof import Proof
    from reconciler.registration.memory import Memory
    from reconciler.settings import ReconcilerConfiguration

# Between two tries to prove what was just registered: servers need a moment to load their certificate.
_PROOF_WAIT_SECONDS = 1.0


@click.command(epilog=EXIT_CODES)
@cluster_options
@timeout_option(60.0)
def diff(timeout: float, **options: Any) -> None:  # noqa: ANN401 - click's keywords, checked by Options
    """Show what `reconcile` would change in the cluster. Exit 0: nothing; 1: something; more: an error.

    The API server computes the result by a dry-run; nothing is written.
    """
    from reconciler.registration.present import unified  # noqa: PLC0415 - heavy, and not every command needs it

    done = once(Options(**options), timeout=timeout, dry_run=True)
    text = unified(done.before, done.outcome.observed)
    for line in text:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(click.style(line, fg=colour))
    sys.exit(ExitCode.DIFFERENT if text else ExitCode.OK)


@click.command(epilog=EXIT_CODES)
@cluster_options
@OUTPUT
@timeout_option(60.0)
@click.option("--dry-run", is_flag=True, help="Let the API server check everything and keep nothing.")
@click.option("--adopt", is_flag=True, help="Take over an object of our name that is not ours.")
@click.option("--wait", is_flag=True, help="Go on until the path is proved, and Fail is reached where it is asked for.")
def reconcile(timeout: float, output: str, *, dry_run: bool, adopt: bool, wait: bool, **options: Any) -> None:  # noqa: ANN401 - likewise
    """Make the cluster match, once: for a Job in seed bootstrap.

    Prints one line: registered, updated, unchanged, removed or absent; with --wait a second one about the proof. It
    needs no Lease: safe beside a running loop. It registers as Ignore; with --wait it goes on until the path is proved
    and failurePolicy is what the settings ask for: Adaptive and Fail are raised by proofs.
    """
    chosen = Options(**options)
    if dry_run and wait:
        raise click.UsageError("--wait needs something that stands: it does not go with --dry-run")
    done = once(chosen, timeout=timeout, dry_run=dry_run, adopt=adopt, wait=wait)
    outcome = done.outcome
    name = chosen.settings().registration.name
    if output == "json":
        click.echo(
            json.dumps(
                {
                    "result": outcome.result.value,
                    "name": name,
                    "gate": decision_json(done.decision),
                    "dryRun": dry_run,
                    "differences": [difference_json(item) for item in outcome.differences],
                    "addedByOthers": [difference_json(item) for item in outcome.tolerated],
                    "certificates": [] if done.trust is None else [step.action.value for step in done.trust.steps],
                    "failurePolicy": None if done.memory is None else memory_json(done.memory),
                    "proof": None if done.proof is None else proof_json(done.proof),
                    "paused": None if done.pause is None else str(done.pause),
                }
            )
        )
    else:
        paths = ", ".join(item.path for item in outcome.differences)
        click.echo(
            f"{outcome.result.value} mutatingwebhookconfiguration/{name}"
            + (f" ({paths})" if paths else "")
            + (" (dry run)" if dry_run else "")
        )
        if done.proof is not None and done.proof.holds:
            click.echo(_told(done.proof))
        if wait and done.memory is not None:
            click.echo(f"failurePolicy {done.memory.state.value}: {done.memory.reason}")
    if done.pause is not None:
        click.echo(f"{done.pause}; `resume` ends it", err=True)
    if done.is_deferred:
        click.echo(f"registration is left to {chosen.settings().registration.twin_name} (onTwin: Defer)", err=True)
    if wait and done.proof is not None:
        if not done.proof.holds:
            raise NotProvedError(f"not proved within {timeout:g} s: {_told(done.proof)}")
        if not _is_enforced(done, chosen.settings()):
            why = done.refused or (done.memory.reason if done.memory else "")
            raise NotProvedError(f"proved, but not at Fail within {timeout:g} s: {why}")


@click.command(epilog=EXIT_CODES)
@cluster_options
@OUTPUT
def prove(output: str, **options: Any) -> None:  # noqa: ANN401 - likewise
    """Prove the path through the API server by a dry-run pod: it must come back with the profile.

    A second one, with the skip label, must come back without. Nothing is persisted. Exit 0: proved; 75: not, and the
    verdict says why: not-mutated, unreachable, or inconclusive (something else was in the way).
    """
    from reconciler.controller.oneshot import OneShot  # noqa: PLC0415 - imports kubernetes

    chosen = Options(**options)
    settings = chosen.settings()

    async def ask() -> "Proof":
        async with chosen.cluster(settings) as cluster:
            shot = OneShot(cluster, settings)
            await shot.look_for_twin()
            return await shot.prove()

    found = asyncio.run(ask())
    if output == "json":
        click.echo(json.dumps(proof_json(found)))
    else:
        click.echo(_told(found))
    sys.exit(ExitCode.OK if found.holds else ExitCode.TRY_AGAIN)


def once(options: Options, *, timeout: float, dry_run: bool = False, adopt: bool = False, wait: bool = False) -> "Pass":
    """Run one pass until it succeeds or `timeout` seconds are over; with `wait`, until it is proved."""
    from reconciler.controller import oneshot  # noqa: PLC0415 - imports kubernetes

    settings = options.settings(within=timeout)
    left = max(timeout - options.spent_seconds, 0.0)
    warned: set[str] = set()

    async def one_pass(shot: "OneShot") -> "Pass":
        found = await shot.run()
        ownerless = (f"no ownerReference: {found.ownerless}",) if found.ownerless else ()
        clock = (found.trust.clock,) if found.trust is not None and found.trust.clock else ()
        for warning in {*found.decision.warnings, *ownerless, *clock} - warned:
            click.echo(f"warning: {warning}", err=True)
            warned.add(warning)
        return found

    async def until_deadline() -> "Pass":
        end = time.monotonic() + left
        with deadline(settings, timeout, spent_seconds=options.spent_seconds) as policy:
            async with options.cluster(settings, within=left) as cluster:
                shot = oneshot.OneShot(cluster, settings, dry_run=dry_run, adopt=adopt)
                async with asyncio.timeout(left):
                    done: Pass = await policy(one_pass, shot)
                nothing_stands = done.memory is None and not done.is_deferred  # the gate is off, or a pause removed it
                if not wait or nothing_stands:
                    return done
                return await _enforced(shot, done, settings, end, lambda: policy(one_pass, shot))

    return asyncio.run(until_deadline())


async def _enforced(
    shot: "OneShot",
    done: "Pass",
    settings: "ReconcilerConfiguration",
    end: float,
    again: "Callable[[], Awaitable[Pass]]",
) -> "Pass":
    """Prove until it holds and Fail is reached where it is asked for, or the clock reaches `end`.

    What comes back tells of the first write of all: who registered and then raised it has registered it.
    """
    first = done.outcome
    while True:
        found = await shot.prove()
        if found.holds and not done.is_deferred:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(end - time.monotonic(), 1.0)):
                done = await again()  # the proof may raise it
        if first.actions:
            done = replace(done, outcome=replace(done.outcome, result=first.result, differences=first.differences))
        done = replace(done, proof=shot.proof)
        if found.holds and _is_enforced(done, settings):
            return done
        wait = min(shot.enforcement.next_proof_seconds(), _PROOF_WAIT_SECONDS) if found.holds else _PROOF_WAIT_SECONDS
        if time.monotonic() + wait > end:
            return done
        await asyncio.sleep(wait)


def _is_enforced(done: "Pass", settings: "ReconcilerConfiguration") -> bool:
    """Return whether failurePolicy is what the settings ask for, as far as nothing else keeps it down."""
    from reconciler.registration.memory import State  # noqa: PLC0415 - heavy
    from reconciler.settings import FailurePolicy  # noqa: PLC0415 - likewise

    if done.pause is not None or done.memory is None or settings.registration.failure_policy is FailurePolicy.IGNORE:
        return True
    # A window ends when Fail is seen to stand: one look more.
    return done.memory.state is State.FAIL and not done.memory.is_open


def memory_json(memory: "Memory") -> dict[str, object]:
    """Return what the registration remembers as --output json shows it."""
    return {
        "state": memory.state.value,
        "since": utc(memory.since),
        "reason": memory.reason,
        "flaps": memory.flaps,
        "windows": [
            {"start": utc(one.start), "end": None if one.end is None else utc(one.end), "reason": one.reason}
            for one in memory.windows
        ],
    }


def proof_json(found: "Proof") -> dict[str, object]:
    """Return a proof as --output json shows it."""
    return {
        "verdict": found.verdict.value,
        "words": found.words,
        "skipLabel": found.skip.value,
        "witness": found.witness.value if found.witness else None,
        "certificate": found.fingerprint or None,
        "seconds": round(found.seconds, 3),
    }


def _told(found: "Proof") -> str:
    certificate = f", certificate {found.fingerprint}" if found.fingerprint else ""
    return f"{found.verdict.value}: {found.words} (pod with the skip label: {found.skip.value}{certificate})"
