"""Whether the kubelet's own default makes the gate redundant, as the Shoot says it; without kubernetes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler.errors import InvalidConfigurationError
from reconciler.pods import kubelet
from reconciler.pods.kubelet import Default, Need
from tests.unit.pods.test_audit import invoke

if TYPE_CHECKING:
    from pathlib import Path

ON: dict[str, Any] = {"kubelet": {"seccompDefault": True}}
OFF: dict[str, Any] = {"kubelet": {"seccompDefault": False}}


def shoot(
    *workers: dict[str, Any] | None,
    version: str = "1.33.4",
    **kubernetes: Any,  # noqa: ANN401 - JSON
) -> dict[str, Any]:
    """Return a Shoot whose workers w0, w1, ... have these `kubernetes` sections."""
    found = [{"name": f"w{index}", **({} if one is None else {"kubernetes": one})} for index, one in enumerate(workers)]
    return {
        "apiVersion": "core.gardener.cloud/v1beta1",
        "kind": "Shoot",
        "metadata": {"name": "my-seed", "namespace": "garden"},
        "spec": {"kubernetes": {"version": version, **kubernetes}, "provider": {"type": "x", "workers": found}},
    }


@pytest.mark.parametrize(
    ("document", "pools", "need"),
    [
        (shoot(None, None), "off off", Need.NEEDED),
        (shoot(None, None, **ON), "on on", Need.REDUNDANT),
        (shoot(None, **OFF), "off", Need.NEEDED),
        (shoot(OFF, None, **ON), "off on", Need.FOR_POOLS),
        (shoot(ON, None), "on off", Need.FOR_POOLS),
        (shoot(ON, ON), "on on", Need.REDUNDANT),
        # Nothing is merged: a section for something else replaces the shoot's as a whole.
        (shoot({"kubelet": {"maxPods": 50}}, None, **ON), "off on", Need.FOR_POOLS),
        (shoot({"kubelet": {}}, **ON), "off", Need.NEEDED),
        (shoot({"kubelet": None}, **ON), "on", Need.REDUNDANT),
        (shoot({"version": "1.32.1"}, **ON), "on", Need.REDUNDANT),
        (shoot({"kubelet": {"seccompDefault": None}}, **ON), "off", Need.NEEDED),
        # Before 1.25 the kubelet's feature gate is off by default.
        (shoot(None, version="1.24.17", **ON), "off", Need.NEEDED),
        (shoot(None, {"version": "1.24.17"}, version="1.25.0", **ON), "on off", Need.FOR_POOLS),
        (shoot(None, version="1.25", **ON), "on", Need.REDUNDANT),
        (shoot(None, version="latest", **ON), "not-known", Need.NOT_KNOWN),
        (shoot(None, version="latest"), "off", Need.NEEDED),
        (shoot(None, {"version": "latest"}, **ON), "on not-known", Need.NOT_KNOWN),
        (shoot(OFF, {"version": "latest"}, None, **ON), "off not-known on", Need.FOR_POOLS),
    ],
)
def test_each_pool_has_its_default_and_all_of_them_decide(document: dict[str, Any], pools: str, need: Need) -> None:
    found = kubelet.parse(yaml.safe_dump(document).encode(), origin="shoot.yaml")
    assert (" ".join(pool.default for pool in found.pools), found.need) == (pools, need)
    assert set(found.needed_for) == {pool.name for pool in found.pools if pool.default is not Default.ON}


def test_the_answer_comes_first_and_names_what_decides() -> None:
    code, out, err = invoke("--shoot", "-", given=yaml.safe_dump(shoot({"kubelet": {"maxPods": 50}}, None, **ON)))
    assert (code, err) == (0, "")
    assert out.splitlines()[:5] == [
        "The gate is needed for 1 of 2 worker pools of shoot garden/my-seed: w0.",
        "",
        "POOL  VERSION  KUBELET DEFAULT  FROM",
        "w0    1.33.4   off              spec.provider.workers[0].kubernetes.kubelet.seccompDefault: not set",
        "w1    1.33.4   on               spec.kubernetes.kubelet.seccompDefault: true",
    ]
    assert "privileged containers stay Unconfined" in out
    assert "PodSecurity restricted refuses" in out


def test_json_has_the_answer_for_each_pool() -> None:
    code, out, _ = invoke("--shoot", "-", "--output", "json", given=json.dumps(shoot(ON, None)))
    found = json.loads(out)
    assert (code, found["kind"], found["gate"], found["kubeletDefault"], found["neededFor"]) == (
        0,
        "KubeletDefaultReport",
        "needed-for-pools",
        "mixed",
        ["w1"],
    )
    assert found["pools"][0] == {
        "name": "w0",
        "kubernetesVersion": "1.33.4",
        "kubeletDefault": "on",
        "from": "spec.provider.workers[0].kubernetes.kubelet.seccompDefault: true",
    }
    assert found["message"] == "The gate is needed for 1 of 2 worker pools of shoot garden/my-seed: w1."
    assert len(found["differences"]) == 4


def test_a_specification_that_is_not_rolled_out_is_told() -> None:
    document = shoot(None, **ON)
    document["metadata"]["generation"] = 4
    document["status"] = {"observedGeneration": 3}
    _, out, _ = invoke("--shoot", "-", given=json.dumps(document))
    assert "note: the shoot's specification is newer than what was rolled out" in out
    document["status"]["observedGeneration"] = 4
    assert "note:" not in invoke("--shoot", "-", given=json.dumps(document))[1]


@pytest.mark.parametrize(
    "wrapped",
    [
        {"kind": "List", "apiVersion": "v1", "items": [{"kind": "Pod", "metadata": {"name": "p"}}, shoot(None)]},
        {
            "kind": "ShootList",
            "apiVersion": "core.gardener.cloud/v1beta1",
            "items": [{key: value for key, value in shoot(None).items() if key not in ("kind", "apiVersion")}],
        },
    ],
    ids=["List", "ShootList"],
)
def test_a_list_with_one_shoot_is_read(wrapped: dict[str, Any]) -> None:
    assert kubelet.parse(json.dumps(wrapped).encode(), origin="-").name == "my-seed"


def broken(path: str, value: object) -> str:
    """Return a Shoot whose field at `path` has this value."""
    document = shoot(None)
    *parents, last = path.split(".")
    place: Any = document
    for step in parents:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return yaml.safe_dump(document)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "expected one Shoot of core.gardener.cloud, found none"),
        ("a", "expected a Shoot, got 'a'"),
        ("{", "not readable as YAML or JSON"),
        ("kind: Pod\nmetadata: {name: p}", "found none (Pod/p); give what `kubectl --namespace garden get shoot NAME"),
        (yaml.safe_dump_all([shoot(None), shoot(None)]), "found 2 (Shoot/my-seed, Shoot/my-seed)"),
        ("kind: List\nitems: [1]", "items: expected a list of objects"),
        (broken("apiVersion", "other/v1"), "a Shoot of 'other', expected one of core.gardener.cloud"),
        (broken("spec.provider.workers", []), "a Shoot without worker pools is no seed"),
        (broken("spec.kubernetes.version", 1.30), "spec.kubernetes.version: Input should be a valid string, got 1.3"),
        (broken("spec.kubernetes.kubelet", {"seccompDefault": "true"}), "seccompDefault: Input should be a valid bool"),
        (broken("spec.provider", None), "spec.provider: Input should be a valid dictionary"),
        (broken("spec.provider.workers", [{}]), "spec.provider.workers.0.name: Field required"),
        (broken("metadata.name", "\x1b[31m"), r"metadata.name: String should match pattern"),
    ],
)
def test_what_is_no_shoot_is_refused_with_what_was_found(given: str, words: str) -> None:
    code, out, err = invoke("--shoot", "-", given=given)
    assert (code, out) == (InvalidConfigurationError.exit_code, "")
    assert words in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--shoot", "/nowhere"), 66, "no such file"),
        (("--shoot", "/"), 65, "found a folder"),
        (("--shoot", "-", "-n", "a"), 2, "look at no pods"),
        (("--shoot", "-", "--fail-on", "unprotected"), 2, "look at no pods"),
        (("--shoot", "-", "--managed-seed", "a"), 2, "reads no cluster"),
        (("--shoot", "-", "--output", "html"), 2, "use table or json"),
        (("--managed-seed", "a"), 2, "go together"),
        (("--garden-kubeconfig", "a"), 2, "go together"),
        (("--garden-kubeconfig", "/nowhere", "--managed-seed", "a"), 66, "expected a kubeconfig of the garden cluster"),
        (("--garden-kubeconfig", "a", "--managed-seed", "A b"), 2, "expected the name of a ManagedSeed"),
    ],
)
def test_wrong_usage_is_named(arguments: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = invoke(*arguments)
    assert (found, out) == (code, "")
    assert words in err


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "shoot.yaml").write_text(yaml.safe_dump(shoot(None, **ON)))
    assert invoke("--shoot", str(tmp_path / "shoot.yaml"))[1].startswith("The gate is redundant: the kubelet's default")
