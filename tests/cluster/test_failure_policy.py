"""failurePolicy follows the proof on the real API server: up by proofs, down by their loss, whoever interferes."""

from __future__ import annotations

import base64
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.answered import AUTHORITY
from tests.cluster.enforced import EVENTS, LEASE, NAME, History, House, enforced, policy_of
from tests.cluster.patience import until
from tests.seed import COLLECTION, JSON_PATCH, MERGE_PATCH, REGISTRATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.registration.memory import Window

pytestmark = pytest.mark.main

# A proof that a test waits for after a change of its own.
ROUNDED_SECONDS = 1.0
SLICES = "/apis/discovery.k8s.io/v1/namespaces/garden/endpointslices"


def test_from_absent_to_ignore_to_fail_by_proofs_and_everything_says_so(house: House, history: History) -> None:
    began = time.time()
    with house.running() as running:
        found = house.reaches("Fail", told=running.words)
        raised = until(lambda: next((one for one in history.sights if one.policy == "Fail"), None))
        assert house.create_pod() == "RuntimeDefault"
        until(lambda: {"Registered", "Raised"} <= house.announced(began).keys())
        assert running.metric('failure_policy{state="Fail"}') == 1
        assert running.metric('failure_policy{state="Ignore"}') == 0
        assert running.metric("fail_open") == 0
        assert running.metric("leader") == running.metric("registration_present") == 1
        assert running.metric("failure_policy_last_change_timestamp_seconds") == pytest.approx(raised.at, abs=10)
        assert running.metric('proofs_total{verdict="proved"}') >= 2
    assert history.policies == ["Ignore", "Fail"]
    registered = history.sights[0].at
    print(f"start of the program -> Ignore: {registered - began:.1f} s -> Fail: {raised.at - registered:.1f} s")
    assert history.sights[0].memory is not None
    assert history.sights[0].memory.reason == "registered, not proved yet"
    remembered = house.remembered()
    assert (remembered.state, remembered.flaps, remembered.windows) == ("Fail", 0, ())
    assert " proofs over " in remembered.reason
    assert began - ROUNDED_SECONDS <= remembered.since <= raised.at
    notes = house.announced(began)
    assert notes["Raised"] == f"failurePolicy Fail: {remembered.reason}"
    # Other registrations of the same name came before it, and their Events stay for an hour.
    assert found["metadata"]["uid"] in {
        one["regarding"]["uid"]
        for one in house.field.other.request("GET", EVENTS)["items"]
        if one["reason"] == "Raised" and one["note"] == notes["Raised"]
    }


def test_a_dead_server_lowers_it_and_no_pod_that_came_through_is_silent(house: House, history: History) -> None:
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        house.kill_server()
        killed = time.time()
        house.refuses()
        house.reaches("Ignore", told=running.words)
        lowered = history.sights[-1]
        name = house.lets_through()
        remembered = house.remembered()
        assert (remembered.flaps, remembered.is_open) == (1, True)
        assert remembered.windows[0].start >= killed - ROUNDED_SECONDS
        assert "no proof for 3 s" in remembered.reason
        assert "connection refused" in remembered.reason
        until(lambda: "Lowered" in house.announced(killed))
        code, found = house.status()
        assert (code, found["failurePolicy"]["windows"][0]["end"]) == (75, None)
        assert [pod["name"] for pod in found["podsWithoutProfile"]["named"]] == [name]
        assert until(lambda: running.metric("fail_open")) == 1
        back = time.time()
        house.serve()
        house.reaches("Fail", told=running.words)
        until(lambda: not house.remembered().is_open, told=running.words)
        # 1 s is doubled by the first flap.
        assert history.sights[-1].at - back >= 2.0
        (window,) = house.remembered().windows
        assert window.end is not None
        assert window.end >= back
        until(lambda: running.metric("fail_open_pods") == 1, told=running.words)
        assert running.metric("fail_open") == running.metric("unprofiled_pods_outside_windows") == 0
        assert running.metric("fail_open_windows_total") == running.metric("failure_policy_flaps") == 1
        assert house.create_pod() == "RuntimeDefault"
    print(f"server killed -> Ignore: {lowered.at - killed:.1f} s")
    code, found = house.status()
    assert (code, found["well"]) == (0, True), found
    assert found["podsWithoutProfile"]["inWindows"] == 1
    assert found["podsWithoutProfile"]["named"][0]["exposure"] == "in-window"


