"""Where a VirtualService's destinations lead: Envoy clusters, with their weights and what is known of them. Pure.

1. A destination that does not exist keeps its name: a request to it is answered 503, a connection is closed.
2. Without a port, a Service's only one is meant, or the port that was asked for
   (pilot/pkg/networking/core/route/route.go GetDestinationCluster).
3. One destination alone gets all, whatever its weight; among several, without a weight it gets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from labkit.embedded.controlplane.translation.inbound import BLACK_HOLE
from labkit.embedded.controlplane.translation.model import Service, ServicePort, Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
from labkit.policy.destination_rule import TrafficPolicy
from labkit.policy.virtual_service import Destination, WeightedDestination


def destination_cluster(snapshot: Snapshot, destination: Destination, port: int) -> str:
    """The name of the Envoy cluster that a destination means, for a request to `port`."""
    number = _number(snapshot.service_named(destination.host), destination, port)
    return f"outbound|{number}|{destination.subset}|{destination.host}"


def _number(service: Service | None, destination: Destination, port: int) -> int:
    if destination.port:
        return destination.port
    ports = [one.number for one in service.ports] if service else []
    return ports[0] if len(ports) == 1 else port


def destination_port(snapshot: Snapshot, destination: Destination, port: int) -> tuple[Service, ServicePort] | None:
    """The service port that a destination means, if there is one."""
    service = snapshot.service_named(destination.host)
    if service is None:
        return None
    number = _number(service, destination, port)
    found = next((one for one in service.ports if one.number == number), None)
    return (service, found) if found else None


def traffic_policy_of(
    snapshot: Snapshot, proxy: Sidecar, service: Service, port: ServicePort, subset: str = ""
) -> TrafficPolicy:
    """What DestinationRules say to this proxy of a service port, or of one subset there."""
    rule = snapshot.rule_for(proxy.workload, service)
    return rule.traffic_policy(port.number, subset) if rule else TrafficPolicy()


def shared(destinations: Iterable[WeightedDestination]) -> list[tuple[WeightedDestination, int]]:
    """The destinations that get something, with their weights."""
    several = list(destinations)
    if len(several) == 1:
        return [(several[0], 100)]
    return [(one, one.weight) for one in several if one.weight]


def tcp_destinations(snapshot: Snapshot, destinations: Iterable[WeightedDestination], port: int) -> Config:
    """`cluster` or `weighted_clusters` of a TCP proxy."""
    chosen = [(destination_cluster(snapshot, one.destination, port), weight) for one, weight in shared(destinations)]
    if len(chosen) > 1:
        return {"weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in chosen]}}
    return {"cluster": chosen[0][0] if chosen else BLACK_HOLE}
