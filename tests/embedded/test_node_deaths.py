"""The end of a container's process is noticed whenever it comes: at its start, under a probe, after an adoption."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from labkit.embedded.apiclient import Object
from labkit.embedded.node.processes import Identity
from tests.embedded.node_world import NodeWorld, node_world, shell, state

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = int(os.environ.get("LABKIT_TEST_SEED", "1"))

# What a sidecar has. A refused connection is an answer at once, so attempts end all the time while the process dies.
SIDECARS_PROBE = {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1, "failureThreshold": 600}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as running:
        yield running


def aborting(name: str, after: float) -> Object:
    """SIGABRT after so many seconds, in the middle of its probes. Kubernetes makes one $ of two."""
    return shell(name, f"sleep {after:.4f}; kill -6 $$$$", startupProbe=SIDECARS_PROBE)


async def test_who_aborts_within_its_first_moments_is_seen_to_have_ended(world: NodeWorld):
    chance = random.Random(SEED)
    for round_ in range(4):
        name = f"abort-{round_}"
        containers = [aborting(f"c{number}", chance.uniform(0, 0.1)) for number in range(20)]
        await world.create(name, *containers, restartPolicy="Never", terminationGracePeriodSeconds=1)
        pod = await world.until(name, lambda p: p["status"]["phase"] == "Failed", seconds=15)
        assert {state(pod, number)["terminated"]["exitCode"] for number in range(20)} == {134}
        await world.delete(name)


async def test_who_aborts_is_started_again_and_an_event_says_so(world: NodeWorld):
    await world.create("again", aborting("main", 0.03), terminationGracePeriodSeconds=1)
    pod = await world.until("again", lambda p: p["status"]["containerStatuses"][0]["restartCount"] >= 2)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["signal"] == signal.SIGABRT
    assert await world.events("again", "BackOff")
    await world.delete("again")


def victims(world: NodeWorld, uid: str) -> list[Identity]:
    """The first processes of a pod's containers, as recorded."""
    record = json.loads((world.paths.node_dir / "pods" / uid / "pod.json").read_text())
    found = [Identity.from_json(container["process"]) for container in record["containers"].values()]
    return [identity for identity in found if identity]


def restarts(pod: Object) -> int:
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


@pytest.mark.parametrize("adopted", [pytest.param(False, id="started-here"), pytest.param(True, id="adopted")])
async def test_who_is_killed_from_outside_at_any_time_is_started_again(world: NodeWorld, adopted: bool):
    chance = random.Random(SEED)
    name = f"shot-{adopted}".lower()
    containers = [shell(f"c{number}", "sleep 1000", startupProbe=SIDECARS_PROBE) for number in range(10)]
    pod = await world.create(name, *containers, terminationGracePeriodSeconds=1)
    uid = pod["metadata"]["uid"]
    await world.until(name, lambda p: all("running" in state(p, number) for number in range(10)))
    if adopted:
        await world.restart_node(crash=True)
        await asyncio.sleep(0.05)
    for victim in victims(world, uid):
        await asyncio.sleep(chance.uniform(0, 0.03))
        assert victim.signal(signal.SIGKILL)
    await world.until(name, lambda p: restarts(p) == 10 and all("running" in state(p, n) for n in range(10)))
    assert all(victim.alive for victim in victims(world, uid))
    await world.delete(name)
    assert world.processes(uid) == []


async def test_who_dies_while_nobody_watches_is_started_again(world: NodeWorld):
    containers = [shell(f"c{number}", "sleep 1000", startupProbe=SIDECARS_PROBE) for number in range(6)]
    pod = await world.create("unseen", *containers, terminationGracePeriodSeconds=1)
    uid = pod["metadata"]["uid"]
    await world.until("unseen", lambda p: all("running" in state(p, number) for number in range(6)))
    left = victims(world, uid)
    restart = asyncio.create_task(world.restart_node(crash=True))
    for victim in left:  # before, while and after the next node takes over
        await asyncio.sleep(0.02)
        victim.signal(signal.SIGKILL)
    await restart
    await world.until("unseen", lambda p: restarts(p) == 6 and all("running" in state(p, n) for n in range(6)))
    await world.delete("unseen")