def test_fail_is_lowered_while_a_webhook_called_first_makes_every_probe_inconclusive(
    house: House, history: History
) -> None:
    """The probe waits 4 s, the API server 10 s for the other one alone: what is lost behind it does not show."""
    house.configure(registration={"timeoutSeconds": 1})
    with house.running() as running, socket.create_server(("127.0.0.1", 0)) as silent:
        house.reaches("Fail", told=running.words)
        before = running.metric('proofs_total{verdict="inconclusive"}')
        hangs = {
            "name": "first.example.com",
            "clientConfig": {
                "url": f"https://127.0.0.1:{silent.getsockname()[1]}",
                "caBundle": base64.b64encode(house.field.plane.ca_pem).decode(),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "seccomp-canary"}},
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        house.field.create({**kind, "metadata": {"name": "a-silent-one"}, "webhooks": [hangs]})
        try:
            until(lambda: running.metric('proofs_total{verdict="inconclusive"}') > before, told=running.words)
            house.kill_server()
            house.reaches("Ignore", told=running.words)
            assert "no successful probe for " in house.remembered().reason
            house.lets_through()
        finally:
            house.field.other.request("DELETE", f"{COLLECTION}/a-silent-one")
    assert history.policies == ["Ignore", "Fail", "Ignore"]


def test_fail_waits_for_the_first_proof_and_is_not_lowered_while_a_reconciler_looks_on(
    house: House, history: History
) -> None:
    house.kill_server()
    house.configure(registration={"failurePolicy": "Fail"})
    with house.running() as running:
        house.reaches("Ignore", told=running.words)
        until(lambda: running.log("proof.failed"))
        house.lets_through()
        house.serve()
        house.reaches("Fail", told=running.words)
        house.kill_server()
        until(lambda: len(running.log("proof.failed")) == 2)
        time.sleep(5)  # the tolerance is 3 s
        house.refuses()
    assert history.policies == ["Ignore", "Fail"]


def test_without_a_ramp_it_is_fail_at_once(house: House, history: History) -> None:
    house.kill_server()
    house.configure(registration={"failurePolicy": "Fail", "ramp": "Never"})
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        until(lambda: running.log("proof.failed"))
        house.refuses()
    assert history.policies == ["Fail"]


def test_a_start_at_fail_without_a_path_lowers_before_anything_else(house: House, history: History) -> None:
    enforced(house)
    house.kill_server()
    house.configure()
    before = len(house.writes())
    with house.running() as running:
        house.reaches("Ignore", told=running.words)
        house.lets_through()
        assert house.writes()[before] == ("patch", "mutatingwebhookconfigurations", NAME)
        remembered = house.remembered()
        assert "not proved at the start" in remembered.reason
        assert remembered.is_open
        assert not running.has_metric("drift_total{"), "it was our own decision"
    assert history.policies[-2:] == ["Fail", "Ignore"]


def test_a_start_at_fail_without_a_ca_lowers_it_though_no_ca_is_to_be_had(house: House, history: History) -> None:
    """Somebody took the caBundle away, and the authority is another's: nothing but failurePolicy can be mended."""
    enforced(house)
    house.field.patch(("remove", "/webhooks/0/clientConfig/caBundle", None))
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "another"}}}
    house.field.other.request("PATCH", AUTHORITY, label, MERGE_PATCH)
    try:
        with house.running() as running:
            house.reaches("Ignore", told=running.words)
            house.lets_through()
            until(lambda: running.log("ca.invalid"), told=running.words)
    finally:
        label["metadata"]["labels"]["app.kubernetes.io/managed-by"] = NAME
        house.field.other.request("PATCH", AUTHORITY, label, MERGE_PATCH)
    assert history.policies[-2:] == ["Fail", "Ignore"]


def test_a_start_at_fail_with_a_good_path_writes_nothing(house: House, history: History) -> None:
    enforced(house)
    before, version = len(house.writes()), house.standing()["metadata"]["resourceVersion"]
    with house.running() as running:
        until(lambda: running.metric('proofs_total{verdict="proved"}') >= 3, told=running.words)
    assert house.writes()[before:] == []
    assert house.standing()["metadata"]["resourceVersion"] == version
    assert history.policies == ["Ignore", "Fail"]


def somebody(house: House, *operations: tuple[str, str, object]) -> Callable[[], None]:
    return lambda: house.field.patch(*operations)


