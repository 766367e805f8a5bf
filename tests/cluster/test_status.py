"""`status` on the real API server: one screen in each of the states that somebody may be woken up for."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from tests.cluster.enforced import LEASE, NAME, House, enforced, policy_of
from tests.cluster.field import document
from tests.cluster.patience import until
from tests.cluster.rights import account, given

ORDER = ("GateEnabled", "Registered", "Proved", "Enforced", "CertificatesValid", "NoTwin", "NotPaused")


def conditions(found: dict[str, Any]) -> dict[str, str]:
    """Return the status of each condition; that they are all there, in their order, is checked."""
    assert tuple(one["type"] for one in found["conditions"]) == ORDER
    return {one["type"]: one["status"] for one in found["conditions"]}


def message(found: dict[str, Any], kind: str) -> str:
    return next(str(one["message"]) for one in found["conditions"] if one["type"] == kind)


def test_all_is_well_in_both_forms(house: House) -> None:
    enforced(house)
    version = house.standing()["metadata"]["resourceVersion"]
    code, found = house.status()
    assert (code, found["well"], found["notRead"]) == (0, True, {})
    assert set(conditions(found).values()) == {"True"}
    assert found["failurePolicy"]["state"] == "Fail"
    assert found["podsWithoutProfile"] == {"inWindows": 0, "unexplained": 0, "named": []}
    assert found["lastWriter"]["manager"] == NAME
    assert found["nextStep"].startswith("lower to Ignore once the proof is lost for 3 s, or no probe succeeded for ")
    done = house.command("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(ORDER)]] == list(ORDER)
    assert all(line.split()[1] == "True" for line in lines[: len(ORDER)])
    assert lines[len(ORDER)].startswith(f"last written by    {NAME} at ")
    assert lines[len(ORDER) + 1] == f"next               {found['nextStep']}"
    assert len(lines) == len(ORDER) + 2
    assert house.standing()["metadata"]["resourceVersion"] == version, "nothing is written"


def test_with_the_gate_off_and_nothing_registered_all_is_well(house: House) -> None:
    house.seed.configure(document(gate="false"))
    code, found = house.status()
    assert (code, found["nextStep"]) == (0, "none")
    assert conditions(found) == {
        "GateEnabled": "False",
        "Registered": "False",
        "Proved": "False",
        "Enforced": "False",
        "CertificatesValid": "False",
        "NoTwin": "True",
        "NotPaused": "True",
    }
    assert all(one["well"] for one in found["conditions"])
    assert message(found, "Registered") == "absent, as it should be"


def test_with_the_gate_off_what_still_stands_is_told(house: House) -> None:
    enforced(house)
    house.seed.configure(document(gate="false"))
    code, found = house.status()
    assert (code, found["nextStep"]) == (75, "remove the registration")
    assert message(found, "Registered") == "stands, and should not"


def test_before_the_first_pass_it_says_what_comes(house: House) -> None:
    code, found = house.status()
    assert (code, found["nextStep"]) == (75, "register as Ignore")
    assert message(found, "Registered") == "absent"
    assert "not registered" in message(found, "Proved")


def test_an_unreadable_configuration_is_unknown_and_not_off(house: House) -> None:
    enforced(house)
    house.seed.configure("broken: [")
    code, found = house.status()
    assert (code, found["nextStep"]) == (75, "nothing: what the gate asks is not known")
    assert conditions(found)["GateEnabled"] == "Unknown"
    assert "not readable" in found["notRead"]["configuration"] or "YAML" in found["notRead"]["configuration"]
    assert message(found, "Registered") == "stands"


def test_a_server_that_is_gone_is_told_in_the_api_servers_words(house: House) -> None:
    enforced(house)
    house.kill_server()
    code, found = house.status()
    assert (code, conditions(found)["Proved"], conditions(found)["Enforced"]) == (75, "False", "True")
    assert "connection refused" in message(found, "Proved")


def test_lowered_it_shows_windows_and_the_pods_that_came_through(house: House) -> None:
    enforced(house)
    house.kill_server()
    # The next one lowers it: it finds the path broken.
    assert house.command("reconcile").returncode == 0
    assert policy_of(house.standing()) == "Ignore"
    pods = [house.lets_through() for _ in range(12)]
    code, found = house.status()
    assert code == 75
    assert conditions(found)["Enforced"] == "False"
    assert "not proved at the start" in message(found, "Enforced")
    assert found["failurePolicy"]["windows"][0]["end"] is None
    assert found["podsWithoutProfile"]["inWindows"] == len(pods)
    named = found["podsWithoutProfile"]["named"]
    assert [one["name"] for one in named] == sorted(pods)
    assert {one["exposure"] for one in named} == {"in-window"}
    assert {one["window"] for one in named} == {found["failurePolicy"]["windows"][0]["reason"]}
    # 1 s, doubled by the flap.
    assert found["nextStep"] == "raise to Fail after 2 proofs in a row over 2 s"
    text = house.command("status").stdout
    assert " to now: not proved at the start" in text
    assert f"{len(pods)} in windows, 0 unexplained" in text
    assert text.count("shoot--demo/enforced-") == 10, "the others are counted"


def test_a_pod_that_nothing_explains_is_not_well(house: House) -> None:
    """Somebody took the entry away at Fail for a moment, and nobody of ours looked."""
    enforced(house)
    found = house.standing()
    since = house.remembered().since
    house.field.delete()
    until(lambda: time.time() > since + 4)  # a pod of the first moments may have been before the API server knew
    name = house.lets_through()
    metadata = {key: found["metadata"][key] for key in ("name", "labels", "annotations")}
    house.field.create({"metadata": metadata, "webhooks": found["webhooks"]})
    code, report = house.status()
    assert (code, report["podsWithoutProfile"]["unexplained"]) == (75, 1)
    assert report["podsWithoutProfile"]["named"][0]["name"] == name


def test_what_somebody_changed_is_named_and_a_term_that_is_tolerated_too(house: House) -> None:
    enforced(house)
    term = {"key": "control-plane", "operator": "DoesNotExist"}
    house.field.patch(("add", "/webhooks/0/namespaceSelector/matchExpressions/-", term))
    code, found = house.status()
    words = "stands; terms of others: namespaceSelector: control-plane DoesNotExist"
    assert (code, message(found, "Registered")) == (0, words)
    house.field.patch(("replace", "/webhooks/0/timeoutSeconds", 29))
    code, found = house.status()
    words = words.replace("stands", "stands, but somebody changed webhooks[0].timeoutSeconds")
    assert (code, message(found, "Registered")) == (75, words)


def test_paused_it_says_until_when_and_why(house: House) -> None:
    enforced(house)
    assert house.command("pause", "--for", "1h", "--reason", "a node image", "--timeout", "1").returncode == 75
    code, found = house.status()
    assert (code, conditions(found)["NotPaused"]) == (75, "False")
    assert message(found, "NotPaused").startswith("paused until ")
    assert message(found, "NotPaused").endswith(": a node image (Ignore)")
    assert found["nextStep"].startswith("nothing before ")
    assert "NotPaused          False    paused until" in house.command("status").stdout


def test_a_foreign_object_of_our_name_is_told(house: House) -> None:
    house.field.create({"metadata": {"name": NAME}, "webhooks": []})
    code, found = house.status()
    assert code == 75
    assert message(found, "Registered") == "the object of that name is somebody else's"
    assert (found["failurePolicy"], found["podsWithoutProfile"]) == (None, None)


def limited(house: House, name: str, *left_out: str) -> str:
    """Return the kubeconfig of an identity whose rules about these resources are missing, and who may make no proof."""
    return str(account(house.field, name, [one for one in given("config/rbac.yaml") if one.resource not in left_out]))


def test_what_may_not_be_read_is_unknown_and_named(house: House) -> None:
    enforced(house)
    kubeconfig = limited(house, "sees-little", "secrets", "leases", "namespaces", "pods")
    done = house.command("status", "--output", "json", "--kubeconfig", kubeconfig)
    assert done.returncode == 75, done.stderr
    found = json.loads(done.stdout)
    assert set(found["notRead"]) == {"certificates", "pause", "pods", "proof"}
    assert "resources: [leases], resourceNames: [seccomp-reconciler], verbs: [get]" in found["notRead"]["pause"]
    assert "resources: [namespaces], verbs: [list]" in found["notRead"]["pods"]
    seen = conditions(found)
    assert {kind for kind, status in seen.items() if status == "Unknown"} == {
        "Proved",
        "CertificatesValid",
        "NotPaused",
    }
    assert (seen["Registered"], seen["Enforced"]) == ("True", "True")
    text = house.command("status", "--kubeconfig", kubeconfig).stdout
    assert text.count("not read  ") == 4


def test_without_the_right_to_see_the_registration_it_ends_with_77(house: House) -> None:
    kubeconfig = limited(house, "sees-nothing", "mutatingwebhookconfigurations")
    done = house.command("status", "--kubeconfig", kubeconfig)
    assert (done.returncode, done.stdout) == (77, "")
    assert "resourceNames: [seccomp-reconciler], verbs: [get]" in done.stderr


def test_certificates_that_do_not_fit_are_told(house: House) -> None:
    enforced(house)
    other = base64.b64encode(house.seed.plane.ca_pem).decode()
    written = time.time()
    until(lambda: time.time() > written + 1)  # the API server tells whole seconds
    house.field.patch(("replace", "/webhooks/0/clientConfig/caBundle", other))
    code, found = house.status()
    assert (code, conditions(found)["CertificatesValid"], conditions(found)["Proved"]) == (75, "False", "False")
    assert found["lastWriter"]["manager"] == "somebody-else"
    assert house.field.other.request("GET", LEASE) is None, "nothing is written"


def test_pods_nested_as_deeply_as_the_api_server_keeps_hide_nothing_and_end_nothing(house: House) -> None:
    """A user who may only create pods in one managed namespace sends them, each of less than 100 KB."""
    enforced(house)
    house.kill_server()
    house.field.patch(("replace", "/webhooks/0/failurePolicy", "Ignore"))
    until(lambda: time.time() > house.remembered().since + 3)
    house.lets_through()
    bare = {house.create_deep_pod(1_500), house.create_deep_pod(9_985), house.lets_through()}
    _, report = house.status()
    assert report["notRead"] == {}
    assert bare <= {one["name"] for one in report["podsWithoutProfile"]["named"]}
    with house.running() as running:
        until(
            lambda: running.metric("fail_open_pods") + running.metric("unprofiled_pods_outside_windows") >= len(bare),
            told=running.words,
        )
        assert running.process.process.poll() is None
