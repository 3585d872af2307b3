"""Network and HTTP filters and routes that inbound and outbound listeners are made of. Pure.

Simplified: real Istio adds its own filters (istio_stats, metadata exchange, alpn, fault, cors). This Envoy is
the upstream build and has none of them; what they do for mTLS is done here with Envoy's own filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.embedded.envoy_messages import TYPE, Config

HCM = "envoy.filters.network.http_connection_manager"
TCP_PROXY = "envoy.filters.network.tcp_proxy"

ORIGINAL_DESTINATION_KEY = "envoy.network.transport_socket.original_dst_address"
UPSTREAM_ALPN_KEY = "envoy.network.application_protocols"


def typed(name: str, message: str, **fields: Any) -> Config:
    """A named extension with its typed configuration."""
    return {"name": name, "typed_config": {"@type": f"{TYPE}{message}", **fields}}


def tcp_proxy(cluster: str, stat_prefix: str = "") -> Config:
    """Bytes to `cluster`, whatever they are."""
    return typed(
        TCP_PROXY,
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=stat_prefix or cluster,
        cluster=cluster,
    )


def http_manager(
    *, stat_prefix: str, route_config: Config, http_filters: Sequence[Config] = (), **fields: Any
) -> Config:
    """An HTTP connection manager that normalizes paths and lets websockets through, as Istio's do.

    What it logs and counts is added at last, by `telemetry.instrument`.
    """
    return typed(
        HCM,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=stat_prefix,
        route_config=route_config,
        http_filters=[
            *http_filters,
            typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
        ],
        normalize_path=True,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        **fields,
    )


def single_route(name: str, virtual_host: str, route: Config, *, route_name: str = "default") -> Config:
    """A route configuration with one virtual host for every host name and one route for every path."""
    return {
        "name": name,
        "virtual_hosts": [
            {
                "name": virtual_host,
                "domains": ["*"],
                "routes": [{"name": route_name, "match": {"prefix": "/"}, "route": route}],
            }
        ],
        "validate_clusters": False,
    }


def to_address(address: str, port: int) -> Config:
    """Send the connection to this address: what an ORIGINAL_DST cluster takes for the original destination."""
    return typed(
        "envoy.filters.network.set_filter_state",
        "envoy.extensions.filters.network.set_filter_state.v3.Config",
        on_new_connection=[_state(ORIGINAL_DESTINATION_KEY, f"{address}:{port}")],
    )


def to_inside(inside_ip: str) -> Config:
    """Send the connection to the port it came in on, but inside the pod.

    Real Istio's InboundPassthroughCluster connects to the address that the client meant, because iptables does not
    catch what the proxy itself sends. Without iptables that would lead the proxy to itself, so the destination is
    set to where the application listens.
    """
    return typed(
        "envoy.filters.network.set_filter_state",
        "envoy.extensions.filters.network.set_filter_state.v3.Config",
        on_new_connection=[_state(ORIGINAL_DESTINATION_KEY, f"{inside_ip}:%DOWNSTREAM_LOCAL_PORT%")],
    )


def http_alpn(*protocols: str) -> Config:
    """Offer these ALPN protocols to the upstream, in place of the cluster's.

    Istio's own filter `istio.alpn` does this. It is how the server's proxy learns before the first byte that HTTP
    follows, and picks the filter chain that speaks it.
    """
    return typed(
        "envoy.filters.http.set_filter_state",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        on_request_headers=[_state(UPSTREAM_ALPN_KEY, ",".join(protocols))],
    )


def tls_inspector(*, disabled_on: Sequence[int] = ()) -> Config:
    """Tells TLS from plaintext by the first bytes; off on these ports (on the wire)."""
    return _inspector("tls_inspector.v3.TlsInspector", disabled_on)


def http_inspector(*, disabled_on: Sequence[int] = ()) -> Config:
    """Tells HTTP from other plaintext by the first bytes; off on these ports (on the wire)."""
    return _inspector("http_inspector.v3.HttpInspector", disabled_on)


def _inspector(message: str, disabled_on: Sequence[int]) -> Config:
    inspector = typed(f"envoy.filters.listener.{message.split('.')[0]}", f"envoy.extensions.filters.listener.{message}")
    rules = [{"destination_port_range": {"start": port, "end": port + 1}} for port in sorted(disabled_on)]
    if len(rules) > 1:
        inspector["filter_disabled"] = {"or_match": {"rules": rules}}
    elif rules:
        inspector["filter_disabled"] = rules[0]
    return inspector


def _state(key: str, value: str) -> Config:
    return {"object_key": key, "format_string": {"text_format_source": {"inline_string": value}}}
