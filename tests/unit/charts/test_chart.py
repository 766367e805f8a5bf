"""The chart, rendered by the real Helm: what it installs, what it refuses, and that it says the same as config/."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from reconciler import settings
from reconciler.registration import desired, lint, manifests
from reconciler.registration.subjects import CANARY_POD_LABELS
from reconciler.settings import ReconcilerConfiguration, ShootSource
from tests import chart_schema, helm
from tests.helm import CHART, PRESETS, HelmError, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from reconciler.registration.identity import Manifest

CONFIG: Final = CHART.parents[1] / "config"
TALKS: Final = {
    "networking.gardener.cloud/to-dns": "allowed",
    "networking.gardener.cloud/to-runtime-apiserver": "allowed",
}
# Whom webhooks of gardener-resource-manager would otherwise refuse while it is away.
SKIPS: Final = ("seccompprofile.resources.gardener.cloud/skip", *CANARY_POD_LABELS)
SCRAPED: Final = "networking.resources.gardener.cloud/from-all-seed-scrape-targets-allowed-ports"
# Verb, group, resource, and its name and namespace where there are any.
Right = tuple[str, str, str, str, str]
# Beside a preset, whatever can be on: what every pod and role looks like.
EVERYTHING: Final[dict[str, Any]] = {
    part: {"enabled": True} for part in ("server", "reconciler", "bootstrap", "sidecar", "monitoring")
}


def named(objects: Iterable[Manifest], kind: str, name: str = "seccomp-reconciler", namespace: str = "") -> Manifest:
    found = [
        one
        for one in objects
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
        and namespace in ("", one["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} {kind} {name}"
    return found[0]


def job(objects: Iterable[Manifest]) -> Manifest:
    (found,) = (one for one in objects if one["kind"] == "Job" and not one["metadata"]["name"].count("cleanup"))
    return found


def templates(objects: Iterable[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The pod templates, each with its component."""
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["labels"]["app.kubernetes.io/component"], one["spec"]["template"]


def configuration(objects: Iterable[Manifest], key: str = "config.yaml") -> ReconcilerConfiguration:
    return settings.parse(named(objects, "ConfigMap")["data"][key].encode(), origin=key)


