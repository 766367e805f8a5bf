"""The command `audit`: which pods run without a profile, and what to restart."""

import asyncio
import contextlib
import mmap
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from reconciler.cli import audit_shoot
from reconciler.cli.options import EXIT_CODES, Options, cluster_options_of_pods, files_option, path_option
from reconciler.errors import ConfigurationNotFoundError, ExitCode, InvalidConfigurationError
from reconciler.printable import printable

if TYPE_CHECKING:
    from reconciler.cli.policy_reports import Kind
    from reconciler.cluster import Cluster
    from reconciler.pods.audit import Audit
    from reconciler.pods.exposure import Registered
    from reconciler.registration.identity import Manifest
    from reconciler.settings import ReconcilerConfiguration

FORMATS: Final = ("table", "json", "csv", "html", "openreports", "policyreport")
_EXAMPLES: Final = """
\b
Examples:
  seccomp-reconciler audit
  seccomp-reconciler audit -n shoot--a--b --output json --fail-on unprotected
  kubectl get namespaces,pods -A -o json > seed.json && seccomp-reconciler audit -f seed.json
  kubectl -n garden get shoot my-seed -o yaml | seccomp-reconciler audit --shoot -
  seccomp-reconciler audit --garden-kubeconfig garden.yaml --managed-seed my-seed
"""
# Pods between two lines of progress on a terminal.
_PROGRESS: Final = 500


@click.command(epilog=_EXAMPLES + EXIT_CODES)
@cluster_options_of_pods
@click.option("-n", "--namespace", "namespaces", multiple=True, help="Audit this namespace alone. May be repeated.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Count the namespaces that are not selected, too.")
@files_option("Audit these objects instead of a cluster; - is standard input. May be repeated.")
@click.option(
    "--shoot",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Say instead whether this Shoot's kubelets make the gate redundant; - is standard input.",
)
@path_option("--garden-kubeconfig", text="The same, of the Shoot behind --managed-seed in this garden cluster.")
@click.option("--managed-seed", metavar="NAME", help="ManagedSeed in the namespace garden of the garden cluster.")
@click.option(
    "--fail-on",
    type=click.Choice(["unprotected", "unconfined", "never"]),
    default="never",
    show_default=True,
    help="Exit 1 where such pods are found; unconfined includes unprotected.",
)
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="Format.")
def audit(
    *,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    files: tuple[Path, ...],
    shoot: Path | None,
    garden_kubeconfig: Path | None,
    managed_seed: str | None,
    fail_on: str,
    output: str,
    **options: Any,  # noqa: ANN401 - click's keywords, checked by Options
) -> None:
    """Count protected, exempt and unprotected pods, and say what to restart.

    Each pod of the namespaces that the registration selects is judged by its own fields; nothing is written. The result
    is counted by namespace and by workload. Workloads with unprotected pods follow with the command that restarts them,
    shoot by shoot.

    With -f no cluster is needed: FILE is what `kubectl get namespaces,pods -A -o json` prints. Namespace objects give
    the labels that the registration selects by; the MutatingWebhookConfiguration tells fail-open windows.

    --output openreports prints what kubectl apply --server-side takes: Reports, or PolicyReports where the cluster has
    only those; --output policyreport prints PolicyReports.

    With --shoot, or --garden-kubeconfig and --managed-seed, no pod is looked at: it says for each worker pool of the
    seed's own Shoot whether the kubelet's seccompDefault is on, and whether the gate is needed beside it.
    """
    from reconciler.cli import audit_report, policy_reports  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.cli.policy_reports import Kind  # noqa: PLC0415 - likewise
    from reconciler.pods import audit as core  # noqa: PLC0415 - likewise
    from reconciler.pods.shape import unreadable  # noqa: PLC0415 - likewise

    chosen = Options(**options)
    if shoot or garden_kubeconfig or managed_seed:
        if namespaces or all_namespaces or files or chosen.names_cluster or fail_on != "never":
            raise click.UsageError("--shoot and --garden-kubeconfig look at no pods: they go with --output alone")
        audit_shoot.show(chosen.settings(offline=True), shoot, garden_kubeconfig, managed_seed, output)
        return
    if namespaces and all_namespaces:
        raise click.UsageError("--namespace does not go with --all-namespaces")
    if files:
        chosen.refuse_cluster()
    settings = chosen.settings(offline=bool(files))
    kind: Kind | None = None
    if files:
        found, registered, notes = _of_files(files, settings, namespaces, every=all_namespaces)
    else:
        found, registered, notes, kind = asyncio.run(
            _of_cluster(chosen, settings, namespaces, every=all_namespaces, asks_kind=output == Kind.REPORT)
        )
    if found.unknown_namespaces:
        names = sorted(found.unknown_namespaces)
        notes.append(
            f"the labels of {len(names)} namespaces are not given, they count as selected: {', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''}; give their Namespace objects, too"  # noqa: PLR2004 - as sliced
        )
    if found.unreadable:
        notes.append(unreadable(found.unreadable))
    for note in notes:
        click.echo(f"note: {printable(note)}", err=True)
    if output in (Kind.REPORT, Kind.POLICY_REPORT):
        click.echo(policy_reports.as_list(found, kind or Kind(output), now=time.time()), nl=False)
    else:
        click.echo(audit_report.rendered(output, found, registered, notes), nl=False)
    sys.exit(ExitCode.DIFFERENT if core.fails(found, fail_on) else ExitCode.OK)


