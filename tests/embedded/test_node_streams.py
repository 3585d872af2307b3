"""Logs, exec and attach, as the API server asks the kubelet for them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.embedded.node_world import NodeWorld, is_ready, node_world, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as running:
        env = [{"name": "FLAVOUR", "value": "sweet"}]
        await running.create("box", shell("main", "echo hello; sleep 1000", env=env))
        await running.until("box", is_ready)
        yield running


async def test_exec_has_the_containers_environment(world: NodeWorld):
    result = await world.exec("box", "main", "sh", "-c", 'echo "$FLAVOUR $HOSTNAME"; pwd; echo "$CURL_HOME" >&2')
    directory = world.paths.node_dir / "pods" / (await world.pod("box"))["metadata"]["uid"]
    assert result.stdout == f"sweet box\n{directory}/root\n"
    assert result.stderr == f"{directory}/net\n"
    assert result.code == 0


async def test_the_exit_code_of_exec_is_a_cause_of_its_status(world: NodeWorld):
    result = await world.exec("box", "main", "sh", "-c", "exit 56")
    assert result.code == 56
    assert result.status["reason"] == "NonZeroExitCode"


async def test_a_program_that_exec_does_not_find_is_said_in_runcs_words(world: NodeWorld):
    result = await world.exec("box", "main", "foo")
    assert 'exec: "foo": executable file not found in $PATH' in result.stderr
    assert result.code == 127


async def test_a_machine_without_curl_is_told_how_to_get_it(world: NodeWorld):
    result = await world.exec("box", "main", "curl", "--version")
    assert result.code == 0 and result.stdout.startswith("curl ")
    container = {"name": "main", "image": "python", "args": ["-c", "import time; time.sleep(1000)"]}
    await world.create("bare", {**container, "env": [{"name": "PATH", "value": "/nonexistent"}]})
    await world.until("bare", is_ready)
    result = await world.exec("bare", "main", "curl", "--version")
    assert result.code == 127
    assert "apt-get install curl" in result.stderr
    await world.delete("bare")


async def test_exec_reads_its_input_to_the_end(world: NodeWorld):
    result = await world.exec("box", "main", "wc", "-c", stdin=b"x" * 300_000)
    assert result.stdout.strip() == "300000"


async def test_version_four_of_the_protocol_is_spoken_too(world: NodeWorld):
    result = await world.exec("box", "main", "head", "-n1", stdin=b"line\nrest", protocol="v4.channel.k8s.io")
    assert result.stdout == "line\n"


async def test_a_large_output_arrives_whole(world: NodeWorld):
    result = await world.exec("box", "main", "head", "-c", "3000000", "/dev/zero")
    assert len(result.stdout) == 3_000_000


async def test_a_slow_reader_gets_all_that_was_written_before_the_end(world: NodeWorld):
    params = [("command", "head"), ("command", "-c"), ("command", "9000000"), ("command", "/dev/zero")]
    size = 0
    async with (
        world.kubelet() as kubelet,
        kubelet.ws_connect(
            "/exec/default/box/main", params=[*params, ("stdout", "true")], protocols=["v5.channel.k8s.io"]
        ) as socket,
    ):
        await asyncio.sleep(0.5)
        async for message in socket:
            if message.data[0] == 1:
                size += len(message.data) - 1
                if size > 8_700_000:  # the program has ended; its last bytes are in the pipe
                    await asyncio.sleep(0.05)
    assert size == 9_000_000


async def test_a_terminal_echoes_and_knows_its_size(world: NodeWorld):
    params = [("command", "sh"), ("stdin", "true"), ("stdout", "true"), ("tty", "true")]
    seen = b""
    async with (
        world.kubelet() as kubelet,
        kubelet.ws_connect("/exec/default/box/main", params=params, protocols=["v5.channel.k8s.io"]) as socket,
    ):
        await socket.send_bytes(b"\x04" + json.dumps({"Width": 123, "Height": 45}).encode())
        await socket.send_bytes(b"\0stty size; tty; exit 4\n")
        async for message in socket:
            if message.data[0] == 3:
                status = json.loads(message.data[1:])
            else:
                seen += message.data[1:]
    assert b"45 123\r\n" in seen and b"/dev/pts/" in seen
    assert status["details"]["causes"][0]["message"] == "4"


@pytest.mark.parametrize(
    "size", [b"", b"{}", b"[]", b"no json", b'{"Width": 1e9, "Height": 2}', b'{"Width": -1, "Height": 2}']
)
async def test_what_is_no_size_of_a_terminal_changes_nothing(world: NodeWorld, size: bytes):
    params = [("command", "stty"), ("command", "size"), ("stdin", "true"), ("stdout", "true"), ("tty", "true")]
    seen = b""
    async with (
        world.kubelet() as kubelet,
        kubelet.ws_connect("/exec/default/box/main", params=params, protocols=["v5.channel.k8s.io"]) as socket,
    ):
        await socket.send_bytes(b"\x04" + size)
        async for message in socket:
            seen += message.data[1:] if message.data[0] == 1 else b""
    assert seen == b"24 80\r\n"


async def test_a_client_that_goes_away_ends_its_program(world: NodeWorld):
    uid = (await world.pod("box"))["metadata"]["uid"]
    before = len(world.processes(uid))
    params = [("command", "sleep"), ("command", "999"), ("stdout", "true")]
    async with (
        world.kubelet() as kubelet,
        kubelet.ws_connect("/exec/default/box/main", params=params, protocols=["v4.channel.k8s.io"]),
    ):
        await asyncio.sleep(0.1)
        assert len(world.processes(uid)) == before + 1
    for _ in range(100):
        if len(world.processes(uid)) == before:
            break
        await asyncio.sleep(0.02)
    assert len(world.processes(uid)) == before


async def test_what_exec_leaves_in_the_background_lives_until_the_pod_ends(world: NodeWorld):
    await world.create("host", shell("main", "sleep 1000"))
    uid = (await world.until("host", is_ready))["metadata"]["uid"]
    before = len(world.processes(uid))
    result = await world.exec("host", "main", "sh", "-c", "sleep 998 & echo started")
    assert result.stdout == "started\n" and result.code == 0
    assert len(world.processes(uid)) == before + 1
    await world.delete("host")
    assert world.processes(uid) == []


async def test_logs_are_followed_to_the_containers_end(world: NodeWorld):
    await world.create("talk", shell("main", "for i in 1 2 3; do echo $i; sleep 0.1; done"), restartPolicy="Never")
    await world.until("talk", lambda p: "running" in p["status"]["containerStatuses"][0]["state"])
    assert await world.logs("talk", "main", follow="true") == (200, "1\n2\n3\n")


async def test_logs_can_be_cut_and_dated(world: NodeWorld):
    assert await world.logs("box", "main", tailLines="0") == (200, "")
    assert await world.logs("box", "main", limitBytes="3") == (200, "hel")
    _, text = await world.logs("box", "main", timestamps="true")
    moment, word = text.split()
    assert moment.startswith("20") and moment.endswith("Z") and word == "hello"
    assert await world.logs("box", "main", tailLines="x") == (
        400,
        "invalid log option: invalid literal for int() with base 10: 'x'",
    )


async def test_logs_that_do_not_exist_are_said_to_be_missing(world: NodeWorld):
    assert (await world.logs("box", "main", previous="true"))[0] == 400
    assert (await world.logs("box", "other"))[0] == 404
    assert (await world.logs("ghost", "main"))[0] == 404


async def test_attach_shows_the_output_and_hands_input_on(world: NodeWorld):
    await world.create("shell", shell("main", "read line; echo got $line; exit 2", stdin=True), restartPolicy="Never")
    await world.until("shell", is_ready)
    result = await world.exec("shell", "main", stdin=b"word\n", path="attach", protocol="v4.channel.k8s.io")
    assert result.stdout == "got word\n"
    assert result.code == 0  # the container's own, 2, is in the pod's status


async def test_attach_to_a_terminal(world: NodeWorld):
    await world.create("term", {"name": "main", "image": "busybox", "stdin": True, "tty": True}, restartPolicy="Never")
    await world.until("term", is_ready)
    result = await world.exec("term", "main", stdin=b"echo $((40+2)); exit\n", tty=True, path="attach")
    assert "42\r\n" in result.stdout
    assert result.code == 0


async def test_the_kubelet_answers_only_who_shows_the_token(world: NodeWorld):
    async with world.kubelet() as kubelet, kubelet.get("/healthz") as response:
        assert response.status == 200
    async with world.kubelet(token="wrong") as kubelet, kubelet.get("/healthz") as response:
        assert response.status == 401


async def test_the_kubelet_lists_its_pods(world: NodeWorld):
    async with world.kubelet() as kubelet, kubelet.get("/pods") as response:
        names = [p["metadata"]["name"] for p in (await response.json())["items"]]
    assert "box" in names


async def test_exec_into_a_container_that_does_not_run_is_refused(world: NodeWorld):
    await world.create("over", shell("main", "true"), restartPolicy="Never")
    await world.until("over", lambda p: p["status"]["phase"] == "Succeeded")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await world.exec("over", "main", "true")
    assert refused.value.status == 400


async def test_an_idle_node_uses_no_cpu(world: NodeWorld):
    await asyncio.sleep(0.6)  # events of the tests before are still being written
    before = os.times()
    await asyncio.sleep(1.0)
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 0.05
