"""The scheduler of a cluster with one node: it binds every pod that the node can take.

Real Kubernetes filters and scores many nodes; with one, only the filters are left that a lesson may meet: cordon,
nodeSelector, NoSchedule taints and the number of pods. Requests for CPU and memory are not counted, because nothing
enforces them here.
"""

from __future__ import annotations

from collections import Counter

from labkit.embedded.apiclient import NODES, PODS, ApiError, Object, key_of
from labkit.embedded.controllers.caches import Caches
from labkit.embedded.controllers.events import EventRecorder
from labkit.embedded.controllers.objects import condition_of, is_active, labels_of, now, with_condition
from labkit.embedded.controllers.queue import ReconcileQueue

NAME = "default-scheduler"


def wants_node(pod: Object) -> bool:
    """Does the pod wait for this scheduler?"""
    spec, status = pod["spec"], pod.get("status", {})
    return (
        not spec.get("nodeName")
        and spec.get("schedulerName", NAME) == NAME
        and not spec.get("schedulingGates")
        and "deletionTimestamp" not in pod["metadata"]
        and status.get("phase", "Pending") == "Pending"
    )


def objection(pod: Object, node: Object, pods_on_node: int) -> str | None:
    """Why the node cannot take the pod, in the scheduler's words; None when it can."""
    if any("persistentVolumeClaim" in volume for volume in pod["spec"].get("volumes") or []):
        return "pod has unbound immediate PersistentVolumeClaims (the embedded cluster provisions no volumes)"
    spec = node.get("spec", {})
    if spec.get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or []:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not (pod["spec"].get("nodeSelector") or {}).items() <= labels_of(node).items():
        return "node(s) didn't match Pod's node affinity/selector"
    allowed = (node.get("status", {}).get("allocatable") or {}).get("pods")
    if allowed is not None and pods_on_node >= int(allowed):
        return "Too many pods"
    return None


def unschedulable_message(objections: list[str]) -> str:
    """`0/1 nodes are available: 1 Too many pods.`"""
    if not objections:
        return "no nodes available to schedule pods"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(objections).items()))
    return f"0/{len(objections)} nodes are available: {reasons}."


def _tolerates(pod: Object, taint: Object) -> bool:
    for toleration in pod["spec"].get("tolerations") or []:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        if not toleration.get("key") and toleration.get("operator") == "Exists":
            return True
        if toleration.get("key") == taint["key"] and (
            toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
        ):
            return True
    return False


class Scheduler:
    """Binds pods through the subresource pods/binding."""

    def __init__(self, caches: Caches, events: EventRecorder) -> None:
        self._api = caches.api
        self._events = events
        self._pods = caches.informer(PODS)
        self._nodes = caches.informer(NODES)
        self._bound: set[str] = set()  # uids bound by us that our copy does not show yet
        self.queue = ReconcileQueue("scheduler", self._reconcile)
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(lambda *_: self._retry_all())

    def _pod_changed(self, kind: str, pod: Object) -> None:
        if kind == "DELETED" or pod["spec"].get("nodeName"):
            self._bound.discard(pod["metadata"]["uid"])
        if kind == "DELETED":
            self._retry_all()  # there is room now
        elif wants_node(pod):
            self.queue.add(key_of(pod))

    def _retry_all(self) -> None:
        for key, pod in self._pods.objects.items():
            if wants_node(pod):
                self.queue.add(key)

    async def _reconcile(self, key: str) -> None:
        pod = self._pods.objects.get(key)
        if pod is None or not wants_node(pod) or pod["metadata"]["uid"] in self._bound:
            return
        objections = []
        for node in self._nodes.objects.values():
            name = node["metadata"]["name"]
            reason = objection(pod, node, self._pods_on(name))
            if reason is None:
                await self._bind(pod, name)
                return
            objections.append(reason)
        await self._tell_unschedulable(pod, unschedulable_message(objections))

    def _pods_on(self, node: str) -> int:
        bound = [p for p in self._pods.objects.values() if p["spec"].get("nodeName") == node and is_active(p)]
        return len(bound) + len(self._bound)

    async def _bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        self._bound.add(meta["uid"])
        try:
            await self._api.request(
                "POST",
                PODS.path(meta["namespace"], meta["name"], "binding"),
                body={
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                },
            )
        except BaseException as error:
            self._bound.discard(meta["uid"])
            if isinstance(error, ApiError) and error.status == 404:  # deleted meanwhile
                return
            raise
        where = f"{meta['namespace']}/{meta['name']}"
        self._events.normal(pod, "Scheduled", f"Successfully assigned {where} to {node}")

    async def _tell_unschedulable(self, pod: Object, message: str) -> None:
        before = condition_of(pod, "PodScheduled")
        if before and before.get("message") == message:
            return
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        status = pod.get("status", {})
        others = [c for c in status.get("conditions") or [] if c["type"] != "PodScheduled"]
        conditions = with_condition(others, condition, now())
        await self._api.replace(PODS, {**pod, "status": {**status, "conditions": conditions}}, subresource="status")
        self._events.warning(pod, "FailedScheduling", message)
