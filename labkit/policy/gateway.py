"""What Gateways mean: which pods they are for, what they open there, and which VirtualServices they let in.

https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.destination_rule import host_matches
from labkit.policy.virtual_service import VirtualService
from labkit.policy.workload import Workload, labels_match

HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})


@dataclass(frozen=True)
class ServerHost:
    """One entry of `hosts`: a name or a pattern, and whose VirtualServices may route it (`*`: everybody's)."""

    namespace: str
    host: str


@dataclass(frozen=True)
class Server:
    """One entry of `servers`. `tls_mode` is empty where there is no TLS, or where it only redirects."""

    port: int
    protocol: str
    hosts: tuple[ServerHost, ...]
    tls_mode: str = ""
    https_redirect: bool = False
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    min_version: str = ""
    max_version: str = ""

    @property
    def plain_http(self) -> bool:
        """Whether it serves HTTP without TLS."""
        return self.protocol in HTTP_PROTOCOLS


@dataclass(frozen=True)
class Gateway:
    """One parsed Gateway."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    servers: tuple[Server, ...] = ()

    @property
    def name(self) -> str:
        """As VirtualServices name it: `namespace/name`."""
        return str(self.meta)


def parse_gateway(obj: Mapping[str, Any]) -> Gateway:
    """Read a Gateway. Raises InputError when a server has no port number."""
    meta, spec = read_meta(obj, kind="Gateway"), obj.get("spec") or {}
    servers = tuple(_server(meta, one or {}) for one in spec.get("servers") or ())
    return Gateway(meta, dict(spec.get("selector") or {}), servers)


def _server(meta: Meta, written: Mapping[str, Any]) -> Server:
    port, tls = written.get("port") or {}, written.get("tls")
    number = port.get("number")
    if not isinstance(number, int) or not 0 < number < 65536:
        raise InputError(
            f"A server of the Gateway {meta} has no port number.",
            meaning="Nothing can listen without one.",
            next_step="Write 'port: {number: 80, name: http, protocol: HTTP}'.",
        )
    protocol = str(port.get("protocol") or "").upper()
    mode = "" if tls is None or protocol in HTTP_PROTOCOLS else str(tls.get("mode") or "PASSTHROUGH")
    hosts = tuple(_host(meta, str(host)) for host in written.get("hosts") or ())
    settings = tls or {}
    return Server(
        number,
        protocol,
        hosts,
        mode,
        bool(settings.get("httpsRedirect")),
        credential_name=str(settings.get("credentialName") or ""),
        subject_alt_names=tuple(settings.get("subjectAltNames") or ()),
        min_version=str(settings.get("minProtocolVersion") or ""),
        max_version=str(settings.get("maxProtocolVersion") or ""),
    )


def _host(meta: Meta, written: str) -> ServerHost:
    namespace, slash, host = written.rpartition("/")
    if not slash:
        return ServerHost("*", host)
    return ServerHost(meta.namespace if namespace == "." else namespace, host)


# pilot/pkg/model/push_context.go mergeGateways; PILOT_SCOPE_GATEWAY_TO_NAMESPACE is off by default
def gateways_for(gateways: Iterable[Gateway], workload: Workload) -> list[Gateway]:
    """The Gateways that a gateway pod serves, the oldest first: by labels alone, whatever their namespace."""
    chosen = (one for one in gateways if labels_match(one.selector, workload.labels))
    return sorted(chosen, key=lambda one: one.meta.age_order)


def servers_by_port(gateways: Iterable[Gateway]) -> dict[int, list[tuple[Gateway, Server]]]:
    """The servers of several Gateways, merged. The first one on a port decides what is spoken there.

    A later server that speaks something else on that port is left out: pilot/pkg/model/gateway.go, mergeGateways.
    """
    ports: dict[int, list[tuple[Gateway, Server]]] = {}
    for gateway in gateways:
        for server in gateway.servers:
            there = ports.setdefault(server.port, [])
            if not there or there[0][1].plain_http == server.plain_http:
                there.append((gateway, server))
    return ports


def bound_hosts(
    gateway: Gateway, server: Server, services: Iterable[VirtualService], workload: Workload
) -> Iterator[tuple[str, VirtualService]]:
    """The hosts that VirtualServices route at a server, the oldest VirtualService first.

    One counts when it names the Gateway, is exported to the gateway pod's namespace, and has a host that the server
    lets in from its namespace. Of a pattern and a name in it, the name is served.
    """
    for one in sorted(services, key=lambda one: one.meta.age_order):
        if gateway.name in one.gateways and one.visible_in(workload.namespace):
            hosts = (_common(entry, host, one.meta.namespace) for host in one.hosts for entry in server.hosts)
            for host in dict.fromkeys(host for host in hosts if host):
                yield host, one


def _common(entry: ServerHost, host: str, namespace: str) -> str:
    if entry.namespace not in ("*", namespace):
        return ""
    if host_matches(entry.host, host):
        return host
    return entry.host if host_matches(host, entry.host) else ""
