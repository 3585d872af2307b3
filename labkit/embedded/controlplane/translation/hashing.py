"""Consistent hashing: what of a request or a connection decides which endpoint it goes to. Pure.

The Envoy cluster keeps a ring of endpoints (`traffic_policy`); the route says what is hashed. Where a DestinationRule
speaks of the hash is asked in another order than for the rest of its policy: the subset's port, the subset, the port,
the destination; and a port counts only where the route names it.

pilot/pkg/networking/core/route/route.go hashForHTTPDestination, hashForService, consistentHashToHashPolicy;
networkfilter.go maybeSetHashPolicy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
from labkit.policy.destination_rule import DestinationRule, TrafficPolicy
from labkit.policy.durations import as_protobuf
from labkit.policy.virtual_service import Destination

Hash = Mapping[str, Any]
"""`loadBalancer.consistentHash` as it is written."""


def of_destination(snapshot: Snapshot, proxy: Sidecar, destination: Destination) -> Hash:
    """What a route to this destination hashes; empty for nothing."""
    service = snapshot.service_named(destination.host)
    rule = snapshot.rule_for(proxy.workload, service) if service else None
    if rule is None:
        return {}
    subset = rule.subset(destination.subset)
    policies = [*([subset.policy] if subset else []), rule.policy or TrafficPolicy()]
    for policy in policies:
        for one in (policy.ports.get(destination.port), policy):
            if found := _hash(one):
                return found
    return {}


def of_service(rule: DestinationRule | None, port: int) -> Hash:
    """What is hashed where no route is written."""
    policy = (rule.policy if rule else None) or TrafficPolicy()
    return _hash(policy.ports.get(port)) or _hash(policy)


def of_connections(rule: DestinationRule, subset: str = "") -> list[Config]:
    """The `hash_policy` of a TCP proxy: a connection has nothing but its source."""
    found = rule.subset(subset)
    own = found.policy if found and found.policy.load_balancer is not None else rule.policy
    return [{"source_ip": {}}] if _hash(own).get("useSourceIp") else []


def hash_policies(hashed: Hash) -> list[Config]:
    """The `hash_policy` of a route."""
    if hashed.get("httpHeaderName"):
        return [{"header": {"header_name": str(hashed["httpHeaderName"])}}]
    if cookie := hashed.get("httpCookie"):
        result: Config = {"name": str(cookie.get("name") or "")}
        if cookie.get("ttl"):
            result["ttl"] = as_protobuf(str(cookie["ttl"]), "ttl")
        if cookie.get("path"):
            result["path"] = str(cookie["path"])
        if attributes := cookie.get("attributes"):
            result["attributes"] = [
                {"name": str(one.get("name") or ""), "value": str(one.get("value") or "")} for one in attributes
            ]
        return [{"cookie": result}]
    if hashed.get("useSourceIp"):
        return [{"connection_properties": {"source_ip": True}}]
    if hashed.get("httpQueryParameterName"):
        return [{"query_parameter": {"name": str(hashed["httpQueryParameterName"])}}]
    return []


def _hash(policy: TrafficPolicy | None) -> Hash:
    balancer = (policy.load_balancer if policy else None) or {}
    return balancer.get("consistentHash") or {}
