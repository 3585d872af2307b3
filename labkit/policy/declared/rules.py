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
from labkit.policy.virtual_service import VirtualService, all_destinations, all_sources, parse_virtual_service
from labkit.policy.workload import Workload, labels_match

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
        self._effective: dict[tuple[str, tuple[int, ...]], EffectiveMTLS] = {}
        self._telling: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
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
        namespace, root = workload.namespace, self.settings.root_namespace
        places = (namespace,) if namespace == root else (namespace, root)
        chosen = [
            one
            for place in places
            for label in workload.labels.items()
            for one in self._selecting.get((place, label), ())
            if labels_match(one.selector, workload.labels)
        ]
        known = (namespace, tuple(map(id, chosen)))
        if known not in self._effective:
            wide = [one for place in places for one in self._wide.get(place, ())]
            self._effective[known] = compose_peer_authentication([*wide, *chosen], workload, root)
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
        found = self._rules_for(host)
        return destination_rule(found, client, namespace, host, self.settings.root_namespace) if found else None

    def _rules_for(self, host: str) -> list[DestinationRule]:
        if host not in self._destinations:
            exact = self._rules_by_host.get(host, ())
            patterns = (one for one in self._rules_by_host.get("*", ()) if host_matches(one.host, host))
            self._destinations[host] = [*exact, *patterns]
        return self._destinations[host]

    @cached_property
    def _rules_by_host(self) -> dict[str, list[DestinationRule]]:
        """By host; patterns together."""
        found: dict[str, list[DestinationRule]] = defaultdict(list)
        for one in self.destination_rules:
            found["*" if one.host.startswith("*") else one.host].append(one)
        return dict(found)

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

    def tell_apart(self, host: str) -> tuple[frozenset[str], frozenset[str]]:
        """By which namespaces and labels the rules for a host tell its clients apart."""
        if host not in self._telling:
            routes = self.virtual_services(host)
            hosts = {host} | {to for route in routes for to, _ in all_destinations(route)}
            rules = [one for name in hosts for one in self._rules_for(name)]
            namespaces = {one.meta.namespace for one in rules} | {one.meta.namespace for one in self.sidecars}
            keys = {key for one in rules for key in one.selector} | self._scope_keys
            for owner, export_to in [(one.meta.namespace, one.export_to) for one in routes] + [
                (one.meta.namespace, one.export_to) for one in rules
            ]:
                namespaces |= {owner, *export_to} if export_to else set()
            for source in (source for route in routes for source in all_sources(route)):
                namespaces.add(source.namespace)
                keys |= set(source.labels)
            self._telling[host] = frozenset(namespaces), frozenset(keys)
        return self._telling[host]

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
    def _wide(self) -> dict[str, list[PeerAuthentication]]:
        return {name: [one for one in some if not one.selector] for name, some in self._peers.items()}

    @cached_property
    def _selecting(self) -> dict[tuple[str, tuple[str, str]], list[PeerAuthentication]]:
        """Policies with a selector, by namespace and one of their labels. One in the root namespace decides nothing,
        but it is listed as ignored for those it matches.
        """
        found: dict[tuple[str, tuple[str, str]], list[PeerAuthentication]] = defaultdict(list)
        for one in self.peer_authentications:
            if one.selector:
                found[one.namespace, min(one.selector.items())].append(one)
        return dict(found)

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
