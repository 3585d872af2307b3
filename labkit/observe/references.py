"""Naming one pod the ways that istioctl and this lab do: `shop/server`, `server.shop`, `deploy/server.shop`, a pod."""

from __future__ import annotations

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import NAMESPACE, SERVICE
from labkit.errors import InputError
from labkit.observe.objects import find_workload, is_finished, is_ready, is_terminating, name_of

_KINDS = ("deploy", "deployment", "deployments", "pod", "pods", "po")


def split_reference(cluster: Cluster, reference: str, namespace: str | None = None) -> tuple[str, str | None]:
    """(name, namespace or None) of a reference. `name.namespace` counts as such when that namespace exists.

    istioctl/pkg/util/handlers/handlers.go InferPodInfo of istio/istio.
    """
    if not isinstance(reference, str) or not reference.strip("/"):
        raise InputError(f"{reference!r} names nothing.", next_step="Write 'namespace/name' or 'name.namespace'.")
    head, slash, name = reference.rpartition("/")
    if slash and head not in _KINDS:
        return name, head
    first, dot, last = name.rpartition(".")
    if dot and namespace is None and cluster.find(NAMESPACE, last) is not None:
        return first, last
    return name, namespace


def find_pod(cluster: Cluster, reference: str, namespace: str | None = None) -> Obj:
    """One pod of what is named, one that is ready if there is any. Raises InputError when there is none."""
    name, where = split_reference(cluster, reference, namespace)
    found = find_workload(cluster, f"{where}/{name}" if where else name)
    pods = [pod for pod in found.pods if not is_terminating(pod)]
    if not pods:
        raise InputError(f"{found} has no pods.", next_step="Look at lab.deployments().", workload=str(found))
    running = [pod for pod in pods if not is_finished(pod)] or pods
    return max(running, key=lambda pod: (is_ready(pod), pod["metadata"]["creationTimestamp"], name_of(pod)))


def find_service(cluster: Cluster, reference: str, namespace: str | None = None) -> Obj:
    """The Service that is named; without a namespace, in `default`."""
    for kind in ("svc/", "service/"):
        reference = reference.removeprefix(kind)
    name, where = split_reference(cluster, reference, namespace)
    return cluster.get(SERVICE, name, where or "default")
