"""Naming one pod the ways that istioctl and this lab do: `shop/server`, `server.shop`, `deploy/server.shop`, a pod."""

from __future__ import annotations

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import NAMESPACE, POD, SERVICE
from labkit.errors import InputError, did_you_mean
from labkit.observe.objects import (
    find_workload,
    is_finished,
    is_ready,
    is_terminating,
    labels_of,
    matches,
    name_of,
    namespace_of,
    require_namespace,
)

SERVICE_KINDS = ("svc", "service", "services")
WORKLOAD_KINDS = ("deploy", "deployment", "deployments", "pod", "pods", "po")


def split_kind(reference: str) -> tuple[str, str]:
    """(kind, the rest) of `pod/server`, `svc/shop/server`; the kind is empty where none is named.

    Raises InputError for what names nothing, and for kinds that have no proxy.
    """
    if not isinstance(reference, str) or not reference.strip("/"):
        raise InputError(f"{reference!r} names nothing.", next_step="Write 'namespace/name' or 'name.namespace'.")
    head, slash, rest = reference.partition("/")
    if slash and head in (*SERVICE_KINDS, *WORKLOAD_KINDS):
        return head, split_kind(rest)[1]
    if reference.count("/") > 1:
        raise InputError(
            f"{reference!r} names nothing that has a proxy.",
            next_step="Write 'namespace/name'; before it may stand pod/, deploy/ or svc/.",
        )
    return "", reference


def split_reference(cluster: Cluster, reference: str, namespace: str | None = None) -> tuple[str, str | None]:
    """(name, namespace or None) of a reference. `name.namespace` counts as such when that namespace exists.

    istioctl/pkg/util/handlers/handlers.go InferPodInfo of istio/istio.
    """
    head, slash, name = split_kind(reference)[1].rpartition("/")
    if slash:
        return name, head
    first, dot, last = name.rpartition(".")
    if dot and namespace is None and cluster.find(NAMESPACE, last) is not None:
        return first, last
    return name, namespace


def find_pod(cluster: Cluster, reference: str, namespace: str | None = None) -> Obj:
    """One pod of what is named, one that is ready if there is any. Raises InputError when there is none."""
    if split_kind(reference)[0] in SERVICE_KINDS:
        service = find_service(cluster, reference, namespace)
        known_as, home = f"Service {namespace_of(service)}/{name_of(service)}", namespace_of(service)
        selector = service["spec"].get("selector") or {}
        found = [pod for pod in cluster.objects(POD, home) if selector and matches(selector, labels_of(pod))]
    else:
        name, where = split_reference(cluster, reference, namespace)
        workload = find_workload(cluster, f"{where}/{name}" if where else name)
        known_as, found = str(workload), list(workload.pods)
    pods = [pod for pod in found if not is_terminating(pod)]
    if not pods:
        raise InputError(f"{known_as} has no pods.", next_step="Look at lab.deployments().", workload=known_as)
    running = [pod for pod in pods if not is_finished(pod)] or pods
    return max(running, key=lambda pod: (is_ready(pod), pod["metadata"]["creationTimestamp"], name_of(pod)))


def names_service(reference: str) -> bool:
    """Whether a reference says that it means a Service: `svc/server.shop`, `service/shop/server`."""
    return split_kind(reference)[0] in SERVICE_KINDS


def find_service(cluster: Cluster, reference: str, namespace: str | None = None) -> Obj:
    """The Service that is named; without a namespace, in `default`, or else the only one. Raises InputError."""
    name, where = split_reference(cluster, reference, namespace)
    found = [one for one in cluster.objects(SERVICE, where) if name_of(one) == name]
    if not where:
        found = [one for one in found if namespace_of(one) == "default"] or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"'{namespace_of(one)}/{name_of(one)}'" for one in found)
    if found:
        raise InputError(f"There are several Services {name!r}: {listed}.", next_step="Give the namespace too.")
    if where:
        require_namespace(cluster, where)
    services = cluster.objects(SERVICE, where)
    there = ", ".join(f"{namespace_of(one)}/{name_of(one)}" for one in services) or "none"
    raise InputError(
        f"There is no Service {name!r}{f' in namespace {where!r}' if where else ''}.",
        meaning=f"Services there: {there}.",
        next_step=f"{did_you_mean(name, map(name_of, services))}Look at lab.services().",
        service=reference,
    )
