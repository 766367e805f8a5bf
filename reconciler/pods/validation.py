"""Why the API server refuses a pod for its seccomp profiles. Pure.

Only what concerns seccomp is judged. Source: pkg/apis/core/validation/validation.go of Kubernetes,
validateSeccompProfileField, ValidateSeccompPodAnnotations, validateSeccompAnnotationsAndFields and validateWindows.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.pods import profile
from reconciler.registration.identity import Manifest


def refusals(pod: Manifest) -> tuple[str, ...]:
    """Return each reason with its field; empty where the API server takes the pod as far as seccomp is concerned."""
    spec, annotations = pod.get("spec") or {}, (pod.get("metadata") or {}).get("annotations") or {}
    found = list(_profile("spec", spec, annotations.get(profile.LEGACY_POD_ANNOTATION)))
    found += [
        f"metadata.annotations.{key}: {value!r} is no seccomp profile"
        for key, value in annotations.items()
        if (key == profile.LEGACY_POD_ANNOTATION or key.startswith(profile.LEGACY_CONTAINER_ANNOTATION))
        and not _is_profile(value)
    ]
    is_windows = profile.is_windows(pod)
    if is_windows and _of(spec) is not None:
        found.append("spec.securityContext.seccompProfile: may not be set for Windows")
    for _, container in profile.containers(spec):
        name = container.get("name", "")
        place = f"container {name}"
        found += _profile(place, container, annotations.get(profile.LEGACY_CONTAINER_ANNOTATION + name))
        if is_windows and _of(container) is not None:
            found.append(f"{place}.securityContext.seccompProfile: may not be set for Windows")
    return tuple(found)


def _of(holder: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (holder.get("securityContext") or {}).get("seccompProfile")
    return found


def _profile(place: str, holder: Mapping[str, Any], annotation: str | None) -> Iterator[str]:
    said = _of(holder)
    if said is None:
        return
    path, kind, file = f"{place}.securityContext.seccompProfile", said.get("type") or "", said.get("localhostProfile")
    if not kind:
        yield f"{path}.type: required"
    elif kind not in (profile.RUNTIME_DEFAULT, profile.UNCONFINED, profile.LOCALHOST):
        yield f"{path}.type: {kind!r} is not supported"
    elif kind == profile.LOCALHOST and file is None:  # an empty one is taken, and the container does not start
        yield f"{path}.localhostProfile: required with type Localhost"
    elif kind == profile.LOCALHOST and not _is_descending(str(file)):
        yield f"{path}.localhostProfile: must be a relative path without '..'"
    elif kind != profile.LOCALHOST and file is not None:
        yield f"{path}.localhostProfile: only with type Localhost"
    if annotation is not None and not _agrees(annotation, kind, file):
        yield f"{path}: the legacy annotation says {annotation!r}, and both must match"


def _is_profile(annotation: str) -> bool:
    if annotation in ("runtime/default", "docker/default", "unconfined"):
        return True
    return annotation.startswith("localhost/") and _is_descending(annotation.removeprefix("localhost/"))


def _is_descending(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def _agrees(annotation: str, kind: str, file: str | None) -> bool:
    match kind:
        case profile.RUNTIME_DEFAULT:
            return annotation in ("runtime/default", "docker/default")
        case profile.UNCONFINED:
            return annotation == "unconfined"
        case profile.LOCALHOST:
            return annotation == f"localhost/{file or ''}"
    return True
