"""A cluster's objects, reduced to what a prediction needs; finds the client and the endpoints of a probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.errors import InputError
from labkit.outcomes import Probe, Verdict
from labkit.policy.calls import call_service, is_over, predict_call
from labkit.policy.configs import namespace_of
from labkit.policy.injection import DEFAULT_REVISION, injection_decision
from labkit.policy.peer_authentication import KIND, ROOT_NAMESPACE, EffectiveMTLS, compose_peer_authentication
from labkit.policy.workload import (
    TLS_MODE_ISTIO,
    TLS_MODE_LABEL,
    Workload,
    has_pods,
    is_owned,
    workload_from_pod,
)

Object = Mapping[str, Any]

_TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")


@dataclass(frozen=True)
class World:
    """Pods, Services, Namespaces and PeerAuthentications as dicts, and what kind of mesh there is, if any."""

    pods: tuple[Object, ...] = ()
    services: tuple[Object, ...] = ()
    namespaces: tuple[Object, ...] = ()
    peer_authentications: tuple[Object, ...] = ()
    templates: tuple[Object, ...] = ()
    destination_rules: tuple[Object, ...] = ()
    authorization_policies: tuple[Object, ...] = ()
    mesh_installed: bool = True
    root_namespace: str = ROOT_NAMESPACE
    revision: str = DEFAULT_REVISION
    enable_auto_mtls: bool = True
    _workloads: dict[str, list[Workload]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, objects: Iterable[Object], **settings: Any) -> World:
        """Sort objects of any kinds; those that do not matter for mTLS are left out.

        Of Deployments and the like only those count that have no pods yet: what they will create is predicted too.
        """
        by_kind: dict[str, list[Object]] = {}
        for one in objects:
            by_kind.setdefault(str(one.get("kind")), []).append(one)
        return cls(
            pods=tuple(by_kind.get("Pod", ())),
            services=tuple(by_kind.get("Service", ())),
            namespaces=tuple(by_kind.get("Namespace", ())),
            peer_authentications=tuple(by_kind.get(KIND, ())),
            destination_rules=tuple(by_kind.get("DestinationRule", ())),
            authorization_policies=tuple(by_kind.get("AuthorizationPolicy", ())),
            templates=tuple(one for kind in _TEMPLATES for one in by_kind.get(kind, ()) if not is_owned(one)),
            **settings,
        )

    def workloads(self, namespace: str) -> list[Workload]:
        """The running pods of a namespace, then what templates without pods will create there."""
        if namespace not in self._workloads:
            running = [pod for pod in self.pods if namespace_of(pod) == namespace and not is_over(pod)]
            found = [workload_from_pod(pod) for pod in running]
            for template in self.templates:
                if namespace_of(template) == namespace and not has_pods(template, (one.labels for one in found)):
                    found.append(self._planned(template))
            self._workloads[namespace] = found
        return self._workloads[namespace]

    def workload(self, reference: str) -> Workload:
        """The workload called `namespace/name`: a pod's name, its Deployment's, or its label `app`."""
        namespace, _, name = reference.rpartition("/")
        namespace = namespace or "default"
        candidates = self.workloads(namespace)
        exact = [one for one in candidates if one.name == name]
        created = [one for one in candidates if one.name.startswith(f"{name}-")]
        labelled = [one for one in candidates if one.labels.get("app") == name]
        # `web` owns web-7d4b9-x2x4z; it does not own web-admin-5c8d7-pq2vz, whose label says so.
        own = [one for one in created if one.labels.get("app", name) == name]
        for found in (exact, own, labelled, created):
            if found:
                return found[0]
        known = ", ".join(sorted(str(one) for one in candidates)) or "none"
        raise InputError(
            f"There is no workload {name!r} in namespace {namespace}.",
            next_step=f"Name a pod, a Deployment or an `app` label. There: {known}.",
            workload=reference,
        )

    def service(self, reference: str) -> Object:
        """The Service called `namespace/name`."""
        namespace, _, name = reference.rpartition("/")
        namespace = namespace or "default"
        here = [one for one in self.services if namespace_of(one) == namespace]
        found = next((one for one in here if one["metadata"]["name"] == name), None)
        if found is None:
            known = ", ".join(sorted(one["metadata"]["name"] for one in here)) or "none"
            raise InputError(
                f"There is no Service {name!r} in namespace {namespace}.",
                next_step=f"Services there: {known}.",
                service=reference,
            )
        return found

    def effective(self, workload: Workload) -> EffectiveMTLS:
        """What the policies of this world make `workload` accept."""
        return compose_peer_authentication(self._policies, workload, self.root_namespace)

    def predict(self, probe: Probe) -> Verdict:
        """What will happen when the probe is tried, over all endpoints that may take it."""
        client, service = self.workload(probe.client), self.service(probe.server)
        port = _service_port(service, probe.port, probe.server)
        return predict_call(
            client,
            call_service(service, port, self.workloads(namespace_of(service)), host=probe.server),
            self._policies,
            request=probe.request,
            root_namespace=self.root_namespace,
            enable_auto_mtls=self.enable_auto_mtls,
            destination_rules=self.destination_rules if self.mesh_installed else (),
            authorization_policies=self.authorization_policies if self.mesh_installed else (),
            probe=probe,
        )

    @property
    def _policies(self) -> tuple[Object, ...]:
        # Before the mesh is installed the kind is unknown to the cluster, so there is nothing to obey.
        return self.peer_authentications if self.mesh_installed else ()

    def _planned(self, template: Object) -> Workload:
        """The workload that a template will create: injected or not as its namespace's and its own labels say."""
        pod = (template.get("spec") or {}).get("template") or {}
        metadata = {**(pod.get("metadata") or {}), "namespace": namespace_of(template)}
        planned = workload_from_pod({**pod, "metadata": {**metadata, "name": template["metadata"]["name"]}})
        if planned.injected or not self.mesh_installed:
            return planned
        decision = injection_decision(
            self._namespace_labels(planned.namespace),
            planned.labels,
            metadata.get("annotations") or {},
            self.revision,
            namespace=planned.namespace,
            host_network=bool((pod.get("spec") or {}).get("hostNetwork")),
        )
        if not decision.inject:
            return planned
        return replace(planned, injected=True, labels={TLS_MODE_LABEL: TLS_MODE_ISTIO, **planned.labels})

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        found = next((one for one in self.namespaces if one["metadata"]["name"] == name), {})
        return (found.get("metadata") or {}).get("labels") or {}


def _service_port(service: Object, number: int, reference: str) -> Object:
    ports = (service.get("spec") or {}).get("ports") or ()
    found: Object | None = next((port for port in ports if port.get("port") == number), None)
    if found is None:
        known = ", ".join(str(port.get("port")) for port in ports) or "none"
        raise InputError(f"Service {reference} has no port {number}.", next_step=f"Its ports: {known}.", port=number)
    return found
