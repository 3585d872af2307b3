"""Who comes in by a door of its own: clients at the ingress gateway, the kubelet, Prometheus, a port-forward.

They are on the map because each is a place where learners look for mTLS and do not find it, by design or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from labkit.cluster import Obj
from labkit.observe.objects import (
    PROXY,
    Snapshot,
    annotations_of,
    is_injected,
    labels_of,
    matches,
    name_of,
    namespace_of,
    sidecars_first,
)
from labkit.policy import compose_peer_authentication, workload_from_pod
from labkit.views.map import EdgeKind, EdgeState, MapEdge, MapNode, NodeKind

Workloads = Mapping[str, Sequence[Obj]]
Drawn = tuple[list[MapEdge], list[MapNode]]

CLIENTS, KUBELET, KUBECTL = "clients", "kubelet", "kubectl"
AGENT_PORT, HEALTH_PORT = 15020, 15021

_TLS = {  # https://istio.io/latest/docs/reference/config/networking/gateway/#ServerTLSSettings-TLSmode
    "SIMPLE": (EdgeState.TLS, "the gateway shows a certificate, the client none"),
    "MUTUAL": (EdgeState.MTLS, "both sides show a certificate"),
    "ISTIO_MUTUAL": (EdgeState.MTLS, "both sides show a certificate of the mesh"),
    "OPTIONAL_MUTUAL": (EdgeState.TLS, "the gateway shows a certificate, the client may"),
    "PASSTHROUGH": (EdgeState.TLS, "the gateway passes TLS on unopened"),
    "AUTO_PASSTHROUGH": (EdgeState.TLS, "the gateway passes TLS on unopened"),
}


def is_gateway(pod: Obj) -> bool:
    """Whether the pod's proxy stands alone, as a gateway does."""
    return {container["name"] for container in sidecars_first(pod)} == {PROXY}


def at_the_gateways(snapshot: Snapshot, workloads: Workloads) -> Drawn:
    """An edge from the clients outside to each port that a Gateway opens at a gateway's pods."""
    edges = []
    for gateway in snapshot.gateways:
        for name in _selected(gateway, workloads):
            for server in gateway.get("spec", {}).get("servers") or []:
                edges.append(_entrance(gateway, name, server))
    unique = {edge.id: edge for edge in edges}
    nodes = [MapNode("", CLIENTS, kind=NodeKind.OUTSIDE)] if unique else []
    return list(unique.values()), nodes


def _selected(gateway: Obj, workloads: Workloads) -> Iterator[str]:
    selector = gateway.get("spec", {}).get("selector") or {}
    for name, pods in workloads.items():
        if selector and matches(selector, labels_of(pods[0])):
            yield name


def _entrance(gateway: Obj, workload: str, server: Mapping[str, Any]) -> MapEdge:
    port = int((server.get("port") or {}).get("number", 0))
    mode = str((server.get("tls") or {}).get("mode", "")) if server.get("tls") else ""
    state, words = _TLS.get(mode or ("SIMPLE" if server.get("tls") else ""), (EdgeState.PLAINTEXT, "no TLS is asked"))
    if (server.get("tls") or {}).get("httpsRedirect") and not mode:
        state, words = EdgeState.PLAINTEXT, "it answers with a redirect to HTTPS"
    who = f"Gateway {namespace_of(gateway)}/{name_of(gateway)}"
    reason = f"{who} opens port {port}{f' with TLS mode {mode}' if mode else ''}: {words}."
    return MapEdge(CLIENTS, workload, port, state, reason, kind=EdgeKind.INGRESS, decided_by=who)


def routes(snapshot: Snapshot, workloads: Workloads) -> Iterator[tuple[str, str, int]]:
    """(gateway workload, namespace/service, port) for every destination that a VirtualService of a Gateway names."""
    gateways = {f"{namespace_of(one)}/{name_of(one)}": one for one in snapshot.gateways}
    for route in snapshot.virtual_services:
        namespace, spec = namespace_of(route), route.get("spec") or {}
        for reference in spec.get("gateways") or []:
            gateway = gateways.get(reference if "/" in reference else f"{namespace}/{reference}")
            if gateway is None:
                continue
            for name in _selected(gateway, workloads):
                for host, port in _destinations(spec):
                    parts = host.split(".")
                    service = snapshot.service(parts[1] if len(parts) > 1 else namespace, parts[0])
                    if service is not None:
                        number = port or int(service["spec"]["ports"][0]["port"])
                        yield name, f"{namespace_of(service)}/{name_of(service)}", number


