"""What VirtualServices mean: which one routes a host for a client or at a gateway, and what its routes say.

https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.policy.claims import routing_claim
from labkit.policy.configs import Meta, exported, read_meta
from labkit.policy.destination_rule import full_name, host_matches
from labkit.policy.workload import Workload, labels_match

MESH = "mesh"
"""The gateway that stands for all sidecars."""


@dataclass(frozen=True)
class StringMatch:
    """`kind` is exact, prefix, regex, or present (a header that is named without a value)."""

    kind: str
    value: str = ""

    @property
    def any_value(self) -> bool:
        """Whether it is enough that a header or parameter is there; the regex `*` means that, too."""
        # pilot/pkg/networking/core/route/route.go canBeConvertedToPresentMatch
        return self.kind == "present" or (self.kind, self.value) == ("regex", "*")


@dataclass(frozen=True)
class Destination:
    """Where a request goes; `host` is a full name, `port` 0 where it is not named."""

    host: str
    subset: str = ""
    port: int = 0


@dataclass(frozen=True)
class WeightedDestination:
    """One of several destinations. `headers` stays as it is written."""

    destination: Destination
    weight: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Who may use a route, and where: labels, namespace, gateways; a port of the host, or 0 for all."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    gateways: tuple[str, ...] = ()
    port: int = 0

    # pilot/pkg/networking/core/tls.go matchTLS, matchTCP
    def includes(self, proxy: Workload, gateway: str, port: int) -> bool:
        """Whether a proxy has this route of TCP or TLS. At a gateway, labels and namespace are the gateway's own."""
        if self.port not in (0, port) or (self.gateways and gateway not in self.gateways):
            return False
        return self._is_from(proxy)

    # pilot/pkg/networking/core/route/route.go sourceMatchHTTP
    def includes_http(self, proxy: Workload, gateway: str, port: int) -> bool:
        """The same for HTTP, where labels and namespace do not count beside `gateways`."""
        if self.port not in (0, port):
            return False
        return gateway in self.gateways if self.gateways else self._is_from(proxy)

    def _is_from(self, proxy: Workload) -> bool:
        return labels_match(self.labels, proxy.labels) and self.namespace in ("", proxy.namespace)


@dataclass(frozen=True)
class HttpMatch:
    """One entry of `match`: all that it says must hold."""

    source: Source = field(default_factory=Source)
    uri: StringMatch | None = None
    ignore_uri_case: bool = False
    headers: Mapping[str, StringMatch] = field(default_factory=dict)
    """By lower-case name; :method, :authority and :scheme among them."""
    without_headers: Mapping[str, StringMatch] = field(default_factory=dict)
    query: Mapping[str, StringMatch] = field(default_factory=dict)
    name: str = ""
    stat_prefix: str = ""

    @property
    def catches_all(self) -> bool:
        """Whether no request passes by: later routes are then never reached."""
        # pilot/pkg/networking/core/route/route.go IsCatchAllRoute
        anything = self.uri is None or (self.uri.kind, self.uri.value) in (("prefix", "/"), ("regex", ".*"))
        return anything and not self.headers and not self.without_headers and not self.query


@dataclass(frozen=True)
class HttpRoute:
    """One entry of `http`. What is a mapping stays as it is written."""

    name: str = ""
    matches: tuple[HttpMatch, ...] = (HttpMatch(),)
    destinations: tuple[WeightedDestination, ...] = ()
    redirect: Mapping[str, Any] | None = None
    direct_response: Mapping[str, Any] | None = None
    rewrite: Mapping[str, Any] | None = None
    timeout: str = ""
    retries: Mapping[str, Any] | None = None
    fault: Mapping[str, Any] | None = None
    cors: Mapping[str, Any] | None = None
    mirrors: tuple[tuple[Destination, float], ...] = ()
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class L4Route:
    """One entry of `tcp` or `tls`: each match says where it counts, and the names of SNI; those are empty for tcp."""

    matches: tuple[tuple[Source, tuple[str, ...]], ...]
    destinations: tuple[WeightedDestination, ...]

    def names_for(self, client: Workload, gateway: str, port: int) -> Iterator[tuple[str, ...]]:
        """The SNI names of each match that counts for this proxy."""
        for source, names in self.matches:
            if source.includes(client, gateway, port):
                yield names


@dataclass(frozen=True)
class VirtualService:
    """One parsed VirtualService; hosts are full names or patterns, gateways are `mesh` or `namespace/name`."""

    meta: Meta
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = (MESH,)
    export_to: frozenset[str] = frozenset()
    http: tuple[HttpRoute, ...] = ()
    tcp: tuple[L4Route, ...] = ()
    tls: tuple[L4Route, ...] = ()

    def visible_in(self, namespace: str) -> bool:
        """Whether clients of a namespace see it."""
        return exported(self.export_to, self.meta.namespace, namespace)


