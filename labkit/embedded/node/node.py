"""The node: registers itself, follows the pods that are bound to it, and keeps a PodWorker for each.

A kubelet, a container runtime and a kube-proxy in one part of the cluster's process. It meets the rest of the
cluster over the API only. What it keeps on disk lets the next one take over: see `records` and `processes`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from labkit.embedded.addresses import LAST_POD, node_ip
from labkit.embedded.apiclient import (
    CONFIGMAPS,
    NODES,
    PODS,
    SERVICEENTRIES,
    SERVICES,
    ApiClient,
    ApiError,
    Informer,
    Object,
    Resource,
)
from labkit.embedded.node.events import EventRecorder
from labkit.embedded.node.kubelet_api import KUBELET_PORT, KubeletApi
from labkit.embedded.node.logs import LogWatcher
from labkit.embedded.node.network import RowAllocator
from labkit.embedded.node.pod import PodWorker
from labkit.embedded.node.processes import (
    TERM_PATIENCE,
    Identity,
    boot_id,
    end_unborn,
    kill_all,
    kill_session,
    marked_processes,
    pod_mark,
)
from labkit.embedded.node.proxy import NodeProxy
from labkit.embedded.node.records import PodRecord, load_records
from labkit.embedded.node.sandbox import NodeContext
from labkit.embedded.node.status import timestamp
from labkit.embedded.paths import ClusterPaths, private_dir
from labkit.embedded.wire import RENEW_CONNECTIONS, RENEW_INSIDE
from labkit.embedded.wire.tap import OUTSIDE, Sees, Tap, interface_of
from labkit.errors import MachineError

log = logging.getLogger(__name__)

NODE_NAME = "labkit-node"

HEARTBEAT = 60.0
"""Seconds between heartbeats in the Node's conditions and in its Lease (the kubelet: 300 and 10)."""

LEASES = Resource("coordination.k8s.io/v1", "leases")

GATHER = 0.02
"""Seconds for which changes of Services and pod addresses are gathered before the pods' name files are written."""


