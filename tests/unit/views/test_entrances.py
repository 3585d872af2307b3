"""Who comes in by a door of its own, and who is unknown to the metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labkit.observe.objects import Snapshot
from labkit.views.map import Counts, EdgeKind, EdgeState, MapEdge, NodeKind
from labkit.views.model import UNKNOWN_CLIENT, make_map
from tests.unit.observe.builders import Obj, peer_authentication, pod
from tests.unit.views.test_model import chat

BACKEND = "azureopenai/chatbackend"


def gateway_pod() -> Obj:
    found = pod("gateway-abc-1", "azureopenai", labels={"istio": "ingressgateway"}, injected=True, owner="gateway-abc")
    found["spec"]["containers"] = [{"name": "istio-proxy"}]
    return found


def gateway(**tls: Any) -> Obj:
    server = {"port": {"number": 443, "name": "https"}, "hosts": ["*"], **({"tls": tls} if tls else {})}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    return {"metadata": {"name": "door", "namespace": "azureopenai"}, "spec": spec}


def at_the_door(**tls: Any) -> Snapshot:
    route = {"route": [{"destination": {"host": "chatbackend-service", "port": {"number": 5000}}}]}
    spec = {"gateways": ["door"], "hosts": ["*"], "http": [route]}
    virtual = {"metadata": {"name": "chat", "namespace": "azureopenai"}, "spec": spec}
    snapshot = chat()
    return replace(
        snapshot, pods=(*snapshot.pods, gateway_pod()), gateways=(gateway(**tls),), virtual_services=(virtual,)
    )


def ingress(snapshot: Snapshot) -> MapEdge:
    return next(edge for edge in make_map(snapshot).edges if edge.kind is EdgeKind.INGRESS)


@pytest.mark.parametrize(
    ("tls", "state"),
    [
        ({}, EdgeState.PLAINTEXT),
        ({"mode": "SIMPLE"}, EdgeState.TLS),
        ({"mode": "MUTUAL"}, EdgeState.MTLS),
        ({"mode": "OPTIONAL_MUTUAL"}, EdgeState.TLS),
        ({"mode": "PASSTHROUGH"}, EdgeState.TLS),
        ({"httpsRedirect": True}, EdgeState.PLAINTEXT),
    ],
)
def test_the_door_shows_what_the_gateway_asks_for(tls: dict[str, Any], state: EdgeState) -> None:
    edge = ingress(at_the_door(**tls))
    assert (edge.client, edge.server, edge.state) == ("clients", "azureopenai/gateway", state)
    assert edge.decided_by == "Gateway azureopenai/door"


def test_a_gateway_leads_to_what_its_routes_name() -> None:
    model = make_map(at_the_door(mode="MUTUAL"))
    kinds = {node.id: node.kind for node in model.nodes}
    assert kinds["azureopenai/gateway"] is NodeKind.GATEWAY and kinds["clients"] is NodeKind.OUTSIDE
    assert any((edge.client, edge.server) == ("azureopenai/gateway", BACKEND) for edge in model.edges)


def test_without_a_gateway_nobody_stands_outside() -> None:
    assert {node.kind for node in make_map(chat()).nodes} == {NodeKind.WORKLOAD}


def probed(port: int, *policies: Obj, injected: bool = True) -> MapEdge:
    snapshot = chat(*policies, injected=injected)
    for one in snapshot.pods:
        one["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": port}}
    edges = make_map(snapshot, special=True).edges
    return next(edge for edge in edges if edge.kind is EdgeKind.PROBE and edge.server == BACKEND)


def test_a_rewritten_probe_is_plaintext_whatever_the_mode() -> None:
    edge = probed(15020, peer_authentication("STRICT"))
    assert edge.state is EdgeState.PLAINTEXT and "rewritten" in edge.reason


def test_a_probe_that_is_not_rewritten_is_refused_under_strict_alone() -> None:
    refused = probed(5000, peer_authentication("STRICT"))
    assert refused.state is EdgeState.REFUSED and "azureopenai/default" in refused.decided_by
    assert probed(5000).state is EdgeState.PLAINTEXT
    assert probed(5000, peer_authentication("STRICT"), injected=False).state is EdgeState.PLAINTEXT


def test_special_edges_are_drawn_when_they_are_asked_for() -> None:
    assert all(edge.kind is EdgeKind.CALL for edge in make_map(chat()).edges)


def test_prometheus_scrapes_what_is_annotated() -> None:
    snapshot = chat()
    scraper = pod("prometheus-abc-1", "default", labels={"app": "prometheus"}, owner="prometheus-abc")
    for one in snapshot.pods:
        one["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020"}
    edges = make_map(replace(snapshot, pods=(*snapshot.pods, scraper)), special=True).edges
    scrapes = [edge for edge in edges if edge.kind is EdgeKind.SCRAPE]
    assert {edge.client for edge in scrapes} == {"default/prometheus"}
    assert any("15020 in plaintext, whatever the policies say" in edge.reason for edge in scrapes)


def test_a_port_forward_passes_the_sidecar_by() -> None:
    model = make_map(chat(peer_authentication("STRICT")), special=True, forwards=[f"{BACKEND}:5000", "foo/gone:1"])
    (forward,) = [edge for edge in model.edges if edge.kind is EdgeKind.PORT_FORWARD]
    assert (forward.client, forward.state) == ("kubectl", EdgeState.PLAINTEXT)
    assert "no policy of the mesh touches it" in forward.reason


COUNTED = {(UNKNOWN_CLIENT, BACKEND): Counts(plaintext=7, window=10)}


def test_an_unknown_source_is_the_client_that_labkit_knows() -> None:
    model = make_map(chat(), counted=COUNTED)
    (edge,) = [edge for edge in model.edges if edge.client == "default/curl-outside"]
    assert edge.counts.plaintext == 7
    assert "the only client without a sidecar" in edge.resolved
    assert all(edge.client != UNKNOWN_CLIENT for edge in model.edges)


def test_an_unknown_source_stays_unknown_when_the_metrics_are_asked_for() -> None:
    model = make_map(chat(), counted=COUNTED, resolve=False)
    (edge,) = [edge for edge in model.edges if edge.client == UNKNOWN_CLIENT]
    assert edge.state is EdgeState.PLAINTEXT and "cannot name it" in edge.reason
    assert any(node.kind is NodeKind.UNKNOWN for node in model.nodes)


def test_each_workload_behind_a_service_has_an_edge_of_its_own() -> None:
    snapshot = chat()
    second = pod("chatbackend-v2-1", injected=False, owner="chatbackend-v2-abc", labels={"app": "chatbackend"})
    model = make_map(replace(snapshot, pods=(*snapshot.pods, second)))
    servers = {e.server: e.state for e in model.edges if e.client == "azureopenai/chatfrontend"}
    assert servers == {BACKEND: EdgeState.MTLS, "azureopenai/chatbackend-v2": EdgeState.PLAINTEXT}


def test_what_was_counted_and_nowhere_declared_is_an_edge() -> None:
    counted = {("azureopenai/chatbackend", "azureopenai/chatfrontend"): Counts(mtls=1, window=10)}
    snapshot = chat()
    from tests.unit.observe.builders import service

    front = service("chatfrontend-service", app="chatfrontend")
    model = make_map(replace(snapshot, services=(*snapshot.services, front)), counted=counted)
    assert any((e.client, e.server) == (BACKEND, "azureopenai/chatfrontend") for e in model.edges)
