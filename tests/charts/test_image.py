"""The image's files, built here as the Dockerfile builds them: what they are, and the program run from nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import pytest

from image import build
from reconciler.cli import cli
from reconciler.errors import ExitCode
from tests.backend import serving, settings_for
from tests.dockerfile import copied, only, stages
from tests.jail import Jail
from tests.seed import ROOT, started
from tests.unit.admission.served import Folder, eventually, is_patched, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backend import Server
    from tests.controlplane.plane import ControlPlane
    from tests.seed import Reconciler

# It installs from the package index and compiles and packs all of it, twice.
pytestmark = pytest.mark.timeout(900)
TLS = "/etc/seccomp-reconciler/tls"
CONFIG = "/etc/seccomp-reconciler/config"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
LIMIT_BYTES = 120_000_000
NAMESPACE = "image-test"
REGISTRATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


@dataclass(frozen=True)
class Built:
    """What one build left: the wheel, the environment that it was installed in, and the root."""

    folder: Path

    @property
    def wheel(self) -> Path:
        (found,) = (self.folder / "wheel").glob("*.whl")
        return found

    @property
    def environment(self) -> Path:
        return self.folder / "environment"

    @property
    def root(self) -> Path:
        return self.folder / "root"


def built(source: Path, folder: Path) -> Built:
    (folder / "root").mkdir()
    build.build(source, folder / "root", folder)
    return Built(folder)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built from what the Dockerfile copies, and from nothing else."""
    source = tmp_path_factory.mktemp("context")
    for name in copied():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    return built(source, tmp_path_factory.mktemp("image"))


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def layer(image: Built) -> str:
    target = image.folder / "layer"
    with target.open("wb") as stream:
        build.packed(image.root, stream)
    return digest(target)


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            told = Path(folder, name).lstat()
            found[str(Path(folder, name).relative_to(root))] = (told.st_mode, told.st_size, told.st_mtime_ns)
    return found


def test_two_builds_in_two_places_are_the_same_byte_by_byte(image: Built, tmp_path: Path) -> None:
    again = built(ROOT, tmp_path)
    assert digest(again.wheel) == digest(image.wheel)
    assert layer(again) == layer(image)


def test_everything_that_is_installed_is_pinned_and_nothing_is_there_for_developers(image: Built) -> None:
    argv = [sys.executable, "-m", "pip", "--python", str(image.environment), "freeze", "--all"]
    frozen = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")}
    others = {line for line in frozen if not line.startswith("seccomp-reconciler @")}
    assert len(others) == len(frozen) - 1
    assert {normal(line) for line in others} <= {normal(line) for line in pinned}
    names = {normal(line).partition("==")[0] for line in others}
    assert not names & {"pip", "setuptools", "wheel", "hatchling", "pytest", "ruff", "mypy", "hypothesis", "rich"}


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+(?=.*==)", "-", requirement).lower()


def test_the_wheel_alone_brings_the_command(image: Built) -> None:
    program = image.environment / "bin" / "seccomp-reconciler"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True, cwd="/")
    assert said.stdout == f"seccomp-reconciler, version {version('seccomp-reconciler')}\n"


def test_it_weighs_less_than_120_megabytes_unpacked(image: Built) -> None:
    assert build.weigh(image.root) < LIMIT_BYTES, build.report(image.root)


def test_there_is_no_shell_no_installer_and_no_test(image: Built) -> None:
    programs = {found.name for found in build.files(image.root) if found.parent.name in {"bin", "sbin"}}
    assert programs == {"python", "python3", build.PYTHON}
    names = {found.name for found in (image.root / "usr" / "local" / "lib" / build.PYTHON / "site-packages").iterdir()}
    assert not names & {"pip", "setuptools", "pkg_resources", "wheel", "tests", "test", "image"}
    assert not (image.root / "usr" / "local" / "lib" / build.PYTHON / "ensurepip").exists()


def test_nobody_but_root_may_write_and_nothing_lends_rights(image: Built) -> None:
    for path, (mode, _, _) in snapshot(image.root).items():
        if not stat.S_ISLNK(mode):
            assert stat.S_IMODE(mode) in {0o644, 0o755}, path
    if os.geteuid() == 0:
        owners = {(found.lstat().st_uid, found.lstat().st_gid) for found in build.files(image.root)}
        assert owners == {(0, 0)}


def test_no_link_leads_nowhere_or_out(image: Built) -> None:
    for found in build.files(image.root):
        if found.is_symlink():
            assert found.resolve().is_relative_to(image.root.resolve()), found
            assert found.exists(), found


def test_every_module_is_compiled_and_never_compared_with_its_source(image: Built) -> None:
    modules = [found for found in build.files(image.root) if found.suffix == ".py"]
    assert len(modules) > 1000
    for module in modules:
        compiled = module.parent / "__pycache__" / f"{module.stem}.{sys.implementation.cache_tag}.pyc"
        # Source: PEP 552; 0b01 is a file with a hash that is not checked.
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", module


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("command", list(commands(cli)), ids=lambda path: " ".join(path) or "itself")
def test_each_command_shows_its_help(image: Built, command: tuple[str, ...]) -> None:
    before = snapshot(image.root)
    argv = Jail(image.root).argv(*command, "--help")
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"Usage: {' '.join(('python -m reconciler', *command))} ")
    assert snapshot(image.root) == before


