"""The node proxy: a real Envoy between real sockets, told by the real API server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable

import psutil
import pytest

from labkit.embedded import addresses, envoy
from labkit.embedded.apiclient import ENDPOINTSLICES, SERVICES, ApiClient, Object
from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.node.proxy import NodeProxy
from labkit.embedded.paths import ClusterPaths
from labkit.errors import MachineError

PORT = 8080
Handler = Callable[[socket.socket], None]


def answer(connection: socket.socket) -> None:
    """A web server's answer."""
    peer = connection.getpeername()[0]
    connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Peer: {peer}\r\n\r\nhello".encode())


def reset(connection: socket.socket) -> None:
    """What a STRICT server does to plaintext: a reset, by closing with no lingering."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket) -> None:
    """An orderly close without an answer."""


class Server:
    """A server on a pod's address whose manner is given by `handler`; it counts its connections."""

    def __init__(self, address: str, handler: Handler, port: int = PORT) -> None:
        self.handler = handler
        self.connections = 0
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, addresses.listen_port(port)))
        self.socket.listen()
        self.socket.setblocking(False)
        self.task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self.socket)
            self.connections += 1
            with contextlib.suppress(OSError):
                await asyncio.wait_for(loop.sock_recv(connection, 4096), 5)
                self.handler(connection)
            connection.close()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.socket.close()


class Bench:
    """An API server, a node proxy, and pods' addresses to put servers on."""

    def __init__(self, paths: ClusterPaths, block: int, api: ApiClient) -> None:
        self.paths = paths
        self.block = block
        self.api = api
        self.proxy = self.new_proxy()
        self.servers: list[Server] = []

    def new_proxy(self) -> NodeProxy:
        return NodeProxy(paths=self.paths, block=self.block, api=self.api)

    def pod(self, row: int) -> str:
        return addresses.pod_ip(self.block, row)

    def serve(self, row: int, handler: Handler = answer, port: int = PORT) -> Server:
        server = Server(self.pod(row), handler, port)
        self.servers.append(server)
        return server

    async def service(self, name: str, *rows: int, port: int = 80, target: int = PORT, **spec: object) -> str:
        """A Service with an EndpointSlice of these rows; its ClusterIP."""
        ports = [{"name": "http", "port": port, "targetPort": target}]
        made = await self.api.create(
            SERVICES,
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports, **spec}},
            "default",
        )
        await self.api.create(ENDPOINTSLICES, self.slice(name, *rows, port=target))
        return str(made["spec"].get("clusterIP"))

    def slice(self, name: str, *rows: int, port: int = PORT) -> Object:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [self.pod(row)], "conditions": {"ready": True}} for row in rows],
        }

    async def set_endpoints(self, name: str, *rows: int) -> None:
        await self.api.replace(ENDPOINTSLICES, self.slice(name, *rows))

    async def until(self, what: str, holds: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not await holds():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            await asyncio.sleep(0.005)


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    paths = ClusterPaths(f"p{abs(hash(request.node.name)) % 10**8}").make()
    block = claim_block(paths)
    server = ApiServer(paths=paths, block=block)
    await server.start()
    async with ApiClient(paths.kubeconfig) as api:
        bench = Bench(paths, block, api)
        await bench.proxy.start()
        yield bench
        await bench.proxy.stop()
        for each in bench.servers:
            await each.close()
    await server.stop()
    assert envoys_of(paths) == [], "an Envoy was left behind"
    paths.run_dir.rmdir()  # fails when a socket was left in it


def envoys_of(paths: ClusterPaths) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(paths.node_dir) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


async def curl(address: str, port: int = 80, *options: str) -> tuple[int, str]:
    """curl's exit code, and what it printed."""
    url = f"http://{address}:{addresses.listen_port(port)}/"
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-sS",
        "--max-time",
        "5",
        *options,
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def answers(address: str, port: int = 80) -> bool:
    return (await curl(address, port))[0] == 0


async def refuses(address: str, port: int = 80) -> bool:
    return (await curl(address, port))[0] == 7


async def test_a_cluster_ip_leads_to_a_ready_pod(bench: Bench):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("the service answers", lambda: answers(ip))
    assert await curl(ip) == (0, "hello")


async def test_low_ports_are_served_where_they_were_moved_to(bench: Bench):
    bench.serve(1, port=80)
    ip = await bench.service("web", 1, port=80, target=80)
    await bench.until("the service answers", lambda: answers(ip))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ip, 80), timeout=1)


async def test_a_reset_arrives_as_a_reset_and_an_orderly_close_as_a_close(bench: Bench):
    server = bench.serve(1, reset)
    ip = await bench.service("web", 1)
    await bench.until("the server was reached", lambda: _reached(ip, server))
    code, output = await curl(ip)
    assert (code, output.strip()) == (56, "curl: (56) Recv failure: Connection reset by peer")
    server.handler = hang_up
    code, output = await curl(ip)
    assert code == 52, "its twin: an empty reply is not a reset"


async def _reached(ip: str, server: Server) -> bool:
    await curl(ip)
    return server.connections > 0


async def test_a_ready_endpoint_where_nobody_listens_ends_the_connection_without_an_answer(bench: Bench):
    server = bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    await server.close()
    assert (await curl(ip))[0] in (52, 56), "not 7 as with kube-proxy: the module says why"


