"""What a sidecar's Envoy is started with: who it is, its admin socket, where its configuration comes from. Pure.

Imported by `pilot-agent`, which must start fast: standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from labkit.embedded import envoy_messages
from labkit.embedded.envoy_messages import TYPE, Config, pipe_address, socket_address

STATS_PORT = 15090
STATS_PATH = "/stats/prometheus"
STATS_CLUSTER = "prometheus_stats"


def make_bootstrap(environment: Mapping[str, str], directory: Path, admin_socket: Path) -> Config:
    """The bootstrap of the sidecar whose pod has this environment; its files lie in `directory`."""
    namespace, pod, address = environment["POD_NAMESPACE"], environment["POD_NAME"], environment["INSTANCE_IP"]
    workload = environment.get("ISTIO_META_WORKLOAD_NAME") or pod
    config = envoy_messages.bootstrap(
        node_id=f"sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local",
        node_cluster=f"{workload}.{namespace}",
        admin_socket=admin_socket,
        lds=directory / "lds.json",
        cds=directory / "cds.json",
        metadata=_metadata(environment),
    )
    config["static_resources"] = {
        "listeners": [_stats_listener(address)],
        "clusters": [_stats_cluster(admin_socket)],
    }
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


def _stats_listener(address: str) -> Config:
    router = {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "stats",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "backend",
                    "domains": ["*"],
                    "routes": [{"match": {"path": STATS_PATH}, "route": {"cluster": STATS_CLUSTER}}],
                }
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {
        "name": f"0.0.0.0_{STATS_PORT}",
        "address": socket_address(address, STATS_PORT),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _stats_cluster(admin_socket: Path) -> Config:
    """The admin socket as an upstream. Only the one path above leads there, so nobody can stop the proxy with it."""
    endpoint = {"endpoint": {"address": pipe_address(admin_socket)}}
    return {
        "name": STATS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": STATS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
