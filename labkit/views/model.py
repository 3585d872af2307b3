"""The encryption map of a snapshot: which workloads, which edges, and what the policies say of each.

An edge is drawn for every call that is known: one that was tried or counted, one that a pod's own settings name (an
environment variable or an argument that holds a Service's address), one that a gateway routes, or one that is asked
for. When that leaves a client without any edge, all Services of the shown namespaces are taken, as long as the map
stays readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from labkit.cluster import Obj
from labkit.observe.declared import namespace_effective
from labkit.observe.objects import (
    PROXY,
    Snapshot,
    is_injected,
    is_ready,
    labels_of,
    matches,
    name_of,
    namespace_of,
    workload_name,
)
from labkit.outcomes import Observation, Outcome, Verdict
from labkit.policy import compose_peer_authentication, workload_from_pod
from labkit.policy.authorization import AuthorizationPolicy, parse_authorization_policy
from labkit.policy.calls import Call as Resolved
from labkit.policy.calls import call_service, predict_call
from labkit.policy.destination_rule import DestinationRule, parse_destination_rule
from labkit.policy.peer_authentication import PeerAuthentication, parse_peer_authentication
from labkit.policy.workload import Workload
from labkit.views import entrances, externals
from labkit.views.map import NO_COUNTS, Counts, EdgeState, MapEdge, MapModel, MapNode, NamespaceBox, NodeKind

MOST_GUESSED_EDGES = 6  # more lines than that and nobody reads the map

STATES = {
    Outcome.MTLS: EdgeState.MTLS,
    Outcome.PLAINTEXT: EdgeState.PLAINTEXT,
    Outcome.REFUSED: EdgeState.REFUSED,
    Outcome.TLS: EdgeState.TLS,
}

UNKNOWN_CLIENT = "unknown"
"""The source of a request as a server's metrics name it when the client has no sidecar."""

Counted = Mapping[tuple[str, str], Counts]
"""What was counted between two workloads: (client, server), each `namespace/name`."""


@dataclass(frozen=True, order=True)
class Call:
    """A client workload calls a Service's port."""

    client: str  # namespace/workload
    service: str  # namespace/service
    port: int


class World:
    """A snapshot with everything parsed once, for many questions."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.workloads: dict[str, list[Obj]] = {}
        for pod in snapshot.pods:
            if namespace_of(pod) in snapshot.shown and labels_of(pod).get("app") != "istiod":
                self.workloads.setdefault(f"{namespace_of(pod)}/{workload_name(pod)}", []).append(pod)
        self._services = {f"{namespace_of(s)}/{name_of(s)}": s for s in snapshot.services}
        self._calls: dict[tuple[str, int], dict[str, Resolved]] = {}

    @cached_property
    def clients(self) -> dict[str, Workload]:
        return {name: workload_from_pod(pods[0]) for name, pods in self.workloads.items()}

    @cached_property
    def everybody(self) -> list[tuple[str, Workload]]:
        return [(f"{namespace_of(pod)}/{workload_name(pod)}", workload_from_pod(pod)) for pod in self.snapshot.pods]

    @cached_property
    def policies(self) -> list[PeerAuthentication]:
        return [parse_peer_authentication(policy) for policy in self.snapshot.peer_authentications]

    @cached_property
    def rules(self) -> list[DestinationRule]:
        return [parse_destination_rule(rule) for rule in self.snapshot.destination_rules]

    @cached_property
    def guards(self) -> list[AuthorizationPolicy]:
        return [parse_authorization_policy(policy) for policy in self.snapshot.authorization_policies]

    def service(self, name: str) -> Obj | None:
        """The Service `namespace/name`."""
        return self._services.get(name)

    def behind(self, service: str, port: int) -> dict[str, Resolved]:
        """The workloads that a call of a Service's port may meet, each with the call as far as it meets that one."""
        key = (service, port)
        if key not in self._calls:
            self._calls[key] = self._resolve(service, port)
        return self._calls[key]

    def _resolve(self, service: str, port: int) -> dict[str, Resolved]:
        found = self._services.get(service)
        ports = ((found or {}).get("spec") or {}).get("ports") or []
        service_port = next((one for one in ports if one.get("port") == port), None)
        if found is None or service_port is None:
            return {}
        namespace = namespace_of(found)
        near = [(name, one) for name, one in self.everybody if one.namespace == namespace]
        whole = call_service(found, service_port, [one for _, one in near], host=name_of(found))
        owners = {(one.namespace, one.name): name for name, one in near}
        parts: dict[str, list[int]] = {}
        for index, endpoint in enumerate(whole.endpoints):
            parts.setdefault(owners[endpoint.workload.namespace, endpoint.workload.name], []).append(index)
        return {
            name: replace(whole, endpoints=tuple(whole.endpoints[i] for i in indexes))
            for name, indexes in parts.items()
        }

    def verdict(self, client: Workload, call: Resolved) -> Verdict:
        """What the policies say of a call."""
        return predict_call(
            client,
            call,
            self.policies,
            root_namespace=self.snapshot.root_namespace,
            destination_rules=self.rules,
            authorization_policies=self.guards,
        )


