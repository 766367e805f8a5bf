"""Pods to be created in three sizes, none of which says a seccomp profile: what a seed's API server gets to see."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]  # a Kubernetes object as JSON
_SIDECARS = 10


def minimal() -> Object:
    """Return the least that is a pod: a review of about 2 KB."""
    return _pod("minimal", [{"name": "pause", "image": "registry.example/pause:3.10"}])


def controlplane() -> Object:
    """Return a small pod of a shoot's control plane, with a probe, resources, volumes: a review of about 5 KB."""
    pod = _pod("kube-scheduler-7d9c5b6f48-x2x7k", [_container("kube-scheduler", arguments=3, variables=1, mounts=2)])
    pod["metadata"]["labels"] = {"app": "kubernetes", "role": "scheduler", "gardener.cloud/role": "controlplane"}
    pod["metadata"]["annotations"] = {"checksum/configmap-kube-scheduler-config": "8f2d3c1b" * 8}
    pod["spec"] |= {
        "priorityClassName": "system-node-critical",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532},
        "volumes": [
            {"name": "mount-0", "secret": {"secretName": "kube-scheduler-server-4f2a8c31"}},
            {"name": "mount-1", "configMap": {"name": "kube-scheduler-config-9b1d7e20"}},
        ],
    }
    return pod


def crowded() -> Object:
    """Return a pod of ten containers that say all they can: a review of about 33 KB."""
    containers = [_container(f"container-{number}", arguments=6, variables=5, mounts=4) for number in range(_SIDECARS)]
    pod = _pod("crowded-5c8f9d7b6d-p9q4z", containers)
    pod["metadata"]["labels"] = {"app": "crowded", "role": "monitoring", "gardener.cloud/role": "controlplane"}
    pod["spec"]["volumes"] = [
        {"name": f"mount-{number}", "secret": {"secretName": f"certificates-{number}-1a2b3c4d"}} for number in range(4)
    ]
    return pod


def _pod(name: str, containers: list[Object]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"automountServiceAccountToken": False, "containers": containers},
    }


def _container(name: str, *, arguments: int, variables: int, mounts: int) -> Object:
    return {
        "name": name,
        "image": f"registry.example/seed/{name}:v1.36.3",
        "command": [f"/usr/local/bin/{name}"],
        "args": [f"--{name}-option-{number}=/var/lib/{name}/value-{number}" for number in range(arguments)],
        "env": [
            {"name": f"VARIABLE_{number}", "value": f"https://{name}.garden.svc:8443/{number}"}
            for number in range(variables)
        ],
        "ports": [{"name": "metrics", "containerPort": 10259, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": 10259, "scheme": "HTTPS"},
            "initialDelaySeconds": 15,
            "timeoutSeconds": 15,
        },
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": f"mount-{number}", "mountPath": f"/var/lib/{name}/{number}", "readOnly": True}
            for number in range(mounts)
        ],
    }
