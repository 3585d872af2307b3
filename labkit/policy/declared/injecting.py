"""Who has no sidecar, what it takes to give them one, and the objects as they would then be. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.policy.declared.changing import Change, changed
from labkit.policy.declared.groups import Group
from labkit.policy.declared.mesh import DeclaredMesh, Object, key_of
from labkit.policy.injection import DEFAULT_REVISION, INJECT, INJECTION, REVISION
from labkit.policy.workload import PROXY_CONTAINER, TLS_MODE_ISTIO, TLS_MODE_LABEL

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True)
class Injection:
    """Workloads of one namespace that get a sidecar in one way, or why they cannot (`hindrance`)."""

    namespace: str
    groups: tuple[Group, ...]
    applied: tuple[Object, ...] = ()
    """What is applied before their pods are made anew."""
    commands: tuple[str, ...] = ()
    hindrance: str = ""
    notes: tuple[str, ...] = ()


def injections(mesh: DeclaredMesh) -> list[Injection]:
    """Those without a sidecar, by namespace and by what keeps it from them."""
    kinds: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in mesh.clients:
        if not group.injected and not group.gateway:
            kinds[group.namespace, _obstacle(mesh, group)].append(group)
    return [_injection(mesh, namespace, obstacle, groups) for (namespace, obstacle), groups in sorted(kinds.items())]


def _obstacle(mesh: DeclaredMesh, group: Group) -> str:
    """What keeps a workload's next pod from being injected: empty if nothing does."""
    template = group.template
    if (template.get("spec") or {}).get("hostNetwork"):
        return "host network"
    decision = mesh.registry.injection(group)
    if decision.inject:
        return ""
    own = (template.get("metadata") or {}).get("labels") or {}
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    if "false" in (own.get(INJECT), annotations.get(INJECT)):
        return "opted out"
    around = (mesh.registry.namespaces.get(group.namespace) or {}).get("metadata") or {}
    return "disabled" if (around.get("labels") or {}).get(INJECTION) == "disabled" else "label"


def _injection(mesh: DeclaredMesh, namespace: str, obstacle: str, groups: list[Group]) -> Injection:
    some, notes = tuple(groups), tuple(_notes(groups))
    restart = tuple(_restart(group) for group in groups)
    if obstacle == "host network":
        reason = (
            "pods in the host's network get no sidecar; keep the ports that they call PERMISSIVE, or move them off it"
        )
        return Injection(namespace, some, hindrance=reason, notes=notes)
    if obstacle == "opted out":
        reason = f"they say {INJECT}=false; remove that, or keep the ports that they call PERMISSIVE"
        return Injection(namespace, some, hindrance=reason, notes=notes)
    if obstacle == "disabled":
        reason = (
            f"namespace {namespace} says {INJECTION}=disabled; remove that label, or keep what they call PERMISSIVE"
        )
        return Injection(namespace, some, hindrance=reason, notes=notes)
    if not obstacle:
        return Injection(namespace, some, commands=restart, notes=notes)
    revision = mesh.settings.revision
    label = {INJECTION: "enabled"} if revision == DEFAULT_REVISION else {REVISION: revision}
    line = f"kubectl label namespace {namespace} {next(iter(label))}={next(iter(label.values()))} --overwrite"
    wanted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": label}}
    return Injection(namespace, some, (wanted,), (line, *restart), notes=notes)


def _restart(group: Group) -> str:
    kind, name = group.kind, group.workload.name
    if kind in _WORKLOADS:
        return f"kubectl rollout restart {kind.lower()}/{name} -n {group.namespace}"
    if kind == "Pod":
        return f"kubectl replace --force -f <the manifest of pod {name}> -n {group.namespace}"
    return f"# the next pod of {kind} {group.namespace}/{name} gets one"


def _notes(groups: list[Group]) -> Iterable[str]:
    if jobs := [group.name for group in groups if group.kind in ("Job", "CronJob")]:
        yield f"{', '.join(jobs)}: a Job ends only if its sidecar ends with it: use native sidecars (Kubernetes 1.29+)."


def with_sidecar(objects: Iterable[Object], injection: Injection) -> list[Object]:
    """The objects after an injection: templates make their pods anew, a bare pod comes back with a proxy."""
    names = [f"{group.namespace}/{group.workload.name}" for group in injection.groups]
    bare = {("Pod", group.namespace, group.workload.name) for group in injection.groups if group.kind == "Pod"}
    known = changed(objects, Change(injection.applied, restart=names))
    return [_with_proxy(one) if key_of(one) in bare else one for one in known]


def _with_proxy(pod: Object) -> Object:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    labels = {TLS_MODE_LABEL: TLS_MODE_ISTIO, **(metadata.get("labels") or {})}
    containers = [*(spec.get("containers") or ()), {"name": PROXY_CONTAINER}]
    return {**pod, "metadata": {**metadata, "labels": labels}, "spec": {**spec, "containers": containers}}
