"""Evidence that several lessons collect in the same way, and the words for evidence that is handed in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from labkit.checks.judging import APP
from labkit.checks.results import PodFacts, pod_facts
from labkit.cluster import Cluster
from labkit.cluster.kinds import POD, SERVICE
from labkit.errors import LabError
from labkit.observe import metrics
from labkit.observe.declared import EFFECTIVE_COLUMNS, effective_rows
from labkit.observe.mesh import mesh_status
from labkit.observe.objects import find_workload, labels_of, name_of, namespace_of, take_snapshot
from labkit.observe.proxy import certificate
from labkit.observe.traffic import probe
from labkit.observe.waiting import wait_until_ready
from labkit.outcomes import Observation

CALLER, OUTSIDE = "callers/curl", "default/curl-outside"
BACKEND_URL = f"http://chatbackend-service.{APP}:5000/chat"
FRONTEND_URL = f"http://chatfrontend-service.{APP}:80/healthz"
MESSAGE = {"message": "hello from a check"}
EXERCISE_SECONDS = 20.0  # a learner's pod that does not start shall not hold up the lesson

LOOKS = "nothing: it looks for itself"
OBSERVATION = "what lab.probe() returned"
PODS = "a table of lab.pods()"
STATUS = "what lab.mesh_status() returned"
RETURNED = "what lab.attempt() returned"
EFFECTIVE = "what lab.effective_mtls() returned"
CERTIFICATE = "what lab.certificate_of() returned"


Collect = Callable[[Cluster], tuple[Any, ...]]


def mesh(cluster: Cluster) -> tuple[Any, ...]:
    """Whether there is a mesh."""
    return (mesh_status(cluster),)


def pods_of(namespace: str) -> Collect:
    """The pods of a namespace."""
    return lambda cluster: (cluster.objects(POD, namespace),)


pods_of_app = pods_of(APP)


def counted_in(namespace: str) -> Collect:
    """What the proxies of a namespace have counted."""
    return lambda cluster: (metrics.scrape(cluster, (namespace,)).samples,)


def asked_from_outside(cluster: Cluster) -> tuple[Any, ...]:
    """What curl-outside gets from the chat application's backend."""
    return (probe(cluster, OUTSIDE, BACKEND_URL, data=MESSAGE),)


def asked_from_frontend(cluster: Cluster) -> tuple[Any, ...]:
    """What the chat application's frontend gets from its backend."""
    return (probe(cluster, f"{APP}/chatfrontend", BACKEND_URL, data=MESSAGE),)


def effective_rows_of(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """The rows of `lab.effective_mtls`."""
    rows = effective_rows(take_snapshot(cluster), namespace)
    return [dict(zip(EFFECTIVE_COLUMNS, row, strict=True)) for row in rows]


def effective(cluster: Cluster) -> tuple[Any, ...]:
    """The effective modes of the chat application."""
    return (effective_rows_of(cluster, APP),)


def certificate_of_backend(cluster: Cluster) -> tuple[Any, ...]:
    """The certificate of the chat application's backend."""
    return (certificate(cluster, f"{APP}/chatbackend"),)


def gateway_door(cluster: Cluster, scheme: str = "http") -> str:
    """The ingress gateway as a pod calls it, by its Service's name: whatever it is called, and wherever it stands."""
    found = [one for one in cluster.objects(SERVICE) if "ingressgateway" in labels_of(one).get("istio", "")]
    if not found:
        return f"{scheme}://istio-ingressgateway.{mesh_status(cluster).namespace or 'istio-system'}/"
    return f"{scheme}://{name_of(found[0])}.{namespace_of(found[0])}/"


def gateway_pod(cluster: Cluster) -> str:
    """The ingress gateway's pod itself: its address, and the port that its Service's port 80 leads to."""
    service = next(one for one in cluster.objects(SERVICE) if "ingressgateway" in labels_of(one).get("istio", ""))
    port = next(one for one in service["spec"]["ports"] if one["port"] == 80)
    pod = find_workload(cluster, f"{namespace_of(service)}/{name_of(service)}").ready_pod()
    return f"http://{pod['status']['podIP']}:{port.get('targetPort', 80)}/"


def pods_when_ready(cluster: Cluster, workload: str) -> list[Any]:
    """The pods of a workload's namespace, once the workload is ready, or as they are when it does not get ready."""
    with contextlib.suppress(LabError):  # the check itself says what is missing
        wait_until_ready(cluster, workload, limit=EXERCISE_SECONDS)
    return cluster.objects(POD, workload.partition("/")[0])


def ready_of(pods: Any, workloads: Iterable[str]) -> dict[str, str]:
    """Workload -> READY of its pod."""
    facts: list[PodFacts] = pod_facts(pods)
    return {name: one.ready_text for name in workloads for one in facts if one.name.startswith(f"{name}-")}


def ready_words(ready: dict[str, str]) -> str:
    """`age 2/2, name-v1 2/2`"""
    return ", ".join(f"{name} {text}" for name, text in ready.items()) or "no pods"


def told(seen: Observation) -> str:
    """What a request got, and how it was carried."""
    return f"{seen.seen} [{seen.outcome}]"
