"""What other writers do to our objects, and what becomes of the GardenletConfiguration.

An object that is not there is left alone: somebody else's fault took it away, and it is on its way back.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from reconciler.certificates import authority
from reconciler.certificates.authority import Pair
from tests.backend import SECRET
from tests.cluster.answered import AUTHORITY
from tests.controlplane.errors import ApiError
from tests.controlplane.servers import free_port
from tests.seed import JSON_PATCH, MERGE_PATCH, REGISTRATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.plan import Step
    from tests.chaos.world import World

LEASE: Final = "/apis/coordination.k8s.io/v1/namespaces/garden/leases/seccomp-reconciler"
_WHO: Final = "somebody-else"
_SECRETS: Final = {"serving": (SECRET,), "authority": (AUTHORITY,), "both": (AUTHORITY, SECRET)}
_ENTRY: Final = "/webhooks/0"
_FIGHT_SECONDS: Final = 0.3
_NEVER: Final = "chaos.example.com/never"  # a label that nothing has
_GATE_ON: Final = re.compile(r"^( +DefaultSeccompProfile:) true\b", re.MULTILINE)
_DAY_SECONDS: Final = 86400.0

Object = dict[str, Any]  # a Kubernetes object, or a part of one, as JSON


async def certificates(world: World, step: Step) -> None:
    """Replace or delete what the two Secrets hold."""
    await asyncio.to_thread(_certificates, world, step)


async def registration(world: World, step: Step) -> None:
    """Change or delete our registration, once."""
    await asyncio.to_thread(_registration, world, step)


async def war(world: World, step: Step) -> None:
    """Change the same field back again and again, as another manager with a loop of its own does."""
    end = time.monotonic() + step.hold_seconds
    while time.monotonic() < end:
        await asyncio.to_thread(_registration, world, step)
        await asyncio.sleep(_FIGHT_SECONDS)


async def term(world: World, step: Step) -> None:
    """Add a term to the namespaceSelector, as AKS does, or put it there alone; take it away after a while."""
    wanted = {"key": _NEVER, "operator": "DoesNotExist" if step.variant == "harmless" else "Exists"}

    def added(others: list[Object]) -> list[Object]:
        return [wanted] if step.variant == "instead" else [*others, wanted]

    def removed(others: list[Object]) -> list[Object]:
        return others

    await asyncio.to_thread(_turn, world, wanted, added)
    await asyncio.sleep(step.hold_seconds)
    await asyncio.to_thread(_turn, world, wanted, removed)


async def lease(world: World, step: Step) -> None:
    """Change or delete our Lease."""
    await asyncio.to_thread(_lease, world, step)


async def configuration(world: World, step: Step) -> None:
    """Put another GardenletConfiguration in place for a while."""
    stage, good = world.stage, world.gardenlet
    gate = _GATE_ON.search(good)
    assert gate is not None, "config/gardenlet.yaml should hold the line DefaultSeccompProfile: true"
    match step.kind.name:
        case "configuration-truncated":
            stage.configure(good[: gate.end() - 1])
        case "configuration-emptied":
            stage.configure("")
        case "configuration-garbage":
            stage.configure("\x7fELF\x02 {]: not what anybody wrote\n")
        case "configuration-removed":
            stage.gardenlet.unlink(missing_ok=True)
        case _:
            world.gate_goes_off()
            stage.configure(_GATE_ON.sub(r"\1 false", good))
    await asyncio.sleep(step.hold_seconds)
    stage.configure(good)
    if world.gate_off.is_open and world.gate_on_since is None:
        world.gate_on_since = time.monotonic()


def _certificates(world: World, step: Step) -> None:
    now = time.time()
    names = ("127.0.0.1",)
    match step.kind.name:
        case "serving-expired":
            signer = _signer(world) or authority.issue_authority(now=now, lifetime_seconds=_DAY_SECONDS)
            leaf = authority.issue_serving(signer, names=names, now=now - _DAY_SECONDS, lifetime_seconds=3600)
            _put(world, SECRET, {"tls.crt": leaf.certificate, "tls.key": leaf.key})
        case "authority-expired" | "serving-foreign":
            issued = now - 2 * _DAY_SECONDS if step.kind.name == "authority-expired" else now
            signer = authority.issue_authority(now=issued, lifetime_seconds=_DAY_SECONDS)
            leaf = authority.issue_serving(signer, names=names, now=issued, lifetime_seconds=_DAY_SECONDS)
            if step.kind.name == "authority-expired":
                _put(world, AUTHORITY, {"ca.crt": signer.certificate, "ca.key": signer.key})
            _put(world, SECRET, {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": signer.certificate})
        case "serving-garbage":
            _put(world, SECRET, {step.variant: b"garbage"})
        case "authority-garbage":
            _put(world, AUTHORITY, {step.variant: b"garbage"})
        case "secret-data-emptied":
            _merge(world, AUTHORITY, {"data": None})
        case "secret-deleted":
            for path in _SECRETS[step.variant]:
                world.other(_WHO, "DELETE", path)
        case _:
            for path in _SECRETS[step.variant]:
                _strip(world, path, "annotations")


def _signer(world: World) -> Pair | None:
    """Return the authority that signs now; None where its Secret holds no readable one."""
    found = world.other(_WHO, "GET", AUTHORITY)
    held = {key: base64.b64decode(value) for key, value in ((found or {}).get("data") or {}).items()}
    pair = Pair(held.get("ca.crt", b""), held.get("ca.key", b""))
    certificates_held = authority.read(pair.certificate)
    return pair if certificates_held and authority.fits(certificates_held[0], pair.key) else None


def _registration(world: World, step: Step) -> None:
    match step.kind.name, step.variant:
        case "registration-deleted", _:
            world.other(_WHO, "DELETE", REGISTRATION)
        case "registration-war", "deleted":
            world.other(_WHO, "DELETE", REGISTRATION)
        case "registration-annotations", _:
            _strip(world, REGISTRATION, "annotations")
        case "registration-labels", _:
            _strip(world, REGISTRATION, "labels")
        case name, variant:
            found = world.other(_WHO, "GET", REGISTRATION)
            if found is not None and found.get("webhooks"):
                _patch(world, REGISTRATION, _change(f"{name} {variant}".strip(), found["webhooks"][0]))


def _change(what: str, entry: Object) -> list[Object]:
    """Return the JSON patch for what somebody does to the entry that stands."""
    other_policy = "Ignore" if entry.get("failurePolicy") == "Fail" else "Fail"
    foreign = authority.issue_authority(now=time.time(), lifetime_seconds=_DAY_SECONDS).certificate
    changes: dict[str, tuple[str, str, object]] = {
        "registration-policy": ("replace", f"{_ENTRY}/failurePolicy", other_policy),
        "registration-war policy": ("replace", f"{_ENTRY}/failurePolicy", "Ignore"),
        "registration-selector emptied": ("replace", f"{_ENTRY}/namespaceSelector", {}),
        "registration-selector shortened": ("remove", f"{_ENTRY}/namespaceSelector/matchExpressions/0", None),
        "registration-selector objects-emptied": ("replace", f"{_ENTRY}/objectSelector", {}),
        "registration-rules update": ("replace", f"{_ENTRY}/rules/0/operations", ["UPDATE"]),
        "registration-rules services": ("replace", f"{_ENTRY}/rules/0/resources", ["services"]),
        "registration-bundle garbage": ("add", f"{_ENTRY}/clientConfig/caBundle", _encoded(b"garbage")),
        "registration-bundle foreign": ("add", f"{_ENTRY}/clientConfig/caBundle", _encoded(foreign)),
        "registration-bundle emptied": ("add", f"{_ENTRY}/clientConfig/caBundle", ""),
        "registration-url": (
            "replace",
            f"{_ENTRY}/clientConfig/url",
            f"https://127.0.0.1:{free_port()}/webhooks/seccomp-profile",
        ),
        "registration-entry added": ("add", "/webhooks/-", {**entry, "name": "another.chaos.example.com"}),
        "registration-entry removed": ("remove", _ENTRY, None),
        "registration-timeout": ("replace", f"{_ENTRY}/timeoutSeconds", 1),
        "registration-war timeout": ("replace", f"{_ENTRY}/timeoutSeconds", 1),
    }
    operation, path, value = changes[what]
    return [{"op": operation, "path": path, **({} if operation == "remove" else {"value": value})}]


def _turn(world: World, wanted: Object, changed: Callable[[list[Object]], list[Object]]) -> None:
    """Have the terms be what `changed` makes of those that stand but for `wanted`; tried until it is so."""
    while True:
        found = world.other(_WHO, "GET", REGISTRATION)
        if found is None or not found.get("webhooks"):
            return
        selector = found["webhooks"][0].get("namespaceSelector") or {}
        others = [one for one in selector.get("matchExpressions") or () if one != wanted]
        selector = {**selector, "matchExpressions": changed(others)}
        if selector == found["webhooks"][0].get("namespaceSelector"):
            return
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]}
        change = {"op": "replace", "path": f"{_ENTRY}/namespaceSelector", "value": selector}
        with contextlib.suppress(ApiError):  # changed meanwhile: look again
            _patch(world, REGISTRATION, [version, change])


def _lease(world: World, step: Step) -> None:
    match step.kind.name:
        case "lease-deleted":
            world.other(_WHO, "DELETE", LEASE)
        case "lease-annotations":
            _strip(world, LEASE, "annotations")
        case _:
            renewed = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            _merge(world, LEASE, {"spec": {"holderIdentity": _WHO, "renewTime": renewed}})


def _put(world: World, path: str, files: dict[str, bytes]) -> None:
    _merge(world, path, {"data": {key: _encoded(value) for key, value in files.items()}})


def _strip(world: World, path: str, what: str) -> None:
    _merge(world, path, {"metadata": {what: None}})


def _merge(world: World, path: str, body: Object) -> None:
    world.other(_WHO, "PATCH", f"{path}?fieldManager={_WHO}", body, MERGE_PATCH)


def _patch(world: World, path: str, body: list[Object]) -> None:
    world.other(_WHO, "PATCH", f"{path}?fieldManager={_WHO}", body, JSON_PATCH)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
