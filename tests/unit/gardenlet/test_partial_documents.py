"""A document that is a part of the truth is refused, and an object that carries the whole document is unwrapped."""

import base64
import json
from typing import Any

import pytest
import yaml

from reconciler.errors import InvalidConfigurationError
from reconciler.gardenlet import document, featuregates

CONFIG = {"apiVersion": "gardenlet.config.gardener.cloud/v1alpha1", "kind": "GardenletConfiguration"}
ON = {**CONFIG, "featureGates": {"DefaultSeccompProfile": True}}
OFF = {**CONFIG, "featureGates": {"DefaultSeccompProfile": False}}
ABSENT = object()


def verdict(given: object, *, as_json: bool = False) -> str:
    """Return on, off, or why it is refused."""
    text = json.dumps(given) if as_json else given if isinstance(given, str) else yaml.safe_dump(given)
    try:
        found = document.parse_any(text.encode(), origin="a.yaml")
    except InvalidConfigurationError as error:
        return str(error)
    return "on" if featuregates.decide(found.feature_gates).enabled else "off"


# --- A ManagedSeed inherits from its parent --------------------------------------------------------------------------


def managed_seed(merge: object, config: object) -> dict[str, Any]:
    gardenlet: dict[str, object] = {"bootstrap": "BootstrapToken"}
    if merge is not ABSENT:
        gardenlet["mergeWithParent"] = merge
    if config is not ABSENT:
        gardenlet["config"] = config
    return {
        "apiVersion": "seedmanagement.gardener.cloud/v1alpha1",
        "kind": "ManagedSeed",
        "metadata": {"name": "aws-eu", "namespace": "garden"},
        "spec": {"shoot": {"name": "aws-eu"}, "gardenlet": gardenlet},
    }


INHERITS = "mergeWithParent beside it is true or absent"


@pytest.mark.parametrize("as_json", [False, True], ids=["yaml", "json"])
@pytest.mark.parametrize("merge", [True, None, ABSENT], ids=["true", "null", "absent"])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({**CONFIG, "seedConfig": {"metadata": {}}}, INHERITS, id="no gates"),
        pytest.param({**CONFIG, "featureGates": {}}, INHERITS, id="empty gates"),
        pytest.param({**CONFIG, "featureGates": None}, INHERITS, id="null gates"),
        pytest.param({**CONFIG, "featureGates": {"AllAlpha": True}}, INHERITS, id="AllAlpha on"),
        pytest.param({**CONFIG, "featureGates": {"AllAlpha": False}}, INHERITS, id="AllAlpha off"),
        pytest.param({**CONFIG, "featureGates": {"defaultSeccompProfile": True}}, INHERITS, id="another gate"),
        pytest.param({**CONFIG, "etcdConfig": {"featureGates": {"DefaultSeccompProfile": True}}}, INHERITS, id="etcd"),
        pytest.param(CONFIG, INHERITS, id="head only"),
        pytest.param(None, INHERITS, id="null config"),
        pytest.param(ABSENT, INHERITS, id="no config"),
        pytest.param(ON, "on", id="on"),
        pytest.param(OFF, "off", id="off"),
        pytest.param(
            {**CONFIG, "featureGates": {"DefaultSeccompProfile": None, "AllAlpha": True}}, "off", id="null gate"
        ),
        pytest.param({**CONFIG, "featureGates": {"DefaultSeccompProfile": "on"}}, "expected true or false", id="text"),
    ],
)
def test_managed_seed_that_inherits_must_state_the_gate(
    merge: object, config: object, expected: str, *, as_json: bool
) -> None:
    found = verdict(managed_seed(merge, config), as_json=as_json)
    if expected in ("on", "off"):
        assert found == expected
        return
    assert expected in found
    if expected is INHERITS:
        assert "read the ConfigMap of the deployed gardenlet instead" in found


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({**CONFIG, "seedConfig": {}}, "off", id="no gates"),
        pytest.param({**CONFIG, "featureGates": {"AllAlpha": True}}, "on", id="AllAlpha"),
        pytest.param(ON, "on", id="on"),
        pytest.param(ABSENT, "spec.gardenlet.config is absent or null", id="no config"),
    ],
)
def test_managed_seed_that_does_not_inherit_is_the_whole_truth(config: object, expected: str) -> None:
    found = verdict(managed_seed(merge=False, config=config))
    assert expected in found


@pytest.mark.parametrize("merge", ["true", 1, [], {}])
def test_merge_that_is_no_boolean_is_refused(merge: object) -> None:
    assert "spec.gardenlet.mergeWithParent holds" in verdict(managed_seed(merge, ON))


