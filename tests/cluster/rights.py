"""Identities with given rights, and the tables of docs/security.md: each verb of each rule, and what is without it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.seed import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.cluster.field import Field

RBAC = "/apis/rbac.authorization.k8s.io/v1"
_ROW = re.compile(r"^\| (?P<role>`[^|]*`) \| (?P<rule>[^|]*) \| (?P<why>[^|]*) \| (?P<without>[^|]*) \|$", re.MULTILINE)
_GROUPS = {
    "mutatingwebhookconfigurations": "admissionregistration.k8s.io",
    "leases": "coordination.k8s.io",
    "endpointslices": "discovery.k8s.io",
    "deployments": "apps",
    "events": "events.k8s.io",
    "clusterroles": "rbac.authorization.k8s.io",
}


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource, of one name (empty: of every one), in a namespace (empty: in the whole cluster)."""

    namespace: str
    role: str
    resource: str
    name: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb}-{self.resource}" + (f"-{self.name}" if self.name else "") + f"-{self.role}"

    def is_named_in(self, text: str) -> bool:
        """Return whether `text` names the missing rule: with the name of the object that was asked for, if with any."""
        names = rf", resourceNames: \[{re.escape(self.name)}\]" if self.name else r"(, resourceNames: \[[^]]+\])?"
        group = re.escape(_GROUPS.get(self.resource, ""))
        rule = rf'\{{apiGroups: \["{group}"\], resources: \[{self.resource}\]{names}, verbs: \[{self.verb}\]\}}'
        return re.search(rule, text) is not None


def documented(heading: str) -> dict[Right, str]:
    """Return the rights of the table under that heading of docs/security.md, each with what happens without it."""
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
    found: dict[Right, str] = {}
    for row in _ROW.finditer(section):
        role, _, namespace = row["role"].replace("`", "").partition(" in ")
        parts = re.fullmatch(r"([a-z, ]+) `(\w+)`(?: of (.+))?", row["rule"])
        assert parts is not None, row["rule"]
        names = re.findall(r"`([^`]+)`", parts[3] or "") or [""]
        for verb in parts[1].split(", "):
            for name in names:
                right = Right(namespace, role, parts[2], name, verb)
                assert right not in found, right
                found[right] = row["without"]
    return found


def given(*files: str) -> frozenset[Right]:
    """Return the rights that the roles in these files of config/ give."""
    return frozenset(right for file in files for right in _rights(yaml.safe_load_all((ROOT / file).read_text())))


def _rights(documents: Iterable[dict[str, Any]]) -> Iterable[Right]:
    for document in documents:
        if document["kind"] not in ("ClusterRole", "Role"):
            continue
        metadata = document["metadata"]
        for rule in document["rules"]:
            for resource in rule["resources"]:
                assert rule["apiGroups"] == [_GROUPS.get(resource, "")], rule
                for name in rule.get("resourceNames") or [""]:
                    for verb in rule["verbs"]:
                        yield Right(metadata.get("namespace", ""), metadata["name"], resource, name, verb)


def account(field: Field, name: str, rights: Iterable[Right]) -> Path:
    """Return the kubeconfig of a ServiceAccount in garden with exactly these rights."""
    kubeconfig = field.plane.kubeconfig_for_service_account("garden", name)
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "garden"}]
    rules: dict[str, list[dict[str, Any]]] = {"": [], "garden": [], "default": [], "seccomp-canary": []}
    for right in sorted(rights):
        rule = {"apiGroups": [_GROUPS.get(right.resource, "")], "resources": [right.resource], "verbs": [right.verb]}
        rules[right.namespace].append({**rule, **({"resourceNames": [right.name]} if right.name else {})})
    for namespace, found in rules.items():
        kind = "Role" if namespace else "ClusterRole"
        where = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        field.put(f"{where}/{kind.lower()}s", {"metadata": {"name": name}, "rules": found})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects}
        field.put(f"{where}/{kind.lower()}bindings", binding)
    return kubeconfig
