"""What Gateways mean: which pods they are for, what they open there, and which VirtualServices they let in.

https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.destination_rule import host_matches
from labkit.policy.virtual_service import VirtualService
from labkit.policy.workload import Workload, labels_match

HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
PASSES_ON = frozenset({"PASSTHROUGH", "AUTO_PASSTHROUGH"})
"""The modes in which the gateway leaves TLS closed, and looks at its SNI alone."""
TERMINATES = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL"})


class Serves(Enum):
    """What a gateway does with the connections of a server (pkg/config/gateway/gateway.go of istio/istio)."""

    HTTP = auto()
    """Plaintext HTTP: routes by VirtualServices' `http`."""
    HTTPS = auto()
    """Opens TLS and finds HTTP in it: `http` routes."""
    TCP = auto()
    """Bytes, with TLS opened first where the server has some: `tcp` routes."""
    TLS = auto()
    """Leaves TLS closed, and chooses by SNI: `tls` routes."""
    SERVICES = auto()
    """AUTO_PASSTHROUGH: leaves the mesh's own TLS closed; its SNI names the service port."""


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
    credential_names: tuple[str, ...] = ()
    """Secrets with a certificate each; Envoy presents the one that suits the client's SNI and algorithms."""
    ca_credential: str = ""
    """The Secret with what clients are verified by, where it is not that of the certificate."""
    certificate_files: tuple[tuple[str, str], ...] = ()
    """Certificate and key, as files."""
    ca_file: str = ""
    crl_file: str = ""
    subject_alt_names: tuple[str, ...] = ()
    spki_pins: tuple[str, ...] = ()
    hash_pins: tuple[str, ...] = ()
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()

    @property
    def serves(self) -> Serves:
        """What becomes of its connections."""
        if self.protocol in HTTP_PROTOCOLS:
            return Serves.HTTP
        if self.tls_mode in PASSES_ON:
            return Serves.TLS if self.tls_mode == "PASSTHROUGH" else Serves.SERVICES
        return Serves.HTTPS if self.protocol == "HTTPS" and self.terminates else Serves.TCP

    @property
    def terminates(self) -> bool:
        """Whether the gateway opens TLS."""
        return self.tls_mode in TERMINATES

    def lets_in(self, host: str) -> bool:
        """Whether a host is among those that it serves, whoever routes them."""
        return any(host_matches(one.host, host) for one in self.hosts)

    @property
    def sni_names(self) -> tuple[str, ...]:
        """The names that lead a TLS connection here; none where `*` takes every SNI, and a connection without."""
        names = tuple(sorted({one.host for one in self.hosts}))
        return () if "*" in names else names


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
    named = settings.get("credentialNames") or [settings.get("credentialName")]
    return Server(
        number,
        protocol,
        hosts,
        mode,
        bool(settings.get("httpsRedirect")),
        credential_names=tuple(str(one) for one in named if one),
        ca_credential=str(settings.get("caCertCredentialName") or ""),
        certificate_files=tuple(_certificate_files(settings)),
        ca_file=next((str(one["caCertificates"]) for one in _files(settings) if one.get("caCertificates")), ""),
        crl_file=str(settings.get("caCrl") or ""),
        subject_alt_names=tuple(settings.get("subjectAltNames") or ()),
        spki_pins=tuple(settings.get("verifyCertificateSpki") or ()),
        hash_pins=tuple(settings.get("verifyCertificateHash") or ()),
        min_version=str(settings.get("minProtocolVersion") or ""),
        max_version=str(settings.get("maxProtocolVersion") or ""),
        cipher_suites=tuple(str(one) for one in settings.get("cipherSuites") or ()),
    )


def _files(settings: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Where files are named: at the server itself, and in its `tlsCertificates`."""
    return (settings, *(settings.get("tlsCertificates") or ()))


def _certificate_files(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in _files(settings):
        if one.get("serverCertificate") and one.get("privateKey"):
            yield str(one["serverCertificate"]), str(one["privateKey"])


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
    """The servers of several Gateways, merged as in pilot/pkg/model/gateway.go, mergeGateways.

    1. The first one on a port decides what is spoken there; a later one that speaks something else is left out.
    2. Servers of HTTP share a port, and so do those with TLS, which SNI tells apart. One of TCP has its port alone.
    3. Of two servers with TLS and a host in common on one port the second is left out whole.
    """
    ports: dict[int, list[tuple[Gateway, Server]]] = {}
    names: dict[int, set[str]] = {}
    for gateway in gateways:
        for server in gateway.servers:
            there = ports.setdefault(server.port, [])
            if there and not _share(there[0][1], server):
                continue
            hosts = {one.host for one in server.hosts} if server.tls_mode else set()
            taken = names.setdefault(server.port, set())
            if not hosts & taken:
                taken |= hosts
                there.append((gateway, server))
    return {port: servers for port, servers in ports.items() if servers}


def _share(first: Server, second: Server) -> bool:
    if first.serves is Serves.HTTP or second.serves is Serves.HTTP:
        return first.serves is second.serves
    return bool(first.tls_mode and second.tls_mode)


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
