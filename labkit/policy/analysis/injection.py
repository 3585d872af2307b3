"""Namespaces, pods and Deployments: labels of injection, missing proxies, `image: auto`, the proxy's user id.

pkg/config/analysis/analyzers/injection and deployment of istio/istio.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from labkit.policy.analysis.mesh import (
    INJECT,
    INJECTION,
    SYSTEM_NAMESPACES,
    TEMPLATES,
    Mesh,
    Object,
    annotations_of,
    full_name_of,
    labels_of,
    name_of,
)
from labkit.policy.analysis.messages import Message, found, go_list
from labkit.policy.configs import namespace_of
from labkit.policy.injection import REVISION
from labkit.policy.workload import PROXY_CONTAINER, has_sidecar

DATAPLANE = "istio.io/dataplane-mode"
INJECTOR = "istio-sidecar-injector"
_OWN_IMAGE = "sidecar.istio.io/proxyImage"
_PROXY_USER = 1337


# analyzers/injection/injection.go; https://istio.io/latest/docs/reference/config/analysis/ist0102/ and ist0123
def namespace_labels(mesh: Mesh) -> Iterator[Message]:
    """IST0102, IST0148: no label says whether pods are injected. IST0123: two do."""
    by_default = bool(_part(_values(mesh, ""), "sidecarInjectorWebhook").get("enableNamespacesByDefault"))
    for one in mesh.every("Namespace"):
        labels, name = labels_of(one), name_of(one)
        if name in SYSTEM_NAMESPACES or name == mesh.root:
            continue
        if len(several := _kinds_of_injection(labels)) > 1:
            yield found("IST0123", one, go_list(several), path="metadata.labels")
        if not labels.get(INJECTION) and REVISION not in labels and labels.get(DATAPLANE) != "ambient":
            if by_default:
                yield found("IST0148", one, path="metadata.name")
            else:
                yield found("IST0102", one, name, path="metadata.name")


def _kinds_of_injection(labels: dict[str, str]) -> list[str]:
    """Beside `istio-injection=disabled` nothing counts: that one is meant."""
    alone = labels.get(INJECTION, "enabled") != "enabled"
    kinds = (INJECTION,) if alone else (INJECTION, REVISION, DATAPLANE)
    return [f"{label}={labels[label]}" for label in kinds if label in labels]


def pods_without_proxy(mesh: Mesh) -> Iterator[Message]:
    """IST0103: a pod of an injected namespace runs without a proxy. A new pod would have one."""
    for one in mesh.every("Pod"):
        labels = mesh.namespaces.get(namespace_of(one), {})
        injected = labels.get(INJECTION) == "enabled" or (labels.get(REVISION) and INJECTION not in labels)
        wish = labels_of(one).get(INJECT, annotations_of(one).get(INJECT, ""))
        spec = one.get("spec") or {}
        if injected and wish.lower() != "false" and not spec.get("hostNetwork") and not has_sidecar(one):
            yield found("IST0103", one, full_name_of(one))


# analyzers/injection/injection-image.go; https://istio.io/latest/docs/reference/config/analysis/ist0158/
def proxy_images(mesh: Mesh) -> Iterator[Message]:
    """IST0158: proxies that a control plane before this one injected."""
    old: dict[str, list[str]] = {}
    for one in mesh.every("Pod"):
        labels = mesh.namespaces.get(namespace_of(one), {})
        if (labels.get(INJECTION) != "enabled" and REVISION not in labels) or annotations_of(one).get(_OWN_IMAGE):
            continue
        wanted = _injected_image(mesh, labels.get(REVISION, ""))
        spec = one.get("spec") or {}
        proxies = [each for key in ("containers", "initContainers") for each in spec.get(key) or ()]
        images = {str(each.get("image")) for each in proxies if each.get("name") == PROXY_CONTAINER}
        if wanted and images and images != {wanted}:
            old.setdefault(namespace_of(one), []).append(name_of(one))
    for one in mesh.every("Namespace"):
        if pods := old.get(name_of(one)):
            yield found("IST0158", one, go_list(sorted(pods)))


def _injected_image(mesh: Mesh, revision: str) -> str:
    said = _part(_values(mesh, revision), "global")
    image = str(_part(said, "proxy").get("image") or "")
    return image if "/" in image or not image else f"{said.get('hub')}/{image}:{said.get('tag')}"


def _part(whole: Object, name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _values(mesh: Mesh, revision: str) -> dict[str, Any]:
    """What the injector of a revision was installed with."""
    name = INJECTOR if revision in ("", "default") else f"{INJECTOR}-{revision}"
    found: Object = next((one for one in mesh.every("ConfigMap") if name_of(one) == name), {})
    try:
        return _part({"values": json.loads(_part(found, "data").get("values") or "{}")}, "values")
    except (TypeError, ValueError):
        return {}


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
