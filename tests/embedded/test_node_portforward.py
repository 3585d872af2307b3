"""Port-forward as the API server asks the kubelet for it: into the pod, behind its sidecar."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from tests.embedded.node_world import NodeWorld, is_ready, node_world, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Answers the name of its container and how many bytes the caller sent before it stopped sending.
SERVER = """exec python3 -c '
import socketserver, sys
class Count(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(("%s %d" % (sys.argv[1], len(self.rfile.read()))).encode())
socketserver.ThreadingTCPServer(("", int(sys.argv[2])), Count).serve_forever()' """

REDIRECT = """echo '{"inbound_port": 15006, "outbound_port": 15001, "uid": 1337}' > "$POD_NET/redirect.json" """
# The place of a sidecar: it listens where the pod is called from outside, on its own port and on the application's.
# With plain sockets, because those of Python in a pod are translated.
SIDECAR = """exec python3 -c '
import _socket, json, os, socket
def listen(port):
    raw = _socket.socket()
    raw.bind((json.load(open(os.environ["POD_HOSTS"]))["pod_ip"], port))
    raw.listen()
    return raw
outside, own = listen(20080), listen(15021)
while True:
    connection = socket.socket(fileno=own._accept()[0])
    connection.sendall(b"sidecar")
    connection.close()' """


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as running:
        await running.create("plain", shell("app", SERVER + "plain 80"))
        await running.create(
            "captured",
            shell("app", SERVER + "inside 80"),
            shell("istio-proxy", SIDECAR),
            init=(shell("istio-init", REDIRECT),),
        )
        for name in ("plain", "captured"):
            await running.until(name, is_ready)
        for name in ("plain", "captured"):
            await until_it_listens(running, name, 80)
        yield running


@dataclass
class Forwarded:
    """What came back."""

    data: bytes = b""
    error: str = ""


async def forward(world: NodeWorld, pod: str, port: int | str, sent: bytes = b"") -> Forwarded:
    result = Forwarded()
    async with (
        world.kubelet() as kubelet,
        kubelet.ws_connect(
            f"/portForward/default/{pod}", params={"port": str(port)}, protocols=["v5.channel.k8s.io"]
        ) as socket,
    ):
        with contextlib.suppress(ConnectionError):
            if sent:
                await socket.send_bytes(b"\0" + sent)
            await socket.send_bytes(bytes((255, 0)))
        async for message in socket:
            if message.data[0] == 0:
                result.data += message.data[1:]
            else:
                result.error += message.data[1:].decode()
    return result


async def until_it_listens(world: NodeWorld, pod: str, port: int) -> None:
    for _ in range(200):
        if not (await forward(world, pod, port)).error:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port} of {pod}")


async def test_bytes_go_in_and_the_answer_comes_out_after_the_end(world: NodeWorld):
    assert (await forward(world, "plain", 80, b"x" * 300_000)).data == b"plain 300000"


async def test_a_redirected_pod_is_entered_behind_its_sidecar(world: NodeWorld):
    """As on a real node: the connection comes from inside the pod, where no iptables rule sends it to Envoy."""
    assert (await forward(world, "captured", 80, b"four")).data == b"inside 4"


async def test_the_sidecars_own_ports_are_its_own(world: NodeWorld):
    await until_it_listens(world, "captured", 15021)
    assert (await forward(world, "captured", 15021)).data == b"sidecar"


@pytest.mark.parametrize("pod", ["plain", "captured"])
async def test_a_port_where_nobody_listens_is_said(world: NodeWorld, pod: str):
    refused = await forward(world, pod, 81)
    assert refused == Forwarded(error=f"failed to connect to localhost:81 inside pod {pod}: connection refused")


@pytest.mark.parametrize("port", ["0", "65536", "http", "", "²"])
async def test_what_is_no_port_is_refused(world: NodeWorld, port: str):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await forward(world, "plain", port)
    assert refused.value.status == 400


async def test_a_pod_that_is_not_here_is_refused(world: NodeWorld):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await forward(world, "nobody", 80)
    assert refused.value.status == 404
