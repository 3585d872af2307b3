"""The map's declared layer and `lab.explain` say the same of every call: random meshes without routes and Sidecars.

The map asks `policy.calls`, as the control plane's tables do; explanations come from `policy.declared`, which also
knows routes. Where only policies and DestinationRules decide, both must come to one state.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from labkit.observe.objects import Snapshot
from labkit.outcomes import Outcome
from labkit.policy.declared import DeclaredMesh, MeshSettings
from labkit.views.map import EdgeState, MapEdge
from labkit.views.model import STATES, Call, make_map
from tests.bench_map import a_mesh

WORKLOADS, CALLS = 40, 160
MODES = ("STRICT", "PERMISSIVE", "DISABLE")


def declared(snapshot: Snapshot) -> DeclaredMesh:
    kinds = {
        "Namespace": snapshot.namespaces,
        "Pod": snapshot.pods,
        "Service": snapshot.services,
        "PeerAuthentication": snapshot.peer_authentications,
        "DestinationRule": snapshot.destination_rules,
    }
    return DeclaredMesh([{**one, "kind": kind} for kind, found in kinds.items() for one in found], MeshSettings())


def random_mesh(seed: int) -> tuple[Snapshot, list[Call]]:
    dice = random.Random(seed)
    snapshot, calls = a_mesh(WORKLOADS, CALLS)
    policies: list[dict[str, Any]] = []
    for team in range(8):
        if dice.random() < 0.7:
            policies.append(_policy(f"team-{team}", "default", {"mtls": {"mode": dice.choice(MODES)}}))
    for number in dice.sample(range(WORKLOADS), 12):
        spec: dict[str, Any] = {"selector": {"matchLabels": {"app": f"app-{number}"}}}
        spec["mtls"] = {"mode": dice.choice(MODES)}
        if dice.random() < 0.5:
            spec["portLevelMtls"] = {"8080": {"mode": dice.choice(MODES)}}
        policies.append(_policy(f"team-{number % 8}", f"app-{number}", spec))
    rules = tuple(
        _rule(number, dice.choice(("DISABLE", "ISTIO_MUTUAL", "SIMPLE")))
        for number in dice.sample(range(WORKLOADS), 10)
    )
    return replace(snapshot, peer_authentications=tuple(policies), destination_rules=rules), calls


def _policy(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _rule(number: int, mode: str) -> dict[str, Any]:
    host = f"app-{number}.team-{number % 8}.svc.cluster.local"
    return _policy(f"team-{number % 8}", f"app-{number}", {"host": host, "trafficPolicy": {"tls": {"mode": mode}}})


def apart(snapshot: Snapshot, calls: list[Call], mesh: DeclaredMesh) -> list[MapEdge]:
    """The edges of which the two say different things."""

    def explained(edge: MapEdge) -> EdgeState:
        outcome: Outcome = mesh.explain(edge.client, edge.service, edge.port).outcome
        return STATES.get(outcome, EdgeState.UNKNOWN)

    return [edge for edge in make_map(snapshot, calls=calls).edges if explained(edge) is not edge.state]


@pytest.mark.parametrize("seed", range(6))
def test_both_come_to_the_same_state(seed: int) -> None:
    snapshot, calls = random_mesh(seed)
    assert len(make_map(snapshot, calls=calls).edges) == CALLS
    assert apart(snapshot, calls, declared(snapshot)) == []


def test_two_different_meshes_are_told_apart() -> None:
    snapshot, calls = random_mesh(0)
    assert apart(snapshot, calls, declared(replace(snapshot, peer_authentications=(), destination_rules=())))
