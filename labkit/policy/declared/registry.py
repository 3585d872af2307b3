"""Who is there: workloads (all pods of a template as one), and the ports of hosts that they can be called at.

Works on manifests as well as on a running cluster: a template that has no pods yet counts as what it will create,
with or without a sidecar as its namespace's and its own labels say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from labkit.errors import InputError, did_you_mean
from labkit.policy.calls import target_port
from labkit.policy.configs import namespace_of, service_export_to
from labkit.policy.declared.groups import Group, Object, group_of, groups_of, outside_group
from labkit.policy.declared.settings import MeshSettings
from labkit.policy.destination_rule import CLUSTER_DOMAIN
from labkit.policy.injection import INJECT, NEVER_INJECTED_NAMESPACES, REVISION, InjectionDecision, injection_decision
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.service_entry import Location, Resolution, ServiceEntry, WorkloadEntry
from labkit.policy.workload import (
    TLS_MODE_ISTIO,
    TLS_MODE_LABEL,
    Workload,
    has_pods,
    is_owned,
    labels_match,
    workload_from_pod,
)

TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")


@dataclass(frozen=True, eq=False)
class Target:
    """One port of a host: who answers there, and on which container port. `service` is False for a ServiceEntry."""

    host: str
    namespace: str
    name: str
    port: int
    protocol: Protocol
    endpoints: tuple[tuple[Group, int], ...] = ()
    service: bool = True
    headless: bool = False
    mesh_external: bool = False
    resolution: str = ""
    export_to: frozenset[str] = frozenset()
    outside: bool = False
    """Whether callers from outside of the cluster have a way in: NodePort or LoadBalancer."""
    by_address: bool = False
    """A pod's own address, called past its Services."""

    @cached_property
    def label(self) -> str:
        """As a table shows it: `namespace/name:port`, or the host of a ServiceEntry."""
        return f"{self.namespace}/{self.name}:{self.port}" if self.service else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.label


