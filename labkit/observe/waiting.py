"""Waiting until workloads are ready. The functions `missing_*` are pure; each says what is still missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from labkit.cluster import Cluster, Obj
from labkit.cluster.cluster import WAIT_SECONDS, in_vain
from labkit.cluster.kinds import DEPLOYMENT, POD, Kind
from labkit.errors import InputError, WaitTimeoutError
from labkit.observe.objects import find_workload, is_ready, is_terminating, name_of, namespace_of, pod_status

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")

TURN_SECONDS = 2.0
"""So long an unknown image stays unnoticed: longer than all pods of a lesson take, so that no turn is wasted."""


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


def unknown_image(pods: list[Obj]) -> InputError | None:
    """The error for a pod whose image the embedded cluster does not have: waiting does not bring it."""
    for pod in pods:
        if is_terminating(pod):
            continue
        for state in pod.get("status", {}).get("containerStatuses") or []:
            reason = ((state.get("state") or {}).get("waiting") or {}).get("reason")
            if reason in IMAGE_REASONS:
                return InputError(
                    f"Pod {namespace_of(pod)}/{name_of(pod)} cannot start: {reason} for image {state.get('image')!r}.",
                    meaning="The embedded cluster pulls no images. It has a catalogue of names that it knows.",
                    next_step=f"lab.events({namespace_of(pod)!r}) lists the names. Correct the image and apply again.",
                    image=state.get("image"),
                )
    return None


def wait_until_ready(cluster: Cluster, what: str, *, limit: float = WAIT_SECONDS) -> list[Obj]:
    """Wait for a namespace (all its Deployments and pods) or one workload; returns the pods that are ready then.

    Old pods of a rollout count as missing until they are gone, so that no request meets one of them. An image that
    the embedded cluster does not know ends the wait early; on a real one, a pull may succeed yet.
    """
    if "/" in what:
        return _workload_ready(cluster, what, limit)
    cluster.get("namespaces", what)
    named = f"the Deployments of namespace {what} to be ready"
    _wait(cluster, DEPLOYMENT, missing_deployments(), named, what, limit)
    return _wait(cluster, POD, missing_pods, f"the pods of namespace {what} to be ready", what, limit)


def _workload_ready(cluster: Cluster, what: str, limit: float) -> list[Obj]:
    reference = find_workload(cluster, what)
    if reference.kind == "Pod":

        def missing_pod(items: list[Obj]) -> str:
            return missing_pods([i for i in items if name_of(i) == reference.name])

        what = f"pod {reference} to be ready"
        return _wait(cluster, POD, missing_pod, what, reference.namespace, limit, only=reference.name)
    missing = missing_deployments(frozenset({reference.name}))
    what = f"Deployment {reference} to be ready"
    deployment = cluster.get(DEPLOYMENT, reference.name, reference.namespace)
    selector = deployment["spec"]["selector"].get("matchLabels") or {}
    _wait(cluster, DEPLOYMENT, missing, what, reference.namespace, limit, pods=selector)
    pods = f"the pods of {reference} to be ready"
    return _wait(cluster, POD, missing_pods, pods, reference.namespace, limit, labels=selector, pods=selector)


def _wait(
    cluster: Cluster,
    kind: Kind,
    missing: Callable[[list[Obj]], str],
    what: str,
    namespace: str,
    limit: float,
    *,
    labels: Mapping[str, str] | None = None,
    pods: Mapping[str, str] | None = None,
    only: str | None = None,
) -> list[Obj]:
    # A Deployment does not tell why its pods do not start, so they are looked at between two turns of the watch.
    until = time.monotonic() + limit
    while True:
        turn = min(TURN_SECONDS, max(until - time.monotonic(), 0.1)) if cluster.is_embedded else limit
        try:
            return cluster.wait_until(kind, missing, what=what, namespace=namespace, labels=labels, limit=turn)
        except WaitTimeoutError as error:
            concerned = [p for p in cluster.objects(POD, namespace, labels=pods) if only in (None, name_of(p))]
            if cluster.is_embedded and (hopeless := unknown_image(concerned)):
                raise hopeless from None
            if time.monotonic() >= until:
                raise in_vain(what, error.details["seen"], limit) from None
