"""The control plane itself: what tests rely on when they use it, and that nothing of it stays."""

from __future__ import annotations

import base64
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import create_server
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from tests.controlplane import servers
from tests.controlplane.client import request
from tests.controlplane.errors import ApiError, ControlPlaneError
from tests.controlplane.plane import ControlPlane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.binaries import Binaries

WHO_AM_I = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

OWNER = """
import json, sys, time
from tests.controlplane.plane import ControlPlane
plane = ControlPlane.start()
print(json.dumps({"directory": str(plane.directory), "pids": list(plane.pids.values())}), flush=True)
time.sleep(600)
"""


def ask(kubeconfig: Path, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
    """One request as whoever the kubeconfig makes its bearer."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-key-data" in user:
        pair = kubeconfig.with_suffix(".pem")
        pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
        context.load_cert_chain(pair)
    return request(cluster["server"], context, method, path, body, token=user.get("token"))


def who_am_i(kubeconfig: Path) -> dict[str, Any]:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user: dict[str, Any] = ask(kubeconfig, "POST", WHO_AM_I, body)["status"]["userInfo"]
    return user


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def soon(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def own_plane(controlplane_binaries: Binaries) -> Iterator[ControlPlane]:
    """A control plane that a test may break."""
    with ControlPlane.start_from(controlplane_binaries) as plane:
        yield plane


def test_it_serves_the_version_it_says(control_plane: ControlPlane) -> None:
    assert control_plane.admin_request("GET", "/version")["gitVersion"] == f"v{control_plane.version}"


def test_a_user_without_rights_is_refused_and_one_with_rights_is_not(control_plane: ControlPlane) -> None:
    jane = control_plane.kubeconfig_for_user("jane", ["controlplane-test-readers"])
    with pytest.raises(ApiError) as refused:
        ask(jane, "GET", "/api/v1/namespaces")
    assert refused.value.status == 403
    # Not the role `view`: it is put together by a controller, and there is none.
    role = {
        "metadata": {"name": "controlplane-test-readers"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}],
    }
    binding = {
        "metadata": {"name": "controlplane-test-readers"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "controlplane-test-readers",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "controlplane-test-readers"}],
    }
    control_plane.admin_request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    control_plane.admin_request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    assert soon(lambda: can(jane, "GET", "/api/v1/namespaces"))
    assert not can(jane, "DELETE", "/api/v1/namespaces/default")


def can(kubeconfig: Path, method: str, path: str) -> bool:
    try:
        ask(kubeconfig, method, path)
    except ApiError as error:
        if error.status == 403:
            return False
        raise
    return True


def test_kubeconfigs_make_their_bearers_who_they_say(control_plane: ControlPlane) -> None:
    jane = who_am_i(control_plane.kubeconfig_for_user("jane", ["readers", "writers"]))
    assert jane["username"] == "jane"
    assert {"readers", "writers", "system:authenticated"} <= set(jane["groups"])
    account = control_plane.kubeconfig_for_service_account("controlplane-test", "gardenlet")
    assert who_am_i(account)["username"] == "system:serviceaccount:controlplane-test:gardenlet"
    token = control_plane.token_for_service_account("controlplane-test", "other")
    by_token = who_am_i(control_plane.kubeconfig_with(token=token))
    assert by_token["username"] == "system:serviceaccount:controlplane-test:other"
    assert who_am_i(control_plane.admin_kubeconfig)["username"] == "admin"


def test_nobody_comes_in_without_credentials(control_plane: ControlPlane) -> None:
    nobody = control_plane.kubeconfig_with(token="not.a.token")  # noqa: S106 - that is the point
    with pytest.raises(ApiError) as refused:
        ask(nobody, "GET", "/readyz")
    assert refused.value.status == 401


def test_a_pod_can_be_created_without_any_controller(control_plane: ControlPlane) -> None:
    control_plane.ensure_namespace("controlplane-test", {"some": "label"})
    pod = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = control_plane.admin_request("POST", "/api/v1/namespaces/controlplane-test/pods?dryRun=All", pod)
    assert made["spec"]["securityContext"] == {}


def test_a_proxy_with_a_certificate_of_the_plane_is_trusted(control_plane: ControlPlane) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"from": "the proxy"}')

        def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002 - the base class's name
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*control_plane.issue_serving_certificate("127.0.0.1"))
    with HTTPServer(("127.0.0.1", 0), Proxy) as listener:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = threading.Thread(target=listener.handle_request)
        thread.start()
        through = control_plane.kubeconfig_with(server=f"https://127.0.0.1:{listener.server_port}")
        assert ask(through, "GET", "/readyz") == {"from": "the proxy"}
        thread.join()


def test_every_request_is_audited_once_and_a_watch_twice(control_plane: ControlPlane) -> None:
    auditor = control_plane.kubeconfig_for_user("controlplane-test-auditor", ["system:masters"])
    for _ in range(25):
        ask(auditor, "GET", "/api/v1/namespaces/default")
    watched = ask(auditor, "GET", "/api/v1/namespaces?watch=1&timeoutSeconds=1")
    assert {event["type"] for event in watched} == {"ADDED"}
    events = [
        event for event in control_plane.audit_events() if event["user"].get("username") == "controlplane-test-auditor"
    ]
    assert [event["verb"] for event in events].count("get") == 25
    assert [event["stage"] for event in events if event["verb"] == "watch"] == ["ResponseStarted", "ResponseComplete"]
    assert len(events) == 27


def ready(plane: ControlPlane) -> bool:
    try:
        plane.admin_request("GET", "/readyz")
    except ApiError:
        return False
    return True


def test_faults_to_order_keep_data_address_and_audit(own_plane: ControlPlane) -> None:
    own_plane.ensure_namespace("kept")
    address, kubeconfig = own_plane.url, own_plane.kubeconfig_for_service_account("kept", "robot")
    own_plane.stop_apiserver()
    assert own_plane.running()
    with pytest.raises(ConnectionRefusedError):
        own_plane.admin_request("GET", "/readyz")
    own_plane.start_apiserver()
    assert own_plane.url == address
    assert own_plane.admin_request("GET", "/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
    own_plane.kill_etcd()
    # The API server looks after etcd now and then only.
    assert soon(lambda: not ready(own_plane))
    own_plane.start_etcd()
    own_plane.ensure_namespace("later")
    assert who_am_i(kubeconfig)["username"] == "system:serviceaccount:kept:robot"
    own_plane.kill_apiserver()
    written = [event for event in own_plane.audit_events() if event["verb"] == "create"]
    assert {"kept", "later"} <= {event.get("objectRef", {}).get("name") for event in written}


def test_a_port_taken_meanwhile_costs_another_attempt_and_without_an_audit_log_there_are_no_events(
    controlplane_binaries: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(create_server(("127.0.0.1", 0))) as squatter:
        taken = squatter.getsockname()[1]
        ports = iter([taken, servers.free_port()])
        monkeypatch.setattr(servers, "free_port", lambda: next(ports))
        with ControlPlane.start_from(controlplane_binaries, audit=False) as plane:
            assert plane.port != taken
            assert plane.running()
            assert not (plane.directory / "audit.log").exists()
            with pytest.raises(ControlPlaneError, match="audit=False"):
                plane.audit_events()
    assert not plane.directory.exists()
    plane.stop()


def test_a_start_that_fails_tells_why_and_leaves_nothing(
    controlplane_binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ControlPlaneError, match="no-such-flag"):
        ControlPlane.start_from(controlplane_binaries, extra_flags=["--no-such-flag"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("controlplane_binaries")
def test_killed_tests_leave_no_process_and_no_directory() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = json.loads(owner.stdout.readline())
        assert len(left["pids"]) == 3
        assert not any(map(gone, left["pids"]))
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert soon(lambda: all(map(gone, left["pids"])))
        assert soon(lambda: not Path(left["directory"]).exists())


@pytest.mark.usefixtures("controlplane_binaries")
def test_run_tells_the_kubeconfig_and_ends_clean() -> None:
    argv = [sys.executable, "-m", "tests.controlplane", "run"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        export = next(line for line in run.stdout if line.strip().startswith("export KUBECONFIG="))
        kubeconfig = Path(export.strip().removeprefix("export KUBECONFIG="))
        assert who_am_i(kubeconfig)["username"] == "admin"
        pids = [child.pid for child in psutil.Process(run.pid).children(recursive=True)]
        assert len(pids) == 3
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=60) == 0
    assert all(map(gone, pids))
    assert not kubeconfig.parent.exists()
