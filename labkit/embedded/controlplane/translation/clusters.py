"""Where a pod's proxy sends: the Envoy clusters of all service ports, their endpoints and transport sockets. Pure.

Whether a service and each of its endpoints is sent mTLS is decided in `labkit.policy.client_tls`. Here it becomes
an Envoy cluster with two transport sockets, `tlsMode-istio` for endpoints whose metadata say `tlsMode: istio`, and
`tlsMode-disabled` for all others (pilot/pkg/networking/core/cluster_tls.go).

The endpoints stand in the Envoy cluster itself; in Istio they come by EDS. When endpoints change, Envoy replaces the
cluster; requests in flight are finished.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import standard_metrics, tls
from labkit.embedded.controlplane.translation.inbound import BLACK_HOLE, CONNECT_TIMEOUT, same_protocol_options
from labkit.embedded.controlplane.translation.model import Endpoint, Service, ServicePort, Sidecar, Snapshot
from labkit.embedded.controlplane.translation.traffic_policy import (
    apply_names_of_requests,
    apply_traffic_policy,
    originates,
    passes_through,
    rule_socket,
    with_proxy_protocol,
)
from labkit.embedded.envoy_messages import Config, lb_endpoint
from labkit.policy.client_tls import (
    SOCKET_MATCH_DISABLED,
    SOCKET_MATCH_ISTIO,
    ServiceTLS,
    auto_sni,
    endpoint_tls_mode,
    expected_identities,
    service_tls,
)
from labkit.policy.destination_rule import ClientTLSSettings, DestinationRule, Subset, TrafficPolicy
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.service_entry import Resolution
from labkit.policy.workload import TLS_MODE_ISTIO, labels_match

PASSTHROUGH = "PassthroughCluster"

SOCKET_MATCH = "envoy.transport_socket_match"
"""The metadata of an endpoint that choose among an Envoy cluster's transport sockets."""

SPEAKS_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC})


def cluster_name(service: Service, port: ServicePort, subset: str = "") -> str:
    """`outbound|<port>|<subset>|<host>`."""
    return f"outbound|{port.number}|{subset}|{service.host}"


def captured_ports(
    snapshot: Snapshot, namespaces: Collection[str] | None = None
) -> Iterator[tuple[Service, ServicePort]]:
    """The service ports that pods reach through their proxies.

    Not the API server, which is no part of the mesh and whose clients hold its address in their environment.
    Simplified: headless services have no address to meet them at; their pods are reached directly, in plaintext.
    """
    for service in snapshot.services_in_order():
        if namespaces is not None and service.namespace not in namespaces:
            continue
        if service.cluster_ip and service.key != ("default", "kubernetes"):
            for port in service.ports:
                yield service, port


def make_outbound_clusters(snapshot: Snapshot, sidecar: Sidecar, directory: Path) -> list[Config]:
    """The Envoy clusters of all captured service ports and their subsets, and the two that every proxy has."""
    clusters = []
    for service, port in captured_ports(snapshot):
        rule = snapshot.rule_for(sidecar.workload, service)
        clusters += [
            make_service_cluster(snapshot, sidecar, service, port, directory, rule, subset)
            for subset in (None, *(rule.subsets if rule else ()))
        ]
    black_hole = {
        "name": BLACK_HOLE,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "metadata": {"filter_metadata": {standard_metrics.SERVICE: {"name": BLACK_HOLE}}},
    }
    passthrough = {
        "name": PASSTHROUGH,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": CONNECT_TIMEOUT,
        "metadata": {"filter_metadata": {standard_metrics.SERVICE: {"name": PASSTHROUGH}}},
    }
    return [*clusters, black_hole, passthrough]