def test_gardenlet_object_has_no_parent() -> None:
    given = {"apiVersion": "seedmanagement.gardener.cloud/v1alpha1", "kind": "Gardenlet"}
    assert verdict({**given, "spec": {"mergeWithParent": True, "config": {**CONFIG, "logLevel": "info"}}}) == "off"


# --- Values of a chart, fragments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True], ids=["yaml", "json"])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"replicaCount": 2, "resources": {}, "config": ON}, "'config'", id="values of gardenlet's chart"),
        pytest.param({"resources": {"requests": {}}, "replicaCount": 2}, "'replicaCount'", id="values, no config"),
        pytest.param({"global": {"gardenlet": {"config": ON}}}, "'global'", id="values of an older chart"),
        pytest.param({"gardenlet": {"config": ON}, "monitoring": {}}, "'gardenlet'", id="umbrella chart"),
        pytest.param({"config": {"featureGates": {"DefaultSeccompProfile": True}}}, "'config'", id="config only"),
        pytest.param({"DefaultSeccompProfile": True}, "'DefaultSeccompProfile'", id="the gates alone"),
        pytest.param({"spec": {"config": ON}, "resources": {}}, "'spec'", id="spec of a Gardenlet"),
        pytest.param({"bootstrap": "None", "mergeWithParent": False, "config": ON}, "'bootstrap'", id="spec.gardenlet"),
        pytest.param({"data": {"config.yaml": yaml.safe_dump(ON)}, "logLevel": "info"}, "'data'", id="ConfigMap body"),
        pytest.param(
            {"FeatureGates": {"DefaultSeccompProfile": True}, "logLevel": "info"}, "'FeatureGates'", id="case"
        ),
        pytest.param({"featureGate": {"DefaultSeccompProfile": True}, "logLevel": "info"}, "'featureGate'", id="typo"),
        pytest.param({"featureGates": None, "config": ON, "logLevel": "info"}, "'config'", id="null gates"),
        pytest.param({"apiVersion": None, "kind": "", "config": ON, "server": {}}, "'config'", id="empty type"),
        pytest.param({"nodeToleration": {}, "image": {"tag": "v1"}, "env": []}, "'env', 'image'", id="several unknown"),
    ],
)
def test_untyped_document_with_unknown_fields_and_no_gates_is_refused(
    given: object, named: str, *, as_json: bool
) -> None:
    found = verdict(given, as_json=as_json)
    assert "has no apiVersion, no kind, no featureGates" in found
    assert all(name in found for name in named.split(", "))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"featureGates": {"DefaultSeccompProfile": True}, "future": {}}, "on", id="gates, unknown field"),
        pytest.param({"featureGates": {}, "future": {}}, "off", id="no gate on, unknown field"),
        pytest.param({**CONFIG, "future": {}}, "off", id="typed"),
        pytest.param({"kind": "GardenletConfiguration", "future": {}}, "off", id="kind only"),
        pytest.param({"apiVersion": CONFIG["apiVersion"], "future": {}}, "off", id="apiVersion only"),
        pytest.param({"logLevel": "info"}, "off", id="known fields only"),
        pytest.param({"resources": {"capacity": {}}, "seedConfig": {}, "logging": {}}, "off", id="more known fields"),
    ],
)
def test_document_that_gardenlet_takes_keeps_its_verdict(given: object, expected: str) -> None:
    assert verdict(given) == expected


# --- What kubectl prints ---------------------------------------------------------------------------------------------


def config_map(name: str = "gardenlet-config-1234", /, **fields: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "garden"}, **fields}


def listed(*items: object, kind: str = "List") -> dict[str, object]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": ""}, "items": list(items)}


def text(content: object) -> str:
    return yaml.safe_dump(content)


GARDENLET = config_map(data={"config.yaml": text(ON)})
OTHER = config_map("kube-root-ca.crt", data={"ca.crt": "-----BEGIN CERTIFICATE-----\n"})
UNREADABLE = "featureGates:\n\tA: true\n"


