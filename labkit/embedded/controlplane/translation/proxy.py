"""The whole configuration of one sidecar, as the files that its Envoy reads. Pure.

lds.json           all listeners
cds.json           all Envoy clusters
eds/<name>.json    the endpoints of one service port
sds/<name>.json    one secret each, from `tls.workload_secret` and `tls.root_secret`
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from labkit.embedded.controlplane.translation import clusters, inbound, outbound, scoping, special
from labkit.embedded.controlplane.translation.envoy_filters import apply_envoy_filters
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import (
    CLUSTER_TYPE,
    LISTENER_TYPE,
    SECRET_TYPE,
    Config,
    discovery_response,
)
from labkit.policy.envoy_filter import envoy_filters

LISTENERS_FILE, CLUSTERS_FILE = "lds.json", "cds.json"


@dataclass(frozen=True)
class ProxyConfig:
    """The listeners and Envoy clusters of one sidecar."""

    listeners: tuple[Config, ...]
    clusters: tuple[Config, ...]

    def listeners_file(self) -> Config:
        """The content of lds.json. There is no version: Envoy compares the resources themselves, and so do we."""
        return discovery_response(LISTENER_TYPE, "", self.listeners)

    def clusters_file(self) -> Config:
        """The content of cds.json."""
        return discovery_response(CLUSTER_TYPE, "", self.clusters)


def make_proxy_config(snapshot: Snapshot, sidecar: Sidecar, directory: Path) -> ProxyConfig:
    """The listeners and clusters of a sidecar whose files lie in `directory`."""
    seen = scoping.seen_by(snapshot, sidecar)
    listeners = (
        inbound.make_virtual_inbound(snapshot, sidecar, directory),
        *outbound.make_outbound_listeners(seen, sidecar),
        *scoping.make_unseen_listeners(snapshot, seen, sidecar),
        special.make_agent_listener(sidecar),
        special.make_ready_listener(sidecar),
    )
    envoy_clusters = (
        *inbound.make_inbound_clusters(snapshot, sidecar),
        *clusters.make_outbound_clusters(seen, sidecar, directory),
        *special.make_probe_clusters(sidecar),
    )
    return patched(snapshot, sidecar, ProxyConfig(listeners, envoy_clusters))


def patched(snapshot: Snapshot, proxy: Sidecar, config: ProxyConfig, *, gateway: bool = False) -> ProxyConfig:
    """The configuration after the EnvoyFilters that are for this proxy; last of all, as in Istio."""
    mine = envoy_filters(snapshot.envoy_filters, proxy.workload, snapshot.mesh.root_namespace)
    if not mine:
        return config
    return ProxyConfig(*apply_envoy_filters(config.listeners, config.clusters, mine, gateway=gateway))


def make_secret_file(secret: Config) -> Config:
    """The content of the file of one SDS secret."""
    return discovery_response(SECRET_TYPE, "", [secret])


def shared_part(snapshot: Snapshot) -> object:
    """What the configuration of every sidecar depends on, beyond its own pod and the policies for it.

    While it and the views below are equal, a change concerns only the pods that changed or whose policies did.
    """
    return snapshot.mesh, snapshot.services_in_order(), snapshot.destination_rules


def client_views(snapshot: Snapshot, namespaces: Collection[str]) -> dict[str, object]:
    """How the services of these namespaces look to their clients: endpoints, identities, and where mTLS is spoken.

    By namespace, because a PeerAuthentication changes no more than the view of its own one.
    """
    views: dict[str, list[object]] = {namespace: [] for namespace in namespaces}
    for service, port in clusters.captured_ports(snapshot, namespaces):
        view = (
            clusters.uses_auto_mtls(snapshot, service),
            clusters.endpoint_identities(snapshot, service, port),
            clusters.make_endpoints(snapshot, service, port),
        )
        views[service.namespace].append(view)
    return dict(views)
