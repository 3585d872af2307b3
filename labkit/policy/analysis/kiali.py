"""What else Kiali says: names that nobody has, objects that meet, ports.

business/checkers of kiali/kiali; https://kiali.io/docs/features/validations/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.policy.analysis.kiali_mtls import rule_mode
from labkit.policy.analysis.mesh import MESH_GATEWAY, Mesh, Object, hosts_meet, selector_text
from labkit.policy.analysis.messages import Message, found
from labkit.policy.analysis.policies import namespace_exists
from labkit.policy.analysis.virtual_services import destinations, gateways_of
from labkit.policy.authorization import text_matches
from labkit.policy.configs import namespace_of
from labkit.policy.destination_rule import full_name, host_matches
from labkit.policy.workload import labels_match

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE")
_PROTOCOLS = ("grpc", "grpc-web", "http", "http2", "https", "mongo", "mysql", "redis", "tcp", "tls", "udp")
_APP_PROTOCOLS = (*_PROTOCOLS, "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss")
_SELECTING = {
    "PeerAuthentication": ("selector", "matchLabels"),
    "RequestAuthentication": ("selector", "matchLabels"),
    "AuthorizationPolicy": ("selector", "matchLabels"),
    "Sidecar": ("workloadSelector", "labels"),
}
_ONE_IS_ENOUGH = ("PeerAuthentication", "Sidecar")
"""Kinds of which several for one workload do not add up."""


# -- selectors: business/checkers/common


def selectors(mesh: Mesh) -> Iterator[Message]:
    """KIA0002 several without a selector, KIA0003 several for one workload, KIA0004 one for nobody."""
    for kind, (field, inner) in _SELECTING.items():
        whole: dict[str, list[Object]] = defaultdict(list)
        by_pod: dict[int, list[Object]] = defaultdict(list)
        for one in mesh.every(kind):
            spec, namespace = one.get("spec") or {}, namespace_of(one)
            labels = (spec.get(field) or {}).get(inner) or {}
            if spec.get("targetRef") or spec.get("targetRefs"):
                continue
            if not labels:
                whole[namespace].append(one)
                continue
            everywhere = kind != "PeerAuthentication" and namespace == mesh.root
            pods = list(mesh.selected(labels, "" if everywhere else namespace))
            for pod in pods:
                by_pod[id(pod)].append(one)
            if not pods:
                yield found("KIA0004", one, path=f"spec.{field}")
        if kind in _ONE_IS_ENOUGH:
            path = f"spec.{field}"
            several = [group for group in whole.values() if len(group) > 1]
            yield from (found("KIA0002", one, path=path) for group in several for one in group)
            shared = {id(one): one for group in by_pod.values() if len(group) > 1 for one in group}
            yield from (found("KIA0003", one, path=path) for one in shared.values())


def export_namespaces(mesh: Mesh) -> Iterator[Message]:
    """KIA0005: exported to a namespace that does not exist."""
    for kind in ("VirtualService", "DestinationRule", "ServiceEntry"):
        for one in mesh.every(kind):
            for index, name in enumerate((one.get("spec") or {}).get("exportTo") or ()):
                if name not in (".", "*", "~") and name not in mesh.namespaces:
                    yield found("KIA0005", one, path=f"spec.exportTo[{index}]")


# -- AuthorizationPolicies: business/checkers/authorization


def authorization(mesh: Mesh) -> Iterator[Message]:
    """KIA0101 namespaces, KIA0102 methods, KIA0104 hosts, KIA0106 principals that do not exist."""
    for one in mesh.every("AuthorizationPolicy"):
        for index, rule in enumerate((one.get("spec") or {}).get("rules") or ()):
            yield from _sources(mesh, one, rule or {}, f"spec.rules[{index}]")
            yield from _operations(mesh, one, rule or {}, f"spec.rules[{index}]")


def _sources(mesh: Mesh, one: Object, rule: Mapping[str, Any], at: str) -> Iterator[Message]:
    for number, source in enumerate(rule.get("from") or ()):
        inside = source.get("source") or {}
        for index, name in enumerate(inside.get("namespaces") or ()):
            if not namespace_exists(mesh, str(name)):
                yield found("KIA0101", one, path=f"{at}.from[{number}].source.namespaces[{index}]")
        for index, principal in enumerate(inside.get("principals") or ()):
            if not _account_exists(mesh, str(principal)):
                yield found("KIA0106", one, path=f"{at}.from[{number}].source.principals[{index}]")


def _account_exists(mesh: Mesh, principal: str) -> bool:
    """Whether some service account has this principal; of other trust domains nothing is known."""
    domain, _, rest = principal.partition("/ns/")
    if principal == "*" or ("*" not in domain and rest and domain != mesh.settings.trust_domain):
        return True
    return any(text_matches(principal, known) for known in mesh.principals)


def _operations(mesh: Mesh, one: Object, rule: Mapping[str, Any], at: str) -> Iterator[Message]:
    for number, operation in enumerate(rule.get("to") or ()):
        inside = operation.get("operation") or {}
        for index, method in enumerate(inside.get("methods") or ()):
            if not any(text_matches(str(method).upper(), known) for known in _METHODS):
                yield found("KIA0102", one, path=f"{at}.to[{number}].operation.methods[{index}]")
        for index, host in enumerate(inside.get("hosts") or ()):
            if not _host_exists(mesh, str(host).rpartition(":")[0] or str(host), namespace_of(one)):
                yield found("KIA0104", one, path=f"{at}.to[{number}].operation.hosts[{index}]")


def _host_exists(mesh: Mesh, host: str, namespace: str) -> bool:
    if host == "*" or mesh.host(_qualified(host), namespace):
        return True
    routed = (str(name) for one in mesh.every("VirtualService") for name in (one.get("spec") or {}).get("hosts") or ())
    if "*" not in host:
        return any(host_matches(name, host) for name in routed)
    known = [*(one.name for one in mesh.hosts), *routed]
    return any(text_matches(host, name) or hosts_meet(host, name) for name in known)


def _qualified(host: str) -> str:
    """`web.shop` and `web.shop.svc` as the full name."""
    parts = host.split(".")
    if len(parts) == 2 or (len(parts) == 3 and parts[2] == "svc"):
        return f"{parts[0]}.{parts[1]}.svc.cluster.local"
    return host


# -- DestinationRules: business/checkers/destinationrules


def destination_rules(mesh: Mesh) -> Iterator[Message]:
    """KIA0202 unknown hosts, KIA0203 and KIA0209 subsets without pods or labels."""
    for one in mesh.every("DestinationRule"):
        spec, namespace = one.get("spec") or {}, namespace_of(one)
        written = str(spec.get("host") or "")
        if written.startswith("*"):
            continue
        host = mesh.host(_qualified(written), namespace, spec.get("exportTo") or ())
        if host is None and not any(
            pod.labels.get("app") == written and pod.namespace == namespace for pod in mesh.workloads
        ):
            yield found("KIA0202", one, path="spec.host")
        for index, subset in enumerate(spec.get("subsets") or ()):
            labels = subset.get("labels") or {}
            if not labels:
                yield found("KIA0209", one, path=f"spec.subsets[{index}]")
            elif host is None or not _subset_exists(mesh, host.selector or {}, host.obj or {}, labels):
                yield found("KIA0203", one, path=f"spec.subsets[{index}]")


def _subset_exists(mesh: Mesh, selector: Mapping[str, str], owner: Object, labels: Mapping[str, str]) -> bool:
    if owner.get("kind") == "ServiceEntry":
        spec = owner.get("spec") or {}
        ends = [*(spec.get("endpoints") or ()), *(one.get("spec") or {} for one in mesh.every("WorkloadEntry"))]
        if any(labels_match(labels, end.get("labels") or {}) for end in ends):
            return True
    pods = mesh.selected(selector, namespace_of(owner)) if selector else iter(())
    return any(labels_match(labels, pod.labels) for pod in pods)


def rules_for_one_host(mesh: Mesh) -> Iterator[Message]:
    """KIA0201: two rules for one host and subset; those that make a namespace or the mesh mutual do not count."""
    known: list[tuple[Object, str, set[str]]] = []
    by_host: dict[str, list[tuple[Object, str, set[str]]]] = {}
    patterns: list[tuple[Object, str, set[str]]] = []
    flagged: dict[int, Object] = {}
    for one in mesh.every("DestinationRule"):
        spec = one.get("spec") or {}
        host = full_name(_qualified(str(spec.get("host") or "")), namespace_of(one))
        if host.startswith("*") and rule_mode(one) == "ISTIO_MUTUAL":
            continue
        subsets = {str(subset.get("name")) for subset in spec.get("subsets") or ()}
        near = known if host.startswith("*") else [*by_host.get(host, ()), *patterns]
        for other, theirs, names in near:
            overlap = not subsets or not names or subsets & names
            if overlap and hosts_meet(host, theirs):
                flagged[id(one)], flagged[id(other)] = one, other
        known.append((one, host, subsets))
        (patterns if host.startswith("*") else by_host.setdefault(host, [])).append(known[-1])
    yield from (found("KIA0201", one, path="spec.host") for one in flagged.values())


# -- Gateways: business/checkers/gateways


def gateways(mesh: Mesh) -> Iterator[Message]:
    """KIA0302 a Gateway without pods; KIA0301 one host on one port twice."""
    seen: list[tuple[str, int, str, Object, str]] = []
    flagged: dict[tuple[int, str], Object] = {}
    for one in mesh.every("Gateway"):
        spec = one.get("spec") or {}
        selector = spec.get("selector") or {}
        if not any(True for _ in mesh.selected(selector)):
            yield found("KIA0302", one, path="spec.selector")
        for index, server in enumerate(spec.get("servers") or ()):
            number = int((server.get("port") or {}).get("number") or 0)
            for position, host in enumerate(server.get("hosts") or ()):
                path, text = f"spec.servers[{index}].hosts[{position}]", selector_text(selector)
                for labels, port, other, owner, where in seen:
                    if (labels, port) == (text, number) and hosts_meet(str(host).lower(), other.lower()):
                        flagged[(id(one), path)], flagged[(id(owner), where)] = one, owner
                seen.append((text, number, str(host), one, path))
    yield from (found("KIA0301", one, path=path) for (_, path), one in flagged.items())


# -- Services: business/checkers/services/port_mapping_checker.go


def services(mesh: Mesh) -> Iterator[Message]:
    """KIA0601, KIA0602 names of ports of Services in the mesh; KIA0701 ports that no container declares."""
    for one in mesh.every("Service"):
        spec = one.get("spec") or {}
        selector = spec.get("selector") or {}
        pods = list(mesh.selected(selector, namespace_of(one))) if selector else []
        if any(pod.in_mesh and not pod.is_gateway for pod in pods):
            yield from _port_names(one, spec.get("ports") or ())
        if namespace_of(one) == mesh.root or not pods:
            continue
        ports = [port for pod in pods for each in pod.containers for port in each.get("ports") or ()]
        for index, port in enumerate(spec.get("ports") or ()):
            target = port.get("targetPort") or port.get("port")
            key = "name" if isinstance(target, str) and not target.isdigit() else "containerPort"
            if not any(str(declared.get(key)) == str(target) for declared in ports):
                yield found("KIA0701", one, path=f"spec.ports[{index}]")


def _port_names(one: Object, ports: Any) -> Iterator[Message]:
    for index, port in enumerate(ports):
        path, name = f"spec.ports[{index}]", str(port.get("name") or "")
        if str(port.get("protocol") or "").lower() == "udp":
            continue
        if told := port.get("appProtocol"):
            if str(told).lower() not in _APP_PROTOCOLS:
                yield found("KIA0602", one, path=path)
        elif not any(name == known or name.startswith(f"{known}-") for known in _PROTOCOLS):
            yield found("KIA0601", one, path=path)


# -- Sidecars and VirtualServices: business/checkers/sidecars, virtualservices


def global_sidecar(mesh: Mesh) -> Iterator[Message]:
    """KIA1006: a selector in the root namespace, where a Sidecar is the default of all."""
    for one in mesh.every("Sidecar"):
        if namespace_of(one) == mesh.root and (one.get("spec") or {}).get("workloadSelector"):
            yield found("KIA1006", one, path="spec.workloadSelector")


def virtual_services(mesh: Mesh) -> Iterator[Message]:
    """KIA1101 hosts, KIA1102 gateways, KIA1107 subsets that do not exist; KIA1104, KIA1105 weights and repetition."""
    for one in mesh.every("VirtualService"):
        spec, namespace = one.get("spec") or {}, namespace_of(one)
        for destination in destinations(spec):
            if destination.mirror:
                continue
            if not mesh.host(_qualified(destination.host), namespace, spec.get("exportTo") or ()):
                yield found("KIA1101", one, path=f"{destination.path}.host")
            if destination.subset and not _has_subset(mesh, destination.host, namespace, destination.subset):
                yield found("KIA1107", one, path=destination.path)
        for index, _, where, name in gateways_of(one):
            if mesh.find("Gateway", where, name) is None:
                yield found("KIA1102", one, path=f"spec.gateways[{index}]")
        yield from _weights(one, spec, namespace)


def _has_subset(mesh: Mesh, host: str, namespace: str, subset: str) -> bool:
    wanted = full_name(_qualified(host), namespace)
    known = mesh.remember("subsets", lambda: _subsets(mesh))
    return (wanted, subset) in known or any(
        name == subset and pattern.startswith("*") and host_matches(pattern, wanted) for pattern, name in known
    )


def _subsets(mesh: Mesh) -> set[tuple[str, str]]:
    """(host, name) of every subset."""
    return {
        (full_name(_qualified(str(spec.get("host") or "")), namespace_of(rule)), str(one.get("name")))
        for rule in mesh.every("DestinationRule")
        for spec in [rule.get("spec") or {}]
        for one in spec.get("subsets") or ()
    }


def _weights(one: Object, spec: Mapping[str, Any], namespace: str) -> Iterator[Message]:
    for kind in ("http", "tcp", "tls"):
        for index, route in enumerate(spec.get(kind) or ()):
            routes: list[Mapping[str, Any]] = list(route.get("route") or ())
            if len(routes) == 1 and 0 < int(routes[0].get("weight") or 0) < 100:
                yield found("KIA1104", one, path=f"spec.{kind}[{index}].route[0].weight")
            keys = [_key(weighted.get("destination") or {}, namespace) for weighted in routes]
            for number, key in enumerate(keys):
                if keys.count(key) > 1:
                    yield found("KIA1105", one, path=f"spec.{kind}[{index}].route[{number}].host")


def _key(destination: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    return full_name(_qualified(str(destination.get("host") or "")), namespace), str(destination.get("subset") or "")


def one_host_twice(mesh: Mesh) -> Iterator[Message]:
    """KIA1106: two VirtualServices for one host at the same gateways."""
    by_host: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for one in mesh.every("VirtualService"):
        spec, namespace = one.get("spec") or {}, namespace_of(one)
        for gateway in spec.get("gateways") or (MESH_GATEWAY,):
            where = gateway if gateway == MESH_GATEWAY or "/" in gateway else f"{namespace}/{gateway}"
            for host in spec.get("hosts") or ():
                by_host[(where, full_name(_qualified(str(host)), namespace))].append(one)
    flagged = {id(one): one for group in by_host.values() if len({id(each) for each in group}) > 1 for one in group}
    yield from (found("KIA1106", one, path="spec.hosts") for one in flagged.values())
