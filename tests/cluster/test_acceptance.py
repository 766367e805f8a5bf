"""What the API server accepts where nothing sets the profile, it accepts where we do: by generated pods, at Fail.

Each pod is created, as a dry-run, in a namespace that is not managed and in one that is, with the same PodSecurity
level. The generator draws every field that validation or PodSecurity compares with a seccomp profile, and others.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from reconciler import legacy
from reconciler.admission import review
from reconciler.pods import coverage
from tests.cluster.answered import answered
from tests.cluster.patience import until
from tests.controlplane.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.answered import Answered
    from tests.cluster.field import Field
    from tests.seed import Connection

# 600 in each run of the tests; ACCEPTED_PODS=5000 for the whole claim.
PODS = int(os.environ.get("ACCEPTED_PODS", "600"))
THREADS = 8
MERGE = "application/merge-patch+json"
POD_SECURITY = "pod-security.kubernetes.io/enforce"
# The versions before 1.19 judge the annotations.
LEVELS: dict[str, dict[str, str]] = {
    "privileged": {},
    "baseline": {POD_SECURITY: "baseline"},
    "restricted": {POD_SECURITY: "restricted"},
    "old-baseline": {POD_SECURITY: "baseline", f"{POD_SECURITY}-version": "v1.18"},
    "old-restricted": {POD_SECURITY: "restricted", f"{POD_SECURITY}-version": "v1.18"},
}
CONTAINER_ANNOTATION = "container.seccomp.security.alpha.kubernetes.io/"
# Most are values that validation takes.
VALID = ("unconfined", "unconfined", "runtime/default", "docker/default", "localhost/a.json", "localhost/")
ANNOTATED = (*VALID, *VALID, "localhost/../a", "", "Unconfined")


@pytest.fixture
def path(field: Field, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    """Pairs of namespaces, and a registration at Fail that the API server knows."""
    for name, labels in LEVELS.items():
        for prefix, role in (("accepted-plain", None), ("accepted-managed", "shoot")):
            namespace = f"{prefix}-{name}"
            field.plane.ensure_namespace(namespace)
            body = {"metadata": {"labels": {**labels, "gardener.cloud/role": role}}}
            field.other.request("PATCH", f"/api/v1/namespaces/{namespace}", body, MERGE)
    with answered(field, tmp_path_factory.mktemp("acceptance")) as found:
        found.registered(failurePolicy="Fail", ramp="Never")
        bare = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
        until(lambda: profile(tried(field.other, "accepted-managed-privileged", bare)))
        yield found


def tried(connection: Connection, namespace: str, pod: dict[str, Any]) -> dict[str, Any] | str:
    """Return the pod as it would be created, or why it is refused."""
    try:
        found: dict[str, Any] = connection.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    except ApiError as error:
        return str(error)
    return found


def profile(answer: dict[str, Any] | str) -> object:
    assert isinstance(answer, dict), answer
    return ((answer["spec"].get("securityContext") or {}).get("seccompProfile") or {}).get("type")


# --- The generator ---------------------------------------------------------------------------------------------------


class Draw:
    """Fields, by chance; the same number gives the same pod."""

    def __init__(self, number: int) -> None:
        self._chance = random.Random(f"acceptance {number}")  # noqa: S311 - no secret

    def rarely(self, probability: float = 0.12) -> bool:
        return self._chance.random() < probability

    def one(self, *values: Any) -> Any:  # noqa: ANN401 - JSON
        return self._chance.choice(values)

    def some(self, probability: float, **fields: tuple[Any, ...]) -> dict[str, Any]:
        """Return each field with that probability, with one of its values."""
        return {name: self.one(*values) for name, values in fields.items() if self.rarely(probability)}

    def profile(self) -> dict[str, Any] | None:
        if self.rarely(0.2):
            return self.one(  # type: ignore[no-any-return]
                *[{}, {"type": ""}, {"localhostProfile": "a.json"}, {"type": "Nonsense"}],
                {"type": "RuntimeDefault", "localhostProfile": "a"},
            )
        localhost = {"type": "Localhost", "localhostProfile": "a.json"}
        return self.one({"type": "RuntimeDefault"}, {"type": "Unconfined"}, localhost, None)  # type: ignore[no-any-return]

    def annotations(self) -> dict[str, str]:
        found = self.some(0.3, **{legacy.POD_ANNOTATION: ANNOTATED})
        found |= self.some(0.1, **{f"{CONTAINER_ANNOTATION}{name}": ANNOTATED for name in ("main", "first", "none")})
        apparmor = ("runtime/default", "unconfined", "localhost/x")
        found |= self.some(0.06, **{"container.apparmor.security.beta.kubernetes.io/main": apparmor})
        return found | self.some(0.04, **{"kubernetes.io/config.mirror": ("x", "")})

    def labels(self) -> dict[str, str]:
        skip = "seccompprofile.resources.gardener.cloud/skip"
        return self.some(0.05, **{skip: ("", "true"), "app": ("seccomp-reconciler", "a"), "static-pod": ("true", "no")})

    def context(self) -> dict[str, Any]:
        """Return the security context of a pod, but for the profile."""
        return self.some(
            0.06,
            runAsUser=(0, 1000),
            runAsNonRoot=(True, False),
            fsGroup=(1,),
            fsGroupChangePolicy=("Always", "OnRootMismatch"),
            supplementalGroups=([1, 2],),
            supplementalGroupsPolicy=("Merge", "Strict"),
            seLinuxOptions=({"level": "s0:c1,c2"}, {"type": "container_t"}, {"user": "u"}),
            seLinuxChangePolicy=("MountOption", "Recursive"),
            sysctls=([{"name": "net.ipv4.ip_local_port_range", "value": "1 2"}], [{"name": "kernel.x", "value": "1"}]),
            appArmorProfile=({"type": "RuntimeDefault"}, {"type": "Unconfined"}),
            windowsOptions=({"runAsUserName": "u"}, {"hostProcess": True}, {"hostProcess": False}),
        )

    def container(self, name: str, *, hardened: bool) -> dict[str, Any]:
        context = self.some(
            0.06,
            privileged=(True, False),
            procMount=("Default", "Unmasked"),
            capabilities=({"add": ["SYS_ADMIN"]}, {"drop": ["ALL"]}),
            allowPrivilegeEscalation=(True, False),
            runAsUserName=("u",),
            windowsOptions=({"hostProcess": True}, {"runAsUserName": "u"}),
            readOnlyRootFilesystem=(True,),
            appArmorProfile=({"type": "RuntimeDefault"},),
        )
        if hardened:
            context |= {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
        if self.rarely(0.2):
            context["seccompProfile"] = self.profile()
        found = {"name": name, "image": "c:1"} | self.some(
            0.08,
            resources=({"limits": {"cpu": "1", "memory": "1Gi"}}, {"requests": {"cpu": "1"}}, {"limits": {"cpu": "0"}}),
            resizePolicy=([{"resourceName": "cpu", "restartPolicy": "NotRequired"}],),
            ports=([{"containerPort": 80}], [{"containerPort": 80, "hostPort": 80}]),
            env=([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],),
            restartPolicy=("Always",) if name == "first" else (None,),
        )
        return found | ({"securityContext": context} if context or self.rarely(0.3) else {})

    def spec(self) -> dict[str, Any]:
        hardened = self.rarely(0.5)
        spec: dict[str, Any] = {"containers": [self.container("main", hardened=hardened)]}
        if self.rarely(0.3):
            spec["initContainers"] = [self.container("first", hardened=hardened)]
        if self.rarely(0.02):
            spec["ephemeralContainers"] = [{"name": "debug", "image": "d:1"}]
        spec |= self.some(
            0.3,
            os=({"name": "windows"}, {"name": "windows"}, {"name": "windows"}, {"name": "linux"}, {"name": "Windows"}),
        )
        spec |= self.some(
            0.05,
            hostUsers=(True, False),
            hostNetwork=(True, False),
            hostPID=(True, False),
            hostIPC=(True, False),
            shareProcessNamespace=(True, False),
            nodeSelector=({"kubernetes.io/os": "windows"}, {"a": "b"}),
            nodeName=("node",),
            schedulingGates=([{"name": "a.b/c"}],),
            resources=({"limits": {"cpu": "2", "memory": "4Gi"}}, {"requests": {"cpu": "1"}}),
            overhead=({"cpu": "1"},),
            restartPolicy=("Never", "OnFailure"),
            volumes=([{"name": "v", "emptyDir": {}}], [{"name": "v", "hostPath": {"path": "/"}}]),
            dnsPolicy=("None", "ClusterFirstWithHostNet"),
            setHostnameAsFQDN=(True,),
            priority=(0,),
            activeDeadlineSeconds=(1, 2),
        )
        context = self.context() if self.rarely(0.6) else None
        if self.rarely(0.25):
            context = {**(context or {}), "seccompProfile": self.profile()}
        if context is not None:
            spec["securityContext"] = context
        return spec

    def pod(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": "accepted", "annotations": self.annotations(), "labels": self.labels()}
        spec = self.spec()
        if "kubernetes.io/config.mirror" in metadata["annotations"]:
            spec["nodeName"] = "node"
        for field in ("annotations", "labels"):
            if not metadata[field] and self.rarely(0.8):
                del metadata[field]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_accepted_without_the_profile_is_accepted_with_it(path: Answered) -> None:
    entry = path.field.webhook()
    writers = [path.field.seed.writer(f"creator-{number}") for number in range(THREADS)]

    def judged(thread: int) -> tuple[Counter[str], list[str]]:
        seen: Counter[str] = Counter()
        wrong = []
        for number in range(thread, PODS, THREADS):
            draw = Draw(number)
            level, pod = draw.one("privileged", *LEVELS), draw.pod()
            plain, managed = (tried(writers[thread], f"accepted-{kind}-{level}", pod) for kind in ("plain", "managed"))
            seen["refused" if isinstance(plain, str) else "accepted"] += 1
            if isinstance(managed, str):
                if isinstance(plain, dict):
                    wrong.append(f"{number} at {level} is refused: {managed}\n{pod}")
                continue
            seen["accepted only with the profile"] += isinstance(plain, str)
            covered = coverage.of_pod(pod, entry)
            seen[covered.reason.value] += 1
            if covered.verdict is coverage.Verdict.UNPROTECTED and profile(managed) != review.PROFILE:
                wrong.append(f"{number} at {level} has no profile: {pod}")
        return seen, wrong

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(judged, range(THREADS)))
    for writer in (*writers, path.field.other):  # the last was idle for longer than the API server keeps a connection
        writer.http.close()
    seen = sum((one for one, _ in found), Counter[str]())
    print(dict(seen))
    assert not [line for _, wrong in found for line in wrong]
    # A generator whose pods are all refused proves nothing.
    assert seen["accepted"] > PODS / 5
    assert all(seen[kind] for kind in ("legacy-annotation", "windows", "no-profile", "accepted only with the profile"))
