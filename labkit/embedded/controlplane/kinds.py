"""The kinds of Istio's objects that the control plane reads: where they are served, who parses them, whom they concern.

A new kind is one line here. What it means stands in `labkit.policy`, what becomes of it in `translation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from labkit.embedded.apiclient import (
    AUTHORIZATIONPOLICIES,
    DESTINATIONRULES,
    ENVOYFILTERS,
    GATEWAYS,
    PEERAUTHENTICATIONS,
    PROXYCONFIGS,
    REQUESTAUTHENTICATIONS,
    SERVICEENTRIES,
    SIDECARS,
    TELEMETRIES,
    VIRTUALSERVICES,
    WASMPLUGINS,
    WORKLOADENTRIES,
    WORKLOADGROUPS,
    Resource,
)
from labkit.policy.authorization import parse_authorization_policy
from labkit.policy.destination_rule import parse_destination_rule
from labkit.policy.envoy_filter import parse_envoy_filter
from labkit.policy.gateway import parse_gateway
from labkit.policy.peer_authentication import parse_peer_authentication
from labkit.policy.proxy_config import parse_proxy_config
from labkit.policy.request_authentication import parse_request_authentication
from labkit.policy.service_entry import parse_service_entry, parse_workload_entry, parse_workload_group
from labkit.policy.sidecar_scope import parse_sidecar_scope
from labkit.policy.telemetry import parse_telemetry
from labkit.policy.virtual_service import parse_virtual_service
from labkit.policy.wasm_plugin import parse_wasm_plugin


class Reach(Enum):
    """Whose proxy must be told when an object changes."""

    WORKLOADS = auto()
    """Those of its namespace; in the root namespace, all."""
    MESH = auto()
    """Possibly every proxy; only files whose content changed are written."""
    INJECTION = auto()
    """No running proxy: it is read when a pod is injected."""


@dataclass(frozen=True)
class ConfigKind:
    """One kind. `read` turns an object into frozen data, or raises InputError."""

    kind: str
    resource: Resource
    read: Callable[[dict[str, Any]], Any]
    reach: Reach


KINDS: dict[str, ConfigKind] = {
    one.kind: one
    for one in (
        ConfigKind("PeerAuthentication", PEERAUTHENTICATIONS, parse_peer_authentication, Reach.WORKLOADS),
        ConfigKind("RequestAuthentication", REQUESTAUTHENTICATIONS, parse_request_authentication, Reach.WORKLOADS),
        ConfigKind("AuthorizationPolicy", AUTHORIZATIONPOLICIES, parse_authorization_policy, Reach.WORKLOADS),
        ConfigKind("VirtualService", VIRTUALSERVICES, parse_virtual_service, Reach.MESH),
        ConfigKind("Gateway", GATEWAYS, parse_gateway, Reach.MESH),
        ConfigKind("DestinationRule", DESTINATIONRULES, parse_destination_rule, Reach.MESH),
        ConfigKind("ServiceEntry", SERVICEENTRIES, parse_service_entry, Reach.MESH),
        ConfigKind("WorkloadEntry", WORKLOADENTRIES, parse_workload_entry, Reach.MESH),
        # No machine registers itself here, so nobody asks for its template; but istiod knows it, and says so.
        ConfigKind("WorkloadGroup", WORKLOADGROUPS, parse_workload_group, Reach.INJECTION),
        ConfigKind("Sidecar", SIDECARS, parse_sidecar_scope, Reach.WORKLOADS),
        ConfigKind("EnvoyFilter", ENVOYFILTERS, parse_envoy_filter, Reach.WORKLOADS),
        ConfigKind("Telemetry", TELEMETRIES, parse_telemetry, Reach.WORKLOADS),
        ConfigKind("WasmPlugin", WASMPLUGINS, parse_wasm_plugin, Reach.WORKLOADS),
        ConfigKind("ProxyConfig", PROXYCONFIGS, parse_proxy_config, Reach.INJECTION),
    )
}

STATUS_RESOURCES: dict[str, Resource] = {kind: one.resource for kind, one in KINDS.items()}
"""The kinds whose status is kept: also of those that are not acted on it is said."""
