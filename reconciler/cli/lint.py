"""The command `lint`: whether our own registration would catch what must never depend on it."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler.cli.options import EXIT_CODES, OUTPUT, Options, cluster_options, files_option
from reconciler.errors import InvalidConfigurationError

if TYPE_CHECKING:
    from reconciler.registration.identity import Manifest
    from reconciler.registration.lint import Finding
    from reconciler.registration.subjects import Subject
    from reconciler.settings import ReconcilerConfiguration

_EXAMPLES: Final = """
\b
Examples:
  seccomp-reconciler lint
  seccomp-reconciler render | seccomp-reconciler lint -f - -f config/canary.yaml
  kubectl get pods --namespace garden -o yaml | seccomp-reconciler lint -f -
"""


@click.command(epilog=_EXAMPLES + EXIT_CODES)
@cluster_options
@files_option("Manifests to judge instead of a cluster, YAML or JSON; - is standard input. May be repeated.")
@OUTPUT
def lint(files: tuple[Path, ...], output: str, **options: Any) -> None:  # noqa: ANN401 - click's keywords, checked by Options
    """Say whether the registration would lock the house: refuse a pod that must start while nobody answers.

    With failurePolicy Fail, a pod that the selectors catch is refused while the webhook cannot be called. It must not
    catch the pods of its own server, the reconciler, gardenlet, anything in kube-system, nor static pods; and it must
    catch the canary, or nothing could ever be proved. Each finding names the pod, the term of the selector, and what
    to change. Exit 0: nothing found but warnings; 65: something found.

    Without -f the cluster is asked, and what may not be read there is told in a note; nothing is written. With -f no
    cluster is needed: pods and workloads are judged by their templates, labels of namespaces are those of the Namespace
    objects given, and a MutatingWebhookConfiguration among them is judged instead of the rendered one. What is not
    given is judged as our own manifests make it; labels that nobody gives may be any.
    """
    from reconciler.registration import lint as linter  # noqa: PLC0415 - heavy, and not every command needs it

    chosen = Options(**options)
    if files:
        chosen.refuse_cluster()
    settings = chosen.settings(offline=bool(files))
    manifest, subjects, notes = _given(files, settings) if files else asyncio.run(_standing(chosen, settings))
    findings = linter.check(manifest, subjects)
    errors = [one for one in findings if one.severity is linter.Severity.ERROR]
    if output == "json":
        click.echo(json.dumps(_report(findings, subjects, notes)))
    else:
        for note in notes:
            click.echo(f"note: {note}", err=True)
        for one in findings:
            if one not in errors:
                click.echo(f"warning: {one}", err=True)
        judged = Counter(subject.why.value for subject in subjects)
        click.echo(f"judged: {', '.join(f'{count} {why}' for why, count in sorted(judged.items()))}")
        if not errors:
            click.echo("good: nothing that must start without the webhook is caught, and the canary is")
    if errors:
        raise InvalidConfigurationError(
            "\n  ".join(("this must not stand with failurePolicy Fail:", *map(str, errors)))
        )


def _given(
    files: tuple[Path, ...], settings: "ReconcilerConfiguration"
) -> tuple["Manifest", tuple["Subject", ...], tuple[str, ...]]:
    """Return what to judge, and the subjects, from manifests."""
    from reconciler.files import read_file  # noqa: PLC0415 - likewise
    from reconciler.registration import desired, manifests  # noqa: PLC0415 - heavy, and not every command needs it

    objects: list[Manifest] = []
    for file in files:
        if str(file) == "-":
            content, origin = sys.stdin.buffer.read(manifests.MAX_BYTES + 1), "standard input"
        else:
            content, origin = read_file(file, most_bytes=manifests.MAX_BYTES), str(file)
        objects += manifests.parse(content, origin=origin)
    manifest = manifests.registration_in(objects, settings.registration.webhook_name)
    rendered = desired.render(settings.registration, ca_bundle=None)
    return rendered if manifest is None else manifest, manifests.subjects_in(objects, settings), ()


async def _standing(
    options: Options, settings: "ReconcilerConfiguration"
) -> tuple["Manifest", tuple["Subject", ...], tuple[str, ...]]:
    """Return what to judge, the subjects, and notes about what was not looked at, from the cluster."""
    from reconciler.controller import linting  # noqa: PLC0415 - imports kubernetes

    async with options.cluster(settings) as cluster:
        manifest = await linting.judged(cluster, settings.registration)
        return manifest, *await linting.gather(cluster, settings, manifest)


def _report(
    findings: tuple["Finding", ...], subjects: tuple["Subject", ...], notes: tuple[str, ...]
) -> dict[str, object]:
    """Return what --output json shows."""
    return {
        "good": not any(one.severity.value == "error" for one in findings),
        "findings": [
            {
                "severity": one.severity.value,
                **_named(one.subject),
                "verdict": one.verdict,
                "terms": list(one.terms),
                "fix": one.fix,
            }
            for one in findings
        ],
        "judged": [_named(one) for one in subjects],
        "notes": list(notes),
    }


def _named(subject: "Subject") -> dict[str, str | None]:
    return {"kind": subject.why.value, "pod": subject.name, "namespace": subject.namespace}
