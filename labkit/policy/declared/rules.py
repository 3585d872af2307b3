"""All of Istio's objects that decide about edges: parsed once, found by namespace and host, answers remembered.

What the objects mean is said in the modules of each kind; here is only the way to the few that matter for a question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from labkit.policy.authorization import AuthorizationPolicy, parse_authorization_policy
from labkit.policy.declared.settings import MeshSettings
from labkit.policy.destination_rule import DestinationRule, destination_rule, host_matches, parse_destination_rule
from labkit.policy.gateway import Gateway, parse_gateway
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import (
    EffectiveMTLS,
    PeerAuthentication,
    compose_peer_authentication,
    namespace_mode,
    parse_peer_authentication,
)
from labkit.policy.selection import selected
from labkit.policy.service_entry import ServiceEntry, WorkloadEntry, parse_service_entry, parse_workload_entry
from labkit.policy.sidecar_scope import SidecarScope, parse_sidecar_scope, sidecar_scope
from labkit.policy.virtual_service import VirtualService, parse_virtual_service
from labkit.policy.workload import Workload

Object = Mapping[str, Any]
Labels = tuple[tuple[str, str], ...]
T = TypeVar("T")

KINDS: Mapping[str, Callable[[Object], Any]] = {
    "PeerAuthentication": parse_peer_authentication,
    "DestinationRule": parse_destination_rule,
    "AuthorizationPolicy": parse_authorization_policy,
    "VirtualService": parse_virtual_service,
    "Sidecar": parse_sidecar_scope,
    "Gateway": parse_gateway,
    "ServiceEntry": parse_service_entry,
    "WorkloadEntry": parse_workload_entry,
}
"""The kinds that decide about an edge, and who reads them."""


class Rules:
    """The rules of one moment."""

    def __init__(self, objects: Iterable[Object], settings: MeshSettings) -> None:
        self.settings = settings
        found: dict[str, list[Any]] = defaultdict(list)
        if settings.installed:  # before that the kinds are unknown to the cluster
            for one in objects:
                if parse := KINDS.get(str(one.get("kind"))):
                    found[str(one["kind"])].append(parse(one))
        self.peer_authentications: list[PeerAuthentication] = found["PeerAuthentication"]
        self.destination_rules: list[DestinationRule] = found["DestinationRule"]
        self.authorization_policies: list[AuthorizationPolicy] = found["AuthorizationPolicy"]
        self._virtual_services: list[VirtualService] = found["VirtualService"]
        self.sidecars: list[SidecarScope] = found["Sidecar"]
        self.gateways: list[Gateway] = found["Gateway"]
        self.service_entries: list[ServiceEntry] = found["ServiceEntry"]
        self.workload_entries: list[WorkloadEntry] = found["WorkloadEntry"]
        self._peers = _by_namespace(self.peer_authentications, lambda one: one.namespace)
        self._authorizations = _by_namespace(self.authorization_policies, lambda one: one.meta.namespace)
        self._effective: dict[tuple[str, Labels], EffectiveMTLS] = {}
        self._modes: dict[str, MutualTLSMode | None] = {}
        self._destinations: dict[str, list[DestinationRule]] = {}
        self._routings: dict[str, list[VirtualService]] = {}
        self._guards: dict[tuple[str, Labels], list[AuthorizationPolicy]] = {}
        self._scopes: dict[tuple[str, Labels], SidecarScope | None] = {}

    # -- what servers accept

    def effective(self, workload: Workload) -> EffectiveMTLS:
        """What the policies make a workload accept. Workloads that no selector of their namespace tells apart share
        one answer.
        """
        namespace = workload.namespace
        keys = self._peer_keys.get(namespace) or self._peer_keys[""]
        known = (namespace, tuple((key, workload.labels[key]) for key in keys if key in workload.labels))
        if known not in self._effective:
            root = self.settings.root_namespace
            mine = self._peers.get(namespace, [])
            mine = mine if namespace == root else [*mine, *self._peers.get(root, [])]
            self._effective[known] = compose_peer_authentication(mine, workload, root)
        return self._effective[known]

    def namespace_mode(self, namespace: str) -> MutualTLSMode | None:
        """The mode of a namespace as clients look it up."""
        if namespace not in self._modes:
            root = self.settings.root_namespace
            mine = [*self._peers.get(namespace, ()), *(self._peers.get(root, ()) if namespace != root else ())]
            self._modes[namespace] = namespace_mode(mine, namespace, root)
        return self._modes[namespace]

    def guards(self, workload: Workload) -> list[AuthorizationPolicy]:
        """The AuthorizationPolicies for a workload, without those that only try."""
        if not self.authorization_policies:
            return []
        known = (workload.namespace, _some(workload.labels, self._guard_keys))
        if known not in self._guards:
            root = self.settings.root_namespace
            near = self._authorizations.get(workload.namespace, [])
            near = near if workload.namespace == root else [*near, *self._authorizations.get(root, [])]
            self._guards[known] = [one for one in selected(near, workload, root) if not one.dry_run]
        return self._guards[known]

    # -- what clients follow

    def scope(self, workload: Workload) -> SidecarScope | None:
        """The Sidecar object of a workload."""
        if not self.sidecars:
            return None
        known = (workload.namespace, _some(workload.labels, self._scope_keys))
        if known not in self._scopes:
            self._scopes[known] = sidecar_scope(self.sidecars, workload, self.settings.root_namespace)
        return self._scopes[known]

    def destination_rule(self, client: Workload, namespace: str, host: str) -> DestinationRule | None:
        """The DestinationRule that a client follows for a host of a namespace."""
        if host not in self._destinations:
            self._destinations[host] = [one for one in self.destination_rules if host_matches(one.host, host)]
        found = self._destinations[host]
        return destination_rule(found, client, namespace, host, self.settings.root_namespace) if found else None

    @property
    def all_virtual_services(self) -> list[VirtualService]:
        return self._virtual_services

    def virtual_services(self, host: str) -> list[VirtualService]:
        """Those that name a host, at whatever gateway."""
        if host not in self._routings:
            self._routings[host] = [
                one for one in self._virtual_services if any(host_matches(pattern, host) for pattern in one.hosts)
            ]
        return self._routings[host]

    @cached_property
    def client_keys(self) -> frozenset[str]:
        """The labels by which rules tell clients apart."""
        keys = {key for one in self.destination_rules for key in one.selector} | self._scope_keys
        for service in self._virtual_services:
            sources = [match.source for route in service.http for match in route.matches]
            sources += [source for route in (*service.tcp, *service.tls) for source, _ in route.matches]
            keys |= {key for source in sources for key in source.labels}
        return frozenset(keys)

    @cached_property
    def client_namespaces(self) -> frozenset[str]:
        """The namespaces whose clients may follow other rules than those of the rest."""
        found = {one.meta.namespace for one in self.destination_rules}
        found |= {one.meta.namespace for one in self.sidecars}
        exports = [(one.meta.namespace, one.export_to) for one in self._virtual_services]
        for owner, export_to in [*exports, *((one.meta.namespace, one.export_to) for one in self.destination_rules)]:
            if export_to:
                found |= {owner, *export_to}
        for service in self._virtual_services:
            sources = [match.source for route in service.http for match in route.matches]
            sources += [source for route in (*service.tcp, *service.tls) for source, _ in route.matches]
            found |= {source.namespace for source in sources}
        return frozenset(found)

    @cached_property
    def ask_for_addresses(self) -> bool:
        """Whether an AuthorizationPolicy asks for the caller's address."""
        groups = [
            group
            for policy in self.authorization_policies
            for rule in policy.rules
            for group in (*rule.sources, rule.when)
        ]
        return any(one.key in ("source.ip", "remote.ip") for group in groups for one in group)

    @cached_property
    def _peer_keys(self) -> dict[str, tuple[str, ...]]:
        keys: dict[str, set[str]] = defaultdict(set)
        for one in self.peer_authentications:
            keys[one.namespace] |= set(one.selector)
        # A selector in the root namespace decides nothing, but it is listed as ignored for those it matches.
        root = keys.get(self.settings.root_namespace, set())
        return {name: tuple(sorted(own | root)) for name, own in keys.items()} | {"": tuple(sorted(root))}

    @cached_property
    def _guard_keys(self) -> frozenset[str]:
        return frozenset(key for one in self.authorization_policies for key in one.selector)

    @cached_property
    def _scope_keys(self) -> frozenset[str]:
        return frozenset(key for one in self.sidecars for key in one.selector)


def _by_namespace(configs: Iterable[T], namespace: Callable[[T], str]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for one in configs:
        found[namespace(one)].append(one)
    return dict(found)


def _some(labels: Mapping[str, str], keys: Iterable[str]) -> Labels:
    return tuple(sorted((key, labels[key]) for key in keys if key in labels))
