"""config/rbac.yaml and config/canary.yaml are enough; each verb of each rule is needed, as docs/security.md says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from reconciler.backoff import Backoff
from reconciler.cluster import SECRETS, Cluster, Target
from reconciler.controller.reconcile import reconcile, target_of
from reconciler.controller.running import Options, run
from reconciler.errors import ForbiddenError
from reconciler.registration import memory
from reconciler.registration.desired import render
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import API_VERSION, KIND, Registration
from reconciler.sources import FileSource
from tests.backend import ADAPTIVE, ELECTION
from tests.cluster.answered import remove_secrets
from tests.cluster.enforced import LEASE
from tests.cluster.field import document, stand
from tests.cluster.rights import Right, account, documented, given
from tests.cluster.test_reconcile import gardenlet_deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.cluster.field import Field

REGISTERED = Registration()
RIGHTS = documented("# What it may do, and why")
PATIENCE_SECONDS = 30.0
OWN = "seccomp-reconciler"
_CLAIMS = {
    "ends": re.compile(r"77 from ((?:,? ?(?:and )?(?:from )?`[^`]+`)+)"),
    "logs": re.compile(r"(?:`run` logs (`[^`]+`)|(`[^`]+`) in the log of `run`|`run` goes on unproved: (`[^`]+`))"),
    "leads": re.compile(r"never leads, writes nothing and logs (`[^`]+`)"),
    "notes": re.compile(r"a note of ((?:,? ?(?:and )?(?:of )?`[^`]+`)+)"),
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What docs/security.md says of a missing right: `what` (ends, logs, leads, notes), by which command or event."""

    right: Right
    what: str
    subject: str

    def __str__(self) -> str:
        return f"{self.right}-{self.what}-{self.subject.replace(' ', '-')}"


def claims(what: str) -> list[Claim]:
    """Return every claim of that kind."""
    found = []
    for right, words in sorted(RIGHTS.items()):
        for claim in _CLAIMS[what].finditer(words):
            subjects = re.findall(r"`([^`]+)`", next(group for group in claim.groups() if group))
            found += [Claim(right, what, subject) for subject in subjects]
    return found


def test_the_table_names_every_right_and_no_other() -> None:
    assert set(RIGHTS) == given("config/rbac.yaml", "config/canary.yaml")


def test_each_right_has_a_claim_that_is_looked_at() -> None:
    assert {claim.right for what in _CLAIMS for claim in claims(what)} == set(RIGHTS)


def test_what_has_no_name_is_created_or_cannot_have_one() -> None:
    """`create` of what we keep stands apart, in roles that give nothing else."""
    nameless = {right for right in RIGHTS if not right.name}
    apart = {right for right in RIGHTS if right.role == "seccomp-reconciler-create"}
    assert {(right.verb, right.resource) for right in apart} == {
        ("create", "mutatingwebhookconfigurations"),
        ("create", "secrets"),
        ("create", "leases"),
    }
    assert {right.resource for right in nameless - apart} == {
        "configmaps",
        "endpointslices",
        "events",
        "namespaces",
        "pods",
    }
    assert {right.verb for right in nameless - apart} == {"get", "list", "watch", "create", "patch"}
    assert [right for right in nameless if right.resource == "secrets" and right.verb != "create"] == []


