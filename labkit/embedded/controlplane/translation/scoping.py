"""What a Sidecar object leaves of the mesh for one proxy. Pure; which object counts is said in `policy.sidecar_scope`.

1. Services that `egress` does not name have no listener and no Envoy cluster of their own.
2. Routes of other namespaces than `egress` names do not count; where a route that counts leads can be reached.
3. What an application still sends to them is unknown traffic. Under ALLOW_ANY it is passed on to where it was meant
   for, in plaintext, past every rule for that service; under REGISTRY_ONLY it ends here: 502 for HTTP, a closed
   connection for everything else (pilot/pkg/networking/core/httproute.go, `block_all`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import filters
from labkit.embedded.controlplane.translation.clusters import PASSTHROUGH, captured_ports
from labkit.embedded.controlplane.translation.inbound import BLACK_HOLE
from labkit.embedded.controlplane.translation.model import Service, ServicePort, Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config, socket_address
from labkit.policy.configs import exported
from labkit.policy.inbound import ARRIVES_AS_HTTP
from labkit.policy.sidecar_scope import REGISTRY_ONLY, SidecarScope, sidecar_scope

OUTBOUND_PORT = 15001


def scope_of(snapshot: Snapshot, proxy: Sidecar) -> SidecarScope | None:
    """The Sidecar object that counts for a proxy."""
    return sidecar_scope(snapshot.sidecar_scopes, proxy.workload, snapshot.mesh.root_namespace)


def exported_to(snapshot: Snapshot, proxy: Sidecar) -> Snapshot:
    """The snapshot with those services alone that are exported to the proxy's namespace. Of several with one host that
    of the proxy's own namespace counts, then the oldest (pilot/pkg/model/sidecar.go).
    """
    if not snapshot.needs_choice:
        return snapshot
    own = proxy.workload.namespace
    chosen: dict[str, Service] = {}
    # A Service of Kubernetes keeps its name, whoever else claims it.
    for service in sorted(snapshot.services_in_order(), key=lambda one: (bool(one.hostname), one.namespace != own)):
        if exported(service.export_to, service.namespace, own):
            chosen.setdefault(service.host, service)
    return replace(snapshot, services={one.key: one for one in chosen.values()})


def seen_by(snapshot: Snapshot, proxy: Sidecar) -> Snapshot:
    """The snapshot with those services and ports alone that the proxy is told of."""
    scope = scope_of(snapshot, proxy)
    if scope is None or not scope.egress:
        return snapshot
    routes = scope.routes_seen(snapshot.virtual_services)
    configs = {**snapshot.configs, "VirtualService": routes}
    return replace(snapshot, services={one.key: one for one in _seen(scope, snapshot)}, configs=configs)


def reached_by(snapshot: Snapshot, seen: Snapshot, proxy: Sidecar) -> Snapshot:
    """What a proxy is told of, and where the routes lead that it is told of: those services have Envoy clusters, and no
    listeners. Of several with one host that of the proxy's own namespace counts.
    """
    scope = scope_of(snapshot, proxy)
    if scope is None or seen is snapshot:
        return seen
    own = proxy.workload.namespace
    services = dict(seen.services)
    for host, ports in scope.destinations(seen.virtual_services, own).items():
        same_name = [one for one in snapshot.services_in_order() if one.host == host]
        if same_name and not any(one.host == host for one in seen.services.values()):
            found = min(same_name, key=lambda one: one.namespace != own)
            kept = tuple(port for port in found.ports if ports & {0, port.number})
            if kept:
                services[found.key] = replace(found, ports=kept)
    return replace(seen, services=services)


def _seen(scope: SidecarScope, snapshot: Snapshot) -> Iterator[Service]:
    for service in snapshot.services.values():
        ports = scope.ports_seen(service.namespace, service.host, (port.number for port in service.ports))
        if len(ports) == len(service.ports):
            yield service
        elif ports:
            yield replace(service, ports=tuple(port for port in service.ports if port.number in ports))


def make_unseen_listeners(snapshot: Snapshot, known: Snapshot, seen: Snapshot, proxy: Sidecar) -> list[Config]:
    """The listeners for services that the proxy is not told of, and that its application may call all the same: those
    that its Sidecar leaves out (of all that are `known`), and Services that are not exported to its namespace.
    """
    if seen is snapshot:
        return []
    scope = scope_of(snapshot, proxy)
    blocked = ((scope.outbound_policy if scope else "") or snapshot.mesh.outbound_policy) == REGISTRY_ONLY
    told = {(service.cluster_ip, port.number) for service, port in captured_ports(seen)}
    own = {service.key for service in known.services.values()}
    return [
        _listener(snapshot, proxy, service, port, blocked=blocked)
        for service, port in captured_ports(snapshot)
        # A host outside of Kubernetes that is not exported has no address of its own that could be meant.
        if (service.cluster_ip, port.number) not in told and (service.key in own or not service.hostname)
    ]


def make_blocking_listeners(snapshot: Snapshot, proxy: Sidecar) -> list[Config]:
    """Under REGISTRY_ONLY, the listener `virtualOutbound` that refuses what the mesh does not know.

    Under ALLOW_ANY there is none: what nobody knows does not come here but goes where it is meant for.
    """
    if snapshot.mesh.outbound_policy != REGISTRY_ONLY:
        return []
    listener = {"name": "virtualOutbound", "address": socket_address(proxy.address, OUTBOUND_PORT)}
    return [{**listener, "traffic_direction": "OUTBOUND", **_refusal(snapshot)}]


def unknown_filters(snapshot: Snapshot, proxy: Sidecar, service: Service, port: ServicePort) -> list[Config]:
    """What becomes of traffic at a service's address that none of its routes takes (getFallthroughFilterChain).

    Under ALLOW_ANY it is passed on to where it was meant for. For a host outside of Kubernetes that is where its name
    leads, which here only the service's own cluster knows: then there are none.
    """
    scope = scope_of(snapshot, proxy)
    if ((scope and scope.outbound_policy) or snapshot.mesh.outbound_policy) == REGISTRY_ONLY:
        return [filters.tcp_proxy(BLACK_HOLE)]
    if service.hostname:
        return []
    wire = addresses.listen_port(port.number)
    return [filters.to_address(service.cluster_ip, wire), filters.tcp_proxy(PASSTHROUGH)]


def _listener(snapshot: Snapshot, proxy: Sidecar, service: Service, port: ServicePort, *, blocked: bool) -> Config:
    wire = addresses.listen_port(port.number)
    listener: Config = {
        "name": f"{service.cluster_ip}_{port.number}_unknown",
        "address": socket_address(addresses.captured_ip(proxy.address, service.cluster_ip), wire),
        "traffic_direction": "OUTBOUND",
    }
    if not blocked:
        on = [filters.to_address(service.cluster_ip, wire), filters.tcp_proxy(PASSTHROUGH)]
        return {**listener, "filter_chains": [{"filters": on}]}
    return {**listener, **_refusal(snapshot)}


def _refusal(snapshot: Snapshot) -> Config:
    """What a listener does that lets nothing pass: 502 for HTTP, a closed connection for everything else."""
    refuse = {
        "name": "block_all",
        "virtual_hosts": [
            {
                "name": "block_all",
                "domains": ["*"],
                "routes": [{"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}],
            }
        ],
    }
    http = filters.http_manager(stat_prefix="block_all", route_config=refuse)
    return {
        "filter_chains": [
            {"filter_chain_match": {"application_protocols": list(ARRIVES_AS_HTTP)}, "filters": [http]},
            {"filters": [filters.tcp_proxy(BLACK_HOLE)]},
        ],
        "listener_filters": [filters.http_inspector()],
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
    }
