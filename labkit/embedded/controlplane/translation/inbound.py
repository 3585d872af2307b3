"""What arrives at a pod: the listener `virtualInbound` and the clusters behind it. Pure.

The rules are those of pilot/pkg/networking/core/listener_inbound.go and filterchain_options.go of istio/istio; which
chains a port has under which mode is the table in `labkit.policy.inbound`.

1. First comes `virtualInbound-blackhole`: what connects to port 15006 itself goes nowhere.
2. A port that a Service points to has chains named `0.0.0.0_<port>`, before the cluster `inbound|<port>||`.
   Of several Services that point to one port the oldest says what it speaks.
3. Every other port falls through to the passthrough chains, which detect the protocol. They have the mode of the
   workload. A port with a mode of its own (portLevelMtls) that is in no Service gets such chains for itself.

4. A port that the pod excludes from the redirection is passed on unopened, whatever the mode: nobody asks for a
   certificate there. (In a real pod such a connection does not meet the proxy at all.)

Where this differs from a real pod. There iptables sends whatever arrives to 15006, and the listener recovers the
port that was meant. Without iptables the listener has the ports themselves as additional addresses: those of the
containers, the Services and portLevelMtls. A port that is declared nowhere is not reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import filters, order, tls
from labkit.embedded.controlplane.translation.model import Service, Sidecar, Snapshot, target_port
from labkit.embedded.envoy_messages import TYPE, Config, lb_endpoint, socket_address
from labkit.policy.inbound import (
    SERVER_ALPN_HTTP,
    SERVER_ALPN_TCP,
    FilterChainRule,
    inbound_filter_chains,
    needs_tls_inspector,
)
from labkit.policy.modes import MutualTLSMode
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.sidecar_scope import sidecar_scope

CAPTURE_PORT = 15006
VIRTUAL_INBOUND = "virtualInbound"
PASSTHROUGH = "InboundPassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"

NOT_CAPTURED = frozenset({15090, 15021, 15020})
"""Ports of the proxy itself, which istio-init leaves alone (-d 15090,15021,15020)."""

SOURCE_ADDRESS = "127.0.0.6"
"""What an application sees as its client: Istio's proxy binds to it on the way in (InboundPassthroughBindIpv4)."""

CONNECT_TIMEOUT = "10s"  # meshConfig.connectTimeout


@dataclass(frozen=True)
class InboundPort:
    """A port of the workload: what it speaks, what it accepts, and whether a Service points to it."""

    number: int
    protocol: Protocol
    mode: MutualTLSMode
    service_port: int = 0
    excluded: bool = False
    target: int = 0
    """Where the application listens, if elsewhere: `defaultEndpoint` of a Sidecar's ingress."""

    @property
    def wire(self) -> int:
        return addresses.listen_port(self.number)

    @property
    def inside(self) -> int:
        """The port on the wire inside the pod."""
        return addresses.listen_port(self.target or self.number)

    @property
    def in_service(self) -> bool:
        return self.service_port > 0


def inbound_ports(snapshot: Snapshot, sidecar: Sidecar) -> tuple[InboundPort, ...]:
    """Every port that the proxy listens on for its application, in the order of their numbers."""
    workload = sidecar.workload
    effective = snapshot.effective_mtls(workload)
    declared: dict[int, tuple[Protocol, int]] = {}
    for service in snapshot.services_of(workload):
        for number, protocol, service_port in _served(service, sidecar):
            declared.setdefault(number, (protocol, service_port))
    scope = sidecar_scope(snapshot.sidecar_scopes, workload, snapshot.mesh.root_namespace)
    ingress = {one.port: one for one in scope.ingress} if scope else {}
    if ingress:  # then the Services' ports do not count any more (pilot/pkg/networking/core/listener_inbound.go)
        declared = {number: (one.protocol, declared.get(number, (0, number))[1]) for number, one in ingress.items()}
    own = {port.number for port in workload.ports if port.protocol == "TCP"}
    numbers = (own | declared.keys() | effective.per_port.keys()) - NOT_CAPTURED - {CAPTURE_PORT}
    undeclared = (Protocol.UNDECLARED, 0)
    return tuple(
        InboundPort(
            number,
            protocol,
            effective.mode_for_port(number),
            service_port,
            number in sidecar.excluded_ports,
            ingress[number].target_port if number in ingress else 0,
        )
        for number in sorted(numbers)
        for protocol, service_port in [declared.get(number, undeclared)]
    )


