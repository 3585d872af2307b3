"""What a gateway pod opens: a listener for each port of the Gateways that select it. Pure.

1. Without a Gateway nothing listens: the connection is refused. With one, and no route for the host, the answer is 404.
2. A Gateway names the port of the pod's Service; the proxy listens on its targetPort. Without such a Service port the
   number is meant as it stands (pilot/pkg/model/gateway.go, ResolvePorts).
3. A VirtualService's host is served by the routes of the Gateways it names; several of one host are merged, the oldest
   first (pilot/pkg/networking/core/gateway.go, buildGatewayHTTPRouteConfig).
4. `httpsRedirect` answers 301 for the server's hosts, whatever routes there are.
5. A caller's X-Forwarded-Client-Cert is removed: SANITIZE_SET.
6. Servers with TLS have a chain each, chosen by SNI; their TLS is in `gateway_tls`.
7. Servers that are not HTTP are in `gateway_l4`. A port for which no chain is left is not opened.
PeerAuthentication does not touch these listeners. As a client, a gateway is a proxy like any other.
"""

from __future__ import annotations

from pathlib import Path

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import filters, gateway_l4, network_chains, order, route_policies, routes
from labkit.embedded.controlplane.translation.gateway_tls import server_context
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot, target_port
from labkit.embedded.envoy_messages import Config, socket_address
from labkit.policy.client_tls import offered_alpn
from labkit.policy.gateway import Gateway, Server, Serves, bound_hosts, gateways_for, servers_by_port
from labkit.policy.protocols import Protocol

Servers = list[tuple[Gateway, Server]]


def make_gateway_listeners(snapshot: Snapshot, proxy: Sidecar, directory: Path) -> list[Config]:
    """The listeners of a gateway pod."""
    merged = servers_by_port(gateways_for(snapshot.gateways, proxy.workload))
    listeners: dict[int, Config] = {}
    for port, servers in sorted(merged.items()):
        number = _target(snapshot, proxy, port)
        if number in listeners:
            continue
        if servers[0][1].serves is Serves.HTTP:
            chains = [{"filters": [_manager(snapshot, proxy, port, number, servers)]}]
        else:
            several = (_chains(snapshot, proxy, directory, number, one) for one in servers)
            chains = network_chains.distinct(chain for chains in several for chain in chains)
        if chains:
            listeners[number] = _listener(proxy, number, chains, inspects=bool(servers[0][1].tls_mode))
    return list(listeners.values())


def _target(snapshot: Snapshot, proxy: Sidecar, port: int) -> int:
    """Where the pod is to listen for a port of its Service."""
    for service in snapshot.services_of(proxy.workload):
        for one in service.ports:
            if one.number == port and (number := target_port(one, proxy.workload)):
                return number
    return port


def _listener(proxy: Sidecar, number: int, chains: list[Config], *, inspects: bool) -> Config:
    listener: Config = {
        "name": f"0.0.0.0_{number}",
        "address": socket_address(proxy.address, addresses.listen_port(number)),
        "traffic_direction": "OUTBOUND",
        "filter_chains": chains,
    }
    if inspects:
        listener["listener_filters"] = [filters.tls_inspector()]
    return listener


def _chains(
    snapshot: Snapshot, proxy: Sidecar, directory: Path, number: int, bound: tuple[Gateway, Server]
) -> list[Config]:
    """The chains of one server that is not plaintext HTTP."""
    gateway, server = bound
    if server.serves is not Serves.HTTPS:
        return gateway_l4.chains(snapshot, proxy, directory, gateway, server)
    return [
        {
            "filter_chain_match": network_chains.by_sni(server.sni_names),
            "filters": [_manager(snapshot, proxy, server.port, number, [bound])],
            "transport_socket": server_context(snapshot, directory, server),
        }
    ]


def _manager(snapshot: Snapshot, proxy: Sidecar, port: int, number: int, servers: Servers) -> Config:
    name = f"http.{port}"
    hosts = _virtual_hosts(snapshot, proxy, port, servers)
    asked = route_policies.route_filters(route for one in hosts for route in one.get("routes", ()))
    return filters.http_manager(
        stat_prefix=f"outbound_0.0.0.0_{number}",
        # The port in a Host header says nothing of the host that is meant.
        route_config={
            "name": name,
            "virtual_hosts": hosts,
            "ignore_port_in_host_matching": True,
            "validate_clusters": False,
        },
        http_filters=[
            *order.http_filters(snapshot, proxy, order.Side.GATEWAY),
            filters.http_alpn(*offered_alpn(Protocol.HTTP, http=True)),
            *asked,
        ],
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"subject": True, "cert": True, "dns": True, "uri": True},
        use_remote_address=True,
        server_name="istio-envoy",
    )


def _virtual_hosts(snapshot: Snapshot, proxy: Sidecar, port: int, servers: Servers) -> list[Config]:
    hosts: dict[str, Config] = {}
    for gateway, server in servers:
        for host, one in bound_hosts(gateway, server, snapshot.virtual_services, proxy.workload):
            entry = hosts.setdefault(host, {"name": f"{host}:{port}", "domains": [host], "routes": []})
            entry["routes"] += routes.make_http_routes(
                snapshot, proxy, [one], port=port, gateway=gateway.name, encrypted=bool(server.tls_mode)
            )
            if server.https_redirect:
                entry["require_tls"] = "ALL"
        if server.https_redirect:
            for name in dict.fromkeys(one.host for one in server.hosts):
                empty: Config = {"name": f"{name}:{port}", "domains": [name], "routes": []}
                hosts.setdefault(name, empty)["require_tls"] = "ALL"
    for entry in hosts.values():
        entry["routes"] = routes.catch_alls_last(entry["routes"])
    # Without any host Envoy would answer 404 as well; Istio gives it a name that can be read in a dump.
    return list(hosts.values()) or [{"name": f"blackhole:{port}", "domains": ["*"]}]
