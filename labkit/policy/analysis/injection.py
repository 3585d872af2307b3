"""Namespaces, pods and Deployments: labels of injection, missing proxies, `image: auto`, the proxy's user id.

pkg/config/analysis/analyzers/injection and deployment of istio/istio.
"""

from __future__ import annotations

from collections.abc import Iterator

from labkit.policy.analysis.mesh import (
    INJECT,
    INJECTION,
    SYSTEM_NAMESPACES,
    TEMPLATES,
    Mesh,
    annotations_of,
    full_name_of,
    labels_of,
    name_of,
    namespace_of,
)
from labkit.policy.analysis.messages import Message, found, go_list
from labkit.policy.injection import REVISION
from labkit.policy.workload import PROXY_CONTAINER, has_sidecar

DATAPLANE = "istio.io/dataplane-mode"
_PROXY_USER = 1337


# analyzers/injection/injection.go; https://istio.io/latest/docs/reference/config/analysis/ist0102/ and ist0123
def namespace_labels(mesh: Mesh) -> Iterator[Message]:
    """IST0102: nothing says whether pods are injected. IST0123: two labels say it."""
    for one in mesh.every("Namespace"):
        labels, name = labels_of(one), name_of(one)
        if name in SYSTEM_NAMESPACES or name == mesh.root:
            continue
        if not labels.get(INJECTION) and REVISION not in labels and labels.get(DATAPLANE) != "ambient":
            yield found("IST0102", one, name, path="metadata.name")
        elif len(several := _kinds_of_injection(labels)) > 1:
            yield found("IST0123", one, go_list(several), path="metadata.labels")


def _kinds_of_injection(labels: dict[str, str]) -> list[str]:
    if labels.get(INJECTION) == "disabled":
        return []
    kinds = [label for label in (INJECTION, REVISION) if labels.get(label)]
    return [*kinds, DATAPLANE] if labels.get(DATAPLANE) == "ambient" else kinds


def pods_without_proxy(mesh: Mesh) -> Iterator[Message]:
    """IST0103: a pod of an injected namespace runs without a proxy. A new pod would have one."""
    for one in mesh.every("Pod"):
        labels = mesh.namespaces.get(namespace_of(one), {})
        injected = labels.get(INJECTION) == "enabled" or (labels.get(REVISION) and INJECTION not in labels)
        wish = labels_of(one).get(INJECT, annotations_of(one).get(INJECT, ""))
        spec = one.get("spec") or {}
        if injected and wish.lower() != "false" and not spec.get("hostNetwork") and not has_sidecar(one):
            yield found("IST0103", one, full_name_of(one))


# analyzers/injection/image-auto.go
def image_auto(mesh: Mesh) -> Iterator[Message]:
    """IST0147, IST0146: `image: auto` is a placeholder that only injection fills in."""
    for one in mesh.every("Pod"):
        if _is_auto(one.get("spec") or {}):
            yield found("IST0147", one, "Pod", name_of(one))
    for workload in mesh.workloads:
        if workload.obj.get("kind") != "Deployment":
            continue
        pod = (workload.obj.get("spec") or {}).get("template") or {}
        if _is_auto(pod.get("spec") or {}) and not mesh.would_inject(workload.namespace, pod):
            yield found("IST0146", workload.obj, "Deployment", workload.name)


def _is_auto(spec: dict[str, object]) -> bool:
    containers = spec.get("containers")
    known = containers if isinstance(containers, list) else []
    return any(one.get("name") == PROXY_CONTAINER and one.get("image") == "auto" for one in known)


# analyzers/deployment/pod.go; https://istio.io/latest/docs/ops/deployment/application-requirements/#pod-requirements
def proxy_user(mesh: Mesh) -> Iterator[Message]:
    """IST0144: an application runs as the user whose traffic is not redirected."""
    for kind in ("Pod", "Deployment"):
        for one in mesh.every(kind):
            spec = one.get("spec") or {}
            if kind in TEMPLATES:
                spec = (spec.get("template") or {}).get("spec") or {}
            contexts = [spec.get("securityContext"), *(_contexts(spec.get("containers") or ()))]
            if any((context or {}).get("runAsUser") == _PROXY_USER for context in contexts):
                yield found("IST0144", one)


def _contexts(containers: object) -> Iterator[dict[str, object] | None]:
    for one in containers if isinstance(containers, list | tuple) else ():
        if one.get("name") not in (PROXY_CONTAINER, "istio-operator"):
            yield one.get("securityContext")