class Node:
    """The one node of the cluster. Start it when the API server answers; stop it before that ends."""

    def __init__(self, *, paths: ClusterPaths, block: int, kubeconfig: Path) -> None:
        self._paths = paths
        self._block = block
        self._kubeconfig = kubeconfig
        self._workers: dict[str, PodWorker] = {}
        self._records: dict[str, PodRecord] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._names_changed = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Register, take over what an earlier node left, and serve. Raises MachineError, for a taken port say."""
        for directory in (self._paths.node_dir, self._paths.node_dir / "pods", self._paths.node_dir / "hostfs"):
            private_dir(directory)
        self._api = await ApiClient(self._kubeconfig, name="node").__aenter__()
        self._events = EventRecorder(self._api, component="kubelet", host=NODE_NAME)
        self._services = Informer(self._api, SERVICES, self._service_changed)
        self._entries = Informer(self._api, SERVICEENTRIES, self._service_changed)
        self._mesh_configs = Informer(self._api, CONFIGMAPS, self._configmap_changed)
        self._pods = Informer(self._api, PODS, fieldSelector=f"spec.nodeName={NODE_NAME}")
        self._context = NodeContext(
            paths=self._paths,
            block=self._block,
            node_name=NODE_NAME,
            api=self._api,
            kubeconfig=self._kubeconfig,
            api_port=urlsplit(self._api.server).port or 443,
            events=self._events,
            services=self._services,
            sandboxes=lambda: [worker.sandbox for worker in self._workers.values()],
            logs=LogWatcher(),
            rows=RowAllocator(),
            service_entries=self._entries,
            mesh_configs=self._mesh_configs,
        )
        self._kubelet = KubeletApi(self._context, lambda: list(self._workers.values()))
        self._proxy = NodeProxy(paths=self._paths, block=self._block, api=self._api)
        self._tap = Tap(self._paths.run_dir, self._view, self._renew_connections)
        try:
            await self._start_parts()
        except BaseException:
            await self.stop(keep_pods=True)
            raise

    async def _start_parts(self) -> None:
        await self._kubelet.start()
        await self._tap.start()
        self._take_over()
        self._events.start()
        self._spawn(self._services.run(), "node-services")
        self._spawn(self._entries.run(), "node-service-entries")
        self._spawn(self._mesh_configs.run(), "node-mesh-configs")
        for informer in (self._services, self._entries, self._mesh_configs):
            await informer.synced.wait()
        await self._register()
        # Only now: a pod that starts finds all services in its name files.
        self._pods.on_change(self._pod_changed)
        self._spawn(self._pods.run(), "node-pods")
        await self._pods.synced.wait()
        await self._end_unknown()
        self._spawn(self._write_names(), "node-names")
        self._spawn(self._heartbeat(), "node-heartbeat")
        await self._proxy.start()

    async def stop(self, *, keep_pods: bool) -> None:
        """Stop. With `keep_pods` all processes run on for the next node to adopt; otherwise none is left."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._kubelet.stop()
        self._context.logs.close()
        workers = list(self._workers.values())
        if keep_pods:
            await asyncio.gather(*(worker.release() for worker in workers))
        else:
            await asyncio.gather(*(worker.terminate(TERM_PATIENCE) for worker in workers))
            await asyncio.gather(*(worker.release() for worker in workers))
            kill_all(marked_processes(pod_mark(self._paths.node_dir)))
        self._workers.clear()
        await self._tap.stop()
        await self._proxy.stop(keep=keep_pods)
        await self._events.stop()
        await self._api.__aexit__()

    def _spawn(self, coroutine: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    # Taking over

    def _take_over(self) -> None:
        """Read the records of an earlier node, and kill what it started without having been able to record it."""
        end_unborn(self._paths.node_dir)
        self._records = load_records(self._context.pods_dir)
        kept = set()
        for record in self._records.values():
            self._context.rows.take(record.uid, record.row)
            for container in record.containers.values():
                if (identity := container.identity) and identity.alive:
                    kept.add(identity.pid)
        orphans = [p for p in marked_processes(pod_mark(self._paths.node_dir)) if _session_of(p) not in kept]
        if orphans:
            log.info("ending %d processes that no record names", kill_all(orphans))

    async def _end_unknown(self) -> None:
        """End the pods that are recorded here and that the API does not know any more."""
        for uid, record in list(self._records.items()):
            if uid in self._workers:
                continue
            for container in record.containers.values():
                if (identity := container.identity) and identity.alive:
                    kill_session(identity)
            kill_all(marked_processes(pod_mark(self._paths.node_dir, uid)))
            shutil.rmtree(self._context.pods_dir / uid, ignore_errors=True)
            self._context.rows.free(uid)
        self._records.clear()

    # Pods

    def _pod_changed(self, kind: str, pod: Object) -> None:
        if (pod.get("spec") or {}).get("nodeName") != NODE_NAME:
            return
        worker = self._workers.get(pod["metadata"]["uid"])
        if kind == "DELETED":
            if worker:
                worker.force_end()
        elif worker:
            worker.update(pod)
        else:
            self._add(pod)

    def _add(self, pod: Object) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        record = self._records.get(uid)
        if record is None:
            row = self._context.rows.take(uid)
            if row is None:
                message = f"all {LAST_POD} pod addresses of this node are taken; delete a pod first"
                self._events.emit(pod, "Warning", "FailedCreatePodSandBox", message)
                self._spawn(self._try_later(pod), "node-full")
                return
            record = PodRecord(uid, metadata["namespace"], metadata["name"], row)
        worker = PodWorker(self._context, pod, record, self._forget)
        self._workers[uid] = worker
        worker.start()
        self._names_changed.set()

    async def _try_later(self, pod: Object) -> None:
        await asyncio.sleep(5)
        current = self._pods.objects.get(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
        if current and current["metadata"]["uid"] == pod["metadata"]["uid"]:
            self._pod_changed("MODIFIED", current)

    def _forget(self, worker: PodWorker) -> None:
        self._workers.pop(worker.uid, None)
        self._records.pop(worker.uid, None)
        self._context.rows.free(worker.uid)
        self._names_changed.set()

    # What crosses the wire

    def _view(self, row: int) -> Sees | None:
        """Whose wire a pod sees: its own, or with the node's network (`kubectl debug node/...`) that of all pods."""
        sandbox = next((one.sandbox for one in self._workers.values() if one.record.row == row), None)
        if sandbox is None:
            return None
        if sandbox.pod["spec"].get("hostNetwork"):
            pods = self._workers.values()
            return lambda address: next(filter(None, (interface_of(address, one.sandbox.pod_ip) for one in pods)), "")
        return lambda address: interface_of(address, sandbox.pod_ip)

    async def _renew_connections(self, address: str) -> None:
        """Let proxies of the mesh open new connections to a pod, by a word that istiod hands on to them."""
        for worker in self._workers.values():
            if interface := interface_of(address, worker.sandbox.pod_ip):
                word = RENEW_CONNECTIONS if interface == OUTSIDE else RENEW_INSIDE
                patch = {"metadata": {"annotations": {word: datetime.now(UTC).isoformat()}}}
                try:
                    await self._api.patch(PODS, worker.record.name, patch, namespace=worker.record.namespace)
                except (ApiError, aiohttp.ClientError, OSError) as error:  # the pod may be gone
                    log.info("connections to %s were not renewed: %r", worker.record.name, error)

    # Names

    def _configmap_changed(self, event: str, obj: Object) -> None:
        # The mesh's settings stand beside istiod, wherever that is; nothing marks them but their content.
        if "mesh" in (obj.get("data") or {}):
            self._service_changed(event, obj)

    def _service_changed(self, _kind: str, _obj: Object) -> None:
        self._names_changed.set()

    async def _write_names(self) -> None:
        while True:
            await self._names_changed.wait()
            await asyncio.sleep(GATHER)
            self._names_changed.clear()
            for worker in self._workers.values():
                try:
                    worker.sandbox.write_network()
                except Exception:  # one odd pod or Service must not take its names from all others
                    log.exception("the names of %s were not written", worker.record.name)

    # The Node object

    async def _register(self) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": NODE_NAME,
                "labels": {
                    "kubernetes.io/hostname": NODE_NAME,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": _architecture(),
                    "node-role.kubernetes.io/control-plane": "",
                    "app.kubernetes.io/managed-by": "labkit",
                },
            },
            "spec": {},
        }
        try:
            await self._api.create(NODES, node)
        except ApiError as error:
            if error.status != 409:
                raise MachineError(f"The node cannot register: {error.what}") from error
        await self._write_status(self._status())

    def _status(self) -> dict[str, Any]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        resources = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": str(LAST_POD)}
        return {
            "addresses": [
                {"type": "InternalIP", "address": node_ip(self._block)},
                {"type": "Hostname", "address": NODE_NAME},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "capacity": resources,
            "allocatable": resources,
            "conditions": self._conditions(),
            "nodeInfo": {
                "architecture": _architecture(),
                "bootID": boot_id(),
                "containerRuntimeVersion": "labkit://processes",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": KUBELET_VERSION,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": _os_name(),
                "systemUUID": "",
            },
        }

    def _conditions(self) -> list[dict[str, str]]:
        now = timestamp()
        self._ready_since = getattr(self, "_ready_since", now)
        table = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ]
        return [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": self._ready_since,
            }
            for kind, status, reason, message in table
        ]

    async def _write_status(self, status: dict[str, Any]) -> None:
        await self._api.patch(NODES, NODE_NAME, {"status": status}, subresource="status")

    async def _renew_lease(self) -> None:
        """The Node's Lease, which `kubectl describe node` shows. Nobody acts on it: there is no other node."""
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": NODE_NAME, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": NODE_NAME,
                "leaseDurationSeconds": int(4 * HEARTBEAT),
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        await self._api.apply(LEASES, lease, manager="kubelet")

    async def _heartbeat(self) -> None:
        while True:
            try:
                await self._renew_lease()
                await asyncio.sleep(HEARTBEAT)
                await self._write_status({"conditions": self._conditions()})
            except (ApiError, aiohttp.ClientError, OSError) as error:
                log.warning("heartbeat of the node: %r", error)
                await asyncio.sleep(HEARTBEAT)


KUBELET_VERSION = "v1.33.0"
"""The Kubernetes version whose behaviour this node follows."""


def _session_of(process: Identity) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
