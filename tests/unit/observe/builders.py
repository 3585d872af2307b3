"""Small Kubernetes objects for tests, with only what is looked at."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


def pod(
    name: str = "chatbackend-abc-1",
    namespace: str = "azureopenai",
    *,
    labels: dict[str, str] | None = None,
    injected: bool = False,
    ready: bool = True,
    owner: str = "chatbackend-abc",
    env: dict[str, str] | None = None,
) -> Obj:
    """A pod with one application container, and a sidecar when it is injected."""
    names = ["app", "istio-proxy"] if injected else ["app"]
    labels = {"app": name.split("-")[0], "pod-template-hash": "abc", **(labels or {})}
    if injected:
        labels["security.istio.io/tlsMode"] = "istio"
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    init = {"name": "istio-init", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "name": owner}],
        },
        "spec": {
            "containers": [{"name": n, "ports": [{"containerPort": 5000}], "env": variables} for n in names],
            **({"initContainers": [{"name": "istio-init"}]} if injected else {}),
        },
        "status": {
            "phase": "Running",
            "podIP": "127.70.1.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": n, "ready": ready, "state": {"running": {}}} for n in names],
            **({"initContainerStatuses": [{**init, "ready": True}]} if injected else {}),
        },
    }


def service(name: str = "chatbackend-service", namespace: str = "azureopenai", app: str = "chatbackend") -> Obj:
    """A ClusterIP Service on port 5000."""
    ports = [{"name": "http", "port": 5000, "targetPort": 5000}]
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app}, "ports": ports, "clusterIP": "127.70.0.10"},
    }


def peer_authentication(mode: str, namespace: str = "azureopenai", name: str = "default") -> Obj:
    """A namespace-wide policy."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"mtls": {"mode": mode}},
    }


def namespace(name: str, **labels: str) -> Obj:
    """A namespace."""
    return {"metadata": {"name": name, "labels": labels}, "status": {"phase": "Active"}}


def deployment(name: str = "chatbackend", *, wanted: int = 2, **status: int) -> Obj:
    """A Deployment whose status is complete unless told otherwise."""
    full = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": wanted}
    return {
        "metadata": {"name": name, "namespace": "azureopenai", "generation": 1},
        "spec": {"replicas": wanted, "selector": {"matchLabels": {"app": name}}},
        "status": {**full, "availableReplicas": wanted, **status},
    }
