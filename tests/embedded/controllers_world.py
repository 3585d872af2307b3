"""A cluster for tests of the controllers: the real API server, the real controllers, and a kubelet that pretends.

The kubelet is the one thing that is not real, so that a test decides when a pod becomes ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from labkit.embedded import addresses
from labkit.embedded.apiclient import (
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    ApiClient,
    ApiError,
    Informer,
    Object,
    Resource,
)
from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.controllers import Controllers
from labkit.embedded.paths import ClusterPaths

NODE = "labkit-node"


class FakeKubelet:
    """Reports every pod bound to the node as running, and as ready unless its image begins with `never-ready`."""

    def __init__(self, api: ApiClient, block: int) -> None:
        self.api = api
        self.block = block
        self.rows: dict[str, int] = {}
        self.seen: list[tuple[float, str]] = []
        self.pods = Informer(api, PODS, self._changed)
        self.tasks: set[asyncio.Task[None]] = set()
        self.keep_leaving = False

    async def start(self) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE},
            "status": {"allocatable": {"pods": "200"}, "conditions": [{"type": "Ready", "status": "True"}]},
        }
        with contextlib.suppress(ApiError):
            await self.api.create(NODES, node)
        self._spawn(self.pods.run())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _changed(self, kind: str, pod: Object) -> None:
        meta = pod["metadata"]
        if kind == "ADDED":
            self.seen.append((time.monotonic(), meta["name"]))
        if kind == "DELETED" or pod["spec"].get("nodeName") != NODE:
            return
        if "deletionTimestamp" in meta:
            if not self.keep_leaving:
                self._spawn(self._end(pod))
        elif meta["uid"] not in self.rows:
            used = set(self.rows.values())
            self.rows[meta["uid"]] = next(row for row in range(1, 250) if row not in used)
            if not pod["spec"]["containers"][0]["image"].startswith("never-ready"):
                self._spawn(self.report(pod, ready=True))
            else:
                self._spawn(self.report(pod, ready=False))

    async def report(self, pod: Object, *, ready: bool) -> None:
        meta = pod["metadata"]
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        status = {
            "phase": "Running",
            "podIP": addresses.pod_ip(self.block, self.rows[meta["uid"]]),
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": moment},
            ],
        }
        with contextlib.suppress(ApiError):
            await self.api.patch(
                PODS, meta["name"], {"status": status}, namespace=meta["namespace"], subresource="status"
            )

    async def _end(self, pod: Object) -> None:
        meta = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        with contextlib.suppress(ApiError):
            await self.api.delete(PODS, meta["name"], meta["namespace"], options)
        self.rows.pop(meta["uid"], None)


class World:
    """The running cluster, and the few questions that the tests ask."""

    def __init__(self, paths: ClusterPaths, block: int) -> None:
        self.paths = paths
        self.block = block
        self.server = ApiServer(paths=paths, block=block)
        self.controllers: Controllers | None = None
        self.api: ApiClient
        self.kubelet: FakeKubelet

    async def start(self) -> None:
        await self.server.start()
        self.api = await ApiClient(self.paths.kubeconfig, name="tests").__aenter__()
        self.kubelet = FakeKubelet(self.api, self.block)
        await self.kubelet.start()
        await self.start_controllers()

    async def start_controllers(self) -> None:
        self.controllers = Controllers(kubeconfig=self.paths.kubeconfig)
        await self.controllers.start()

    async def stop_controllers(self) -> None:
        if self.controllers:
            await self.controllers.stop()
            self.controllers = None

    async def stop(self) -> None:
        await self.stop_controllers()
        await self.kubelet.stop()
        await self.api.__aexit__()
        await self.server.stop()

    async def namespace(self, name: str) -> str:
        await self.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    async def items(self, resource: Resource, namespace: str | None = None, **params: str) -> list[Object]:
        return list((await self.api.list(resource, namespace, **params))["items"])

    async def names(self, resource: Resource, namespace: str | None = None, **params: str) -> list[str]:
        return sorted(item["metadata"]["name"] for item in await self.items(resource, namespace, **params))

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        try:
            return await self.api.get(resource, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def until(self, what: str, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        """The first true answer of the asynchronous `condition`; fails and says what was awaited."""
        deadline = time.monotonic() + seconds
        while True:
            answer = await condition()
            if answer:
                return answer
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            await asyncio.sleep(0.005)

    async def deploy(self, name: str = "web", namespace: str = "default", **options: Any) -> Object:
        return await self.api.create(DEPLOYMENTS, deployment(name, namespace, **options))

    async def complete(self, name: str = "web", namespace: str = "default", seconds: float = 10.0) -> Object:
        """Wait until the Deployment is rolled out, as `kubectl rollout status` decides it."""

        async def check() -> Object | None:
            obj = await self.api.get(DEPLOYMENTS, name, namespace)
            status, replicas = obj.get("status", {}), obj["spec"]["replicas"]
            current = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
            counts = [status.get(f, 0) for f in ("replicas", "updatedReplicas", "availableReplicas")]
            return obj if current and counts == [replicas] * 3 else None

        return dict(await self.until(f"deployment {name} complete", check, seconds))


@contextlib.asynccontextmanager
async def make_world(name: str) -> AsyncIterator[World]:
    """A cluster of its own, with nothing left behind."""
    paths = ClusterPaths(name).make()
    world = World(paths, claim_block(paths))
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
        paths.run_dir.rmdir()


def deployment(
    name: str = "web",
    namespace: str = "default",
    *,
    replicas: int = 2,
    image: str = "app:1",
    labels: dict[str, str] | None = None,
    ports: list[Object] | None = None,
    **spec: Any,
) -> Object:
    """A Deployment."""
    labels = labels or {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "app", "image": image, "ports": ports or []}],
                },
            },
            **spec,
        },
    }


def service(name: str = "web", namespace: str = "default", *, ports: list[Object] | None = None, **spec: Any) -> Object:
    """A Service that selects `app: <name>`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports or [{"port": 80, "targetPort": 8080}], **spec},
    }
