"""A pod or a Service with all that the mesh does with it: the facts and line forms of `istioctl x describe`.

istioctl/pkg/describe/describe.go of istio/istio. Who decides is read from the proxy's own dump; the objects are read
from the API. Two things differ: a pod without a sidecar is described as far as it goes, and each policy is named once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import DESTINATION_RULE, PEER_AUTHENTICATION, POD, SERVICE
from labkit.errors import LabError
from labkit.observe.describe.gateways import write_gateways
from labkit.observe.describe.pods import tcp_ports, write_pod, write_service
from labkit.observe.describe.routing import (
    destination_rule_name,
    host_of,
    rbac_policies,
    virtual_service_name,
    write_destination_rule,
    write_virtual_service,
)
from labkit.observe.describe.words import (
    REQUIREMENTS,
    RULER,
    VIRTUAL_SERVICE,
    Description,
    Exposure,
    Routing,
    Writer,
    full,
)
from labkit.observe.dumps import Dump
from labkit.observe.objects import PROXY, find_istiod, is_injected, labels_of, matches, name_of, namespace_of
from labkit.observe.proxy import ask_pod
from labkit.policy import compose_peer_authentication, parse_peer_authentication, workload_from_pod
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.workload import labels_match


def describe_pod(cluster: Cluster, pod: Obj, *, home: str = "default", ignore_unmeshed: bool = False) -> Description:
    """What istioctl says of a pod. `home` is the namespace that needs no saying."""
    writer, namespace = Writer(home), namespace_of(pod)
    write_pod(writer, pod, ignore_unmeshed=ignore_unmeshed)
    services = [one for one in cluster.objects(SERVICE, namespace) if _selects(one, pod)]
    if not services and not ignore_unmeshed:
        writer.warn(f"Warning: No Kubernetes Services select pod {writer.name(pod)} (see {REQUIREMENTS} )")
    writer.say(RULER)
    facts = _Facts(cluster)
    labels = [labels_of(pod)]
    routing = _write_services(writer, facts, pod, services, labels)
    subject, command = f"Pod {namespace}/{name_of(pod)}", f"istioctl x describe pod {full(pod)}"
    if not is_injected(pod):
        writer.say("Nothing is enforced here: no policy reaches a pod without a sidecar.")
        return Description(subject, tuple(writer.lines), warnings=tuple(writer.warnings), routing=routing)
    writer.say(RULER)
    mode, ports, policies = _write_peer_authentication(writer, cluster, pod)
    exposed = write_gateways(writer, cluster, services, labels)
    return Description(
        subject,
        tuple(writer.lines),
        mode,
        ports,
        policies,
        routing,
        exposed,
        tuple(writer.warnings),
        command,
    )


def describe_service(cluster: Cluster, service: Obj, *, home: str = "default") -> Description:
    """What istioctl says of a Service, as the first of its pods with a ready proxy knows it."""
    writer, namespace = Writer(home), namespace_of(service)
    selected = [one for one in cluster.objects(POD, namespace) if _selects(service, one)]
    pods = [one for one in selected if _may_be_asked(writer, one)]
    routing: tuple[Routing, ...] = ()
    exposed: tuple[Exposure, ...] = ()
    if pods:
        labels = [labels_of(one) for one in pods]
        routing = _write_services(writer, _Facts(cluster), pods[0], [service], labels)
        exposed = write_gateways(writer, cluster, [service], labels)
    elif selected:
        count = f"({len(selected)} pods in service)"
        writer.warn(f'Service "{writer.name(service)}" has no Istio pods.  {count}.')
        writer.say("Use `istioctl kube-inject` or redeploy with Istio automatic sidecar injection.")
    else:
        writer.warn(f'Service "{writer.name(service)}" has no pods.')
    return Description(
        f"Service {namespace}/{name_of(service)}",
        tuple(writer.lines),
        routing=routing,
        exposed=exposed,
        warnings=tuple(writer.warnings),
        command=f"istioctl x describe service {full(service)}",
    )


class _Facts:
    """Objects that a proxy names, each asked for once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._found: dict[tuple[str, str, str], Obj | None] = {}

    def find(self, writer: Writer, kind: str, named: tuple[str, str]) -> Obj | None:
        """The object that the proxy got its configuration from; one that is gone is said to be."""
        namespace, name = named
        if not name:
            return None
        key = (kind, namespace, name)
        if key not in self._found:
            self._found[key] = self.cluster.find(DESTINATION_RULE if kind == "DR" else VIRTUAL_SERVICE, name, namespace)
        if self._found[key] is None:
            what = "destination rule" if kind == "DR" else "virtual service"
            writer.warn(f"WARNING: Proxy is stale; it references to non-existent {what} {name}.{namespace}")
        return self._found[key]