def test_whatever_somebody_takes_away_at_fail_is_put_right_at_once_and_is_a_window(
    house: House, history: History
) -> None:
    """The deletion, the policy, the selectors, the rules: five others, five windows, and never less than Fail after."""
    only_one = [{"key": "gardener.cloud/role", "operator": "In", "values": ["nothing"]}]
    changes: dict[str, Callable[[], object]] = {
        "Ignore": somebody(house, ("replace", "/webhooks/0/failurePolicy", "Ignore")),
        "namespaces": somebody(house, ("replace", "/webhooks/0/namespaceSelector", {"matchExpressions": only_one})),
        "objects": somebody(house, ("replace", "/webhooks/0/objectSelector/matchExpressions/0/operator", "Exists")),
        "rules": somebody(house, ("replace", "/webhooks/0/rules/0/operations", ["DELETE"])),
        "deletion": lambda: house.field.other.request("DELETE", REGISTRATION),
    }
    # Five repairs are up to 15 writes; by default, what comes after nine waits.
    house.configure(conflicts={"repeats": 10})
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        good = dict(house.standing()["webhooks"][0])
        windows: set[Window] = set()
        for what, change in changes.items():
            if what in ("namespaces", "deletion"):
                until(lambda: all(time.time() > (one.end or 0) for one in house.remembered().windows))
            changed = time.time()
            change()
            until(lambda: house.standing().get("webhooks") == [good], told=running.words)
            put_right = time.time()
            until(lambda: house.create_pod() == "RuntimeDefault")
            # A probe under way at the next change may find what that change did, and count as a loss.
            until(lambda: running.metric("proof_last_success_timestamp_seconds") > put_right)  # noqa: B023 - likewise
            window = until(lambda: window_around(house, changed), told=running.words)  # noqa: B023 - called at once
            print(f"{what}: put right within {put_right - changed:.2f} s; {window.reason}")
            windows.add(window)
        assert house.remembered().flaps == 0
        assert "Ignore" not in {sight.memory.state for sight in history.sights[2:] if sight.memory is not None}
        until(
            lambda: running.metric("fail_open_windows_total") == len(house.remembered().windows),
            told=lambda: (running.metric("fail_open_windows_total"), house.remembered().windows, running.words()),
        )
    reasons = {window.reason for window in windows}
    assert {"set to Ignore by somebody-else", "changed by somebody-else"} <= reasons
    assert any(reason.startswith("removed by") for reason in reasons)


def test_what_a_war_leaves_open_for_a_while_is_a_window_from_its_beginning(house: House) -> None:
    """The canary still gets its profile, so proofs hold: they say nothing about the namespaces that are left out."""
    house.configure(conflicts={"repeats": 1, "initial": "10s", "maximum": "10s", "memory": "1m"})
    narrow = {"key": "gardener.cloud/role", "operator": "In", "values": ["seccomp-canary"]}
    operations = [{"op": "replace", "path": "/webhooks/0/namespaceSelector/matchExpressions/0", "value": narrow}]
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        good = dict(house.standing()["webhooks"][0])
        for manager in ("first", "second"):  # windows of the same reason would be joined
            house.field.other.request("PATCH", f"{REGISTRATION}?fieldManager={manager}", operations, JSON_PATCH)
            until(lambda: house.standing().get("webhooks") == [good], told=running.words)
        until(lambda: all(time.time() > (one.end or 0) for one in house.remembered().windows))
        house.field.other.request("PATCH", f"{REGISTRATION}?fieldManager=first", operations, JSON_PATCH)
        house.lets_through()
        created = time.time()
        until(lambda: running.log("registration.held"), told=running.words)
        until(lambda: house.standing().get("webhooks") == [good], told=running.words)
        until(lambda: window_around(house, created), told=lambda: house.remembered().windows)
        until(lambda: running.metric("fail_open_pods") == 1, told=running.words)
        assert running.metric("unprofiled_pods_outside_windows") == 0


def window_around(house: House, moment: float) -> Window | None:
    """Return the closed window that holds `moment`, once there is one and none is open."""
    remembered = house.remembered()
    if remembered.is_open:
        return None
    return next((one for one in remembered.windows if one.end and one.start <= moment <= one.end), None)


def test_a_term_of_somebody_else_that_keeps_everything_out_is_no_silent_bypass(house: House) -> None:
    """Added terms are tolerated (docs/registration.md); one that lets nothing in loses the proof, as all can see."""
    nobody = {"key": "nobody", "operator": "Exists"}
    added = ("add", "/webhooks/0/namespaceSelector/matchExpressions/-", nobody)
    removed = ("remove", "/webhooks/0/namespaceSelector/matchExpressions/2", None)
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        # For less than the tolerance: it stays at Fail.
        failed = len(running.log("proof.failed"))  # a first proof may be faster than the API server's news
        house.field.patch(added)
        pods, created = [house.lets_through()], time.time()
        until(lambda: len(running.log("proof.failed")) > failed, told=running.words)
        house.field.patch(removed)
        until(lambda: window_around(house, created), told=running.words)
        # For longer.
        house.field.patch(added)
        pods.append(house.lets_through())
        house.reaches("Ignore", told=running.words)
        assert house.remembered().is_open
        code, found = house.status()
        assert code == 75
        named = found["podsWithoutProfile"]["named"]
        assert {(pod["name"], pod["exposure"]) for pod in named} == {(name, "in-window") for name in pods}
        house.field.patch(removed)
        house.reaches("Fail", told=running.words)


