"""Job: pods that run to their end, as often as asked for.

Simplified: Kubernetes gives each pod a finalizer, so that a pod which somebody deletes is counted before it goes. Here
the pods that exist are counted, together with what the status already says, so a finished pod that is deleted at once
may run again. Indexed Jobs, pod failure policies and TTL are left out.
https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from datetime import datetime

from labkit.embedded.apiclient import PODS, ApiError, Object, Resource, key_of
from labkit.embedded.controllers.caches import Caches, Expectations, in_namespace
from labkit.embedded.controllers.events import EventRecorder
from labkit.embedded.controllers.objects import (
    controller_of,
    controller_reference,
    find_condition,
    is_active,
    is_ready,
    now,
    parse_timestamp,
    timestamp,
)
from labkit.embedded.controllers.queue import ReconcileQueue, retry_delay

JOBS = Resource("batch/v1", "jobs")

# Kubernetes waits 10 s after a pod's first failure and doubles that up to six minutes. A lesson cannot.
FIRST_DELAY, LAST_DELAY = 1.0, 60.0


@dataclass(frozen=True)
class Plan:
    """What a Job needs now."""

    create: int = 0
    delete: int = 0
    finished: str = ""
    """`Complete` or `Failed`, with the reason and message that `kubectl describe` shows."""
    reason: str = ""
    message: str = ""
    wait: float | None = None


def is_finished(job: Object) -> bool:
    """Has the Job its condition Complete or Failed?"""
    conditions = job.get("status", {}).get("conditions") or []
    return any((find_condition(conditions, kind) or {}).get("status") == "True" for kind in ("Complete", "Failed"))


def decide(job: Object, active: int, succeeded: int, failed: int, moment: datetime) -> Plan:
    """From the numbers of pods to the next step."""
    spec, status = job["spec"], job.get("status", {})
    parallel, completions = spec.get("parallelism", 1), spec.get("completions")
    if spec.get("suspend"):
        return Plan(delete=active)
    if failed > spec.get("backoffLimit", 6):
        reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        return Plan(delete=active, finished="Failed", reason=reason, message=message)
    left = _seconds_left(spec, status, moment)
    if left is not None and left <= 0:
        reason, message = "DeadlineExceeded", "Job was active longer than specified deadline"
        return Plan(delete=active, finished="Failed", reason=reason, message=message)
    # Without completions, the first success means that the work is done, and the others finish on their own.
    done = succeeded >= completions if completions is not None else succeeded > 0 and active == 0
    if done:
        reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
        return Plan(delete=active, finished="Complete", reason=reason, message=message)
    if completions is not None:
        wanted = min(parallel, completions - succeeded)
    else:
        wanted = min(active, parallel) if succeeded else parallel
    return Plan(create=max(0, wanted - active), delete=max(0, active - wanted), wait=left)


def _seconds_left(spec: Object, status: Object, moment: datetime) -> float | None:
    deadline, start = spec.get("activeDeadlineSeconds"), status.get("startTime")
    if deadline is None or start is None:
        return None
    return float(deadline - (moment - parse_timestamp(start)).total_seconds())


def make_pod(job: Object) -> Object:
    """A pod of the Job."""
    template = copy.deepcopy(job["spec"]["template"])
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{key: meta[key] for key in ("labels", "annotations") if meta.get(key)},
            "generateName": f"{job['metadata']['name']}-",
            "namespace": job["metadata"]["namespace"],
            "ownerReferences": [controller_reference(job)],
        },
        "spec": template["spec"],
    }


class JobController:
    """Keeps the pods of every Job."""

    def __init__(self, caches: Caches, events: EventRecorder) -> None:
        self._api = caches.api
        self._caches = caches
        self._events = events
        self._jobs = caches.informer(JOBS)
        self._pods = caches.informer(PODS)
        self._expectations = Expectations(self._pods)
        self._retry_at: dict[str, tuple[int, float]] = {}  # uid -> failures that were seen, when to go on
        self.queue = ReconcileQueue("job", self._reconcile)
        self._jobs.on_change(lambda _, obj: self.queue.add(key_of(obj)))
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, _kind: str, pod: Object) -> None:
        owner = controller_of(pod)
        if owner and owner["kind"] == "Job":
            self.queue.add(f"{pod['metadata']['namespace']}/{owner['name']}")

    async def _reconcile(self, key: str) -> float | None:
        job = self._jobs.objects.get(key)
        if job is None or is_finished(job) or "deletionTimestamp" in job["metadata"]:
            return None
        uid = job["metadata"]["uid"]
        pods = [p for p in in_namespace(self._pods, job["metadata"]["namespace"]) if _owned_by(p, uid)]
        active = [p for p in pods if is_active(p) and not self._expectations.is_deleting(p)]
        active += self._expectations.unseen(uid)
        before = job.get("status", {})
        succeeded = max(sum(_phase(p) == "Succeeded" for p in pods), before.get("succeeded", 0))
        failed = max(sum(_phase(p) == "Failed" for p in pods), before.get("failed", 0))
        plan = decide(job, len(active), succeeded, failed, now())
        pause = self._pause(uid, failed)
        created = 0
        if plan.create and not pause:
            created = await self._create(job, plan.create)
        if plan.delete:
            await self._delete(job, active[: plan.delete])
        ready = sum(is_ready(p) for p in active)
        await self._write_status(job, plan, len(active) + created - plan.delete, ready, succeeded, failed)
        waits = [wait for wait in (plan.wait, pause if plan.create else None) if wait]
        return min(waits, default=None)

    def _pause(self, uid: str, failed: int) -> float:
        """Seconds that are left of the back-off after the last failure."""
        loop_time = asyncio.get_running_loop().time()
        known, until = self._retry_at.get(uid, (0, 0.0))
        if failed > known:
            until = loop_time + retry_delay(failed, first=FIRST_DELAY, last=LAST_DELAY)
            self._retry_at[uid] = (failed, until)
        return max(0.0, until - loop_time)

    async def _create(self, job: Object, count: int) -> int:
        created = 0
        for _ in range(count):
            try:
                pod = await self._api.create(PODS, make_pod(job))
            except ApiError as error:
                self._events.warning(job, "FailedCreate", f"Error creating: {error.what}")
                raise
            created += 1
            self._expectations.created(job["metadata"]["uid"], pod)
            self._events.normal(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return created

    async def _delete(self, job: Object, pods: list[Object]) -> None:
        for pod in pods:
            meta = pod["metadata"]
            await self._api.delete(PODS, meta["name"], meta["namespace"])
            self._expectations.deleting(pod)
            self._events.normal(job, "SuccessfulDelete", f"Deleted pod: {meta['name']}")

    async def _write_status(
        self, job: Object, plan: Plan, active: int, ready: int, succeeded: int, failed: int
    ) -> None:
        before, moment = job.get("status", {}), timestamp(now())
        status = {key: before[key] for key in ("conditions", "startTime") if before.get(key)}
        if not job["spec"].get("suspend"):
            status.setdefault("startTime", moment)
        counts = {"active": active, "ready": ready, "succeeded": succeeded, "failed": failed}
        status |= {key: value for key, value in counts.items() if value > 0}
        if plan.finished:
            condition = {
                "type": plan.finished,
                "status": "True",
                "reason": plan.reason,
                "message": plan.message,
                "lastProbeTime": moment,
                "lastTransitionTime": moment,
            }
            status["conditions"] = [*(before.get("conditions") or []), condition]
            if plan.finished == "Complete":
                status["completionTime"] = moment
        if status != before:
            updated = await self._api.replace(JOBS, {**job, "status": status}, subresource="status")
            self._caches.remember(JOBS, updated)
        if plan.finished == "Complete":
            self._events.normal(job, "Completed", "Job completed")
        elif plan.finished:
            self._events.warning(job, plan.reason, plan.message)


def _owned_by(pod: Object, uid: str) -> bool:
    owner = controller_of(pod)
    return bool(owner and owner["uid"] == uid)


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))