def _write_services(
    writer: Writer, facts: _Facts, pod: Obj, services: Sequence[Obj], labels: Sequence[Mapping[str, str]]
) -> tuple[Routing, ...]:
    dump = _dump(writer, facts.cluster, pod)
    found: list[Routing] = []
    for number, service in enumerate(services):
        if number:
            writer.say(RULER)
        write_service(writer, service, pod)
        ports = tcp_ports(service)
        for port in ports if dump else ():
            if len(ports) > 1:
                writer.say(f"{port['port']}:")
            found.append(_write_port(writer, facts, dump or Dump(()), service, port["port"], labels, len(ports) > 1))
    return tuple(found)


def _write_port(
    writer: Writer,
    facts: _Facts,
    dump: Dump,
    service: Obj,
    port: int,
    labels: Sequence[Mapping[str, str]],
    several: bool,
) -> Routing:
    host, indent = host_of(service), 3 if several else 0
    rule = facts.find(writer, "DR", destination_rule_name(dump, host, port))
    if rule:
        write_destination_rule(writer, rule, labels, indent)
    routes = facts.find(writer, "VS", virtual_service_name(dump, host, port))
    if routes:
        write_virtual_service(writer, routes, service, rule, labels, indent)
    if policies := rbac_policies(dump):
        writer.say(f"{f'{port} ' if several else ''}RBAC policies: {', '.join(policies)}")
    where = f"{namespace_of(service)}/{name_of(service)}"
    return Routing(where, port, full(rule) if rule else "", full(routes) if routes else "", tuple(policies))


def _dump(writer: Writer, cluster: Cluster, pod: Obj) -> Dump | None:
    if not is_injected(pod):
        return None
    try:
        return Dump.of(json.loads(ask_pod(cluster, pod, "config_dump")))
    except LabError as error:
        # One that does not answer yet, or any more, is a fact about the pod like any other.
        writer.warn(f"Error: failed to execute command on sidecar: {error.what}")
        return None


def _write_peer_authentication(
    writer: Writer, cluster: Cluster, pod: Obj
) -> tuple[str, dict[int, str], tuple[str, ...]]:
    istiod = find_istiod(cluster)
    root = namespace_of(istiod) if istiod else ROOT_NAMESPACE
    near = dict.fromkeys((root, namespace_of(pod)))
    objects = [one for namespace in near for one in cluster.objects(PEER_AUTHENTICATION, namespace)]
    parsed = [parse_peer_authentication(one) for one in objects]
    applied = [one for one in parsed if labels_match(one.selector, labels_of(pod))]
    effective = compose_peer_authentication(objects, workload_from_pod(pod), root)
    writer.say("Effective PeerAuthentication:")
    writer.say(f"Workload mTLS mode: {effective.mode}", 3)
    ports = {port: str(mode) for port, mode in sorted(effective.per_port.items())}
    if ports:
        writer.say("Port Level mTLS mode:", 3)
    for port, mode in ports.items():
        writer.say(f"{port}: {mode}", 6)
    names = tuple(f"{one.name}.{one.namespace}" for one in applied)
    if names:
        writer.say("Applied PeerAuthentication:")
        writer.say(", ".join(names), 3)
    return str(effective.mode), ports, names


def _selects(service: Obj, pod: Obj) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector) and matches(selector, labels_of(pod))


def _may_be_asked(writer: Writer, pod: Obj) -> bool:
    """Whether a pod's proxy is ready; says why not."""
    status = pod.get("status", {})
    if status.get("phase") != "Running":
        writer.warn(f"Pod is not Running ({status.get('phase', '')})", 3)
        return False
    states = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    proxy = next((one for one in states if one["name"] == PROXY), None)
    if proxy is None:
        writer.warn(f'Pod {writer.name(pod)}: no container "{PROXY}" in pod')
        return False
    if not proxy.get("ready"):
        writer.warn(f"WARNING: Pod {writer.name(pod)} Container {PROXY} NOT READY")
    return bool(proxy.get("ready"))


__all__ = ["Description", "Exposure", "Routing", "describe_pod", "describe_service"]
