"""ReplicaSet: as many pods as `spec.replicas` says, made from the template, adopted and released by label."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from labkit.embedded.apiclient import PODS, REPLICASETS, ApiError, Object, key_of
from labkit.embedded.controllers.caches import Caches, Expectations, in_namespace
from labkit.embedded.controllers.events import EventRecorder
from labkit.embedded.controllers.objects import (
    available_in,
    controller_of,
    controller_reference,
    is_active,
    is_ready,
    labels_of,
    matches,
    now,
    with_condition,
    without_condition,
)
from labkit.embedded.controllers.queue import ReconcileQueue, namespace_is_ending

# At most so many creations or deletions in one reconciliation, for the sake of `replicas: 20000`, a typing error.
BURST = 100
# At most so many under way at once. Enough to hide the time of an injection webhook; each one more costs a TLS
# connection, which is dearer than the request.
SIDE_BY_SIDE = 8

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


# Decisions


def make_pod(replicaset: Object) -> Object:
    """A pod from the ReplicaSet's template."""
    template = copy.deepcopy(replicaset["spec"]["template"])
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{key: meta[key] for key in ("labels", "annotations", "finalizers") if meta.get(key)},
            "generateName": f"{replicaset['metadata']['name']}-",
            "namespace": replicaset["metadata"]["namespace"],
            "ownerReferences": [controller_reference(replicaset)],
        },
        "spec": template["spec"],
    }


def deletion_rank(pod: Object) -> tuple[Any, ...]:
    """Pods with a smaller rank are deleted first.

    Not bound before bound, pending before running, not ready before ready, cheaper before dearer, ready for a shorter
    time before longer, more restarts before fewer, newer before older.
    https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-down
    """
    meta, status = pod["metadata"], pod.get("status", {})
    ready_since = next(
        (
            c.get("lastTransitionTime") or ""
            for c in status.get("conditions") or []
            if c["type"] == "Ready" and c["status"] == "True"
        ),
        "",
    )
    restarts = max((c.get("restartCount", 0) for c in status.get("containerStatuses") or []), default=0)
    return (
        bool(pod["spec"].get("nodeName")),
        _PHASES.get(status.get("phase", "Pending"), 1),
        is_ready(pod),
        _deletion_cost(meta),
        _Reversed(ready_since),
        -restarts,
        _Reversed(meta.get("creationTimestamp", "")),
        meta["name"],
    )


