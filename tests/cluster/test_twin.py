"""gardenlet's own entry beside ours: seen as it comes and goes; ours is not called for its pods, or is left to it."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.enforced import History, House, policy_of
from tests.cluster.patience import until
from tests.foreign import ForeignServer
from tests.seed import COLLECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.seed import Seed

TWIN = "gardener-resource-manager"
# Source: facts of upstream's registration.
UPSTREAM: dict[str, Any] = {
    "name": "seccomp-profile.resources.gardener.cloud",
    "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    "failurePolicy": "Fail",
    "matchPolicy": "Exact",
    "sideEffects": "None",
    "timeoutSeconds": 10,
    "admissionReviewVersions": ["v1beta1", "v1"],
    "namespaceSelector": {
        "matchExpressions": [
            {"key": "gardener.cloud/role", "operator": "Exists"},
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": ["kube-system", "kubernetes-dashboard"],
            },
        ]
    },
    "objectSelector": {
        "matchExpressions": [
            {"key": "seccompprofile.resources.gardener.cloud/skip", "operator": "DoesNotExist"},
            {"key": "app", "operator": "NotIn", "values": [TWIN]},
            {"key": "static-pod", "operator": "NotIn", "values": ["true"]},
        ]
    },
}
OTHER = {
    **UPSTREAM,
    "name": "token-invalidator.resources.gardener.cloud",
    "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]}],
    "failurePolicy": "Ignore",
    "objectSelector": {"matchLabels": {"token-invalidator.resources.gardener.cloud/consider": "true"}},
}


@pytest.fixture(scope="module")
def theirs(shared_seed: Seed) -> Iterator[ForeignServer]:
    with ForeignServer(shared_seed.plane.issue_serving_certificate(), version="seccomp-profile") as server:
        yield server


@contextmanager
def upstream(house: House, server: ForeignServer, *entries: dict[str, Any]) -> Iterator[None]:
    """Have gardenlet's object stand, with these entries, all of them answered by `server`."""
    bundle = base64.b64encode(house.seed.plane.ca_pem).decode()
    webhooks = [{**entry, "clientConfig": {"url": server.url, "caBundle": bundle}} for entry in entries]
    house.field.create({"metadata": {"name": TWIN}, "webhooks": webhooks})
    try:
        yield
    finally:
        house.field.other.request("DELETE", f"{COLLECTION}/{TWIN}")


def alone(house: House) -> dict[str, Any]:
    """Return the condition NoTwin, and whether all is well."""
    code, found = house.status()
    condition: dict[str, Any] = next(one for one in found["conditions"] if one["type"] == "NoTwin")
    return {**condition, "code": code, "next": found["nextStep"]}


def test_beside_a_twin_ours_stands_proved_and_is_not_called_for_pods_that_are_typed(
    house: House, theirs: ForeignServer
) -> None:
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        # A proof that nothing but a change brings about: reviews are counted.
        house.configure(proof={"period": "10m"})
        until(lambda: len(running.log("run.started")) == 2, told=running.words)
        until(lambda: running.log("leadership.acquired")[1:], told=running.words)
        assert running.metric("twin") == 0
        began, failed = time.time(), len(running.log("proof.failed"))
        with upstream(house, theirs, OTHER, UPSTREAM):
            until(lambda: running.log("twin.found"), told=running.words)
            assert running.metric("twin") == 1
            until(lambda: "TwinFound" in house.announced(began), told=running.words)
            found = json.loads(house.command("prove", "--output", "json").stdout)
            assert (found["verdict"], found["witness"], found["skipLabel"]) == ("proved", "our-server", "left-alone")
            before = quiet(house)
            assert [house.create_pod() for _ in range(5)] == ["RuntimeDefault"] * 5
            assert house.reviews() == before
            # Their own pods are left to ours: it is called, and would set the profile where they do not.
            assert house.create_pod(labels={"app": TWIN}) == "RuntimeDefault"
            assert house.reviews() == before + 1
            assert policy_of(house.standing()) == "Fail"
            told = alone(house)
            assert (told["status"], told["well"], told["code"]) == ("False", True, 0)
            assert told["message"] == f"gardenlet's own entry stands in {TWIN}; ours is called after it"
        until(lambda: running.log("twin.gone"), told=running.words)
        until(lambda: "TwinGone" in house.announced(began), told=running.words)
        assert running.metric("twin") == 0
        before = quiet(house)
        assert house.create_pod() == "RuntimeDefault"
        assert house.reviews() == before + 1
        assert alone(house)["status"] == "True"
        assert len(running.log("proof.failed")) == failed


def quiet(house: House) -> float:
    """Return how many reviews were answered, once that stays as it is."""
    found = [house.reviews()]

    def is_still() -> bool:
        time.sleep(0.5)
        found.append(house.reviews())
        return found[-1] == found[-2]

    until(is_still)
    return found[-1]


def test_deferring_leaves_it_to_the_twin_proves_that_and_comes_back(
    house: House, theirs: ForeignServer, history: History
) -> None:
    house.configure(registration={"onTwin": "Defer"})
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        began = time.time()
        with upstream(house, theirs, UPSTREAM):
            until(lambda: house.standing() == {}, told=running.words)
            assert house.create_pod() == "RuntimeDefault"
            held = until(
                lambda: next((one for one in running.log("proof.held") if one["witness"] == "pod-security"), None),
                told=running.words,
            )
            assert held["verdict"] == "proved"
            until(lambda: {"Removed", "TwinFound"} <= house.announced(began).keys(), told=running.words)
            told = alone(house)
            assert (told["status"], told["well"]) == ("False", True)
            assert told["message"].endswith("ours is left to it")
            assert told["next"] == "none"
            assert told["code"] == 0, house.status()
            once = house.command("reconcile", "--wait", "--timeout", "20")
            assert once.returncode == 0, once.stderr
            assert once.stdout.splitlines()[0] == "absent mutatingwebhookconfiguration/seccomp-reconciler"
            assert "registration is left to gardener-resource-manager (onTwin: Defer)" in once.stderr
            assert house.standing() == {}
        house.reaches("Fail", told=running.words)
    # Pods had their profile all the time: no window.
    assert house.remembered().windows == ()
    assert history.policies == ["Ignore", "Fail", "", "Ignore", "Fail"]


@pytest.mark.parametrize("election", ["true", "false"])
def test_a_start_beside_a_twin_that_is_deferred_to_registers_nothing(
    house: House, theirs: ForeignServer, history: History, election: str
) -> None:
    house.configure(registration={"onTwin": "Defer"})
    with upstream(house, theirs, UPSTREAM), house.running(f"--leader-election={election}") as running:
        until(lambda: running.log("proof.held"), told=running.words)
        until(lambda: running.metric('proofs_total{verdict="proved"}') >= 3, told=running.words)
        assert house.standing() == {}
    assert history.policies == []


def test_an_object_of_that_name_with_other_entries_is_no_twin(house: House, theirs: ForeignServer) -> None:
    house.configure(registration={"onTwin": "Defer"})
    with upstream(house, theirs, OTHER), house.running() as running:
        house.reaches("Fail", told=running.words)
        assert running.metric("twin") == 0
        assert alone(house)["status"] == "True"
        assert running.log("twin.found") == []
