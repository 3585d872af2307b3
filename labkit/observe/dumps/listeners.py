"""Listeners as `istioctl proxy-config listeners` shows them: a line for each filter chain. Pure.

istioctl/pkg/writer/envoy/configdump/listener.go of istio/istio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.observe.dumps.dump import Config, Dump
from labkit.observe.dumps.filters import Wanted
from labkit.observe.dumps.routes import describe_match

COLUMNS = ("ADDRESSES", "PORT", "MATCH", "DESTINATION")

_HTTP = "http_connection_manager"
_TCP = "tcp_proxy"
_BLACK_HOLE = "BlackHoleCluster"

# What a list of ALPN names means, in istioctl's words.
_PROTOCOLS = {
    ("http/1.0", "http/1.1", "h2c", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: HTTP TLS",
    ("istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: Istio HTTP Plain",
    ("istio-peer-exchange", "istio"): "App: TCP TLS",
    ("http/1.0", "http/1.1", "h2c"): "App: HTTP",
}


def select(dump: Dump, wanted: Wanted) -> list[Config]:
    """The listeners that are asked for, by port and address."""
    return sorted((one for one in dump.listeners() if _fits(one, wanted)), key=lambda one: (port(one), address(one)))


def rows(listeners: list[Config]) -> Iterator[tuple[str, str, str, str]]:
    """The cells of COLUMNS."""
    for one in listeners:
        for chain in chains(one):
            yield address(one), str(port(one) or ""), match_text(chain), destination(chain)


def _fits(one: Config, wanted: Wanted) -> bool:
    # The embedded cluster opens ports below 1024 above 20000; the name has the port that clients call.
    named = str(one.get("name", "")).rpartition("_")[2]
    return (
        (not wanted.port or port(one) == wanted.port or named == str(wanted.port))
        and (not wanted.address or address(one) == wanted.address)
        and (not wanted.type or kind_of(one) == wanted.type.upper())
        and (not wanted.direction or direction(one) == wanted.direction.upper())
    )


def address(listener: Mapping[str, Any]) -> str:
    """Where it listens."""
    where = listener.get("address") or {}
    return str((where.get("socket_address") or {}).get("address") or (where.get("pipe") or {}).get("path") or "")


def port(listener: Mapping[str, Any]) -> int:
    """The port that it is bound to; 0 for a unix socket."""
    return int(((listener.get("address") or {}).get("socket_address") or {}).get("port_value") or 0)


def direction(listener: Mapping[str, Any]) -> str:
    """INBOUND, OUTBOUND, or nothing for those of the proxy itself."""
    return str(listener.get("traffic_direction") or "")


def chains(listener: Mapping[str, Any]) -> list[Config]:
    """Its filter chains, the default one last."""
    default = listener.get("default_filter_chain")
    return [*(listener.get("filter_chains") or ()), *([default] if default else ())]


def kind_of(listener: Mapping[str, Any]) -> str:
    """HTTP, TCP, HTTP+TCP, or UNKNOWN."""
    found = {kind for chain in chains(listener) for kind in (_kind(one) for one in chain.get("filters") or ()) if kind}
    return "+".join(sorted(found)) or "UNKNOWN"


def _kind(network_filter: Config) -> str:
    name = str(network_filter.get("name", ""))
    if name.endswith(_HTTP):
        return "HTTP"
    inside = network_filter.get("typed_config") or {}
    return "TCP" if name.endswith(_TCP) and inside.get("cluster") != _BLACK_HOLE else ""


def match_text(chain: Mapping[str, Any]) -> str:
    """Which connections a filter chain is for."""
    match = chain.get("filter_chain_match") or {}
    said = []
    if names := match.get("server_names"):
        said.append(f"SNI: {','.join(names)}")
    if transport := match.get("transport_protocol"):
        said.append(f"Trans: {transport}")
    if protocols := match.get("application_protocols"):
        said.append(_PROTOCOLS.get(tuple(protocols)) or f"App: {','.join(protocols)}")
    at = f":{match['destination_port']}" if match.get("destination_port") else ""
    if ranges := match.get("prefix_ranges"):
        listed = ",".join(f"{one['address_prefix']}/{one.get('prefix_len', 0)}" for one in ranges)
        said.append(f"Addr: {listed}{at}")
    elif at:
        said.append(f"Addr: *{at}")
    return "; ".join(said) or "ALL"


def destination(chain: Mapping[str, Any]) -> str:
    """Where a filter chain leads."""
    for one in chain.get("filters") or ():
        name, inside = str(one.get("name", "")), one.get("typed_config") or {}
        if name.endswith(_HTTP):
            return _http(inside)
        if name.endswith(_TCP) and inside.get("cluster") != _BLACK_HOLE:
            return _tcp(inside)
    return "Non-HTTP/Non-TCP"


def _http(manager: Config) -> str:
    if inline := manager.get("route_config"):
        return _only_cluster(inline) or f"Inline Route: {'; '.join(_host(one) for one in inline['virtual_hosts'])}"
    name = (manager.get("rds") or {}).get("route_config_name")
    return f"Route: {name}" if name else "HTTP"


def _tcp(proxy: Config) -> str:
    weighted = (proxy.get("weighted_clusters") or {}).get("clusters") or ()
    names = [str(one.get("name", "")) for one in weighted] or [str(proxy.get("cluster", ""))]
    return _cluster(",".join(names))


def _cluster(name: str) -> str:
    return name if "Cluster" in name else f"Cluster: {name}"


def _only_cluster(config: Config) -> str:
    """The Envoy cluster of a route that takes everything; nothing where more is to be said."""
    hosts = config.get("virtual_hosts") or []
    if len(hosts) != 1 or hosts[0].get("domains") != ["*"] or len(hosts[0].get("routes") or ()) != 1:
        return ""
    route = hosts[0]["routes"][0]
    cluster = (route.get("route") or {}).get("cluster")
    return _cluster(cluster) if cluster and route.get("match", {}).get("prefix") == "/" else ""


def _host(host: Config) -> str:
    domains = host.get("domains") or []
    said = ", ".join(describe_match(one.get("match") or {}) for one in host.get("routes") or ())
    return said if domains == ["*"] else f"{'/'.join(domains)} {said}"
