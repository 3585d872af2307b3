"""kubectl's tables of objects: which columns, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labkit.cluster import Obj
from labkit.observe.objects import labels_of, name_of, namespace_of, pod_status, ready_text
from labkit.views.tables import Table, age, make_table

Row = Callable[[Obj], tuple[Any, ...]]


def pods_table(pods: Iterable[Obj], *, one_namespace: bool) -> Table:
    """kubectl get pods"""
    return _table(pods, ("NAME", "READY", "STATUS", "RESTARTS", "AGE"), _pod, one_namespace)


def _pod(pod: Obj) -> tuple[Any, ...]:
    states = pod.get("status", {}).get("containerStatuses") or []
    restarts = sum(int(state.get("restartCount", 0)) for state in states)
    return name_of(pod), ready_text(pod), pod_status(pod), restarts, _age(pod)


def deployments_table(deployments: Iterable[Obj], *, one_namespace: bool) -> Table:
    """kubectl get deployments"""
    return _table(deployments, ("NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"), _deployment, one_namespace)


def _deployment(deployment: Obj) -> tuple[Any, ...]:
    status = deployment.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{deployment['spec'].get('replicas', 1)}"
    available = status.get("availableReplicas", 0)
    return name_of(deployment), ready, status.get("updatedReplicas", 0), available, _age(deployment)


def services_table(services: Iterable[Obj], *, one_namespace: bool) -> Table:
    """kubectl get services"""
    return _table(services, ("NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "AGE"), _service, one_namespace)


def _service(service: Obj) -> tuple[Any, ...]:
    spec = service["spec"]
    ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or [])
    return name_of(service), spec.get("type", "ClusterIP"), spec.get("clusterIP", ""), ports, _age(service)


def namespaces_table(namespaces: Iterable[Obj]) -> Table:
    """kubectl get namespaces --show-labels, without the label that only repeats the name"""
    return _table(namespaces, ("NAME", "STATUS", "LABELS"), _namespace, True)


def _namespace(namespace: Obj) -> tuple[Any, ...]:
    labels = {k: v for k, v in labels_of(namespace).items() if k != "kubernetes.io/metadata.name"}
    shown = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return name_of(namespace), namespace.get("status", {}).get("phase", ""), shown


def events_table(events: Iterable[Obj], *, one_namespace: bool, newest: int) -> Table:
    """kubectl get events, oldest first"""
    found = sorted(events, key=event_time)[-newest:]
    columns = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")
    return _table(found, columns, _event, one_namespace, in_order=True)


def _event(event: Obj) -> tuple[Any, ...]:
    involved = event.get("involvedObject") or event.get("regarding") or {}
    about = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    message = event.get("message") or event.get("note", "")
    return age(event_time(event)), event.get("type", ""), event.get("reason", ""), about, message


def event_time(event: Obj) -> str:
    """When an event was last seen; the API has had several fields for it."""
    fields = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return next((str(value) for value in fields if value), "1970-01-01T00:00:00Z")


def _age(obj: Obj) -> str:
    created = obj["metadata"].get("creationTimestamp")
    return age(created) if created else ""


def _table(
    objects: Iterable[Obj], columns: tuple[str, ...], row: Row, one_namespace: bool, *, in_order: bool = False
) -> Table:
    found = list(objects) if in_order else sorted(objects, key=lambda o: (namespace_of(o), name_of(o)))
    rows = [(namespace_of(obj), *row(obj)) for obj in found]
    return make_table(("NAMESPACE", *columns), rows, drop=["NAMESPACE"] if one_namespace else [])
