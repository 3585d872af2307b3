"""Where a call goes before anybody encrypts it: what the client's proxy knows, and how its routes share the call.

Each way is a Branch: a target (or the reason why there is none), a subset of it, and the share of the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labkit.outcomes import DecidingPolicy, RequestKind, Scope
from labkit.policy.configs import exported
from labkit.policy.declared.groups import Group
from labkit.policy.declared.reasons import Because, Rule, an_object
from labkit.policy.declared.registry import Registry, Target
from labkit.policy.declared.rules import Rules
from labkit.policy.gateway import Gateway, bound_hosts, gateways_for
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.sidecar_scope import REGISTRY_ONLY
from labkit.policy.virtual_service import (
    MESH,
    Destination,
    HttpMatch,
    HttpRoute,
    StringMatch,
    VirtualService,
    WeightedDestination,
    routings_of,
    tcp_destinations_of,
    tls_destinations_of,
    virtual_service_for,
)


@dataclass(frozen=True)
class Branch:
    """One way that calls take. Without a target the client's own proxy ends them: `status` is what it answers then."""

    target: Target | None
    subset: str = ""
    share: float = 1.0
    when: str = ""
    """Which requests, in words; empty for all."""
    because: tuple[Because, ...] = ()
    passed_on: bool = False
    """Whether the proxy passes it on as it is, past every rule for the target."""
    status: int | None = None
    refuses: bool = True
    """Whether an end at the proxy is a refusal; a redirect is none."""


def request_of(protocol: Protocol) -> RequestKind:
    """What is sent to a port of this protocol, as far as the declaration tells; undeclared ports get HTTP."""
    if protocol in (Protocol.HTTPS, Protocol.TLS):
        return RequestKind.TLS
    return RequestKind.TCP if protocol.handled_as is Handling.TCP else RequestKind.HTTP


