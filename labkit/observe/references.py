"""Naming one pod the ways that istioctl and this lab do: `shop/server`, `server.shop`, `deploy/server.shop`, a pod."""

from __future__ import annotations

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import NAMESPACE, SERVICE
from labkit.errors import InputError
from labkit.observe.objects import find_workload, is_finished, is_ready, is_terminating, name_of, namespace_of

_SERVICE_KINDS = ("svc", "service", "services")
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


def names_service(reference: str) -> bool:
    """Whether a reference says that it means a Service: `svc/server.shop`, `service/shop/server`."""
    return isinstance(reference, str) and reference.partition("/")[0] in _SERVICE_KINDS and "/" in reference


def find_service(cluster: Cluster, reference: str, namespace: str | None = None) -> Obj:
    """The Service that is named; without a namespace, in `default`, or else the only one. Raises InputError."""
    head, slash, rest = str(reference).partition("/")
    name, where = split_reference(cluster, rest if slash and head in _SERVICE_KINDS else reference, namespace)
    found = [one for one in cluster.objects(SERVICE, where) if name_of(one) == name]
    if not where:
        found = [one for one in found if namespace_of(one) == "default"] or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"'{namespace_of(one)}/{name_of(one)}'" for one in found)
    if found:
        raise InputError(f"There are several Services {name!r}: {listed}.", next_step="Give the namespace too.")
    if where and cluster.find(NAMESPACE, where) is None:
        raise InputError(f"The namespace {where!r} does not exist.", next_step="Look at lab.namespaces().")
    there = ", ".join(f"{namespace_of(one)}/{name_of(one)}" for one in cluster.objects(SERVICE, where)) or "none"
    raise InputError(
        f"There is no Service {name!r}{f' in namespace {where!r}' if where else ''}.",
        meaning=f"Services there: {there}.",
        next_step="Look at lab.services().",
        service=reference,
    )