def make_map(
    snapshot: Snapshot,
    seen: Iterable[Observation] = (),
    calls: Iterable[Call] = (),
    *,
    title: str = "Encryption map",
    counted: Counted | None = None,
    special: bool = False,
    forwards: Iterable[str] = (),
    resolve: bool = True,
) -> MapModel:
    """The map of the snapshot's shown namespaces. `seen` are probes of the present state, newest last.

    `special` adds who enters by a door of its own: the kubelet's probes and Prometheus' scrapes. `forwards` names
    workloads that a port-forward leads to. `resolve` replaces the source that metrics call `unknown` by the clients
    that labkit knows; without it the map shows what the metrics say.
    """
    world = World(snapshot)
    counted, seen = dict(counted or {}), list(seen)
    if not resolve:  # as the metrics see it: of a client without a sidecar they know nothing
        plain = {name for name, one in world.clients.items() if not one.injected}
        counted = {edge: counts for edge, counts in counted.items() if edge[0] not in plain}
        seen = [one for one in seen if one.probe and one.probe.client not in plain]
    tried = {Call(o.probe.client, o.probe.server, o.probe.port): o for o in seen if o.probe and "/" in o.probe.server}
    edges = [
        edge
        for call in _wanted(world, {*tried, *calls}, counted)
        for edge in _edges(call, world, tried.get(call), counted)
    ]
    edges = _with_unknown(edges, counted, resolve=resolve)
    more, nodes = entrances.at_the_gateways(world.snapshot, world.workloads)
    edges += more
    texts = {name: _settings(pods[0]) for name, pods in world.workloads.items()}
    hosts, outside = externals.beyond_the_mesh(snapshot, texts, seen, counted)
    edges, nodes = edges + hosts, nodes + outside
    if special:
        doors, systems = entrances.by_other_doors(world.snapshot, world.workloads, forwards)
        edges, nodes = edges + doors, nodes + systems
    if any(edge.client == UNKNOWN_CLIENT for edge in edges):
        nodes = [*nodes, MapNode("", UNKNOWN_CLIENT, kind=NodeKind.UNKNOWN)]
    shown = {name.partition("/")[0] for name in world.workloads}
    return MapModel(
        namespaces=tuple(_box(name, world) for name in snapshot.shown if name in shown),
        nodes=(*(_node(name, members, world) for name, members in world.workloads.items()), *nodes),
        edges=tuple(edges),
        title=title,
        mesh=_mesh(world),
        window=max((counts.window for counts in counted.values()), default=0.0),
    )


def map_calls(snapshot: Snapshot) -> list[Call]:
    """The calls that the map would draw without anything tried: what a prober can try."""
    return _wanted(World(snapshot), set(), {})


# -- which calls ---------------------------------------------------------------------------------------------------


def _wanted(world: World, known: set[Call], counted: Counted) -> list[Call]:
    snapshot, workloads = world.snapshot, world.workloads
    known = known | _routed_calls(world) | _counted_calls(world, counted)
    wanted = sorted({*known, *_declared_calls(snapshot, workloads)} or _guessed_calls(snapshot, workloads))
    idle = {client for client in workloads if not _serves(snapshot, workloads[client])} - {c.client for c in wanted}
    if idle:
        guessed = [call for call in _guessed_calls(snapshot, workloads) if call.client in idle]
        if len(wanted) + len(guessed) <= MOST_GUESSED_EDGES:
            wanted = sorted({*wanted, *guessed})
    return wanted