class Router:
    """Finds the branches of calls."""

    def __init__(self, rules: Rules, registry: Registry) -> None:
        self.rules, self.registry = rules, registry

    def branches(self, client: Group, target: Target, request: RequestKind) -> tuple[Branch, ...]:
        """How calls of a client to a target are shared."""
        if not client.injected:
            return (Branch(target),)
        if client.gateway:
            return tuple(self._of_gateway(client, target))
        blocked = self.outbound_policy(client) == REGISTRY_ONLY
        if target.by_address:
            return (self._blocked(client, target, None) if blocked else Branch(target, passed_on=True),)
        if unseen := self.unseen(client, target):
            return (self._blocked(client, target, unseen) if blocked else _passed_on(target, unseen),)
        return self._routed(client, target, request)

    def outbound_policy(self, client: Group) -> str:
        """What a proxy does with hosts that it does not know."""
        scope = self.rules.scope(client.workload)
        return (scope.outbound_policy if scope else "") or self.rules.settings.outbound_policy

    def unseen(self, client: Group, target: Target) -> Because | None:
        """Why a proxy does not know a target, if so."""
        if not exported(target.export_to, target.namespace, client.namespace):
            kind = "Service" if target.service else "ServiceEntry"
            return Because(
                Rule.SIDECAR_SCOPE,
                f"{target} is not exported to namespace {client.namespace}",
                an_object(kind, target.namespace, target.name),
            )
        scope = self.rules.scope(client.workload)
        if scope is None or scope.ports_seen(target.namespace, target.host, (target.port,)):
            return None
        by = an_object("Sidecar", scope.meta.namespace, scope.meta.name)
        return Because(Rule.SIDECAR_SCOPE, f"its egress hosts leave {target} out", by)

    # -- ends and ways around

    def _blocked(self, client: Group, target: Target, unseen: Because | None) -> Branch:
        scope = self.rules.scope(client.workload)
        settings = self.rules.settings
        if scope and scope.outbound_policy:
            by = an_object("Sidecar", scope.meta.namespace, scope.meta.name)
        else:
            by = _config_map(settings.root_namespace, settings.config_map)
        why = Because(Rule.REGISTRY_ONLY, f"{client} may only call what its proxy knows", by)
        return Branch(None, because=(*((unseen,) if unseen else ()), why), status=502)

    # -- sidecars

    def _routed(self, client: Group, target: Target, request: RequestKind) -> tuple[Branch, ...]:
        known: Iterable[VirtualService] = self.rules.virtual_services(target.host)
        scope = self.rules.scope(client.workload) if known else None
        if scope:
            known = scope.routes_seen(known)
        if not known:
            return (Branch(target),)
        http = target.protocol.handled_as is Handling.HTTP or (
            target.protocol.handled_as is Handling.AUTO and request is RequestKind.HTTP
        )
        if http:
            routed = virtual_service_for(known, client.workload, target.host)
            if routed is None or not routed.http:
                return (Branch(target),)
            return tuple(self._of_http(routed, client, target, MESH))
        routings = routings_of(known, client.workload, target.host)
        if target.protocol in (Protocol.TLS, Protocol.HTTPS):
            return self._of_tls(routings, client, target)
        destinations = tcp_destinations_of(routings, client.workload, target.port)
        if not destinations:
            return (Branch(target),)
        owner = next(one for one in routings if tcp_destinations_of([one], client.workload, target.port))
        return tuple(self._weighted(destinations, client, target, owner, ""))

    def _of_tls(self, routings: list[VirtualService], client: Group, target: Target) -> tuple[Branch, ...]:
        found = list(tls_destinations_of(routings, client.workload, target.port))
        names = _names_of(target)
        for patterns, destinations in found:
            if any(_sni_matches(pattern, name) for pattern in patterns for name in names):
                return tuple(self._weighted(destinations, client, target, routings[0], ""))
        if not found:
            return (Branch(target),)
        why = _routed_by(routings[0], "none of its routes has the name that is called")
        if self.outbound_policy(client) == REGISTRY_ONLY:
            return (self._blocked(client, target, why),)
        return (_passed_on(target, why),)

    def _of_http(self, routed: VirtualService, client: Group, target: Target, gateway: str) -> Iterator[Branch]:
        for route, match in reachable(routed.http, client, gateway, target.port):
            yield from self._of_route(routed, route, match, client, target)
            if match.catches_all:
                return
        why = _routed_by(routed, "no route of it matches, so the client's own proxy answers 404")
        yield Branch(None, when="all other requests", because=(why,), status=404)

    def _of_route(
        self, routed: VirtualService, route: HttpRoute, match: HttpMatch, client: Group, target: Target
    ) -> Iterator[Branch]:
        when = in_words(match)
        if route.redirect is not None:
            why = _routed_by(routed, "it answers with a redirect")
            yield Branch(None, when=when, because=(why,), status=301, refuses=False)
        elif route.direct_response is not None:
            status = int(route.direct_response.get("status") or 200)
            why = _routed_by(routed, f"it answers {status} itself")
            yield Branch(None, when=when, because=(why,), status=status, refuses=status >= 400)
        else:
            yield from self._weighted(route.destinations, client, target, routed, when)

    def _weighted(
        self,
        destinations: tuple[WeightedDestination, ...],
        client: Group,
        target: Target,
        routed: VirtualService,
        when: str,
    ) -> Iterator[Branch]:
        """One destination alone gets all, whatever its weight; among several, without a weight it gets nothing."""
        if not destinations:
            yield Branch(None, when=when, because=(_routed_by(routed, "its route has no destination"),), status=503)
        weights = [(one, one.weight if len(destinations) > 1 else 1) for one in destinations]
        total = sum(weight for _, weight in weights) or 1
        for one, weight in weights:
            if weight:
                yield self._destination(one.destination, client, target, routed, weight / total, when)

    def _destination(
        self, destination: Destination, client: Group, target: Target, routed: VirtualService, share: float, when: str
    ) -> Branch:
        ports = self.registry.ports_of(destination.host)
        number = destination.port or (ports[0].port if len(ports) == 1 else target.port)
        found = self.registry.find(destination.host, number)
        if found is None or not exported(found.export_to, found.namespace, client.namespace):
            what = "does not exist" if found is None else f"is not exported to namespace {client.namespace}"
            why = _routed_by(routed, f"it leads to {destination.host}:{number}, which {what}")
            return Branch(None, destination.subset, share, when, (why,), status=503)
        because: tuple[Because, ...] = ()
        if found is not target or destination.subset:
            subset = f", subset {destination.subset}" if destination.subset else ""
            because = (_routed_by(routed, f"it leads to {found}{subset}"),)
        elif when or share < 1:
            because = (_routed_by(routed, f"it leads to {found}"),)
        return Branch(found, destination.subset, share, when, because)

    # -- gateways

    def _of_gateway(self, client: Group, target: Target) -> Iterator[Branch]:
        """The routes of a gateway that end at the target."""
        found = False
        for gateway, routed in self._bound(client):
            for server in gateway.servers:
                for branch in self._leading(gateway, routed, client, target, server.port):
                    found = True
                    yield branch
                if found:
                    break
        if not found:
            why = Because(Rule.GATEWAY_ROUTE, f"no VirtualService leads from {client} to {target}")
            yield Branch(None, because=(why,), refuses=False)

    def _leading(
        self, gateway: Gateway, routed: VirtualService, client: Group, target: Target, port: int
    ) -> Iterator[Branch]:
        at = Because(Rule.GATEWAY_ROUTE, f"opens port {port}", _gateway(gateway))
        destinations = [
            (in_words(match), one)
            for route, match in reachable(routed.http, client, gateway.name, port)
            for one in route.destinations
        ]
        destinations += [
            ("", one)
            for route in (*routed.tcp, *routed.tls)
            if any(True for _ in route.names_for(client.workload, gateway.name, port))
            for one in route.destinations
        ]
        for when, one in destinations:
            branch = self._destination(one.destination, client, target, routed, 1.0, when)
            if branch.target is target:
                why = branch.because or (_routed_by(routed, f"it leads to {target}"),)
                yield Branch(target, branch.subset, 1.0, when, (at, *why))

    def _bound(self, client: Group) -> Iterator[tuple[Gateway, VirtualService]]:
        services = self.rules.all_virtual_services
        for gateway in gateways_for(self.rules.gateways, client.workload):
            seen = []
            for server in gateway.servers:
                for _, routed in bound_hosts(gateway, server, services, client.workload):
                    if routed not in seen:
                        seen.append(routed)
                        yield gateway, routed


