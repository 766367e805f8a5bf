"""How `audit --shoot` and `status` show whether the gate is needed beside the kubelet's own default."""

from reconciler.cli.explanation import API_VERSION, table
from reconciler.pods.kubelet import DIFFERENCES, Default, Kubelets, Need

_PENDING = "the shoot's specification is newer than what was rolled out: the nodes may still have other values"


def lines(found: Kubelets) -> list[str]:
    """Return the answer first, then each pool, then what the kubelet's default does not do."""
    rows = [("POOL", "VERSION", "KUBELET DEFAULT", "FROM")]
    rows += [(one.name, one.version, one.default.value, one.source) for one in found.pools]
    shown = [str(found), "", *table(rows)]
    if found.default is not Default.OFF:
        shown += ["", "The kubelet's default is not the same as the gate:", *(f"- {one}" for one in DIFFERENCES)]
    return [*shown, *(f"note: {note}" for note in notes(found))]


def notes(found: Kubelets) -> list[str]:
    """Return what limits the answer."""
    return [_PENDING] if found.is_pending else []


def as_json(found: Kubelets) -> dict[str, object]:
    """Return what --output json shows."""
    return {"apiVersion": API_VERSION, "kind": "KubeletDefaultReport", **part(found), "differences": list(DIFFERENCES)}


def part(found: Kubelets) -> dict[str, object]:
    """Return what `status --output json` shows of it."""
    return {
        "gate": found.need.value,
        "kubeletDefault": found.default.value,
        "neededFor": list(found.needed_for) if found.need is not Need.REDUNDANT else [],
        "message": str(found),
        "shoot": {"namespace": found.namespace, "name": found.name},
        "pools": [
            {
                "name": one.name,
                "kubernetesVersion": one.version,
                "kubeletDefault": one.default.value,
                "from": one.source,
            }
            for one in found.pools
        ],
        "notes": notes(found),
    }
