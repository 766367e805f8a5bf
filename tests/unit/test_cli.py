"""The command line without a cluster: output, exit codes, help, and what it loads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import structlog
import yaml

from reconciler.cli import COMMANDS, cli, main

PROGRAM = Path(sys.executable).with_name("seccomp-reconciler")
CONFIG = Path(__file__).resolve().parents[2] / "config"
HEADER = "apiVersion: gardenlet.config.gardener.cloud/v1alpha1\nkind: GardenletConfiguration\n"
ON = f"{HEADER}featureGates:\n  DefaultSeccompProfile: true\n"


def called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Run the command line in this process: as `run`, without the cost of a start."""
    monkeypatch.setattr(sys, "argv", ["seccomp-reconciler", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
        structlog.reset_defaults()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    done = subprocess.run([PROGRAM, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_check_config_answers_a_machine() -> None:
    code, out, err = run("check-config", str(CONFIG / "gardenlet.yaml"), "--output", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "gate": "DefaultSeccompProfile",
        "enabled": True,
        "reason": "explicit",
        "warnings": [],
    }


def test_check_config_answers_a_person_and_suggests() -> None:
    assert run("check-config", "-", stdin=ON) == (0, "DefaultSeccompProfile: on (explicit)\n", "")
    code, out, err = run("check-config", "-", stdin=f"{HEADER}featureGates:\n  defaultSeccompProfile: true\n")
    assert (code, out) == (0, "DefaultSeccompProfile: off (default)\n")
    assert "did you mean DefaultSeccompProfile?" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("check-config", "/nowhere.yaml"), 66, "no such file"),
        (("check-config", "/etc"), 65, "found a folder"),
        (("check-config", "/dev/null"), 65, "found a device"),
        (("check-config",), 64, "Missing argument"),
        (("check-config", "-", "--bogus"), 64, "No such option"),
        (("bogus",), 64, "No such command"),
        (("render", "--config", "/nowhere.yaml"), 66, "no such file"),
        (("render", "--ca-file", "/etc/passwd"), 65, "no PEM certificate"),
        (("reconcile", "--kubeconfig", "/nowhere"), 66, "does not exist"),
        (("run", "--kubeconfig", "/nowhere"), 66, "does not exist"),
        (("prove", "--kubeconfig", "/nowhere"), 66, "does not exist"),
        (("certificates", "status", "--kubeconfig", "/nowhere"), 66, "does not exist"),
        (("cleanup", "--kubeconfig", "/nowhere"), 66, "does not exist"),
        (("cleanup", "--for", "30s"), 64, "--for must be at least twice --timeout"),
        (("certificates", "rotate", "--ca-file", "/nowhere"), 64, "is not selfSigned"),
        (("reconcile", "--wait", "--dry-run"), 64, "does not go with --dry-run"),
        (("serve", "--client-name", "kube-apiserver"), 64, "needs --client-ca"),
        (("serve", "--untyped-profile", "Maybe"), 64, "'Leave', 'Override'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, out, err = called(capsys, monkeypatch, *arguments)
    assert found == code
    assert words in err
    assert out == ""
    assert "Traceback" not in err


def test_a_refusal_reaches_the_shell() -> None:
    """One of the exit codes above, from a process of its own."""
    code, out, err = run("check-config", "/nowhere.yaml")
    assert (code, out) == (66, "")
    assert err.startswith("error: /nowhere.yaml: no such file")


def test_sigterm_ends_a_command_with_143(tmp_path: Path) -> None:
    nobody = {"clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:9"}}], "current-context": "a"}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    kubeconfig = {**nobody, "contexts": [context], "users": [{"name": "a", "user": {"token": "a"}}]}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    arguments = ["--kubeconfig", str(tmp_path / "kubeconfig"), "--gardenlet-config", str(CONFIG / "gardenlet.yaml")]
    process = subprocess.Popen([PROGRAM, "reconcile", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process, process.stderr:
        assert process.stderr.readline().startswith("retrying in")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


def test_render_prints_yaml_and_json_of_the_same() -> None:
    code, text, err = run("render")
    assert code == 0
    assert "caBundle is left out" in err
    code, machine, _ = run("render", "--output", "json")
    assert yaml.safe_load(text) == json.loads(machine)
    assert json.loads(machine)["webhooks"][0]["name"] == "seccomp-profile.resources.gardener.cloud"


def test_render_prints_nothing_where_the_gate_is_off(tmp_path: Path) -> None:
    off = tmp_path / "off.yaml"
    off.write_text(ON.replace("true", "false"))
    code, out, err = run("render", "--gardenlet-config", str(off))
    assert (code, out) == (0, "")
    assert "is off (explicit)" in err


@pytest.mark.parametrize(
    "command",
    [
        *("check-config", "render", "diff", "reconcile", "run", "prove", "serve"),
        *("certificates status", "certificates rotate"),
    ],
)
def test_help_names_the_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = called(capsys, monkeypatch, *command.split(), "--help")
    assert code == 0
    for number in (0, 64, 65, 66, 69, 70, 73, 75, 77):
        assert f"\n    {number} " in out


@pytest.mark.parametrize(
    ("arguments", "own"),
    [(("check-config", str(CONFIG / "gardenlet.yaml")), {"pydantic", "importlib.metadata"}), (("render",), set())],
    ids=["check-config", "render"],
)
def test_a_command_loads_only_what_it_needs(arguments: tuple[str, ...], own: set[str]) -> None:
    """No library and no module of another command; `own` are libraries that only render needs."""
    unwanted = own | {"kubernetes", "aiohttp", "cryptography", "structlog", "tenacity", "msgspec", "prometheus_client"}
    unwanted |= {"watchfiles", "asyncio", "ssl"}
    script = (
        "import sys; sys.argv = ['seccomp-reconciler', *sys.argv[1:]]\n"
        "from reconciler import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines())
    assert unwanted & loaded == set()
    commands = {f"reconciler.cli.{module}" for module, _ in COMMANDS.values()}
    assert commands & loaded == {"reconciler.cli.offline"}


def test_every_command_is_found_by_its_name() -> None:
    with click.Context(cli) as context:
        names = cli.list_commands(context)
        assert [command.name for name in names if (command := cli.get_command(context, name))] == names
        assert cli.get_command(context, "bogus") is None


def test_version_is_that_of_the_distribution() -> None:
    assert run("--version") == (0, f"seccomp-reconciler, version {version('seccomp-reconciler')}\n", "")
