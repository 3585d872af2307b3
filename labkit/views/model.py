"""The encryption map of a snapshot: which workloads, which edges, and what the policies say of each.

An edge is drawn for every call that is known: one that was tried, one that a pod's own settings name (an environment
variable or an argument that holds a Service's address), or one that is asked for. When that leaves a client without
any edge, all Services of the shown namespaces are taken, as long as the map stays readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.cluster import Obj
from labkit.observe.declared import namespace_effective
from labkit.observe.objects import (
    PROXY,
    Snapshot,
    is_injected,
    labels_of,
    matches,
    name_of,
    namespace_of,
    workload_name,
)
from labkit.outcomes import Observation, Outcome, Verdict
from labkit.policy import compose_peer_authentication, workload_from_pod
from labkit.policy.calls import predict_call, resolve_call
from labkit.views.map import EdgeState, MapEdge, MapModel, MapNode, NamespaceBox

MOST_GUESSED_EDGES = 6  # more lines than that and nobody reads the map

_STATES = {
    Outcome.MTLS: EdgeState.MTLS,
    Outcome.PLAINTEXT: EdgeState.PLAINTEXT,
    Outcome.REFUSED: EdgeState.REFUSED,
}


@dataclass(frozen=True, order=True)
class Call:
    """A client workload calls a Service's port."""

    client: str  # namespace/workload
    service: str  # namespace/service
    port: int


def make_map(
    snapshot: Snapshot,
    seen: Iterable[Observation] = (),
    calls: Iterable[Call] = (),
    *,
    title: str = "Encryption map",
) -> MapModel:
    """The map of the snapshot's shown namespaces. `seen` are probes of the present state, newest last."""
    pods = [p for p in snapshot.pods if namespace_of(p) in snapshot.shown and not _is_control_plane(p)]
    workloads: dict[str, list[Obj]] = {}
    for pod in pods:
        workloads.setdefault(f"{namespace_of(pod)}/{workload_name(pod)}", []).append(pod)
    tried = {Call(o.probe.client, o.probe.server, o.probe.port): o for o in seen if o.probe and "/" in o.probe.server}
    wanted = sorted({*tried, *calls, *_declared_calls(snapshot, workloads)} or _guessed_calls(snapshot, workloads))
    idle = {client for client in workloads if not _serves(snapshot, workloads[client])} - {c.client for c in wanted}
    guessed = [call for call in _guessed_calls(snapshot, workloads) if call.client in idle]
    if len(wanted) + len(guessed) <= MOST_GUESSED_EDGES:
        wanted = sorted({*wanted, *guessed})
    edges = [edge for call in wanted if (edge := _edge(call, snapshot, workloads, tried.get(call)))]
    return MapModel(
        namespaces=tuple(_box(name, snapshot) for name in snapshot.shown if name in {namespace_of(p) for p in pods}),
        nodes=tuple(_node(name, members, snapshot) for name, members in workloads.items()),
        edges=tuple(edges),
        title=title,
    )


def _box(name: str, snapshot: Snapshot) -> NamespaceBox:
    if not snapshot.mesh_installed:
        return NamespaceBox(name, "no mesh")
    effective = namespace_effective(snapshot, name)
    namespace = next((n for n in snapshot.namespaces if name_of(n) == name), None)
    labels = labels_of(namespace) if namespace else {}
    injected = labels.get("istio-injection") == "enabled" or (
        bool(labels.get("istio.io/rev")) and labels.get("istio-injection") != "disabled"
    )
    return NamespaceBox(name, effective.mode, str(effective.decided_by), "with a sidecar" if injected else "plain")


def _node(name: str, pods: Sequence[Obj], snapshot: Snapshot) -> MapNode:
    injected = [is_injected(pod) for pod in pods]
    namespace, _, short = name.partition("/")
    mode = ""
    if all(injected):
        workload = workload_from_pod(pods[0])
        mode = compose_peer_authentication(snapshot.peer_authentications, workload, snapshot.root_namespace).mode
    return MapNode(namespace, short, injected[0] if len(set(injected)) == 1 else None, len(pods), mode)


def _edge(call: Call, snapshot: Snapshot, workloads: dict[str, list[Obj]], seen: Observation | None) -> MapEdge | None:
    namespace, _, name = call.service.partition("/")
    service = snapshot.service(namespace, name)
    clients = workloads.get(call.client)
    if service is None or not clients:
        return None
    servers = snapshot.pods_of_service(service)
    if not servers:
        return None
    server = f"{namespace_of(servers[0])}/{workload_name(servers[0])}"
    if server == call.client or server not in workloads:
        return None
    resolved = resolve_call(name, call.port, namespace, snapshot.services, snapshot.pods)
    if resolved is None:
        return None
    client = workload_from_pod(clients[0])
    verdict = predict_call(
        client,
        resolved,
        snapshot.peer_authentications,
        root_namespace=snapshot.root_namespace,
        destination_rules=snapshot.destination_rules,
        authorization_policies=snapshot.authorization_policies,
    )
    return MapEdge(
        client=call.client,
        server=server,
        port=call.port,
        state=_STATES.get(verdict.outcome, EdgeState.UNKNOWN),
        reason=_reason(verdict),
        seen=_seen(seen),
        disagrees=seen is not None and not verdict.agrees_with(seen),
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


def _declared_calls(snapshot: Snapshot, workloads: dict[str, list[Obj]]) -> set[Call]:
    """Calls that a pod's own settings name: `http://chatbackend-service:5000/chat` in an environment variable."""
    found = set()
    for client, pods in workloads.items():
        for text in _settings(pods[0]):
            for host, port in re.findall(r"\b([a-z0-9][a-z0-9.-]*):(\d{2,5})\b", text):
                parts = host.split(".")
                namespace = parts[1] if len(parts) > 1 else namespace_of(pods[0])
                if snapshot.service(namespace, parts[0]):
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
    for service in snapshot.services:
        name = f"{namespace_of(service)}/{name_of(service)}"
        if (
            namespace_of(service) in snapshot.shown
            and service["spec"].get("selector")
            and (not called or name in called)
        ):
            for client in workloads:
                if not _behind(service, workloads[client]):
                    calls.add(Call(client, name, int(service["spec"]["ports"][0]["port"])))
    return calls


def _behind(service: Obj, pods: Sequence[Obj]) -> bool:
    selector = service["spec"].get("selector") or {}
    return namespace_of(service) == namespace_of(pods[0]) and matches(selector, labels_of(pods[0]))


def _serves(snapshot: Snapshot, pods: Sequence[Obj]) -> bool:
    return any(s["spec"].get("selector") and _behind(s, pods) for s in snapshot.services)


def _is_control_plane(pod: Obj) -> bool:
    return labels_of(pod).get("app") == "istiod"
