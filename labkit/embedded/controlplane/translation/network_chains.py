"""Filter chains of traffic that is not HTTP: for gateways and sidecars alike. Pure.

A chain is chosen by the SNI that the client's first bytes show, and hands the bytes on as they are. Envoy refuses a
listener in which two chains claim one name, so each name is given once (`distinct`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labkit.embedded.controlplane.translation import filters, hashing
from labkit.embedded.controlplane.translation.destinations import destination_cluster, tcp_destinations
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
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
    sources = hashing.of_connections(snapshot, sender, snapshot.service_named(meant.host), subset)
    return [*before, hashed(proxy, sources)]


def hashed(proxy: Config, policies: Sequence[Config]) -> Config:
    """A TCP proxy that chooses endpoints by a hash, if there are policies for it."""
    if policies:
        proxy["typed_config"]["hash_policy"] = list(policies)
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
