"""The proxy's own ports: 15021 (is it ready?) and 15020 (metrics, and the application's probes). Pure.

https://istio.io/latest/docs/ops/deployment/application-requirements/#ports-used-by-istio
Port 15090 is in the bootstrap, as in Istio: it answers even before the control plane has delivered anything.

These ports are plaintext under every mode. So the kubelet and a scraper without a certificate are never refused.
The kubelet cannot reach the inside of a redirected pod; injection therefore rewrites the application's probes to
/app-health/<container>/{livez,readyz,startupz} on 15020, and here they are passed on.

In Istio the agent serves 15020 and asks the application itself. Here Envoy does:
- httpGet: a route to the application's port, to the original path, with the original headers;
- tcpSocket and grpc: Envoy's own active health check of that port, whose result the path answers.
The application's own metrics are added to /stats/prometheus by `metrics_page`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation import filters, tls
from labkit.embedded.controlplane.translation.bootstrap import PAGE_LIMIT, STATS_CLUSTER, STATS_PATH
from labkit.embedded.controlplane.translation.inbound import CONNECT_TIMEOUT
from labkit.embedded.controlplane.translation.metrics_page import APP_METRICS_CLUSTER, page_filter
from labkit.embedded.controlplane.translation.model import HttpProbe, Sidecar
from labkit.embedded.envoy_messages import TYPE, Config, lb_endpoint, socket_address

READY_PORT, AGENT_PORT = 15021, 15020
READY_PATH = "/healthz/ready"


def make_ready_listener(sidecar: Sidecar) -> Config:
    """Answers `/healthz/ready` with 200 once this proxy has its configuration.

    The control plane delivers this listener together with all others, so its answer means that they are there.
    """
    return _listener(sidecar, READY_PORT, "agent", [], [_health_filter(READY_PATH)])


def make_agent_listener(sidecar: Sidecar) -> Config:
    """Metrics, and the probes of the application."""
    routes: list[Config] = [
        {"name": "stats", "match": {"path": STATS_PATH}, "route": {"cluster": STATS_CLUSTER}},
        *(_probe_route(probe) for probe in sidecar.probes if probe.kind == "httpGet"),
    ]
    checks = [
        _health_filter(probe.path, probe_cluster_name(probe)) for probe in sidecar.probes if probe.kind != "httpGet"
    ]
    page = page_filter(sidecar.app_metrics[1] if sidecar.app_metrics else "", only=STATS_PATH)
    listener = _listener(sidecar, AGENT_PORT, "agent-probes", routes, [*checks, page])
    return {**listener, "per_connection_buffer_limit_bytes": PAGE_LIMIT}


def make_probe_clusters(sidecar: Sidecar) -> list[Config]:
    """The Envoy clusters that the probes go to, one per probe."""
    return [*_probe_clusters(sidecar), *_metrics_clusters(sidecar)]


def _metrics_clusters(sidecar: Sidecar) -> list[Config]:
    """Where the application shows its own metrics, if the pod says so."""
    if not sidecar.app_metrics:
        return []
    inside = lb_endpoint(addresses.inside_ip(sidecar.address), addresses.listen_port(sidecar.app_metrics[0]))
    assignment = {"cluster_name": APP_METRICS_CLUSTER, "endpoints": [{"lb_endpoints": [inside]}]}
    cluster = {"name": APP_METRICS_CLUSTER, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}
    return [cluster]


def probe_cluster_name(probe: HttpProbe) -> str:
    """One cluster per probed container and purpose: liveness and readiness may ask different ports."""
    return "probe|" + probe.path.removeprefix("/app-health/").replace("/", "|")


def _probe_clusters(sidecar: Sidecar) -> Iterator[Config]:
    inside_ip = addresses.inside_ip(sidecar.address)
    for probe in sidecar.probes:
        name = probe_cluster_name(probe)
        cluster: Config = {
            "name": name,
            "type": "STATIC",
            "connect_timeout": CONNECT_TIMEOUT,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [lb_endpoint(inside_ip, addresses.listen_port(probe.port))]}],
            },
        }
        if probe.settings.get("scheme") == "HTTPS":
            cluster["transport_socket"] = tls.unverified_socket()
        if probe.kind == "tcpSocket":
            cluster["health_checks"] = [_active_check(probe, tcp_health_check={})]
        elif probe.kind == "grpc":
            service = {"service_name": probe.settings.get("service") or ""}
            cluster["health_checks"] = [_active_check(probe, grpc_health_check=service)]
            cluster["typed_extension_protocol_options"] = _http2()
        yield cluster


def _probe_route(probe: HttpProbe) -> Config:
    headers = {header["name"]: header["value"] for header in probe.settings.get("httpHeaders") or ()}
    host = next((headers.pop(name) for name in list(headers) if name.lower() == "host"), None)
    route: Config = {
        "cluster": probe_cluster_name(probe),
        "timeout": f"{probe.timeout_seconds}s",
        "regex_rewrite": {"pattern": {"regex": ".*"}, "substitution": _substitution(probe.settings.get("path") or "/")},
    }
    if host:
        route["host_rewrite_literal"] = host
    return {
        "name": probe.path,
        "match": {"path": probe.path},
        "route": route,
        "request_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }


def _substitution(path: str) -> str:
    # In a substitution \1 means a group, so a backslash in a path stands for itself only when doubled.
    return (path if path.startswith("/") else f"/{path}").replace("\\", "\\\\")


def _active_check(probe: HttpProbe, **kind: Any) -> Config:
    return {
        "timeout": f"{probe.timeout_seconds}s",
        "interval": "1s",
        # Until the application listens, look often: the pod's readiness waits for it.
        "unhealthy_interval": "0.1s",
        "no_traffic_interval": "1s",
        "no_traffic_healthy_interval": "1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        **kind,
    }


def _health_filter(path: str, cluster: str = "") -> Config:
    """Answers `path`: 200, or 503 while this proxy drains or `cluster` has no healthy endpoint."""
    fields: dict[str, Any] = {
        "pass_through_mode": False,
        "headers": [{"name": ":path", "string_match": {"exact": path}}],
    }
    if cluster:
        fields["cluster_min_healthy_percentages"] = {cluster: {"value": 100}}
    return filters.typed(
        "envoy.filters.http.health_check", "envoy.extensions.filters.http.health_check.v3.HealthCheck", **fields
    )


def _listener(
    sidecar: Sidecar, port: int, stat_prefix: str, routes: list[Config], http_filters: list[Config]
) -> Config:
    not_found = {"name": "not-found", "match": {"prefix": "/"}, "direct_response": {"status": 404}}
    manager = filters.http_manager(
        stat_prefix=stat_prefix,
        route_config={
            "name": stat_prefix,
            "virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": [*routes, not_found]}],
            "validate_clusters": False,
        },
        http_filters=http_filters,
    )
    return {
        "name": f"0.0.0.0_{port}",
        "address": socket_address(sidecar.address, port),
        "filter_chains": [{"filters": [manager]}],
    }


def _http2() -> Config:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: {"@type": f"{TYPE}{name}", "explicit_http_config": {"http2_protocol_options": {}}}}
