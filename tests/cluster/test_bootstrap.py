"""From an empty seed to Fail by `reconcile --wait`: killed anywhere, beside others, again; and each step that fails."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.backend import SECRET, serving, settings_for
from tests.cluster.answered import AUTHORITY, remove_secrets
from tests.cluster.enforced import LEASE, House, policy_of
from tests.cluster.field import Field, document
from tests.cluster.killing import deadly
from tests.cluster.rights import account, given
from tests.cluster.test_reconcile import gardenlet_deployment
from tests.load import Load
from tests.seed import COLLECTION, REGISTRATION

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.seed import Seed

CONFIG_MAP = "gardenlet-config-1a2b"
DEPLOYMENT = "/apis/apps/v1/namespaces/garden/deployments/gardenlet"
BOOTSTRAP = ("reconcile", "--wait", "--timeout", "40")


@contextmanager
def empty(stage: Seed, folder: Path) -> Iterator[House]:
    """Yield a seed in which nothing of ours stands; the server waits for its certificate."""
    field = Field(stage)
    with ExitStack() as stack:
        made = House(field, folder, stack)
        cleared(made)
        stack.callback(cleared, made)
        stack.enter_context(made.volume)
        made.server = stack.enter_context(serving(stage, made.volume.folder, port=made.port))
        yield made
    field.leave()


def cleared(house: House) -> None:
    """Leave nothing of ours, and no Deployment gardenlet."""
    house.clean()
    remove_secrets(house.field)
    if house.field.other.request("GET", DEPLOYMENT) is not None:
        house.field.other.request("DELETE", DEPLOYMENT)


@pytest.fixture
def house(shared_seed: Seed, tmp_path: Path) -> Iterator[House]:
    with empty(shared_seed, tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def served(shared_seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A seed that was bootstrapped once, so that its server has a certificate."""
    with empty(shared_seed, tmp_path_factory.mktemp("house")) as found:
        done(found.command(*BOOTSTRAP))
        yield found


@pytest.fixture
def again(served: House) -> Iterator[House]:
    """The same seed, in which nothing is registered."""
    served.clean()
    yield served
    served.clean()
    if served.field.other.request("GET", DEPLOYMENT) is not None:
        served.field.other.request("DELETE", DEPLOYMENT)


def done(found: subprocess.CompletedProcess[str], code: int = 0) -> list[str]:
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout.splitlines()


def refused(load: Load) -> list[str]:
    """Return the pods that were not created; until the first proof they come through without a profile."""
    return [one for one in load.failures if "was not mutated" not in one]


async def test_killed_after_every_single_write_it_reaches_fail_and_no_pod_is_refused(house: House) -> None:
    token = house.field.plane.token_for_service_account("garden", "seccomp-reconciler")
    writes: list[str] = []
    async with deadly(house.seed, token) as mortal:
        with Load(house.seed) as load:
            while (ended := await mortal.command(*BOOTSTRAP, *house.inputs)).code is None:
                writes.append(ended.after)
                assert len(writes) <= 9, writes
    assert ended.code == 0, ended.err
    assert ended.out.startswith("unchanged mutatingwebhookconfiguration/seccomp-reconciler\nproved: ")
    assert "failurePolicy Fail: " in ended.out
    secrets = ["PATCH seccomp-reconciler-ca", "PATCH seccomp-reconciler-tls"]
    assert writes == [*secrets, "PATCH seccomp-reconciler", "PATCH seccomp-reconciler"], "Ignore, then Fail"
    assert policy_of(house.standing()) == "Fail"
    assert refused(load) == []
    assert house.create_pod() == "RuntimeDefault"


def test_in_one_go_each_step_comes_in_its_order_and_a_second_run_changes_nothing(house: House) -> None:
    before = len(house.writes())
    out = done(house.command(*BOOTSTRAP))
    assert out[0] == "registered mutatingwebhookconfiguration/seccomp-reconciler"
    assert out[1].startswith("proved: our server answered")
    assert out[2].startswith("failurePolicy Fail: ")
    written = [(resource, name) for _, resource, name in house.writes()[before:]]
    registered = ("mutatingwebhookconfigurations", "seccomp-reconciler")
    issued = [("secrets", "seccomp-reconciler-ca"), ("secrets", "seccomp-reconciler-tls")]
    assert written == [*issued, registered, registered]
    standing, before = house.standing(), len(house.writes())
    out = done(house.command(*BOOTSTRAP))
    assert out[0] == "unchanged mutatingwebhookconfiguration/seccomp-reconciler"
    assert house.writes()[before:] == []
    assert house.standing() == standing