@pytest.mark.parametrize("as_json", [False, True], ids=["yaml", "json"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(GARDENLET, "on", id="ConfigMap"),
        pytest.param(config_map(data={"config.yaml": text({**CONFIG, "logLevel": "info"})}), "off", id="gate absent"),
        pytest.param(config_map(data={"config.yaml": json.dumps(ON)}), "on", id="JSON inside"),
        pytest.param(config_map(data={"a.conf": "x = 1", "gardenlet": text(ON)}), "on", id="another key"),
        pytest.param(config_map(data={"a": UNREADABLE, "b": text(ON)}), "on", id="beside an unreadable text"),
        pytest.param(config_map(data={"a": "kind: Seed\n", "b": text(ON)}), "on", id="beside another kind"),
        pytest.param(config_map(data={"a": "logLevel: x\n", "b": text(ON)}), "on", id="typed beats untyped"),
        pytest.param(config_map(data={"a": "x: y\n", "b": "featureGates: {AllAlpha: yes}\n"}), "on", id="untyped"),
        pytest.param(
            config_map(binaryData={"config.yaml": base64.b64encode(text(ON).encode()).decode()}), "on", id="binaryData"
        ),
        pytest.param(listed(GARDENLET), "on", id="List"),
        pytest.param(listed(OTHER, GARDENLET, config_map("empty")), "on", id="List with others"),
        pytest.param(listed(GARDENLET, kind="ConfigMapList"), "on", id="ConfigMapList"),
        pytest.param(listed(managed_seed(merge=False, config=OFF)), "off", id="List with a ManagedSeed"),
        pytest.param(
            listed(managed_seed(merge=True, config=CONFIG)), INHERITS, id="List with a ManagedSeed that inherits"
        ),
        pytest.param(
            config_map(data={"config.yaml": text(ON), "old.yaml": text(OFF)}),
            "holds 2 documents (a.yaml, key 'config.yaml'; a.yaml, key 'old.yaml'): expected one",
            id="two keys",
        ),
        pytest.param(
            listed(GARDENLET, config_map("gardenlet-config-5678", data={"config.yaml": text(OFF)})),
            "'garden/gardenlet-config-5678', key 'config.yaml'",
            id="two ConfigMaps",
        ),
        pytest.param(listed(GARDENLET, managed_seed(merge=False, config=ON)), "holds 2 documents", id="two kinds"),
        pytest.param(
            config_map(data={"config.yaml": UNREADABLE}), "key 'config.yaml', line 2, column 1", id="unreadable"
        ),
        pytest.param(
            config_map(data={"config.yaml": text({**ON, "featureGates": {"DefaultSeccompProfile": "on"}})}),
            "key 'config.yaml', featureGates, 'DefaultSeccompProfile' holds a text",
            id="invalid",
        ),
        pytest.param(config_map(data={"values.yaml": text({"config": ON})}), "no featureGates", id="values inside"),
        pytest.param(config_map(data={"a": "x", "b": "z"}), "holds no GardenletConfiguration (a.yaml, key", id="none"),
        pytest.param(config_map(data={}), "a.yaml holds no GardenletConfiguration: expected", id="no data"),
        pytest.param(config_map(), "a.yaml holds no GardenletConfiguration: expected", id="absent data"),
        pytest.param(config_map(data=[]), "a.yaml holds no GardenletConfiguration: expected", id="data is a list"),
        pytest.param(listed(), "a.yaml holds no GardenletConfiguration: expected", id="empty List"),
        pytest.param(
            config_map(
                data={"config.yaml": "apiVersion: seccomp-reconciler.config.gardener.cloud/v1alpha1\nkind: X\n"}
            ),
            "the reconciler's own ReconcilerConfiguration",
            id="own settings inside",
        ),
        pytest.param({**GARDENLET, "kind": "Secret"}, "kind 'Secret': expected apiVersion gardenlet", id="Secret"),
    ],
)
def test_object_that_carries_the_document_is_unwrapped(given: object, expected: str, *, as_json: bool) -> None:
    found = verdict(given, as_json=as_json)
    if expected in ("on", "off"):
        assert found == expected
    else:
        assert expected in found


def test_repeated_text_is_bounded() -> None:
    given = f"apiVersion: v1\nkind: ConfigMap\ndata:\n  a: &a {'x' * 100_000!r}\n" + "".join(
        f"  k{number}: *a\n" for number in range(50)
    )
    assert "51 texts" in verdict(given)


def test_text_inside_is_never_unwrapped_again() -> None:
    assert "kind 'ConfigMap'" in verdict(config_map(data={"a": text(GARDENLET)}))


# --- The reconciler's own configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"apiVersion": "seccomp-reconciler.config.gardener.cloud/v1alpha1", "kind": "ReconcilerConfiguration"},
        {"apiVersion": "seccomp-reconciler.config.gardener.cloud/v1beta1", "kind": "ReconcilerConfiguration"},
        {"kind": "ReconcilerConfiguration", "registration": {}},
        {"apiVersion": "seccomp-reconciler.config.gardener.cloud/v1alpha1", "registration": {}},
    ],
)
def test_own_configuration_is_named_with_the_flag_that_is_meant(given: object) -> None:
    found = verdict(given)
    assert "a.yaml is the reconciler's own ReconcilerConfiguration" in found
    assert "give it with --config" in found