def parse_virtual_service(obj: Mapping[str, Any]) -> VirtualService:
    """Read a VirtualService."""
    meta, spec = read_meta(obj, kind="VirtualService"), obj.get("spec") or {}
    reader = _Reader(meta)
    return VirtualService(
        meta=meta,
        hosts=tuple(full_name(str(host), meta.namespace) for host in spec.get("hosts") or ()),
        gateways=reader.gateways(spec.get("gateways") or (MESH,)),
        export_to=frozenset(spec.get("exportTo") or ()),
        http=tuple(reader.http_route(one) for one in spec.get("http") or ()),
        tcp=tuple(reader.l4_route(one, otherwise=({},)) for one in spec.get("tcp") or ()),
        # Without a match a route of TLS is for nobody.
        tls=tuple(reader.l4_route(one) for one in spec.get("tls") or ()),
    )


# pilot/pkg/model/push_context.go VirtualServicesForGateway; pilot/pkg/networking/core/httproute.go
def virtual_service_for(
    services: Iterable[VirtualService], client: Workload, host: str, gateway: str = MESH
) -> VirtualService | None:
    """The VirtualService that routes a host: the most specific host wins, and of several the oldest.

    Sidecars do not merge VirtualServices of one host; a gateway does (`virtual_services_for`).
    """
    return next(iter(virtual_services_for(services, client, host, gateway)), None)


def virtual_services_for(
    services: Iterable[VirtualService], client: Workload, host: str, gateway: str = MESH
) -> list[VirtualService]:
    """All that route a host at a gateway, the oldest first; only those with the most specific host."""
    found: dict[str, list[VirtualService]] = {}
    for one in sorted(services, key=lambda one: one.meta.age_order):
        if gateway not in one.gateways or not one.visible_in(client.namespace):
            continue
        matching = [pattern for pattern in one.hosts if host_matches(pattern, host)]
        if matching:
            found.setdefault(max(matching, key=_specificity), []).append(one)
    return found[max(found, key=_specificity)] if found else []


# pilot/pkg/networking/core/tls.go getConfigsForHost
def routings_of(services: Iterable[VirtualService], client: Workload, host: str) -> list[VirtualService]:
    """All that name a host for sidecars, the oldest first: for TCP and TLS they add up, and none is more specific."""
    return [
        one
        for one in sorted(services, key=lambda one: one.meta.age_order)
        if MESH in one.gateways
        and one.visible_in(client.namespace)
        and any(host_matches(pattern, host) for pattern in one.hosts)
    ]


def tcp_destinations_of(
    services: Iterable[VirtualService], client: Workload, port: int, gateway: str = MESH
) -> tuple[WeightedDestination, ...] | None:
    """Where TCP goes, by the first route for this proxy; None without one."""
    for one in services:
        for route in one.tcp:
            if route.destinations and any(True for _ in route.names_for(client, gateway, port)):
                return route.destinations
    return None


def tls_destinations_of(
    services: Iterable[VirtualService], client: Workload, port: int, gateway: str = MESH
) -> Iterator[tuple[tuple[str, ...], tuple[WeightedDestination, ...]]]:
    """Where TLS goes, by its SNI names; a name that an earlier route has is not said again.

    Names are exact, or begin with `*.`; `*` is any, and stands for a match without names.
    """
    taken: set[str] = set()
    for one in services:
        for route in one.tls:
            for names in route.names_for(client, gateway, port) if route.destinations else ():
                new = tuple(name for name in dict.fromkeys(names or ("*",)) if name not in taken)
                taken |= set(new)
                if new:
                    yield new, route.destinations


def all_sources(service: VirtualService) -> Iterator[Source]:
    """Whom its routes are for."""
    yield from (match.source for route in service.http for match in route.matches)
    yield from (source for route in (*service.tcp, *service.tls) for source, _ in route.matches)


def all_destinations(service: VirtualService) -> Iterator[tuple[str, int]]:
    """(host, port) of everything that its routes lead anybody to; 0 is any port."""
    for namespace in {source.namespace for source in all_sources(service)}:
        yield from destinations_for(service, namespace)


