"""The whole configuration of one sidecar, as the files that its Envoy reads. Pure.

lds.json           all listeners
cds.json           all Envoy clusters
eds/<name>.json    the endpoints of one service port
sds/<name>.json    one secret each, from `tls.workload_secret` and `tls.root_secret`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labkit.embedded.controlplane.translation import inbound, outbound, special
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import (
    CLUSTER_TYPE,
    ENDPOINTS_TYPE,
    LISTENER_TYPE,
    SECRET_TYPE,
    Config,
    discovery_response,
)

LISTENERS_FILE, CLUSTERS_FILE = "lds.json", "cds.json"


@dataclass(frozen=True)
class ProxyConfig:
    """The listeners and Envoy clusters of one sidecar."""

    listeners: tuple[Config, ...]
    clusters: tuple[Config, ...]

    def files(self, directory: Path) -> dict[Path, Config]:
        """The content of each file, in Istio's order of pushes: listeners need their clusters.

        There is no version: Envoy compares the resources themselves, and so do we.
        """
        return {
            directory / CLUSTERS_FILE: discovery_response(CLUSTER_TYPE, "", self.clusters),
            directory / LISTENERS_FILE: discovery_response(LISTENER_TYPE, "", self.listeners),
        }


def make_proxy_config(snapshot: Snapshot, sidecar: Sidecar, directory: Path) -> ProxyConfig:
    """The listeners and clusters of a sidecar whose files lie in `directory`."""
    return ProxyConfig(
        listeners=(
            inbound.make_virtual_inbound(snapshot, sidecar, directory),
            *outbound.make_outbound_listeners(snapshot, sidecar),
            special.make_agent_listener(sidecar),
            special.make_ready_listener(sidecar),
        ),
        clusters=(
            *inbound.make_inbound_clusters(snapshot, sidecar),
            *outbound.make_outbound_clusters(snapshot, sidecar, directory),
            *special.make_probe_clusters(sidecar),
        ),
    )


def make_endpoints_files(snapshot: Snapshot) -> dict[str, Config]:
    """The endpoints of every service port, by the name of the file; every sidecar has the same ones."""
    return {
        outbound.endpoints_file(Path(), outbound.cluster_name(service, port)).name: discovery_response(
            ENDPOINTS_TYPE, "", [outbound.make_endpoints(snapshot, service, port)]
        )
        for service, port in outbound.captured_ports(snapshot)
    }


def tls_modes(endpoints_file: Config) -> dict[str, bool]:
    """Which addresses in a file of endpoints are to be reached by mTLS."""
    return {
        endpoint["endpoint"]["address"]["socket_address"]["address"]: outbound.is_marked_mtls(endpoint)
        for assignment in endpoints_file["resources"]
        for locality in assignment["endpoints"]
        for endpoint in locality["lb_endpoints"]
    }


def make_secret_file(secret: Config) -> Config:
    """The content of the file of one SDS secret."""
    return discovery_response(SECRET_TYPE, "", [secret])


def structure_of(snapshot: Snapshot) -> object:
    """What every sidecar's listeners and clusters depend on, beyond its own pod and the policies for it.

    Two snapshots with an equal structure differ, for all pods but those whose policies changed, in endpoints only.
    """
    return (
        snapshot.mesh,
        [
            (
                service,
                port,
                outbound.uses_auto_mtls(snapshot, service),
                outbound.endpoint_identities(snapshot, service, port),
            )
            for service, port in outbound.captured_ports(snapshot)
        ],
        [service for service in snapshot.services_in_order() if not service.cluster_ip],
    )
