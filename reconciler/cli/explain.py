"""The command `explain`: why a pod gets, or lacks, the profile."""

import asyncio
import base64
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler.cli.options import EXIT_CODES, OUTPUT, Options, cluster_options_of_pods, decide, files_option
from reconciler.errors import ExitCode, InvalidConfigurationError

if TYPE_CHECKING:
    from reconciler.pods.explain import Explanation, Server
    from reconciler.registration.identity import Manifest
    from reconciler.settings import ReconcilerConfiguration, Registration

_EXAMPLES: Final = """
\b
Examples:
  seccomp-reconciler explain pod/etcd-main-0 -n shoot--a--b
  seccomp-reconciler explain deployment/kube-apiserver -n shoot--a--b
  seccomp-reconciler explain -f deployment.yaml --namespace-labels gardener.cloud/role=shoot
  kubectl get namespace,pods -n shoot--a -o yaml | seccomp-reconciler explain -f -
"""


def _labels(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, str] | None:
    """Return `k=v,...` as labels."""
    if value is None:
        return None
    pairs = [part.partition("=") for part in value.split(",") if part]
    if any(not key or not equals for key, equals, _ in pairs):
        raise click.BadParameter(f"{value!r}: expected key=value,..., as in gardener.cloud/role=shoot")
    return {key.strip(): found.strip() for key, _, found in pairs}


@click.command(epilog=_EXAMPLES + EXIT_CODES)
@click.argument("subject", required=False, metavar="[KIND/NAME]")
@cluster_options_of_pods
@files_option("Pods or workloads, YAML or JSON, instead of a cluster; - is standard input. May be repeated.")
@click.option(
    "-n", "--namespace", help="Namespace of KIND/NAME, or of objects in FILE that name none.  [default: default]"
)
@click.option(
    "--namespace-labels",
    metavar="KEY=VALUE,...",
    callback=_labels,
    help="Labels of the namespaces that FILE does not hold.",
)
@click.option(
    "--kubelet-default/--no-kubelet-default",
    default=None,
    help="Whether the kubelet's seccompDefault is on; not given: not known, which counts as off.",
)
@OUTPUT
def explain(
    *,
    subject: str | None,
    files: tuple[Path, ...],
    namespace: str | None,
    namespace_labels: dict[str, str] | None,
    kubelet_default: bool | None,
    output: str,
    **options: Any,  # noqa: ANN401 - click's keywords, checked by Options
) -> None:
    """Explain why a pod gets, or has, or lacks the profile.

    KIND/NAME is read from the cluster: a pod, or a deployment, statefulset, daemonset, replicaset, job or cronjob, of
    which the next pod is explained. A pod that lacks the profile is told with the reason: older than the registration,
    or in which fail-open window it was created.

    With -f no cluster is needed. FILE holds pods or workloads, and Namespace objects or --namespace-labels say which
    labels their namespaces have. The registration is the one that `render` prints, or the
    MutatingWebhookConfigurations in FILE; with --gardenlet-config there is none while the gate is off.

    Each registered entry is evaluated in the order of the API server, term by term. Exit 0: each pod is protected, or
    exempt on purpose. Exit 1: a pod is unprotected, refused, or it is not known.
    """
    from reconciler.cli import explanation  # noqa: PLC0415 - heavy, and not every command needs it

    chosen = Options(**options)
    if bool(files) == bool(subject):
        raise click.UsageError("expected either KIND/NAME or -f FILE")
    if files:
        chosen.refuse_cluster()
    if subject and namespace_labels is not None:
        raise click.UsageError("--namespace-labels goes with -f: the cluster has the labels of its namespaces")
    settings = chosen.settings(offline=bool(files))
    if subject:
        one = _stored(chosen, settings, subject, namespace=namespace or "default", kubelet_default=kubelet_default)
        found = [asyncio.run(one)]
    else:
        found = explained(
            _read(files),
            settings,
            default_namespace=namespace or "default",
            namespace_labels=namespace_labels,
            kubelet_default=kubelet_default,
            is_off=chosen.gardenlet_config is not None and not decide(chosen.gardenlet_config).enabled,
        )
    if not found:
        raise InvalidConfigurationError("expected a pod or a workload in the manifests, found none")
    if output == "json":
        click.echo(json.dumps(explanation.as_json(found)))
    else:
        click.echo("\n\n".join("\n".join(explanation.lines(one)) for one in found))
    sys.exit(ExitCode.OK if all(one.is_as_it_should_be for one in found) else ExitCode.DIFFERENT)


