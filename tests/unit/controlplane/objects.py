"""Kubernetes objects for these tests, as the API would hand them out."""

from __future__ import annotations

import json
from typing import Any

from labkit.embedded.controlplane.state import State
from labkit.embedded.controlplane.translation.model import MeshConfig, Sidecar, Snapshot, read_sidecar
from labkit.policy.workload import PROXY_CONTAINER, TLS_MODE_LABEL

Object = dict[str, Any]

BLOCK = 99


def make_pod(
    name: str = "httpbin",
    namespace: str = "foo",
    *,
    row: int = 5,
    labels: dict[str, str] | None = None,
    service_account: str = "",
    ports: tuple[Any, ...] = (8080,),
    sidecar: bool = True,
    probers: Object | None = None,
) -> Object:
    """A pod with an address; with a sidecar it has what injection leaves."""
    labels = {"app": name, **(labels or {})}
    declared = [port if isinstance(port, dict) else {"containerPort": port} for port in ports]
    containers: list[Object] = [{"name": "app", "image": "chatbackend", "ports": declared}]
    if sidecar:
        labels.setdefault(TLS_MODE_LABEL, "istio")
        env = [{"name": "ISTIO_KUBE_APP_PROBERS", "value": json.dumps(probers)}] if probers else []
        containers.append({"name": PROXY_CONTAINER, "env": env})
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": service_account or name, "containers": containers},
        "status": {"podIP": f"127.{BLOCK}.{row}.1", "phase": "Running"},
    }


def make_service(
    name: str = "httpbin",
    namespace: str = "foo",
    *,
    column: int | None = 20,
    ports: tuple[Object, ...] = ({"name": "http", "port": 8000, "targetPort": 8080},),
    selector: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
) -> Object:
    """A Service; with `column` None it is headless."""
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {
            "clusterIP": f"127.{BLOCK}.0.{column}" if column else "None",
            "ports": list(ports),
            "selector": {"app": name} if selector is None else selector,
        },
    }


def make_slice(service: Object, *pods: Object, ready: bool = True) -> Object:
    """The EndpointSlice of a service whose target ports are numbers."""
    meta = service["metadata"]
    return {
        "metadata": {
            "name": f"{meta['name']}-x1",
            "namespace": meta["namespace"],
            "labels": {"kubernetes.io/service-name": meta["name"]},
        },
        "ports": [
            {"name": port.get("name", ""), "port": number}
            for port in service["spec"]["ports"]
            if isinstance(number := port.get("targetPort", port["port"]), int)
        ],
        "endpoints": [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": meta["namespace"]},
            }
            for pod in pods
        ],
    }


def make_policy(
    mode: str = "STRICT",
    namespace: str = "foo",
    name: str = "default",
    *,
    selector: dict[str, str] | None = None,
    ports: dict[int, str] | None = None,
) -> Object:
    """A PeerAuthentication."""
    spec: Object = {"mtls": {"mode": mode}}
    if selector:
        spec["selector"] = {"matchLabels": selector}
    if ports:
        spec["portLevelMtls"] = {str(port): {"mode": each} for port, each in ports.items()}
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }


def make_state(
    *pods: Object,
    services: tuple[Object, ...] = (),
    policies: tuple[Object, ...] = (),
    mesh: MeshConfig | None = None,
) -> State:
    """What istiod knows after these objects; every service has the pods that it selects as endpoints."""
    state = State(mesh or MeshConfig())
    for pod in pods:
        state.on_pod("ADDED", pod)
    for service in services:
        state.on_service("ADDED", service)
        selector = service["spec"]["selector"].items()
        chosen = [pod for pod in pods if selector <= pod["metadata"]["labels"].items()]
        state.on_slice("ADDED", make_slice(service, *chosen))
    for policy in policies:
        state.on_policy("ADDED", policy)
    return state


def make_world(
    pod: Object, *others: Object, services: tuple[Object, ...] = (), policies: tuple[Object, ...] = ()
) -> tuple[Snapshot, Sidecar]:
    """The snapshot, and the sidecar of the first pod."""
    sidecar = read_sidecar(pod)
    assert sidecar
    return make_state(pod, *others, services=services, policies=policies).snapshot(), sidecar
