"""Where a command finds its settings: --config, the environment, a pod's volume, or the release in the cluster."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import structlog
import yaml

from reconciler.cli import cli, main, options

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(sys.executable).with_name("seccomp-reconciler")
HEADER = {"apiVersion": "seccomp-reconciler.config.gardener.cloud/v1alpha1", "kind": "ReconcilerConfiguration"}
DEPLOYMENT = {"deployment": {"namespace": "garden", "name": "gardenlet"}}
CONFIG_MAP = "/api/v1/namespaces/{}/configmaps/{}"
VARIABLES = ("CONFIG", "GARDENLET_CONFIG", "CA_FILE", "KUBECONFIG", "CONTEXT", "NAMESPACE")


class Answers(BaseHTTPRequestHandler):
    """An API server that holds these objects; any other is absent, of all ConfigMaps there is a list."""

    objects: ClassVar[dict[str, Any]] = {}
    forbidden: ClassVar[set[str]] = set()
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        found = self.objects.get(path)
        if path == "/api/v1/configmaps":
            items = [one for one in self.objects.values() if one["kind"] == "ConfigMap"]
            found = {"kind": "ConfigMapList", "metadata": {"resourceVersion": "1"}, "items": items}
        status = 403 if path in self.forbidden else 200 if found else 404
        if status == 403:
            found = {
                "kind": "Status",
                "message": 'configmaps is forbidden: User "jane" cannot get resource "configmaps"',
            }
        body = json.dumps(found or {"kind": "Status", "metadata": {}, "message": "not found"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Laptop:
    """A machine with only a kubeconfig, context `prod`, and a cluster behind it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        document = {
            "current-context": "prod",
            "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "jane"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "jane", "user": {"token": "t"}}],
        }
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def file(self, name: str, **settings: object) -> Path:
        (self.folder / name).write_text(yaml.safe_dump({**HEADER, **settings}))
        return self.folder / name

    def install(self, settings: dict[str, Any] | None = None, *, namespace: str = "garden") -> None:
        self.put(namespace, "seccomp-reconciler", yaml.safe_dump({**HEADER, **(settings or {})}))

    def put(self, namespace: str, name: str, text: str) -> None:
        metadata = {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1"}
        found = {"kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": text}}
        Answers.objects[CONFIG_MAP.format(namespace, name)] = found


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    for name in [name for name in os.environ if name.startswith(("SECCOMP_", "KUBE")) or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Answers, "objects", {})
    monkeypatch.setattr(Answers, "forbidden", set())
    monkeypatch.setattr(Answers, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        found = Laptop(tmp_path, server.server_address[1])
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig))
        yield found
        server.shutdown()
        thread.join()


def parsed(*arguments: str) -> options.Options:
    """Return the options of a command as its function gets them."""
    command = cli.get_command(None, arguments[0])  # type: ignore[arg-type] # it is not looked at
    assert command is not None
    with command.make_context(arguments[0], [*arguments[1:]], auto_envvar_prefix="SECCOMP_RECONCILER_X") as context:
        names = options.Options.__match_args__
        return options.Options(**{key: value for key, value in context.params.items() if key in names})


