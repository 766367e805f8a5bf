"""The command `status`."""

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import kubelet_report
from reconciler.cli.once import memory_json
from reconciler.cli.options import EXIT_CODES, OUTPUT, Options, cluster_options
from reconciler.errors import ExitCode
from reconciler.timestamps import utc

if TYPE_CHECKING:
    from reconciler.controller.status import Status
    from reconciler.pods.exposure import Exposed

_COLOURS = {True: "green", False: "red"}
# Pods that are printed by name; --output json has more.
_NAMED = 10


@click.command(epilog=EXIT_CODES)
@cluster_options
@OUTPUT
def status(output: str, **options: Any) -> None:  # noqa: ANN401 - click's keywords, checked by Options
    """Show on one screen what is asked, what stands, whether it works, and what comes next. Nothing is written.

    Conditions first. It proves the path by a dry-run pod, and looks for pods that a time at Ignore let through without
    a profile. Exit 0: all is well, or the gate is off and nothing stands; 75: something is not, its line says what.
    A twin (gardenlet's own entry) is shown and is no reason for 75.
    """
    from reconciler.controller.status import judge, look  # noqa: PLC0415 - imports kubernetes

    chosen = Options(**options)
    settings = chosen.settings()

    async def ask() -> "Status":
        async with chosen.cluster(settings) as cluster:
            return judge(await look(cluster, settings), settings)

    found = asyncio.run(ask())
    if output == "json":
        click.echo(json.dumps(_json(found)))
    else:
        for line in _lines(found):
            click.echo(line)
    sys.exit(ExitCode.OK if found.is_well else ExitCode.TRY_AGAIN)


def _json(found: "Status") -> dict[str, object]:
    survey = found.survey
    return {
        "well": found.is_well,
        "conditions": [
            {"type": one.type, "status": one.status.value, "message": one.words, "well": one.is_well}
            for one in found.conditions
        ],
        "failurePolicy": None if found.memory is None else memory_json(found.memory),
        "podsWithoutProfile": None
        if survey is None
        else {
            "inWindows": survey.in_windows,
            "unexplained": survey.unexplained,
            "named": [
                {
                    "namespace": one.namespace,
                    "name": one.name,
                    "created": utc(one.created),
                    "exposure": one.exposure.value,
                    "window": one.reason,
                }
                for one in survey.named
            ],
        },
        "kubeletDefault": None if found.kubelets is None else kubelet_report.part(found.kubelets),
        "lastWriter": None
        if found.last_writer is None
        else {"manager": found.last_writer.manager, "time": utc(found.last_writer.time)},
        "nextStep": found.next_step,
        "notRead": found.troubles,
    }


def _lines(found: "Status") -> list[str]:
    lines = []
    for one in found.conditions:
        value = click.style(f"{one.status.value:<8}", fg=_COLOURS[one.is_well])
        lines.append(f"{one.type:<18} {value} {one.words}")
    if found.last_writer is not None:
        lines.append(f"last written by    {found.last_writer.manager} at {utc(found.last_writer.time)}")
    lines.append(f"next               {found.next_step}")
    windows = () if found.memory is None else found.memory.windows
    for window in windows:
        end = "now" if window.end is None else utc(window.end)
        lines.append(f"fail-open window   {utc(window.start)} to {end}: {window.reason}")
    if found.survey is not None and (windows or found.survey.unexplained):
        count = f"{found.survey.in_windows} in windows, {found.survey.unexplained} unexplained"
        lines.append(f"without a profile  {count}")
        lines += [f"{'':<18} {_pod(pod)}" for pod in found.survey.named[:_NAMED]]
    if found.kubelets is not None:
        lines.append(f"kubelet default    {found.kubelets}")
    lines += [f"not read           {what}: {why}" for what, why in found.troubles.items()]
    return lines


def _pod(pod: "Exposed") -> str:
    return f"{pod.namespace}/{pod.name}, created {utc(pod.created)}, {pod.exposure.value}"
