"""What creating a pod through the real API server costs: without a webhook, with ours, with the peer."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import backends, pods
from benchmarks.admission import OURS, PEER
from benchmarks.figures import Sheet, percentile
from benchmarks.peerbuild import programs
from benchmarks.registering import Creator, namespace, registered
from tests.controlplane.progress import display

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.seed import Seed

_BARE = "without a webhook"
_NAMESPACE = "benchmark-create"
_PODS, _QUICK_PODS, _BLOCK = 300, 60, 30
# After each change of the registration; the first of them opens the API server's connection to the webhook.
_UNCOUNTED = 10


def creation(stage: Seed, *, quick: bool) -> Sheet:
    """Create pods of a control plane's size by dry-run, one after the other, in alternating blocks."""
    blocks = (_QUICK_PODS if quick else _PODS) // _BLOCK
    certificates = backends.certificates(stage)
    built = programs(display())
    pod = pods.controlplane()
    times: dict[str, list[float]] = {_BARE: [], OURS: [], PEER: []}
    with (
        backends.ours(stage, certificates) as ours,
        backends.peer(stage, certificates, built) as peer,
        namespace(stage, _NAMESPACE) as into,
        stage.writer("benchmark-create") as connection,
    ):
        creator = Creator(connection, into)
        for _ in range(blocks):
            for kind, url in ((_BARE, None), (OURS, ours.url), (PEER, peer.url)):
                with ExitStack() as registration:
                    if url is not None:
                        registration.enter_context(registered(stage, url))
                    creator.until(pod, typed=url is not None)
                    for _ in range(_UNCOUNTED):
                        creator.create(pod)
                    times[kind] += [creator.create(pod)[0] for _ in range(_BLOCK)]
    columns = ("", "n", "min ms", "p50 ms", "p99 ms", "max ms", "p50 more", "p99 more")
    sheet = Sheet("Creating a pod (dry-run) through the API server", columns)
    sheet.rows += [_row(kind, seconds, times[_BARE]) for kind, seconds in times.items()]
    sheet.notes.append(f"One kept connection, one after the other, {blocks} alternating blocks; the pod says no type.")
    sheet.notes.append(f"More: than without a webhook, in ms. Servers on any core. Peer: {built.built_with}.")
    return sheet


def _row(kind: str, seconds: Sequence[float], bare: Sequence[float]) -> tuple[str, ...]:
    p50, p99 = median(seconds), percentile(seconds, 0.99)
    figures = (min(seconds), p50, p99, max(seconds))
    more = ("", "") if seconds is bare else (_ms(p50 - median(bare)), _ms(p99 - percentile(bare, 0.99)))
    return kind, str(len(seconds)), *map(_ms, figures), *more


def _ms(seconds: float) -> str:
    """Return ms with two digits: some differences are small."""
    return f"{1000 * seconds:.2f}"