def of_registration(name: str) -> dict[str, object]:
    return {"registration": {"name": name}}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, "of-release"),
        (("--config", "given.yaml"), {}, "given"),
        ((), {"SECCOMP_RECONCILER_CONFIG": "given.yaml"}, "given"),
        (("--config", "other.yaml"), {"SECCOMP_RECONCILER_CONFIG": "given.yaml"}, "other"),
        ((), {"SECCOMP_RECONCILER_X_CONFIG": "other.yaml", "SECCOMP_RECONCILER_CONFIG": "given.yaml"}, "other"),
        (("--namespace", "elsewhere"), {}, "of-elsewhere"),
        (("-n", "elsewhere"), {}, "of-elsewhere"),
        (("--release-namespace", "elsewhere"), {}, "of-elsewhere"),
        ((), {"SECCOMP_RECONCILER_NAMESPACE": "elsewhere"}, "of-elsewhere"),
        (("--namespace", "garden"), {"SECCOMP_RECONCILER_NAMESPACE": "elsewhere"}, "of-release"),
        (("--namespace", "elsewhere"), {"SECCOMP_RECONCILER_CONFIG": "given.yaml"}, "of-elsewhere"),
        ((), {"SECCOMP_RECONCILER_NAMESPACE": "elsewhere", "SECCOMP_RECONCILER_CONFIG": "given.yaml"}, "given"),
        (("--gardenlet-config", "g.yaml"), {}, "of-release"),
        (("--context", "prod"), {}, "of-release"),
        ((), {"SECCOMP_RECONCILER_CONFIG": ""}, "of-release"),
        ((), {"SECCOMP_RECONCILER_PORT": "tcp://10.0.0.7:443", "SECCOMP_RECONCILER_SERVICE_HOST": "a"}, "of-release"),
    ],
)
def test_settings_are_found(
    laptop: Laptop,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    expected: str,
) -> None:
    laptop.install(of_registration("of-release"))
    laptop.install(of_registration("of-elsewhere"), namespace="elsewhere")
    for name in ("given", "other"):
        laptop.file(f"{name}.yaml", **of_registration(name))
    monkeypatch.chdir(laptop.folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert parsed("status", *arguments).settings().registration.name == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, DEPLOYMENT),
        ({"deployment": {}}, DEPLOYMENT),
        (
            {"deployment": {"namespace": "kube-system"}},
            {"deployment": {"namespace": "kube-system", "name": "gardenlet"}},
        ),
        ({"file": "/etc/gardenlet/config/config.yaml"}, DEPLOYMENT),
        ({"file": "/elsewhere/config.yaml"}, DEPLOYMENT),
        (
            {"configMap": {"name": "mine", "key": "a"}},
            {"configMap": {"namespace": "garden", "name": "mine", "key": "a"}},
        ),
    ],
)
def test_the_document_of_a_release_is_that_of_the_deployment_unless_named(
    laptop: Laptop, given: dict[str, object], expected: dict[str, object]
) -> None:
    laptop.install({"gardenletConfiguration": given} if given else None)
    found = parsed("status").settings().gardenlet_configuration
    assert found.model_dump(by_alias=True, exclude_none=True) == expected


def test_a_document_that_the_release_itself_holds_is_read_there(laptop: Laptop) -> None:
    laptop.install({"gardenletConfiguration": {"file": "/etc/gardenlet/config/config.yaml"}})
    laptop.put("garden", "seccomp-reconciler-gardenlet", "a GardenletConfiguration")
    found = parsed("status").settings().gardenlet_configuration.config_map
    assert found is not None
    assert (found.namespace, found.name, found.key) == ("garden", "seccomp-reconciler-gardenlet", "config.yaml")


def test_a_flag_names_another_document(laptop: Laptop) -> None:
    laptop.install({"gardenletConfiguration": {"deployment": {}}})
    assert parsed("status", "--gardenlet-config", "/a.yaml").settings().gardenlet_configuration.file == "/a.yaml"


def test_settings_are_read_once(laptop: Laptop) -> None:
    laptop.install({"gardenletConfiguration": {"deployment": {}}})
    found = parsed("status")
    assert found.settings() is found.settings(within=5)
    assert len(Answers.asked) == 1