def make_service_cluster(
    snapshot: Snapshot,
    sidecar: Sidecar,
    service: Service,
    port: ServicePort,
    directory: Path,
    rule: DestinationRule | None = None,
    subset: Subset | None = None,
) -> Config:
    """The Envoy cluster `outbound|<port>|<subset>|<host>`, with its transport sockets."""
    subset_name = subset.name if subset else ""
    istio: Config = {
        "default_original_port": port.number,
        "services": [{"host": service.host, "name": service.name, "namespace": service.namespace}],
    }
    if subset_name:
        istio["subset"] = subset_name
    if rule:
        # Tools such as `istioctl x describe` read from here which rule made the cluster.
        path = f"/apis/networking.istio.io/v1/namespaces/{rule.meta.namespace}/destination-rule/{rule.meta.name}"
        istio["config"] = path
    cluster: Config = {
        "name": cluster_name(service, port, subset_name),
        "load_assignment": make_endpoints(snapshot, service, port, rule, subset),
        "connect_timeout": CONNECT_TIMEOUT,
        **_found_by(snapshot, service, port, sidecar),
        "typed_extension_protocol_options": _protocol_options(port.protocol),
        "metadata": {
            "filter_metadata": {"istio": istio, standard_metrics.SERVICE: standard_metrics.service_metadata(service)}
        },
    }
    policy = rule.traffic_policy(port.number, subset_name) if rule else TrafficPolicy()
    apply_traffic_policy(cluster, policy)
    passes = passes_through(policy) and to_address_of(sidecar, service)
    if passes:
        cluster |= {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
        del cluster["load_assignment"]
    sni = auto_sni(port.number, service.host, subset_name)
    identities = endpoint_identities(snapshot, service, port)
    if policy.tls is not None:
        settings = policy.tls
        if not settings.subject_alt_names and service.subject_alt_names and originates(settings):
            settings = replace(settings, subject_alt_names=service.subject_alt_names)
        apply_names_of_requests(cluster, settings)
        socket = rule_socket(
            snapshot.mesh,
            directory,
            settings,
            sni=sni,
            identities=identities,
            http2=port.protocol in SPEAKS_HTTP2,
            by_name=sidecar.gateway or bool(rule and rule.selector),
        )
        if socket:
            cluster["transport_socket"] = socket
    elif passes:
        if _all_answer_mtls(snapshot, service, port):
            cluster["transport_socket"] = tls.client_socket(snapshot.mesh, directory, sni, identities)
    elif uses_auto_mtls(snapshot, service):
        cluster["transport_socket_matches"] = [
            {
                "name": SOCKET_MATCH_ISTIO,
                "match": {"tlsMode": TLS_MODE_ISTIO},
                "transport_socket": tls.client_socket(snapshot.mesh, directory, sni, identities),
            },
            {"name": SOCKET_MATCH_DISABLED, "match": {}, "transport_socket": tls.raw_socket()},
        ]
    if policy.proxy_protocol is not None:
        with_proxy_protocol(cluster, policy.proxy_protocol)
    return cluster


def to_address_of(sidecar: Sidecar, service: Service) -> bool:
    """Whether the application meant an address of this service that can be called: not at a gateway, not outside."""
    return not sidecar.gateway and bool(service.cluster_ip) and not service.hostname


def _all_answer_mtls(snapshot: Snapshot, service: Service, port: ServicePort) -> bool:
    """Where no endpoint is chosen, all are sent mTLS or none."""
    known = snapshot.endpoints.get(service.key, {}).get(port.name, ())
    decision, _ = service_tls(
        snapshot.namespace_mode(service.namespace),
        enable_auto_mtls=snapshot.mesh.auto_mtls,
        mesh_external=service.mesh_external,
        original_destination=[one.workload for one in known if one.workload],
    )
    return decision is ServiceTLS.ISTIO_MUTUAL and all(one.workload for one in known)


def _found_by(snapshot: Snapshot, service: Service, port: ServicePort, sidecar: Sidecar) -> Config:
    """How Envoy finds the endpoints and from where it calls them."""
    known = [endpoint.address for endpoint in snapshot.endpoints.get(service.key, {}).get(port.name, ())]
    if any(not _is_address(address) for address in known):
        # pilot/pkg/networking/core/cluster_builder.go buildCluster
        one = service.resolution == Resolution.DNS_ROUND_ROBIN and len(known) == 1
        return {
            "type": "LOGICAL_DNS" if one else "STRICT_DNS",
            "dns_lookup_family": "V4_ONLY",
            "dns_refresh_rate": "60s",
            "respect_dns_ttl": True,
        }
    if not all(address.startswith("127.") for address in known):
        return {"type": "STATIC"}  # what leaves the machine cannot do so from a loopback address
    # The server sees the pod's address, as it would with a network namespace per pod.
    source = {"source_address": {"address": sidecar.address, "port_value": 0}}
    return {"type": "STATIC", "upstream_bind_config": source}


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def originates_tls(rule: DestinationRule | None, port: int, subset: str = "") -> bool:
    """Whether clients send TLS of another kind than the mesh's; then the ALPN of the mesh is not offered."""
    settings = rule.traffic_policy(port, subset).tls if rule else None
    return settings is not None and originates(settings)


def _protocol_options(protocol: Protocol) -> Config:
    options = same_protocol_options()
    if protocol.handled_as is Handling.HTTP:
        speaks = "http2_protocol_options" if protocol in SPEAKS_HTTP2 else "http_protocol_options"
        for option in options.values():
            del option["use_downstream_protocol_config"]
            option["explicit_http_config"] = {speaks: {}}
    return options


def uses_auto_mtls(snapshot: Snapshot, service: Service) -> bool:
    """Whether clients choose mTLS or plaintext endpoint by endpoint; else they send plaintext to all."""
    decision, _ = service_tls(
        snapshot.namespace_mode(service.namespace),
        enable_auto_mtls=snapshot.mesh.auto_mtls,
        mesh_external=service.mesh_external,
        # What goes to its original destination cannot choose endpoint by endpoint.
        original_destination=() if service.resolution == Resolution.NONE else None,
    )
    return decision is ServiceTLS.AUTO


def endpoint_identities(snapshot: Snapshot, service: Service, port: ServicePort) -> tuple[str, ...]:
    """The SPIFFE IDs that a client accepts from this service: those of all its endpoints, ready or not."""
    endpoints = snapshot.endpoints.get(service.key, {}).get(port.name, ())
    mesh = snapshot.mesh
    workloads = (endpoint.workload for endpoint in endpoints if endpoint.workload)
    known = expected_identities(workloads, mesh.trust_domain, mesh.trust_domain_aliases)
    return (*known, *service.subject_alt_names)


def speaks_mtls(snapshot: Snapshot, endpoint: Endpoint, rule_tls: ClientTLSSettings | None = None) -> bool:
    """Whether clients are told `tlsMode: istio` for this endpoint."""
    workload = endpoint.workload
    if workload is None:
        return False
    mode, _ = endpoint_tls_mode(workload, endpoint.port, snapshot.effective_mtls(workload), rule_tls)
    return mode == TLS_MODE_ISTIO


def make_endpoints(
    snapshot: Snapshot,
    service: Service,
    port: ServicePort,
    rule: DestinationRule | None = None,
    subset: Subset | None = None,
) -> Config:
    """The ClusterLoadAssignment of a service port, or of one subset: its ready endpoints."""
    known = snapshot.endpoints.get(service.key, {}).get(port.name, ())
    name = subset.name if subset else ""
    settings = rule.endpoint_tls(port.number, name) if rule else None
    ready = [
        _lb_endpoint(snapshot, endpoint, settings) for endpoint in known if endpoint.ready and _is_in(subset, endpoint)
    ]
    return {
        "cluster_name": cluster_name(service, port, name),
        "endpoints": [{"lb_endpoints": ready}] if ready else [],
    }


def _is_in(subset: Subset | None, endpoint: Endpoint) -> bool:
    if subset is None or not subset.labels:
        return True
    return endpoint.workload is not None and labels_match(subset.labels, endpoint.workload.labels)


def _lb_endpoint(snapshot: Snapshot, endpoint: Endpoint, rule_tls: ClientTLSSettings | None) -> Config:
    result = lb_endpoint(endpoint.address, addresses.wire_port(endpoint.address, endpoint.port))
    if endpoint.weight:
        result["load_balancing_weight"] = endpoint.weight
    metadata: Config = {}
    if endpoint.workload:
        metadata["istio"] = {"workload": f"{endpoint.workload.name};{endpoint.workload.namespace}"}
        metadata[standard_metrics.PEER] = standard_metrics.peer_fields(endpoint.workload)
    if speaks_mtls(snapshot, endpoint, rule_tls):
        metadata[SOCKET_MATCH] = {"tlsMode": TLS_MODE_ISTIO}
    if endpoint.renewed:
        # Nobody reads it. Envoy replaces a cluster that is not the same, and opens new connections with it.
        metadata["labkit"] = {"renewed": endpoint.renewed}
    if metadata:
        result["metadata"] = {"filter_metadata": metadata}
    return result


def marked_mtls(endpoint: Config) -> bool:
    """Whether an endpoint of an Envoy cluster is one that clients reach by mTLS."""
    return SOCKET_MATCH in endpoint.get("metadata", {}).get("filter_metadata", {})


def tls_modes(snapshot: Snapshot, namespaces: Collection[str] | None = None) -> dict[tuple[str, str], bool]:
    """Which endpoints are to be reached by mTLS, by Envoy cluster and address; in some namespaces, or in all."""
    return {
        (cluster_name(service, port), endpoint.address): uses_auto_mtls(snapshot, service)
        and speaks_mtls(snapshot, endpoint)
        for service, port in captured_ports(snapshot, namespaces)
        for endpoint in snapshot.endpoints.get(service.key, {}).get(port.name, ())
    }
