"""The status of a pod, made from its specification and the records of its containers. Pure.

Phases and conditions: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from labkit.embedded.node.records import ContainerRecord, PodRecord

Object = Mapping[str, Any]


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A ContainerState: not running yet, or not again."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def init_containers(pod: Object) -> list[Any]:
    """spec.initContainers, or nothing."""
    return list(pod["spec"].get("initContainers") or [])


def ephemeral_containers(pod: Object) -> list[Any]:
    """spec.ephemeralContainers, or nothing."""
    return list(pod["spec"].get("ephemeralContainers") or [])


def is_sidecar(container: Object) -> bool:
    """An init container that keeps running (a native sidecar)."""
    return container.get("restartPolicy") == "Always"


def initialized(pod: Object, record: PodRecord) -> bool:
    """All init containers have succeeded, or run on if they are sidecars."""
    return not incomplete(pod, record)


def incomplete(pod: Object, record: PodRecord) -> list[str]:
    """The init containers that the pod still waits for."""
    names = []
    for container in init_containers(pod):
        state = record.container(container["name"])
        done = state.started if is_sidecar(container) else state.succeeded
        if not done:
            names.append(container["name"])
    return names


def unready(pod: Object, record: PodRecord) -> list[str]:
    """The containers that are not ready, sidecars included."""
    parts = [c for c in init_containers(pod) if is_sidecar(c)] + list(pod["spec"]["containers"])
    return [c["name"] for c in parts if not record.container(c["name"]).ready]


def phase(pod: Object, record: PodRecord) -> str:
    """Pending, Running, Succeeded or Failed."""
    policy = pod["spec"].get("restartPolicy") or "Always"
    inits = [record.container(c["name"]) for c in init_containers(pod) if not is_sidecar(c)]
    if policy == "Never" and any(r.terminated and not r.succeeded for r in inits):
        return "Failed"
    records = [record.container(c["name"]) for c in pod["spec"]["containers"]]
    if not any(r.state for r in records) or not initialized(pod, record):
        return "Pending"
    if policy != "Always" and all(r.terminated for r in records):
        if all(r.succeeded for r in records):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    begun = all(r.running or r.terminated or r.last_state for r in records)
    return "Running" if begun else "Pending"


def container_status(spec: Object, record: ContainerRecord, uid: str, default: Mapping[str, Any]) -> dict[str, Any]:
    """One ContainerStatus."""
    name = spec["name"]
    started = record.attempt > 0
    return {
        "name": name,
        "state": record.state or dict(default),
        "lastState": record.last_state,
        "ready": record.ready,
        "started": record.started,
        "restartCount": record.restart_count,
        "image": spec["image"],
        "imageID": f"labkit://{spec['image']}" if started else "",
        "containerID": f"labkit://{uid}/{name}/{record.attempt}" if started else "",
    }


def conditions(pod: Object, record: PodRecord, now: str, ended: str) -> list[dict[str, Any]]:
    """The pod's conditions. Those of others (readiness gates) are kept; a transition is dated when it happens."""
    before = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}
    wait_init, wait_ready = incomplete(pod, record), unready(pod, record)
    gates = [g["conditionType"] for g in pod["spec"].get("readinessGates") or []]
    closed = [g for g in gates if before.get(g, {}).get("status") != "True"]
    if ended == "Succeeded":
        not_ready = ("PodCompleted", "")
    else:
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(wait_ready)}]")
    wanted = {
        "PodReadyToStartContainers": (True, "", ""),
        "Initialized": (
            not wait_init,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(wait_init)}]",
        ),
        "Ready": (
            not wait_ready and not closed,
            *(not_ready if wait_ready else ("ReadinessGatesNotReady", f"closed readiness gates: {closed}")),
        ),
        "ContainersReady": (not wait_ready, *not_ready),
        "PodScheduled": (True, "", ""),
    }
    result = [c for kind, c in before.items() if kind not in wanted]
    for kind, (true, reason, message) in wanted.items():
        value = "True" if true else "False"
        old = before.get(kind, {})
        moved = now if old.get("status") != value else old.get("lastTransitionTime") or now
        condition = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": moved}
        if not true:
            condition["reason"] = "PodCompleted" if kind == "Initialized" and ended == "Succeeded" else reason
            condition["message"] = message
        result.append(condition)
    return result


def pod_status(pod: Object, record: PodRecord, *, pod_ip: str, host_ip: str, started: str) -> dict[str, Any]:
    """The whole status. `started` is when this node first saw the pod."""
    state = phase(pod, record)
    uid = pod["metadata"]["uid"]
    first = waiting("PodInitializing")
    main_default = first if init_containers(pod) else waiting("ContainerCreating")
    status: dict[str, Any] = {
        "phase": state,
        "conditions": conditions(pod, record, timestamp(), state),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": (pod.get("status") or {}).get("startTime") or started,
        "containerStatuses": _statuses(pod["spec"]["containers"], record, uid, main_default),
        "qosClass": (pod.get("status") or {}).get("qosClass") or qos_class(pod),
    }
    if init_containers(pod):
        status["initContainerStatuses"] = _statuses(init_containers(pod), record, uid, first)
    if ephemeral_containers(pod):
        # They are never ready: no probe asks them, and nobody waits for them.
        shown = _statuses(ephemeral_containers(pod), record, uid, waiting("ContainerCreating"))
        status["ephemeralContainerStatuses"] = [
            {key: value for key, value in one.items() if key != "started"} | {"ready": False} for one in shown
        ]
    return status


def _statuses(specs: Iterable[Object], record: PodRecord, uid: str, default: Object) -> list[dict[str, Any]]:
    return [container_status(spec, record.container(spec["name"]), uid, default) for spec in specs]


def qos_class(pod: Object) -> str:
    """BestEffort, Burstable or Guaranteed, from requests and limits.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    """
    resources = [c.get("resources") or {} for c in [*init_containers(pod), *pod["spec"]["containers"]]]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for r in resources:
        limits = r.get("limits") or {}
        requests = {**limits, **(r.get("requests") or {})}
        if not {"cpu", "memory"} <= set(limits) or any(requests[k] != limits[k] for k in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"
