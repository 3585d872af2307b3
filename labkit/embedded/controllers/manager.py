"""All controllers of a cluster together, on one connection pool and one set of caches."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from labkit.embedded.apiclient import ApiClient
from labkit.embedded.controllers.caches import Caches
from labkit.embedded.controllers.deployment import DeploymentController
from labkit.embedded.controllers.endpoints import EndpointsController
from labkit.embedded.controllers.events import EventRecorder
from labkit.embedded.controllers.garbage import GarbageCollector
from labkit.embedded.controllers.job import JobController
from labkit.embedded.controllers.loadbalancer import LoadBalancerController
from labkit.embedded.controllers.mirror import MirrorController
from labkit.embedded.controllers.namespace import NamespaceController
from labkit.embedded.controllers.queue import ReconcileQueue
from labkit.embedded.controllers.replicaset import ReplicaSetController
from labkit.embedded.controllers.scheduler import NAME as SCHEDULER
from labkit.embedded.controllers.scheduler import Scheduler
from labkit.errors import InputError


class Controllers:
    """Start and stop of all controllers. `start` returns when each has seen the cluster once."""

    def __init__(self, *, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._api: ApiClient | None = None
        self._caches: Caches | None = None
        self._recorders: list[EventRecorder] = []
        self._queues: list[ReconcileQueue] = []
        self._garbage: GarbageCollector | None = None

    async def start(self) -> None:
        """Begin to reconcile."""
        api = self._api = await ApiClient(self._kubeconfig, name="controllers").__aenter__()
        caches = self._caches = Caches(api)
        self._queues = [
            NamespaceController(caches, cluster_ca(self._kubeconfig)).queue,
            DeploymentController(caches, self._recorder("deployment-controller")).queue,
            ReplicaSetController(caches, self._recorder("replicaset-controller")).queue,
            JobController(caches, self._recorder("job-controller")).queue,
            EndpointsController(caches).queue,
            MirrorController(caches).queue,
            LoadBalancerController(caches).queue,
            Scheduler(caches, self._recorder(SCHEDULER)).queue,
        ]
        self._garbage = GarbageCollector(caches)  # last: it listens to what the others follow
        await caches.start()
        for queue in self._queues:
            queue.start()
        self._garbage.start()

    async def stop(self) -> None:
        """End every reconciliation and every watch."""
        for queue in self._queues:
            await queue.close()
        if self._garbage:
            await self._garbage.close()
        for recorder in self._recorders:
            await recorder.close()
        if self._caches:
            await self._caches.stop()
        if self._api:
            await self._api.__aexit__()
        self._queues, self._recorders = [], []
        self._garbage = self._caches = self._api = None

    def _recorder(self, component: str) -> EventRecorder:
        assert self._api
        recorder = EventRecorder(self._api, component)
        self._recorders.append(recorder)
        return recorder


def cluster_ca(kubeconfig: Path) -> str:
    """The certificate authority of the kubeconfig's cluster, PEM."""
    config = yaml.safe_load(kubeconfig.read_text())
    try:
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        return base64.b64decode(cluster["certificate-authority-data"]).decode()
    except (KeyError, StopIteration, TypeError, ValueError) as error:
        raise InputError(
            f"{kubeconfig} is not a kubeconfig that the cluster's components can use.",
            next_step="Run 'labkit down' and 'labkit up'.",
        ) from error
