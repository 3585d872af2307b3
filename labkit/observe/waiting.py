"""Waiting until workloads are ready. The functions `missing_*` are pure; each says what is still missing."""

from __future__ import annotations

from collections.abc import Callable

from labkit.cluster import Cluster, Obj
from labkit.cluster.cluster import WAIT_SECONDS
from labkit.cluster.kinds import DEPLOYMENT, POD
from labkit.observe.objects import find_workload, is_ready, is_terminating, name_of, namespace_of, pod_status


def missing_in_deployment(deployment: Obj) -> str:
    """What a Deployment still lacks; the rules of `kubectl rollout status`."""
    spec, status = deployment["spec"], deployment.get("status", {})
    wanted = int(spec.get("replicas", 1))
    updated = int(status.get("updatedReplicas", 0))
    ready = int(status.get("readyReplicas", 0))
    name = name_of(deployment)
    if int(status.get("observedGeneration", 0)) < int(deployment["metadata"].get("generation", 0)):
        return f"{name}: its change is not seen yet"
    if updated < wanted:
        return f"{name}: {updated} of {wanted} pods are of the new template"
    if int(status.get("replicas", 0)) > updated:
        return f"{name}: {int(status['replicas']) - updated} old pods are still there"
    if ready < wanted or int(status.get("availableReplicas", 0)) < wanted:
        return f"{name}: {ready} of {wanted} pods are ready"
    return ""


def missing_deployments(names: frozenset[str] | None = None) -> Callable[[list[Obj]], str]:
    """What the Deployments `names` (None: all of the collection) still lack."""

    def missing(deployments: list[Obj]) -> str:
        chosen = [d for d in deployments if names is None or name_of(d) in names]
        absent = (names or frozenset()) - {name_of(d) for d in chosen}
        lacking = [f"{name}: not there" for name in sorted(absent)]
        return "; ".join(lacking + [text for d in chosen if (text := missing_in_deployment(d))])

    return missing


def missing_pods(pods: list[Obj]) -> str:
    """Which pods are not ready, or not gone yet."""
    lacking = [f"{name_of(p)} is {pod_status(p)}" for p in pods if is_terminating(p) or not (is_ready(p) or _done(p))]
    return "; ".join(lacking)


def _done(pod: Obj) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Succeeded")


def wait_until_ready(cluster: Cluster, what: str, *, limit: float = WAIT_SECONDS) -> list[Obj]:
    """Wait for a namespace (all its Deployments and pods) or one workload; returns the pods that are ready then.

    Old pods of a rollout count as missing until they are gone, so that no request meets one of them.
    """
    if "/" in what:
        return _workload_ready(cluster, what, limit)
    cluster.get("namespaces", what)
    named = f"the Deployments of namespace {what} to be ready"
    cluster.wait_until(DEPLOYMENT, missing_deployments(), what=named, namespace=what, limit=limit)
    pods = f"the pods of namespace {what} to be ready"
    return cluster.wait_until(POD, missing_pods, what=pods, namespace=what, limit=limit)


def _workload_ready(cluster: Cluster, what: str, limit: float) -> list[Obj]:
    reference = find_workload(cluster, what)
    if reference.kind == "Pod":
        pod = reference.pods[0]
        return cluster.wait_until(
            POD,
            lambda items: missing_pods([i for i in items if name_of(i) == reference.name]),
            what=f"pod {reference} to be ready",
            namespace=namespace_of(pod),
            limit=limit,
        )
    missing = missing_deployments(frozenset({reference.name}))
    what = f"Deployment {reference} to be ready"
    cluster.wait_until(DEPLOYMENT, missing, what=what, namespace=reference.namespace, limit=limit)
    deployment = cluster.get(DEPLOYMENT, reference.name, reference.namespace)
    selector = deployment["spec"]["selector"].get("matchLabels") or {}
    pods = f"the pods of {reference} to be ready"
    return cluster.wait_until(POD, missing_pods, what=pods, namespace=reference.namespace, labels=selector, limit=limit)
