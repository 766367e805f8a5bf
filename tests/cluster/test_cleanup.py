"""`cleanup` leaves nothing of ours and touches nothing of others, beside a running reconciler and killed anywhere."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.registration import pausing
from reconciler.registration.pausing import Mode, Pause
from tests.backend import SECRET
from tests.cluster.answered import AUTHORITY, remove_secrets
from tests.cluster.enforced import LEASE, NAME, House, policy_of
from tests.cluster.killing import deadly
from tests.cluster.patience import until
from tests.cluster.rights import Right, account, documented
from tests.load import Load
from tests.seed import MERGE_PATCH, REGISTRATION

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


# Short clocks: what ends is waited for.
ELECTION = {"leaseDuration": "2s", "renewDeadline": "1s", "retryPeriod": "200ms"}
RIGHTS = documented("## Cleaning up")
REGISTERED = "mutatingwebhookconfiguration/seccomp-reconciler"
SECRETS = ("secret/seccomp-reconciler-ca in namespace garden", "secret/seccomp-reconciler-tls in namespace garden")
HELD = "lease/seccomp-reconciler in namespace garden"
REMOVED = [f"removed {one}" for one in (REGISTERED, *SECRETS, HELD)]
ABSENT = [f"absent {one}" for one in (REGISTERED, *SECRETS, HELD)]


@pytest.fixture
def house(built: House) -> Iterator[House]:
    """A seed in which nothing of ours stands; the account of the documented rights is `cleaner`."""
    built.clean()
    remove_secrets(built.field)
    built.configure(registration={"failurePolicy": "Ignore"}, leaderElection=ELECTION)
    account(built.field, "cleaner", RIGHTS)
    yield built
    built.clean()
    remove_secrets(built.field)


def cleanup(house: House, *arguments: str, name: str = "cleaner") -> subprocess.CompletedProcess[str]:
    kubeconfig = house.field.plane.kubeconfig_for_service_account("garden", name)
    return house.command("cleanup", "--kubeconfig", str(kubeconfig), *arguments)


def lines(done: subprocess.CompletedProcess[str], code: int = 0) -> list[str]:
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


def stands(house: House) -> dict[str, bool]:
    paths = {"registration": REGISTRATION, "authority": AUTHORITY, "serving": SECRET, "lease": LEASE}
    return {name: house.field.other.request("GET", path) is not None for name, path in paths.items()}


def everything(house: House) -> None:
    """Have the registration, the Secrets and a Lease that its leader has given back."""
    assert house.command("reconcile").returncode == 0
    lease(house, labels={"app.kubernetes.io/managed-by": NAME})
    assert all(stands(house).values())


def lease(house: House, holder: str = "", **metadata: Any) -> None:  # noqa: ANN401 - JSON
    manifest = {"metadata": {"name": NAME, **metadata}, "spec": {"holderIdentity": holder}}
    house.field.other.request("POST", LEASE.rpartition("/")[0], manifest)


def test_everything_of_ours_goes_and_again_it_is_absent(house: House) -> None:
    everything(house)
    assert lines(cleanup(house)) == REMOVED
    assert not any(stands(house).values())
    assert lines(cleanup(house)) == ABSENT
    done = cleanup(house, "--output", "json")
    assert json.loads(done.stdout)["objects"][0] == {"object": REGISTERED, "result": "absent", "why": ""}


def test_neither_the_gate_nor_the_configuration_is_asked(house: House) -> None:
    everything(house)
    house.seed.configure("not a document")
    assert lines(cleanup(house)) == REMOVED


def test_a_dry_run_tells_and_keeps_everything(house: House) -> None:
    everything(house)
    before = {path: house.field.other.request("GET", path) for path in (REGISTRATION, AUTHORITY, SECRET, LEASE)}
    assert lines(cleanup(house, "--dry-run")) == [f"{line} (dry run)" for line in REMOVED]
    assert {path: house.field.other.request("GET", path) for path in before} == before


def test_a_foreign_registration_ends_it_and_nothing_is_touched(house: House) -> None:
    everything(house)
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody-else"}}}
    house.field.other.request("PATCH", REGISTRATION, label, MERGE_PATCH)
    before = {path: house.field.other.request("GET", path) for path in (REGISTRATION, AUTHORITY, SECRET, LEASE)}
    done = cleanup(house)
    assert lines(done, 73) == []
    assert "exists and is not ours" in done.stderr
    assert {path: house.field.other.request("GET", path) for path in before} == before


def test_foreign_secrets_and_leases_are_left_and_named(house: House) -> None:
    assert house.command("reconcile").returncode == 0
    other = house.field.other
    other.request("DELETE", SECRET)
    other.request("POST", SECRET.rpartition("/")[0], {"metadata": {"name": "seccomp-reconciler-tls"}})
    lease(house, "theirs")
    before = [other.request("GET", path) for path in (SECRET, LEASE)]
    left = "(not ours: it has no label app.kubernetes.io/managed-by)"
    for first in ("removed", "absent"):
        expected = [
            f"{first} {REGISTERED}",
            f"{first} {SECRETS[0]}",
            f"left {SECRETS[1]} {left}",
            f"left {HELD} {left}",
        ]
        assert lines(cleanup(house)) == expected
    assert [other.request("GET", path) for path in (SECRET, LEASE)] == before


def test_secrets_that_somebody_else_issues_are_not_even_looked_at(house: House) -> None:
    everything(house)
    none = [right for right in RIGHTS if right.resource != "secrets"]
    account(house.field, "cleaner-without-secrets", none)
    ca_file = ("--ca-file", str(house.seed.ca))
    assert lines(cleanup(house, *ca_file, name="cleaner-without-secrets")) == [REMOVED[0], REMOVED[3]]
    assert stands(house) == {"registration": False, "authority": True, "serving": True, "lease": False}


@pytest.mark.parametrize("path", [REGISTRATION, SECRET], ids=["registration", "secret"])
def test_a_finalizer_is_named_and_the_next_run_goes_on(house: House, path: str) -> None:
    everything(house)
    house.field.other.request("PATCH", path, {"metadata": {"finalizers": ["a.test/keep"]}}, MERGE_PATCH)
    done = cleanup(house, "--timeout", "5")
    assert done.returncode == 75
    assert "a.test/keep" in done.stderr
    assert stands(house)["lease"], "everything stays paused meanwhile"
    house.field.other.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE_PATCH)
    until(lambda: house.field.other.request("GET", path) is None)
    assert lines(cleanup(house))[-1] == f"removed {HELD}"
    assert not any(stands(house).values())


def test_beside_a_running_reconciler_nothing_comes_back_and_it_is_named_until_it_ends(house: House) -> None:
    """And no pod is refused from the first moment to the last."""
    house.issue()
    house.serve()
    house.configure(leaderElection=ELECTION)
    with house.running() as running:
        house.reaches("Fail", told=running.words)
        with Load(house.seed) as load:
            done = cleanup(house, "--leave-paused", "--for", "2m", "--timeout", "30")
            found = lines(done)
            assert found[:3] == REMOVED[:3]
            assert found[3].startswith(f"left {HELD} (paused until ")
            before = running.metric('passes_total{result="absent"}')
            house.configure(leaderElection=ELECTION, proof={"period": "2s"})  # new settings: everything from the start
            until(lambda: running.metric('passes_total{result="absent"}') > before, told=running.words)
            assert stands(house) == {"registration": False, "authority": False, "serving": False, "lease": True}
            assert house.command("reconcile").stdout.startswith("absent")
            assert house.command("certificates", "rotate").returncode == 64, "a removing pause issues nothing"
            holder = house.field.other.request("GET", LEASE)["spec"]["holderIdentity"]
            done = cleanup(house, "--timeout", "5")
            assert lines(done, 75) == ABSENT[:3]
            assert f"{holder} holds it" in done.stderr
            assert "run `cleanup` again; everything is paused until" in done.stderr
            assert stands(house) == {"registration": False, "authority": False, "serving": False, "lease": True}
        assert [one for one in load.failures if "was not mutated" not in one] == []
    assert lines(cleanup(house)) == [*ABSENT[:3], REMOVED[3]]
    assert not any(stands(house).values())


def test_a_killed_holder_is_waited_for_and_a_candidate_that_follows_it_is_named(house: House) -> None:
    # The candidate has as long as the deadline to follow.
    election = {"leaseDuration": "4s", "renewDeadline": "3s", "retryPeriod": "200ms"}
    house.configure(registration={"failurePolicy": "Ignore"}, leaderElection=election)
    with house.running() as first:
        house.reaches("Ignore", told=first.words)
        with house.running() as second:
            until(lambda: second.log("leadership.observed"), told=second.words)
            first.kill()
            done = cleanup(house, "--timeout", "15")
            assert done.returncode == 75, done.stdout
            assert "holds it" in done.stderr
            assert second.log("leadership.acquired"), second.words()
            assert not house.standing()
            second.kill()
    assert lines(cleanup(house)) == [*ABSENT[:3], REMOVED[3]]
    assert not any(stands(house).values())


def test_a_reconciler_without_a_lease_is_told_of(house: House) -> None:
    # It has as long as the retryPeriod to come back, each time.
    election = {"leaseDuration": "6s", "renewDeadline": "5s", "retryPeriod": "2s"}
    house.configure(registration={"failurePolicy": "Ignore"}, leaderElection=election)
    with house.running("--leader-election=false") as running:
        house.reaches("Ignore", told=running.words)
        done = cleanup(house, "--timeout", "6")
        assert done.returncode == 75
        assert "back again. A reconciler without leader election runs" in done.stderr


async def test_killed_after_every_single_write_the_next_run_goes_on_from_there(house: House) -> None:
    everything(house)
    token = house.field.plane.token_for_service_account("garden", "cleaner")
    writes = []
    async with deadly(house.seed, token) as mortal:
        while (ended := await mortal.command("cleanup", *house.inputs)).code is None:
            writes.append(ended.after)
            assert len(writes) <= 9, writes
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ABSENT
    names = ["seccomp-reconciler", "seccomp-reconciler-ca", "seccomp-reconciler-tls", "seccomp-reconciler"]
    assert writes == ["PATCH seccomp-reconciler", *(f"DELETE {name}" for name in names)], (
        "the pause, and then all of it"
    )
    assert not any(stands(house).values())


def prepared(house: House, right: Right) -> tuple[str, ...]:
    """Have what needs that right, and return the arguments."""
    if (right.resource, right.verb) == ("leases", "create"):
        assert house.command("reconcile").returncode == 0
        return ("--leave-paused",)
    everything(house)
    return ()


@pytest.mark.parametrize("right", sorted(RIGHTS), ids=str)
def test_each_right_is_needed(house: House, right: Right) -> None:
    arguments = prepared(house, right)
    before = stands(house)
    account(house.field, f"cleaner-without-{right.verb}-{right.resource}", [one for one in RIGHTS if one != right])
    done = cleanup(house, *arguments, name=f"cleaner-without-{right.verb}-{right.resource}")
    assert done.returncode == 77, done.stdout + done.stderr
    assert right.is_named_in(done.stderr)
    assert RIGHTS[right].startswith(f"77 from `{' '.join(('cleanup', *arguments))}`")
    if "nothing is touched" in RIGHTS[right]:
        assert (done.stdout, stands(house)) == ("", before)


def test_a_longer_removing_pause_of_somebody_is_not_shortened(house: House) -> None:
    everything(house)
    assert house.command("pause", "--for", "5h", "--reason", "rollout", "--remove", "--timeout", "1").returncode == 75
    done = cleanup(house, "--leave-paused")
    found = pausing.of(house.field.other.request("GET", LEASE)["metadata"]["annotations"], now=time.time())
    assert isinstance(found, Pause)
    assert (found.reason, found.mode) == ("rollout", Mode.REMOVE)
    assert lines(done)[-1] == f"left {HELD} ({found})"
    assert policy_of(house.standing()) == ""


WRONG_USAGE = {
    ("--for", "30s"): "--for must be at least twice --timeout",
    ("--for", "200h"): "at most 168h",
    ("--timeout", "0"): "x>=1",
}


def test_wrong_usage_is_told_and_nothing_is_touched(house: House) -> None:
    for arguments, words in WRONG_USAGE.items():
        done = cleanup(house, *arguments)
        assert done.returncode == 64
        assert words in done.stderr