def _destinations(spec: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for section in ("http", "tls", "tcp"):
        for rule in spec.get(section) or []:
            for target in rule.get("route") or []:
                destination = target.get("destination") or {}
                yield str(destination.get("host", "")), int((destination.get("port") or {}).get("number", 0))


def by_other_doors(snapshot: Snapshot, workloads: Workloads, forwards: Iterable[str]) -> Drawn:
    """The kubelet's probes, Prometheus' scrapes, and port-forwards."""
    edges: list[MapEdge] = []
    for name, pods in workloads.items():
        edges += _probes(snapshot, name, pods[0])
        edges += _scrapes(name, pods[0], workloads)
    edges += [_forward(one, workloads) for one in forwards if one.partition(":")[0] in workloads]
    names = {edge.client for edge in edges}
    nodes = [MapNode("", KUBELET, kind=NodeKind.SYSTEM)] if KUBELET in names else []
    nodes += [MapNode("", KUBECTL, kind=NodeKind.OUTSIDE)] if KUBECTL in names else []
    return edges, nodes


def _probes(snapshot: Snapshot, name: str, pod: Obj) -> list[MapEdge]:
    """One edge per workload: the first HTTP or TCP probe of its application."""
    for container in pod["spec"]["containers"]:
        for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
            probe = container.get(kind) or {}
            asked = probe.get("httpGet") or probe.get("tcpSocket")
            if asked and container["name"] != PROXY:
                port = _number(asked.get("port"), container)
                return [_probed(snapshot, name, pod, port, http="httpGet" in probe)]
    return []


def _probed(snapshot: Snapshot, name: str, pod: Obj, port: int, *, http: bool) -> MapEdge:
    # https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/
    state, decided_by = EdgeState.PLAINTEXT, ""
    if not is_injected(pod):
        reason = "It has no sidecar: the kubelet asks the application itself"
    elif port in (AGENT_PORT, HEALTH_PORT):
        reason = f"Injection has rewritten the probe: the kubelet asks the sidecar's agent on port {port}, in plaintext"
    else:
        policies, workload = snapshot.peer_authentications, workload_from_pod(pod)
        effective = compose_peer_authentication(policies, workload, snapshot.root_namespace)
        mode = effective.mode_for_port(port)
        reason = f"The probe is not rewritten, and the kubelet has no certificate: port {port} is {mode}"
        if mode == "STRICT" and http:
            state, decided_by = EdgeState.REFUSED, str(effective.decided_by_for_port(port))
    return MapEdge(KUBELET, name, port, state, reason, kind=EdgeKind.PROBE, decided_by=decided_by)


def _number(port: Any, container: Mapping[str, Any]) -> int:
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    named = (one for one in container.get("ports") or [] if one.get("name") == port)
    return int(next(named, {"containerPort": 0})["containerPort"])


def _scrapes(name: str, pod: Obj, workloads: Workloads) -> list[MapEdge]:
    notes = annotations_of(pod)
    if notes.get("prometheus.io/scrape") != "true":
        return []
    port = int(notes.get("prometheus.io/port") or 0)
    merged = is_injected(pod) and port == AGENT_PORT
    reason = (
        "Merged metrics are served on port 15020 in plaintext, whatever the policies say"
        if merged
        else f"Prometheus asks port {port} without a certificate of the mesh"
    )
    return [
        MapEdge(scraper, name, port, EdgeState.PLAINTEXT, reason, kind=EdgeKind.SCRAPE)
        for scraper, pods in workloads.items()
        if scraper != name and "prometheus" in (_label(pods[0], "app"), _label(pods[0], "app.kubernetes.io/name"))
    ]


def _label(pod: Obj, key: str) -> str:
    return labels_of(pod).get(key, "")


def _forward(reference: str, workloads: Workloads) -> MapEdge:
    name, _, port = reference.partition(":")
    injected = is_injected(workloads[name][0])
    reason = "A port-forward enters the pod by its loopback"
    reason += ", behind the sidecar: no policy of the mesh touches it" if injected else ""
    return MapEdge(KUBECTL, name, int(port or 0), EdgeState.PLAINTEXT, reason, kind=EdgeKind.PORT_FORWARD)
