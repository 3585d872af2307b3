"""Hosts that Kubernetes does not know: ServiceEntries as services with endpoints. Pure.

1. Each host of a ServiceEntry is a service. Its address is one of Istio's own for such hosts, 240.240.0.0/16; the
   last number is the column of the address plan at which redirected pods meet it.
2. Who answers: the inline endpoints; or WorkloadEntries and pods of the same namespace that the selector chooses; or,
   with neither, the host itself by DNS. A WorkloadEntry may stand behind a Service of Kubernetes, too.
3. A host with a wildcard has no address and no endpoints here: a pod could not look it up.

Simplified: `resolution: NONE` goes to the entry's own addresses, or where the host's name leads; there is no original
destination to be found without iptables. Pods that a selector chooses count from when they have an address.

pilot/pkg/serviceregistry/serviceentry/conversion.go of istio/istio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from labkit.embedded.addresses import host_columns
from labkit.embedded.controlplane.translation.model import Endpoint, Key, Service, ServicePort, service_hosts
from labkit.policy.service_entry import EntryPort, Location, Resolution, ServiceEntry, WorkloadEntry
from labkit.policy.workload import Workload, labels_match

Endpoints = Mapping[str, tuple[Endpoint, ...]]
"""By the name of the port."""


def with_outside(
    services: Mapping[Key, Service],
    endpoints: Mapping[Key, Endpoints],
    entries: Iterable[ServiceEntry],
    workload_entries: Iterable[WorkloadEntry],
    workloads: Iterable[Workload],
) -> tuple[dict[Key, Service], dict[Key, Endpoints]]:
    """The services and endpoints of Kubernetes, with those that ServiceEntries and WorkloadEntries add."""
    all_services, all_endpoints = dict(services), dict(endpoints)
    virtual = sorted(workload_entries, key=lambda one: one.meta.age_order)
    for service in services.values() if virtual else ():
        if chosen := [one for one in virtual if _chooses(service.selector, service.namespace, one.workload)]:
            all_endpoints[service.key] = _more_endpoints(service, all_endpoints.get(service.key, {}), chosen)
    oldest_first = sorted(entries, key=lambda one: one.meta.age_order)
    if not oldest_first:
        return all_services, all_endpoints
    columns = host_columns(host for entry in oldest_first for host in entry.hosts if not host.startswith("*"))
    known = {name: service.cluster_ip for service in services.values() for name in service_hosts(service)}
    pods = list(workloads)
    for entry in oldest_first:
        for host in entry.hosts:
            column = columns.get(host)
            service = _service(entry, host, f"240.240.0.{column}" if column else "")
            own = {port.name: tuple(_endpoints(entry, host, port, virtual, pods, known)) for port in entry.ports}
            _add(all_services, all_endpoints, service, own)
    return all_services, all_endpoints


def _add(services: dict[Key, Service], endpoints: dict[Key, Endpoints], service: Service, own: Endpoints) -> None:
    """Several entries of one namespace for one host are one service with the ports of all; the oldest's count first."""
    before = services.get(service.key)
    if before:
        names, numbers = {port.name for port in before.ports}, {port.number for port in before.ports}
        new = tuple(port for port in service.ports if port.name not in names and port.number not in numbers)
        service = replace(before, ports=(*before.ports, *new))
        own = {**own, **endpoints.get(service.key, {})}
    services[service.key], endpoints[service.key] = service, own


def _service(entry: ServiceEntry, host: str, address: str) -> Service:
    return Service(
        namespace=entry.meta.namespace,
        name=host,
        cluster_ip=address,
        ports=tuple(ServicePort(port.number, port.name, port.protocol, port.target) for port in entry.ports),
        created=entry.meta.created.isoformat() if entry.meta.created else "",
        hostname=host,
        mesh_external=entry.location is Location.MESH_EXTERNAL,
        resolution=entry.resolution,
        export_to=entry.export_to,
        subject_alt_names=entry.subject_alt_names,
    )


def _endpoints(
    entry: ServiceEntry,
    host: str,
    port: EntryPort,
    virtual: Iterable[WorkloadEntry],
    pods: Iterable[Workload],
    known: Mapping[str, str],
) -> Iterator[Endpoint]:
    namespace = entry.meta.namespace
    if entry.selector:
        for one in virtual:
            if _chooses(entry.selector, namespace, one.workload):
                yield _endpoint(one, port.name, port.target, known)
        for pod in pods:
            if pod.address and _chooses(entry.selector, namespace, pod):
                yield Endpoint(pod.address, port.target, True, pod)
    elif entry.endpoints:
        for one in entry.endpoints:
            yield _endpoint(one, port.name, port.target, known)
    elif entry.resolution is Resolution.NONE and entry.single_addresses:
        for address in entry.single_addresses:
            yield Endpoint(address, port.target, True, None)
    elif entry.resolution is not Resolution.STATIC and not host.startswith("*"):
        yield Endpoint(known.get(host, host), port.target, True, None)


def _more_endpoints(service: Service, before: Endpoints, chosen: Iterable[WorkloadEntry]) -> Endpoints:
    added = {
        port.name: tuple(
            _endpoint(one, port.name, port.target if isinstance(port.target, int) else port.number, {})
            for one in chosen
        )
        for port in service.ports
    }
    return {name: (*before.get(name, ()), *more) for name, more in added.items()}


def _endpoint(entry: WorkloadEntry, port_name: str, port: int, known: Mapping[str, str]) -> Endpoint:
    # A name that the cluster's own naming knows is looked up here; the machine's resolver would not find it.
    address = known.get(entry.address, entry.address)
    return Endpoint(address, entry.port(port_name, port), True, entry.workload, entry.weight)


def _chooses(selector: Mapping[str, str], namespace: str, workload: Workload) -> bool:
    return bool(selector) and workload.namespace == namespace and labels_match(selector, workload.labels)
