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
from labkit.policy.declared import Answer, DeclaredMesh, Rule
from labkit.policy.declared.groups import Group
from labkit.policy.declared.registry import Target
from tests.embedded.reality_meshes import Generator
from tests.embedded.reality_world import (
    MORE_SERVICES,
    PODS,
    PORTS,
    RealityWorld,
    Seen,
    carried,
    edges_of,
    seen_outcome,
    spoken,
)

MESHES = int(os.environ.get("LABKIT_REALITY_MESHES", "20"))
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
    return mesh.judge.answer(client, target, spoken(target))


def difference(answer: Answer, client: Group, target: Target, seen: Seen, connections: int, handshakes: int) -> str:
    """What was seen and not predicted, in words; empty if all is as predicted."""
    if target.by_address and any(one.rule is Rule.REGISTRY_ONLY for one in answer.because):
        return ""  # here nothing intercepts a call of a pod's own address; see the README
    found = seen_outcome(seen, spoken(target), client, connections, handshakes)
    foreign = any("not the mesh's" in way.sends for way in answer.ways)
    possible = {way.outcome for way in answer.ways}
    if foreign and Outcome.UNKNOWN in possible:
        return ""  # TLS that is not the mesh's: whether the application can read it is its own business
    if len(possible) > 1:
        return "" if found in possible else f"predicted {answer.shares}, seen {found} ({seen.status} {seen.error})"
    if answer.outcome is Outcome.UNKNOWN:
        return f"nothing was predicted, seen {found}"
    if found is not answer.outcome:
        return (
            f"predicted {answer.outcome}, seen {found} ({seen.status} {seen.error}, {connections} cx {handshakes} hs)"
        )
    if seen.caller and answer.outcome is not Outcome.MTLS:
        return f"predicted {answer.outcome}, and the application was told of {seen.caller}"
    own = f"spiffe://cluster.local/ns/{client.namespace}/sa/{client.workload.service_account}"
    if seen.caller and seen.caller != own:
        return f"{client} was taken for {seen.caller}"
    statuses = {way.http_status for way in answer.ways}
    if None not in statuses and seen.status and seen.status not in statuses:
        return f"predicted HTTP {statuses}, seen HTTP {seen.status} {seen.error}"
    return ""


def differences(world: RealityWorld, mesh: DeclaredMesh) -> list[str]:
    """The edges on which something else is seen than was predicted, and goes on being seen."""
    edges = list(edges_of(mesh))
    deadline = time.monotonic() + PATIENCE
    while True:
        found = {}
        for client, target, seen, counted in called(world, mesh, edges):
            answer = predicted(mesh, client, target)
            if words := difference(answer, client, target, seen, *counted):
                found[client, target] = f"{client} -> {target} ({target.protocol}): {words}; {answer.why}"
        if not found or time.monotonic() > deadline:
            return list(found.values())
        edges = list(found)


Called = tuple[Group, Target, Seen, tuple[int, int]]


def called(world: RealityWorld, mesh: DeclaredMesh, edges: list[tuple[Group, Target]]) -> Iterator[Called]:
    """All calls with what their clients' Envoys counted: many at once where each has an Envoy cluster of its own, and
    one after the other where routes lead to others'.
    """
    alone, together = [], []
    for edge in edges:
        routed = any(one.rule is Rule.VIRTUAL_SERVICE for one in predicted(mesh, *edge).because)
        (alone if routed else together).append(edge)
    before = world.counters()
    seen = world.call_all(together)
    after = world.counters()
    for (client, target), one in zip(together, seen, strict=True):
        yield client, target, one, carried(before, after, client, target)
    for client, target in alone:
        before = world.counters()
        one = world.call(client, target)
        yield client, target, one, carried(before, world.counters(), client, None)


@pytest.mark.timeout(60 + MESHES * 6)
def test_verdicts_are_what_traffic_shows(world: RealityWorld) -> None:
    workloads = [(namespace, name) for namespace, name, *_ in PODS]
    services = [*workloads, *((namespace, name) for namespace, name, *_ in MORE_SERVICES)]
    wrong, verdicts = [], dict.fromkeys(Outcome, 0)
    for seed in range(FIRST, FIRST + MESHES):
        generator = Generator(seed, workloads, list(PORTS), services, [9001, 9002], [8001, 8003, 8006])
        objects = generator.objects()
        mesh = world.apply(objects, auto_mtls=not generator.maybe(0.06), exports=generator.exports())
        for client, target in edges_of(mesh):
            verdicts[predicted(mesh, client, target).outcome] += 1
        found = differences(world, mesh)
        if found:
            wrong.append(f"seed {seed}:\n  " + "\n  ".join(found[:12]) + f"\n  {json.dumps(objects)}")
    print(f"{MESHES} meshes, {sum(verdicts.values())} edges: {dict(verdicts)}")
    assert not wrong, f"{len(wrong)} meshes differ:\n" + "\n".join(wrong)
    assert all(verdicts[one] for one in (Outcome.MTLS, Outcome.PLAINTEXT, Outcome.REFUSED)), verdicts
