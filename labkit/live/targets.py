"""What a prober tries on each edge of a map: the Service, and a path that its server is likely to answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from labkit.cluster import Obj
from labkit.observe.objects import PROXY, Snapshot, is_ready, labels_of, matches, namespace_of, sidecars_first
from labkit.policy.calls import resolve_call
from labkit.policy.protocols import Protocol
from labkit.views.map import EdgeKind, MapModel, NodeKind
from labkit.views.model import Call, World

_SPOKEN = (Protocol.UNDECLARED, Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)
"""Protocols of which curl's HTTP is understood, or at least told apart."""


def targets_of(model: MapModel, snapshot: Snapshot) -> Iterator[tuple[Call, str]]:
    """The calls that can be tried: of clients that are ready and have an application, on ports that speak HTTP."""
    gateways = {node.id for node in model.nodes if node.kind is NodeKind.GATEWAY}
    ready = {node.id for node in model.nodes if node.kind is NodeKind.WORKLOAD and node.not_ready < node.pods}
    for edge in model.sorted_edges():
        if edge.kind is EdgeKind.CALL and edge.service and edge.client in ready - gateways:
            path = _path(edge.service, edge.port, snapshot)
            if path:
                yield Call(edge.client, edge.service, edge.port), path


def _path(service: str, port: int, snapshot: Snapshot) -> str:
    namespace, _, name = service.partition("/")
    found = snapshot.service(namespace, name)
    call = resolve_call(name, port, namespace, [found] if found else [], [])
    if found is None or call is None or call.protocol not in _SPOKEN:
        return ""
    selector = (found.get("spec") or {}).get("selector") or {}
    pods = [pod for pod in snapshot.pods if namespace_of(pod) == namespace and matches(selector, labels_of(pod))]
    return health_path(next((pod for pod in pods if is_ready(pod)), None)) if selector else ""


def health_path(pod: Obj | None) -> str:
    """Where the pod's own readiness probe asks: a path that answers without doing anything."""
    for probe in _probes(pod or {"spec": {"containers": []}}):
        asked = probe.get("httpGet") or {}
        path = str(asked.get("path") or "")
        if path.startswith("/") and not path.startswith("/app-health/"):
            return path
    return "/"


def _probes(pod: Obj) -> Iterator[dict[str, Any]]:
    for container in sidecars_first(pod):
        if container["name"] == PROXY:  # keeps the probes that injection has rewritten
            for variable in container.get("env") or []:
                if variable.get("name") == "ISTIO_KUBE_APP_PROBERS":
                    yield from _kept(variable.get("value") or "{}")
        else:
            yield from (container[kind] for kind in ("readinessProbe", "livenessProbe") if container.get(kind))


def _kept(text: str) -> list[dict[str, Any]]:
    try:
        probes = json.loads(text)
    except ValueError:
        return []
    return [probes[name] for name in sorted(probes, reverse=True)] if isinstance(probes, dict) else []


def disagrees(snapshot: Snapshot, call: Call, seen: Any) -> bool:
    """Whether what a probe saw is not what the policies say of any server that it may have met."""
    world = World(snapshot)
    client = world.clients.get(call.client)
    if client is None:
        return False
    verdicts = [world.verdict(client, resolved) for resolved in world.behind(call.service, call.port).values()]
    return bool(verdicts) and not any(verdict.agrees_with(seen) for verdict in verdicts)
