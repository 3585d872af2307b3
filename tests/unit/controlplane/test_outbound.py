"""What a client's proxy is told of services and their endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.controlplane.translation.clusters import captured_ports, make_endpoints, make_outbound_clusters
from labkit.embedded.controlplane.translation.model import MeshConfig, Snapshot
from labkit.embedded.controlplane.translation.outbound import make_outbound_listeners
from tests.unit.controlplane.objects import (
    Object,
    make_pod,
    make_policy,
    make_service,
    make_slice,
    make_state,
    make_world,
)

HERE = Path("/xds/foo/sleep")
SLEEP = make_pod("sleep", row=6, ports=())


def world(*pods: Object, policies: tuple[Object, ...] = (), **service: Any) -> tuple[Snapshot, Any]:
    """The client's sidecar, with one service before `pods`."""
    return make_world(SLEEP, *pods, services=(make_service(**service),), policies=policies)


def cluster_of(snapshot: Snapshot, sidecar: Any) -> dict[str, Any]:
    return make_outbound_clusters(snapshot, sidecar, HERE)[0]


def marks(snapshot: Snapshot) -> dict[str, bool]:
    """Which endpoints of the first service port say tlsMode istio."""
    service, port = next(captured_ports(snapshot))
    assignment = make_endpoints(snapshot, service, port)
    return {
        each["endpoint"]["address"]["socket_address"]["address"]: "envoy.transport_socket_match"
        in each.get("metadata", {}).get("filter_metadata", {})
        for locality in assignment["endpoints"]
        for each in locality["lb_endpoints"]
    }


def test_a_cluster_is_named_and_addressed_as_in_istio() -> None:
    cluster = cluster_of(*world(make_pod()))
    assert cluster["name"] == "outbound|8000||httpbin.foo.svc.cluster.local"
    istio, disabled = cluster["transport_socket_matches"]
    assert (istio["name"], istio["match"]) == ("tlsMode-istio", {"tlsMode": "istio"})
    assert (disabled["name"], disabled["match"]) == ("tlsMode-disabled", {})
    assert istio["transport_socket"]["typed_config"]["sni"] == "outbound_.8000_._.httpbin.foo.svc.cluster.local"


def test_a_client_expects_the_identities_of_all_endpoints_and_no_other() -> None:
    pods = (make_pod("a", row=7, labels={"app": "httpbin"}), make_pod("b", row=8, labels={"app": "httpbin"}))
    context = cluster_of(*world(*pods))["transport_socket_matches"][0]["transport_socket"]["typed_config"]
    validation = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert [name["matcher"]["exact"] for name in validation["match_typed_subject_alt_names"]] == [
        "spiffe://cluster.local/ns/foo/sa/a",
        "spiffe://cluster.local/ns/foo/sa/b",
    ]


def test_each_endpoint_is_marked_for_itself() -> None:
    injected = make_pod("a", row=7, labels={"app": "httpbin"})
    naked = make_pod("b", row=8, labels={"app": "httpbin"}, sidecar=False)
    snapshot, _ = world(injected, naked)
    assert marks(snapshot) == {"127.99.7.1": True, "127.99.8.1": False}


@pytest.mark.parametrize(("ports", "marked"), [({8080: "DISABLE"}, False), ({9090: "DISABLE"}, True)])
def test_an_endpoint_port_that_is_disabled_gets_plaintext(ports: dict[int, str], marked: bool) -> None:
    policy = make_policy("STRICT", selector={"app": "httpbin"}, ports=ports)
    snapshot, _ = world(make_pod(), policies=(policy,))
    assert marks(snapshot) == {"127.99.5.1": marked}


def test_a_disabled_namespace_takes_mtls_from_the_cluster_even_if_a_workload_is_strict() -> None:
    policies = (make_policy("DISABLE"), make_policy("STRICT", name="one", selector={"app": "httpbin"}))
    snapshot, sidecar = world(make_pod(), policies=policies)
    assert "transport_socket_matches" not in cluster_of(snapshot, sidecar)
    assert marks(snapshot) == {"127.99.5.1": True}


def test_auto_mtls_can_be_switched_off_for_the_mesh() -> None:
    snapshot, sidecar = world(make_pod())
    off = Snapshot(MeshConfig(auto_mtls=False), snapshot.services, snapshot.endpoints, snapshot.policies)
    assert "transport_socket_matches" not in cluster_of(off, sidecar)


def test_endpoints_that_are_not_ready_get_nothing_and_count_as_identities() -> None:
    pod, service = make_pod(), make_service()
    state = make_state(pod, services=(service,))
    state.on_slice("MODIFIED", make_slice(service, pod, ready=False))
    snapshot = state.snapshot()
    assert marks(snapshot) == {}
    assert "httpbin" in str(make_outbound_clusters(snapshot, state.sidecars["foo", "httpbin"], HERE)[0])


def test_a_listener_stands_where_the_pod_sees_the_service() -> None:
    snapshot, sidecar = world(make_pod(), ports=({"name": "http", "port": 80, "targetPort": 8080},))
    (listener,) = make_outbound_listeners(snapshot, sidecar)
    assert listener["name"] == "127.99.0.20_80"
    assert listener["address"]["socket_address"] == {"address": "127.99.6.20", "port_value": 20080}


@pytest.mark.parametrize(
    ("name", "chains", "inspects"), [("http", 1, False), ("grpc", 1, False), ("tcp", 1, False), ("x", 3, True)]
)
def test_an_undeclared_port_is_looked_at_and_a_declared_one_is_not(name: str, chains: int, inspects: bool) -> None:
    snapshot, sidecar = world(make_pod(), ports=({"name": name, "port": 8000, "targetPort": 8080},))
    (listener,) = make_outbound_listeners(snapshot, sidecar)
    assert len(listener["filter_chains"]) == chains
    assert ("listener_filters" in listener) is inspects


@pytest.mark.parametrize(("name", "alpn"), [("http", "istio-http/1.1"), ("grpc", "istio-h2"), ("http2", "istio-h2")])
def test_http_announces_itself_to_the_servers_proxy(name: str, alpn: str) -> None:
    snapshot, sidecar = world(make_pod(), ports=({"name": name, "port": 8000, "targetPort": 8080},))
    (listener,) = make_outbound_listeners(snapshot, sidecar)
    assert f"{alpn}," in str(listener["filter_chains"][0]["filters"])


def test_headless_services_and_the_api_server_are_not_captured() -> None:
    kubernetes = make_service("kubernetes", "default", column=1, selector={})
    snapshot = make_state(SLEEP, services=(make_service(column=None), kubernetes)).snapshot()
    assert list(captured_ports(snapshot)) == []