def _routed_calls(world: World) -> set[Call]:
    """What gateways route to."""
    return {Call(*route) for route in entrances.routes(world.snapshot, world.workloads)}


def _counted_calls(world: World, counted: Counted) -> set[Call]:
    """Who was counted and is not declared anywhere."""
    calls = set()
    for client, server in counted:
        if client not in world.workloads or server not in world.workloads:
            continue
        for service in world.snapshot.services:
            name = f"{namespace_of(service)}/{name_of(service)}"
            if service["spec"].get("selector") and _behind(service, world.workloads[server]):
                calls.add(Call(client, name, int(service["spec"]["ports"][0]["port"])))
                break
    return calls


def _declared_calls(snapshot: Snapshot, workloads: dict[str, list[Obj]]) -> set[Call]:
    """Calls that a pod's own settings name: `http://chatbackend-service:5000/chat` in an environment variable."""
    services = {(namespace_of(service), name_of(service)) for service in snapshot.services}
    found = set()
    for client, pods in workloads.items():
        for text in _settings(pods[0]):
            for host, port in re.findall(r"\b([a-z0-9][a-z0-9.-]*):(\d{2,5})\b", text):
                parts = host.split(".")
                namespace = parts[1] if len(parts) > 1 else namespace_of(pods[0])
                if (namespace, parts[0]) in services:
                    found.add(Call(client, f"{namespace}/{parts[0]}", int(port)))
    return found


def _settings(pod: Obj) -> list[str]:
    texts: list[str] = []
    for container in pod["spec"]["containers"]:
        if container["name"] != PROXY:
            texts += [str(item.get("value", "")) for item in container.get("env") or []]
            texts += [str(word) for word in (container.get("command") or []) + (container.get("args") or [])]
    return texts


def _guessed_calls(snapshot: Snapshot, workloads: dict[str, list[Obj]]) -> set[Call]:
    called = {c.service for c in _declared_calls(snapshot, workloads)}
    calls = set()
    gateways = [pods for pods in workloads.values() if entrances.is_gateway(pods[0])]
    for service in snapshot.services:
        name = f"{namespace_of(service)}/{name_of(service)}"
        if (
            namespace_of(service) in snapshot.shown
            and service["spec"].get("selector")
            # What a gateway opens is drawn where it opens it; the first port of its Service is for health checks.
            and not any(_behind(service, pods) for pods in gateways)
            and (not called or name in called)
        ):
            for client in workloads:
                if not _behind(service, workloads[client]) and not entrances.is_gateway(workloads[client][0]):
                    calls.add(Call(client, name, int(service["spec"]["ports"][0]["port"])))
    return calls


def _behind(service: Obj, pods: Sequence[Obj]) -> bool:
    selector = service["spec"].get("selector") or {}
    return namespace_of(service) == namespace_of(pods[0]) and matches(selector, labels_of(pods[0]))


def _serves(snapshot: Snapshot, pods: Sequence[Obj]) -> bool:
    return any(s["spec"].get("selector") and _behind(s, pods) for s in snapshot.services)


# -- what is drawn -------------------------------------------------------------------------------------------------


def _mesh(world: World) -> NamespaceBox | None:
    snapshot = world.snapshot
    if not snapshot.mesh_installed:
        return None
    effective = namespace_effective(snapshot, snapshot.root_namespace)
    return NamespaceBox("Mesh", effective.mode, str(effective.decided_by))


def _box(name: str, world: World) -> NamespaceBox:
    snapshot = world.snapshot
    if not snapshot.mesh_installed:
        return NamespaceBox(name, "no mesh")
    effective = namespace_effective(snapshot, name)
    namespace = next((n for n in snapshot.namespaces if name_of(n) == name), None)
    labels = labels_of(namespace) if namespace else {}
    injected = labels.get("istio-injection") == "enabled" or (
        bool(labels.get("istio.io/rev")) and labels.get("istio-injection") != "disabled"
    )
    differing = sum(
        1
        for workload, one in world.clients.items()
        if one.namespace == name and all(is_injected(pod) for pod in world.workloads[workload])
        if _mode(world, one)[0] != effective.mode
    )
    injection = "with a sidecar" if injected else "plain"
    return NamespaceBox(name, effective.mode, str(effective.decided_by), injection, differing)


