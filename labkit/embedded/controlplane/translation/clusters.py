"""Where a pod's proxy sends: the Envoy clusters of all service ports, their endpoints and transport sockets. Pure.

Whether a service and each of its endpoints is sent mTLS is decided in `labkit.policy.client_tls`. Here it becomes
an Envoy cluster with two transport sockets, `tlsMode-istio` for endpoints whose metadata say `tlsMode: istio`, and
`tlsMode-disabled` for all others (pilot/pkg/networking/core/cluster_tls.go).

The endpoints stand in the Envoy cluster itself; in Istio they come by EDS. When endpoints change, Envoy replaces the
cluster; requests in flight are finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.inbound import BLACK_HOLE, CONNECT_TIMEOUT, same_protocol_options
from labkit.embedded.controlplane.translation.model import Endpoint, Service, ServicePort, Sidecar, Snapshot
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
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.workload import TLS_MODE_ISTIO

PASSTHROUGH = "PassthroughCluster"

SOCKET_MATCH = "envoy.transport_socket_match"
"""The metadata of an endpoint that choose among an Envoy cluster's transport sockets."""

SPEAKS_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC})


def cluster_name(service: Service, port: ServicePort, subset: str = "") -> str:
    """`outbound|<port>|<subset>|<host>`."""
    return f"outbound|{port.number}|{subset}|{service.host}"


def captured_ports(snapshot: Snapshot) -> Iterator[tuple[Service, ServicePort]]:
    """The service ports that pods reach through their proxies.

    Not the API server, which is no part of the mesh and whose clients hold its address in their environment.
    Simplified: headless services have no address to meet them at; their pods are reached directly, in plaintext.
    """
    for service in snapshot.services_in_order():
        if service.cluster_ip and service.key != ("default", "kubernetes"):
            for port in service.ports:
                yield service, port


def make_outbound_clusters(snapshot: Snapshot, sidecar: Sidecar, directory: Path) -> list[Config]:
    """The Envoy clusters of all captured service ports, and the two that every proxy has."""
    clusters = [
        make_service_cluster(snapshot, sidecar, service, port, directory) for service, port in captured_ports(snapshot)
    ]
    black_hole = {"name": BLACK_HOLE, "type": "STATIC", "connect_timeout": CONNECT_TIMEOUT}
    passthrough = {
        "name": PASSTHROUGH,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": CONNECT_TIMEOUT,
    }
    return [*clusters, black_hole, passthrough]


def make_service_cluster(
    snapshot: Snapshot, sidecar: Sidecar, service: Service, port: ServicePort, directory: Path
) -> Config:
    """The Envoy cluster `outbound|<port>||<host>`, with its transport sockets."""
    name = cluster_name(service, port)
    cluster: Config = {
        "name": name,
        "type": "STATIC",
        "load_assignment": make_endpoints(snapshot, service, port),
        "connect_timeout": CONNECT_TIMEOUT,
        # The server sees the pod's address, as it would with a network namespace per pod.
        "upstream_bind_config": {"source_address": {"address": sidecar.address, "port_value": 0}},
        "typed_extension_protocol_options": _protocol_options(port.protocol),
        "metadata": {
            "filter_metadata": {
                "istio": {
                    "default_original_port": port.number,
                    "services": [{"host": service.host, "name": service.name, "namespace": service.namespace}],
                }
            }
        },
    }
    if uses_auto_mtls(snapshot, service):
        sni = auto_sni(port.number, service.host)
        identities = endpoint_identities(snapshot, service, port)
        cluster["transport_socket_matches"] = [
            {
                "name": SOCKET_MATCH_ISTIO,
                "match": {"tlsMode": TLS_MODE_ISTIO},
                "transport_socket": tls.client_socket(snapshot.mesh, directory, sni, identities),
            },
            {"name": SOCKET_MATCH_DISABLED, "match": {}, "transport_socket": tls.raw_socket()},
        ]
    return cluster


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
    decision, _ = service_tls(snapshot.namespace_mode(service.namespace), enable_auto_mtls=snapshot.mesh.auto_mtls)
    return decision is ServiceTLS.AUTO


def endpoint_identities(snapshot: Snapshot, service: Service, port: ServicePort) -> tuple[str, ...]:
    """The SPIFFE IDs that a client accepts from this service: those of all its endpoints, ready or not."""
    endpoints = snapshot.endpoints.get(service.key, {}).get(port.name, ())
    return expected_identities((e.workload for e in endpoints if e.workload), snapshot.mesh.trust_domain)


def speaks_mtls(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """Whether clients are told `tlsMode: istio` for this endpoint."""
    workload = endpoint.workload
    if workload is None:
        return False
    mode, _ = endpoint_tls_mode(workload, endpoint.port, snapshot.effective_mtls(workload))
    return mode == TLS_MODE_ISTIO


def make_endpoints(snapshot: Snapshot, service: Service, port: ServicePort) -> Config:
    """The ClusterLoadAssignment of a service port: its ready endpoints. The same for every client."""
    known = snapshot.endpoints.get(service.key, {}).get(port.name, ())
    ready = [_lb_endpoint(snapshot, endpoint) for endpoint in known if endpoint.ready]
    return {
        "cluster_name": cluster_name(service, port),
        "endpoints": [{"lb_endpoints": ready}] if ready else [],
    }


def _lb_endpoint(snapshot: Snapshot, endpoint: Endpoint) -> Config:
    result = lb_endpoint(endpoint.address, addresses.listen_port(endpoint.port))
    metadata: Config = {}
    if endpoint.workload:
        metadata["istio"] = {"workload": f"{endpoint.workload.name};{endpoint.workload.namespace}"}
    if speaks_mtls(snapshot, endpoint):
        metadata[SOCKET_MATCH] = {"tlsMode": TLS_MODE_ISTIO}
    if metadata:
        result["metadata"] = {"filter_metadata": metadata}
    return result


def tls_modes(snapshot: Snapshot) -> dict[tuple[str, str], bool]:
    """Which endpoints are to be reached by mTLS, by Envoy cluster and address."""
    return {
        (cluster_name(service, port), endpoint.address): uses_auto_mtls(snapshot, service)
        and speaks_mtls(snapshot, endpoint)
        for service, port in captured_ports(snapshot)
        for endpoint in snapshot.endpoints.get(service.key, {}).get(port.name, ())
    }
