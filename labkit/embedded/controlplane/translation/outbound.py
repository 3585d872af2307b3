"""What a pod sends: one listener per port of each Service. Pure. The Envoy clusters behind them are in `clusters`.

Where this differs from a real pod. There iptables sends whatever leaves to port 15001, and a listener of a port
serves all HTTP services by their Host header. Here an application meets a service at an address of its own row
(see `labkit.embedded.addresses`), so every listener knows its service. What connects to a pod's address goes there
directly and in plaintext: that is what Istio's PassthroughCluster does with it, too.
"""

from __future__ import annotations

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import (
    filters,
    hashing,
    network_chains,
    order,
    route_policies,
    routes,
    scoping,
)
from labkit.embedded.controlplane.translation.clusters import SPEAKS_HTTP2, captured_ports, cluster_name, originates_tls
from labkit.embedded.controlplane.translation.model import Service, ServicePort, Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config, socket_address
from labkit.policy.client_tls import offered_alpn
from labkit.policy.inbound import ARRIVES_AS_HTTP
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.virtual_service import (
    routings_of,
    tcp_destinations_of,
    tls_destinations_of,
    virtual_service_for,
)


def make_outbound_listeners(snapshot: Snapshot, sidecar: Sidecar) -> list[Config]:
    """One listener per service port; of two on the same address the older service's is kept."""
    listeners: dict[tuple[str, int], Config] = {}
    for service, port in captured_ports(snapshot):
        address = (addresses.captured_ip(sidecar.address, service.cluster_ip), addresses.listen_port(port.number))
        if address not in listeners:
            listener = _listener(snapshot, sidecar, service, port, address)
            listeners[address] = _meant(listener, service, port) if snapshot.some_pass_through else listener
    return list(listeners.values())


def _meant(listener: Config, service: Service, port: ServicePort) -> Config:
    """Remember which address the application called, for Envoy clusters that pass on to it."""
    if service.hostname:
        return listener
    address = filters.to_address(service.cluster_ip, addresses.listen_port(port.number))

    def first(chain: Config) -> Config:
        return {**chain, "filters": [address, *chain["filters"]]}

    result = {**listener, "filter_chains": [first(one) for one in listener["filter_chains"]]}
    if "default_filter_chain" in listener:
        result["default_filter_chain"] = first(listener["default_filter_chain"])
    return result


def _listener(
    snapshot: Snapshot, sidecar: Sidecar, service: Service, port: ServicePort, address: tuple[str, int]
) -> Config:
    http1 = [_http(snapshot, sidecar, service, port, offered_alpn(port.protocol, http=True))]
    http2 = [_http(snapshot, sidecar, service, port, offered_alpn(Protocol.HTTP2, http=True))]
    listener: Config = {
        "name": f"{service.cluster_ip}_{port.number}",
        "address": socket_address(*address),
        "traffic_direction": "OUTBOUND",
    }
    handling = port.protocol.handled_as
    if handling is Handling.HTTP:
        speaks = http2 if port.protocol in SPEAKS_HTTP2 else http1
        return {**listener, "filter_chains": [{"filters": speaks}]}
    if port.protocol in (Protocol.HTTPS, Protocol.TLS):
        return {**listener, **_by_sni(snapshot, sidecar, service, port)}
    tcp = _bytes(snapshot, sidecar, service, port)
    if handling is Handling.TCP:
        return {**listener, "filter_chains": [{"filters": tcp}]}
    http1_name, http2_name = ARRIVES_AS_HTTP
    return {
        **listener,
        "filter_chains": [
            {"filter_chain_match": {"application_protocols": [http1_name]}, "filters": http1},
            {"filter_chain_match": {"application_protocols": [http2_name]}, "filters": http2},
            {"filters": tcp},
        ],
        "listener_filters": [filters.http_inspector()],
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
    }


def _http(snapshot: Snapshot, sidecar: Sidecar, service: Service, port: ServicePort, alpn: tuple[str, ...]) -> Config:
    name = f"{service.host}:{port.number}"
    rule = snapshot.rule_for(sidecar.workload, service)
    offered = [] if originates_tls(rule, port.number) else [filters.http_alpn(*alpn)]
    hashed = hashing.of_service(rule, port.number)
    route: Config = {
        "cluster": cluster_name(service, port),
        "timeout": "0s",
        "retry_policy": route_policies.retry_policy(None, stays=bool(hashed)),
    }
    if policies := hashing.hash_policies(hashed):
        route["hash_policy"] = policies
    route_config = filters.single_route(name, name, route)
    asked: list[Config] = []
    if routed := virtual_service_for(snapshot.virtual_services, sidecar.workload, service.host):
        written = routes.make_http_routes(snapshot, sidecar, [routed], port=port.number)
        # A VirtualService that says nothing of HTTP leaves it as it is.
        if routed.http:
            route_config["virtual_hosts"][0]["routes"] = written
            asked = route_policies.route_filters(written)
    return filters.http_manager(
        stat_prefix=f"outbound_{service.cluster_ip}_{port.number}",
        route_config=route_config,
        http_filters=[*order.http_filters(snapshot, sidecar, order.Side.OUTBOUND), *offered, *asked],
    )


def _bytes(snapshot: Snapshot, sidecar: Sidecar, service: Service, port: ServicePort) -> list[Config]:
    """The network filters of a port that is no HTTP."""
    routed = routings_of(snapshot.virtual_services, sidecar.workload, service.host)
    destinations = tcp_destinations_of(routed, sidecar.workload, port.number)
    before = order.network_filters(snapshot, sidecar, order.Side.OUTBOUND)
    if destinations:
        return network_chains.bytes_to(snapshot, sidecar, destinations, port.number, before)
    return [*before, _own_bytes(snapshot, sidecar, service, port)]


def _own_bytes(snapshot: Snapshot, sidecar: Sidecar, service: Service, port: ServicePort) -> Config:
    return network_chains.by_rule(filters.tcp_proxy(cluster_name(service, port)), snapshot, sidecar, service)


def _by_sni(snapshot: Snapshot, sidecar: Sidecar, service: Service, port: ServicePort) -> Config:
    """The chains of a port of TLS, and what is needed to choose among them.

    `tcp` routes do not count here. Without a route of TLS the service's own cluster is meant; with one, a name that
    none takes is unknown traffic (pilot/pkg/networking/core/tls.go buildSidecarOutboundTLSFilterChainOpts).
    """
    routed = routings_of(snapshot.virtual_services, sidecar.workload, service.host)
    found = list(tls_destinations_of(routed, sidecar.workload, port.number))
    before = order.network_filters(snapshot, sidecar, order.Side.OUTBOUND)
    own = [*before, _own_bytes(snapshot, sidecar, service, port)]
    if not found:
        return {"filter_chains": [{"filters": own}]}
    chains: list[Config] = [
        {
            "filter_chain_match": network_chains.by_sni(names),
            "filters": network_chains.bytes_to(snapshot, sidecar, destinations, port.number, before),
        }
        for names, destinations in found
    ]
    unknown = scoping.unknown_filters(snapshot, sidecar, service, port) or own
    return {
        "filter_chains": network_chains.distinct(chains),
        "default_filter_chain": {"filters": unknown},
        "listener_filters": [filters.tls_inspector()],
    }