def _deletion_cost(meta: Object) -> int:
    try:
        return int((meta.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", 0))
    except ValueError:
        return 0


class _Reversed(str):
    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def status_of(
    replicaset: Object, pods: list[Object], failure: str | None, moment: datetime
) -> tuple[Object, float | None]:
    """The status for these active pods, and the seconds after which one more may have become available."""
    spec = replicaset["spec"]
    template_labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    waits = [available_in(pod, spec.get("minReadySeconds", 0), moment) for pod in pods]
    conditions = list(replicaset.get("status", {}).get("conditions") or [])
    if failure is None:
        conditions = without_condition(conditions, "ReplicaFailure")
    else:
        condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}
        conditions = with_condition(conditions, condition, moment)
    status: Object = {
        "replicas": len(pods),
        "fullyLabeledReplicas": sum(template_labels.items() <= labels_of(pod).items() for pod in pods),
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": replicaset["metadata"].get("generation", 1),
    }
    status = {key: value for key, value in status.items() if value or key in ("replicas", "observedGeneration")}
    if conditions:
        status["conditions"] = conditions
    return status, min((wait for wait in waits if wait), default=None)


# The controller


class ReplicaSetController:
    """Keeps the pods of every ReplicaSet."""

    def __init__(self, caches: Caches, events: EventRecorder) -> None:
        self._api = caches.api
        self._caches = caches
        self._events = events
        self._replicasets = caches.informer(REPLICASETS)
        self._pods = caches.informer(PODS)
        self._expectations = Expectations(self._pods)
        self.queue = ReconcileQueue("replicaset", self._reconcile)
        self._replicasets.on_change(lambda _, obj: self.queue.add(key_of(obj)))
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, _kind: str, pod: Object) -> None:
        namespace, owner = pod["metadata"]["namespace"], controller_of(pod)
        if owner:
            if owner["kind"] == "ReplicaSet":
                self.queue.add(f"{namespace}/{owner['name']}")
            return
        for replicaset in in_namespace(self._replicasets, namespace):  # an orphan that somebody may adopt
            if matches(replicaset["spec"]["selector"], labels_of(pod)):
                self.queue.add(key_of(replicaset))

    async def _reconcile(self, key: str) -> float | None:
        replicaset = self._replicasets.objects.get(key)
        if replicaset is None:
            return None
        pods = await self._claim(replicaset)
        failure: ApiError | None = None
        if "deletionTimestamp" not in replicaset["metadata"]:
            missing = replicaset["spec"].get("replicas", 1) - len(pods)
            if missing > 0:
                failure = await self._create(replicaset, min(missing, BURST))
            elif missing < 0:
                await self._delete(replicaset, sorted(pods, key=deletion_rank)[: min(-missing, BURST)])
        again = await self._write_status(replicaset, pods, failure.what if failure else None)
        if failure and failure.status != 404:  # 404: the namespace is gone
            raise failure
        return again

    async def _claim(self, replicaset: Object) -> list[Object]:
        """The active pods of this ReplicaSet. Adopts matching orphans, releases pods that no longer match."""
        uid, selector = replicaset["metadata"]["uid"], replicaset["spec"]["selector"]
        leaving = "deletionTimestamp" in replicaset["metadata"]
        mine = []
        for pod in in_namespace(self._pods, replicaset["metadata"]["namespace"]):
            owner, matching = controller_of(pod), matches(selector, labels_of(pod))
            if not is_active(pod) or self._expectations.is_deleting(pod):
                continue
            if owner and owner["uid"] == uid:
                if matching:
                    mine.append(pod)
                elif not leaving:
                    await self._set_owners(pod, [o for o in pod["metadata"]["ownerReferences"] if o["uid"] != uid])
            elif owner is None and matching and not leaving:
                owners = pod["metadata"].get("ownerReferences") or []
                mine.append(await self._set_owners(pod, [*owners, controller_reference(replicaset)]))
        return mine + [pod for pod in self._expectations.unseen(uid) if not self._expectations.is_deleting(pod)]

    async def _set_owners(self, pod: Object, owners: list[Object]) -> Object:
        meta = pod["metadata"]
        # With the resource version, so that a decision on an old copy is refused.
        patch = {"metadata": {"ownerReferences": owners, "resourceVersion": meta["resourceVersion"]}}
        return await self._api.patch(PODS, meta["name"], patch, namespace=meta["namespace"])

    async def _create(self, replicaset: Object, count: int) -> ApiError | None:
        pod = make_pod(replicaset)
        slots = asyncio.Semaphore(SIDE_BY_SIDE)

        async def create() -> Object:
            async with slots:
                return await self._api.create(PODS, pod)

        results = await asyncio.gather(*(create() for _ in range(count)), return_exceptions=True)
        errors = []
        for result in results:
            if isinstance(result, ApiError):
                if not namespace_is_ending(result):
                    errors.append(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                self._expectations.created(replicaset["metadata"]["uid"], result)
                self._events.normal(replicaset, "SuccessfulCreate", f"Created pod: {result['metadata']['name']}")
        for message in _distinct(error.what for error in errors):
            self._events.warning(replicaset, "FailedCreate", f"Error creating: {message}")
        return errors[0] if errors else None

    async def _delete(self, replicaset: Object, pods: list[Object]) -> None:
        slots = asyncio.Semaphore(SIDE_BY_SIDE)

        async def delete(pod: Object) -> None:
            meta = pod["metadata"]
            async with slots:
                await self._api.delete(PODS, meta["name"], meta["namespace"])
            self._expectations.deleting(pod)
            self._events.normal(replicaset, "SuccessfulDelete", f"Deleted pod: {meta['name']}")

        await asyncio.gather(*(delete(pod) for pod in pods))

    async def _write_status(self, replicaset: Object, pods: list[Object], failure: str | None) -> float | None:
        status, again = status_of(replicaset, pods, failure, now())
        if status != replicaset.get("status"):
            updated = await self._api.replace(REPLICASETS, {**replicaset, "status": status}, subresource="status")
            self._caches.remember(REPLICASETS, updated)
        return again


def _distinct(messages: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(messages))
