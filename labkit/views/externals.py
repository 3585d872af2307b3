"""Hosts that a ServiceEntry names, and who calls them: beyond the namespaces, and looking like it.

What the policies say of such a call is asked of the declared view, which reads all that decides there: location,
resolution, DestinationRules. Nobody outside is called to find out: an edge is tried when the learner tries it.
https://istio.io/latest/docs/reference/config/networking/service-entry/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import is_
from typing import Any

from labkit.cluster import Obj
from labkit.errors import InputError
from labkit.observe.objects import Snapshot, namespace_of
from labkit.outcomes import Observation, Outcome
from labkit.policy.declared import DeclaredMesh, MeshSettings
from labkit.views.map import NO_COUNTS, Counts, EdgeState, MapEdge, MapNode, NodeKind

_STATES = {
    Outcome.MTLS: EdgeState.MTLS,
    Outcome.PLAINTEXT: EdgeState.PLAINTEXT,
    Outcome.REFUSED: EdgeState.REFUSED,
    Outcome.TLS: EdgeState.TLS,
}


def external_hosts(snapshot: Snapshot) -> dict[str, tuple[int, ...]]:
    """The hosts that ServiceEntries name, each with its ports."""
    found: dict[str, tuple[int, ...]] = {}
    for entry in snapshot.service_entries:
        spec = entry.get("spec") or {}
        ports = tuple(int(port.get("number") or 0) for port in spec.get("ports") or [])
        for host in spec.get("hosts") or []:
            found[str(host)] = tuple(dict.fromkeys((*found.get(str(host), ()), *ports)))
    return found


def beyond_the_mesh(
    snapshot: Snapshot,
    settings: Mapping[str, Sequence[str]],
    seen: Iterable[Observation],
    counted: Mapping[tuple[str, str], Counts],
) -> tuple[list[MapEdge], list[MapNode]]:
    """A node for each host, and an edge from everybody who was seen to call it or whose settings name it.

    `settings` are the texts of each workload's own configuration: variables, commands, arguments.
    """
    hosts = external_hosts(snapshot)
    if not hosts:
        return [], []
    tried = {key: one for one in seen for key in _tried(one, hosts, snapshot)}
    calls = {*tried, *_named(settings, hosts), *_counted(settings, hosts, counted)}
    mesh = _declared(snapshot) if calls else None
    edges = [_edge(mesh, *call, tried.get(call), counted) for call in sorted(calls) if mesh is not None]
    near = {
        host
        for entry in snapshot.service_entries
        if namespace_of(entry) in snapshot.shown
        for host in (entry.get("spec") or {}).get("hosts") or []
    }
    shown = sorted(near | {edge.server for edge in edges})
    return edges, [MapNode("", host, kind=NodeKind.EXTERNAL) for host in shown]


def _tried(seen: Observation, hosts: Mapping[str, Any], snapshot: Snapshot) -> Iterator[tuple[str, str, int]]:
    """Which hosts an observation is about: it names a server by the first two words of its host."""
    probe = seen.probe
    if probe is None or snapshot.service(*probe.server.partition("/")[::2]) is not None:
        return
    for host in hosts:
        first, *rest = host.split(".")
        if f"{rest[0] if rest else probe.client.partition('/')[0]}/{first}" == probe.server:
            yield probe.client, host, probe.port


def _named(
    settings: Mapping[str, Sequence[str]], hosts: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, str, int]]:
    for client, texts in settings.items():
        for host, ports in hosts.items():
            for text in texts:
                found = re.search(rf"(https?://)?(?<![\w.-]){re.escape(host)}(?::(\d+))?(?![\w.-])", text)
                if found and ports:
                    port = int(found[2] or (443 if found[1] == "https://" else ports[0]))
                    yield client, host, port if port in ports else ports[0]


def _counted(
    settings: Mapping[str, Any], hosts: Mapping[str, tuple[int, ...]], counted: Mapping[tuple[str, str], Counts]
) -> Iterator[tuple[str, str, int]]:
    for client, server in counted:
        if client in settings and hosts.get(server):
            yield client, server, hosts[server][0]


def _declared(snapshot: Snapshot) -> DeclaredMesh:
    kinds = {
        "Namespace": snapshot.namespaces,
        "Pod": snapshot.pods,
        "Service": snapshot.services,
        "PeerAuthentication": snapshot.peer_authentications,
        "DestinationRule": snapshot.destination_rules,
        "AuthorizationPolicy": snapshot.authorization_policies,
        "Gateway": snapshot.gateways,
        "VirtualService": snapshot.virtual_services,
        "ServiceEntry": snapshot.service_entries,
    }
    global _newest
    objects = tuple(one for found in kinds.values() for one in found)
    root, before = snapshot.root_namespace, _newest
    if before and before[1] == root and len(before[0]) == len(objects) and all(map(is_, before[0], objects)):
        return before[2]
    named = [{**one, "kind": kind} for kind, found in kinds.items() for one in found]
    _newest = (objects, root, DeclaredMesh(named, MeshSettings(root_namespace=root)))
    return _newest[2]


_newest: tuple[tuple[Obj, ...], str, DeclaredMesh] | None = None
"""The newest declared view, kept while its objects are the same: a live map asks each second, and policies stay."""


def _edge(
    mesh: DeclaredMesh,
    client: str,
    host: str,
    port: int,
    seen: Observation | None,
    counted: Mapping[tuple[str, str], Counts],
) -> MapEdge:
    try:
        answer = mesh.explain(client, host, port).answer
        state, reason = _STATES.get(answer.outcome, EdgeState.UNKNOWN), _sentence(answer.why, host)
        decided_by = "" if answer.decided_by.is_default else str(answer.decided_by)
    except InputError as error:  # a port that the entry does not name: nobody declares anything
        state, reason, decided_by = EdgeState.UNKNOWN, error.what, ""
    refused = seen is not None and seen.refused
    return MapEdge(
        client,
        host,
        port,
        state,
        reason,
        seen=_words(seen),
        disagrees=seen is not None and state is not EdgeState.UNKNOWN and refused is not (state is EdgeState.REFUSED),
        # The caller alone was asked, who cannot tell how its proxy went on: an answer leaves the state as declared.
        observed=EdgeState.REFUSED if refused else None,
        counts=counted.get((client, host), NO_COUNTS),
        decided_by=decided_by,
    )


def _sentence(why: str, host: str) -> str:
    """A name keeps its small letters, also where a sentence begins."""
    return host + why[len(host) :] if why.lower().startswith(host) else why


def _words(seen: Observation | None) -> str:
    if seen is None:
        return ""
    return f"HTTP {seen.http_status}" if seen.http_status else f"curl exit {seen.exit_code}"
