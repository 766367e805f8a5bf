from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from reconciler.backoff import Backoff
from reconciler.errors import CredentialPluginError, InvalidConfigurationError
from reconciler.kube import login as logins
from reconciler.kube.credential_plugin import EXTENSION, cluster_info, credential, parse
from reconciler.kube.kubeconfig import Context
from reconciler.kube.login import Login

if TYPE_CHECKING:
    from pathlib import Path

V1 = "client.authentication.k8s.io/v1"
SERVER = {"server": "https://api:6443"}


def answer(status: object, **changed: object) -> str:
    return json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status} | changed)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def user(command: str, /, **changed: object) -> dict[str, Any]:
    return {"exec": {"apiVersion": V1, "command": command, "interactiveMode": "Never"} | changed}


def login_of(command: str, *, timeout_seconds: float = 60.0, backoff: Backoff | None = None) -> Login:
    context = Context("c", "c", SERVER, "u", user(command), "kubeconfig k")
    return Login(
        context, timeout_seconds=timeout_seconds, may_ask_a_person=False, backoff=backoff or Backoff(1e-9, 1e-9)
    )


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({}, {}),
        ({"tls-server-name": "api"}, {"tls-server-name": "api"}),
        ({"insecure-skip-tls-verify": True}, {"insecure-skip-tls-verify": True}),
        ({"insecure-skip-tls-verify": False}, {}),
        ({"certificate-authority-data": "QQ=="}, {"certificate-authority-data": "QQ=="}),
        ({"proxy-url": "http://p"}, {"proxy-url": "http://p"}),
        ({"disable-compression": True}, {"disable-compression": True}),
        ({"extensions": None}, {}),
        ({"extensions": [{"name": "other", "extension": {"a": 1}}]}, {}),
        ({"extensions": [{"name": EXTENSION, "extension": {"a": {"b": [1]}}}]}, {"config": {"a": {"b": [1]}}}),
        ({"extensions": [{"name": "x"}, {"name": EXTENSION, "extension": "text"}]}, {"config": "text"}),
    ],
)
def test_the_cluster_is_told_as_client_go_tells_it(cluster: dict[str, Any], expected: dict[str, Any]) -> None:
    assert cluster_info(SERVER | cluster, origin="k") == SERVER | expected


def test_an_authority_in_a_file_is_told_as_data(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("PEM")
    info = cluster_info(SERVER | {"certificate-authority": str(tmp_path / "ca")}, origin="k")
    assert base64.b64decode(info["certificate-authority-data"]) == b"PEM"
    with pytest.raises(InvalidConfigurationError, match="certificate-authority: "):
        cluster_info(SERVER | {"certificate-authority": str(tmp_path / "absent")}, origin="k")


@pytest.mark.parametrize("wanted", [True, False, None])
async def test_a_plugin_gets_the_cluster_only_where_it_asks_for_it(tmp_path: Path, *, wanted: bool | None) -> None:
    command = script(
        tmp_path / "p", f"echo \"$KUBERNETES_EXEC_INFO $1 $ADDED\" > {tmp_path}/told; echo '{answer({'token': 't'})}'"
    )
    given = user(command, provideClusterInfo=wanted, args=["first"], env=[{"name": "ADDED", "value": "more"}])
    plugin = parse(given, SERVER, origin="k")
    assert plugin is not None
    assert (await plugin.ask(timeout_seconds=60, may_ask_a_person=False)).token == "t"  # noqa: S105 - no secret
    info, _, rest = (tmp_path / "told").read_text().strip().rpartition("} ")
    assert rest == "first more"
    cluster = {"cluster": SERVER} if wanted else {}
    assert json.loads(info + "}") == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {"interactive": False, **cluster},
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"command": ""}, "expected a mapping with a command"),
        ({"command": None}, "expected a mapping with a command"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "exec.apiVersion: expected"),
        ({"apiVersion": None}, "exec.apiVersion: expected"),
        ({"interactiveMode": "Sometimes"}, "Never, IfAvailable, Always, found Sometimes"),
        ({"args": 5}, "args is a list"),
        ({"env": ["A=b"]}, "env is a list"),
        ({"env": [{"value": "b"}]}, "env is a list"),
    ],
)
def test_a_plugin_that_is_written_wrong_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=words):
        parse(user("plugin", **changed), SERVER, origin="kubeconfig k: user 'u'")