def test_beside_a_running_reconciler_both_reach_fail_and_no_pod_is_refused(house: House) -> None:
    with Load(house.seed) as load, house.running() as running:
        out = done(house.command(*BOOTSTRAP))
        assert any(line.startswith("proved: ") for line in out)
        house.reaches("Fail", told=running.words)
        assert done(house.command(*BOOTSTRAP))[0].startswith("unchanged")
    assert refused(load) == []
    assert house.command("certificates", "status").returncode == 0


def test_with_the_gate_off_it_removes_ours_and_ends_well(again: House) -> None:
    done(again.command(*BOOTSTRAP))
    again.seed.configure(document(gate="false"))
    with Load(again.seed) as load:
        assert done(again.command(*BOOTSTRAP)) == ["removed mutatingwebhookconfiguration/seccomp-reconciler"]
        assert done(again.command(*BOOTSTRAP)) == ["absent mutatingwebhookconfiguration/seccomp-reconciler"]
    assert refused(load) == []
    assert again.standing() == {}


def embedded(kind: str, gate: str) -> str:
    """Return a Gardenlet or ManagedSeed with that configuration in it."""
    configuration = yaml.safe_load(document(gate=gate))
    spec = {"config": configuration} if kind == "Gardenlet" else {"gardenlet": {"config": configuration}}
    header = {"apiVersion": "seedmanagement.gardener.cloud/v1alpha1", "kind": kind}
    return yaml.safe_dump({**header, "metadata": {"name": "seed-one", "namespace": "garden"}, "spec": spec})


def configured(house: House, source: dict[str, Any], text: str, **registration: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    """Have the configuration stand in the seed, settings that name it, and return the arguments."""
    field = house.field
    manifest = {"metadata": {"name": CONFIG_MAP}, "data": {"config.yaml": text}}
    field.put("/api/v1/namespaces/garden/configmaps", manifest)
    field.put(DEPLOYMENT.rpartition("/")[0], gardenlet_deployment(CONFIG_MAP))
    url = f"https://127.0.0.1:{house.port}/webhooks/seccomp-profile"
    chosen = {"failurePolicy": "Adaptive", **registration}
    house.settings.write_text(settings_for(url, registration=chosen, gardenletConfiguration=source))
    return ("--config", str(house.settings))


SOURCES = {
    "config-map": ({"configMap": {"name": CONFIG_MAP}}, lambda gate: document(gate=gate)),
    "deployment": ({"deployment": {"name": "gardenlet"}}, lambda gate: document(gate=gate)),
    "gardenlet": ({"configMap": {"name": CONFIG_MAP}}, lambda gate: embedded("Gardenlet", gate)),
    "managed-seed": ({"configMap": {"name": CONFIG_MAP}}, lambda gate: embedded("ManagedSeed", gate)),
}


@pytest.mark.parametrize(("source", "text"), SOURCES.values(), ids=SOURCES.keys())
def test_the_configuration_comes_from_gardenlets_own_objects(
    again: House, source: dict[str, Any], text: Callable[[str], str]
) -> None:
    arguments = configured(again, source, text("true"))
    done(again.seed.command(*BOOTSTRAP, *arguments))
    assert policy_of(again.standing()) == "Fail"
    configured(again, source, text("false"))
    assert done(again.seed.command(*BOOTSTRAP, *arguments))[0].startswith("removed")


def test_where_the_server_comes_late_it_stands_as_ignore_and_the_next_run_reaches_fail(house: House) -> None:
    house.kill_server()
    found = house.command("reconcile", "--wait", "--timeout", "5")
    assert done(found, 75)[0].startswith("registered")
    assert "not proved within 5 s: not-mutated" in found.stderr
    assert policy_of(house.standing()) == "Ignore"
    assert house.create_pod() is None, "not blocked, and without a profile"
    house.serve()
    done(house.command(*BOOTSTRAP))
    assert policy_of(house.standing()) == "Fail"


# What stands in the way of a step: exit code, words, and the failurePolicy that stands afterwards.


def without_configuration(house: House) -> tuple[str, ...]:
    return configured(house, {"configMap": {"name": "nope"}}, document(gate="true"))


def with_garbage(house: House) -> tuple[str, ...]:
    return configured(house, {"configMap": {"name": CONFIG_MAP}}, "featureGates: [")


def with_a_foreign_registration(house: House) -> tuple[str, ...]:
    house.field.other.request("POST", COLLECTION, {"metadata": {"name": "seccomp-reconciler"}, "webhooks": []})
    return house.inputs


def with_a_foreign_secret(house: House) -> tuple[str, ...]:
    remove_secrets(house.field)
    house.field.other.request("POST", SECRET.rpartition("/")[0], {"metadata": {"name": "seccomp-reconciler-tls"}})
    return house.inputs


def without_secrets(house: House) -> tuple[str, ...]:
    rights = [right for right in given("config/rbac.yaml", "config/canary.yaml") if right.resource != "secrets"]
    return (*house.inputs, "--kubeconfig", str(account(house.field, "bootstrap-without-secrets", rights)))


def without_the_canarys_role(house: House) -> tuple[str, ...]:
    house.configure(proof={"period": "1s", "namespace": "no-such-canary"})
    return house.inputs


def without_the_canarys_namespace(house: House) -> tuple[str, ...]:
    """An administrator's rights: only the namespace is missing."""
    admin = house.seed.plane.kubeconfig_for_user("administrator", ["system:masters"])
    return (*without_the_canarys_role(house), "--kubeconfig", str(admin))


def with_gardenlet_caught(house: House) -> tuple[str, ...]:
    """A selector that reaches gardenlet's namespace, and a Deployment gardenlet without the skip label."""
    term = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["garden", "seccomp-canary"]}
    selector = {"namespaceSelector": {"matchExpressions": [term]}}
    return configured(house, {"deployment": {"name": "gardenlet"}}, document(gate="true"), **selector)


