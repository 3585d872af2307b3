"""Prediction against reality: random meshes on real Envoys, real traffic between all pairs, and the verdicts.

Each seed is a mesh; LABKIT_REALITY_MESHES says how many are tried, LABKIT_REALITY_SEED where they begin.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from labkit.outcomes import Outcome
from labkit.policy.declared import Answer, DeclaredMesh
from labkit.policy.declared.groups import Group
from labkit.policy.declared.registry import Target
from tests.embedded.reality_meshes import Generator
from tests.embedded.reality_world import PODS, PORTS, RealityWorld, Seen, carried, edges_of, seen_outcome

MESHES = int(os.environ.get("LABKIT_REALITY_MESHES", "24"))
FIRST = int(os.environ.get("LABKIT_REALITY_SEED", "1"))
PATIENCE = 3.0
"""Seconds in which a call must come out as predicted: a proxy that has taken its configuration may still warm up."""


@pytest.fixture(scope="module")
def world() -> Iterator[RealityWorld]:
    world = RealityWorld()
    try:
        yield world
    finally:
        world.close()


def predicted(mesh: DeclaredMesh, client: Group, target: Target) -> Answer:
    return mesh.judge.answer(client, target, PORTS[target.port][1])


def difference(answer: Answer, client: Group, target: Target, seen: Seen, connections: int, handshakes: int) -> str:
    """What was seen and not predicted, in words; empty if all is as predicted."""
    found = seen_outcome(seen, PORTS[target.port][1], client, connections, handshakes)
    foreign = any("not the mesh's" in way.sends for way in answer.ways)
    if answer.outcome is Outcome.UNKNOWN:
        return "" if foreign else f"nothing was predicted, seen {found}"
    elsewhere = any(way.server != target.endpoints[0][0].name for way in answer.ways if way.server)
    if elsewhere and found in (Outcome.MTLS, Outcome.PLAINTEXT, Outcome.TLS):  # counted at another cluster
        found = answer.outcome if answer.outcome is not Outcome.REFUSED else found
    if found is not answer.outcome:
        return (
            f"predicted {answer.outcome}, seen {found} ({seen.status} {seen.error}, {connections} cx {handshakes} hs)"
        )
    if seen.caller and answer.outcome is not Outcome.MTLS:
        return f"predicted {answer.outcome}, and the application was told of {seen.caller}"
    own = f"spiffe://cluster.local/ns/{client.namespace}/sa/{client.workload.service_account}"
    if seen.caller and seen.caller != own:
        return f"{client} was taken for {seen.caller}"
    status = next((way.http_status for way in answer.ways), None)
    if status and seen.status and status != seen.status:
        return f"predicted HTTP {status}, seen HTTP {seen.status} {seen.error}"
    return ""


def differences(world: RealityWorld, mesh: DeclaredMesh) -> list[str]:
    """The edges on which something else is seen than was predicted, and goes on being seen."""
    edges = list(edges_of(mesh))
    deadline = time.monotonic() + PATIENCE
    while True:
        before = world.counters()
        seen = world.call_all(edges)
        after = world.counters()
        found = {}
        for (client, target), one in zip(edges, seen, strict=True):
            name = client.workload.name
            counted = carried(before.get(name, {}), after.get(name, {}), target)
            answer = predicted(mesh, client, target)
            if words := difference(answer, client, target, one, *counted):
                found[client, target] = f"{client} -> {target} {PORTS[target.port][0]}: {words}; {answer.why}"
        if not found or time.monotonic() > deadline:
            return list(found.values())
        edges = list(found)


@pytest.mark.timeout(60 + MESHES * 6)
def test_verdicts_are_what_traffic_shows(world: RealityWorld) -> None:
    workloads = [(namespace, name) for namespace, name, *_ in PODS]
    wrong, verdicts = [], dict.fromkeys(Outcome, 0)
    for seed in range(FIRST, FIRST + MESHES):
        generator = Generator(seed, workloads, list(PORTS))
        objects = generator.objects()
        mesh = world.apply(objects, auto_mtls=not generator.maybe(0.06))
        for client, target in edges_of(mesh):
            verdicts[predicted(mesh, client, target).outcome] += 1
        found = differences(world, mesh)
        if found:
            wrong.append(f"seed {seed}:\n  " + "\n  ".join(found[:12]) + f"\n  {json.dumps(objects)}")
    print(f"{MESHES} meshes, {sum(verdicts.values())} edges: {dict(verdicts)}")
    assert not wrong, f"{len(wrong)} meshes differ:\n" + "\n".join(wrong)
    assert all(verdicts[one] for one in (Outcome.MTLS, Outcome.PLAINTEXT, Outcome.REFUSED)), verdicts
