"""The deadlock linter on the real API server: what it says is caught is refused there, and nothing else is."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from reconciler.cli.lint import lint as command
from reconciler.cluster import Cluster
from reconciler.controller.linting import gather, judged
from reconciler.errors import ReconcilerError
from reconciler.registration import lint
from reconciler.registration.desired import render
from reconciler.registration.subjects import Subject, Why
from reconciler.settings import Backend, ReconcilerConfiguration, Registration
from tests.backend import pod
from tests.controlplane.errors import ApiError
from tests.controlplane.servers import free_port
from tests.seed import CANARY, COLLECTION, MANAGED, ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.cluster.field import Field

MERGE = "application/merge-patch+json"
ROLE = "gardener.cloud/role"
SKIP = "seccompprofile.resources.gardener.cloud/skip"
OURS = {"app.kubernetes.io/name": "seccomp-reconciler"}
GARDENLET = {"app": "gardener", "role": "gardenlet"}
MIRROR = {"kubernetes.io/config.mirror": "0"}
PODS = "/api/v1/namespaces/{}/pods"
SERVICES = "/api/v1/namespaces/garden/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/garden/deployments"
SETTINGS = ReconcilerConfiguration()


class House:
    """What a test puts into the cluster; it is gone afterwards."""

    def __init__(self, field: Field, stack: ExitStack) -> None:
        self.field = field
        self.stack = stack
        self.kubeconfig = field.plane.kubeconfig_for_user("linting", ["system:masters"])

    def create(self, collection: str, manifest: dict[str, Any]) -> None:
        self.field.other.request("POST", collection, manifest)
        path = f"{collection}/{manifest['metadata']['name']}?gracePeriodSeconds=0"
        self.stack.callback(self.field.other.request, "DELETE", path)

    def pod(self, name: str, namespace: str = "garden", *, typed: bool = False, **metadata: Any) -> None:  # noqa: ANN401 - JSON
        self.create(PODS.format(namespace), described(name, typed=typed, **metadata))

    def service(self, **selector: str) -> None:
        spec = {"selector": selector, "ports": [{"port": 443}]}
        self.create(SERVICES, {"metadata": {"name": "seccomp-reconciler"}, "spec": spec})

    def gardenlet(self, **labels: str) -> None:
        template = {"metadata": {"labels": {**GARDENLET, **labels}}, "spec": described("a")["spec"]}
        spec = {"selector": {"matchLabels": GARDENLET}, "template": template}
        self.create(DEPLOYMENTS, {"metadata": {"name": "gardenlet"}, "spec": spec})

    def label(self, namespace: str, **labels: str | None) -> None:
        """Change labels of a namespace until the end of the test."""
        path = f"/api/v1/namespaces/{namespace}"
        before = self.field.other.request("GET", path)["metadata"]["labels"]
        changed = {ROLE if key == "role" else key: value for key, value in labels.items()}
        self.field.other.request("PATCH", path, {"metadata": {"labels": changed}}, MERGE)
        back = {key: before.get(key) for key in changed}
        self.stack.callback(self.field.other.request, "PATCH", path, {"metadata": {"labels": back}}, MERGE)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command against the cluster; return exit code, output and what stands on standard error."""
        config = () if "--config" in arguments else ("--config", str(ROOT / "config" / "reconciler.yaml"))
        done = CliRunner().invoke(command, ["--kubeconfig", str(self.kubeconfig), *config, *arguments])
        if isinstance(done.exception, ReconcilerError):
            return int(done.exception.exit_code), done.stdout, done.stderr + str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr


