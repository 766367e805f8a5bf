"""The end state: everything as it should be, nothing left of what was done; a look says what is still missing."""

from __future__ import annotations

import json
import subprocess
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

from reconciler import timestamps
from reconciler.registration.identity import MANAGED_BY, MANAGED_BY_LABEL
from reconciler.registration.memory import STATE_ANNOTATION
from tests.backend import SECRET
from tests.chaos.tampering import LEASE
from tests.chaos.traffic import Fate
from tests.controlplane.errors import ApiError
from tests.seed import COLLECTION, REGISTRATION, Connection

if TYPE_CHECKING:
    from tests.chaos.members import Member
    from tests.chaos.traffic import Traffic
    from tests.chaos.world import World

Object = dict[str, Any]  # a Kubernetes object as JSON

_PODS_IN_A_ROW: Final = 12
_FRESH_SECONDS: Final = 4.0
_OURS: Final = {
    COLLECTION: {"seccomp-reconciler"},
    "/api/v1/namespaces/garden/secrets": {"seccomp-reconciler-ca", "seccomp-reconciler-tls"},
    "/apis/coordination.k8s.io/v1/namespaces/garden/leases": {"seccomp-reconciler"},
}
_LEADER: Final = "seccomp_reconciler_leader"


class Converged:
    """Looks at a world that should be well again, as it was at the beginning."""

    def __init__(self, world: World, traffic: Traffic) -> None:
        self.entry: Object | None = None
        """What was registered at the beginning: the same must stand at the end, but for the caBundle."""
        self.surveyed: Object | None = None
        """What the product itself last said about pods without a profile."""
        self._world = world
        self._traffic = traffic
        self._connection = Connection(
            world.plane.kubeconfig_for_user("converged", ["system:masters"]), timeout_seconds=5.0
        )

    def missing(self, since: float, *, thoroughly: bool = True) -> str:
        """Return what is not yet as it should be, empty where all is well; pods count from `since` (monotonic).

        Not thoroughly: whether a leader is at work and the registration stands as at the beginning, no commands.
        """
        try:
            missing = self._registration() or self._pods(since) or self._lease() or self._leaders()
            if missing or not thoroughly:
                return missing
            return self._leftovers() or self._certificates() or self._status()
        except (OSError, HTTPException, ApiError, ValueError, subprocess.TimeoutExpired) as error:
            self._connection.http.close()
            return f"no answer: {error!r:.200}"

    def _registration(self) -> str:
        found = self._connection.request("GET", REGISTRATION)
        if found is None:
            return "no registration"
        entries = found.get("webhooks") or []
        if len(entries) != 1:
            return f"{len(entries)} entries in the registration"
        if entries[0]["failurePolicy"] != "Fail":
            return f"failurePolicy {entries[0]['failurePolicy']}"
        if (state := (found["metadata"].get("annotations") or {}).get(STATE_ANNOTATION)) != "Fail":
            return f"the registration remembers {state}"
        serving = self._connection.request("GET", SECRET)
        if serving is None or entries[0]["clientConfig"].get("caBundle") != serving["data"].get("ca.crt"):
            return "the caBundle is not the serving Secret's"
        entry = {key: value for key, value in entries[0].items() if key != "clientConfig"}
        entry["url"] = entries[0]["clientConfig"].get("url")
        self.entry = self.entry or entry
        return "" if entry == self.entry else f"the entry is not what it was: {json.dumps(entry)}"

    def _pods(self, since: float) -> str:
        last = self._traffic.last(_PODS_IN_A_ROW)
        if len(last) < _PODS_IN_A_ROW or last[0].sent < since:
            return "too few pods yet"
        bad = [one for one in last if one.fate is not Fate.MUTATED]
        return f"{bad[-1].name} {bad[-1].fate}: {bad[-1].words:.300}" if bad else ""

    def _lease(self) -> str:
        found = self._connection.request("GET", LEASE)
        if found is None:
            return "no Lease"
        spec = found.get("spec") or {}
        age = time.time() - (timestamps.seconds(spec.get("renewTime")) or 0.0)
        if not spec.get("holderIdentity") or abs(age) > _FRESH_SECONDS:
            return f"the Lease is {spec.get('holderIdentity')!r}'s and was renewed {age:.1f} s ago"
        return ""

    def _leaders(self) -> str:
        leaders = [name for name, member in self._world.reconcilers.items() if _leads(member)]
        return "" if len(leaders) == 1 else f"{len(leaders)} leaders: {', '.join(leaders)}"

    def _leftovers(self) -> str:
        """Return what carries our label beside the four objects that are ours."""
        for path, expected in _OURS.items():
            listed = self._connection.request("GET", f"{path}?labelSelector={MANAGED_BY_LABEL}%3D{MANAGED_BY}")
            names = {item["metadata"]["name"] for item in listed["items"]}
            if names != expected:
                return f"{path}: ours are {sorted(names)}, expected {sorted(expected)}"
        return ""

    def _certificates(self) -> str:
        done = self._world.stage.command("certificates", "status", "--output", "json", *self._world.inputs)
        found = json.loads(done.stdout) if done.stdout else {}
        if not found.get("good") or found.get("phase") != "stable" or len(found.get("authorities", ())) != 1:
            return f"certificates: {done.stdout.strip() or done.stderr.strip():.300}"
        return ""

    def _status(self) -> str:
        """Return which condition the product itself complains about, proof and enforcement among them."""
        done = self._world.stage.command("status", "--output", "json", *self._world.inputs)
        if not done.stdout:
            return f"status: {done.stderr.strip():.300}"
        found = json.loads(done.stdout)
        self.surveyed = found.get("podsWithoutProfile")
        bad = [f"{one['type']}: {one['message']}" for one in found["conditions"] if not one["well"]]
        return f"status: {'; '.join(bad):.300}" if bad else ""


def _leads(member: Member) -> bool:
    return f"{_LEADER} 1.0" in member.page("/metrics").splitlines()
