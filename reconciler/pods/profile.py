"""The seccomp profile that each container of a pod runs with, and which field decides it. Pure.

Example: a privileged container in a pod with `seccompProfile.type: RuntimeDefault` runs Unconfined, from `privileged`.

Precedence, as in Kubernetes 1.32 to 1.37:
1. A Windows container has no seccomp profile.
2. A privileged container runs Unconfined, whatever the fields say. Source: kubernetes.io/docs/reference/node/seccomp,
   and containerd, which sets no profile for it.
3. `securityContext.seccompProfile` of the container, else that of the pod. Source: kubelet,
   pkg/kubelet/kuberuntime/helpers.go, getSeccompProfile.
4. Without either, RuntimeDefault where the kubelet's `seccompDefault` is on, else Unconfined (the same function).
The annotations of Kubernetes before 1.27 are not read any more: they decide nothing, and are only reported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from reconciler import legacy as annotation
from reconciler.registration.identity import Manifest

RUNTIME_DEFAULT: Final = "RuntimeDefault"
UNCONFINED: Final = "Unconfined"
LOCALHOST: Final = "Localhost"
NO_PROFILE: Final = "none"
LEGACY_POD_ANNOTATION: Final = annotation.POD_ANNOTATION
LEGACY_CONTAINER_ANNOTATION: Final = "container.seccomp.security.alpha.kubernetes.io/"


class Role(StrEnum):
    """What a container is in its pod."""

    INIT = "init"
    # An init container with restartPolicy Always.
    SIDECAR = "sidecar"
    MAIN = "main"
    EPHEMERAL = "ephemeral"


class Source(StrEnum):
    """What decides the profile of a container."""

    WINDOWS = "windows"
    PRIVILEGED = "privileged"
    CONTAINER = "container-field"
    POD = "pod-field"
    KUBELET = "kubelet-default"
    # No field says anything, and the kubelet's default is off or not known.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class ContainerProfile:
    """One container: `profile` is RuntimeDefault, Unconfined, Localhost/<file>, or `none` on Windows.

    `legacy` is the value of an annotation about it that Kubernetes no longer reads; empty where there is none.
    """

    name: str
    role: Role
    profile: str
    source: Source
    legacy: str = ""

    @property
    def is_unconfined(self) -> bool:
        """Whether it runs without a seccomp filter."""
        return self.profile == UNCONFINED


def of_pod(pod: Manifest, *, kubelet_default: bool | None = None) -> tuple[ContainerProfile, ...]:
    """Return the profile of each container: init containers first, then main, then ephemeral ones.

    `kubelet_default` says whether `seccompDefault` is on where the pod runs; None: not known, which counts as off.
    """
    spec = pod.get("spec") or {}
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    # What a container gets that says nothing itself.
    inherited = _said(spec, Source.POD) or (
        (RUNTIME_DEFAULT, Source.KUBELET) if kubelet_default else (UNCONFINED, Source.NOTHING)
    )
    runs_windows = is_windows(pod)
    found = []
    for role, container in containers(spec):
        name = str(container.get("name", ""))
        if runs_windows:
            profile, source = NO_PROFILE, Source.WINDOWS
        elif is_privileged(container):
            profile, source = UNCONFINED, Source.PRIVILEGED
        else:
            profile, source = _said(container, Source.CONTAINER) or inherited
        legacy = annotations and (
            annotations.get(LEGACY_CONTAINER_ANNOTATION + name) or annotations.get(LEGACY_POD_ANNOTATION)
        )
        found.append(ContainerProfile(name, role, profile, source, str(legacy or "")))
    return tuple(found)


def containers(spec: Mapping[str, Any]) -> Iterator[tuple[Role, Mapping[str, Any]]]:
    """Yield the containers of a pod's spec with their roles."""
    for container in spec.get("initContainers") or ():
        yield (Role.SIDECAR if container.get("restartPolicy") == "Always" else Role.INIT), container
    for container in spec.get("containers") or ():
        yield Role.MAIN, container
    for container in spec.get("ephemeralContainers") or ():
        yield Role.EPHEMERAL, container


def pod_type(pod: Manifest) -> str | None:
    """Return the type of the pod's own profile; None where it says none, or an empty one."""
    return _context(pod.get("spec") or {}).get("type") or None


def is_windows(pod: Manifest) -> bool:
    """Return whether the pod says that it is for Windows."""
    return ((pod.get("spec") or {}).get("os") or {}).get("name") == "windows"


def is_compatible(pod: Manifest) -> bool:
    """Return whether validation takes the pod with RuntimeDefault, as far as the legacy annotation goes."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    return (annotations.get(LEGACY_POD_ANNOTATION) or "") in annotation.COMPATIBLE_VALUES


def is_privileged(container: Mapping[str, Any]) -> bool:
    """Return whether the container is privileged."""
    return (container.get("securityContext") or {}).get("privileged") is True


def _said(holder: Mapping[str, Any], source: Source) -> tuple[str, Source] | None:
    """Return the profile that a container, or a pod's spec, names itself; None where it names none."""
    profile = _context(holder)
    return (_shown(profile), source) if profile.get("type") else None


def _context(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the seccompProfile of a container or of a pod's spec, empty where there is none."""
    return (holder.get("securityContext") or {}).get("seccompProfile") or {}


def _shown(profile: Mapping[str, Any]) -> str:
    kind = str(profile["type"])
    return f"{kind}/{profile.get('localhostProfile') or ''}" if kind == LOCALHOST else kind