def _served(service: Service, sidecar: Sidecar) -> Iterator[tuple[int, Protocol, int]]:
    for port in service.ports:
        number = target_port(port, sidecar.workload)
        if number:
            yield number, port.protocol, port.number


def make_virtual_inbound(snapshot: Snapshot, sidecar: Sidecar, directory: Path) -> Config:
    """The listener through which everything reaches the application."""
    ports = inbound_ports(snapshot, sidecar)
    effective = snapshot.effective_mtls(sidecar.workload)
    chains = _Chains(snapshot, sidecar, directory)
    filter_chains = [chains.black_hole()]
    for port in ports:
        if port.excluded:
            filter_chains.append(chains.unopened(port))
        elif port.in_service:
            filter_chains += chains.of_service_port(port)
        elif port.number in effective.per_port:
            filter_chains += chains.passthrough(port.mode, port)
    filter_chains += chains.passthrough(effective.mode)
    return {
        "name": VIRTUAL_INBOUND,
        "address": socket_address(sidecar.address, CAPTURE_PORT),
        "additional_addresses": [{"address": socket_address(sidecar.address, port.wire)} for port in ports],
        "traffic_direction": "INBOUND",
        "filter_chains": filter_chains,
        "listener_filters": listener_filters(ports),
        # Server-first protocols on undeclared ports wait for ever, as in Istio: protocolDetectionTimeout is 0s.
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
    }


def listener_filters(ports: Iterable[InboundPort]) -> list[Config]:
    """The inspectors, switched off on ports that must not be looked at.

    Istio switches the HTTP inspector off under STRICT as well. Here it stays as it is, so that going from
    PERMISSIVE to STRICT and back changes filter chains and nothing else: Envoy then keeps the listener, its sockets
    and all connections in the chains that did not change. It changes no result, because under STRICT no chain takes
    plaintext, HTTP or not. Going to or from DISABLE does replace the listener, as it does in Istio.
    """
    known = list(ports)
    return [
        filters.tls_inspector(
            disabled_on=[port.wire for port in known if port.excluded or not needs_tls_inspector(port.mode)]
        ),
        filters.http_inspector(
            disabled_on=[port.wire for port in known if port.excluded or port.protocol.handled_as is not Handling.AUTO]
        ),
    ]


