"""One pod: init containers in order, then the containers together, then the end. One PodWorker each.

    new -> volumes -> init containers, one after the other -> containers at once -> (ended)
                                                                 any time: deleted -> SIGTERM, grace, SIGKILL -> gone

It talks to the API in two places only: the status, whose changes are gathered for a moment and sent as one patch,
and the final deletion.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp

from labkit.embedded.apiclient import PODS, ApiError, Object
from labkit.embedded.node.container import Container, first_line
from labkit.embedded.node.environment import ContainerConfigError
from labkit.embedded.node.processes import kill_all, marked_processes, pod_mark
from labkit.embedded.node.records import PodRecord
from labkit.embedded.node.sandbox import NodeContext, Sandbox
from labkit.embedded.node.status import (
    ephemeral_containers,
    init_containers,
    initialized,
    is_sidecar,
    phase,
    pod_status,
    timestamp,
)
from labkit.embedded.node.tasks import end_tasks
from labkit.embedded.node.volumes import is_made_of_objects
from labkit.errors import LabError
from labkit.policy.workload import PROXY_CONTAINER

log = logging.getLogger(__name__)

GATHER = 0.008
"""Seconds for which changes of the status are gathered. Containers of a pod start within less, so it is one patch."""

FIRST_RETRY, LAST_RETRY = 0.25, 10.0

REFRESH = 30.0
"""Seconds between two looks at the ConfigMaps and Secrets that are mounted (the kubelet: about 60)."""


class PodWorker:
    """Brings one pod to life, keeps it and ends it. `gone` is called when nothing of it is left."""

    def __init__(self, node: NodeContext, pod: Object, record: PodRecord, gone: Callable[[PodWorker], None]) -> None:
        self.pod = pod
        self.record = record
        self.sandbox = Sandbox(node, pod, record)
        self._node = node
        self._gone = gone
        self._started = timestamp()
        self._dirty = asyncio.Event()
        self._sent: dict[str, Any] = {}
        self._ending: asyncio.Task[None] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.inits = [Container(self.sandbox, c, init=True, changed=self.changed) for c in init_containers(pod)]
        self.mains = [Container(self.sandbox, c, changed=self.changed) for c in pod["spec"]["containers"]]
        self.ephemerals: list[Container] = []
        self._has_place = False
        self._take_ephemerals()

    @property
    def uid(self) -> str:
        return self.record.uid

    @property
    def containers(self) -> list[Container]:
        return [*self.inits, *self.mains, *self.ephemerals]

    def container(self, name: str) -> Container | None:
        """The container of that name."""
        return next((c for c in self.containers if c.name == name), None)

    # What the node tells it

    def start(self) -> None:
        """Begin; processes that an earlier supervisor left running are adopted."""
        self._tasks["status"] = asyncio.create_task(self._publish(), name=f"status-{self.record.name}")
        if "deletionTimestamp" in self.pod["metadata"]:
            self._end(force=False)
        else:
            self._tasks["life"] = asyncio.create_task(self._live(), name=f"pod-{self.record.name}")

    def update(self, pod: Object) -> None:
        """The pod changed in the API. Of its specification only its end and ephemeral containers can be new."""
        self.pod = self.sandbox.pod = pod
        self._take_ephemerals()
        if "deletionTimestamp" in pod["metadata"]:
            self._end(force=False)

    def force_end(self) -> None:
        """The pod was removed from the API: end its processes without grace."""
        self._end(force=True)

    def changed(self) -> None:
        """Something about a container changed: the status is to be sent."""
        self._dirty.set()

    # Life

    async def _live(self) -> None:
        while True:
            try:
                return await self._bring_to_life()
            except Exception as error:  # a full disk, a defect of ours: the pod must not be lost silently
                log.exception("pod %s", self.record.name)
                self._node.events.emit(self.pod, "Warning", "FailedCreatePodSandBox", first_line(error))
            await asyncio.sleep(LAST_RETRY)
            # What runs is adopted anew.
            await end_tasks(*(self._tasks.pop(name, None) for name in ("volumes", *(c.name for c in self.inits))))
            for container in self.inits:
                if container.process:
                    container.process.release()

    async def _bring_to_life(self) -> None:
        self.sandbox.make()
        if self._finished():
            self.changed()
            return
        if not any(r.identity and r.identity.alive for r in self.record.containers.values()):
            self._begin_anew()
        self.changed()
        await self._prepare_volumes()
        self._has_place = True
        self._take_ephemerals()
        if any(is_made_of_objects(volume) for volume in self.pod["spec"].get("volumes") or []):
            self._tasks["volumes"] = asyncio.create_task(self._refresh_volumes(), name=f"volumes-{self.record.name}")
        if not await self._run_init_containers():
            return
        self.sandbox.write_network()  # istio-init may have asked for redirection
        await self._run_main_containers()
        await self._end_sidecars()
        self.changed()

    def _take_ephemerals(self) -> None:
        """Start the ephemeral containers that are new, whatever the others do: they are how one looks at a pod.

        One that has ended stays ended, in an earlier life of the pod too.
        """
        known = {container.name for container in self.ephemerals}
        for spec in ephemeral_containers(self.pod):
            if spec["name"] not in known:
                self.ephemerals.append(Container(self.sandbox, spec, ephemeral=True, changed=self.changed))
        if not self._has_place or self._ending:
            return
        for container in self.ephemerals:
            record, task = container.record, f"ephemeral {container.name}"
            if task not in self._tasks and not record.terminated:
                self._tasks[task] = asyncio.create_task(container.run(), name=f"ephemeral-{container.name}")

    def _finished(self) -> bool:
        """Done for good, before we came: a job that succeeded is not run again."""
        recorded = phase(self.pod, self.record)
        seen = (self.pod.get("status") or {}).get("phase")
        return recorded in ("Succeeded", "Failed") or (not self.record.containers and seen in ("Succeeded", "Failed"))

    def _begin_anew(self) -> None:
        """Nothing of the pod runs. If it ran before (the machine restarted), its init containers run again."""
        if not any(r.attempt for r in self.record.containers.values()):
            return
        self.sandbox.renew()
        for container in self.containers:
            record = container.record
            if record.running:
                container.lost()
            if container.ephemeral:
                continue
            if record.attempt and record.terminated:
                record.last_state, record.state = record.state, {}
                record.restart_count += 1
            record.ready = record.started = False
        self.sandbox.save()

    async def _prepare_volumes(self) -> None:
        pause = FIRST_RETRY
        while True:
            try:
                await self.sandbox.prepare_volumes()
                return
            except ContainerConfigError as error:
                self._node.events.emit(self.pod, "Warning", error.reason, error.what)
            except aiohttp.ClientError as error:
                log.debug("volumes of %s: %r", self.record.name, error)
            except Exception as error:  # an API error, a file where a directory must be, a name that is too long
                log.warning("volumes of %s: %r", self.record.name, error)
                message = f"MountVolume.SetUp failed: {first_line(error)}"
                self._node.events.emit(self.pod, "Warning", "FailedMount", message)
            await asyncio.sleep(pause)  # the ConfigMap may come with the next manifest
            pause = min(pause * 2, LAST_RETRY)

    async def _refresh_volumes(self) -> None:
        """A mounted ConfigMap follows the object; what a container has in its environment does not."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self.sandbox.prepare_volumes()
            except (LabError, aiohttp.ClientError, OSError) as error:  # deleted meanwhile: the files stay
                log.debug("volumes of %s stay as they are: %s", self.record.name, error)

    async def _run_main_containers(self) -> None:
        """In the order of the pod, at once; but a container with a postStart hook holds those after it back until the
        hook is through (pkg/kubelet/kuberuntime/kuberuntime_manager.go SyncPod).
        """
        async with asyncio.TaskGroup() as tasks:
            for container in self.mains:
                running = tasks.create_task(container.run(), name=f"container-{container.name}")
                if container.has_post_start:
                    through = tasks.create_task(container.post_started.wait())
                    await asyncio.wait({running, through}, return_when=asyncio.FIRST_COMPLETED)
                    through.cancel()

    async def _run_init_containers(self) -> bool:
        """One after the other; False when one failed and is not to be tried again."""
        for container in self.inits:
            if container.record.succeeded and not is_sidecar(container.spec):
                continue  # before our time
            if is_sidecar(container.spec):
                self._tasks[container.name] = asyncio.create_task(container.run(), name=f"sidecar-{container.name}")
                await container.until_started()
                self.sandbox.write_network()
                continue
            await container.run()
            if not container.record.succeeded:
                return False
        return initialized(self.pod, self.record)

    async def _end_sidecars(self) -> None:
        """Native sidecars end after the containers, the last one first."""
        for container in reversed(self.inits):
            if task := self._tasks.pop(container.name, None):
                await end_tasks(task)
                await container.terminate(self._grace())

    # The end

    def _grace(self) -> float:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        seconds = metadata.get("deletionGracePeriodSeconds")
        if seconds is None:
            seconds = spec.get("terminationGracePeriodSeconds")
        return 30.0 if seconds is None else float(seconds)

    def _end(self, *, force: bool) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._delete(force), name=f"end-{self.record.name}")
        elif force:
            self._kill_left()

    async def _delete(self, force: bool) -> None:
        try:
            await self.terminate(0.0 if force else self._grace())
        except Exception:  # a full disk, a defect of ours: the pod ends nevertheless
            log.exception("ending %s", self.record.name)
            self._kill_left()
        if not force:
            await self._delete_from_api()
        # Not when cancelled: then the node stops, and the next one finds the record and ends the pod.
        await self._cancel_tasks()
        self.sandbox.remove()
        self._gone(self)

    async def _delete_from_api(self) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        pause = FIRST_RETRY
        while True:
            try:
                await self._node.api.delete(PODS, self.record.name, self.record.namespace, options)
                return
            except ApiError as error:
                if error.status < 500:  # another pod of that name, or somebody was faster
                    return
            except aiohttp.ClientError as error:
                log.debug("deleting %s: %r", self.record.name, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_RETRY)

    async def terminate(self, grace: float) -> None:
        """End every process of the pod: containers together, sidecars after them, then what is left.

        A proxy of Istio stays until its application has ended: its agent waits 5 s after SIGTERM
        (https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig, terminationDrainDuration).
        """
        await end_tasks(self._tasks.pop("life", None))
        await end_tasks(*(self._tasks.pop(container.name, None) for container in self.inits))
        await end_tasks(*(self._tasks.pop(f"ephemeral {one.name}", None) for one in self.ephemerals))
        sidecars = [c for c in self.inits if is_sidecar(c.spec)]
        others = [c for c in self.containers if c not in sidecars]
        proxies = [c for c in others if c.name == PROXY_CONTAINER and len(others) > 1]
        others = [c for c in others if c not in proxies]
        await asyncio.gather(*(container.terminate(grace) for container in others))
        for container in [*proxies, *reversed(sidecars)]:
            await container.terminate(grace)
        self._kill_left()

    def _kill_left(self) -> None:
        """What `kubectl exec` started, and what left its container's session."""
        mark = pod_mark(self._node.paths.node_dir, self.uid)
        for _ in range(5):
            if not kill_all(marked_processes(mark)):
                return

    async def release(self) -> None:
        """Let go of the pod and leave its processes running."""
        await end_tasks(self._ending)
        await self._cancel_tasks()
        for container in self.containers:
            await container.release()

    async def _cancel_tasks(self) -> None:
        tasks, self._tasks = list(self._tasks.values()), {}
        await end_tasks(*tasks)

    # The status

    async def _publish(self) -> None:
        """Send the status whenever it changed, as one merge patch."""
        pause = FIRST_RETRY
        while True:
            await self._dirty.wait()
            await asyncio.sleep(GATHER)
            self._dirty.clear()
            try:
                await self._send_status()
                pause = FIRST_RETRY
                continue
            except ApiError as error:
                if error.status == 404:  # removed: we are told in a moment
                    continue
                log.warning("status of %s not written: %s", self.record.name, error.what)
            except (aiohttp.ClientError, OSError) as error:
                log.debug("status of %s not written: %r", self.record.name, error)
            except Exception:  # without this task nobody would ever see again what becomes of the pod
                log.exception("status of %s not written", self.record.name)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_RETRY)
            self._dirty.set()

    async def _send_status(self) -> None:
        status = self._status()
        if status == self._sent:
            return
        # With the uid, the patch cannot hit another pod that has taken over the name.
        patch = {"metadata": {"uid": self.uid}, "status": status}
        await self._node.api.patch(PODS, self.record.name, patch, namespace=self.record.namespace, subresource="status")
        self._sent = status

    def _status(self) -> dict[str, Any]:
        # Our last word may not have come back to us yet: a condition's time of transition must not move.
        api = self.pod.get("status") or {}
        ours = {c["type"]: c for c in self._sent.get("conditions", [])}
        known = [c for c in api.get("conditions") or [] if c["type"] not in ours]
        pod = {**self.pod, "status": {**api, "conditions": [*known, *ours.values()]}}
        return pod_status(
            pod, self.record, pod_ip=self.sandbox.pod_ip, host_ip=self._node.host_ip, started=self._started
        )