@pytest.mark.parametrize("field", ["token", "tokenFile"])
def test_a_token_of_the_kubeconfig_wins(field: str) -> None:
    assert parse(user("plugin") | {field: "t"}, SERVER, origin="k") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "echo 'session expired: run login again' >&2; exit 1",
            "failed (exit status 1): session expired: run login again. Install it",
        ),
        ("echo one >&2; echo two >&2; exit 3", "failed (exit status 3): one / two"),
        ("exit 7", "failed (exit status 7). Install it"),
        ("kill -KILL $$", "failed (ended by SIGKILL)"),
        ("", "it printed no JSON"),
        ("echo nonsense; echo why >&2", "it printed no JSON; expected an ExecCredential: why"),
        ("echo '[]'", "it printed no ExecCredential"),
        (f"echo '{answer({'token': 't'}, kind='Pod')}'", "it printed no ExecCredential"),
        (f"echo '{answer({'token': 't'}, apiVersion='v1')}'", "it answered in v1; the kubeconfig says"),
        (f"echo '{answer(None)}'", "has no status"),
        (f"echo '{answer({})}'", "neither a token nor a client certificate"),
        (f"echo '{answer({'token': 5})}'", "are no strings"),
        (f"echo '{answer({'clientKeyData': 'k'})}'", "only one of clientCertificateData and clientKeyData"),
        (f"echo '{answer({'token': 't', 'clientCertificateData': 'c'})}'", "only one of"),
        (
            f"echo '{answer({'token': 't', 'expirationTimestamp': 'soon'})}'",
            "expirationTimestamp soon is no RFC 3339 time",
        ),
        ("head -c 3000000 /dev/zero", "it printed more than 1048576 bytes"),
    ],
)
async def test_a_plugin_that_fails_is_told_with_its_own_words(tmp_path: Path, text: str, words: str) -> None:
    plugin = parse(user(script(tmp_path / "plugin", text), installHint="Install it"), SERVER, origin="k")
    assert plugin is not None
    with pytest.raises(CredentialPluginError) as found:
        await plugin.ask(timeout_seconds=60, may_ask_a_person=False)
    assert words in str(found.value)
    assert str(tmp_path / "plugin") in str(found.value)


async def test_a_plugin_that_is_absent_is_told_with_its_hint(tmp_path: Path) -> None:
    plugin = parse(user(str(tmp_path / "absent"), installHint="Install it"), SERVER, origin="k")
    assert plugin is not None
    with pytest.raises(CredentialPluginError, match=r"cannot be started: .*No such file.*\. Install it"):
        await plugin.ask(timeout_seconds=60, may_ask_a_person=False)


async def test_a_plugin_that_needs_a_terminal_is_not_started_without_one(tmp_path: Path) -> None:
    command = script(tmp_path / "p", f"touch {tmp_path}/started")
    plugin = parse(user(command, interactiveMode="Always"), SERVER, origin="k")
    assert plugin is not None
    with pytest.raises(CredentialPluginError, match="needs a terminal"):
        await plugin.ask(timeout_seconds=60, may_ask_a_person=False)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("how", ["times out", "is cancelled"])
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["plain", "ignores SIGTERM"])
async def test_a_plugin_that_hangs_is_ended_with_its_children(tmp_path: Path, how: str, trap: str) -> None:
    command = script(
        tmp_path / "p",
        f"cd {tmp_path}; {trap} sleep 600 & echo $! > made; mv made child; echo open a browser >&2; sleep 600",
    )
    plugin = parse(user(command), SERVER, origin="k")
    assert plugin is not None
    asking = asyncio.create_task(plugin.ask(timeout_seconds=2 if how == "times out" else 600, may_ask_a_person=False))
    while not (tmp_path / "child").exists() and not asking.done():
        await asyncio.sleep(0.01)  # the event loop goes on meanwhile
    if how == "is cancelled":
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    else:
        with pytest.raises(CredentialPluginError, match="did not answer within 2 s and was ended"):
            await asking
    child = int((tmp_path / "child").read_text()) if (tmp_path / "child").exists() else 0
    while child and psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.01)