def test_the_root_is_read_only_and_the_user_is_nobody_of_this_machine(image: Built) -> None:
    """A check of the jail itself: what the tests around it say is said of a container."""
    jail = Jail(image.root)
    argv = jail.argv()
    ask = "import os; print(os.getuid(), os.access('/', os.W_OK), sorted(os.listdir('/etc'))); open('/new', 'w')"
    at = argv.index("-m", argv.index("--no-new-privs"))
    said = subprocess.run([*argv[:at], "-c", ask], capture_output=True, text=True, timeout=60, check=False)
    user = 65532 if os.geteuid() == 0 else 0
    assert said.stdout.startswith(f"{user} False ['gardenlet', 'group'"), said.stderr
    assert "Read-only file system" in said.stderr


@dataclass
class Contained(Folder):
    """Certificates on this machine, and `serve` in the image's root with the folder mounted where it looks for it."""

    root: Path = field(default_factory=Path)

    @contextmanager
    def process(self, argv: list[str]) -> Iterator[Reconciler]:
        arguments = [TLS if word == str(self.tls) else word for word in argv[1:]]
        with started(Jail(self.root, {TLS: self.tls}).argv(*arguments), self.path, dict(os.environ)) as process:
            yield process


def readable(folder: Path) -> None:
    """Let the user of the container read a folder, as the kubelet does by fsGroup."""
    for found in [folder, *folder.rglob("*")]:
        if not found.is_symlink():
            found.chmod(0o755 if found.is_dir() else 0o644)


@contextmanager
def answering(folder: Contained) -> Iterator[Server]:
    folder.put(folder.issue())
    readable(folder.tls)
    with serving(folder, folder.tls) as server:
        server.wait_ready()
        yield server


def test_serve_answers_from_a_read_only_root_follows_its_certificate_and_ends_on_sigterm(
    image: Built, tmp_path: Path
) -> None:
    folder = Contained(tmp_path, root=image.root)
    before = snapshot(image.root)
    with answering(folder) as server:
        with folder.client(server) as client:
            assert is_patched(client.ask(request()))
            old = client.leaf
        folder.put(folder.issue())
        readable(folder.tls)
        eventually(lambda: presented(folder, server) != old)
        assert server.process.stop()[0] == 0, server.process.last_words()
    assert "Traceback" not in server.process.last_words(100)
    assert snapshot(image.root) == before


def presented(folder: Folder, server: Server) -> bytes:
    with folder.client(server) as client:
        return client.leaf


@pytest.fixture
def pod(image: Built, control_plane: ControlPlane, tmp_path: Path) -> Iterator[Jail]:
    """A root as a pod has it: settings, gardenlet's document, a token. All names are the test's own."""
    names = {"namespace": NAMESPACE, "authoritySecret": "ca", "servingSecret": "tls"}
    settings = settings_for(
        "https://127.0.0.1:1/webhooks/seccomp-profile",
        registration={"name": NAMESPACE, "namespaceSelector": {"matchLabels": {NAMESPACE: "true"}}},
        selfSigned=names,
        leaderElection={"namespace": NAMESPACE, "name": "lease"},
        gardenletConfiguration={"file": f"{CONFIG}/gardenlet.yaml"},
    )
    token = control_plane.token_for_service_account(NAMESPACE, "default")
    subject = {"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": NAMESPACE}, "roleRef": role, "subjects": [subject]}
    control_plane.admin_request("POST", BINDINGS, binding)
    files = {"config.yaml": settings, "gardenlet.yaml": (ROOT / "config" / "gardenlet.yaml").read_text()}
    account = {"token": token, "ca.crt": control_plane.ca_pem.decode(), "namespace": NAMESPACE}
    address = urlsplit(control_plane.url)
    yield Jail(
        image.root,
        {CONFIG: volume(tmp_path / "config", files), TOKEN: volume(tmp_path / "account", account)},
        {"KUBERNETES_SERVICE_HOST": address.hostname or "", "KUBERNETES_SERVICE_PORT": str(address.port)},
    )
    control_plane.admin_request("DELETE", f"{BINDINGS}/{NAMESPACE}")
    if uid(control_plane):
        control_plane.admin_request("DELETE", f"{REGISTRATIONS}/{NAMESPACE}")


def volume(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    readable(folder)
    return folder


def test_the_trimmed_client_of_the_api_server_does_all_that_the_commands_need(
    pod: Jail, control_plane: ControlPlane, tmp_path: Path
) -> None:
    options = [f"--config={CONFIG}/config.yaml"]
    for command in ("reconcile", "diff", "status", "lint", "prove"):
        said = subprocess.run(pod.argv(command, *options), capture_output=True, text=True, timeout=120, check=False)
        assert said.returncode != ExitCode.INTERNAL, (command, said.stderr)
        assert said.returncode == 0 or command in {"status", "lint", "prove"}, said.stderr  # no canary is here
    first = uid(control_plane)
    assert first
    argv = pod.argv("run", *options, "--log-format=json", "--bind-address=127.0.0.1", "--status-port=0")
    with started(argv, tmp_path, dict(os.environ)) as process:
        eventually(lambda: bool(process.events("leadership.acquired")))
        control_plane.admin_request("DELETE", f"{REGISTRATIONS}/{NAMESPACE}")
        eventually(lambda: uid(control_plane) not in {"", first})  # followed by a watch, and made anew
        assert process.stop()[0] == 0, process.last_words()
    assert "Traceback" not in process.last_words(1000)


def uid(control_plane: ControlPlane) -> str:
    """Return the registration's uid, empty while there is none."""
    found = control_plane.admin_request("GET", f"{REGISTRATIONS}?fieldSelector=metadata.name%3D{NAMESPACE}")["items"]
    return str(found[0]["metadata"]["uid"]) if found else ""


def test_the_dockerfile_runs_this_very_build() -> None:
    assert only(stages()[1], "RUN").words == ["python", "image/build.py", "/image"]