def _mode(world: World, workload: Workload) -> tuple[str, str]:
    effective = compose_peer_authentication(world.policies, workload, world.snapshot.root_namespace)
    return effective.mode, str(effective.decided_by)


def _node(name: str, pods: Sequence[Obj], world: World) -> MapNode:
    injected = [is_injected(pod) for pod in pods]
    namespace, _, short = name.partition("/")
    mode, decided_by = _mode(world, world.clients[name]) if all(injected) else ("", "")
    return MapNode(
        namespace,
        short,
        injected[0] if len(set(injected)) == 1 else None,
        len(pods),
        mode,
        kind=NodeKind.GATEWAY if entrances.is_gateway(pods[0]) else NodeKind.WORKLOAD,
        not_ready=sum(1 for pod in pods if not is_ready(pod)),
        decided_by=decided_by,
    )


def _edges(call: Call, world: World, seen: Observation | None, counted: Counted) -> list[MapEdge]:
    client = world.clients.get(call.client)
    if client is None:
        return []
    found = []
    for server, resolved in world.behind(call.service, call.port).items():
        if server == call.client or server not in world.workloads:
            continue
        verdict = world.verdict(client, resolved)
        counts = counted.get((call.client, server), NO_COUNTS)
        found.append(_judged(call, server, verdict, seen, counts))
    return found


def _judged(call: Call, server: str, verdict: Verdict, seen: Observation | None, counts: Counts) -> MapEdge:
    state = STATES.get(verdict.outcome, EdgeState.UNKNOWN)
    observed = counts.state
    if seen is not None and observed is None:
        observed = STATES.get(seen.outcome, EdgeState.REFUSED if seen.refused else EdgeState.UNKNOWN)
    known = EdgeState.UNKNOWN not in (observed, state)
    return MapEdge(
        client=call.client,
        server=server,
        port=call.port,
        state=state,
        reason=_reason(verdict),
        seen=_seen(seen),
        disagrees=(
            counts.total > 0 and known and observed is not state
            if counts.total
            else seen is not None and not verdict.agrees_with(seen)
        ),
        observed=observed,
        counts=counts,
        decided_by="" if verdict.decided_by.is_default else str(verdict.decided_by),
        service=call.service,
    )


def _with_unknown(edges: list[MapEdge], counted: Counted, *, resolve: bool) -> list[MapEdge]:
    """What a server's metrics count from a source that they cannot name: a client without a sidecar."""
    for (client, server), counts in counted.items():
        if client != UNKNOWN_CLIENT or not counts.total:
            continue
        plain = [edge for edge in edges if edge.server == server and edge.state is not EdgeState.MTLS]
        if resolve and plain:
            edges = [_resolved(edge, counts, len(plain)) if edge in plain else edge for edge in edges]
        else:
            reason = "The client shows no certificate, so the server's metrics cannot name it"
            edges = [*edges, MapEdge(client, server, 0, counts.state or EdgeState.UNKNOWN, reason, counts=counts)]
    return edges


def _resolved(edge: MapEdge, counts: Counts, among: int) -> MapEdge:
    if edge.counts.total:  # labkit sent these requests itself and knows better
        return replace(edge, resolved="The server's metrics call this client unknown")
    how = "the only client without a sidecar that calls it" if among == 1 else f"one of {among} without a sidecar"
    return replace(
        edge,
        counts=counts if among == 1 else NO_COUNTS,
        observed=counts.state or edge.observed,
        resolved=f"The server's metrics call this client unknown; labkit knows it: {how}",
    )


def _reason(verdict: Verdict) -> str:
    # The last reason is the server's, which decides; the client's comes before it.
    return verdict.reasons[-1] if verdict.reasons else ""


def _seen(observation: Observation | None) -> str:
    if observation is None:
        return ""
    if observation.http_status:
        return f"HTTP {observation.http_status}"
    word = "reset, " if observation.exit_code == 56 else ""
    return f"{word}curl exit {observation.exit_code}"