def rights(objects: Iterable[Manifest], account: str) -> set[Right]:
    """What `objects` grant the ServiceAccount `account` in garden, one verb of one name at a time."""
    objects = [one for one in objects if one["apiVersion"].startswith("rbac")]
    rules = {(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")): one for one in objects}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "garden"}
    found: set[Right] = set()
    for binding in objects:
        if subject not in binding.get("subjects", ()):
            continue
        namespace = binding["metadata"].get("namespace")
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"], namespace]["rules"]:
            found |= {
                (verb, group, resource, name, namespace or "")
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [""])
            }
    return found


def notes(folder: Path, **options: Any) -> str:  # noqa: ANN401 - render's
    """What `helm install` would print at the end: it takes a cluster for that, so a copy of the chart renders it."""
    copy = folder / "chart"
    if not copy.exists():
        shutil.copytree(CHART, copy)
        text = (copy / "templates" / "NOTES.txt").read_text()
        (copy / "templates" / "NOTES.txt").unlink()
        shown = '{{- define "shown" }}' + text + '{{ end }}kind: Notes\ntext: {{ include "shown" . | toJson }}\n'
        (copy / "templates" / "shown.yaml").write_text(shown)
    (found,) = (one["text"] for one in render(**options, chart=copy) if one["kind"] == "Notes")
    return str(found)


# Rendering


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_helm_lint_finds_nothing(preset: str) -> None:
    assert "0 chart(s) failed" in helm.lint(preset)


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_nothing_is_rendered_twice(preset: str) -> None:
    count = Counter(
        (one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
        for one in render(preset, values={"monitoring": {"enabled": True}})
    )
    assert count.most_common(1)[0][1] == 1


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_the_reconciler_accepts_the_settings(preset: str) -> None:
    found = configuration(render(preset))
    assert found.gardenlet_configuration.deployment == settings.DeploymentReference()


@pytest.mark.parametrize("preset", PRESETS)
def test_our_own_linter_finds_nothing(preset: str) -> None:
    rendered = render(preset)
    found = configuration(rendered)
    objects = manifests.parse(yaml.safe_dump_all(rendered).encode(), origin=preset)
    registration = desired.render(found.registration, ca_bundle=None)
    assert lint.check(registration, manifests.subjects_in(objects, found)) == ()


def test_the_presets_are_those_in_the_folder() -> None:
    assert {path.stem for path in (CHART / "presets").iterdir()} == set(PRESETS)


def test_every_value_has_its_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [line for before, line in itertools.pairwise(lines) if line[:1].isalpha() and not before.startswith("#")]
    assert [line for line in bare if line not in ("imagePullSecrets: []", "tolerations: []")] == []


@pytest.mark.parametrize(
    ("preset", "expected"),
    {
        "own-server": {"Deployment/seccomp-reconciler-server", "Job/bootstrap", "Service/seccomp-reconciler-sidecar"},
        "standalone": {"Deployment/seccomp-reconciler", "Deployment/seccomp-reconciler-server"},
        "gardener-resource-manager": {"Deployment/seccomp-reconciler"},
        "sidecar": {"Service/seccomp-reconciler-sidecar"},
        "aks": {"Deployment/seccomp-reconciler", "Deployment/seccomp-reconciler-server"},
        "high-security": {"Deployment/seccomp-reconciler", "Deployment/seccomp-reconciler-server"},
    }.items(),
)
def test_a_preset_installs_what_its_name_says(preset: str, expected: set[str]) -> None:
    found = {f"{one['kind']}/{one['metadata']['name']}" for one in render(preset)}
    runs = {one for one in found if one.startswith(("Deployment/", "Job/")) and "cleanup" not in one}
    runs = {"Job/bootstrap" if one.startswith("Job/seccomp-reconciler-bootstrap-") else one for one in runs}
    assert runs | (found & {"Service/seccomp-reconciler-sidecar"}) == expected


def test_presets_say_what_they_promise() -> None:
    found = {preset: configuration(render(preset)).registration for preset in PRESETS}
    assert dict(found["aks"].annotations) == {"admissions.enforcer/disabled": "true"}
    assert found["high-security"].failure_policy is settings.FailurePolicy.FAIL
    for preset in ("gardener-resource-manager", "sidecar"):
        backend = found[preset].backend.service
        assert backend == settings.ServiceBackend(name="gardener-resource-manager")
        assert found[preset].ca.secret is not None


# Pods


def everything() -> list[Manifest]:
    clients = {"clientCA": {"secretName": "ca", "names": ["kube-apiserver"]}, "enabled": True}
    return render(values={**EVERYTHING, "server": clients, "gardenletDocument": "kind: GardenletConfiguration\n"})


def test_every_pod_is_confined_and_labelled() -> None:
    found = dict(templates(everything()))
    assert set(found) == {"server", "reconciler", "bootstrap", "cleanup"}
    for component, template in found.items():
        labels = template["metadata"]["labels"]
        assert labels["app"] == labels["app.kubernetes.io/name"] == "seccomp-reconciler"
        assert labels["app.kubernetes.io/component"] == component
        assert {labels[skip] for skip in SKIPS} == {"true"}
        assert (TALKS.items() <= labels.items()) is (component != "server")
        pod = template["spec"]
        (container,) = pod["containers"]
        assert container["name"] == "seccomp-reconciler"
        assert "command" not in container  # the image's entrypoint is the command
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() == {"memory"}
        assert all(mount["readOnly"] for mount in container["volumeMounts"])
        assert pod.get("priorityClassName") == (None if component == "cleanup" else "gardener-system-critical")


def test_the_servers_pods_have_no_token() -> None:
    objects = everything()
    assert named(objects, "ServiceAccount", "seccomp-reconciler-server")["automountServiceAccountToken"] is False
    pod = named(objects, "Deployment", "seccomp-reconciler-server")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not any("projected" in volume for volume in pod["volumes"])
    assert rights(objects, "seccomp-reconciler-server") == set()


def test_the_server_waits_for_its_certificate_and_drains_within_its_grace() -> None:
    objects = render(set=["server.drainDelay=25"])
    deployment = named(objects, "Deployment", "seccomp-reconciler-server")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["volumes"] == [
        {"name": "tls", "secret": {"secretName": "seccomp-reconciler-tls", "defaultMode": 0o440, "optional": True}}
    ]
    assert "--drain-delay=25" in pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] == 45
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_servers_arguments_follow_values_and_settings() -> None:
    objects = render(
        values={
            "server": {
                "untypedProfile": "Override",
                "maxConnections": 50,
                "clientCA": {"configMapName": "clients", "key": "bundle", "names": ["kube-apiserver", "a b"]},
            },
            "settings": {"registration": {"skipLabel": "example.org/skip"}},
        }
    )
    pod = named(objects, "Deployment", "seccomp-reconciler-server")["spec"]["template"]
    assert {
        "--skip-label=example.org/skip",
        "--untyped-profile=Override",
        "--max-connections=50",
        "--client-ca=/etc/seccomp-reconciler/client-ca/ca.crt",
        "--client-name=kube-apiserver",
        "--client-name=a b",
    } <= set(pod["spec"]["containers"][0]["args"])
    assert pod["metadata"]["labels"]["example.org/skip"] == "true"
    assert pod["spec"]["volumes"][1]["configMap"] == {
        "name": "clients",
        "items": [{"key": "bundle", "path": "ca.crt"}],
    }


def test_a_reconciler_is_named_after_its_pod() -> None:
    (container,) = named(render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    assert container["args"][:2] == ["run", "--config=/etc/seccomp-reconciler/config/config.yaml"]


def test_secrets_that_settings_name_are_mounted_and_may_be_missing() -> None:
    source = {"file": "/etc/seccomp-reconciler/secrets/my-seed.shoot/shoot.yaml"}
    values = {"reconciler": {"secrets": ["my-seed.shoot"]}, "settings": {"managedSeed": {"shoot": source}}}
    objects = render(values=values)
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": "my-seed.shoot", "optional": True}
    (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"]]
    assert source["file"].startswith(mount["mountPath"] + "/")
    assert configuration(objects).managed_seed.shoot == ShootSource(file=source["file"])


def test_each_revision_is_spread_by_itself() -> None:
    for component, template in templates(render()):
        spread = template["spec"].get("topologySpreadConstraints", [])
        assert len(spread) == (0 if component == "cleanup" else 2)
        for term in spread:
            assert term["matchLabelKeys"] == ["pod-template-hash"]
            assert term["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    one = render(set=["topologySpread.zone="])
    assert len(named(one, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]) == 1


def test_selectors_find_exactly_the_pods_of_their_component() -> None:
    objects = everything()
    pods = dict(templates(objects))
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for one in (one for one in objects if one["kind"] == kind and one["metadata"]["name"].startswith("seccomp")):
            selector = one["spec"].get("podSelector", one["spec"].get("selector"))
            labels = selector.get("matchLabels", selector)
            if labels == {"app": "gardener", "role": "gardenlet"}:
                continue
            values = {value for term in selector.get("matchExpressions", ()) for value in term["values"]}
            found = {
                name
                for name, pod in pods.items()
                if labels.items() <= pod["metadata"]["labels"].items() and (not values or name in values)
            }
            assert found == (values or {labels["app.kubernetes.io/component"]})


def test_the_image_is_pinned_by_its_digest() -> None:
    digest = "sha256:" + "0" * 64
    objects = render(values={"image": {"repository": "example.org/ours", "tag": "1.2", "digest": digest}})
    images = {container["image"] for _, pod in templates(objects) for container in pod["spec"]["containers"]}
    assert images == {f"example.org/ours@{digest}"}
    (tagged,) = {
        container["image"]
        for _, pod in templates(render(set=["image.tag=1.2"]))
        for container in pod["spec"]["containers"]
    }
    assert tagged == "seccomp-reconciler:1.2"


def test_priority_can_be_left_out() -> None:
    assert all("priorityClassName" not in pod["spec"] for _, pod in templates(render(set=["priorityClassName="])))


# The Job


def test_the_job_ends_at_once_on_what_will_not_pass() -> None:
    spec = job(render("own-server"))["spec"]
    (disruption, codes) = spec["podFailurePolicy"]["rules"]
    assert codes["action"] == "FailJob"
    assert codes["onExitCodes"] == {
        "containerName": "seccomp-reconciler",
        "operator": "In",
        "values": [64, 65, 66, 73, 77],
    }
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    (container,) = spec["template"]["spec"]["containers"]
    assert container["args"] == [
        "reconcile",
        "--config=/etc/seccomp-reconciler/config/config.yaml",
        "--wait",
        "--timeout=600",
    ]
    assert spec["activeDeadlineSeconds"] > 600 * (spec["backoffLimit"] + 1)


def test_a_plain_job_is_made_anew_where_anything_of_it_changes() -> None:
    name = job(render("own-server"))["metadata"]["name"]
    others = [
        job(render("own-server", set=[change]))["metadata"]["name"]
        for change in ("image.tag=other", "settings.resyncPeriod=20m", "gardenletDocument=kind: Gardenlet")
    ]
    assert len({name, *others}) == 4
    assert job(render("own-server", set=["server.replicas=3"]))["metadata"]["name"] == name


def test_the_job_can_be_a_hook() -> None:
    metadata = job(render("own-server", set=["bootstrap.hook=true"]))["metadata"]
    assert metadata["name"] == "seccomp-reconciler-bootstrap"
    assert metadata["annotations"] == {
        "helm.sh/hook": "post-install,post-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    assert "annotations" not in job(render("own-server"))["metadata"]


def test_a_finished_job_may_stay() -> None:
    assert "ttlSecondsAfterFinished" in job(render("own-server"))["spec"]
    kept = render("own-server", values={"bootstrap": {"ttlSecondsAfterFinished": None}})
    assert "ttlSecondsAfterFinished" not in job(kept)["spec"]


# Rights


def test_the_standalone_reconciler_may_exactly_what_the_plain_manifests_grant() -> None:
    plain = [
        one
        for name in ("rbac.yaml", "canary.yaml")
        for one in yaml.safe_load_all((CONFIG / name).read_text())
        if one is not None
    ]
    assert rights(render("standalone"), "seccomp-reconciler") == rights(plain, "seccomp-reconciler")


def test_the_job_may_what_the_reconciler_may() -> None:
    objects = render(set=["bootstrap.enabled=true"])
    assert rights(objects, "seccomp-reconciler-bootstrap") == rights(objects, "seccomp-reconciler")


def test_only_job_and_reconciler_may_create_what_has_no_name() -> None:
    objects = [one for one in everything() if "helm.sh/hook" not in one["metadata"].get("annotations", {})]
    creators = {
        subject["name"]
        for one in objects
        if one["kind"].endswith("RoleBinding") and one["metadata"]["name"] == "seccomp-reconciler-create"
        for subject in one["subjects"]
    }
    assert creators == {"seccomp-reconciler", "seccomp-reconciler-bootstrap"}
    for one in objects:
        if one["kind"] in ("Role", "ClusterRole"):
            creates = [rule for rule in one.get("rules", ()) if "create" in rule["verbs"]]
            assert not creates or one["metadata"]["name"].partition(".")[0].rpartition("-")[2] in (
                "create",
                "events",
                "canary",
            )
            assert all("*" not in rule["verbs"] + rule["resources"] for rule in one["rules"])


def test_gardenlets_account_gets_what_its_own_rights_lack_and_nothing_else() -> None:
    objects = render("own-server", set=["sidecar.serviceAccountName=gardenlet"])
    assert rights(objects, "gardenlet") == {
        ("patch", "coordination.k8s.io", "leases", "seccomp-reconciler", "garden"),
        ("list", "discovery.k8s.io", "endpointslices", "", "garden"),
        ("watch", "discovery.k8s.io", "endpointslices", "", "garden"),
        ("create", "", "pods", "", "seccomp-canary"),
    }


def test_cleanup_may_only_look_pause_and_delete_what_is_named() -> None:
    webhooks = ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "seccomp-reconciler", "")
    leases = ("coordination.k8s.io", "leases")
    secrets = [("", "secrets", name, "garden") for name in ("seccomp-reconciler-ca", "seccomp-reconciler-tls")]
    assert rights(render(), "seccomp-reconciler-cleanup") == {
        *((verb, *webhooks) for verb in ("get", "delete")),
        *((verb, *secret) for verb in ("get", "delete") for secret in secrets),
        *((verb, *leases, "seccomp-reconciler", "garden") for verb in ("get", "patch", "delete")),
        ("create", *leases, "", "garden"),
    }


def test_rights_follow_the_names_in_the_settings() -> None:
    objects = render(
        values={
            "settings": {
                "registration": {
                    "name": "ours",
                    "twinName": "theirs",
                    "ownerClusterRole": "creators",
                    "ca": {"selfSigned": {"authoritySecret": "authority", "servingSecret": "serving"}},
                },
                "leaderElection": {"name": "lead"},
                "proof": {"namespace": "birds"},
                "gardenletConfiguration": {"configMap": {"name": "document"}},
            },
        }
    )
    found = rights(objects, "seccomp-reconciler") | rights(objects, "seccomp-reconciler-cleanup")
    names = {
        resource: {right[3] for right in found if right[2] == resource} - {""} for resource in {r[2] for r in found}
    }
    assert names["mutatingwebhookconfigurations"] == {"ours", "theirs"}
    assert names["secrets"] == {"authority", "serving"}
    assert names["clusterroles"] == {"creators"}
    assert names["leases"] == {"lead"}
    assert names["configmaps"] == {"document"}
    assert ("create", "", "pods", "", "birds") in found
    assert ("get", "", "configmaps", "", "garden") not in found
    pod = named(objects, "Deployment", "seccomp-reconciler-server")["spec"]["template"]["spec"]
    assert pod["volumes"][0]["secret"]["secretName"] == "serving"
    assert named(objects, "Namespace", "birds")


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_owner_is_the_cluster_role_that_grants_create(preset: str) -> None:
    """The sidecar alone has none: gardenlet's own ClusterRole grants it, and outlives the release."""
    objects = render(preset)
    name = configuration(objects).registration.owner_cluster_role
    assert name == ("" if preset == "sidecar" else "seccomp-reconciler-create")
    if name:
        role = named(objects, "ClusterRole", name)
        assert {(verb, *rule["resources"]) for rule in role["rules"] for verb in rule["verbs"]} == {
            ("create", "mutatingwebhookconfigurations")
        }


def test_no_right_to_cluster_roles_without_an_owner() -> None:
    values = {"settings": {"registration": {"ownerClusterRole": ""}}}
    assert not [right for right in rights(render(values=values), "seccomp-reconciler") if right[2] == "clusterroles"]


def test_a_ca_of_somebody_elses_needs_no_right_to_write_secrets() -> None:
    found = rights(
        render(values={"settings": {"registration": {"ca": {"secret": {"name": "theirs"}}}}}), "seccomp-reconciler"
    )
    assert {right for right in found if right[2] == "secrets"} == {
        (verb, "", "secrets", "theirs", "garden") for verb in ("get", "list", "watch")
    }


def test_rights_are_granted_where_the_settings_look() -> None:
    found = rights(
        render(
            "gardener-resource-manager",
            values={"settings": {"registration": {"backend": {"service": {"namespace": "else"}}}}},
        ),
        "seccomp-reconciler",
    )
    assert ("get", "", "services", "gardener-resource-manager", "else") in found
    assert ("list", "discovery.k8s.io", "endpointslices", "", "else") in found
    assert ("list", "discovery.k8s.io", "endpointslices", "", "garden") not in found


def test_rights_can_be_left_to_somebody_else() -> None:
    off = {**EVERYTHING, "rbac": {"enabled": False}}
    assert not [one for one in render(values=off) if one["apiVersion"].startswith("rbac")]


# Where things are


@pytest.mark.parametrize("namespace", ["garden", "elsewhere"])
def test_what_has_a_namespace_goes_to_the_releases(namespace: str) -> None:
    objects = render(values=EVERYTHING, namespace=namespace)
    elsewhere = {
        (one["kind"], one["metadata"]["name"], one["metadata"]["namespace"])
        for one in objects
        if one["metadata"].get("namespace") not in (None, namespace)
    }
    both = ("Role", "RoleBinding")
    assert elsewhere == {
        *((kind, "seccomp-reconciler-events", "default") for kind in both),
        *((kind, "seccomp-reconciler-canary", "seccomp-canary") for kind in both),
        ("ResourceQuota", "seccomp-canary", "seccomp-canary"),
        ("NetworkPolicy", "deny-all", "seccomp-canary"),
    }
    found = configuration(objects)
    assert found.leader_election.namespace == namespace
    assert found.registration.backend.service is not None
    assert found.registration.backend.service.namespace == namespace
    assert found.registration.ca.self_signed is not None
    assert found.registration.ca.self_signed.namespace == namespace
    assert found.gardenlet_configuration.deployment is not None
    assert found.gardenlet_configuration.deployment.namespace == namespace


def test_the_canary_is_that_of_the_plain_manifest() -> None:
    plain = {one["kind"]: one for one in yaml.safe_load_all((CONFIG / "canary.yaml").read_text())}
    objects = render(set=["canary.labels.example=yes"])
    for kind in ("ResourceQuota", "NetworkPolicy"):
        name = plain[kind]["metadata"]["name"]
        assert named(objects, kind, name)["spec"] == plain[kind]["spec"]
    labels = named(objects, "Namespace", "seccomp-canary")["metadata"]["labels"]
    assert {**plain["Namespace"]["metadata"]["labels"], "example": "yes"}.items() <= labels.items()


def test_the_canary_can_be_there_already() -> None:
    kinds = {
        one["kind"]
        for one in render(set=["canary.create=false"])
        if one["metadata"].get("namespace") == "seccomp-canary"
    }
    assert kinds == {"Role", "RoleBinding"}


# Settings


def test_what_the_chart_adds_are_the_defaults_of_the_model() -> None:
    expected = ReconcilerConfiguration().model_copy(
        update={
            "gardenlet_configuration": settings.GardenletConfigurationSource(deployment=settings.DeploymentReference())
        }
    )
    assert configuration(render()) == expected


def test_the_sidecar_reads_gardenlets_own_file_and_else_the_same() -> None:
    objects = render("own-server")
    sidecar = configuration(objects, "sidecar.yaml")
    assert sidecar.gardenlet_configuration.file == "/etc/gardenlet/config/config.yaml"
    reset = {"gardenlet_configuration": sidecar.gardenlet_configuration}
    assert configuration(objects).model_copy(update=reset) == sidecar
    assert "sidecar.yaml" not in named(render(), "ConfigMap")["data"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"registration": {"ca": {"secret": {"name": "other"}}}}, {"ca": {"secret"}}),
        ({"registration": {"ca": {"configMap": {}}}}, {"ca": {"config_map"}}),
        ({"registration": {"ca": {"inline": "PEM"}}}, {"ca": {"inline"}}),
        ({"registration": {"ca": {"selfSigned": {"overlap": "2h"}}}}, {"ca": {"self_signed"}}),
        ({"registration": {"ca": {"secret": None}}}, {"ca": {"self_signed"}}),
        (
            {"registration": {"backend": {"url": "https://127.0.0.1:9443/webhooks/seccomp-profile"}}},
            {"backend": {"url"}},
        ),
        ({"registration": {"backend": {"service": {"port": 8443}}}}, {"backend": {"service"}}),
    ],
)
def test_groups_of_which_one_must_be_chosen_are_never_broken(
    chosen: dict[str, Any], expected: dict[str, set[str]]
) -> None:
    registration = configuration(render(values={"settings": chosen})).registration
    for group, names in expected.items():
        model = getattr(registration, group)
        assert {name for name in type(model).model_fields if getattr(model, name) is not None} == names


def test_false_zero_and_empty_count_as_chosen() -> None:
    found = configuration(
        render(
            values={
                "reconciler": {"replicas": 1},
                "settings": {
                    "leaderElection": {"enabled": False},
                    "adaptive": {"soak": "0s"},
                    "registration": {"skipTypedPods": False, "reinvocationPolicy": None, "ownAppName": ""},
                },
            }
        )
    )
    assert found.leader_election.enabled is False
    assert found.adaptive.soak_seconds == 0
    assert found.registration.skip_typed_pods is False
    assert found.registration.own_app_name == ""


def test_a_document_given_by_hand_is_mounted_for_job_and_reconciler(tmp_path: Path) -> None:
    text = 'apiVersion: v1\nkind: "Gardenlet"\n# {{ not a template }}\n'
    document = tmp_path / "gardenlet.yaml"
    document.write_text(text)
    objects = render(set=["bootstrap.enabled=true"], set_file=[f"gardenletDocument={document}"])
    assert named(objects, "ConfigMap", "seccomp-reconciler-gardenlet")["data"] == {"config.yaml": text}
    assert configuration(objects).gardenlet_configuration.file == "/etc/gardenlet/config/config.yaml"
    for one in (named(objects, "Deployment"), job(objects)):
        pod = one["spec"]["template"]["spec"]
        assert pod["volumes"][1]["configMap"]["name"] == "seccomp-reconciler-gardenlet"
        assert pod["containers"][0]["volumeMounts"][1]["mountPath"] == "/etc/gardenlet/config"


def test_the_service_has_the_port_that_the_registration_names() -> None:
    objects = render(set=["settings.registration.backend.service.port=8443"])
    ports = {port["name"]: (port["port"], port["targetPort"]) for port in named(objects, "Service")["spec"]["ports"]}
    assert ports == {"webhook": (8443, "webhook"), "metrics": (8080, "metrics")}


# Network


def test_gardeners_controllers_are_told_the_ports_of_the_pods() -> None:
    objects = everything()
    annotations = named(objects, "Service")["metadata"]["annotations"]
    world = json.loads(annotations["networking.resources.gardener.cloud/from-world-to-ports"])
    assert world == [{"protocol": "TCP", "port": 9443}]
    for name, port in {"": 8080, "-metrics": 8081, "-sidecar": 8081}.items():
        found = named(objects, "Service", f"seccomp-reconciler{name}")["metadata"]["annotations"][SCRAPED]
        assert json.loads(found) == [{"protocol": "TCP", "port": port}]


def test_the_server_calls_nobody_and_is_called_by_the_api_server() -> None:
    spec = named(render(), "NetworkPolicy", "seccomp-reconciler-server")["spec"]
    assert (spec["policyTypes"], spec["egress"]) == (["Ingress", "Egress"], [])
    webhook, metrics = spec["ingress"]
    assert webhook == {"ports": [{"port": 9443, "protocol": "TCP"}]}
    assert metrics["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert metrics["from"][0]["podSelector"]["matchLabels"]
    narrow = render(values={"networkPolicy": {"apiServerCIDRs": ["10.0.0.0/8", "fd00::/8"]}})
    webhook = named(narrow, "NetworkPolicy", "seccomp-reconciler-server")["spec"]["ingress"][0]
    assert webhook["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]


def test_reconcilers_reach_the_api_server_and_dns_alone() -> None:
    spec = named(render(set=["networkPolicy.apiServerPorts={443}"]), "NetworkPolicy")["spec"]
    server, dns = spec["egress"]
    assert server == {"ports": [{"port": 443, "protocol": "TCP"}]}
    assert {port["port"] for port in dns["ports"]} == {53, 8053}
    assert dns["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    (expression,) = spec["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == {"reconciler", "bootstrap", "cleanup"}


def test_network_policies_of_ours_can_be_left_out() -> None:
    found = {
        one["metadata"]["name"] for one in render(set=["networkPolicy.enabled=false"]) if one["kind"] == "NetworkPolicy"
    }
    assert found == {"deny-all"}


# Uninstalling


def test_cleanup_has_what_it_needs_before_it_runs_and_leaves_nothing() -> None:
    hooks = [one for one in render() if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    for one in hooks:
        annotations = one["metadata"]["annotations"]
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        assert (int(annotations["helm.sh/hook-weight"]) < 0) is (one["kind"] != "Job")
        if one["kind"] != "Job":
            assert annotations["helm.sh/hook"] == "pre-delete,post-delete"
    jobs = {one["metadata"]["annotations"]["helm.sh/hook"]: one for one in hooks if one["kind"] == "Job"}
    assert set(jobs) == {"pre-delete", "post-delete"}
    arguments = {hook: one["spec"]["template"]["spec"]["containers"][0]["args"] for hook, one in jobs.items()}
    last = ["cleanup", "--config=/etc/seccomp-reconciler/config/config.yaml", "--timeout=120"]
    assert arguments == {"pre-delete": [*last, "--leave-paused"], "post-delete": last}
    # The release's own ConfigMap is gone after it.
    (volume,) = jobs["post-delete"]["spec"]["template"]["spec"]["volumes"]
    copy = named(hooks, "ConfigMap", volume["configMap"]["name"])
    assert copy["data"]["config.yaml"] == named(render(), "ConfigMap")["data"]["config.yaml"]


def test_cleanup_can_be_left_out() -> None:
    assert not [one for one in render(set=["cleanup.enabled=false"]) if "cleanup" in one["metadata"]["name"]]


# Refusals


@pytest.mark.parametrize(
    ("preset", "changes", "words"),
    [
        (
            "own-server",
            ["sidecar.enabled=false"],
            "bootstrap.enabled without reconciler.enabled or sidecar.enabled, and failurePolicy Adaptive.*Ignore",
        ),
        ("standalone", ["reconciler.enabled=false"], "there is none: the server would never be ready"),
        (
            "standalone",
            ["server.enabled=false"],
            "server.enabled is false, and settings.registration.backend.service is garden/seccomp-reconciler",
        ),
        (
            "gardener-resource-manager",
            ["server.enabled=true"],
            "is garden/gardener-resource-manager: the chart's server would never be called",
        ),
        (
            "gardener-resource-manager",
            ["settings.registration.ca.inline=PEM"],
            r"registration.ca names inline and secret; expected exactly one.*--set settings.registration.ca.\w+=null",
        ),
        (
            "standalone",
            ["settings.registration.backend.url=https://a.b/c", "settings.registration.backend.service.name=x"],
            "settings.registration.backend names service and url",
        ),
        (
            "standalone",
            ["settings.registration.ca.selfSigned.namespace=else"],
            "mounts Secrets of its own namespace only",
        ),
        (
            "standalone",
            ["settings.registration.ca.secret.namespace=else"],
            "else/seccomp-reconciler-tls, and the server runs in garden.*Expected server.tlsSecretName",
        ),
        ("standalone", ["server.tlsSecretName=other"], "server.tlsSecretName is other, and the reconciler issues into"),
        (
            "high-security",
            ["server.clientCA.names=null"],
            "without names: every certificate of that CA would be let in",
        ),
        ("high-security", ["server.clientCA.secretName="], "names is kube-apiserver without a CA"),
        ("high-security", ["server.clientCA.configMapName=other"], "expected one of them: empty the other"),
        ("standalone", ["settings.registration.ca.file=/ca.crt"], "ca.file is /ca.crt: the chart mounts nothing there"),
        (
            "standalone",
            ["settings.gardenletConfiguration.file=/x"],
            "gardenletConfiguration.file is /x: the chart mounts nothing there.*--set-file gardenletDocument=FILE",
        ),
        (
            "standalone",
            ["gardenletDocument=kind: Gardenlet", "settings.gardenletConfiguration.configMap.name=x"],
            "gardenletDocument is given, and settings.gardenletConfiguration.configMap too",
        ),
        ("standalone", ["settings.leaderElection.enabled=false"], "nobody would decide who writes"),
        ("standalone", ["settings.proof.namespace=garden"], "quota of no pods would be put there"),
        ("sidecar", ["sidecar.namespace=else"], "mounts ConfigMaps of its own namespace only.*--namespace else"),
        ("standalone", ["settings.registration.ramp=Never"], "Never goes with Fail alone"),
        ("standalone", ["cleanup.upgradePauseSeconds=60"], r"60, less than twice cleanup.timeoutSeconds \(120\)"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(preset: str, changes: list[str], words: str) -> None:
    with pytest.raises(HelmError, match=words):
        render(preset, set=changes)


def test_the_job_alone_goes_where_nothing_is_ever_refused() -> None:
    objects = render("own-server", set=["sidecar.enabled=false", "settings.registration.failurePolicy=Ignore"])
    assert job(objects)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("serverr.enabled=true", "Additional property serverr is not allowed"),
        ("server.replicas=0", "server.replicas: Must be greater than or equal to 1"),
        ("server.untypedProfile=Keep", 'server.untypedProfile must be one of the following: "Leave", "Override"'),
        ("server.drainDelay=10s", "server.drainDelay: Invalid type. Expected: integer, given: string"),
        ("image.digest=sha256:abc", "image.digest: Does not match pattern"),
        ("topologySpread.zone=Never", "topologySpread.zone must be one of the following"),
        ("networkPolicy.apiServerCIDRs={everywhere}", "networkPolicy.apiServerCIDRs.0: Does not match pattern"),
        (
            "settings.registration.failurePolicy=Open",
            "settings.registration.failurePolicy must be one of the following",
        ),
        (
            "settings.registration.timeoutSeconds=20",
            "settings.registration.timeoutSeconds: Must be less than or equal to 15",
        ),
        ("settings.registration.nam=x", "settings.registration: Additional property nam is not allowed"),
        ("settings.registration.webhookName=two.parts", "settings.registration.webhookName: Does not match pattern"),
        ("settings.registration.labels.a b=x", "Additional property a b is not allowed"),
        ("settings.resyncPeriod=600", "settings.resyncPeriod: Invalid type. Expected: [string,null], given: integer"),
        ("settings.resyncPeriod=10 minutes", "settings.resyncPeriod: Does not match pattern"),
        ("settings.adaptive.proofs=many", "settings.adaptive.proofs: Invalid type. Expected: [integer,null]"),
    ],
)
def test_the_schema_names_the_wrong_value(change: str, words: str) -> None:
    with pytest.raises(HelmError) as refusal:
        render(set=[change])
    assert words in str(refusal.value)


def test_the_schema_is_closed_everywhere() -> None:
    def opened(schema: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - JSON
        if isinstance(schema, list):
            schema = dict(enumerate(schema))
        if isinstance(schema, dict):
            if "properties" in schema and schema.get("additionalProperties") is not False:
                yield path
            for key, value in schema.items():
                yield from opened(value, f"{path}.{key}")

    assert list(opened(json.loads(chart_schema.FILE.read_text()), "")) == []


def test_the_schema_of_the_settings_is_that_of_the_model() -> None:
    text = chart_schema.FILE.read_text()
    assert chart_schema.with_settings(text) == text, "run `python -m tests.chart_schema`"


def test_the_schema_takes_the_sample_with_every_option() -> None:
    sample = yaml.safe_load((CONFIG / "reconciler.yaml").read_text())
    del sample["gardenletConfiguration"]
    assert configuration(render(values={"settings": sample})) == configuration(render())


# Numbers and versions become text


# A year in seconds. Helm reads it from a file as a floating-point number, and prints that as 3.1536e+07.
YEAR: Final = 31_536_000


def numbered(schema: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return a value for `schema` in which every number is a year, or the most that is allowed; None without any."""
    kinds = schema.get("type", ())
    if {"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds):
        return min(YEAR, schema.get("maximum", YEAR))
    if "items" in schema:
        item = numbered(schema["items"])
        return None if item is None else [item]
    properties = dict(schema.get("properties") or {})
    if isinstance(schema.get("additionalProperties"), dict):
        properties["memory"] = schema["additionalProperties"]
    found = {name: numbered(one) for name, one in properties.items()}
    return {name: value for name, value in found.items() if value is not None} or None


def overlaid(base: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = overlaid(found[key], value) if both else value
    return found


def texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Each scalar in `value`, as YAML reads it: a number with an exponent is a floating-point number."""
    if isinstance(value, dict):
        for part in value.items():
            yield from texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)
    else:
        yield repr(value) if isinstance(value, float) else str(value)


def test_numbers_are_written_without_exponent() -> None:
    numbers = numbered(json.loads(chart_schema.FILE.read_text()))
    assert numbers["server"]["maxConnections"] == numbers["tolerations"][0]["tolerationSeconds"] == YEAR
    values = overlaid(numbers, {**EVERYTHING, "verticalPodAutoscaler": {"enabled": True}})
    objects = render(values=values)
    assert [text for text in texts(objects) if re.search(r"[0-9]e[+][0-9]|^[0-9]+[.]0$", text)] == []
    written = Counter(number for text in texts(objects) for number in re.findall(r"\b31536000\b", text))
    assert written[str(YEAR)] > 20
    pod = named(objects, "Deployment", "seccomp-reconciler-server")["spec"]["template"]["spec"]
    assert f"--max-connections={YEAR}" in pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] == YEAR + 20
    assert job(objects)["spec"]["ttlSecondsAfterFinished"] == YEAR


def test_fractions_and_quantities_stay_as_they_are() -> None:
    values = {"server": {"resources": {"requests": {"cpu": 0.5, "memory": "48Mi"}}}}
    pod = named(render(values=values), "Deployment", "seccomp-reconciler-server")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": 0.5, "memory": "48Mi"}


LABEL: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("1.2.3+build.7", "1.2.3_build.7"),
        ("1.2.3-rc.1+sha.0123abc", "1.2.3-rc.1_sha.0123abc"),
        ("1.2.3-", None),
        ("1.2.3+", None),
        ("1.2.3-rc-", "1.2.3-rc"),
        ("1.2.3+build--", "1.2.3_build"),
        ("1.2.3-0-g0123abc+dirty-", "1.2.3-0-g0123abc_dirty"),
        (f"1.2.3-{'a' * 37}", f"1.2.3-{'a' * 37}"),
        # 63 characters end where a separator is.
        (f"1.2.3-{'a' * 37}.{'b' * 9}", f"1.2.3-{'a' * 37}"),
        (f"1.2.3-{'a' * 36}.-.{'b' * 9}", f"1.2.3-{'a' * 36}"),
        (f"1.2.3+{'a' * 200}", f"1.2.3_{'a' * 38}"),
    ],
)
def test_chart_label_is_valid_for_any_version(tmp_path: Path, version: str, expected: str | None) -> None:
    chart = versioned(tmp_path, version=version)
    if expected is None:  # no semantic version: Helm itself refuses it
        with pytest.raises(HelmError, match="version"):
            render(chart=chart)
        return
    found = {one["metadata"]["labels"]["helm.sh/chart"] for one in render(chart=chart)}
    assert found == {f"seccomp-reconciler-{expected}"}
    assert all(LABEL.fullmatch(label) for label in found)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("1.20", "1.20"),
        ("17", "17"),
        ("1e6", "1e6"),
        ("true", "true"),
        ("v1.2.3+build.7", "v1.2.3_build.7"),
        ("v1.2.3-", "v1.2.3"),
        ("v1.2.3.-_.", "v1.2.3"),
        ("-v1.2.3", "v1.2.3"),
        ("main@0123abc/7", "main_0123abc_7"),
        ("v1 \u00fcber", "v1__ber"),
        ("a" * 63, "a" * 63),
        ("a" * 62 + "+b", "a" * 62),
        ("1." * 40, "1." * 31 + "1"),
        ("--", ""),
    ],
)
def test_version_label_is_valid_for_any_version(tmp_path: Path, version: str, expected: str) -> None:
    objects = render(chart=versioned(tmp_path, appVersion=version), set=["image.tag=any"])
    found = {one["metadata"]["labels"].get("app.kubernetes.io/version", "") for one in objects}
    assert found == {expected}
    assert LABEL.fullmatch(expected)


def test_no_selector_depends_on_a_version() -> None:
    for one in everything():
        if one["kind"] in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
            assert "version" not in json.dumps(one["spec"])


def versioned(folder: Path, **fields: str) -> Path:
    """A copy of the chart with other fields in Chart.yaml."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(json.dumps({**about, **fields}))
    return chart


# Rendered by Gardener


# What gardenlet and gardener-operator lay beside the values of every chart that they render.
GARDENER: Final[dict[str, Any]] = {
    "gardener": {
        "version": "v1.150.0",
        "garden": {"clusterIdentity": "landscape", "genericKubeconfigSecretName": "generic-token-kubeconfig"},
        "seed": {"name": "seed", "labels": {}, "networks": {"ipFamilies": ["IPv4"]}, "spec": {}},
        "gardenlet": {"featureGates": {"DefaultSeccompProfile": True}},
        "runtimeCluster": {"enabled": "true", "priorityClassName": "gardener-garden-system-200"},
    },
    "usablePorts": [10250, 10251],
}


@pytest.mark.parametrize("release", ["garden", "extension-seccomp-reconciler"])
@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_objects_are_unique_by_template_kind_and_name(preset: str, release: str) -> None:
    """Gardener keys manifests by template file, kind and name: of two that share a key it keeps one."""
    elsewhere = {"gardenletConfiguration": {"deployment": {"namespace": "garden"}}}
    values = {**GARDENER, "monitoring": {"enabled": True}, "settings": elsewhere}
    count = Counter(
        (template, one["kind"], one["metadata"]["name"])
        for template, one in helm.by_template(preset, values=values, namespace=release)
    )
    assert [key for key, times in count.items() if times > 1] == []


def test_each_namespace_of_the_settings_has_roles_of_its_own_name() -> None:
    settings = {
        "registration": {
            "ca": {"configMap": {"namespace": "authorities", "name": "bundle"}},
            "backend": {"service": {"namespace": "backends", "name": "answers"}},
        },
        "leaderElection": {"namespace": "leases"},
        "gardenletConfiguration": {"configMap": {"namespace": "documents", "name": "gardenlet"}},
    }
    values = {**EVERYTHING, "server": {"enabled": False}, "settings": settings}
    roles = Counter(
        (template, one["kind"], one["metadata"]["name"])
        for template, one in helm.by_template(values=values)
        if one["kind"] in ("Role", "RoleBinding")
    )
    assert roles.most_common(1)[0][1] == 1
    found = rights(render(values=values), "seccomp-reconciler")
    assert {"authorities", "backends", "leases", "documents"} <= {right[4] for right in found}


def test_values_that_gardener_adds_change_nothing() -> None:
    assert render(values=GARDENER) == render()


@pytest.mark.parametrize("key", ["gardner", "usableports", "Gardener"])
def test_other_root_keys_stay_refused(key: str) -> None:
    with pytest.raises(HelmError, match=f"Additional property {key} is not allowed"):
        render(values={key: {}})


# Notes


@pytest.mark.parametrize(
    ("preset", "changes", "words"),
    [
        ("standalone", [], "kubectl -n garden exec deploy/seccomp-reconciler -- python -m reconciler status"),
        ("sidecar", [], "exec deploy/gardenlet -c seccomp-reconciler -- python -m reconciler status"),
        ("own-server", [], "component=bootstrap"),
        ("sidecar", [], "The CA is Secret garden/ca-seed-bundle"),
        ("own-server", ["sidecar.enabled=false", "settings.registration.failurePolicy=Ignore"], "Nobody stays"),
        ("own-server", ["bootstrap.hook=true"], "do not use --wait"),
        ("standalone", ["server.replicas=1"], "One drain can take the whole webhook away"),
        ("standalone", ["cleanup.enabled=false"], "run `seccomp-reconciler cleanup` before you uninstall"),
        ("high-security", [], "the API server must show its certificate"),
        ("high-security", ["settings.registration.ramp=Never"], "It is Fail from the first moment on."),
    ],
)
def test_the_notes_say_how_to_check_and_what_is_risky(
    tmp_path_factory: pytest.TempPathFactory, preset: str, changes: list[str], words: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "notes"
    folder.mkdir(exist_ok=True)
    assert words in notes(folder, preset=preset, set=changes)


def test_the_notes_of_the_default_warn_of_nothing(tmp_path: Path) -> None:
    assert "Mind:" not in notes(tmp_path)
