"""Servers of a gateway that are not HTTP: TCP, TLS that is left closed, and the mesh's own TLS. Pure.

1. TCP, and what is inside of TLS that the gateway opens: the first `tcp` route of the VirtualServices that name the
   Gateway and have a host of the server.
2. PASSTHROUGH: a chain for each match of their `tls` routes, by SNI. `http` routes do nothing: it stays encrypted.
3. AUTO_PASSTHROUGH: a chain for each port and subset of the mesh's services in `hosts`. Its SNI is
   `outbound_.port_.subset_.host`, its ALPN the mesh's own, and endpoints without mTLS are left out: whoever comes
   this way is asked for a certificate by the server's sidecar. Policies of the gateway are not asked.

A connection that no chain takes is closed.

pilot/pkg/networking/core/gateway.go of istio/istio, createGatewayTCPFilterChainOpts and what it calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labkit.embedded.controlplane.translation import clusters, filters, network_chains, order
from labkit.embedded.controlplane.translation.gateway_tls import server_context
from labkit.embedded.controlplane.translation.model import Service, ServicePort, Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
from labkit.policy.destination_rule import DestinationRule, Subset
from labkit.policy.gateway import Gateway, Server, Serves, bound_hosts, gateways_for
from labkit.policy.inbound import MESH_ALPN
from labkit.policy.virtual_service import VirtualService, tcp_destinations_of, tls_destinations_of


def chains(snapshot: Snapshot, proxy: Sidecar, directory: Path, gateway: Gateway, server: Server) -> list[Config]:
    """The filter chains of one server."""
    if server.serves is Serves.SERVICES:
        return list(_of_services(snapshot, proxy, server))
    routed = _routed(snapshot, proxy, gateway, server)
    before = order.network_filters(snapshot, proxy, order.Side.GATEWAY)
    if server.serves is Serves.TLS:
        found = tls_destinations_of(routed, proxy.workload, server.port, gateway.name)
        return [
            {
                "filter_chain_match": network_chains.by_sni(names),
                "filters": network_chains.bytes_to(snapshot, proxy, destinations, server.port, before),
            }
            for names, destinations in found
        ]
    destinations = tcp_destinations_of(routed, proxy.workload, server.port, gateway.name)
    if not destinations:
        return []
    chain: Config = {"filters": network_chains.bytes_to(snapshot, proxy, destinations, server.port, before)}
    if server.terminates:
        chain["filter_chain_match"] = network_chains.by_sni(server.sni_names)
        chain["transport_socket"] = server_context(snapshot, directory, server)
    return [chain]


def _routed(snapshot: Snapshot, proxy: Sidecar, gateway: Gateway, server: Server) -> list[VirtualService]:
    """The VirtualServices at a server, the oldest first."""
    bound = bound_hosts(gateway, server, snapshot.virtual_services, proxy.workload)
    return list({str(one.meta): one for _, one in bound}.values())


def _of_services(snapshot: Snapshot, proxy: Sidecar, server: Server) -> Iterator[Config]:
    for service, port, _, subset in _passed_on(snapshot, proxy, server):
        name = _dnat_name(service, port, subset)
        yield {
            "filter_chain_match": {"server_names": [name], "application_protocols": list(MESH_ALPN)},
            "filters": [filters.tcp_proxy(name)],
        }


def _passed_on(
    snapshot: Snapshot, proxy: Sidecar, server: Server
) -> Iterator[tuple[Service, ServicePort, DestinationRule | None, Subset | None]]:
    """The service ports that an AUTO_PASSTHROUGH server leads to, and their subsets."""
    for service, port in clusters.captured_ports(snapshot):
        if service.mesh_external or not server.lets_in(service.host):
            continue
        rule = snapshot.rule_for(proxy.workload, service)
        for subset in (None, *(rule.subsets if rule else ())):
            yield service, port, rule, subset


def _dnat_name(service: Service, port: ServicePort, subset: Subset | None) -> str:
    return f"outbound_.{port.number}_.{subset.name if subset else ''}_.{service.host}"


def make_dnat_clusters(snapshot: Snapshot, proxy: Sidecar, directory: Path) -> list[Config]:
    """The Envoy clusters of AUTO_PASSTHROUGH servers: only endpoints that answer mTLS, and no TLS of the gateway's."""
    found: dict[str, Config] = {}
    for gateway in gateways_for(snapshot.gateways, proxy.workload):
        for server in gateway.servers:
            if server.serves is Serves.SERVICES:
                for service, port, rule, subset in _passed_on(snapshot, proxy, server):
                    name = _dnat_name(service, port, subset)
                    if name not in found:
                        made = clusters.make_service_cluster(snapshot, proxy, service, port, directory, rule, subset)
                        found[name] = _untouched(made, name)
    return list(found.values())


def _untouched(cluster: Config, name: str) -> Config:
    kept = {key: value for key, value in cluster.items() if not key.startswith("transport_socket")}
    assignment = cluster["load_assignment"]
    secured = [
        {"lb_endpoints": [one for one in locality["lb_endpoints"] if clusters.marked_mtls(one)]}
        for locality in assignment["endpoints"]
    ]
    return {**kept, "name": name, "load_assignment": {"cluster_name": name, "endpoints": secured}}
