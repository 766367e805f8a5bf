"""One running control plane as tests see it: identities and kubeconfigs, requests as admin, the audit log."""

from __future__ import annotations

import itertools
import re
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from tests.controlplane import audit as audit_log
from tests.controlplane import binaries, kubeconfig, pki
from tests.controlplane.errors import ApiError, ControlPlaneError
from tests.controlplane.servers import Servers
from tests.controlplane.versions import wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.controlplane.progress import Display

_POLL_SECONDS = 0.02
_MARK = "audit-mark"


class ControlPlane(Servers):
    """kube-apiserver and etcd of one's own on 127.0.0.1, with RBAC; a context manager.

    Nothing outlives the process that started it: a supervisor ends both and removes the directory, also after SIGKILL.
    """

    def __init__(self, found: binaries.Binaries, *, audit: bool, extra_flags: Sequence[str], controllers: bool) -> None:
        super().__init__(found, audit=audit, extra_flags=extra_flags, controllers=controllers)
        self._log = audit_log.Log(self.directory)
        self._serial = itertools.count(1)
        self.admin_kubeconfig = self.directory / "admin.kubeconfig"

    @classmethod
    def start(
        cls,
        version: str | None = None,
        *,
        audit: bool = True,
        extra_flags: Sequence[str] = (),
        show: Display | None = None,
    ) -> Self:
        """Start a control plane and wait until it is ready; `extra_flags` go to kube-apiserver.

        `version` is a release (`1.36.3`), a minor version (`1.36`), or None for SECCOMP_RECONCILER_KUBERNETES_VERSION
        or the default. The first time that may mean a download or a build of minutes. ControlPlaneError says why
        there is none.
        """
        return cls.start_from(binaries.obtain(wanted(version), show), audit=audit, extra_flags=extra_flags)

    @classmethod
    def start_from(
        cls,
        found: binaries.Binaries,
        *,
        audit: bool = True,
        extra_flags: Sequence[str] = (),
        controller_manager: Path | None = None,
    ) -> Self:
        """Start a control plane from these programs and wait until it is ready.

        With `controller_manager` that runs beside it, and pods need their ServiceAccount, as in any cluster.
        """
        plane = cls(found, audit=audit, extra_flags=extra_flags, controllers=controller_manager is not None)
        try:
            plane.boot()
            text = kubeconfig.document(server=plane.url, ca=plane.ca_pem, user="admin", client=plane._admin_pair)
            kubeconfig.write(plane.admin_kubeconfig, text)
            if controller_manager is not None:
                plane.start_controllers(controller_manager, plane.admin_kubeconfig)
        except BaseException:
            plane.stop()
            raise
        return plane

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority that signed everything here."""
        return self._authority.pem

    def kubeconfig_for_user(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig whose client certificate makes its bearer this user in these groups."""
        return self._write_kubeconfig(name, client=self._authority.issue_client(name, groups))

    def kubeconfig_for_service_account(self, namespace: str, name: str, *, seconds: int = 3600) -> Path:
        """Return a kubeconfig with a bearer token of this ServiceAccount, which is made where it is missing."""
        token = self.token_for_service_account(namespace, name, seconds=seconds)
        return self._write_kubeconfig(f"{namespace}-{name}", token=token)

    def token_for_service_account(self, namespace: str, name: str, *, seconds: int = 3600) -> str:
        """Return a token by TokenRequest (600 s at least); namespace and ServiceAccount are made where missing."""
        self.ensure_namespace(namespace)
        accounts = f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts"
        self._create_unless_present(accounts, {"metadata": {"name": name}})
        request = {"spec": {"expirationSeconds": seconds}}
        answer = self.admin_request("POST", f"{accounts}/{quote(name)}/token", request)
        return str(answer["status"]["token"])

    def kubeconfig_with(
        self, *, server: str | None = None, ca: bytes | Path | None = None, token: str | None = None
    ) -> Path:
        """Return a kubeconfig with parts replaced, such as the address of a proxy; without a token it is admin's."""
        pem = ca.read_bytes() if isinstance(ca, Path) else ca
        client = self._admin_pair if token is None else None
        return self._write_kubeconfig("with", server=server, ca=pem, client=client, token=token)

    def issue_serving_certificate(self, *names: str) -> tuple[Path, Path]:
        """Return files of a certificate and key for these DNS names or addresses, signed by this plane's authority.

        Without names it is for 127.0.0.1 and localhost.
        """
        pair = self._authority.issue_serving(names or ("127.0.0.1", "localhost"))
        return pki.write_pair(self.directory, self._unique("serving"), pair)

    def ensure_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """Make the namespace unless it is there; labels of one that is there are left alone."""
        self._create_unless_present("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})

    def audit_events(self, *, settle_seconds: float = 5.0) -> list[audit_log.Event]:
        """Return every audited event so far, in the order of writing; a watch has two, other requests one.

        Asks the API server once (left out of the answer) and waits until that is logged: what was answered before is
        then there too. The start itself makes some hundred events: compare by user, verb and requestURI.
        """
        if not self._audit:
            raise ControlPlaneError("this control plane was started with audit=False: there is no audit log")
        mark = f"/version?{_MARK}={next(self._serial)}"
        try:
            self.admin_request("GET", mark)
        except OSError:
            settle_seconds = 0.0  # stopped: nothing more will be written
        deadline = time.monotonic() + settle_seconds
        while True:
            events = self._log.read()
            if any(event["requestURI"] == mark for event in events) or time.monotonic() >= deadline:
                return [event for event in events if _MARK not in event["requestURI"]]
            time.sleep(_POLL_SECONDS)

    def _create_unless_present(self, path: str, body: dict[str, Any]) -> None:
        try:
            self.admin_request("POST", path, body)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    def _write_kubeconfig(
        self,
        name: str,
        *,
        server: str | None = None,
        ca: bytes | None = None,
        client: tuple[bytes, bytes] | None = None,
        token: str | None = None,
    ) -> Path:
        text = kubeconfig.document(
            server=server or self.url, ca=ca or self.ca_pem, user=name, client=client, token=token
        )
        return kubeconfig.write(self.directory / f"{self._unique(name)}.kubeconfig", text)

    def _unique(self, name: str) -> str:
        return f"{re.sub('[^A-Za-z0-9.-]', '-', name)}-{next(self._serial)}"
