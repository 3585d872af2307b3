"""Workloads as the declared view counts them: pods that nothing tells apart are one; so is a template without pods."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from labkit.policy.calls import is_over
from labkit.policy.workload import PROXY_CONTAINER, TLS_MODE_ISTIO, TLS_MODE_LABEL, Workload, workload_from_pod

Object = Mapping[str, Any]

EXCLUDED_INBOUND = "traffic.sidecar.istio.io/excludeInboundPorts"

# Labels that tell the pods of one template apart.
_OWN_TO_PODS = frozenset(
    {
        *("pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name"),
        *("apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index", "controller-uid", "job-name"),
    }
)


@dataclass(frozen=True, eq=False)
class Group:
    """Pods that nothing tells apart, as one workload. `pods` is 0 for a template that has none yet."""

    workload: Workload
    kind: str
    pods: int = 1
    excluded_ports: frozenset[int] = frozenset()
    gateway: bool = False
    """Whether its proxy stands alone, as a gateway, and beside no application."""
    variant: str = ""
    """What tells it from others of its name, in words."""
    template: Object = field(default_factory=dict, repr=False)
    """One of the pods, or the template."""

    @cached_property
    def name(self) -> str:
        """`namespace/name`, and what tells it from others of that name."""
        name = f"{self.workload.namespace}/{self.workload.name}"
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def namespace(self) -> str:
        return self.workload.namespace

    @property
    def injected(self) -> bool:
        return self.workload.injected

    def __str__(self) -> str:
        return self.name


def groups_of(pods: Iterable[Object]) -> list[Group]:
    """Running pods as groups; a group is ready when one of its pods is."""
    members: dict[tuple[Any, ...], list[tuple[Object, Workload]]] = {}
    for pod in pods:
        if is_over(pod):
            continue
        workload = workload_from_pod(pod)
        metadata = pod["metadata"]
        kind, name = _owner(pod)
        excluded = (metadata.get("annotations") or {}).get(EXCLUDED_INBOUND, "")
        labels = frozenset(item for item in workload.labels.items() if item[0] not in _OWN_TO_PODS)
        key = (workload.namespace, kind, name, labels, workload.service_account, workload.injected, excluded)
        members.setdefault((*key, workload.ports), []).append((pod, workload))
    result = []
    for (_, kind, name, *_), some in members.items():
        pod, workload = next((one for one in some if one[1].ready), some[0])
        result.append(group_of(pod, replace(workload, name=name), kind, len(some)))
    return _told_apart(result)


def _told_apart(groups: list[Group]) -> list[Group]:
    """Pods of one owner that differ, each with what makes it differ."""
    by_name: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_name[group.name].append(group)
    told = {}
    for some in by_name.values():
        for number, one in enumerate(some) if len(some) > 1 else ():
            told[id(one)] = replace(one, variant=_difference(one, some) or f"kind {number + 1}")
    return [told.get(id(one), one) for one in groups]


def _difference(one: Group, some: list[Group]) -> str:
    parts = []
    if len({other.injected for other in some}) > 1:
        parts.append("with a sidecar" if one.injected else "without a sidecar")
    keys = {key for other in some for key in other.workload.labels} - _OWN_TO_PODS - {TLS_MODE_LABEL}
    for key in sorted(keys):
        if not key.startswith("service.istio.io/") and len({other.workload.labels.get(key) for other in some}) > 1:
            parts.append(f"{key}={one.workload.labels.get(key, '')}")
    if len({other.workload.service_account for other in some}) > 1:
        parts.append(f"as {one.workload.service_account}")
    return ", ".join(parts)


def group_of(pod: Object, workload: Workload, kind: str, pods: int) -> Group:
    """The group of a pod, or of the pods of a template."""
    written = ((pod.get("metadata") or {}).get("annotations") or {}).get(EXCLUDED_INBOUND) or ""
    ports = re.split(r"[,\s]+", str(written)) if written else ()
    excluded = frozenset(int(port) for port in ports if port.isdigit())
    return Group(workload, kind, pods, excluded, workload.injected and _is_gateway(pod), template=pod)


def _is_gateway(pod: Object) -> bool:
    """`pilot-agent proxy router`: the proxy's own arguments say what it is."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return any(one.get("name") == PROXY_CONTAINER and "router" in (one.get("args") or ()) for one in containers)


def _owner(pod: Object) -> tuple[str, str]:
    metadata = pod["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("kind") == "ReplicaSet":
            digest = (metadata.get("labels") or {}).get("pod-template-hash", "")
            return "Deployment", str(owner["name"]).removesuffix(f"-{digest}")
        if owner.get("kind") != "Node":
            return str(owner.get("kind")), str(owner["name"])
    return "Pod", str(metadata.get("name") or metadata.get("generateName") or "")


def outside_group(workload: Workload) -> Group:
    """Somebody who is no pod: with a proxy if it is said to answer mTLS."""
    return Group(replace(workload, injected=workload.tls_mode == TLS_MODE_ISTIO), "WorkloadEntry", 0)
