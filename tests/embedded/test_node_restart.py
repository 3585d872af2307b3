"""The node dies and another takes over: no pod notices, nothing runs twice, nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from labkit.embedded.apiclient import PODS
from labkit.embedded.node.processes import Identity, end_recorded, recorded, starter_environment
from tests.embedded.node_world import NodeWorld, is_ready, node_world, shell, state


@pytest.fixture
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as running:
        yield running


def pid_of(world: NodeWorld, uid: str, container: str = "main") -> int:
    record = json.loads((world.paths.node_dir / "pods" / uid / "pod.json").read_text())
    return int(record["containers"][container]["process"]["pid"])


@pytest.mark.parametrize("crash", [pytest.param(True, id="after-a-crash"), pytest.param(False, id="after-a-stop")])
async def test_running_pods_are_adopted(world: NodeWorld, crash: bool):
    probe = {"exec": {"command": ["true"]}}
    await world.create("kept", shell("main", "echo up; sleep 1000", readinessProbe=probe))
    pod = await world.until("kept", is_ready)
    uid = pod["metadata"]["uid"]
    pid, address = pid_of(world, uid), pod["status"]["podIP"]
    await world.restart_node(crash=crash)
    result = await world.exec("kept", "main", "echo", "still here")
    assert result.stdout == "still here\n"
    pod = await world.pod("kept")
    assert pid_of(world, uid) == pid and pod["status"]["podIP"] == address
    assert is_ready(pod) and pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert await world.logs("kept", "main") == (200, "up\n")


async def test_what_died_meanwhile_is_started_again(world: NodeWorld):
    await world.create("half", shell("main", "sleep 1000"), shell("other", "sleep 1000"))
    uid = (await world.until("half", is_ready))["metadata"]["uid"]
    survivor = pid_of(world, uid, "other")
    victim = Identity.of(pid_of(world, uid))
    assert victim
    await world.node.stop(keep_pods=True)
    victim.signal(signal.SIGKILL)
    while victim.alive:
        await asyncio.sleep(0.01)
    await world.node.stop(keep_pods=True)
    world.node = type(world.node)(paths=world.paths, block=world.block, kubeconfig=world.paths.kubeconfig)
    await world.node.start()
    pod = await world.until("half", lambda p: p["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(p))
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert pid_of(world, uid, "other") == survivor


async def test_a_process_that_was_started_but_not_recorded_does_not_run_twice(world: NodeWorld):
    await world.create("once", shell("main", "sleep 1000"))
    uid = (await world.until("once", is_ready))["metadata"]["uid"]
    old = Identity.of(pid_of(world, uid))
    await world.node.stop(keep_pods=True)
    file = world.paths.node_dir / "pods" / uid / "pod.json"
    record = json.loads(file.read_text())
    # As a kill -9 between the start and the second record leaves it.
    record["containers"]["main"].update(process=None, state={}, ready=False, started=False)
    file.write_text(json.dumps(record))
    await world.restart_node(crash=False)
    await world.until("once", is_ready)
    assert old and not old.alive
    shells = [p for p in world.processes(uid) if os.getsid(p) == p]
    assert shells == [pid_of(world, uid)]


async def test_a_pod_deleted_meanwhile_is_ended(world: NodeWorld):
    await world.create("gone", shell("main", "sleep 1000"))
    uid = (await world.until("gone", is_ready))["metadata"]["uid"]
    await world.node.stop(keep_pods=True)
    assert world.processes(uid)
    await world.api.delete(PODS, "gone", "default", {"gracePeriodSeconds": 0})
    await world.restart_node(crash=False)
    assert world.processes(uid) == []
    assert not (world.paths.node_dir / "pods" / uid).exists()


async def test_a_stop_ends_all_and_the_next_start_brings_them_back(world: NodeWorld):
    await world.create("back", shell("main", "sleep 1000"), init=(shell("first", "echo ran"),))
    pod = await world.until("back", is_ready)
    await world.node.stop(keep_pods=False)
    assert world.processes() == []
    await world.restart_node(crash=False)
    again = await world.until(
        "back", lambda p: is_ready(p) and p["status"]["containerStatuses"][0]["restartCount"] == 1
    )
    assert again["status"]["podIP"] == pod["status"]["podIP"]
    assert state(again, kind="initContainerStatuses")["terminated"]["exitCode"] == 0


async def test_a_finished_pod_is_not_run_again(world: NodeWorld):
    await world.create("job", shell("main", "echo one"), restartPolicy="Never")
    await world.until("job", lambda p: p["status"]["phase"] == "Succeeded")
    await world.restart_node(crash=True)
    await asyncio.sleep(0.2)
    assert (await world.pod("job"))["status"]["phase"] == "Succeeded"
    assert await world.logs("job", "main") == (200, "one\n")


async def test_without_a_supervisor_the_recorded_processes_are_ended_and_no_others(world: NodeWorld):
    await world.create("left", shell("main", "sleep 1000 & sleep 1000"))
    uid = (await world.until("left", is_ready))["metadata"]["uid"]
    await world.node.stop(keep_pods=True)
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        assert {p.pid for p in recorded(world.paths)} >= set(world.processes(uid))
        ended = end_recorded(world.paths)
        assert "default/left/main" in {e.owner for e in ended}
        assert world.processes() == [] and recorded(world.paths) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_pid_that_was_given_to_somebody_else_is_never_signalled(world: NodeWorld):
    await world.create("reused", shell("main", "sleep 1000"))
    uid = (await world.until("reused", is_ready))["metadata"]["uid"]
    await world.node.stop(keep_pods=False)
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        file = world.paths.node_dir / "pods" / uid / "pod.json"
        record = json.loads(file.read_text())
        identity = Identity.of(stranger.pid)
        assert identity
        wrong = {**identity.to_json(), "start_ticks": identity.start_ticks - 1}
        record["containers"]["main"].update(process=wrong, state={"running": {"startedAt": "2020-01-01T00:00:00Z"}})
        file.write_text(json.dumps(record))
        assert end_recorded(world.paths) == []
        await world.restart_node(crash=False)
        await world.until("reused", is_ready)
        assert pid_of(world, uid) != stranger.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.fixture
def supervisor(world: NodeWorld) -> Iterator[subprocess.Popen[bytes]]:
    """A node in a process of its own, to be killed for real."""
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from labkit.embedded.node import Node\n"
        "from labkit.embedded.paths import ClusterPaths\n"
        "async def main():\n"
        "    paths = ClusterPaths(sys.argv[1])\n"
        "    await Node(paths=paths, block=int(sys.argv[2]), kubeconfig=paths.kubeconfig).start()\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, world.paths.name, str(world.block)]
    environment = {**os.environ, **starter_environment(world.paths.node_dir)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], env=environment)
    yield process
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


async def test_a_killed_supervisor_leaves_neither_duplicates_nor_orphans(
    world: NodeWorld, request: pytest.FixtureRequest
):
    await world.node.stop(keep_pods=False)
    process: subprocess.Popen[bytes] = request.getfixturevalue("supervisor")
    assert process.stdout
    assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
    names = [f"pod-{number}" for number in range(6)]
    await asyncio.gather(*(world.create(name, shell("main", "sleep 1000")) for name in names))
    await asyncio.sleep(0.03)  # in the middle of starting them
    process.kill()
    await asyncio.to_thread(process.wait)
    await world.restart_node(crash=False)
    for name in names:
        uid = (await world.until(name, is_ready))["metadata"]["uid"]
        leaders = [p for p in world.processes(uid) if os.getsid(p) == p]
        assert leaders == [pid_of(world, uid)]
