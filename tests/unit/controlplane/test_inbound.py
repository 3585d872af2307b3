"""`virtualInbound`: which ports, which chains, in front of which clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.controlplane.translation.inbound import (
    inbound_ports,
    make_inbound_clusters,
    make_virtual_inbound,
)
from labkit.embedded.controlplane.translation.model import MeshConfig, Snapshot
from labkit.policy.inbound import inbound_filter_chains
from labkit.policy.modes import MutualTLSMode
from labkit.policy.protocols import Protocol
from tests.unit.controlplane.objects import make_pod, make_policy, make_service, make_world

HERE = Path("/xds/foo/httpbin")


def chains_of(listener: dict[str, Any], port: int | None) -> list[dict[str, Any]]:
    """The chains of a port on the wire, or with None those for all other ports."""
    return [c for c in listener["filter_chains"] if c["filter_chain_match"].get("destination_port") == port]


def as_rows(chains: list[dict[str, Any]]) -> list[tuple[str, tuple[str, ...], bool, bool]]:
    """Each chain as transport, ALPN, terminates, HTTP."""
    return [
        (
            chain["filter_chain_match"]["transport_protocol"],
            tuple(chain["filter_chain_match"].get("application_protocols", ())),
            "transport_socket" in chain,
            any("http_connection_manager" in each["name"] for each in chain["filters"]),
        )
        for chain in chains
    ]


@pytest.mark.parametrize("mode", ["DISABLE", "PERMISSIVE", "STRICT"])
@pytest.mark.parametrize(
    ("name", "protocol"), [("http", Protocol.HTTP), ("tcp", Protocol.TCP), ("x", Protocol.UNDECLARED)]
)
def test_a_service_port_has_the_chains_of_the_table(mode: str, name: str, protocol: Protocol) -> None:
    service = make_service(ports=({"name": name, "port": 8000, "targetPort": 8080},))
    snapshot, sidecar = make_world(make_pod(), services=(service,), policies=(make_policy(mode),))
    listener = make_virtual_inbound(snapshot, sidecar, HERE)
    rules = inbound_filter_chains(protocol, MutualTLSMode(mode))
    assert as_rows(chains_of(listener, 8080)) == [(r.transport, r.alpn, r.terminates, r.http) for r in rules]
    assert {chain["name"] for chain in chains_of(listener, 8080)} == {"0.0.0.0_8080"}


def test_the_first_chain_swallows_what_connects_to_15006_itself() -> None:
    snapshot, sidecar = make_world(make_pod())
    first = make_virtual_inbound(snapshot, sidecar, HERE)["filter_chains"][0]
    assert first["name"] == "virtualInbound-blackhole"
    assert first["filter_chain_match"] == {"destination_port": 15006}
    assert first["filters"][0]["typed_config"]["cluster"] == "BlackHoleCluster"


def test_a_container_port_without_a_service_is_heard_and_falls_through_to_the_passthrough() -> None:
    snapshot, sidecar = make_world(make_pod(ports=(9999,)))
    listener = make_virtual_inbound(snapshot, sidecar, HERE)
    assert [a["address"]["socket_address"]["port_value"] for a in listener["additional_addresses"]] == [9999]
    assert not chains_of(listener, 9999)
    assert [chain["name"] for chain in chains_of(listener, None)] == [
        "virtualInbound-catchall-http",
        "virtualInbound-catchall-http",
        "virtualInbound",
        "virtualInbound",
        "virtualInbound",
    ]


def test_a_service_makes_an_undeclared_container_port_reachable() -> None:
    service = make_service(ports=({"name": "http", "port": 80, "targetPort": 7000},))
    snapshot, sidecar = make_world(make_pod(ports=()), services=(service,))
    assert [port.number for port in inbound_ports(snapshot, sidecar)] == [7000]


def test_a_named_target_port_is_looked_up_in_the_pod() -> None:
    service = make_service(ports=({"name": "http", "port": 80, "targetPort": "web"},))
    pod = make_pod(ports=({"containerPort": 8081, "name": "web"},))
    snapshot, sidecar = make_world(pod, services=(service,))
    assert [(p.number, p.in_service) for p in inbound_ports(snapshot, sidecar)] == [(8081, True)]


def test_a_target_port_name_that_the_pod_does_not_declare_is_left_out() -> None:
    service = make_service(ports=({"name": "http", "port": 80, "targetPort": "nowhere"},))
    snapshot, sidecar = make_world(make_pod(ports=(8080,)), services=(service,))
    assert [(p.number, p.in_service) for p in inbound_ports(snapshot, sidecar)] == [(8080, False)]


def test_low_ports_are_matched_where_they_are_on_the_wire_and_named_as_written() -> None:
    service = make_service(ports=({"name": "http", "port": 80, "targetPort": 80},))
    snapshot, sidecar = make_world(make_pod(ports=(80,)), services=(service,))
    listener = make_virtual_inbound(snapshot, sidecar, HERE)
    assert {chain["name"] for chain in chains_of(listener, 20080)} == {"0.0.0.0_80"}
    cluster = make_inbound_clusters(snapshot, sidecar)[0]
    assert cluster["name"] == "inbound|80||"
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "127.99.5.2", "port_value": 20080}


def test_port_level_mtls_of_a_service_port_changes_that_port_alone() -> None:
    service = make_service(
        ports=({"name": "a", "port": 1, "targetPort": 8080}, {"name": "b", "port": 2, "targetPort": 9090})
    )
    policy = make_policy("STRICT", selector={"app": "httpbin"}, ports={9090: "DISABLE"})
    snapshot, sidecar = make_world(make_pod(ports=(8080, 9090)), services=(service,), policies=(policy,))
    listener = make_virtual_inbound(snapshot, sidecar, HERE)
    assert {row[0] for row in as_rows(chains_of(listener, 8080))} == {"tls"}
    assert {row[0] for row in as_rows(chains_of(listener, 9090))} == {"raw_buffer"}


def test_port_level_mtls_of_a_port_in_no_service_makes_a_passthrough_of_its_own() -> None:
    policy = make_policy("STRICT", selector={"app": "httpbin"}, ports={9090: "PERMISSIVE"})
    snapshot, sidecar = make_world(make_pod(ports=(8080,)), policies=(policy,))
    listener = make_virtual_inbound(snapshot, sidecar, HERE)
    own = chains_of(listener, 9090)
    assert len(own) == 5
    assert {chain["name"] for chain in own} == {"virtualInbound", "virtualInbound-catchall-http"}
    assert {row[0] for row in as_rows(chains_of(listener, None))} == {"tls"}


def test_the_older_of_two_services_says_what_a_port_speaks() -> None:
    old = make_service("old", ports=({"name": "tcp", "port": 1, "targetPort": 8080},), selector={"app": "httpbin"})
    new = make_service(
        "a-new",
        ports=({"name": "http", "port": 1, "targetPort": 8080},),
        selector={"app": "httpbin"},
        created="2026-06-01T00:00:00Z",
        column=21,
    )
    snapshot, sidecar = make_world(make_pod(), services=(new, old))
    assert [port.protocol for port in inbound_ports(snapshot, sidecar)] == [Protocol.TCP]


def test_going_from_permissive_to_strict_changes_filter_chains_and_nothing_else() -> None:
    """Else Envoy would replace the listener, and connections with it."""
    service = make_service(ports=({"port": 8000, "targetPort": 8080},))
    listeners = []
    for mode in ("PERMISSIVE", "STRICT"):
        snapshot, sidecar = make_world(make_pod(), services=(service,), policies=(make_policy(mode),))
        listeners.append(make_virtual_inbound(snapshot, sidecar, HERE))
    permissive, strict = listeners
    assert permissive.pop("filter_chains") != strict.pop("filter_chains")
    assert permissive == strict


def test_under_disable_nobody_looks_whether_it_is_tls() -> None:
    """Twin: under STRICT the inspector is on."""
    service = make_service()
    for mode, disabled in (("DISABLE", True), ("STRICT", False)):
        snapshot, sidecar = make_world(make_pod(), services=(service,), policies=(make_policy(mode),))
        tls, _ = make_virtual_inbound(snapshot, sidecar, HERE)["listener_filters"]
        assert ("filter_disabled" in tls) is disabled


def test_terminating_chains_demand_a_certificate_of_the_mesh() -> None:
    mesh = MeshConfig(trust_domain_aliases=("old.example", "cluster.local"))
    snapshot, sidecar = make_world(make_pod(), services=(make_service(),), policies=(make_policy("STRICT"),))
    snapshot = Snapshot(mesh, snapshot.services, snapshot.endpoints, snapshot.policies)
    context = chains_of(make_virtual_inbound(snapshot, sidecar, HERE), 8080)[0]["transport_socket"]["typed_config"]
    assert context["require_client_certificate"] is True
    common = context["common_tls_context"]
    names = common["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
    assert [name["matcher"]["prefix"] for name in names] == ["spiffe://cluster.local/", "spiffe://old.example/"]
    assert common["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_2"
    assert common["alpn_protocols"] == ["h2", "http/1.1"]
    secret = common["tls_certificate_sds_secret_configs"][0]
    assert secret["name"] == "default"
    assert secret["sds_config"]["api_config_source"]["api_type"] == "REST"


def test_the_proxys_own_ports_are_not_captured() -> None:
    policy = make_policy("STRICT", selector={"app": "httpbin"}, ports={15090: "DISABLE", 15021: "STRICT"})
    snapshot, sidecar = make_world(make_pod(ports=(8080, 15020)), policies=(policy,))
    assert [port.number for port in inbound_ports(snapshot, sidecar)] == [8080]


def test_an_excluded_port_is_passed_on_unopened_and_its_neighbour_is_not() -> None:
    pod = make_pod(ports=(8080, 9090))
    pod["metadata"]["annotations"] = {"traffic.sidecar.istio.io/excludeInboundPorts": "9090, 9091"}
    snapshot, sidecar = make_world(pod, services=(make_service(),), policies=(make_policy("STRICT"),))
    listener = make_virtual_inbound(snapshot, sidecar, HERE)
    (only,) = chains_of(listener, 9090)
    assert only["filter_chain_match"] == {"destination_port": 9090}
    assert {row[0] for row in as_rows(chains_of(listener, 8080))} == {"tls"}
    for inspector in listener["listener_filters"]:
        assert "9090" in str(inspector["typed_config"]) + str(inspector.get("filter_disabled"))