async def test_a_child_that_keeps_the_output_open_does_not_hold_the_answer(tmp_path: Path) -> None:
    command = script(tmp_path / "p", f"sleep 600 & echo $! > {tmp_path}/child; echo '{answer({'token': 't'})}'")
    plugin = parse(user(command), SERVER, origin="k")
    assert plugin is not None
    try:
        assert (await plugin.ask(timeout_seconds=300, may_ask_a_person=False)).token == "t"  # noqa: S105 - no secret
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


@pytest.mark.parametrize(
    ("expiration", "renew_at"),
    [
        ("1970-01-01T00:16:40Z", 970.0),  # 1,000 s after the epoch: 30 s before
        ("1970-01-01T00:00:10Z", 8.0),  # a short life: a fifth of it
        ("1970-01-01T01:16:40+01:00", 970.0),
        ("1970-01-01T00:16:40.5Z", 970.5),
        (None, float("inf")),
        ("1969-12-31T23:59:00Z", -60.0),
    ],
)
def test_a_credential_is_renewed_before_it_expires(expiration: str | None, renew_at: float) -> None:
    status = {"token": "t", "expirationTimestamp": expiration}
    assert credential(answer(status).encode(), api_version=V1, now=0.0).renew_at == renew_at


@pytest.fixture
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "_KEPT", {})


def counting(folder: Path, status: str) -> str:
    return script(folder / "plugin", f"echo >> {folder}/asked; {status}")


def asked(folder: Path) -> int:
    return len((folder / "asked").read_text())


@pytest.mark.usefixtures("_no_credentials")
async def test_a_credential_is_kept_until_it_expires_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = {"token": "t", "expirationTimestamp": "2100-01-01T00:00:00Z"}
    login = login_of(command := counting(tmp_path, f"echo '{answer(status)}'"))
    assert await login.user() == {"token": "t"}
    assert await login.user() == await login_of(command).user()
    assert asked(tmp_path) == 1
    login.refused()
    await login.user()
    assert asked(tmp_path) == 2
    assert not login.is_due
    monkeypatch.setattr(logins, "now", lambda: 4102444800.0 - 29)
    assert login.is_due
    await login.user()
    assert asked(tmp_path) == 3


@pytest.mark.usefixtures("_no_credentials")
async def test_a_client_certificate_is_handed_on(tmp_path: Path) -> None:
    status = {"clientCertificateData": "CERT", "clientKeyData": "KEY"}
    found = await login_of(counting(tmp_path, f"echo '{answer(status)}'")).user()
    assert found == {"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}


@pytest.mark.usefixtures("_no_credentials")
async def test_a_plugin_that_failed_is_left_alone_for_a_moment(tmp_path: Path) -> None:
    login = login_of(counting(tmp_path, "echo no >&2; exit 1"), backoff=Backoff(600, 600))
    for _ in range(3):
        with pytest.raises(CredentialPluginError, match="no"):
            await login.user()
        assert "failed (exit status 1): no" in login.trouble
    assert asked(tmp_path) == 1


@pytest.mark.usefixtures("_no_credentials")
async def test_a_plugin_is_named_while_it_is_asked(tmp_path: Path) -> None:
    login = login_of(counting(tmp_path, "exec sleep 600"))
    assert not login.trouble
    asking = asyncio.create_task(login.user())
    while not login.trouble:
        await asyncio.sleep(0)
    assert login.trouble == f"credential plugin {tmp_path}/plugin is asked for credentials"
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await login.close()
    assert not login.trouble


@pytest.mark.usefixtures("_no_credentials")
async def test_a_request_that_gives_up_leaves_the_plugin_to_the_others(tmp_path: Path) -> None:
    wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    login = login_of(counting(tmp_path, f"{wait}; echo '{answer({'token': 't'})}'"))
    first, second = (asyncio.create_task(login.user()) for _ in range(2))
    while not (tmp_path / "asked").exists():
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (tmp_path / "go").touch()
    assert await second == {"token": "t"}
    assert asked(tmp_path) == 1
