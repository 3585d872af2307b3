"""What ServiceEntry, WorkloadEntry and WorkloadGroup mean: hosts that Kubernetes does not know, and who answers there.

https://istio.io/latest/docs/reference/config/networking/service-entry/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.selection import selector_labels
from labkit.policy.workload import TLS_MODE_ISTIO, TLS_MODE_LABEL, Workload

Object = Mapping[str, Any]


class Location(StrEnum):
    """Whether a host is part of the mesh. The first is what an entry without `location` means."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(StrEnum):
    """How a proxy finds the addresses of a host. The first is what an entry without `resolution` means."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"


@dataclass(frozen=True)
class EntryPort:
    """One port of a host; `target` is where the endpoints listen unless they say otherwise."""

    number: int
    name: str
    protocol: Protocol
    target: int


@dataclass(frozen=True)
class WorkloadEntry:
    """One address outside of Kubernetes: an object of its own, or one of a ServiceEntry's `endpoints`."""

    meta: Meta
    address: str
    ports: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    weight: int = 0

    @property
    def workload(self) -> Workload:
        """The workload as policies see it. Its label says whether it answers mTLS; without that label, it does if it
        has a service account (pilot/pkg/serviceregistry/serviceentry/conversion.go getTLSModeFromWorkloadEntry).
        """
        labels = dict(self.labels)
        if self.service_account:
            labels.setdefault(TLS_MODE_LABEL, TLS_MODE_ISTIO)
        account = self.service_account or "default"
        return Workload(self.meta.namespace, self.meta.name or self.address, labels, account, address=self.address)

    def port(self, name: str, otherwise: int) -> int:
        """Where it listens for the port of this name."""
        return self.ports.get(name) or otherwise


@dataclass(frozen=True)
class ServiceEntry:
    """One parsed ServiceEntry. Who answers: `endpoints`, or the workloads that `selector` chooses, or the host."""

    meta: Meta
    hosts: tuple[str, ...]
    ports: tuple[EntryPort, ...]
    addresses: tuple[str, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[WorkloadEntry, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    export_to: frozenset[str] = frozenset()
    subject_alt_names: tuple[str, ...] = ()

    @property
    def single_addresses(self) -> tuple[str, ...]:
        """The addresses that are one address each, and no range."""
        return tuple(one for one in self.addresses if "/" not in one)


@dataclass(frozen=True)
class WorkloadGroup:
    """A template for WorkloadEntries, as a Deployment is one for pods. Nothing follows from it by itself."""

    meta: Meta
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""


def parse_service_entry(obj: Object) -> ServiceEntry:
    """Read a ServiceEntry. Raises InputError for one without hosts, and for unknown locations and resolutions."""
    meta, spec = read_meta(obj, kind="ServiceEntry"), obj.get("spec") or {}
    hosts = tuple(str(one) for one in spec.get("hosts") or ())
    if not hosts:
        raise InputError(
            f"ServiceEntry {meta} has no hosts.", next_step="Name at least one under spec.hosts.", field="spec.hosts"
        )
    selector = selector_labels(spec, field="workloadSelector", inner="labels")
    if selector and spec.get("endpoints"):
        raise InputError(
            f"ServiceEntry {meta} has both endpoints and workloadSelector.",
            next_step="Keep one of the two.",
            field="spec.workloadSelector",
        )
    return ServiceEntry(
        meta=meta,
        hosts=hosts,
        ports=tuple(_port(one) for one in spec.get("ports") or ()),
        addresses=tuple(str(one) for one in spec.get("addresses") or ()),
        location=_choice(Location, spec, "location", meta),
        resolution=_choice(Resolution, spec, "resolution", meta),
        endpoints=tuple(_entry(one, Meta("ServiceEntry", meta.namespace, "")) for one in spec.get("endpoints") or ()),
        selector=selector,
        export_to=frozenset(spec.get("exportTo") or ()),
        subject_alt_names=tuple(spec.get("subjectAltNames") or ()),
    )


def parse_workload_entry(obj: Object) -> WorkloadEntry:
    """Read a WorkloadEntry."""
    return _entry(obj.get("spec") or {}, read_meta(obj, kind="WorkloadEntry"))


def parse_workload_group(obj: Object) -> WorkloadGroup:
    """Read a WorkloadGroup."""
    spec = obj.get("spec") or {}
    template, metadata = spec.get("template") or {}, spec.get("metadata") or {}
    labels = {**(template.get("labels") or {}), **(metadata.get("labels") or {})}
    return WorkloadGroup(read_meta(obj, kind="WorkloadGroup"), labels, str(template.get("serviceAccount") or ""))


# pilot/pkg/autoregistration/controller.go workloadEntryFromGroup
def entry_from_group(group: Object, address: str) -> dict[str, Any]:
    """The WorkloadEntry that a machine of a WorkloadGroup gets when it registers itself, to be applied by hand."""
    spec, metadata = group.get("spec") or {}, group["metadata"]
    template, more = dict(spec.get("template") or {}), spec.get("metadata") or {}
    labels = {**(template.get("labels") or {}), **(more.get("labels") or {})}
    annotations = {"istio.io/autoRegistrationGroup": metadata["name"], **(more.get("annotations") or {})}
    return {
        "apiVersion": str(group.get("apiVersion") or "networking.istio.io/v1"),
        "kind": "WorkloadEntry",
        "metadata": {
            "name": f"{metadata['name']}-{address}",
            "namespace": metadata.get("namespace") or "default",
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {**template, "address": address, "labels": labels},
    }


def _port(written: Object) -> EntryPort:
    number = int(written.get("number") or 0)
    name = str(written.get("name") or "")
    # Here the protocol has a field of its own; where that is empty the name tells, as at a Service.
    protocol = str(written.get("protocol") or "").lower()
    declared = {"port": number, "name": name, "appProtocol": protocol or None}
    return EntryPort(number, name, protocol_of(declared), int(written.get("targetPort") or number))


def _entry(spec: Object, meta: Meta) -> WorkloadEntry:
    return WorkloadEntry(
        meta=meta,
        address=str(spec.get("address") or ""),
        ports={str(name): int(number) for name, number in (spec.get("ports") or {}).items()},
        labels={str(key): str(value) for key, value in (spec.get("labels") or {}).items()},
        service_account=str(spec.get("serviceAccount") or ""),
        weight=int(spec.get("weight") or 0),
    )


Choice = TypeVar("Choice", bound=StrEnum)


def _choice(kind: type[Choice], spec: Object, name: str, meta: Meta) -> Choice:
    written = spec.get(name)
    if not written:
        return next(iter(kind))
    try:
        return kind(str(written))
    except ValueError:
        known = ", ".join(kind)
        raise InputError(
            f"ServiceEntry {meta} has the {name} {written!r}.", next_step=f"Write one of {known}.", field=f"spec.{name}"
        ) from None
