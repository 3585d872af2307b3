"""AuthorizationPolicies and Sidecars: whom they are for, and what they name.

pkg/config/analysis/analyzers/authz and sidecar of istio/istio. PeerAuthentications istioctl does not look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from labkit.policy.analysis.mesh import Mesh, Object, name_of, selector_text
from labkit.policy.analysis.messages import Message, found, go_list
from labkit.policy.configs import namespace_of


# analyzers/authz/authorizationpolicies.go; https://istio.io/latest/docs/reference/config/analysis/ist0127/
def authorization_workloads(mesh: Mesh) -> Iterator[Message]:
    """IST0127: the policy is for nobody. In the root namespace a selector looks at all namespaces."""
    for one in mesh.every("AuthorizationPolicy"):
        spec, namespace = one.get("spec") or {}, namespace_of(one)
        if spec.get("targetRef") or spec.get("targetRefs"):
            continue
        selector = spec.get("selector")
        if namespace == mesh.root and selector is None:
            continue
        labels = (selector or {}).get("matchLabels") or {}
        where = "" if namespace == mesh.root else namespace
        if not any(pod.in_mesh for pod in mesh.selected(labels, where)):
            yield found("IST0127", one, selector_text(labels), path="spec.selector")


def authorization_namespaces(mesh: Mesh) -> Iterator[Message]:
    """IST0101: a rule about callers of a namespace that does not exist."""
    for one in mesh.every("AuthorizationPolicy"):
        for index, rule in enumerate((one.get("spec") or {}).get("rules") or ()):
            for number, source in enumerate((rule or {}).get("from") or ()):
                for field in ("namespaces", "notNamespaces"):
                    for at, name in enumerate((source.get("source") or {}).get(field) or ()):
                        if not namespace_exists(mesh, str(name)):
                            path = f"spec.rules[{index}].from[{number}].source.{field}[{at}]"
                            yield found("IST0101", one, "namespace", name, path=path)


def namespace_exists(mesh: Mesh, pattern: str) -> bool:
    """Whether a namespace matches `name`, `name*`, `*name` or `*`."""
    if pattern == "*":
        return bool(mesh.namespaces)
    if pattern.startswith("*"):
        return any(name.endswith(pattern[1:]) for name in mesh.namespaces)
    if pattern.endswith("*"):
        return any(name.startswith(pattern[:-1]) for name in mesh.namespaces)
    return any(name.lower() == pattern.lower() for name in mesh.namespaces)


# analyzers/sidecar/selector.go, defaultselector.go
def sidecars(mesh: Mesh) -> Iterator[Message]:
    """IST0101: a Sidecar for nobody. IST0110: two for one pod. IST0111: two for a whole namespace."""
    by_pod: dict[tuple[str, str], list[Object]] = defaultdict(list)
    whole: dict[str, list[Object]] = defaultdict(list)
    for one in mesh.every("Sidecar"):
        labels = ((one.get("spec") or {}).get("workloadSelector") or {}).get("labels") or {}
        if not labels:
            whole[namespace_of(one)].append(one)
            continue
        pods = list(mesh.selected(labels, namespace_of(one)))
        if not pods:
            yield found("IST0101", one, "selector", selector_text(labels), path="spec.workloadSelector")
        for pod in pods:
            by_pod[(pod.namespace, pod.name)].append(one)
    for (namespace, pod_name), several in by_pod.items():
        for one in several if len(several) > 1 else ():
            names = go_list([name_of(each) for each in several])
            yield found("IST0110", one, names, namespace, pod_name, path="metadata.name")
    for namespace, several in whole.items():
        for one in several if len(several) > 1 else ():
            yield found("IST0111", one, go_list([name_of(each) for each in several]), namespace, path="metadata.name")
