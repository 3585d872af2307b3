"""A DestinationRule's traffic policy as settings of an Envoy cluster: TLS, load balancing, pools, outliers. Pure.

pilot/pkg/networking/core/cluster_traffic_policy.go and cluster_tls.go of istio/istio. Simplified: localities change
nothing (one node is one locality).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.model import MeshConfig
from labkit.embedded.envoy_messages import TYPE, Config
from labkit.policy.destination_rule import ClientTLSMode, ClientTLSSettings, TrafficPolicy
from labkit.policy.durations import as_protobuf

UNLIMITED = 4294967295
"""Istio's limits, where nobody set one (getDefaultCircuitBreakerThresholds)."""

_BALANCERS = {
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
}


def apply_traffic_policy(cluster: Config, policy: TrafficPolicy) -> None:
    """Bring everything but TLS into an Envoy cluster."""
    _load_balancer(cluster, policy.load_balancer or {})
    _connection_pool(cluster, policy.connection_pool or {})
    if policy.retry_budget is not None:
        _retry_budget(cluster, policy.retry_budget)
    if policy.outlier_detection is not None:
        _outliers(cluster, policy.outlier_detection)


def _load_balancer(cluster: Config, written: Mapping[str, Any]) -> None:
    cluster["lb_policy"] = _BALANCERS.get(str(written.get("simple")), "LEAST_REQUEST")
    _warm_up(cluster, written)
    hashed = written.get("consistentHash")
    if hashed is None:
        return
    # pilot/pkg/networking/core/cluster_traffic_policy.go ApplyRingHashLoadBalancer
    if hashed.get("maglev") is not None:
        cluster["lb_policy"] = "MAGLEV"
        if size := hashed["maglev"].get("tableSize"):
            cluster["maglev_lb_config"] = {"table_size": int(size)}
        return
    cluster["lb_policy"] = "RING_HASH"
    size = (hashed.get("ringHash") or {}).get("minimumRingSize") or hashed.get("minimumRingSize")
    if size or hashed.get("ringHash") is None:
        cluster["ring_hash_lb_config"] = {"minimum_ring_size": int(size or 1024)}


def _warm_up(cluster: Config, written: Mapping[str, Any]) -> None:
    """New endpoints get their share little by little, for the balancers that know of shares."""
    field = {"LEAST_REQUEST": "least_request_lb_config", "ROUND_ROBIN": "round_robin_lb_config"}
    warmup = written.get("warmup") or {"duration": written.get("warmupDurationSecs")}
    if not warmup.get("duration") or cluster["lb_policy"] not in field or written.get("consistentHash") is not None:
        return
    slow: Config = {"slow_start_window": as_protobuf(str(warmup["duration"]), "warmup.duration")}
    if warmup.get("aggression") is not None:
        slow["aggression"] = {"default_value": float(warmup["aggression"]), "runtime_key": "slow_start.aggression"}
    if warmup.get("minimumPercent") is not None:
        slow["min_weight_percent"] = {"value": float(warmup["minimumPercent"])}
    cluster[field[cluster["lb_policy"]]] = {"slow_start_config": slow}


def _retry_budget(cluster: Config, written: Mapping[str, Any]) -> None:
    budget: Config = {}
    if written.get("percent") is not None:
        budget["budget_percent"] = {"value": float(written["percent"])}
    if written.get("minRetryConcurrency") is not None:
        budget["min_retry_concurrency"] = int(written["minRetryConcurrency"])
    (limits,) = cluster["circuit_breakers"]["thresholds"]
    limits["retry_budget"] = budget  # goes before max_retries


def _connection_pool(cluster: Config, pool: Mapping[str, Any]) -> None:
    tcp, http = pool.get("tcp") or {}, pool.get("http") or {}
    limits = {
        "max_connections": tcp.get("maxConnections"),
        "max_pending_requests": http.get("http1MaxPendingRequests"),
        "max_requests": http.get("http2MaxRequests"),
        "max_retries": http.get("maxRetries"),
    }
    thresholds = {name: int(value) if value else UNLIMITED for name, value in limits.items()}
    cluster["circuit_breakers"] = {"thresholds": [{**thresholds, "track_remaining": True}]}
    if timeout := tcp.get("connectTimeout"):
        cluster["connect_timeout"] = as_protobuf(timeout, "connectTimeout")
    if keepalive := tcp.get("tcpKeepalive"):
        cluster["upstream_connection_options"] = {"tcp_keepalive": _keepalive(keepalive)}
    common: Config = {}
    if http.get("maxRequestsPerConnection"):
        common["max_requests_per_connection"] = int(http["maxRequestsPerConnection"])
    if idle := http.get("idleTimeout") or tcp.get("idleTimeout"):
        common["idle_timeout"] = as_protobuf(idle, "idleTimeout")
    if tcp.get("maxConnectionDuration"):
        common["max_connection_duration"] = as_protobuf(tcp["maxConnectionDuration"], "maxConnectionDuration")
    if common:
        for options in cluster["typed_extension_protocol_options"].values():
            options["common_http_protocol_options"] = common
    for options in cluster["typed_extension_protocol_options"].values() if http.get("maxConcurrentStreams") else ():
        explicit = options.get("explicit_http_config", {})
        if "http2_protocol_options" in explicit:
            explicit["http2_protocol_options"] = {"max_concurrent_streams": int(http["maxConcurrentStreams"])}


