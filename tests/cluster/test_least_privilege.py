"""config/rbac.yaml is enough, and each of its rules is needed: without it the documented error comes."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler.certificates.rotation import Facts
from reconciler.cluster import CONFIG_MAPS, DEPLOYMENTS, SECRETS, Cluster, Target
from reconciler.controller import trust
from reconciler.controller.reconcile import Result, target_of
from reconciler.errors import ForbiddenError
from reconciler.settings import Registration, SelfSigned
from tests.cluster.answered import remove_secrets
from tests.cluster.field import stand
from tests.seed import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.cluster.field import Field

REGISTERED = Registration()
DOCUMENTS = {
    (item["kind"], item["metadata"]["name"]): item
    for item in yaml.safe_load_all((ROOT / "config" / "rbac.yaml").read_text())
}
CLUSTER_RULES: list[dict[str, Any]] = DOCUMENTS["ClusterRole", "seccomp-reconciler"]["rules"]
ROLE_RULES: list[dict[str, Any]] = DOCUMENTS["Role", "seccomp-reconciler"]["rules"]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def without(verb: str) -> list[dict[str, Any]]:
    """Return the ClusterRole's rules without one verb."""
    rules = copy.deepcopy(CLUSTER_RULES)
    for rule in rules:
        rule["verbs"] = [item for item in rule["verbs"] if item != verb]
    return [rule for rule in rules if rule["verbs"]]


@pytest.fixture
async def limited(field: Field, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A connection of an identity whose ClusterRole lacks the verb that the test names."""
    name = f"without-{request.param}"
    kubeconfig: Path = field.plane.kubeconfig_for_service_account("garden", name)
    field.put(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": without(request.param)})
    field.put(
        f"{RBAC}/clusterrolebindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "garden"}],
        },
    )
    async with Cluster(kubeconfig=kubeconfig) as connection:
        yield connection


@pytest.mark.parametrize("limited", ["get"], indirect=True)
async def test_without_get_nothing_is_done(field: Field, limited: Cluster) -> None:
    with pytest.raises(ForbiddenError, match=r"resourceNames: \[seccomp-reconciler\], verbs: \[get\]"):
        await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)
    assert field.standing() is None


@pytest.mark.parametrize("limited", ["create"], indirect=True)
async def test_without_create_an_absent_object_stays_absent(field: Field, limited: Cluster, cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError, match=r"resources: \[mutatingwebhookconfigurations\], verbs: \[create\]"):
        await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)
    await stand(cluster, REGISTERED, ca_bundle=field.plane.ca_pem)
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
    assert (await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)).result is Result.UPDATED


@pytest.mark.parametrize("limited", ["patch"], indirect=True)
async def test_without_patch_drift_stays(field: Field, limited: Cluster, cluster: Cluster) -> None:
    await stand(cluster, REGISTERED, ca_bundle=field.plane.ca_pem)
    field.patch(("replace", "/webhooks/0/timeoutSeconds", 3))
    with pytest.raises(ForbiddenError, match=r"resourceNames: \[seccomp-reconciler\], verbs: \[patch\]"):
        await stand(limited, REGISTERED, ca_bundle=field.plane.ca_pem)


@pytest.mark.parametrize("limited", ["delete"], indirect=True)
async def test_without_delete_it_cannot_be_removed(field: Field, limited: Cluster, cluster: Cluster) -> None:
    await stand(cluster, REGISTERED, ca_bundle=field.plane.ca_pem)
    with pytest.raises(ForbiddenError, match=r"resourceNames: \[seccomp-reconciler\], verbs: \[delete\]"):
        await stand(limited, REGISTERED, ca_bundle=None)
    assert field.standing() is not None


@pytest.mark.parametrize(("limited", "verb"), [("list", "list"), ("watch", "watch")], indirect=["limited"])
async def test_without_list_or_watch_following_says_so(limited: Cluster, verb: str) -> None:
    async for state in limited.follow(target_of(REGISTERED)):
        if state is None:
            continue  # the list was allowed, the watch is next
        assert isinstance(state, ForbiddenError)
        assert f"verbs: [{verb}]" in str(state)
        return


@pytest.mark.parametrize("resource", [SECRETS, CONFIG_MAPS, DEPLOYMENTS], ids=lambda resource: resource.plural)
@pytest.mark.parametrize("limited", ["nothing"], indirect=True)
async def test_without_the_role_sources_in_the_cluster_are_forbidden(limited: Cluster, resource: Any) -> None:  # noqa: ANN401 - a Resource
    with pytest.raises(ForbiddenError, match=rf"Role in namespace garden.*resources: \[{resource.plural}\]"):
        await limited.get(Target(resource, "any", "garden"))


@pytest.fixture
async def without_secrets(field: Field, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A connection of an identity whose Role lacks the verb on Secrets that the test names."""
    name = f"without-secrets-{request.param}"
    kubeconfig = field.plane.kubeconfig_for_service_account("garden", name)
    rules = copy.deepcopy(ROLE_RULES)
    for rule in rules:
        if rule["resources"] == ["secrets"]:
            rule["verbs"] = [item for item in rule["verbs"] if item != request.param]
    namespaced = f"{RBAC}/namespaces/garden"
    field.put(f"{namespaced}/roles", {"metadata": {"name": name}, "rules": [rule for rule in rules if rule["verbs"]]})
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "garden"}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    field.put(f"{namespaced}/rolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects})
    async with Cluster(kubeconfig=kubeconfig) as connection:
        yield connection


@pytest.mark.parametrize(
    ("without_secrets", "verb"), [(verb, verb) for verb in ("get", "create", "patch")], indirect=["without_secrets"]
)
async def test_without_a_right_to_the_secrets_no_certificate_is_issued(
    field: Field, without_secrets: Cluster, cluster: Cluster, verb: str
) -> None:
    own = SelfSigned()
    policy = trust.policy_of(own, REGISTERED.backend)
    remove_secrets(field)
    if verb == "patch":
        await trust.ensure(cluster, own, policy, Facts(time.time()))
        field.put(
            "/api/v1/namespaces/garden/secrets", {"metadata": {"name": own.serving_secret}, "data": {"ca.crt": ""}}
        )
    with pytest.raises(ForbiddenError, match=rf"Role in namespace garden.*resources: \[secrets\].*verbs: \[{verb}\]"):
        await trust.ensure(without_secrets, own, policy, Facts(time.time()))
    remove_secrets(field)


async def test_another_secret_is_out_of_reach(cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError):
        await cluster.get(Target(SECRETS, "another", "garden"))


async def test_another_object_is_out_of_reach(cluster: Cluster) -> None:
    other = target_of(Registration(name="another"))
    with pytest.raises(ForbiddenError):
        await cluster.get(other)


def test_the_command_ends_with_77(field: Field, limited_kubeconfig: Path) -> None:
    done = field.seed.command("reconcile", *field.seed.inputs, "--kubeconfig", str(limited_kubeconfig))
    assert done.returncode == 77
    assert "config/rbac.yaml" in done.stderr


@pytest.fixture
def limited_kubeconfig(field: Field) -> Path:
    return field.plane.kubeconfig_for_service_account("garden", "without-any-right")