@contextmanager
def ended() -> Iterator[dict[str, Any]]:
    """Run the command line in this process, and yield its exit code."""
    end: dict[str, Any] = {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stopped:
            yield end
        end["code"] = stopped.value.code
    finally:
        signal.signal(signal.SIGTERM, before)
        structlog.reset_defaults()


def called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["seccomp-reconciler", *arguments])
    with ended() as end:
        main()
    out, err = capsys.readouterr()
    return int(end["code"]), out, err


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("diff",),
        ("reconcile", "--wait"),
        ("prove",),
        ("pause", "--for", "1h", "--reason", "a rollout"),
        ("resume",),
        ("audit",),
        ("explain", "pod/one"),
        ("lint",),
        ("cleanup", "--namespace", "garden"),
        ("certificates", "status"),
        ("certificates", "rotate"),
    ],
    ids=" ".join,
)
def test_without_file_and_release_a_command_says_who_was_asked_for_what(
    laptop: Laptop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    code, out, err = called(capsys, monkeypatch, *command)
    assert (code, out) == (66, "")
    assert f"there is no configmaps/seccomp-reconciler in namespace garden at {laptop.url} (context prod)" in err
    for flag in ("--config", "--namespace", "--context"):
        assert flag in err


def test_after_an_uninstall_cleanup_takes_the_defaults(
    laptop: Laptop,  # noqa: ARG001 - its cluster
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = called(capsys, monkeypatch, "cleanup", "--dry-run")
    assert (code, err) == (0, "")
    assert "absent mutatingwebhookconfiguration" in out


@pytest.mark.parametrize("command", ["diff", "cleanup"])
def test_a_release_in_another_namespace_is_named(
    laptop: Laptop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    laptop.install(namespace="extension-seccomp")
    code, _, err = called(capsys, monkeypatch, command, "--gardenlet-config", "/dev/null")
    assert code == 66
    assert "give --namespace extension-seccomp" in err


def test_a_missing_right_is_named(
    laptop: Laptop,  # noqa: ARG001 - its cluster
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Answers.forbidden.add(CONFIG_MAP.format("garden", "seccomp-reconciler"))
    code, _, err = called(capsys, monkeypatch, "status")
    assert code == 77
    assert '{apiGroups: [""], resources: [configmaps], resourceNames: [seccomp-reconciler], verbs: [get]}' in err
    assert "--config" in err


@pytest.mark.parametrize("is_forbidden", [True, False])
def test_with_the_document_given_and_no_release_every_option_has_its_default(
    laptop: Laptop,  # noqa: ARG001 - its cluster
    *,
    is_forbidden: bool,
) -> None:
    if is_forbidden:
        Answers.forbidden.add(CONFIG_MAP.format("garden", "seccomp-reconciler"))
    found = parsed("diff", "--gardenlet-config", "/a.yaml").settings()
    assert found == options.Options(None, Path("/a.yaml"), None, None, None).settings(offline=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "configmaps/seccomp-reconciler in namespace garden, key config.yaml: not readable as YAML"),
        ("kind: GardenletConfiguration", "a GardenletConfiguration, expected a ReconcilerConfiguration"),
        (yaml.safe_dump({**HEADER, "colour": "red"}), "colour: no such option"),
    ],
)
def test_settings_of_a_release_that_are_wrong_are_told(
    laptop: Laptop,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    words: str,
) -> None:
    laptop.put("garden", "seccomp-reconciler", text)
    code, _, err = called(capsys, monkeypatch, "status")
    assert code == 65
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "--config", "a", "--namespace", "b"), "does not go with --config"),
        (("audit", "-f", "a", "--release-namespace", "b"), "-f reads no cluster"),
        (("explain", "-f", "a", "--context", "b"), "-f reads no cluster"),
        (("lint", "-f", "a", "--namespace", "b"), "-f reads no cluster"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    laptop: Laptop,  # noqa: ARG001 - its environment
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    code, _, err = called(capsys, monkeypatch, *arguments)
    assert code == 64
    assert words in err


PODS = json.dumps({"kind": "List", "apiVersion": "v1", "items": []})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("render",), 0),
        (("check-config", "gardenlet.yaml"), 0),
        (("audit", "-f", "pods.json"), 0),
        (("explain", "-f", "pod.yaml"), 1),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands_on_files_ask_no_cluster_whatever_the_environment_names(
    laptop: Laptop, arguments: tuple[str, ...], code: int
) -> None:
    (laptop.folder / "pods.json").write_text(PODS)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}
    (laptop.folder / "pod.yaml").write_text(yaml.safe_dump(pod))
    header = {"apiVersion": "gardenlet.config.gardener.cloud/v1alpha1", "kind": "GardenletConfiguration"}
    gates = {**header, "featureGates": {"DefaultSeccompProfile": True}}
    (laptop.folder / "gardenlet.yaml").write_text(yaml.safe_dump(gates))
    script = (
        "import sys; from reconciler.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'kubernetes' not in sys.modules\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(laptop.kubeconfig),
        "SECCOMP_RECONCILER_CONTEXT": "prod",
        "SECCOMP_RECONCILER_NAMESPACE": "garden",
        "SECCOMP_RECONCILER_PORT": "tcp://10.0.0.7:443",
    }
    argv = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        argv, cwd=laptop.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, Answers.asked) == (code, []), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("mounted", "arguments", "expected"),
    [
        (("config.yaml",), (), "config"),
        (("sidecar.yaml",), (), "sidecar"),
        (("config.yaml", "sidecar.yaml"), (), "config"),
        (("config.yaml",), ("--config", "other.yaml"), "other"),
        ((), ("--gardenlet-config", "a.yaml"), "seccomp-reconciler"),
        (("config.yaml",), ("--kubeconfig", "kubeconfig"), "of-release"),
        (("config.yaml",), ("--kubeconfig", "kubeconfig", "--namespace", "garden"), "of-release"),
    ],
)
def test_in_a_pod_the_mounted_file_is_read(
    laptop: Laptop,
    monkeypatch: pytest.MonkeyPatch,
    mounted: tuple[str, ...],
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.chdir(laptop.folder)
    monkeypatch.setattr(options, "_MOUNTED", (Path("config.yaml"), Path("sidecar.yaml")))
    laptop.install(of_registration("of-release"))
    for name in (*mounted, "other.yaml"):
        laptop.file(name, **of_registration(name.removesuffix(".yaml")))
    assert parsed("status", *arguments).settings().registration.name == expected


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (("status",), VARIABLES),
        (("audit",), VARIABLES),
        (("explain",), VARIABLES),
        (("certificates", "rotate"), VARIABLES),
        (("run",), (*VARIABLES, "LOG_LEVEL", "LOG_FORMAT")),
        (("serve",), ("LOG_LEVEL", "LOG_FORMAT")),
        (("render",), VARIABLES[:3]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() else "",
)
def test_help_names_the_variables(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    variables: tuple[str, ...],
) -> None:
    code, out, _ = called(capsys, monkeypatch, *command, "--help")
    assert code == 0
    for name in variables:
        assert f"[env var: SECCOMP_RECONCILER_{name}" in " ".join(out.split())
    assert "_PORT" not in out


@pytest.mark.parametrize(("command", "name"), [("serve", "port"), ("serve", "status_port"), ("run", "status_port")])
def test_a_port_is_never_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, command: str, name: str) -> None:
    """Kubernetes sets these where a Service is named seccomp-reconciler, or seccomp-reconciler-serve."""
    for variable in (name.upper(), f"X_{name.upper()}", "SERVICE_PORT", "PORT_443_TCP"):
        monkeypatch.setenv(f"SECCOMP_RECONCILER_{variable}", "tcp://10.0.0.7:443")
    found = cli.get_command(None, command)  # type: ignore[arg-type] # it is not looked at
    assert found is not None
    with found.make_context(command, [], auto_envvar_prefix="SECCOMP_RECONCILER_X") as context:
        assert isinstance(context.params[name], int)


@pytest.mark.parametrize(("no_color", "is_coloured"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_color_is_honoured_on_a_terminal(laptop: Laptop, no_color: str | None, *, is_coloured: bool) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}
    (laptop.folder / "pod.yaml").write_text(yaml.safe_dump(pod))
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    if no_color is not None:
        environment["NO_COLOR"] = no_color
    argv = [str(PROGRAM), "explain", "-f", "pod.yaml"]
    with subprocess.Popen(argv, cwd=laptop.folder, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not part:
                break
            shown += part
        process.wait(60)
    os.close(ours)
    assert b"a" in shown
    assert (b"\x1b[" in shown) is is_coloured