async def _stored(
    options: Options,
    settings: "ReconcilerConfiguration",
    subject: str,
    *,
    namespace: str,
    kubelet_default: bool | None,
) -> "Explanation":
    """Return the explanation of an object of the cluster."""
    from reconciler.controller import survey  # noqa: PLC0415 - imports kubernetes
    from reconciler.pods.audit import Audit  # noqa: PLC0415 - likewise
    from reconciler.pods.explain import explain_stored  # noqa: PLC0415 - likewise

    async with options.cluster(settings) as cluster:
        kind, _, name = subject.partition("/")
        one = await survey.subject(cluster, kind, name, namespace)
        configurations = await survey.configurations(cluster, settings.registration)
        registered, _ = await survey.registered_in(cluster, settings.registration)
        labels = await survey.namespace_labels(cluster, namespace)
    given = {"kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    (found,) = explained(
        [one, given, *configurations], settings, kubelet_default=kubelet_default, is_off=not configurations
    )
    if one["kind"] != "Pod":
        return found
    is_selected = Audit(registered, {namespace: labels}).is_selected(namespace) is not False
    return explain_stored(found, one, registered, is_selected=is_selected)


def _read(files: Iterable[Path]) -> "list[Manifest]":
    from reconciler.files import read_file  # noqa: PLC0415 - likewise
    from reconciler.registration import manifests  # noqa: PLC0415 - heavy, and not every command needs it

    objects: list[Manifest] = []
    for file in files:
        if str(file) == "-":
            content, origin = sys.stdin.buffer.read(manifests.MAX_BYTES + 1), "standard input"
        else:
            content, origin = read_file(file, most_bytes=manifests.MAX_BYTES), str(file)
        objects += manifests.parse(content, origin=origin)
    return objects


def explained(
    objects: "Iterable[Manifest]",
    settings: "ReconcilerConfiguration",
    *,
    default_namespace: str = "default",
    namespace_labels: Mapping[str, str] | None = None,
    kubelet_default: bool | None = None,
    is_off: bool = False,
) -> "list[Explanation]":
    """Return an explanation of each pod and workload among `objects`; `is_off`: the gate is off."""
    from reconciler.pods import explain as core  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.registration import desired, subjects  # noqa: PLC0415 - likewise

    objects = tuple(objects)
    registration = settings.registration
    rendered = desired.render(registration, ca_bundle=None)
    given = [one for one in objects if one["kind"] == "MutatingWebhookConfiguration"]
    namespaces = {
        one["metadata"].get("name"): one["metadata"].get("labels") or {}
        for one in objects
        if one["kind"] == "Namespace"
    }
    found = []
    for one in objects:
        if one["kind"] not in ("Pod", "CronJob", "PodTemplate", *subjects.WORKLOADS):
            continue
        namespace = one["metadata"].get("namespace") or default_namespace
        template = subjects.pod_of(one)
        name = one["metadata"].get("name") or one["metadata"].get("generateName") or ""
        pod = {**template, "metadata": {**(template.get("metadata") or {}), "name": name, "namespace": namespace}}
        subject = f"{one['kind'].lower()}/{name}"
        found.append(
            core.explain(
                pod,
                subject if one["kind"] == "Pod" else f"The next pod of {subject}",
                registered=core.entries(given or ([] if is_off else [rendered]), registration),
                intended=rendered["webhooks"][0],
                servers=servers(registration),
                namespace_labels=namespaces.get(namespace, namespace_labels),
                kubelet_default=kubelet_default,
            )
        )
    return found


def servers(registration: "Registration") -> "dict[Any, Server]":
    """Return the servers' answers by the owner of the entry: ours is asked for real, as bytes."""
    from reconciler.admission import review  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.pods.explain import Answer, Owner, upstream_server  # noqa: PLC0415 - likewise

    rules = review.Rules(skip_label=registration.skip_label)

    def ours(pod: "Manifest") -> "Answer":
        about = {
            "uid": "explain",
            "operation": "CREATE",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
        }
        asked = {"apiVersion": review.VERSIONS[0], "kind": "AdmissionReview", "request": {**about, "object": pod}}
        body, reason = review.answer(json.dumps(asked).encode(), rules)
        patch = json.loads(body)["response"].get("patch")
        return Answer(reason.value, pod if patch is None else _patched(pod, json.loads(base64.b64decode(patch))))

    return {Owner.OURS: ours, Owner.UPSTREAM: upstream_server}


def _patched(pod: "Manifest", operations: list[dict[str, Any]]) -> "Manifest":
    """Return `pod` with `operations`, of which our server sends but one kind: add, below objects that are there."""
    changed: dict[str, Any] = json.loads(json.dumps(pod))
    for operation in operations:
        *parents, last = operation["path"].removeprefix("/").split("/")
        place = changed
        for part in parents:
            place = place[part]
        place[last] = operation["value"]
    return changed