def described(name: str, *, typed: bool = False, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    found = pod(name)
    found["metadata"] = {"name": name, **metadata}
    found["spec"]["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}} if typed else {}
    if metadata.get("annotations") == MIRROR:
        found["spec"]["nodeName"] = "node"  # the API server asks for it
    return found


@pytest.fixture
def house(field: Field) -> Iterator[House]:
    """A garden that the registration covers, as Gardener labels it."""
    with ExitStack() as stack:
        found = House(field, stack)
        found.label("garden", role="garden")
        yield found


@pytest.fixture
async def admin(house: House) -> AsyncIterator[Cluster]:
    async with Cluster(kubeconfig=house.kubeconfig) as connection:
        yield connection


@contextmanager
def registered_with_fail(field: Field, registration: Registration) -> Iterator[dict[str, Any]]:
    """Register with Fail at an address where nobody answers; the house is locked."""
    nobody = registration.model_copy(update={"backend": Backend(url=f"https://127.0.0.1:{free_port()}/a")})
    manifest: Any = render(nobody, ca_bundle=field.plane.ca_pem)
    manifest["webhooks"][0]["failurePolicy"] = "Fail"
    field.create(manifest)
    try:
        yield manifest
    finally:
        field.other.request("DELETE", f"{COLLECTION}/{registration.name}")
        assert agrees(field, MANAGED, described("lint-end"), refused=False)


def agrees(field: Field, namespace: str, manifest: dict[str, Any], *, refused: bool) -> bool:
    """Return whether the API server refuses the pod for the webhook's silence or takes it, as `refused` says.

    It hears of a webhook or a label a moment after it was written: asked again until it agrees, for a few seconds.
    """
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        message = ""
        try:
            field.other.request("POST", f"{PODS.format(namespace)}?dryRun=All", manifest)
        except ApiError as error:
            message = str(error)
        assert not message or "failed calling webhook" in message
        if bool(message) == refused:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "registration",
    [Registration(), Registration(skip_typed_pods=False), Registration(excluded_namespaces=("garden",))],
    ids=["default", "typed-too", "without-garden"],
)
def test_what_is_said_to_be_caught_is_refused_and_nothing_else(house: House, registration: Registration) -> None:
    cases = [
        ({"labels": labels}, typed, namespace)
        for labels in ({}, OURS, {"app": "seccomp-reconciler"}, {SKIP: ""}, {"static-pod": "true"}, GARDENLET)
        for typed in (False, True)
        for namespace in ("garden", MANAGED, "kube-system", "default")
    ]
    outcomes = set()
    with registered_with_fail(house.field, registration) as manifest:
        for metadata, typed, namespace in cases:
            seen = house.field.other.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["labels"]
            subject = Subject(Why.GARDENLET, "pod/a", namespace, metadata["labels"], seen, typed=typed)
            caught = lint.catches(manifest["webhooks"][0], subject)
            one = described("lint-a", typed=typed, **metadata)
            assert agrees(house.field, namespace, one, refused=caught), (metadata, typed, namespace)
            outcomes.add(caught)
    assert outcomes == {True, False}


def test_a_mirror_pod_cannot_be_told_and_is_a_warning(house: House) -> None:
    house.pod("etcd-node", annotations=MIRROR)
    code, out, err = house.run()
    assert code == 0
    assert "warning: pod/etcd-node in namespace garden (mirror-pod) would be caught" in err
    assert "1 mirror-pod" in out
    with registered_with_fail(house.field, Registration()):
        assert agrees(house.field, "garden", described("lint-b", annotations=MIRROR), refused=True)


def test_a_good_house_is_judged_as_it_is_and_nothing_is_left_to_guess(house: House) -> None:
    house.service(**OURS, component="server")
    for name in ("server-0", "server-1"):
        house.pod(name, labels={**OURS, "component": "server", "app": "seccomp-reconciler"})
    house.pod("reconciler-0", labels={**OURS, SKIP: "true"})
    house.pod("static", labels={"static-pod": "true"})
    house.pod("bystander")
    house.gardenlet(**{SKIP: "true"})
    code, out, err = house.run("--output", "json")
    report = json.loads(out)
    assert (code, err, report["notes"], report["findings"], report["good"]) == (0, "", [], [], True)
    named = {(one["kind"], one["pod"]) for one in report["judged"] if one["namespace"] == "garden"}
    assert named == {
        ("webhook-server", "pod/server-0"),
        ("webhook-server", "pod/server-1"),
        ("reconciler", "pod/reconciler-0"),
        ("static-pod", "pod/static"),
        ("gardenlet", "deployment/gardenlet"),
    }


def test_a_server_that_would_be_locked_out_is_named_and_the_fix_helps(house: House, tmp_path: Path) -> None:
    house.service(hook="ours")
    house.pod("server-0", labels={"hook": "ours", "app": "hooks"})
    code, out, err = house.run()
    assert code == 65
    assert "good" not in out
    assert "pod/server-0 in namespace garden (webhook-server) would be caught" in err
    assert "app NotIn [seccomp-reconciler]" in err
    assert "set registration.ownAppName: hooks" in err
    with registered_with_fail(house.field, Registration()):
        locked = described("lint-c", labels={"hook": "ours", "app": "hooks"})
        assert agrees(house.field, "garden", locked, refused=True)
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "apiVersion: seccomp-reconciler.config.gardener.cloud/v1alpha1\nkind: ReconcilerConfiguration\n"
        "registration: {ownAppName: hooks}\n"
    )
    assert house.run("--config", str(settings))[0] == 0


