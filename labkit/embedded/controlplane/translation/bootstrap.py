"""What a sidecar's Envoy is started with: who it is, its admin socket, where its configuration comes from. Pure.

Imported by `pilot-agent`, which must start fast: standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.embedded import envoy_messages
from labkit.embedded.controlplane.translation.metrics_page import page_filter
from labkit.embedded.envoy_messages import TYPE, XDS_CLUSTER, Config, pipe_address, rest_source, socket_address

STATS_PORT = 15090
STATS_PATH = "/stats/prometheus"
STATS_CLUSTER = "prometheus_stats"
PAGE_LIMIT = 64 * 1024 * 1024
"""Bytes of a page of metrics: it is changed as a whole, so it has to fit."""


ADMIN_PORT = 15000
ADMIN_POSTS = ("/logging", "/reset_counters", "/stats/recentlookups/")
"""What may be changed through port 15000. Whoever is logged in to this machine can reach it, so nobody is to stop a
proxy that way; `pilot-agent request POST` reaches everything, and only from inside of the pod.
"""
ADMIN_REFUSAL = (
    "Port 15000 takes GET here, and POST for logging and reset_counters alone. Use: pilot-agent request POST"
)

RELAY_CLUSTER = "xds-relay"
"""istiod again, for the listener that asks it until it answers."""

# A proxy without configuration is alive too, serves its metrics, and says that it is not ready.
FIRST_ANSWER = "0.05s"


def make_bootstrap(environment: Mapping[str, str], istiod_socket: Path, admin_socket: Path) -> Config:
    """The bootstrap of the sidecar whose pod has this environment."""
    namespace, pod, address = environment["POD_NAMESPACE"], environment["POD_NAME"], environment["INSTANCE_IP"]
    workload = environment.get("ISTIO_META_WORKLOAD_NAME") or pod
    source = {**rest_source(), "initial_fetch_timeout": FIRST_ANSWER}
    config = envoy_messages.bootstrap(
        node_id=f"sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local",
        node_cluster=f"{workload}.{namespace}",
        admin_socket=admin_socket,
        lds=source,
        cds=source,
        metadata=_metadata(environment),
    )
    relay = relay_socket(admin_socket)
    config["static_resources"] = {
        "listeners": [_stats_listener(address), _admin_listener(address), _relay_listener(relay)],
        "clusters": [
            _pipe_cluster(STATS_CLUSTER, admin_socket),
            _istiod_cluster(istiod_socket, relay),
            {**_pipe_cluster(RELAY_CLUSTER, istiod_socket), "circuit_breakers": {"thresholds": [{"max_retries": 100}]}},
        ],
    }
    # Histograms reach the page of metrics with each flush; Envoy's own 5 s are long for who waits and looks.
    config["stats_flush_interval"] = "1s"
    config["overload_manager"] = {"resource_monitors": [_connection_limit()]}
    return config


def _connection_limit() -> Config:
    """More connections than a lesson ever has. Without a limit Envoy warns at every start, first in every log."""
    name = "envoy.resource_monitors.global_downstream_max_connections"
    message = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {"name": name, "typed_config": {"@type": f"{TYPE}{message}", "max_active_downstream_connections": "50000"}}


def _metadata(environment: Mapping[str, str]) -> Config:
    """What Istio's agent tells istiod of the proxy: every ISTIO_META_<NAME>, and where the pod is."""
    prefix = "ISTIO_META_"
    metadata: Config = {
        name.removeprefix(prefix): _decoded(value) for name, value in environment.items() if name.startswith(prefix)
    }
    return {
        **metadata,
        "NAME": environment["POD_NAME"],
        "NAMESPACE": environment["POD_NAMESPACE"],
        "INSTANCE_IPS": environment["INSTANCE_IP"],
        "SERVICE_ACCOUNT": environment.get("SERVICE_ACCOUNT", ""),
    }


def _decoded(value: str) -> object:
    """A value that is written as JSON, as a list of ports is, as what it means; else the text."""
    if value.startswith(("{", "[")):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def relay_socket(admin_socket: Path) -> Path:
    """Where a proxy passes its requests on to istiod while that one is away."""
    return admin_socket.with_name("xds-relay.sock")


def _istiod_cluster(istiod_socket: Path, relay: Path) -> Config:
    """istiod; while it is away, the relay.

    Envoy asks again at once when a request fails. So the first failure ejects istiod's socket for a second, and the
    request goes to the relay, which retries with a pause that grows.
    """
    endpoints = [
        {"priority": priority, "lb_endpoints": [{"endpoint": {"address": pipe_address(path)}}]}
        for priority, path in enumerate((istiod_socket, relay))
    ]
    return {
        **_pipe_cluster(XDS_CLUSTER, istiod_socket),
        "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": endpoints},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 1,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "interval": "1s",
            "base_ejection_time": "1s",
            "max_ejection_time": "1s",
            "max_ejection_percent": 100,
        },
    }


def _relay_listener(relay: Path) -> Config:
    retry = {
        "retry_on": "connect-failure,reset,5xx",
        "num_retries": 1_000_000,
        "retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"},
    }
    return {
        "name": RELAY_CLUSTER,
        "address": pipe_address(relay),
        "filter_chains": [{"filters": [_http(RELAY_CLUSTER, {"prefix": "/v3/"}, retry_policy=retry, timeout="0s")]}],
    }


def _http(cluster: str, match: Config, filters: Sequence[Config] = (), **route: object) -> Config:
    """An HTTP connection manager that passes what matches on to a cluster."""
    routes = [{"match": match, "route": {"cluster": cluster, **route}}]
    return _manager("stats" if cluster == STATS_CLUSTER else cluster, routes, filters)


def _manager(stat_prefix: str, routes: Sequence[Config], filters: Sequence[Config] = ()) -> Config:
    router = {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat_prefix,
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, {"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _stats_listener(address: str) -> Config:
    return {
        "name": f"0.0.0.0_{STATS_PORT}",
        "address": socket_address(address, STATS_PORT),
        "per_connection_buffer_limit_bytes": PAGE_LIMIT,
        "filter_chains": [{"filters": [_http(STATS_CLUSTER, {"path": STATS_PATH}, [page_filter()])]}],
    }


def _admin_listener(address: str) -> Config:
    """Envoy's admin interface at localhost:15000 of the pod, as Istio has it."""
    onward = {"cluster": STATS_CLUSTER, "timeout": "0s"}
    asked = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    changes = {"name": ":method", "string_match": {"exact": "POST"}}
    routes: list[Config] = [
        {"match": {"prefix": "/", "headers": [asked]}, "route": onward},
        *({"match": {"prefix": path, "headers": [changes]}, "route": onward} for path in ADMIN_POSTS),
        {"match": {"prefix": "/"}, "direct_response": {"status": 403, "body": {"inline_string": f"{ADMIN_REFUSAL}\n"}}},
    ]
    return {
        "name": "admin",
        "address": socket_address(inside_of(address), ADMIN_PORT),
        "filter_chains": [{"filters": [_manager("admin", routes)]}],
    }


def inside_of(pod_address: str) -> str:
    """`addresses.inside_ip`, without the modules that it needs: this one is read at every start of a pod."""
    return f"{pod_address.rpartition('.')[0]}.2"


def _pipe_cluster(name: str, path: Path) -> Config:
    """A unix socket as an upstream.

    To the admin socket only the paths above lead, so nobody can stop the proxy with it.
    """
    endpoint = {"endpoint": {"address": pipe_address(path)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