class _Chains:
    """Builds the filter chains of one pod."""

    def __init__(self, snapshot: Snapshot, sidecar: Sidecar, directory: Path) -> None:
        self.snapshot, self.sidecar = snapshot, sidecar
        self.mesh = snapshot.mesh
        self.inside_ip = addresses.inside_ip(sidecar.address)
        self.directory = directory

    def black_hole(self) -> Config:
        return {
            "name": f"{VIRTUAL_INBOUND}-blackhole",
            "filter_chain_match": {"destination_port": CAPTURE_PORT},
            "filters": [filters.tcp_proxy(BLACK_HOLE)],
        }

    def unopened(self, port: InboundPort) -> Config:
        return {
            "name": f"excluded_{port.number}",
            "filter_chain_match": {"destination_port": port.wire},
            "filters": [filters.to_inside(self.inside_ip), filters.tcp_proxy(PASSTHROUGH)],
        }

    def of_service_port(self, port: InboundPort) -> list[Config]:
        cluster = service_cluster_name(port.number)
        name = f"0.0.0.0_{port.number}"
        http = self._http(cluster, f"inbound_{name}", port.service_port)
        tcp = self._tcp(cluster)
        return [
            self._chain(name, rule, [http] if rule.http else tcp, port)
            for rule in inbound_filter_chains(port.protocol, port.mode)
        ]

    def passthrough(self, mode: MutualTLSMode, port: InboundPort | None = None) -> list[Config]:
        """The chains of ports that no Service names; of one such port, or of all others."""
        number = port.number if port else 0
        inside = filters.to_inside(self.inside_ip)
        http = self._http(PASSTHROUGH, PASSTHROUGH, number)
        tcp = self._tcp(PASSTHROUGH)
        return [
            self._chain(
                f"{VIRTUAL_INBOUND}-catchall-http" if rule.http else VIRTUAL_INBOUND,
                rule,
                [inside, *([http] if rule.http else tcp)],
                port,
            )
            for rule in inbound_filter_chains(Protocol.UNDECLARED, mode)
        ]

    def _http(self, cluster: str, stat_prefix: str, port: int) -> Config:
        return filters.http_manager(
            stat_prefix=stat_prefix,
            route_config=filters.single_route(cluster, f"inbound|http|{port}", {"cluster": cluster, "timeout": "0s"}),
            http_filters=order.http_filters(self.snapshot, self.sidecar, order.Side.INBOUND),
            # Tells the application who called: By, Hash, Subject, URI; nothing on plaintext.
            forward_client_cert_details="APPEND_FORWARD",
            set_current_client_cert_details={"subject": True, "dns": True, "uri": True},
            server_name="istio-envoy",
        )

    def _tcp(self, cluster: str) -> list[Config]:
        return [
            *order.network_filters(self.snapshot, self.sidecar, order.Side.INBOUND),
            filters.tcp_proxy(cluster),
        ]

    def _chain(
        self, name: str, rule: FilterChainRule, network_filters: list[Config], port: InboundPort | None
    ) -> Config:
        match: Config = {"transport_protocol": rule.transport}
        if port:
            match["destination_port"] = port.wire
        if rule.alpn:
            match["application_protocols"] = list(rule.alpn)
        chain: Config = {"name": name, "filter_chain_match": match, "filters": network_filters}
        if rule.terminates:
            alpn = SERVER_ALPN_HTTP if rule.http else SERVER_ALPN_TCP
            chain["transport_socket"] = tls.server_socket(self.mesh, self.directory, alpn)
        return chain


def service_cluster_name(port: int) -> str:
    """The Envoy cluster of a container port that a Service points to."""
    return f"inbound|{port}||"


def make_inbound_clusters(snapshot: Snapshot, sidecar: Sidecar) -> list[Config]:
    """The Envoy clusters behind `virtualInbound`: one per port in a Service, and the passthrough."""
    inside_ip = addresses.inside_ip(sidecar.address)
    clusters = []
    for port in inbound_ports(snapshot, sidecar):
        if port.in_service:
            name = service_cluster_name(port.number)
            # Nobody reads it. Envoy replaces a cluster that is not the same, and opens new connections with it.
            renewed = {"metadata": {"filter_metadata": {"labkit": {"renewed": sidecar.renewed}}}}
            clusters.append(
                {
                    **_application(name),
                    **(renewed if sidecar.renewed else {}),
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": name,
                        "endpoints": [{"lb_endpoints": [lb_endpoint(inside_ip, port.inside)]}],
                    },
                }
            )
    return [*clusters, {**_application(PASSTHROUGH), "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}]


def _application(name: str) -> Config:
    return {
        "name": name,
        "connect_timeout": CONNECT_TIMEOUT,
        "upstream_bind_config": {"source_address": {"address": SOURCE_ADDRESS, "port_value": 0}},
        "typed_extension_protocol_options": same_protocol_options(),
    }


def same_protocol_options() -> Config:
    """Speak HTTP upstream as the client spoke it: HTTP/1.1 or HTTP/2."""
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
        }
    }