async def _of_cluster(
    options: Options,
    settings: "ReconcilerConfiguration",
    namespaces: tuple[str, ...],
    *,
    every: bool,
    asks_kind: bool,
) -> "tuple[Audit, Registered, list[str], Kind | None]":
    from reconciler.cluster import NAMESPACES, PODS, Selection  # noqa: PLC0415 - imports kubernetes
    from reconciler.controller.survey import registered_in  # noqa: PLC0415 - likewise
    from reconciler.pods import shape  # noqa: PLC0415 - likewise
    from reconciler.pods.audit import Audit  # noqa: PLC0415 - likewise

    async with options.cluster(settings) as cluster:
        registered, notes = await registered_in(cluster, settings.registration)
        labels = {
            one["metadata"]["name"]: one["metadata"].get("labels") or {}
            async for one in cluster.select(Selection(NAMESPACES))
        }
        if missing := [name for name in namespaces if name not in labels]:
            raise ConfigurationNotFoundError(
                f"no such namespace at {cluster.place}: {', '.join(missing)}; check --namespace and --context"
            )
        found = Audit(registered, labels)
        with _progress() as progress:
            for namespace in namespaces or (None,):
                async for page in cluster.pages(Selection(PODS, namespace), shape.page_of):
                    progress(len(page.pods))
                    found.unreadable += page.unreadable
                    for pod in page.pods:
                        if every or namespace or found.is_selected(pod["metadata"].get("namespace", "")) is not False:
                            found.add(pod)
        kind = await _installed_kind(cluster, notes) if asks_kind else None
    return found, registered, notes, kind


async def _installed_kind(cluster: "Cluster", notes: list[str]) -> "Kind":
    """Return the kind of report that the cluster has, Report where it has both or none; a note says if it has none."""
    from reconciler.cli.policy_reports import RESOURCES, Kind  # noqa: PLC0415 - heavy, and not every command needs it
    from reconciler.cluster import Resource  # noqa: PLC0415 - imports kubernetes

    for kind in Kind:
        if await cluster.serves(Resource(*RESOURCES[kind])):
            return kind
    notes.append("neither reports.openreports.io nor policyreports.wgpolicyk8s.io is installed in this cluster")
    return Kind.REPORT


