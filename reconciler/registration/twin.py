"""gardenlet's own entry for the same pods, where it stands in an object of somebody else: a twin. Pure."""

from typing import Any

from reconciler.registration.identity import Manifest
from reconciler.settings import Registration

_PATH = "/webhooks/seccomp-profile"


def entry_of(observed: Manifest | None, registration: Registration) -> Manifest | None:
    """Return the entry of `observed` that sets the profile of pods; None where it has none.

    Source: upstream's entry, known by its name or its path, for the creation of pods.
    """
    for entry in (observed or {}).get("webhooks") or ():
        config = entry.get("clientConfig") or {}
        path = str((config.get("service") or {}).get("path") or config.get("url") or "")
        if (entry.get("name") == registration.webhook_name or path.endswith(_PATH)) and _is_about_new_pods(entry):
            found: Manifest = entry
            return found
    return None


def past(entry: Manifest | None, registration: Registration) -> dict[str, str]:
    """Return the pod labels that keep the twin from a pod and not us; empty where there are none.

    Upstream leaves its own server alone by the label `app`. A canary with it meets our server, although the twin is
    called first.
    """
    for requirement in ((entry or {}).get("objectSelector") or {}).get("matchExpressions") or ():
        if requirement.get("operator") == "NotIn" and requirement.get("key") == "app":
            for value in requirement.get("values") or ():
                if value != registration.own_app_name:
                    return {"app": str(value)}
    return {}


def _is_about_new_pods(entry: Manifest) -> bool:
    return any(
        _has(rule, "resources", "pods") and _has(rule, "operations", "CREATE") and _has(rule, "apiGroups", "")
        for rule in entry.get("rules") or ()
    )


def _has(rule: dict[str, Any], key: str, value: str) -> bool:
    values = rule.get(key) or ()
    return value in values or "*" in values
