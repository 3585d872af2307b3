"""Filter chains of traffic that is not HTTP: for gateways and sidecars alike. Pure.

A chain is chosen by the SNI that the client's first bytes show, and hands the bytes on as they are. Envoy refuses a
listener in which two chains claim one name, so each name is given once (`distinct`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labkit.embedded.controlplane.translation import filters, hashing
from labkit.embedded.controlplane.translation.destinations import destination_cluster, tcp_destinations
from labkit.embedded.controlplane.translation.model import Service, Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
from labkit.policy.durations import as_protobuf
from labkit.policy.virtual_service import WeightedDestination


def bytes_to(
    snapshot: Snapshot,
    sender: Sidecar,
    destinations: Sequence[WeightedDestination],
    port: int,
    before: Iterable[Config] = (),
) -> list[Config]:
    """The network filters that hand bytes to destinations, after the filters `before`."""
    first = destination_cluster(snapshot, destinations[0].destination, port)
    proxy = filters.tcp_proxy(first)
    settings = proxy["typed_config"]
    del settings["cluster"]
    settings |= tcp_destinations(snapshot, destinations, port)
    # Among several destinations, the rule of the first one's service decides, and no subset of it.
    meant = destinations[0].destination
    subset = meant.subset if len(destinations) == 1 else ""
    return [*before, by_rule(proxy, snapshot, sender, snapshot.service_named(meant.host), subset)]


# pilot/pkg/networking/core/networkfilter.go buildOutboundNetworkFiltersWithSingleDestination, maybeSetHashPolicy
def by_rule(proxy: Config, snapshot: Snapshot, sender: Sidecar, service: Service | None, subset: str = "") -> Config:
    """A TCP proxy with what a DestinationRule says of connections; of the limits of time, what it says at its top."""
    rule = snapshot.rule_for(sender.workload, service) if service else None
    if rule is None:
        return proxy
    settings = proxy["typed_config"]
    if hashed := hashing.of_connections(rule, subset):
        settings["hash_policy"] = hashed
    limits = ((rule.policy.connection_pool if rule.policy else None) or {}).get("tcp") or {}
    for written, name in (
        ("idleTimeout", "idle_timeout"),
        ("maxConnectionDuration", "max_downstream_connection_duration"),
    ):
        if limits.get(written):
            settings[name] = as_protobuf(limits[written], written)
    return proxy


def by_sni(names: Iterable[str]) -> Config:
    """The match of a chain for these SNI names; `*` among them takes every connection, with SNI or without."""
    listed = list(names)
    return {} if "*" in listed or not listed else {"server_names": listed}


def distinct(chains: Iterable[Config]) -> list[Config]:
    """The chains without those that claim what an earlier one has."""
    taken: set[tuple[str, str]] = set()
    kept = []
    for chain in chains:
        match = chain.get("filter_chain_match", {})
        claimed = {
            (name, protocol)
            for name in match.get("server_names", ["*"])
            for protocol in match.get("application_protocols", ["*"])
        }
        if not claimed & taken:
            taken |= claimed
            kept.append(chain)
    return kept