def _of_files(
    files: Iterable[Path], settings: "ReconcilerConfiguration", namespaces: tuple[str, ...], *, every: bool
) -> "tuple[Audit, Registered, list[str]]":
    from reconciler.pods.audit import Audit, registered_among  # noqa: PLC0415 - heavy, and not every command needs it

    with contextlib.ExitStack() as stack:
        opened = [
            (stack.enter_context(_opened(file)), "standard input" if str(file) == "-" else str(file)) for file in files
        ]
        # Twice: what selects a pod may be written behind it.
        labels: dict[str, dict[str, str]] = {}
        configurations = []
        for file, origin in opened:
            for one in _objects(file, origin, ("Namespace", "MutatingWebhookConfiguration")):
                if one["kind"] == "Namespace":
                    labels[one["metadata"].get("name") or ""] = one["metadata"].get("labels") or {}
                else:
                    configurations.append(one)
        registered, notes = registered_among(configurations, settings.registration)
        found = Audit(registered, labels)
        with _progress() as progress:
            for file, origin in opened:
                for pod in _objects(file, origin, ("Pod",)):
                    progress(1)
                    namespace = pod["metadata"].get("namespace") or "default"
                    if namespace in namespaces or (
                        not namespaces and (every or found.is_selected(namespace) is not False)
                    ):
                        found.add(pod)
    return found, registered, notes


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """Open a regular file; standard input is copied into one that has no name, since it is read twice."""
    if str(file) == "-":
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            yield copy
        return
    try:
        if not file.is_file():
            kind = "found none" if not file.exists() else "found something else"
            wrong = ConfigurationNotFoundError if not file.exists() else InvalidConfigurationError
            raise wrong(f"{file}: expected a regular file, {kind}; check the path")
        with file.open("rb") as found:
            yield found
    except OSError as error:
        raise InvalidConfigurationError(f"{file}: cannot be read: {error}") from error


def _objects(file: BinaryIO, origin: str, kinds: tuple[str, ...]) -> "Iterator[Manifest]":
    """Yield the objects of `kinds`: of a JSON list one by one, never decoded as a whole; else as `lint` reads them."""
    import msgspec  # noqa: PLC0415 - not every command needs it

    from reconciler import bounded_json  # noqa: PLC0415 - likewise
    from reconciler.registration import manifests  # noqa: PLC0415 - heavy, and not every command needs it

    class Kinded(msgspec.Struct):
        kind: str = ""

    class Listed(msgspec.Struct):
        kind: str
        items: list[msgspec.Raw]

    file.seek(0, 2)
    if not file.tell():
        raise InvalidConfigurationError(f"{origin}: empty; expected what kubectl get namespaces,pods -A -o json prints")
    # Not closed by hand: an item that is still referred to keeps it open.
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        try:
            listed = msgspec.json.decode(content, type=Listed)
        except RecursionError:  # managedFields, nested by a user
            listed = msgspec.json.decode(bounded_json.cut(content), type=Listed)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        file.seek(0)
        for one in manifests.parse(file.read(manifests.MAX_BYTES + 1), origin=origin):
            if one["kind"] in kinds:
                yield _looked_at(one, origin)
        return
    # The API server names no kind in the items of a PodList.
    within = listed.kind.removesuffix("List")
    for index, raw in enumerate(listed.items):
        place = f"{origin}, item {index}"
        try:
            # First the kind alone: what is not asked for is not decoded.
            if (msgspec.json.decode(raw, type=Kinded).kind or within) not in kinds:
                continue
            one = msgspec.json.decode(raw)
        except msgspec.ValidationError as error:
            raise InvalidConfigurationError(f"{place}: expected a Kubernetes object with a kind: {error}") from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidConfigurationError(f"{place}: not readable as JSON: {error}") from error
        one["kind"] = one.get("kind") or within
        manifests.check(one, place)
        yield _looked_at(one, place)


def _looked_at(one: "Manifest", place: str) -> "Manifest":
    """Return a pod as it is judged, any other object as it is."""
    from reconciler.pods import shape  # noqa: PLC0415 - heavy, and not every command needs it

    if one["kind"] != "Pod":
        return one
    # A manifest may leave the name to the API server.
    metadata = {**one["metadata"], "name": one["metadata"].get("name") or one["metadata"].get("generateName") or ""}
    try:
        return shape.pod_of({**one, "metadata": metadata})
    except ValueError as error:
        raise InvalidConfigurationError(f"{place}: pod {metadata['name']!r}: {error}") from error


@contextlib.contextmanager
def _progress() -> "Iterator[Any]":
    """Yield what is told how many pods were read: a line on a terminal shows the sum; a pipe gets nothing."""
    is_shown, count, shown = sys.stderr.isatty(), 0, 0

    def more(pods: int) -> None:
        nonlocal count, shown
        count += pods
        if is_shown and count >= shown + _PROGRESS:
            shown = count
            click.echo(f"\rread {count} pods", nl=False, err=True)

    yield more
    if shown:
        click.echo(f"\r{'':<30}\r", nl=False, err=True)
