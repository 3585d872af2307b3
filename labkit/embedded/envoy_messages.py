"""Messages of Envoy's API as dictionaries: addresses, sources, xDS files, the bootstrap. Pure.

It knows Envoy, and neither Kubernetes nor Istio. How an Envoy is started and asked is in `labkit.embedded.envoy`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

Config = dict[str, Any]
"""A message of Envoy's API as JSON."""

TYPE = "type.googleapis.com/"
LISTENER_TYPE = f"{TYPE}envoy.config.listener.v3.Listener"
CLUSTER_TYPE = f"{TYPE}envoy.config.cluster.v3.Cluster"
ENDPOINTS_TYPE = f"{TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET_TYPE = f"{TYPE}envoy.extensions.transport_sockets.tls.v3.Secret"


def file_source(path: Path, *, watched_directory: Path | None = None) -> Config:
    """A ConfigSource that reads `path` again when a file is renamed over it.

    With `watched_directory`, any rename in that directory makes Envoy read `path` again: for files behind symbolic
    links, as in mounted ConfigMaps. Without it, only a rename over `path` itself does.
    https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/config_source.proto
    """
    source: Config = {"path": str(path)}
    if watched_directory:
        source["watched_directory"] = {"path": str(watched_directory)}
    return {"path_config_source": source, "resource_api_version": "V3"}


XDS_CLUSTER = "xds-grpc"
"""The Envoy cluster through which istiod is asked; Istio's name, though what is spoken here is REST."""


def rest_source() -> Config:
    """A ConfigSource that asks istiod, which holds the request until there is something new.

    `refresh_delay` is the pause between an answer and the next request (20 to 40 ms: Envoy adds as much again at
    random). Writing the request costs Envoy as much as following the answer, for it names all its extensions. With
    the pause, all proxies of a change follow first and write then.
    https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/config_source.proto
    """
    source: Config = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": [XDS_CLUSTER],
        "refresh_delay": "0.02s",
        "request_timeout": "86400s",
    }
    return {"api_config_source": source, "resource_api_version": "V3"}


def discovery_response(type_url: str, version: str, resources: Iterable[Config]) -> Config:
    """The content of an xDS file: one DiscoveryResponse whose resources all have `type_url`."""
    return {"version_info": version, "resources": [{"@type": type_url, **resource} for resource in resources]}


def socket_address(address: str, port: int) -> Config:
    """An Address message; `port` is the port on the wire."""
    return {"socket_address": {"address": address, "port_value": port}}


def pipe_address(path: Path) -> Config:
    """An Address message for a unix socket that only this user may open."""
    return {"pipe": {"path": str(path), "mode": 0o600}}


def lb_endpoint(address: str, port: int) -> Config:
    """One LbEndpoint."""
    return {"endpoint": {"address": socket_address(address, port)}}


def bootstrap(
    *,
    node_id: str,
    node_cluster: str,
    admin_socket: Path,
    lds: Path | Config,
    cds: Path | Config,
    watched_directory: Path | None = None,
    metadata: Config | None = None,
) -> Config:
    """The bootstrap: who this Envoy is, admin on a unix socket, listeners and clusters from files or elsewhere.

    The admin interface can stop the proxy and shows its secrets' metadata, so it never gets a TCP port, which
    every local user could reach. What a proxy adds (static resources, tracing) the caller merges into the result.
    """
    return {
        "node": {"id": node_id, "cluster": node_cluster, "metadata": metadata or {}},
        "admin": {"address": pipe_address(admin_socket)},
        "dynamic_resources": {
            name: file_source(source, watched_directory=watched_directory) if isinstance(source, Path) else source
            for name, source in (("lds_config", lds), ("cds_config", cds))
        },
    }