def test_the_template_of_gardenlet_is_judged_not_its_present_pods(house: House) -> None:
    house.pod("gardenlet-0", labels={**GARDENLET, SKIP: "true"})
    house.gardenlet()
    code, _, err = house.run()
    assert code == 65
    assert "deployment/gardenlet in namespace garden (gardenlet) would be caught" in err
    assert "gardenlet-0" not in err
    assert f'give the pods the label {SKIP}: "true"' in err


@pytest.mark.parametrize("differs", [True, False], ids=["to-be-written", "in-sync"])
def test_terms_that_others_added_are_judged_too(house: House, *, differs: bool) -> None:
    assert house.run()[0] == 0
    manifest: Any = render(Registration(), ca_bundle=house.field.plane.ca_pem if differs else None)
    assert manifest["webhooks"][0]["failurePolicy"] == "Ignore"
    house.field.create(manifest)
    term = {"key": "control-plane", "operator": "Exists"}
    house.field.patch(("add", "/webhooks/0/namespaceSelector/matchExpressions/-", term))
    code, _, err = house.run()
    assert code == 65
    assert "the canary in namespace seccomp-canary (canary) would not be caught" in err
    assert f"label the namespace {CANARY} with control-plane" in err


def test_an_object_of_somebody_else_is_not_what_we_would_write(house: House) -> None:
    manifest: Any = render(Registration(), ca_bundle=house.field.plane.ca_pem)
    manifest["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    manifest["webhooks"][0] |= {"failurePolicy": "Ignore", "namespaceSelector": {"matchLabels": {"no": "body"}}}
    house.field.create(manifest)
    assert house.run()[0] == 0


def test_a_canary_without_its_label_is_found(house: House) -> None:
    house.label(CANARY, role=None)
    code, _, err = house.run()
    assert code == 65
    assert f"label the namespace {CANARY} with {ROLE}" in err


def test_what_is_not_there_is_a_note_and_judged_as_our_manifests_make_it(house: House) -> None:
    code, out, err = house.run("--output", "json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    notes = "\n".join(report["notes"])
    assert "services/seccomp-reconciler in namespace garden does not exist" in notes
    assert "deployments/gardenlet in namespace garden does not exist" in notes
    assert "(webhook-server): there are none" in notes
    assert {one["kind"] for one in report["judged"]} == {why.value for why in Why if why is not Why.MIRROR}


async def test_what_may_not_be_read_is_a_note_with_the_missing_rule(house: House) -> None:
    nobody = house.field.plane.kubeconfig_for_service_account("garden", "lint-nobody")
    async with Cluster(kubeconfig=nobody) as cluster:
        subjects, notes = await gather(cluster, SETTINGS)
    assert len(notes) == 6
    assert all("not looked at: " in note and "Missing rule of the" in note for note in notes)
    for rule in ("[namespaces], resourceNames: [kube-system]", "[services]", "[deployments]", "resources: [pods]"):
        assert any(rule in note for note in notes), rule
    unknown = {one.why for one in subjects if one.namespace_labels is None}
    assert unknown == {why for why in Why if why not in (Why.CANARY, Why.MIRROR)}
    assert lint.check(render(Registration(), ca_bundle=None), subjects) == ()


async def test_kube_systems_pods_are_listed_only_where_one_may_be_caught(house: House, admin: Cluster) -> None:
    house.pod("dns-0", "kube-system")
    house.pod("etcd-node", "kube-system", annotations=MIRROR)
    subjects, _ = await gather(admin, SETTINGS)
    assert {one.name for one in subjects if one.namespace == "kube-system"} == {"any pod"}
    manifest: Any = await judged(admin, Registration())
    manifest["webhooks"][0]["namespaceSelector"] = {}
    subjects, _ = await gather(admin, SETTINGS, manifest)
    named = {finding.subject.name: finding.severity.value for finding in lint.check(manifest, subjects)}
    assert named == {"any pod": "error", "pod/dns-0": "error", "pod/etcd-node": "warning"}


async def test_a_url_has_no_service_to_look_at(house: House, admin: Cluster) -> None:
    outside = Registration(backend=Backend(url="https://127.0.0.1:9443/a"))
    subjects, notes = await gather(admin, SETTINGS.model_copy(update={"registration": outside}))
    assert Why.SERVER not in {one.why for one in subjects}
    assert not [note for note in notes if "services" in note]
    assert house.field.standing() is None
