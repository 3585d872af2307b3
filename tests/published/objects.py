"""Kubernetes objects for the tables, as short as the tables are."""

from __future__ import annotations

from typing import Any

ROOT = "istio-system"


def peer_authentication(
    namespace: str,
    name: str,
    mode: str | None = None,
    *,
    labels: dict[str, str] | None = None,
    ports: dict[int | str, str | None] | None = None,
    age: int = 0,
) -> dict[str, Any]:
    """A policy; `age` orders creation: the greater, the older."""
    spec: dict[str, Any] = {}
    if mode:
        spec["mtls"] = {"mode": mode}
    if labels is not None:
        spec["selector"] = {"matchLabels": labels}
    if ports is not None:
        spec["portLevelMtls"] = {str(port): {"mode": mode} if mode else {} for port, mode in ports.items()}
    created = f"2026-01-01T00:00:{59 - age:02}Z"
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
        "spec": spec,
    }


def pod(namespace: str, name: str, *, port: int = 80, sidecar: bool = True, **labels: str) -> dict[str, Any]:
    """A running pod, with the label and the container that injection adds."""
    containers: list[dict[str, Any]] = [{"name": name, "ports": [{"containerPort": port}]}]
    labels = {"app": name, **labels}
    if sidecar:
        containers.append({"name": "istio-proxy"})
        labels["security.istio.io/tlsMode"] = "istio"
    return {
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": f"{name}-{namespace}-1", "labels": labels},
        "spec": {"serviceAccountName": name, "containers": containers},
    }


def service(
    namespace: str, name: str, port: int, target: int | str | None = None, port_name: str = "http", **extra: Any
) -> dict[str, Any]:
    """A Service that selects the pods whose label `app` is its name."""
    ports = {"name": port_name, "port": port, "targetPort": target or port, **extra}
    return {
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"app": name}, "ports": [ports]},
    }
