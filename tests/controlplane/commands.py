"""The command lines of etcd and kube-apiserver: small, local, everything in one directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = "https://kubernetes.default.svc.cluster.local"


def etcd_socket(directory: Path) -> str:
    """Return etcd's address: a socket in the directory needs no free port and is seen by nobody else."""
    return f"unix://{directory / 'etcd.sock'}"


def etcd(program: Path, directory: Path) -> list[str]:
    """Return etcd's command line."""
    # A lone member never dials its peer address; the name must only agree in both flags.
    peer = "http://127.0.0.1:2380"
    return [
        str(program),
        "--name=controlplane",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={etcd_socket(directory)}",
        f"--advertise-client-urls={etcd_socket(directory)}",
        f"--listen-peer-urls=unix://{directory / 'peer.sock'}",
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
) -> list[str]:
    """Return kube-apiserver's command line; `serving` is certificate and key, `signing` private and public key."""
    return [
        str(program),
        f"--etcd-servers={etcd_socket(directory)}",
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
        # No controller makes the ServiceAccount `default` here, and without it this plugin refuses every pod.
        "--disable-admission-plugins=ServiceAccount",
        "--enable-aggregator-routing=true",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    ]
