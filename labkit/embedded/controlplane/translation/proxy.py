"""The whole configuration of one sidecar, as the documents that its Envoy is sent. Pure.

lds.json           all listeners
cds.json           all Envoy clusters
sds/<name>.json    one secret each, from `tls.workload_secret` and `tls.root_secret`
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from labkit.embedded.controlplane.translation import (
    clusters,
    gateway,
    gateway_l4,
    inbound,
    outbound,
    scoping,
    special,
    telemetry,
)
from labkit.embedded.controlplane.translation.envoy_filters import apply_envoy_filters
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import (
    CLUSTER_TYPE,
    LISTENER_TYPE,
    SECRET_TYPE,
    Config,
    discovery_response,
)
from labkit.policy.envoy_filter import EnvoyFilter, envoy_filters

LISTENERS_FILE, CLUSTERS_FILE = "lds.json", "cds.json"


@dataclass(frozen=True)
class ProxyConfig:
    """The listeners and Envoy clusters of one sidecar."""

    listeners: tuple[Config, ...]
    clusters: tuple[Config, ...] | None
    """None: as they were."""
    own_clusters: tuple[Config, ...] = ()
    """Those towards the pod's own application."""

    def listeners_file(self) -> Config:
        """The content of lds.json. The version follows from it, see `delivery.Document`."""
        return discovery_response(LISTENER_TYPE, "", self.listeners)

    def clusters_file(self) -> Config:
        """The content of cds.json."""
        return discovery_response(CLUSTER_TYPE, "", self.clusters or ())


def make_proxy_config(
    snapshot: Snapshot, sidecar: Sidecar, directory: Path, *, own_before: tuple[Config, ...] | None = None
) -> ProxyConfig:
    """The listeners and clusters of a sidecar whose documents lie in `directory`.

    Who knows that nothing changed for the pod as a client gives `own_before`, what `own_clusters` was; if it still
    is, all clusters are as they were. With a thousand services that saves three quarters of the work.
    """
    if sidecar.gateway:
        return _gateway_config(snapshot, sidecar, directory)
    known = scoping.exported_to(snapshot, sidecar)
    seen = scoping.seen_by(known, sidecar)
    listeners: tuple[Config, ...] = (
        inbound.make_virtual_inbound(snapshot, sidecar, directory),
        *outbound.make_outbound_listeners(seen, sidecar),
        *scoping.make_unseen_listeners(snapshot, known, seen, sidecar),
        *scoping.make_blocking_listeners(snapshot, sidecar),
        special.make_agent_listener(sidecar),
        special.make_ready_listener(sidecar),
    )
    listeners = telemetry.instrument(snapshot, sidecar, listeners)
    own = tuple(inbound.make_inbound_clusters(snapshot, sidecar))
    if own == own_before and not _filters_for(snapshot, sidecar):
        return ProxyConfig(listeners, None, own)
    envoy_clusters = (
        *own,
        *clusters.make_outbound_clusters(scoping.reached_by(known, seen, sidecar), sidecar, directory),
        *special.make_probe_clusters(sidecar),
    )
    return patched(snapshot, sidecar, ProxyConfig(listeners, envoy_clusters, own))


def _gateway_config(snapshot: Snapshot, proxy: Sidecar, directory: Path) -> ProxyConfig:
    """A gateway serves what Gateways say, and has no application behind it."""
    known = scoping.exported_to(snapshot, proxy)
    listeners: tuple[Config, ...] = (
        *gateway.make_gateway_listeners(known, proxy, directory),
        special.make_agent_listener(proxy),
        special.make_ready_listener(proxy),
    )
    listeners = telemetry.instrument(snapshot, proxy, listeners)
    envoy_clusters = (
        *clusters.make_outbound_clusters(known, proxy, directory),
        *gateway_l4.make_dnat_clusters(known, proxy, directory),
    )
    return patched(snapshot, proxy, ProxyConfig(listeners, envoy_clusters), for_gateway=True)


def _filters_for(snapshot: Snapshot, proxy: Sidecar) -> list[EnvoyFilter]:
    return envoy_filters(snapshot.envoy_filters, proxy.workload, snapshot.mesh.root_namespace)


def patched(snapshot: Snapshot, proxy: Sidecar, config: ProxyConfig, *, for_gateway: bool = False) -> ProxyConfig:
    """The configuration after the EnvoyFilters that are for this proxy; last of all, as in Istio."""
    mine = _filters_for(snapshot, proxy)
    if not mine:
        return config
    listeners, envoy_clusters = apply_envoy_filters(config.listeners, config.clusters or (), mine, gateway=for_gateway)
    return ProxyConfig(listeners, envoy_clusters)


def make_secret_file(secret: Config) -> Config:
    """The content of the file of one SDS secret."""
    return discovery_response(SECRET_TYPE, "", [secret])


def shared_part(snapshot: Snapshot) -> object:
    """What the configuration of every sidecar depends on, beyond its own pod and the policies for it.

    While it and the views below are equal, a change concerns only the pods that changed or whose policies did.
    """
    return (
        snapshot.mesh,
        snapshot.services_in_order(),
        snapshot.destination_rules,
        snapshot.virtual_services,
        snapshot.gateways,
    )


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
