"""The cluster that manifests will make, as a snapshot: a pod for each template, with a sidecar where its labels say so.

What asks running pods, such as the encryption map, works on files by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.cluster import Obj
from labkit.cluster.kinds import NAMESPACE, POD, SERVICE, Kind
from labkit.observe.objects import (
    PROXY,
    SNAPSHOT_KINDS,
    SYSTEM_NAMESPACES,
    Snapshot,
    name_of,
    namespace_of,
    snapshot_of,
)
from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.groups import Group


def planned_snapshot(mesh: DeclaredMesh, *namespaces: str) -> Snapshot:
    """A snapshot of what objects from files declare; `namespaces` are the ones to show (all by default)."""
    pods = [_pod(group) for group in mesh.registry.groups]
    found: dict[Kind, list[Obj]] = {
        kind: [_in_a_namespace(one, kind) for one in mesh.objects if one.get("kind") == kind.kind]
        for kind in SNAPSHOT_KINDS
    }
    found[POD] = pods
    named = {name_of(one) for one in found[NAMESPACE]}
    for name in sorted({namespace_of(one) for one in (*pods, *found[SERVICE])} - named - SYSTEM_NAMESPACES):
        found[NAMESPACE].append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    settings = mesh.settings
    istiod: Obj = {"metadata": {"name": "istiod", "namespace": settings.root_namespace}}
    return snapshot_of(found, istiod if settings.installed else None, namespaces)


def _in_a_namespace(obj: Mapping[str, Any], kind: Kind) -> Obj:
    """As kubectl applies it: what names no namespace is in `default`."""
    if not kind.namespaced:
        return dict(obj)
    metadata = obj.get("metadata") or {}
    return {**obj, "metadata": {**metadata, "namespace": metadata.get("namespace") or "default"}}


def _pod(group: Group) -> Obj:
    """The pod that a template will create, as if it ran."""
    template, workload = group.template, group.workload
    spec = template.get("spec") or {}
    containers = list(spec.get("containers") or ())
    everything = (*containers, *(spec.get("initContainers") or ()))
    if workload.injected and not any(one.get("name") == PROXY for one in everything):
        containers.append({"name": PROXY})
    metadata = {**(template.get("metadata") or {}), "name": workload.name, "namespace": workload.namespace}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "labels": dict(workload.labels)},
        "spec": {**spec, "containers": containers},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
