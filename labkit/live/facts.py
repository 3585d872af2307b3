"""What the side panel tells of an edge: asked of both proxies when somebody selects it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from labkit.cluster import Cluster
from labkit.errors import LabError, MeshError
from labkit.observe import metrics, proxy
from labkit.views.edge_panel import EdgeFacts, Party, Request
from labkit.views.map import EdgeKind, EdgeState, MapEdge

_OURS = {EdgeKind.PROBE: "the kubelet has no certificate of the mesh", EdgeKind.INGRESS: "a client from outside"}


def facts_of(cluster: Cluster, edge: MapEdge, requests: Iterable[Request] = ()) -> EdgeFacts:
    """Both certificates, TLS version and cipher, response flags. What cannot be asked is said, not raised."""
    client = _party(cluster, edge.client, edge)
    server = _party(cluster, edge.server, edge)
    return EdgeFacts(
        client,
        server,
        tls=_tls(cluster, edge)
        if edge.shown in (EdgeState.MTLS, EdgeState.MIXED, EdgeState.TLS) and client.certificate
        else (),
        requests=tuple(requests),
        flags=_flags(cluster, edge),
        commands=_commands(edge),
    )


def _party(cluster: Cluster, name: str, edge: MapEdge) -> Party:
    if "/" not in name:
        return Party(name, without=_OURS.get(edge.kind, "not in the mesh, so without a certificate of it"))
    try:
        return Party(name, proxy.certificate(cluster, name))
    except MeshError as error:
        bare = "has no sidecar" in error.what
        return Party(name, without="no sidecar, so no certificate of the mesh" if bare else error.what)
    except LabError as error:
        return Party(name, without=error.what)


def _tls(cluster: Cluster, edge: MapEdge) -> tuple[str, ...]:
    """The versions and ciphers that the client's proxy has shaken hands with, towards this Service."""
    namespace, _, service = edge.service.partition("/")
    host = f"{service}.{namespace}" if service else edge.server  # of a host outside there is its name alone
    pattern = rf"^cluster\.outbound_?.*{re.escape(host)}.*ssl\.(versions|ciphers)\."
    try:
        counters = proxy.stats(cluster, edge.client, pattern)
    except (LabError, ValueError, KeyError):
        return ()
    # TLSv1.3 and other names with dots: what follows `ssl.versions.` whole
    found = {match[1] for name, value in counters.items() if value and (match := _HANDSHAKE.search(name))}
    return tuple(sorted(found, key=lambda one: not one.startswith("TLSv")))


_HANDSHAKE = re.compile(r"ssl\.(?:versions|ciphers)\.(.+)$")


def _flags(cluster: Cluster, edge: MapEdge) -> tuple[tuple[str, int], ...]:
    """The response flags of this edge since its proxies were started, as both sides report them."""
    namespaces = sorted({name.partition("/")[0] for name in (edge.client, edge.server) if "/" in name})
    try:
        samples = metrics.scrape(cluster, namespaces, pattern="istio_requests_total").samples
    except LabError:
        return ()
    totals: dict[str, int] = {}
    for sample in samples:
        labels: Any = sample.labels
        ends = tuple(
            f"{labels.get(f'{side}_workload_namespace')}/{labels.get(f'{side}_workload')}"
            for side in ("source", "destination")
        )
        flags = str(labels.get("response_flags") or "-")
        if ends == (edge.client, edge.server) and flags != "-" and sample.value:
            totals[flags] = totals.get(flags, 0) + round(sample.value)
    return tuple(sorted(totals.items()))


def _commands(edge: MapEdge) -> tuple[str, ...]:
    lines = []
    for name in (edge.client, edge.server):
        namespace, slash, workload = name.partition("/")
        if slash:
            lines.append(f"istioctl proxy-config secret deploy/{workload} -n {namespace}")
    if edge.server and "/" in edge.server:
        namespace, _, workload = edge.server.partition("/")
        lines.append(f"istioctl x describe pod $(kubectl get pod -n {namespace} -l app={workload} -o name | head -1)")
    return tuple(lines)