def with_a_pause(house: House) -> tuple[str, ...]:
    assert house.command("pause", "--for", "1h", "--reason", "rollout", "--remove").returncode == 0
    return house.inputs


FAILURES = {
    "no-configuration": (without_configuration, 66, "configmaps/nope", ""),
    "garbage": (with_garbage, 65, CONFIG_MAP, ""),
    "foreign-registration": (with_a_foreign_registration, 73, "is not ours", ""),
    "foreign-secret": (with_a_foreign_secret, 73, "set registration.ca.secret", ""),
    "no-right-to-secrets": (without_secrets, 77, "resources: [secrets]", ""),
    "no-role-of-the-canary": (without_the_canarys_role, 77, "resources: [pods], verbs: [create]", "Ignore"),
    "no-namespace-of-the-canary": (without_the_canarys_namespace, 75, "apply config/canary.yaml", "Ignore"),
    "linter": (with_gardenlet_caught, 75, "deployment/gardenlet", "Ignore"),
    "pause": (with_a_pause, 0, "paused until", ""),
}


@pytest.mark.parametrize(("prepare", "code", "words", "policy"), FAILURES.values(), ids=FAILURES.keys())
def test_whatever_step_fails_no_pod_is_refused_and_the_next_run_reaches_fail(
    again: House, prepare: Callable[[House], tuple[str, ...]], code: int, words: str, policy: str
) -> None:
    arguments = prepare(again)
    found = again.seed.command("reconcile", "--wait", "--timeout", "10", *arguments)
    assert found.returncode == code, found.stdout + found.stderr
    assert words in found.stderr, found.stderr
    assert policy_of(again.standing()) == policy
    again.create_pod()
    mended(again)
    done(again.command(*BOOTSTRAP))
    assert policy_of(again.standing()) == "Fail"


def mended(house: House) -> None:
    """Take away what stood in the way; what was registered stays."""
    other = house.field.other
    for path in (REGISTRATION, SECRET):
        found = other.request("GET", path)
        if found is not None and "seccomp-reconciler" not in json.dumps(found["metadata"].get("labels") or {}):
            other.request("DELETE", path)
    if other.request("GET", LEASE) is not None:
        other.request("DELETE", LEASE)
    house.configure()


def test_the_authority_outlives_every_failure(again: House) -> None:
    """What was issued once is used by the next run: no server has to load another certificate."""
    before = again.field.other.request("GET", AUTHORITY)
    again.configure(proof={"period": "1s", "namespace": "no-such-canary"})
    done(again.command(*BOOTSTRAP), 77)
    again.configure()
    done(again.command(*BOOTSTRAP))
    assert again.field.other.request("GET", AUTHORITY) == before
