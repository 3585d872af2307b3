"""Services, Deployments behind them, and ServiceEntries: names of ports, conflicts, addresses.

pkg/config/analysis/analyzers/service, deployment, serviceentry of istio/istio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from labkit.policy.analysis.mesh import SYSTEM_NAMESPACES, Mesh, Object, full_name_of, labels_of, name_of
from labkit.policy.analysis.messages import Message, found, go_list
from labkit.policy.configs import namespace_of
from labkit.policy.protocols import Protocol, protocol_of


# analyzers/service/portname.go; https://istio.io/latest/docs/reference/config/analysis/ist0118/
def port_names(mesh: Mesh) -> Iterator[Message]:
    """IST0118: a port's name tells no protocol. IST0150: the same, or `tcp`, at an ExternalName Service."""
    for one in mesh.every("Service"):
        spec = one.get("spec") or {}
        labels = labels_of(one)
        if namespace_of(one) in SYSTEM_NAMESPACES or "istio" in labels or labels.get("release") == "istio":
            continue
        external = spec.get("type") == "ExternalName"
        for index, port in enumerate(spec.get("ports") or ()):
            unknown = protocol_of(port) is Protocol.UNDECLARED
            path = f"spec.ports[{index}]"
            if external and (unknown or port.get("name") == "tcp"):
                yield found("IST0150", one, path=path)
            elif unknown:
                target = port.get("targetPort", port.get("port", 0))
                yield found("IST0118", one, port.get("name") or "", port.get("port", 0), target, path=path)


# analyzers/deployment/services.go
def deployments(mesh: Mesh) -> Iterator[Message]:
    """IST0116: Services with one port and different protocols. IST0137: one targetPort and different ports."""
    for workload in mesh.workloads:
        if workload.obj.get("kind") == "Deployment" and workload.in_mesh:
            yield from _deployment(mesh, workload.obj, list(mesh.selecting(workload)))
    running = {id(one.obj) for one in mesh.workloads}
    for one in mesh.every("Deployment"):
        if id(one) not in running:
            yield from _running_deployment(mesh, one)


def _running_deployment(mesh: Mesh, deployment: Object) -> Iterator[Message]:
    """A Deployment that has pods: whether they are in the mesh is what counts."""
    selector = ((deployment.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    pods = list(mesh.selected(selector, namespace_of(deployment)))
    if pods and any(pod.in_mesh for pod in pods):
        yield from _deployment(mesh, deployment, list(mesh.selecting(pods[0])))


def _deployment(mesh: Mesh, deployment: Object, services: list[Object]) -> Iterator[Message]:
    if labels_of(deployment).get("gateway.istio.io/managed") == "istio.io-mesh-controller":
        return
    protocols: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    targets: dict[str, dict[int, str]] = defaultdict(dict)
    for service in services:
        for port in (service.get("spec") or {}).get("ports") or ():
            number, name = int(port.get("port") or 0), full_name_of(service)
            protocols[number][str(port.get("protocol") or "TCP")].append(name)
            targets[str(port.get("targetPort") or number)][number] = name
    here = name_of(deployment)
    for number, by_protocol in protocols.items():
        if len(by_protocol) > 1:
            names = sorted(name for known in by_protocol.values() for name in known)
            yield found("IST0116", deployment, here, number, go_list(names), path="metadata.name")
    for target, ports in targets.items():
        if len(ports) > 1:
            owners, numbers = go_list(sorted(ports.values())), go_list(sorted(ports))
            yield found("IST0137", deployment, here, owners, target, numbers, path="metadata.name")


# analyzers/serviceentry/protocoladdresses.go
def service_entry_addresses(mesh: Mesh) -> Iterator[Message]:
    """IST0134: without an address of its own a TCP port of a ServiceEntry takes all traffic to that port."""
    for one in mesh.every("ServiceEntry"):
        spec = one.get("spec") or {}
        if spec.get("addresses") is None:
            for index, port in enumerate(spec.get("ports") or ()):
                if str(port.get("protocol") or "TCP").upper() == "TCP":
                    yield found("IST0134", one, path=f"spec.ports[{index}]")