async def test_a_service_without_endpoints_refuses_and_comes_back(bench: Bench):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    await bench.set_endpoints("web")
    await bench.until("refuses", lambda: refuses(ip))
    await bench.set_endpoints("web", 1)
    await bench.until("answers again", lambda: answers(ip))


async def test_traffic_goes_to_the_endpoints_of_now(bench: Bench):
    first, second = bench.serve(1), bench.serve(2)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    await bench.set_endpoints("web", 2)
    await bench.until("the second is reached", lambda: _reached(ip, second))
    seen = first.connections
    for _ in range(5):
        assert await curl(ip) == (0, "hello")
    assert first.connections == seen


async def test_several_endpoints_share_the_traffic(bench: Bench):
    servers = [bench.serve(row) for row in (1, 2, 3)]
    ip = await bench.service("web", 1, 2, 3)
    await bench.until("answers", lambda: answers(ip))
    for _ in range(9):
        await curl(ip)
    assert min(server.connections for server in servers) >= 3


async def test_session_affinity_stays_with_one_endpoint(bench: Bench):
    servers = [bench.serve(row) for row in (1, 2, 3)]
    ip = await bench.service("web", 1, 2, 3, sessionAffinity="ClientIP")
    await bench.until("answers", lambda: answers(ip))
    for _ in range(6):
        await curl(ip)
    assert sorted(server.connections > 0 for server in servers) == [False, False, True]


async def test_a_change_of_one_service_disturbs_no_connection_of_another(bench: Bench):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    open_connection = socket.create_connection((ip, addresses.listen_port(80)))
    for index in range(5):
        await bench.service(f"other{index}", 1, port=9000)
        await bench.set_endpoints("other0", *([1] if index % 2 else []))
    await bench.api.delete(SERVICES, "other1", "default")
    await bench.until("a later change has arrived", lambda: _listeners(bench, "default/other4:9000"))
    loop = asyncio.get_running_loop()
    open_connection.setblocking(False)
    await loop.sock_sendall(open_connection, b"GET / HTTP/1.0\r\n\r\n")
    assert (await loop.sock_recv(open_connection, 4096)).endswith(b"hello")
    open_connection.close()


async def _listeners(bench: Bench, name: str) -> bool:
    return name in (await asyncio.to_thread(envoy.admin_get, bench.proxy.admin_socket, "/listeners"))[1]


async def test_a_deleted_service_refuses(bench: Bench):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    await bench.api.delete(SERVICES, "web", "default")
    await bench.until("refuses", lambda: refuses(ip))


async def test_a_headless_service_and_the_api_servers_own_are_not_served(bench: Bench):
    bench.serve(1)
    assert await bench.service("headless", 1, clusterIP="None") == "None"
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    _, listeners = await asyncio.to_thread(envoy.admin_get, bench.proxy.admin_socket, "/listeners")
    assert listeners.split() == ["default/web:80::" + f"{ip}:20080"]


async def test_a_server_sees_the_nodes_address(bench: Bench):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    assert f"X-Peer: {addresses.node_ip(bench.block)}" in (await curl(ip, 80, "-i"))[1]


async def test_an_envoy_that_dies_is_started_again(bench: Bench):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    first = bench.proxy.process.pid
    os.kill(first, signal.SIGKILL)
    await bench.until("answers again", lambda: answers(ip))
    assert bench.proxy.process.pid != first
    assert envoys_of(bench.paths) == [bench.proxy.process.pid]


@pytest.mark.parametrize("record", ["kept", "lost"])
async def test_a_restart_of_ours_adopts_the_running_envoy_and_breaks_no_connection(bench: Bench, record: str):
    bench.serve(1)
    ip = await bench.service("web", 1)
    await bench.until("answers", lambda: answers(ip))
    pid = bench.proxy.process.pid
    connection = socket.create_connection((ip, addresses.listen_port(80)))
    await bench.proxy.stop(keep=True)
    if record == "lost":
        (bench.paths.node_dir / "proxy" / "process.json").unlink()
    bench.proxy = bench.new_proxy()
    await bench.proxy.start()
    assert bench.proxy.process.pid == pid
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(connection, b"GET / HTTP/1.0\r\n\r\n")
    assert (await asyncio.get_running_loop().sock_recv(connection, 4096)).endswith(b"hello")
    connection.close()


async def test_a_foreign_process_with_the_recorded_pid_is_neither_adopted_nor_ended(bench: Bench):
    await bench.proxy.stop()
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    record = {"pid": stranger.pid, "create_time": psutil.Process(stranger.pid).create_time()}
    envoy.write_atomically(bench.paths.node_dir / "proxy" / "process.json", record)
    bench.proxy = bench.new_proxy()
    await bench.proxy.start()
    assert bench.proxy.process.pid != stranger.pid
    await bench.proxy.stop()
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_an_envoy_that_cannot_start_is_one_clear_error(bench: Bench):
    await bench.proxy.stop()
    broken = NodeProxy(paths=bench.paths, block=bench.block, api=bench.api)
    (bench.paths.node_dir / "proxy" / "envoy.log").unlink()
    broken.process._command = ["/bin/sh", "-c", "echo cannot bind >&2; exit 1"]
    with pytest.raises(MachineError, match="ended while it started") as caught:
        await broken.start()
    assert "cannot bind" in caught.value.meaning
    await broken.stop()
