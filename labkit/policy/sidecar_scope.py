"""What a Sidecar object means: which services a proxy knows, and which ports it opens for its application.

https://istio.io/latest/docs/reference/config/networking/sidecar/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.destination_rule import host_matches
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.selection import narrowest, selector_labels
from labkit.policy.virtual_service import VirtualService, destinations_for
from labkit.policy.workload import Workload

ALLOW_ANY, REGISTRY_ONLY = "ALLOW_ANY", "REGISTRY_ONLY"


@dataclass(frozen=True)
class EgressHost:
    """`namespace/host`: a namespace, `.` for the object's own, `*` for all, `~` for none; a host may begin with `*`."""

    namespace: str
    host: str

    def matches(self, own_namespace: str, service_namespace: str, host: str) -> bool:
        wanted = own_namespace if self.namespace == "." else self.namespace
        if wanted == "~" or wanted not in ("*", service_namespace):
            return False
        return self.host in ("*", host) or (self.host.startswith("*.") and host.endswith(self.host[1:]))

    def lets_in(self, own_namespace: str, route: VirtualService) -> bool:
        """Whether a VirtualService counts, by its own namespace and one of its hosts, which may be patterns."""
        wanted = own_namespace if self.namespace == "." else self.namespace
        if wanted == "~" or wanted not in ("*", route.meta.namespace):
            return False
        return any(host_matches(self.host, host) or host_matches(host, self.host) for host in route.hosts)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.host}"


@dataclass(frozen=True)
class EgressListener:
    """Services that are reached; with a `port`, only on that port of theirs."""

    hosts: tuple[EgressHost, ...]
    port: int = 0


@dataclass(frozen=True)
class IngressListener:
    """A port that the proxy opens, and where it sends what arrives: (address, port) on the pod's inside."""

    port: int
    protocol: Protocol
    target_port: int


@dataclass(frozen=True)
class SidecarScope:
    """One parsed Sidecar. `outbound_policy` is empty where the mesh's setting counts."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    egress: tuple[EgressListener, ...] = ()
    ingress: tuple[IngressListener, ...] = ()
    outbound_policy: str = ""

    def ports_seen(self, service_namespace: str, host: str, ports: Iterable[int]) -> frozenset[int]:
        """Those of a service's ports that the proxy knows. Without `egress`, all of every service."""
        known = list(ports)
        if not self.egress:
            return frozenset(known)
        own = self.meta.namespace
        found: set[int] = set()
        for listener in self.egress:
            if any(one.matches(own, service_namespace, host) for one in listener.hosts):
                found |= {port for port in known if listener.port in (0, port)}
        return frozenset(found)

    # pilot/pkg/model/sidecar.go selectVirtualServices
    def routes_seen(self, routes: Iterable[VirtualService]) -> tuple[VirtualService, ...]:
        """The VirtualServices that the proxy knows: by the namespace in which they stand, and the hosts they route."""
        if not self.egress:
            return tuple(routes)
        own, entries = self.meta.namespace, [one for listener in self.egress for one in listener.hosts]
        return tuple(route for route in routes if any(one.lets_in(own, route) for one in entries))

    # pilot/pkg/model/sidecar.go collectImportedServices
    def destinations(self, routes: Iterable[VirtualService], namespace: str) -> dict[str, frozenset[int]]:
        """What the proxy may reach beside, because routes that it knows lead there: ports by host; 0 is all of them."""
        found: dict[str, frozenset[int]] = {}
        for listener in self.egress:
            for route in routes:
                if any(one.lets_in(self.meta.namespace, route) for one in listener.hosts):
                    for host, port in destinations_for(route, namespace):
                        found[host] = found.get(host, frozenset()) | {listener.port or port}
        return found


def parse_sidecar_scope(obj: Mapping[str, Any]) -> SidecarScope:
    """Read a Sidecar. Raises InputError where a host is not `namespace/host` or an endpoint is not of this pod."""
    meta, spec = read_meta(obj, kind="Sidecar"), obj.get("spec") or {}
    return SidecarScope(
        meta=meta,
        selector=selector_labels(spec, field="workloadSelector", inner="labels"),
        egress=tuple(_egress(one, meta) for one in spec.get("egress") or ()),
        ingress=tuple(_ingress(one, meta) for one in spec.get("ingress") or ()),
        outbound_policy=str((spec.get("outboundTrafficPolicy") or {}).get("mode") or ""),
    )


def sidecar_scope(scopes: Iterable[SidecarScope], workload: Workload, root_namespace: str) -> SidecarScope | None:
    """The Sidecar that counts for a workload; those of the root namespace count where its own has none."""
    return narrowest(scopes, workload, root_namespace)


def _egress(listener: Mapping[str, Any], meta: Meta) -> EgressListener:
    hosts = []
    for written in listener.get("hosts") or ():
        namespace, slash, host = str(written).partition("/")
        if not slash or not host:
            raise InputError(
                f"Sidecar {meta} has the egress host {written!r}.",
                meaning="A host here is namespace/host.",
                next_step="Write ./* for all services of the own namespace, */* for all of the mesh.",
                field="spec.egress.hosts",
            )
        hosts.append(EgressHost(namespace, host))
    return EgressListener(tuple(hosts), int((listener.get("port") or {}).get("number") or 0))


def _ingress(listener: Mapping[str, Any], meta: Meta) -> IngressListener:
    port = listener.get("port") or {}
    number = int(port.get("number") or 0)
    endpoint = str(listener.get("defaultEndpoint") or "")
    address, _, target = endpoint.rpartition(":")
    # Without an endpoint the traffic goes on to the same port, as it does without a Sidecar.
    if endpoint and (address not in ("127.0.0.1", "0.0.0.0", "[::1]", "[::]") or not target.isdigit()):
        raise InputError(
            f"Sidecar {meta} has the defaultEndpoint {endpoint!r}.",
            meaning="Traffic can go on to a port of this pod, as 127.0.0.1:PORT or 0.0.0.0:PORT; unix sockets are not "
            "supported on the embedded cluster.",
            next_step="Name the port on which the application listens.",
            field="spec.ingress.defaultEndpoint",
        )
    declared = {"port": number, "name": port.get("name") or "", "appProtocol": str(port.get("protocol") or "").lower()}
    return IngressListener(number, protocol_of(declared), int(target or number))
