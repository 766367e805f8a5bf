"""A pause is honoured by every reconciler, survives all of them, ends by itself, and everybody can see it."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from reconciler import timestamps
from reconciler.registration import pausing
from tests.cluster.enforced import LEASE, History, House, policy_of
from tests.cluster.patience import until
from tests.seed import JSON_PATCH, REGISTRATION

if TYPE_CHECKING:
    import subprocess


REASON = "node image rollout"


def pause(house: House, *arguments: str, seconds: str = "10m") -> subprocess.CompletedProcess[str]:
    return house.command("pause", "--for", seconds, "--reason", REASON, "--timeout", "20", *arguments)


def condition(house: House, kind: str) -> dict[str, str]:
    _, found = house.status()
    return next(one for one in found["conditions"] if one["type"] == kind)


def test_a_pause_lowers_at_once_everybody_sees_it_and_resume_ends_it(house: House, history: History) -> None:
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        began = time.time()
        done = pause(house)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(rf"paused until \S+: {REASON}\n", done.stdout)
        assert policy_of(house.standing()) == "Ignore"
        print(f"pause -> Ignore: {history.sights[-1].at - began:.1f} s, the start of the command included")
        remembered = house.remembered()
        assert remembered.reason == done.stdout.strip()
        assert (remembered.is_open, remembered.flaps) == (True, 0)
        assert until(lambda: running.metric("paused")) == 1
        assert [entry["reason"] for entry in running.log("pause.begun")] == [REASON]
        until(lambda: {"Paused", "Lowered"} <= house.announced(began).keys())
        assert REASON in house.announced(began)["Paused"]
        code, found = house.status()
        assert code == 75
        not_paused = next(one for one in found["conditions"] if one["type"] == "NotPaused")
        assert (not_paused["status"], not_paused["well"]) == ("False", False)
        assert REASON in not_paused["message"]
        assert found["nextStep"].startswith("nothing before ")
        # Proofs hold meanwhile, and nobody raises it.
        proofs = running.metric('proofs_total{verdict="proved"}')
        until(lambda: running.metric('proofs_total{verdict="proved"}') >= proofs + 3, told=running.words)
        assert policy_of(house.standing()) == "Ignore"
        done = house.command("resume")
        assert (done.returncode, done.stdout) == (0, "resumed\n")
        house.reaches("Fail", told=running.words)
        until(lambda: "Resumed" in house.announced(began))
        assert running.metric("paused") == 0
        assert house.command("resume").stdout == "there was no pause\n"
    assert history.policies == ["Ignore", "Fail", "Ignore", "Fail"]


def test_removed_it_stays_away_from_everybody_until_the_pause_ends_by_itself(house: House, history: History) -> None:
    """Whatever wakes a pass in between: a resync, other settings, a command beside it."""
    house.configure(resyncPeriod="10s")
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        done = pause(house, "--remove")
        assert done.returncode == 0, done.stderr
        assert house.standing() == {}
        house.lets_through()
        until(lambda: running.metric("fail_open"), told=running.words)
        assert running.metric('failure_policy{state="Absent"}') == 1
        once = house.command("reconcile")
        assert (once.returncode, once.stdout) == (0, "absent mutatingwebhookconfiguration/seccomp-reconciler\n")
        assert "paused until" in once.stderr
        assert "`resume` ends it" in once.stderr
        house.configure(resyncPeriod="10s", proof={"period": "2s"})
        until(lambda: len(running.log("run.started")) == 2, told=running.words)
        until(lambda: len(running.log("leadership.acquired")) == 2, told=running.words)
        assert condition(house, "Registered")["message"] == "absent, as it should be"
        before = running.metric('passes_total{result="absent"}')
        until(lambda: running.metric('passes_total{result="absent"}') > before, told=running.words)
        assert house.standing() == {}
        done = pause(house, "--remove", seconds="4s")
        assert done.returncode == 0, done.stderr
        house.reaches("Fail", told=running.words)
        back = next(sight for sight in reversed(history.sights) if sight.policy == "Ignore")
        ends = timestamps.seconds(done.stdout.split()[2].rstrip(":"))
        assert ends is not None
        assert back.at >= ends
        until(lambda: not house.remembered().is_open, told=running.words)
        until(lambda: running.metric("fail_open_pods") == 1, told=running.words)
        assert running.metric("fail_open") == 0
    assert history.policies == ["Ignore", "Fail", "", "Ignore", "Fail"]
    (window,) = house.remembered().windows
    assert REASON in window.reason


def test_another_reconciler_that_takes_over_honours_it_and_so_does_one_without_a_lease(
    house: House, history: History
) -> None:
    with house.running() as first:
        house.reaches("Fail", told=first.words)
        assert pause(house).returncode == 0
        with house.running() as second:
            until(lambda: second.log("leadership.observed"), told=second.words)
            first.kill()
            until(lambda: second.log("leadership.acquired"), told=second.words)
            until(lambda: second.metric("paused"), told=second.words)
            until(lambda: second.metric('proofs_total{verdict="proved"}') >= 3, told=second.words)
            assert policy_of(house.standing()) == "Ignore"
    with house.running("--leader-election=false") as alone:
        until(lambda: alone.metric("paused"), told=alone.words)
        until(lambda: alone.metric('proofs_total{verdict="proved"}') >= 3, told=alone.words)
        assert policy_of(house.standing()) == "Ignore"
        assert pause(house, "--remove").returncode == 0
        assert house.standing() == {}
        assert house.command("resume").returncode == 0
        house.reaches("Fail", told=alone.words)
    assert history.policies == ["Ignore", "Fail", "Ignore", "", "Ignore", "Fail"]


@pytest.mark.parametrize("remove", [False, True], ids=["ignore", "remove"])
def test_where_nobody_runs_it_ends_with_75_and_the_printed_line_does_it(house: House, *, remove: bool) -> None:
    house.configure(registration={"failurePolicy": "Fail"})
    assert house.command("reconcile", "--wait", "--timeout", "45").returncode == 0
    house.configure()
    arguments = ("--remove",) if remove else ()
    done = house.command("pause", "--for", "1h", "--reason", REASON, "--timeout", "1", *arguments)
    assert done.returncode == 75
    assert policy_of(house.standing()) == "Fail"
    line = done.stderr.splitlines()[-1].strip()
    if remove:
        assert line == "kubectl delete mutatingwebhookconfiguration seccomp-reconciler"
        house.field.other.request("DELETE", REGISTRATION)
    else:
        found = re.fullmatch(
            r"kubectl patch mutatingwebhookconfiguration seccomp-reconciler --type=json -p '(.*)'", line
        )
        assert found is not None, line
        house.field.other.request("PATCH", REGISTRATION, json.loads(found[1]), JSON_PATCH)
    # What is started later keeps to it, and so does a pass that waits for Fail.
    once = house.command("reconcile", "--wait", "--timeout", "20")
    assert once.returncode == 0, once.stderr
    assert policy_of(house.standing()) == ("" if remove else "Ignore")
    assert "paused until" in once.stderr


@pytest.mark.parametrize("remove", [False, True], ids=["ignore", "remove"])
def test_pause_fails_while_a_foreign_object_of_our_name_may_refuse_pods(house: House, *, remove: bool) -> None:
    """One changed label disowns an object of ours at Fail: no reconciler touches it any more."""
    house.configure(registration={"failurePolicy": "Fail"})
    assert house.command("reconcile", "--wait", "--timeout", "45").returncode == 0
    house.configure()
    house.field.patch(("replace", "/metadata/labels/app.kubernetes.io~1managed-by", "Helm"))
    arguments = ("--remove",) if remove else ()
    done = house.command("pause", "--for", "1h", "--reason", REASON, "--timeout", "1", *arguments)
    assert (done.returncode, done.stdout) == (73, "")
    assert "found app.kubernetes.io/managed-by: Helm, expected seccomp-reconciler" in done.stderr
    line = done.stderr.splitlines()[-1].strip()
    if remove:
        assert line == "kubectl delete mutatingwebhookconfiguration seccomp-reconciler"
        house.field.other.request("DELETE", REGISTRATION)
    else:
        patch = line.removeprefix("kubectl patch mutatingwebhookconfiguration seccomp-reconciler --type=json -p ")
        house.field.other.request("PATCH", REGISTRATION, json.loads(patch.strip("'")), JSON_PATCH)
    done = house.command("pause", "--for", "1h", "--reason", REASON, "--timeout", "1", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), "absent, or at Ignore: it refuses no pod"


def test_where_there_is_no_lease_the_pause_makes_one_that_anybody_can_take(house: House) -> None:
    assert house.field.other.request("GET", LEASE) is None
    assert pause(house).returncode == 0, "absent is as good as Ignore"
    lease = house.field.other.request("GET", LEASE)
    found = pausing.of(lease["metadata"]["annotations"], now=time.time())
    assert found is not None
    assert found.reason == REASON
    with house.running() as running:
        house.reaches("Ignore", told=running.words)
        assert running.log("leadership.acquired")
        until(lambda: running.metric('proofs_total{verdict="proved"}') >= 3, told=running.words)
        assert policy_of(house.standing()) == "Ignore"
        assert REASON in house.remembered().reason


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--for", "2", "--reason", "x"), "'2' is no duration: write a number with its unit"),
        (("--for", "soon", "--reason", "x"), "'soon' is no duration"),
        (("--for", "0s", "--reason", "x"), "more than 0s and at most 168h: a pause ends by itself"),
        (("--for", "169h", "--reason", "x"), "more than 0s and at most 168h"),
        (("--for", "-1h", "--reason", "x"), "'-1h' is no duration"),
        (("--for", "1h", "--reason", "  "), "--reason is empty: say why"),
        (("--for", "1h"), "Missing option '--reason'"),
        (("--reason", "x"), "Missing option '--for'"),
    ],
    ids=["no-unit", "no-number", "none", "longer-than-a-week", "negative", "blank", "no-reason", "no-duration"],
)
def test_wrong_usage_is_told_and_nothing_is_written(house: House, arguments: tuple[str, ...], words: str) -> None:
    done = house.command("pause", *arguments)
    assert done.returncode == 64
    assert words in done.stderr
    assert house.field.other.request("GET", LEASE) is None
