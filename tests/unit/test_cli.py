"""The command line without a cluster: output, exit codes, help, and what it loads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROGRAM = Path(sys.executable).with_name("seccomp-reconciler")
CONFIG = Path(__file__).resolve().parents[2] / "config"
HEADER = "apiVersion: gardenlet.config.gardener.cloud/v1alpha1\nkind: GardenletConfiguration\n"
ON = f"{HEADER}featureGates:\n  DefaultSeccompProfile: true\n"


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
def test_exit_codes(arguments: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = run(*arguments)
    assert found == code
    assert words in err
    assert out == ""
    assert "Traceback" not in err


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
def test_help_names_the_exit_codes(command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    for number in (0, 64, 65, 66, 69, 70, 73, 75, 77):
        assert f"\n    {number} " in out


@pytest.mark.parametrize("arguments", [("check-config", str(CONFIG / "gardenlet.yaml")), ("render",)])
def test_commands_without_a_cluster_load_neither_kubernetes_nor_aiohttp(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys; sys.argv = ['seccomp-reconciler', *sys.argv[1:]]\n"
        "from reconciler import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "loaded = {'kubernetes', 'aiohttp', 'watchfiles', 'tenacity'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