def test_deleted_while_nobody_looked_it_comes_back_as_ignore_with_a_window_that_began_before(
    house: House, history: History
) -> None:
    """What it remembered is on the Lease as well."""
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        until(lambda: '"Fail"' in str(house.field.other.request("GET", LEASE)), told=running.words)
    house.field.delete()
    deleted = time.time()
    house.lets_through()
    time.sleep(1.1)
    before = len(history.sights)
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        until(lambda: not house.remembered().is_open, told=running.words)
        first = history.sights[before]
        assert first.policy == "Ignore"
        assert first.memory is not None
        assert first.memory.windows[0].start <= deleted
        assert "removed by" in first.memory.reason
        until(lambda: running.metric("fail_open_pods") == 1, told=running.words)
    (window,) = house.remembered().windows
    assert window.end is not None
    assert window.start <= deleted <= window.end


def test_reconcile_waits_from_nothing_to_fail(house: House, history: History) -> None:
    done = house.command("reconcile", "--wait", "--timeout", "45")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"registered mutatingwebhookconfiguration/{NAME}") or lines[0].startswith("updated")
    assert lines[1].startswith("proved: our server answered")
    assert lines[2].startswith("failurePolicy Fail: 2 proofs over ")
    assert history.policies == ["Ignore", "Fail"]


def test_reconcile_that_waits_in_vain_ends_with_75(house: House) -> None:
    house.configure(adaptive={"soak": "10m"})
    done = house.command("reconcile", "--wait", "--timeout", "4")
    assert done.returncode == 75
    assert "proved, but not at Fail within 4 s" in done.stderr
    assert policy_of(house.standing()) == "Ignore"


@contextmanager
def endpoint_slice(house: House, *, ready: bool) -> Iterator[str]:
    """Make the slice that a Service's controller would; yields its path."""
    manifest: dict[str, Any] = {
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": ready}}],
        "ports": [{"port": 9443, "protocol": "TCP"}],
    }
    house.field.other.request("POST", SLICES, manifest)
    try:
        yield f"{SLICES}/by-hand"
    finally:
        house.field.other.request("DELETE", f"{SLICES}/by-hand")


def test_without_a_ready_endpoint_it_is_lowered_at_once(house: House, history: History) -> None:
    """No proof can come or go here, nobody may ask for one: the endpoints alone decide."""
    service: dict[str, Any] = {"backend": {"service": {}}}
    house.configure(registration={**service, "failurePolicy": "Fail", "ramp": "Never"})
    with endpoint_slice(house, ready=True) as path:
        done = house.command("reconcile")
        assert done.returncode == 0, done.stderr
        assert policy_of(house.standing()) == "Fail"
        house.configure(
            registration=service,
            proof={"namespace": "seccomp-elsewhere", "period": "1s"},
            adaptive={"lossTolerance": "10m"},
        )
        with house.running() as running:
            until(lambda: running.metric('proofs_total{verdict="inconclusive"}') >= 2, told=running.words)
            assert policy_of(house.standing()) == "Fail"
            unready = [{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": False}]
            house.field.other.request("PATCH", path, unready, JSON_PATCH)
            began = time.time()
            house.reaches("Ignore", told=running.words)
            print(f"no endpoint ready -> Ignore: {history.sights[-1].at - began:.2f} s")
            assert house.remembered().reason == "no proof can come: no endpoint of the Service is ready"


def test_a_setting_that_the_linter_refuses_never_stands_at_fail(house: House) -> None:
    """Not even with ramp: Never; and what stands at Fail is lowered when the settings become such."""
    locking = {"failurePolicy": "Fail", "ramp": "Never", "namespaceSelector": {"matchLabels": {"never": "true"}}}
    house.configure(registration=locking)
    with house.running() as running:
        refused = until(lambda: running.log("lint.refused"), told=running.words)[0]["error"]
        assert "seccomp-canary" in refused
        assert "never" in refused
        house.reaches("Ignore", told=running.words)
        assert running.metric("lint_findings") >= 1
        house.configure(registration={"failurePolicy": "Fail", "ramp": "Never"})
        house.reaches("Fail", told=running.words)
        house.configure(registration=locking)
        house.reaches("Ignore", told=running.words)
        assert house.remembered().reason == refused
