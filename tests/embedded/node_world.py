"""A cluster for tests of the node: the real API server and the real node, and pods that are bound by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from labkit.embedded.addresses import node_ip
from labkit.embedded.apiclient import CONFIGMAPS, EVENTS, PODS, SERVICES, ApiClient, ApiError, Object
from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.node import NODE_NAME, Node
from labkit.embedded.node.processes import end_recorded, marked_processes, pod_mark
from labkit.embedded.paths import ClusterPaths

_numbers = itertools.count(1)


@dataclass
class ExecResult:
    """What a client of exec got."""

    stdout: str = ""
    stderr: str = ""
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> int | None:
        if self.status.get("status") == "Success":
            return 0
        causes = (self.status.get("details") or {}).get("causes") or []
        return next((int(c["message"]) for c in causes if c["reason"] == "ExitCode"), None)


class NodeWorld:
    """The running parts, and short ways to act on them."""

    def __init__(self, paths: ClusterPaths, block: int, server: ApiServer) -> None:
        self.paths, self.block, self.server = paths, block, server
        self.node = Node(paths=paths, block=block, kubeconfig=paths.kubeconfig)
        self.api = ApiClient(paths.kubeconfig)

    async def restart_node(self, *, crash: bool) -> None:
        """Another node takes over: after a crash (nothing is tidied) or after a stop that keeps the pods."""
        if crash:
            await crash_node(self.node)
        else:
            await self.node.stop(keep_pods=True)
        self.node = Node(paths=self.paths, block=self.block, kubeconfig=self.paths.kubeconfig)
        await self.node.start()

    async def create(self, name: str, *containers: Object, init: tuple[Object, ...] = (), **spec: Any) -> Object:
        metadata = {"name": name, "namespace": "default", "labels": {"app": name}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"nodeName": NODE_NAME, "containers": list(containers), "initContainers": list(init), **spec},
        }
        return await self.api.create(PODS, pod)

    async def configmap(self, name: str, **data: str) -> None:
        metadata = {"name": name, "namespace": "default"}
        await self.api.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    async def service(self, name: str, port: int) -> str:
        """A Service without a proxy behind it; its ClusterIP."""
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        }
        return str((await self.api.create(SERVICES, body))["spec"]["clusterIP"])

    async def pod(self, name: str) -> Object:
        return await self.api.get(PODS, name, "default")

    async def until(self, name: str, wanted: Callable[[Object], Any], *, seconds: float = 10) -> Object:
        """The pod, once `wanted` holds."""
        deadline = time.monotonic() + seconds
        while True:
            pod = await self.pod(name)
            with contextlib.suppress(KeyError, IndexError, TypeError):
                if wanted(pod):
                    return pod
            assert time.monotonic() < deadline, f"not in {seconds} s: {json.dumps(pod['status'], indent=1)}"
            await asyncio.sleep(0.02)

    async def until_gone(self, name: str, *, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                await self.pod(name)
            except ApiError as error:
                assert error.status == 404
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{name} is still there")

    async def delete(self, name: str) -> None:
        await self.api.delete(PODS, name, "default")
        await self.until_gone(name)

    async def events(self, name: str, reason: str, *, seconds: float = 5) -> list[Object]:
        """The pod's events of one reason, once there are any."""
        deadline = time.monotonic() + seconds
        while True:
            items = (await self.api.list(EVENTS, "default"))["items"]
            found = [e for e in items if e["involvedObject"]["name"] == name and e["reason"] == reason]
            if found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def kubelet(self, *, token: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of the kubelet, as the API server is one."""
        context = ssl.create_default_context(cafile=str(self.paths.pki_dir / "ca.crt"))
        shown = token if token is not None else (self.paths.pki_dir / "kubelet-token").read_text().strip()
        async with aiohttp.ClientSession(
            base_url=f"https://{node_ip(self.block)}:10250",
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": f"Bearer {shown}"},
        ) as session:
            yield session

    async def logs(self, pod: str, container: str, **options: str) -> tuple[int, str]:
        async with (
            self.kubelet() as kubelet,
            kubelet.get(f"/containerLogs/default/{pod}/{container}", params=options) as response,
        ):
            return response.status, await response.text()

    async def exec(
        self,
        pod: str,
        container: str,
        *command: str,
        stdin: bytes | None = None,
        tty: bool = False,
        protocol: str = "v5.channel.k8s.io",
        path: str = "exec",
    ) -> ExecResult:
        """Run a program in a container over the websocket, to its end."""
        options = {"stdout": "true", "stderr": "true", "tty": str(tty).lower()}
        params = [*options.items(), *(("command", word) for word in command)]
        if stdin is not None:
            params.append(("stdin", "true"))
        result = ExecResult()
        async with (
            self.kubelet() as kubelet,
            kubelet.ws_connect(f"/{path}/default/{pod}/{container}", params=params, protocols=[protocol]) as socket,
        ):
            assert socket.protocol == protocol
            if stdin is not None:
                await socket.send_bytes(b"\0" + stdin)
                if protocol.startswith("v5"):
                    await socket.send_bytes(bytes((255, 0)))
            async for message in socket:
                channel, data = message.data[0], message.data[1:].decode()
                if channel == 1:
                    result.stdout += data
                elif channel == 2:
                    result.stderr += data
                elif channel == 3:
                    result.status = json.loads(data)
        return result

    def processes(self, uid: str = "") -> list[int]:
        """The pids of a pod's processes, or of all pods'."""
        return [p.pid for p in marked_processes(pod_mark(self.paths.node_dir, uid))]


async def crash_node(node: Node) -> None:
    """What a kill -9 leaves: tasks and descriptors are gone, nothing was ended, written or told."""
    mine = [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and _belongs_to_node(t)]
    for task in mine:
        task.cancel()
    await asyncio.gather(*mine, return_exceptions=True)
    for worker in node._workers.values():
        for container in worker.containers:
            if container.process:
                container.process.release()
    await node._kubelet.stop()
    await node._tap.stop()
    node._context.logs.close()
    await node._proxy.stop(keep=True)
    await node._api.__aexit__()


def _belongs_to_node(task: asyncio.Task[Any]) -> bool:
    prefixes = ("node-", "status-", "pod-", "sidecar-", "probes-", "volumes-", "end-")
    return task.get_name().startswith(prefixes)


@contextlib.asynccontextmanager
async def node_world() -> AsyncIterator[NodeWorld]:
    """A started world. Afterwards no process of its pods is left, or the test fails."""
    paths = ClusterPaths(f"node-{os.getpid()}-{next(_numbers)}").make()
    block = claim_block(paths)
    server = ApiServer(paths=paths, block=block)
    await server.start()
    world = NodeWorld(paths, block, server)
    try:
        await world.node.start()
        async with world.api:
            yield world
    finally:
        await world.node.stop(keep_pods=False)
        await server.stop()
        left = world.processes()
        end_recorded(paths)
        shutil.rmtree(paths.run_dir, ignore_errors=True)
    assert not left, f"processes were left behind: {left}"
    assert not list((paths.run_dir).glob("*"))


def shell(name: str, script: str, **more: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


def state(pod: Object, index: int = 0, kind: str = "containerStatuses") -> Object:
    """The present state of a container."""
    return pod["status"][kind][index]["state"]


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