class Registry:
    """Workloads and targets of one moment."""

    def __init__(
        self,
        objects: Iterable[Object],
        settings: MeshSettings,
        entries: Iterable[ServiceEntry] = (),
        workload_entries: Iterable[WorkloadEntry] = (),
    ) -> None:
        self.settings = settings
        kinds: dict[str, list[Object]] = defaultdict(list)
        for one in objects:
            kinds[str(one.get("kind"))].append(one)
        self.namespaces = {str(one["metadata"]["name"]): one for one in kinds["Namespace"]}
        self.groups = groups_of(kinds["Pod"])
        self._decisions: dict[tuple[object, ...], InjectionDecision] = {}
        self._by_namespace: dict[str, list[Group]] = defaultdict(list)
        for group in self.groups:
            self._by_namespace[group.namespace].append(group)
        running = {name: list(some) for name, some in self._by_namespace.items()}
        for template in (one for kind in TEMPLATES for one in kinds[kind] if not (is_owned(one) or _is_done(one))):
            if not has_pods(template, (one.workload.labels for one in running.get(namespace_of(template), ()))):
                planned = self._planned(template)
                self.groups.append(planned)
                self._by_namespace[planned.namespace].append(planned)
        self._virtual = [outside_group(one.workload) for one in workload_entries]
        self._entries = {id(group): one for group, one in zip(self._virtual, workload_entries, strict=True)}
        self._services = sorted(kinds["Service"], key=_service_age)
        self._service_entries = list(entries)
        self._inbound: dict[tuple[int, int], Protocol] | None = None
        self._addressed: dict[tuple[str, int, str], Target] = {}

    @cached_property
    def targets(self) -> list[Target]:
        """The ports of all hosts, the oldest Service's first."""
        return [*self._service_targets(), *self._entry_targets(self._service_entries)]

    @cached_property
    def _by_host(self) -> dict[str, list[Target]]:
        found: dict[str, list[Target]] = defaultdict(list)
        for target in self.targets:
            found[target.host].append(target)
        return dict(found)

    @cached_property
    def _by_label(self) -> dict[tuple[str, tuple[str, str]], list[Group]]:
        """Workloads by namespace and each of their labels."""
        found: dict[tuple[str, tuple[str, str]], list[Group]] = defaultdict(list)
        for group in (*self.groups, *self._virtual):
            for label in group.workload.labels.items():
                found[group.workload.namespace, label].append(group)
        return dict(found)

    def _chosen(self, namespace: str, selector: Mapping[str, str]) -> list[Group]:
        """The workloads of a namespace that a selector with labels chooses."""
        if not selector:
            return []
        some = min((self._by_label.get((namespace, label), []) for label in selector.items()), key=len)
        return [one for one in some if labels_match(selector, one.workload.labels)] if len(selector) > 1 else some

    # -- looking up

    def group(self, reference: str) -> Group:
        """The workload called `namespace/name`, by its own name, a pod's, or its label `app`; a bare name is looked up
        in `default`, then everywhere.
        """
        namespace, slash, name = reference.rpartition("/")
        places = [namespace] if slash else ["default", *sorted(self._by_namespace)]
        found: list[Group] = []
        for place in places:
            found = self._named(self._by_namespace.get(place, []), name)
            if found:
                break
        if found:
            return max(found, key=lambda one: (one.workload.ready, one.pods))
        where = f" in namespace {namespace}" if slash else ""
        near = self._by_namespace.get(namespace, []) if slash else self.groups
        raise InputError(
            f"There is no workload {name!r}{where}.",
            meaning="A client is a Deployment, a pod, or the value of the label `app`, written namespace/name.",
            next_step=f"{did_you_mean(reference, (one.name for one in self.groups))}"
            f"{'There' if slash else 'Here'}: {_listed(one.name for one in near)}.",
            workload=reference,
        )

    def target(self, reference: str, port: int, namespace: str = "default") -> Target:
        """The port of a Service (`namespace/name`, `name`, `name.namespace`, a full host name or an address), of a
        host of a ServiceEntry, or, past all Services, of a workload.
        """
        if target := self.find(self.host_of(reference, namespace), port):
            return target
        known = self._by_host.get(self.host_of(reference, namespace))
        if known:
            raise InputError(
                f"{reference} has no port {port}.",
                next_step=f"Its ports: {', '.join(str(one.port) for one in known)}.",
                port=port,
            )
        by_address = self._addressed.get((reference, port, namespace)) or self._pod_address(reference, port, namespace)
        if by_address:
            self._addressed[reference, port, namespace] = by_address  # answers are remembered by the very target
            return by_address
        there = {one.label.rpartition(":")[0] for one in self.targets}
        raise InputError(
            f"There is no Service, host or workload {reference!r}.",
            meaning="A server is a Service, written namespace/name, name.namespace or name.",
            next_step=f"{did_you_mean(reference, there)}Here: {_listed(there)}.",
            server=reference,
        )

    def host_of(self, reference: str, namespace: str) -> str:
        """The full host name that a reference means to somebody in `namespace`."""
        where, slash, name = reference.rpartition("/")
        if slash:
            return f"{name}.{where}.svc.{CLUSTER_DOMAIN}"
        if reference in self._by_host:
            return reference
        for service in self._services:
            if (service.get("spec") or {}).get("clusterIP") == reference and reference != "None":
                return _host(service)
        parts = reference.split(".")
        if len(parts) > 2 and parts[2] != "svc":
            return reference
        return f"{parts[0]}.{parts[1] if len(parts) > 1 else namespace}.svc.{CLUSTER_DOMAIN}"

    def find(self, host: str, port: int = 0) -> Target | None:
        """A port of a host; 0 means its only one."""
        known = self._by_host.get(host, [])
        if not port:
            return known[0] if len(known) == 1 else None
        return next((one for one in known if one.port == port), None)

    @cached_property
    def client_namespaces(self) -> frozenset[str]:
        """The namespaces to which some hosts are exported, and others not."""
        limited = [one for one in self.targets if one.export_to]
        return frozenset(name for one in limited for name in (one.namespace, *one.export_to))

    def ports_of(self, host: str) -> list[Target]:
        """All ports of a host."""
        return self._by_host.get(host, [])

    def arrives_as(self, group: Group, port: int) -> Protocol:
        """What the sidecar of a workload takes a container port for: of several Services the oldest says it."""
        if self._inbound is None:
            self._inbound = {}
            for target in self.targets:  # the oldest Service first
                for member, number in target.endpoints if target.service else ():
                    self._inbound.setdefault((id(member), number), target.protocol)
        return self._inbound.get((id(group), port), Protocol.UNDECLARED)

    def injection(self, group: Group) -> InjectionDecision:
        """What would decide about the sidecar of a new pod of this workload."""
        return self._decision(group.workload, group.template)

    # -- workloads

    def _planned(self, template: Object) -> Group:
        """What a template will create (https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/)."""
        spec = template.get("spec") or {}
        if template.get("kind") == "CronJob":
            spec = (spec.get("jobTemplate") or {}).get("spec") or {}
        pod = spec.get("template") or {}
        metadata = {**(pod.get("metadata") or {}), "namespace": namespace_of(template)}
        pod = {**pod, "metadata": {**metadata, "name": template["metadata"]["name"]}}
        workload = workload_from_pod(pod)
        if not workload.injected and self.settings.installed and self._decision(workload, pod).inject:
            workload = replace(workload, injected=True, labels={TLS_MODE_LABEL: TLS_MODE_ISTIO, **workload.labels})
        return group_of(pod, workload, str(template.get("kind")), 0)

    def _decision(self, workload: Workload, pod: Object) -> InjectionDecision:
        namespace = self.namespaces.get(workload.namespace) or {}
        metadata = pod.get("metadata") or {}
        around, own = (namespace.get("metadata") or {}).get("labels") or {}, metadata.get("labels") or {}
        revision = self.settings.revision
        if self.settings.any_revision:
            revision = around.get(REVISION) or own.get(REVISION) or revision
        annotations = metadata.get("annotations") or {}
        host_network = bool((pod.get("spec") or {}).get("hostNetwork"))
        asked = (own.get(INJECT), own.get(REVISION), annotations.get(INJECT), host_network)
        known = (workload.namespace, revision, *asked)
        if known not in self._decisions:
            self._decisions[known] = injection_decision(
                around, own, annotations, revision, namespace=workload.namespace, host_network=host_network
            )
        return self._decisions[known]

    @staticmethod
    def _named(here: list[Group], name: str) -> list[Group]:
        exact = [one for one in here if one.workload.name == name]
        own = [one for one in here if (one.template.get("metadata") or {}).get("name") == name]
        labelled = [one for one in here if one.workload.labels.get("app") == name]
        pods = [one for one in here if name.startswith(f"{one.workload.name}-")]
        return exact or own or labelled or pods

    # -- targets

    def _service_targets(self) -> Iterator[Target]:
        for service in self._services:
            metadata, spec = service["metadata"], service.get("spec") or {}
            namespace, selector = namespace_of(service), spec.get("selector") or {}
            chosen = self._chosen(namespace, {key: str(value) for key, value in selector.items()})
            standing = [one for one in chosen if one.workload.ready] or chosen
            for port in spec.get("ports") or ():
                yield Target(
                    host=_host(service),
                    namespace=namespace,
                    name=str(metadata["name"]),
                    port=int(port["port"]),
                    protocol=protocol_of(port),
                    endpoints=tuple((one, number) for one in standing if (number := self._number(one, port))),
                    headless=spec.get("clusterIP") == "None",
                    export_to=service_export_to(metadata),
                    outside=spec.get("type") in ("NodePort", "LoadBalancer"),
                )

    def _number(self, group: Group, port: Object) -> int | None:
        if entry := self._entries.get(id(group)):
            written = port.get("targetPort") or port["port"]
            return entry.port(port.get("name") or "", int(written if isinstance(written, int) else port["port"]))
        return target_port(port, group.workload)

    def _entry_targets(self, entries: Iterable[ServiceEntry]) -> Iterator[Target]:
        """Hosts of ServiceEntries. Who answers: the inline endpoints, whom the selector chooses, or the host itself."""
        for entry in sorted(entries, key=lambda one: one.meta.age_order):
            for host in entry.hosts:
                for port in entry.ports:
                    external = entry.location is Location.MESH_EXTERNAL
                    yield Target(
                        host=host,
                        namespace=entry.meta.namespace,
                        name=host,
                        port=port.number,
                        protocol=port.protocol,
                        endpoints=tuple(self._entry_endpoints(entry, host, port.name, port.target)),
                        service=False,
                        mesh_external=external,
                        resolution=entry.resolution,
                        export_to=entry.export_to,
                        headless=entry.resolution is Resolution.NONE,
                    )

    def _entry_endpoints(self, entry: ServiceEntry, host: str, port: str, number: int) -> Iterator[tuple[Group, int]]:
        namespace = entry.meta.namespace
        if entry.selector:
            for one in self._chosen(namespace, entry.selector):
                own = self._entries.get(id(one))
                yield one, own.port(port, number) if own else number
        elif entry.endpoints:
            for inline in entry.endpoints:
                yield outside_group(inline.workload), inline.port(port, number)
        else:
            yield outside_group(Workload(namespace, host)), number

    def _pod_address(self, reference: str, port: int, namespace: str) -> Target | None:
        """The call of a pod's own address: by the address itself, or by the workload's name."""
        groups = [one for one in self.groups if one.workload.address and one.workload.address == reference]
        if not groups and re.fullmatch(r"[^/\s]+(/[^/\s]+)?", reference):
            where, slash, name = reference.rpartition("/")
            groups = self._named(self._by_namespace.get(where if slash else namespace, []), name)
        if not groups:
            return None
        group = groups[0]
        return Target(
            host=group.workload.address or group.name,
            namespace=group.namespace,
            name=group.workload.name,
            port=port,
            protocol=Protocol.UNDECLARED,
            endpoints=((group, port),),
            by_address=True,
        )


def _service_age(service: Object) -> tuple[str, str, str]:
    metadata = service["metadata"]
    created = str(metadata.get("creationTimestamp") or "9999")  # one that is not applied yet will be the youngest
    return created, namespace_of(service), str(metadata["name"])


def _host(service: Object) -> str:
    return f"{service['metadata']['name']}.{namespace_of(service)}.svc.{CLUSTER_DOMAIN}"


def _is_done(template: Object) -> bool:
    """Whether a Job has ended: it calls nobody any more."""
    conditions = (template.get("status") or {}).get("conditions") or ()
    ended = any(one.get("type") in ("Complete", "Failed") and one.get("status") == "True" for one in conditions)
    return template.get("kind") == "Job" and ended


def _listed(names: Iterable[str], most: int = 12) -> str:
    known = sorted(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return (", ".join(known[:most]) or "none") + more


def is_system(namespace: str) -> bool:
    """Whether a namespace is Kubernetes' own, where nothing is injected."""
    return namespace in NEVER_INJECTED_NAMESPACES