# pilot/pkg/model/virtualservice.go virtualServiceDestinationsFilteredBySourceNamespace
def destinations_for(service: VirtualService, namespace: str) -> Iterator[tuple[str, int]]:
    """(host, port) of everything that its routes lead clients of a namespace to, mirrors among them; 0 is any port."""
    for route in service.http:
        if any(match.source.namespace in ("", namespace) for match in route.matches):
            for one in (*(weighted.destination for weighted in route.destinations), *(to for to, _ in route.mirrors)):
                yield one.host, one.port
    for bytes_route in (*service.tcp, *service.tls):
        if any(source.namespace in ("", namespace) for source, _ in bytes_route.matches):
            for weighted in bytes_route.destinations:
                yield weighted.destination.host, weighted.destination.port


def _specificity(pattern: str) -> tuple[bool, int]:
    return not pattern.startswith("*"), len(pattern)


class _Reader:
    """Reads parts of one object; names in it are of its own namespace."""

    def __init__(self, meta: Meta) -> None:
        self.meta = meta

    def gateways(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(one if one == MESH or "/" in one else f"{self.meta.namespace}/{one}" for one in names)

    def destination(self, written: Mapping[str, Any]) -> Destination:
        return Destination(
            full_name(str(written.get("host") or ""), self.meta.namespace),
            str(written.get("subset") or ""),
            int((written.get("port") or {}).get("number") or 0),
        )

    def weighted(self, entries: Iterable[Mapping[str, Any]]) -> tuple[WeightedDestination, ...]:
        return tuple(
            WeightedDestination(
                self.destination(one.get("destination") or {}), int(one.get("weight") or 0), one.get("headers") or {}
            )
            for one in entries
        )

    def source(self, written: Mapping[str, Any]) -> Source:
        return Source(
            labels=dict(written.get("sourceLabels") or {}),
            namespace=str(written.get("sourceNamespace") or ""),
            gateways=self.gateways(written.get("gateways") or ()),
            port=int(written.get("port") or 0),
        )

    def http_match(self, written: Mapping[str, Any]) -> HttpMatch:
        headers = {_name(name): _string(value) for name, value in (written.get("headers") or {}).items()}
        for field_name in ("method", "authority", "scheme"):
            if written.get(field_name):
                headers[f":{field_name}"] = _string(written[field_name])
        return HttpMatch(
            source=self.source(written),
            uri=_string(written["uri"]) if written.get("uri") else None,
            ignore_uri_case=bool(written.get("ignoreUriCase")),
            headers=headers,
            without_headers={_name(k): _string(v) for k, v in (written.get("withoutHeaders") or {}).items()},
            query={name: _string(value) for name, value in (written.get("queryParams") or {}).items()},
            name=str(written.get("name") or ""),
            stat_prefix=str(written.get("statPrefix") or ""),
        )

    def http_route(self, written: Mapping[str, Any]) -> HttpRoute:
        matches = tuple(self.http_match(one or {}) for one in written.get("match") or ())
        return HttpRoute(
            name=str(written.get("name") or ""),
            matches=matches or (HttpMatch(),),
            destinations=self.weighted(written.get("route") or ()),
            redirect=written.get("redirect"),
            direct_response=written.get("directResponse"),
            rewrite=written.get("rewrite"),
            timeout=str(written.get("timeout") or ""),
            retries=written.get("retries"),
            fault=written.get("fault"),
            cors=written.get("corsPolicy"),
            mirrors=tuple(self.mirrors(written)),
            headers=written.get("headers") or {},
        )

    def mirrors(self, written: Mapping[str, Any]) -> Iterable[tuple[Destination, float]]:
        if one := written.get("mirror"):
            percentage = written.get("mirrorPercentage")
            share = float((percentage or {}).get("value") or 0) if percentage is not None else 100.0
            old = written.get("mirrorPercent", written.get("mirror_percent"))
            yield self.destination(one), float(old) if old is not None and percentage is None else share
        for entry in written.get("mirrors") or ():
            percentage = entry.get("percentage")
            share = 100.0 if percentage is None else float(percentage.get("value") or 0)
            yield self.destination(entry.get("destination") or {}), share

    def l4_route(self, written: Mapping[str, Any], otherwise: tuple[Mapping[str, Any], ...] = ()) -> L4Route:
        entries: Iterable[Mapping[str, Any]] = written.get("match") or otherwise
        matches = tuple((self.source(one), tuple(one.get("sniHosts") or ())) for one in entries)
        return L4Route(matches, self.weighted(written.get("route") or ()))


def _name(header: str) -> str:
    # Names of headers are the same in any case; those of a token's claims are not.
    return header if routing_claim(header) else header.lower()


def _string(written: Mapping[str, Any]) -> StringMatch:
    for kind in ("exact", "prefix", "regex"):
        if kind in written:
            return StringMatch(kind, str(written[kind]))
    return StringMatch("present")