def _keepalive(written: Mapping[str, Any]) -> Config:
    result: Config = {}
    if written.get("probes"):
        result["keepalive_probes"] = int(written["probes"])
    for field in ("time", "interval"):
        if written.get(field):
            result[f"keepalive_{field}"] = round(float(as_protobuf(written[field], field)[:-1]))
    return result


def _outliers(cluster: Config, written: Mapping[str, Any]) -> None:
    result: Config = {"enforcing_success_rate": 0}
    # 0 switches a check off; absent leaves Envoy's default, which is 5 errors in a row.
    for field, name in (
        ("consecutive5xxErrors", "consecutive_5xx"),
        ("consecutiveGatewayErrors", "consecutive_gateway_failure"),
        ("consecutiveLocalOriginFailures", "consecutive_local_origin_failure"),
    ):
        value = written.get(field)
        if value is not None:
            result[f"enforcing_{name}"] = 100 if value else 0
            if value:
                result[name] = int(value)
    if written.get("consecutiveErrors"):  # the name of old
        result |= {"consecutive_gateway_failure": int(written["consecutiveErrors"])}
        result |= {"enforcing_consecutive_gateway_failure": 100, "enforcing_consecutive_5xx": 0}
    for field, name in (("interval", "interval"), ("baseEjectionTime", "base_ejection_time")):
        if written.get(field):
            result[name] = as_protobuf(written[field], field)
    if written.get("maxEjectionPercent"):
        result["max_ejection_percent"] = int(written["maxEjectionPercent"])
    if written.get("splitExternalLocalOriginErrors"):
        result["split_external_local_origin_errors"] = True
    cluster["outlier_detection"] = result
    healthy = int(written.get("minHealthPercent") or 0)
    # Istio switches panic off unless it is asked for, so that ejected endpoints stay ejected.
    cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": healthy}}


def with_proxy_protocol(cluster: Config, written: Mapping[str, Any]) -> None:
    """Say first of all who the client is, in plaintext, also before TLS: every transport socket is wrapped."""
    version = str(written.get("version") or "V1")
    for holder in cluster.get("transport_socket_matches") or [cluster]:
        holder["transport_socket"] = {
            "name": "envoy.transport_sockets.upstream_proxy_protocol",
            "typed_config": {
                "@type": f"{TYPE}envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                "config": {"version": version},
                "transport_socket": holder.get("transport_socket") or tls.raw_socket(),
            },
        }


def passes_through(policy: TrafficPolicy) -> bool:
    """Whether connections go where the application meant, without a choice among endpoints."""
    return (policy.load_balancer or {}).get("simple") == "PASSTHROUGH"


def originates(settings: ClientTLSSettings) -> bool:
    """Whether this is TLS of another kind than the mesh's."""
    return settings.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL)


def apply_names_of_requests(cluster: Config, settings: ClientTLSSettings) -> None:
    """Where a rule that originates TLS names no SNI, each HTTP request's host is sent as SNI, and looked for in the
    server's certificate unless the rule names whom to expect (ENABLE_AUTO_SNI, VERIFY_CERTIFICATE_AT_CLIENT).
    """
    if not originates(settings) or settings.sni:
        return
    checked = not settings.subject_alt_names and not settings.insecure_skip_verify
    for options in cluster["typed_extension_protocol_options"].values():
        options["upstream_http_protocol_options"] = {"auto_sni": True, "auto_san_validation": checked}


def rule_socket(
    mesh: MeshConfig,
    directory: Path,
    settings: ClientTLSSettings,
    *,
    sni: str,
    identities: tuple[str, ...],
    http2: bool,
    by_name: bool,
) -> Config | None:
    """The one transport socket for all endpoints that a rule asks for; None sends plaintext.

    `by_name`: whether the proxy may use `credentialName`, as gateways may, and sidecars that a rule selects. One that
    may not sends plaintext.
    """
    if settings.mode is ClientTLSMode.DISABLE:
        return None
    if settings.mode is ClientTLSMode.ISTIO_MUTUAL:
        # For endpoints without a sidecar too: that is the trap of this mode.
        names = settings.subject_alt_names
        expected = names if names else identities
        return tls.client_socket(mesh, directory, settings.sni or sni, expected)
    if settings.credential_name and not by_name:
        return None
    return tls.origination_socket(settings, sni=settings.sni, http2=http2)
