"""The command lines of a control plane's programs: small, local, everything in one directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = "https://kubernetes.default.svc.cluster.local"


# A socket needs no free port. Its name is relative to the directory, in which every program starts: the system allows
# 108 characters, and a folder for temporary files may be longer.
ETCD_SOCKET = "unix://etcd.sock"
PEER_SOCKET = "unix://peer.sock"


def etcd(program: Path, directory: Path) -> list[str]:
    """Return etcd's command line."""
    # A lone member never dials its peer address; the name must only agree in both flags.
    peer = "http://127.0.0.1:2380"
    return [
        str(program),
        "--name=controlplane",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={ETCD_SOCKET}",
        f"--advertise-client-urls={ETCD_SOCKET}",
        f"--listen-peer-urls={PEER_SOCKET}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=controlplane={peer}",
        "--unsafe-no-fsync",
        "--snapshot-count=10000",
        "--log-level=warn",
    ]


def kube_apiserver(
    program: Path,
    directory: Path,
    *,
    port: int,
    ca_file: Path,
    serving: tuple[Path, Path],
    signing: tuple[Path, Path],
    controllers: bool,
) -> list[str]:
    """Return kube-apiserver's command line; `serving` is certificate and key, `signing` private and public key."""
    # Where no controller makes the ServiceAccount `default`, this plugin refuses every pod.
    without = [] if controllers else ["--disable-admission-plugins=ServiceAccount"]
    return [
        str(program),
        f"--etcd-servers={ETCD_SOCKET}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        # Nobody reaches it through the Service `kubernetes`, and a machine without a network has no other address.
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={directory}",
        f"--tls-cert-file={serving[0]}",
        f"--tls-private-key-file={serving[1]}",
        f"--client-ca-file={ca_file}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-signing-key-file={signing[0]}",
        f"--service-account-key-file={signing[1]}",
        "--authorization-mode=RBAC",
        "--anonymous-auth=false",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--allow-privileged=true",
        *without,
        "--enable-aggregator-routing=true",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    ]


# What makes pods of workloads, tells which of them answer a Service, and takes away what nobody owns any more.
CONTROLLERS = (
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
)


def kube_controller_manager(program: Path, *, kubeconfig: Path, ca_file: Path) -> list[str]:
    """Return kube-controller-manager's command line; it listens nowhere."""
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--root-ca-file={ca_file}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]