def reachable(
    routes: Iterable[HttpRoute], client: Group, gateway: str, port: int
) -> Iterator[tuple[HttpRoute, HttpMatch]]:
    """The routes and matches that a proxy has."""
    for route in routes:
        for match in route.matches:
            if match.source.includes_http(client.workload, gateway, port):
                yield route, match


def in_words(match: HttpMatch) -> str:
    """Which requests match; empty for all."""
    if match.catches_all:
        return ""
    parts = [f"path {_string(match.uri)}"] if match.uri else []
    parts += [f"{name.removeprefix(':')} {_string(value)}" for name, value in match.headers.items()]
    parts += [f"without {name}" for name in match.without_headers]
    parts += [f"?{name} {_string(value)}" for name, value in match.query.items()]
    return ", ".join(parts)


def _string(match: StringMatch) -> str:
    return {"exact": match.value, "prefix": f"{match.value}*", "regex": f"~{match.value}"}.get(match.kind, "is there")


def _names_of(target: Target) -> tuple[str, ...]:
    if not target.service:
        return (target.host,)
    return (target.host, f"{target.name}.{target.namespace}.svc", f"{target.name}.{target.namespace}", target.name)


def _sni_matches(pattern: str, name: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))


def _passed_on(target: Target, why: Because) -> Branch:
    return Branch(target, because=(why,), passed_on=True)


def _routed_by(routed: VirtualService, said: str) -> Because:
    return Because(Rule.VIRTUAL_SERVICE, said, an_object("VirtualService", routed.meta.namespace, routed.meta.name))


def _gateway(gateway: Gateway) -> DecidingPolicy:
    return an_object("Gateway", gateway.meta.namespace, gateway.meta.name)


def _config_map(namespace: str, name: str) -> DecidingPolicy:
    return DecidingPolicy(Scope.MESH, namespace, name, "ConfigMap")