@dataclass(slots=True)
class Scene:
    """The seed of a claim: what stands, which settings are in force, and who lacks the right."""

    playing: Field
    settings: Path
    registration: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    def configure(self, **more: Any) -> None:  # noqa: ANN401 - JSON
        """Write the settings."""
        content = {"proof": {"period": "1s"}, "adaptive": ADAPTIVE, "leaderElection": ELECTION, **more}
        given_source = self.source or {"file": str(self.playing.seed.gardenlet)}
        header = {"apiVersion": API_VERSION, "kind": KIND, "gardenletConfiguration": given_source}
        self.settings.write_text(json.dumps({**header, "registration": self.registration, **content}))

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command with these settings; with every right where no kubeconfig says another identity."""
        done = self.playing.seed.command(*arguments, "--config", str(self.settings))
        return done.returncode, done.stdout, done.stderr

    async def stand(self, state: State = State.IGNORE, **entry: Any) -> None:  # noqa: ANN401 - JSON
        """Have our object stand in that state, with a window that is open where it is Ignore, and these fields."""
        since = time.time() - 60
        windows = (Window(since, None, "for a test"),) if state is State.IGNORE else ()
        remembered = memory.annotations(Memory(state, since, "for a test", windows=windows))
        desired = render(REGISTERED, ca_bundle=self.playing.plane.ca_pem, state=state, annotations=remembered)
        async with Cluster(kubeconfig=self.playing.seed.kubeconfig) as cluster:
            await reconcile(cluster, target_of(REGISTERED), desired=desired, observed=None)
        for name, value in entry.items():
            self.playing.patch(("replace", f"/webhooks/0/{name}", value))

    def mount(self) -> None:
        """Have the Deployment gardenlet mount the GardenletConfiguration, and the settings name it."""
        config_map = {"metadata": {"name": "gardenlet-config-1a2b"}, "data": {"config.yaml": document(gate="true")}}
        self.playing.put("/api/v1/namespaces/garden/configmaps", config_map)
        self.playing.put("/apis/apps/v1/namespaces/garden/deployments", gardenlet_deployment("gardenlet-config-1a2b"))
        self.source = {"deployment": {"name": "gardenlet"}}

    def leased(self) -> None:
        """Have a Lease that nobody holds."""
        manifest = {"metadata": {"name": OWN}, "spec": {"holderIdentity": ""}}
        self.playing.other.request("POST", LEASE.rpartition("/")[0], manifest)


@pytest.fixture
def scene(field: Field, tmp_path: Path) -> Iterator[Scene]:
    """Nothing stands, there is no Lease, and our certificates come from a file."""

    def clean() -> None:
        remove_secrets(field)
        for path in (LEASE, "/apis/apps/v1/namespaces/garden/deployments/gardenlet"):
            if field.other.request("GET", path) is not None:
                field.other.request("DELETE", path)

    clean()
    url = {"url": "https://127.0.0.1:9/webhooks/seccomp-profile"}
    found = Scene(field, tmp_path / "settings.yaml", {"ca": {"file": str(field.seed.ca)}, "backend": url})
    found.configure()
    yield found
    clean()


async def set_up(scene: Scene, claim: Claim) -> None:
    """Have what needs the right."""
    match claim.right.resource, claim.right.verb:
        case "mutatingwebhookconfigurations", "patch":
            await scene.stand(timeoutSeconds=3)
        case "mutatingwebhookconfigurations", "delete":
            await scene.stand()
            scene.playing.seed.configure(document(gate="false"))
        case "secrets", _:
            scene.registration["ca"] = {"selfSigned": {}}
        case "leases", "get" | "patch":
            scene.leased()
        case (("deployments" | "configmaps"), _):
            scene.mount()
        case "endpointslices", _:
            scene.registration["backend"] = {"service": {}}
        case "services", _:
            del scene.registration["backend"]
        case ("namespaces", "list") | ("pods", "list"):
            await scene.stand()
        case "pods", "create":
            await scene.stand(State.FAIL)
    scene.configure()


def without(scene: Scene, right: Right) -> str:
    """Return the kubeconfig of an identity with every right but that one."""
    return str(account(scene.playing, f"lacks-{right}"[:60].rstrip("-"), [one for one in RIGHTS if one != right]))


_MORE = {
    "pause": ("--for", "1h", "--reason", "for a test", "--timeout", "1"),
    "reconcile --wait": ("--timeout", "5"),
}


@pytest.mark.parametrize("claim", claims("ends"), ids=str)
async def test_the_command_ends_with_77_and_names_the_rule(scene: Scene, claim: Claim) -> None:
    await set_up(scene, claim)
    more = _MORE.get(claim.subject, ())
    limited = without(scene, claim.right)
    code, out, err = await asyncio.to_thread(scene.command, *claim.subject.split(), *more, "--kubeconfig", limited)
    assert code == 77, out + err
    assert claim.right.is_named_in(err), err
    assert "docs/security.md" in err
    # Nothing but this right is missing: with it the same command goes on.
    code, _, err = await asyncio.to_thread(scene.command, *claim.subject.split(), *more)
    assert code in (0, 75), err


@pytest.mark.parametrize("claim", claims("notes"), ids=str)
async def test_the_command_goes_on_and_notes_the_rule(scene: Scene, claim: Claim) -> None:
    await set_up(scene, claim)
    arguments = (claim.subject, "--output", "json", "--kubeconfig", without(scene, claim.right))
    code, out, err = await asyncio.to_thread(scene.command, *arguments)
    report = json.loads(out)
    if claim.subject == "lint":
        assert (code, report["good"]) == (0, True), err
        assert any(claim.right.is_named_in(note) for note in report["notes"]), report["notes"]
        assert {"reconciler", "gardenlet", "canary"} <= {one["kind"] for one in report["judged"]}
    else:
        assert code == 75, err
        note = "owner" if claim.right.resource == "clusterroles" else "pods"
        assert claim.right.is_named_in(report["notRead"][note])
        assert report["podsWithoutProfile"] is None


@asynccontextmanager
async def running(scene: Scene, kubeconfig: str) -> AsyncIterator[list[Any]]:
    """Run the loop as that identity, with short clocks; yields its log. It must still be running at the end."""
    chosen = Path(kubeconfig)
    wishes = Options(
        lambda _: Cluster(kubeconfig=chosen, backoff=Backoff(0.05, 0.2)), lambda read: read, "127.0.0.1", 0
    )
    with structlog.testing.capture_logs() as log:
        task = asyncio.create_task(run(FileSource(scene.settings, most_bytes=1 << 20), wishes))
        try:
            yield log
            assert not task.done(), "it ended by itself"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(fact: Callable[[], object], log: list[Any]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(fact):
        assert time.monotonic() < end, log
        await asyncio.sleep(0.05)


def said(log: list[Any], claim: Claim) -> list[Any]:
    """Return the events of that name which named the missing rule."""
    named = [one for one in log if one["event"] == claim.subject]
    return [one for one in named if claim.right.is_named_in(str(one.get("error", "")) + str(one.get("words", "")))]


# Without these nothing can stand, or what stands stays as it is.
_FATAL = {"pass.failed", "ca.invalid"}


@pytest.mark.parametrize("claim", claims("logs"), ids=str)
async def test_run_goes_on_and_logs_the_rule(scene: Scene, claim: Claim) -> None:
    await set_up(scene, claim)
    playing = scene.playing
    async with running(scene, without(scene, claim.right)) as log:
        if claim.right.resource == "events":  # a repair, and the same again
            for _ in range(2):
                await until(playing.standing, log)
                await asyncio.to_thread(playing.patch, ("replace", "/webhooks/0/timeoutSeconds", 3))
                await until(lambda: playing.webhook()["timeoutSeconds"] == 10, log)
        await until(lambda: said(log, claim), log)
        assert {one["log_level"] for one in said(log, claim)} <= {"warning", "error"}
        if claim.subject not in _FATAL:
            await until(playing.standing, log)
            assert [one for one in log if one["event"] in _FATAL] == []
        if "once" in RIGHTS[claim.right]:
            assert len(said(log, claim)) == 1


@pytest.mark.parametrize("claim", claims("leads"), ids=str)
async def test_without_a_right_to_the_lease_run_writes_nothing_and_names_the_rule(scene: Scene, claim: Claim) -> None:
    await set_up(scene, claim)
    playing = scene.playing
    before = len(playing.plane.audit_events())
    async with running(scene, without(scene, claim.right)) as log:
        await until(lambda: said(log, claim), log)
        await asyncio.sleep(1.0)
        assert [one for one in log if one["event"] in ("leadership.acquired", "registration.registered")] == []
        assert [one["log_level"] for one in said(log, claim)] == ["error"]
    assert playing.standing() is None
    verbs = ("create", "patch", "update", "delete")
    lacking = [one for one in playing.plane.audit_events()[before:] if ":lacks-" in one["user"].get("username", "")]
    assert {one["objectRef"]["resource"] for one in lacking if one["verb"] in verbs} <= {"leases"}


async def test_without_any_right_to_the_lease_it_works_where_no_election_is_asked_for(scene: Scene) -> None:
    none = [right for right in RIGHTS if right.resource != "leases"]
    limited = str(account(scene.playing, "lacks-leases", none))
    scene.configure(leaderElection={"enabled": False})
    code, out, err = await asyncio.to_thread(scene.command, "reconcile", "--kubeconfig", limited)
    assert (code, out) == (0, "registered mutatingwebhookconfiguration/seccomp-reconciler\n"), err
    assert "verbs: [get]" in err, "that no pause is known is said"


async def test_without_create_what_stands_is_kept_all_the_same(scene: Scene) -> None:
    await scene.stand(timeoutSeconds=3)
    apart = [right for right in RIGHTS if right.role != "seccomp-reconciler-create"]
    limited = str(account(scene.playing, "lacks-create", apart))
    code, out, err = await asyncio.to_thread(scene.command, "reconcile", "--kubeconfig", limited)
    assert code == 0, err
    assert out.startswith("updated")


async def test_without_a_right_to_the_twin_status_does_not_know(scene: Scene) -> None:
    right = next(one for one in RIGHTS if (one.name, one.verb) == ("gardener-resource-manager", "get"))
    limited = without(scene, right)
    _, out, _ = await asyncio.to_thread(scene.command, "status", "-o", "json", "--kubeconfig", limited)
    condition = next(one for one in json.loads(out)["conditions"] if one["type"] == "NoTwin")
    assert condition["status"] == "Unknown"
    assert right.is_named_in(condition["message"])


async def test_without_a_right_to_the_canary_fail_is_lowered_after_the_tolerance(scene: Scene) -> None:
    await scene.stand(State.FAIL)
    right = next(one for one in RIGHTS if one.namespace == "seccomp-canary")
    async with running(scene, without(scene, right)) as log:
        await until(lambda: scene.playing.webhook()["failurePolicy"] == "Ignore", log)
        failed = [one for one in log if one["event"] == "proof.failed"]
        assert [one["verdict"] for one in failed] == ["inconclusive"]
    remembered = memory.of(scene.playing.standing())
    assert remembered is not None
    assert remembered.reason == "no verdict for 3 s after the start"
    assert remembered.is_open


async def test_another_secret_is_out_of_reach(cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError):
        await cluster.get(Target(SECRETS, "another", "garden"))


async def test_another_object_is_out_of_reach(cluster: Cluster) -> None:
    with pytest.raises(ForbiddenError):
        await cluster.get(target_of(Registration(name="another")))
    with pytest.raises(ForbiddenError):
        await stand(cluster, Registration(name="another"), ca_bundle=None)
