"""`make demo`: from the gate to a pod with its profile, on a real API server, in numbered steps with their times.

Nothing outside a temporary directory is written, and nothing is left running. Exit status 0: every step happened.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import click
import psutil
import yaml

from tests.backend import SecretVolume, Server, pod, profile_of, serving, settings_for
from tests.controlplane import binaries
from tests.controlplane.errors import ApiError, ControlPlaneError
from tests.controlplane.plane import ControlPlane
from tests.controlplane.progress import display
from tests.controlplane.servers import free_port
from tests.controlplane.versions import wanted
from tests.load import Load
from tests.seed import JSON_PATCH, MANAGED, MERGE_PATCH, REGISTRATION, RUN, Connection, Reconciler, Seed, seed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A step on an idle machine takes milliseconds: far more than that is for a machine that is busy with other things.
_STEP_SECONDS = 15.0
_START_SECONDS = 30.0
_POLL_SECONDS = 0.005
_REST_SECONDS = 3.0
_GATE_ON = re.compile(r"^( +DefaultSeccompProfile:) true\b", re.MULTILINE)
SKIP_LABEL = "seccompprofile.resources.gardener.cloud/skip"
_INTERRUPTED = 130
_READER_GONE = 141

Object = dict[str, Any]  # a Kubernetes object as JSON


class StepFailedError(Exception):
    """A step did not happen within its limit."""


@dataclass(slots=True)
class Story:
    """What is told: numbered steps on standard output, coloured on a terminal only."""

    steps: int = 0

    def step(self, title: str, why: str) -> None:
        """Begin a step: what it shows and why that matters."""
        self.steps += 1
        self._print(f"\n{click.style(f'{self.steps}. {title}', bold=True)}")
        self._print(click.style(f"   {why}", dim=True))

    def say(self, text: str) -> None:
        """Show something that is so."""
        for line in text.splitlines():
            self._print(f"   {line}")

    def done(self, text: str, seconds: float | None = None) -> None:
        """Show what happened, and in which time."""
        took = "" if seconds is None else click.style(f"  {1000 * seconds:.0f} ms", fg="cyan", bold=True)
        self._print(f"   {click.style('ok', fg='green')}  {text}{took}")

    def _print(self, text: str) -> None:
        click.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def until(what: str, condition: Callable[[], bool], *, seconds: float = _STEP_SECONDS) -> float:
    """Return the seconds until `condition` held; StepFailedError after `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise StepFailedError(f"{what}: did not happen within {seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - began


def expect(what: str, *, holds: bool) -> None:
    """Raise StepFailedError unless it holds."""
    if not holds:
        raise StepFailedError(what)


class Demo:
    """The steps, on one seed."""

    def __init__(self, story: Story, stage: Seed, other: Connection, inputs: tuple[str, ...]) -> None:
        self._story = story
        self._inputs = inputs
        self._stage = stage
        self._other = other

    def identity(self) -> None:
        """Show what the product's ServiceAccount may do."""
        self._story.step(
            "An identity with exactly config/rbac.yaml",
            "The product never holds more rights in a seed than that file says, here neither.",
        )
        with Connection(self._stage.kubeconfig) as account:
            until("RBAC takes effect", lambda: _allowed(account, "GET", REGISTRATION))
            self._story.done("may read its own registration")
            for what, path in (
                ("another webhook registration", REGISTRATION + "-other"),
                ("the nodes of the seed", "/api/v1/nodes"),
                ("the Secrets of garden", "/api/v1/namespaces/garden/secrets"),
            ):
                expect(f"refused: {what}", holds=not _allowed(account, "GET", path))
                self._story.done(f"may not read {what}")

    def configuration(self) -> None:
        """Show what gardenlet's configuration asks."""
        self._story.step(
            "What gardenlet's configuration asks",
            "The same file and the same verdict as gardenlet's own, no cluster needed.",
        )
        checked = self._stage.command("check-config", str(self._stage.gardenlet))
        expect(f"check-config: {checked.stderr}", holds=checked.returncode == 0 and ": on" in checked.stdout)
        self._story.say("$ seccomp-reconciler check-config config/gardenlet.yaml")
        self._story.done(checked.stdout.strip())

    def before(self) -> None:
        """Show what happens to a pod without the webhook."""
        self._story.step(
            "A pod of a control plane, before",
            "Nobody sets a seccomp profile: its containers may make every system call.",
        )
        found = self._create("etcd-before")
        expect("a pod without a profile", holds=profile_of(found) is None)
        self._story.done(f"{MANAGED}/etcd-before: {_profile(found)}")

    def answered(self, server: Server, reconciler: Reconciler) -> None:
        """Show that the webhook is answered, and the proof."""
        self._story.step(
            "`seccomp-reconciler serve` answers, and the path is proved",
            "Registered is not yet protected: a dry-run pod must come back through the API server with its profile.",
        )
        until("the server to be ready", lambda: _is_ready(server), seconds=_START_SECONDS)
        self._story.done("serves with the certificate from the Secret that `run` issued, mounted as the kubelet does")
        took = until("the proof", lambda: bool(reconciler.events("proof.held")))
        held = reconciler.events("proof.held")[-1]
        self._story.done(f"proved by `run`: {held['words']}", took)
        asked = self._stage.command("prove", *self._inputs)
        expect(f"prove: {asked.stderr}", holds=asked.returncode == 0)
        self._story.say(f"$ seccomp-reconciler prove\n{asked.stdout.strip()}")

    def raised(self, reconciler: Reconciler) -> None:
        """Show that failurePolicy goes up by proofs."""
        self._story.step(
            "Proofs in a row raise failurePolicy to Fail",
            "Nothing is refused before the path has proved itself for a while (here 1 s, by default 30).",
        )
        took = until("the raise", lambda: bool(reconciler.events("failure_policy.raised")), seconds=_START_SECONDS)
        reason = reconciler.events("failure_policy.raised")[-1]["reason"]
        self._story.done(f"failurePolicy: {self._policy()} ({reason})", took)

    def lowered(self, server: Server, reconciler: Reconciler) -> None:
        """Show that failurePolicy goes down when the path is lost."""
        self._story.step(
            "Every server dies, and failurePolicy goes down",
            "A webhook that nobody answers must not stop a seed: lowered after 3 s without a proof (by default 60).",
        )
        server.process.process.kill()
        server.process.process.wait()
        took = until("the lowering", lambda: bool(reconciler.events("failure_policy.lowered")), seconds=_START_SECONDS)
        self._story.done(f"failurePolicy: {self._policy()}", took)
        until("a pod passes", lambda: self._passes("etcd-in-between"), seconds=_START_SECONDS)
        self._story.done(f"{MANAGED}/etcd-in-between is created, without a profile: it lies in a recorded window")

    def back(self, reconciler: Reconciler) -> None:
        """Show that it goes up again, and that nothing was silent."""
        self._story.step(
            "A server is back: Fail again, and nothing was silent",
            "After a loss the proofs have to go on twice as long; `status` names what came through meanwhile.",
        )
        took = until("the raise", lambda: len(reconciler.events("failure_policy.raised")) > 1, seconds=_START_SECONDS)
        self._story.done(f"failurePolicy: {self._policy()}", took)
        shown: list[str] = []

        def is_well() -> bool:
            found = self._stage.command("status", *self._inputs)
            shown.append(found.stdout.strip())
            return found.returncode == 0

        until("status is well", is_well)
        expect("status names the pod", holds=f"{MANAGED}/etcd-in-between" in shown[-1])
        self._story.say(f"$ seccomp-reconciler status\n{shown[-1]}")

    def pods(self) -> None:
        """Show what becomes of pods now."""
        self._story.step(
            "The same pod, after; and those that are left alone",
            "New pods in Gardener's namespaces get RuntimeDefault, unless they are labelled or say a type themselves.",
        )
        unconfined = {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}
        cases: tuple[tuple[str, str | None, Object, Object], ...] = (
            ("etcd-after", "RuntimeDefault", {}, {}),
            ("etcd-labelled", None, {"labels": {SKIP_LABEL: "true"}}, {}),
            ("etcd-unconfined", "Unconfined", {}, unconfined),
        )
        for name, wanted_profile, metadata, spec in cases:
            found = self._create(name, metadata, spec)
            expect(f"{name}: {wanted_profile}", holds=profile_of(found) == wanted_profile)
            label = f"  (label {SKIP_LABEL})" if metadata else ""
            self._story.done(f"{MANAGED}/{name}: {_profile(found)}{label}")
        old = self._other.request("GET", f"/api/v1/namespaces/{MANAGED}/pods/etcd-before")
        expect("the pod from before is left alone", holds=profile_of(old) is None)
        self._story.done(f"{MANAGED}/etcd-before: {_profile(old)}: only new pods are mutated")

    def rotation(self) -> None:
        """Show a rotation of all certificates under load."""
        self._story.step(
            "All certificates are rotated while pods are created",
            "A new authority is trusted before it serves, and the old one until nothing serves with it.",
        )
        began = time.monotonic()
        with Load(self._stage) as load:
            done = self._stage.command("certificates", "rotate", "--now", *self._inputs)
        expect(f"rotate: {done.stderr}", holds=done.returncode == 0)
        self._story.say(f"$ seccomp-reconciler certificates rotate --now\n{done.stdout.strip()}")
        expect("; ".join(load.failures[:3]), holds=not load.failures)
        self._story.done(f"{load.created} pods created meanwhile: each has its profile", time.monotonic() - began)

    def registration(self, reconciler: Reconciler) -> None:
        """Show the registration."""
        self._story.step(
            "`seccomp-reconciler run` registers the webhook",
            "The gate is on, so the MutatingWebhookConfiguration must stand: it sends new pods to the webhook.",
        )
        took = until("the registration", lambda: self._standing() is not None, seconds=_START_SECONDS)
        self._story.done("registered, counted from the start of the process", took)
        self._story.say(_excerpt(self._standing() or {}))
        until("the log's word of it", lambda: bool(reconciler.events("registration.registered")))

    def repairs(self) -> None:
        """Show drift, and that it is put back."""
        self._story.step(
            "Another writer changes it, and it is put back",
            "Without it pods start unconfined, and nobody notices. Times count from the answer to the other writer.",
        )
        good = self._standing()
        expect("the registration stands", holds=good is not None)
        wanted_webhooks = (good or {}).get("webhooks")
        patches: tuple[tuple[str, list[Object]], ...] = (
            (
                "failurePolicy: Fail -> Ignore",
                [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}],
            ),
            (
                "namespaceSelector: emptied, so that every namespace is concerned",
                [{"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {}}],
            ),
        )
        for what, patch in patches:
            changed = self._other.request("PATCH", REGISTRATION, patch, JSON_PATCH)
            expect(f"the drift was made: {what}", holds=changed["webhooks"] != wanted_webhooks)
            self._repaired(what, wanted_webhooks)
        self._other.request("PATCH", REGISTRATION, {"metadata": {"labels": None}}, MERGE_PATCH)
        self._repaired("all labels removed", wanted_webhooks, labels=(good or {})["metadata"]["labels"])
        self._other.request("DELETE", REGISTRATION)
        self._repaired("deleted", wanted_webhooks)
        until("the registration at rest", self._rests, seconds=_START_SECONDS)

    def _rests(self) -> bool:
        """Whether no window is open and nothing is written for longer than the next proof and the look after it take.

        A proof that came before the API server had learned of the repair leaves a window of its own.
        """
        before = self._version()
        time.sleep(_REST_SECONDS)
        return before == self._version() and '"end":null' not in str(self._standing())

    def unreadable(self, reconciler: Reconciler) -> None:
        """Show that a broken configuration changes nothing."""
        self._story.step(
            "An unreadable configuration changes nothing",
            "A truncated file must never switch protection off: the last good configuration stays in force.",
        )
        before = self._version()
        good = self._stage.gardenlet.read_text()
        gate = _GATE_ON.search(good)
        if gate is None:
            raise StepFailedError("config/gardenlet.yaml should hold the line DefaultSeccompProfile: true")
        self._stage.configure(good[: gate.end() - 1])
        took = until("the complaint", lambda: bool(reconciler.events("configuration.invalid")))
        complaint = reconciler.events("configuration.invalid")[-1]
        self._story.done("noticed and reported (a file is read once it has been at rest for a quarter second)", took)
        self._story.say(f"log: {' '.join(str(complaint['error']).split()):.160}\n     kept: {complaint['kept']}")
        expect("the registration is untouched", holds=self._version() == before)
        self._story.done("the registration is untouched: same uid, same resourceVersion")
        self._stage.configure(good)
        until("the recovery", lambda: bool(reconciler.events("configuration.recovered")))
        expect("the registration is untouched", holds=self._version() == before)
        self._story.done("readable again: still untouched, nothing was written")

    def removal(self) -> None:
        """Show that the gate's end is the registration's end."""
        self._story.step(
            "The gate goes off, and the registration goes",
            "Off means gone, with nothing left for the API server to call.",
        )
        good = self._stage.gardenlet.read_text()
        self._stage.configure(_GATE_ON.sub(r"\1 false", good))
        took = until("the removal", lambda: self._standing() is None)
        self._story.done("removed, counted from the change of the file (with its quarter second at rest)", took)

    def end(self, reconciler: Reconciler) -> None:
        """Show that SIGTERM ends the process."""
        self._story.step("SIGTERM ends it", "A sidecar must not hold up the end of its pod.")
        try:
            status, took = reconciler.stop()
        except subprocess.TimeoutExpired as error:
            raise StepFailedError("the process did not end within 10 s of SIGTERM") from error
        expect(f"exit status 0, not {status}", holds=status == 0)
        self._story.done("exit status 0", took)

    def _policy(self) -> str:
        return str((self._standing() or {"webhooks": [{}]})["webhooks"][0].get("failurePolicy"))

    def _passes(self, name: str) -> bool:
        try:
            self._create(name)
        except ApiError:
            return False  # the API server may not have seen the change yet
        return True

    def _create(self, name: str, metadata: Object | None = None, spec: Object | None = None) -> Object:
        manifest = pod(name, **(metadata or {}))
        manifest["spec"] |= spec or {}
        found: Object = self._other.request("POST", f"/api/v1/namespaces/{MANAGED}/pods", manifest)
        return found

    def _repaired(self, what: str, webhooks: object, *, labels: object = None) -> None:
        def as_before() -> bool:
            found = self._standing()
            return (
                found is not None
                and found["webhooks"] == webhooks
                and (labels is None or found["metadata"].get("labels") == labels)
            )

        self._story.done(f"{what}; put back in", until(f"the repair of: {what}", as_before))

    def _standing(self) -> Object | None:
        found: Object | None = self._other.request("GET", REGISTRATION)
        return found

    def _version(self) -> tuple[str, str] | None:
        found = self._standing()
        return None if found is None else (found["metadata"]["uid"], found["metadata"]["resourceVersion"])


def _profile(found: Object) -> str:
    return f"seccompProfile.type: {profile_of(found) or 'none'}"


def _is_ready(server: Server) -> bool:
    try:
        return server.page("/readyz")[0] == HTTPStatus.OK
    except OSError:
        return False


def _allowed(connection: Connection, method: str, path: str) -> bool:
    try:
        connection.request(method, path)
    except ApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return False
        raise
    return True


def _excerpt(found: Object) -> str:
    """Return the fields that say what is registered, as YAML."""
    webhook = found["webhooks"][0]
    shown = {
        "name": found["metadata"]["name"],
        "webhook": webhook["name"],
        "calls": webhook["clientConfig"]["url"],
        "for": "{operations[0]} {resources[0]}".format_map(webhook["rules"][0]),
        "failurePolicy": webhook["failurePolicy"],
        "namespaces": [_term(term) for term in webhook["namespaceSelector"]["matchExpressions"]],
        "pods": [_term(term) for term in webhook["objectSelector"]["matchExpressions"]],
    }
    return yaml.safe_dump(shown, sort_keys=False, width=120).rstrip()


def _term(term: Object) -> str:
    return " ".join([term["key"], term["operator"], *([", ".join(term["values"])] if term.get("values") else [])])


def _tell(story: Story) -> None:
    found = binaries.obtain(wanted(None), display())
    story.step(
        "A control plane of its own",
        "A real kube-apiserver and etcd with RBAC, on 127.0.0.1, in a temporary directory.",
    )
    began = time.monotonic()
    with ExitStack() as stack:
        plane = stack.enter_context(ControlPlane.start_from(found))
        pids, directories = list(plane.pids.values()), [plane.directory]
        story.done(f"Kubernetes {plane.version} at {plane.url}", time.monotonic() - began)
        stage = stack.enter_context(seed(plane))
        directories.append(stage.directory)
        port = free_port()
        settings = stage.directory / "reconciler.yaml"
        url = f"https://127.0.0.1:{port}/webhooks/seccomp-profile"
        settings.write_text(settings_for(url, registration={"failurePolicy": "Adaptive"}))
        inputs = ("--config", str(settings), "--gardenlet-config", str(stage.gardenlet))
        demo = Demo(story, stage, stack.enter_context(stage.writer("another-writer")), inputs)
        demo.identity()
        demo.configuration()
        demo.before()
        with stage.process([*RUN, *inputs]) as reconciler:
            pids.append(reconciler.pid)
            try:
                demo.registration(reconciler)
                volume = stack.enter_context(SecretVolume(stage, stage.directory / "tls"))
                server = stack.enter_context(serving(stage, volume.folder, port=port))
                pids.append(server.process.pid)
                demo.answered(server, reconciler)
                demo.raised(reconciler)
                demo.pods()
                demo.rotation()
                demo.lowered(server, reconciler)
                again = stack.enter_context(serving(stage, volume.folder, port=port))
                pids.append(again.process.pid)
                demo.back(reconciler)
                demo.repairs()
                demo.unreadable(reconciler)
                demo.removal()
                demo.end(reconciler)
            except StepFailedError as error:
                raise StepFailedError(f"{error}\nthe end of its log:\n{reconciler.last_words()}") from error
    story.step("Nothing is left", "Not a process, not a file.")
    _nothing_left(pids, directories)
    story.done(f"{len(pids)} processes ended, {len(directories)} temporary directories removed")


def _nothing_left(pids: list[int], directories: list[Path]) -> None:
    until("the end of every process", lambda: not any(psutil.pid_exists(pid) for pid in pids))
    expect("no temporary directory is left", holds=not any(directory.exists() for directory in directories))


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    # Once is enough: a second Ctrl-C must not cut the cleaning up short, whose every wait has a limit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Tell the story; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    story = Story()
    try:
        _tell(story)
        click.echo(f"\nAll {story.steps} steps happened, in {time.monotonic() - began:.0f} s.")
    except (StepFailedError, ControlPlaneError, ApiError, OSError, subprocess.TimeoutExpired) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read the output has gone: no reason to write to it again, not even while Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _READER_GONE
        click.echo(f"\nstep {story.steps} failed: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("\ninterrupted: everything was ended and removed", err=True)
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
