"""What the translation knows of the cluster: mesh settings, services with their endpoints, pods with a sidecar.

Read from Kubernetes objects as dictionaries; nothing here asks for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labkit.embedded.controlplane.translation import log_formats
from labkit.embedded.controlplane.translation.log_formats import FileLog
from labkit.embedded.wire import RENEW_INSIDE
from labkit.policy.authorization import AuthorizationPolicy
from labkit.policy.configs import service_export_to
from labkit.policy.destination_rule import DestinationRule, destination_rule
from labkit.policy.envoy_filter import EnvoyFilter
from labkit.policy.gateway import Gateway
from labkit.policy.identity import TRUST_DOMAIN
from labkit.policy.inbound import MAX_TLS_VERSION, MIN_TLS_VERSION
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import (
    ROOT_NAMESPACE,
    EffectiveMTLS,
    PeerAuthentication,
    compose_peer_authentication,
    namespace_mode,
)
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.proxy_config import ProxySettings, read_proxy_settings
from labkit.policy.request_authentication import KeySource, RequestAuthentication
from labkit.policy.sidecar_scope import ALLOW_ANY, SidecarScope
from labkit.policy.telemetry import FILE_PROVIDER, Telemetry
from labkit.policy.virtual_service import VirtualService
from labkit.policy.wasm_plugin import WasmPlugin
from labkit.policy.workload import PROXY_CONTAINER, Workload, labels_match, workload_from_pod

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class ObjectReference:
    """An object of the API, as an Event names it."""

    kind: str
    namespace: str
    name: str
    api_version: str = ""
    uid: str = ""


SERVICE_LABEL = "kubernetes.io/service-name"
PROBERS_ENV = "ISTIO_KUBE_APP_PROBERS"
"""Where injection leaves the application's own probes, on the container istio-proxy."""

METRICS_ENV = "ISTIO_PROMETHEUS_ANNOTATIONS"
"""Where it leaves what the pod's annotations said of the application's own metrics."""

EXCLUDE_INBOUND_ANNOTATION = "traffic.sidecar.istio.io/excludeInboundPorts"

CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True)
class MeshConfig:
    """The settings of the whole mesh, https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/."""

    root_namespace: str = ROOT_NAMESPACE
    trust_domain: str = TRUST_DOMAIN
    trust_domain_aliases: tuple[str, ...] = ()
    auto_mtls: bool = True
    outbound_policy: str = ALLOW_ANY
    proxy: ProxySettings = field(default_factory=ProxySettings)
    """`defaultConfig`: what new proxies are started with."""
    access_log_file: str = log_formats.STANDARD_OUTPUT
    default_log: FileLog = field(default_factory=lambda: FileLog(FILE_PROVIDER))
    log_providers: tuple[FileLog, ...] = ()
    """`extensionProviders` that write access logs."""
    default_access_logs: tuple[str, ...] = ()
    """The names of `defaultProviders.accessLogging`."""
    minimum_tls: str = MIN_TLS_VERSION
    cipher_suites: tuple[str, ...] = ()


def mesh_config(values: Object, *, root_namespace: str) -> MeshConfig:
    """The mesh settings from the content of the ConfigMap `istio`; what it does not name has Istio's default."""
    mtls = values.get("meshMTLS") or {}
    # minProtocolVersion is TLSV1_2, TLSV1_3 or TLS_AUTO, and AUTO means 1.2 (authn/utils/utils.go).
    newest = mtls.get("minProtocolVersion") == "TLSV1_3"
    return MeshConfig(
        root_namespace=values.get("rootNamespace") or root_namespace,
        trust_domain=values.get("trustDomain") or TRUST_DOMAIN,
        trust_domain_aliases=tuple(values.get("trustDomainAliases") or ()),
        auto_mtls=values.get("enableAutoMtls", True) is not False,
        proxy=read_proxy_settings(values.get("defaultConfig") or {}),
        outbound_policy=str((values.get("outboundTrafficPolicy") or {}).get("mode") or ALLOW_ANY),
        access_log_file=str(values.get("accessLogFile", "/dev/stdout") or ""),
        default_log=log_formats.default_log(values, FILE_PROVIDER),
        log_providers=log_formats.read_providers(values),
        default_access_logs=tuple((values.get("defaultProviders") or {}).get("accessLogging") or ()),
        minimum_tls=MAX_TLS_VERSION if newest else MIN_TLS_VERSION,
        cipher_suites=tuple(mtls.get("cipherSuites") or ()),
    )


@dataclass(frozen=True)
class ServicePort:
    """One port of a Service; `target` is a container port's number or name."""

    number: int
    name: str
    protocol: Protocol
    target: int | str


@dataclass(frozen=True)
class Service:
    """A Service with a ClusterIP, a headless one (`cluster_ip` empty), or a host of a ServiceEntry (see `outside`)."""

    namespace: str
    name: str
    cluster_ip: str
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    hostname: str = ""
    """The name of a host outside of Kubernetes."""
    mesh_external: bool = False
    resolution: str = ""
    """How a proxy finds the endpoints, if not from EndpointSlices (`policy.service_entry.Resolution`)."""
    export_to: frozenset[str] = frozenset()
    subject_alt_names: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def host(self) -> str:
        return self.hostname or f"{self.name}.{self.namespace}.svc.{CLUSTER_DOMAIN}"

    def selects(self, workload: Workload) -> bool:
        """Whether the pod is meant to stand behind this Service, ready or not."""
        return (
            bool(self.selector)
            and self.namespace == workload.namespace
            and labels_match(self.selector, workload.labels)
        )


def service_hosts(service: Service) -> tuple[str, ...]:
    """The names under which everybody in the cluster finds a Service."""
    short = f"{service.name}.{service.namespace}"
    return (short, f"{short}.svc", service.host) if service.cluster_ip else ()


def read_service(obj: Object) -> Service:
    """Read a Service; only its TCP ports, because a sidecar captures nothing else."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    address = spec.get("clusterIP") or ""
    ports = (
        ServicePort(
            number=int(port["port"]),
            name=port.get("name") or "",
            protocol=protocol_of(port),
            target=port.get("targetPort") or int(port["port"]),
        )
        for port in spec.get("ports") or ()
    )
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        cluster_ip="" if address == "None" else address,
        ports=tuple(port for port in ports if port.protocol is not Protocol.UDP),
        selector=dict(spec.get("selector") or {}),
        created=str(metadata.get("creationTimestamp") or ""),
        export_to=service_export_to(metadata),
    )


@dataclass(frozen=True)
class Endpoint:
    """One address behind one port of a Service; `port` as the container declares it. A host outside of Kubernetes may
    have a name for an address.
    """

    address: str
    port: int
    ready: bool
    workload: Workload | None
    weight: int = 0
    renewed: str = ""
    """When its clients were last asked to open new connections; see `read_endpoints`."""


@dataclass(frozen=True)
class HttpProbe:
    """A probe of the application that the sidecar makes, because only it reaches the inside of the pod."""

    path: str
    """Where the kubelet asks: /app-health/<container>/{livez,readyz,startupz}."""
    kind: str
    """httpGet, tcpSocket or grpc."""
    port: int
    settings: Mapping[str, Any]
    timeout_seconds: int = 1


@dataclass(frozen=True)
class Sidecar:
    """A pod that has a proxy: the workload, where it lives, and how its application is probed."""

    workload: Workload
    probes: tuple[HttpProbe, ...] = ()
    excluded_ports: frozenset[int] = frozenset()
    """Container ports that the pod keeps from the redirection."""
    app_metrics: tuple[int, str] | None = None
    """Port and path of the application's own metrics, which the proxy adds to its page."""
    gateway: bool = False
    """Whether it stands alone, as a gateway, and beside no application."""
    renewed: str = ""
    """When it was last asked to open new connections to its application (`labkit.embedded.wire`)."""

    @property
    def key(self) -> Key:
        return self.workload.namespace, self.workload.name

    @property
    def address(self) -> str:
        return self.workload.address


def read_sidecar(pod: Object) -> Sidecar | None:
    """The sidecar of a pod, or None: it has none, or no address yet, or it has ended."""
    workload = workload_from_pod(pod)
    phase = (pod.get("status") or {}).get("phase")
    if not workload.injected or not workload.address or phase in ("Succeeded", "Failed"):
        return None
    renewed = (pod["metadata"].get("annotations") or {}).get(RENEW_INSIDE) or ""
    return Sidecar(workload, tuple(_probes(pod)), _excluded_ports(pod), _app_metrics(pod), _is_gateway(pod), renewed)


def _is_gateway(pod: Object) -> bool:
    """`pilot-agent proxy router`: the proxy's own arguments say what it is."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return any(one["name"] == PROXY_CONTAINER and "router" in (one.get("args") or ()) for one in containers)


def _excluded_ports(pod: Object) -> frozenset[int]:
    listed = (pod["metadata"].get("annotations") or {}).get(EXCLUDE_INBOUND_ANNOTATION) or ""
    return frozenset(int(port) for port in re.split(r"[,\s]+", listed) if port.isdigit())


def _proxy_setting(pod: Object, name: str) -> Any:
    """What a variable of the container istio-proxy says in JSON; an empty object without it."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    proxy = next(container for container in containers if container.get("name") == PROXY_CONTAINER)
    written = next((env.get("value") for env in proxy.get("env") or () if env.get("name") == name), None)
    return json.loads(written or "{}")


def _app_metrics(pod: Object) -> tuple[int, str] | None:
    own = _proxy_setting(pod, METRICS_ENV)
    port = str(own.get("port") or "")
    return (int(port), own.get("path") or "/metrics") if port.isdigit() else None


def _probes(pod: Object) -> Iterable[HttpProbe]:
    for path, probe in _proxy_setting(pod, PROBERS_ENV).items():
        for kind in ("httpGet", "tcpSocket", "grpc"):
            if kind in probe:
                settings = probe[kind]
                yield HttpProbe(path, kind, int(settings["port"]), settings, int(probe.get("timeoutSeconds") or 1))


def read_endpoints(
    service: Service,
    slices: Iterable[Object],
    workloads: Mapping[Key, Workload],
    renewed: Mapping[Key, str] | None = None,
) -> dict[str, tuple[Endpoint, ...]]:
    """The endpoints of a Service by the name of its port, in the order of their addresses.

    A slice names what stands behind an address in `targetRef`; only of a pod do we know the identity. `renewed` has
    the pods whose clients are asked to open new connections (`labkit.embedded.wire`), and the time of it.
    """
    renewed = renewed or {}
    found: dict[str, dict[str, Endpoint]] = {port.name: {} for port in service.ports}
    for endpoint_slice in slices:
        for port in endpoint_slice.get("ports") or ():
            name, number = port.get("name") or "", port.get("port")
            if name not in found or not number:
                continue
            for entry in endpoint_slice.get("endpoints") or ():
                reference = entry.get("targetRef") or {}
                pod = (reference.get("namespace") or service.namespace, reference.get("name") or "")
                workload, since = workloads.get(pod), renewed.get(pod, "")
                ready = (entry.get("conditions") or {}).get("ready") is not False
                for address in entry.get("addresses") or ():
                    found[name][address] = Endpoint(address, int(number), ready, workload, renewed=since)
    return {name: tuple(by_address[a] for a in sorted(by_address)) for name, by_address in found.items()}


@dataclass(frozen=True)
class Snapshot:
    """Everything that the translation of one moment reads."""

    mesh: MeshConfig = field(default_factory=MeshConfig)
    services: Mapping[Key, Service] = field(default_factory=dict)
    endpoints: Mapping[Key, Mapping[str, tuple[Endpoint, ...]]] = field(default_factory=dict)
    policies: tuple[PeerAuthentication, ...] = ()
    configs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The objects of Istio's other kinds, parsed, by kind; read them through the properties below."""
    jwks: Mapping[KeySource, str] = field(default_factory=dict)
    """The keys of token issuers that istiod has fetched."""
    effective: dict[Key, EffectiveMTLS] = field(default_factory=dict, compare=False, repr=False)
    """What is known already of `effective_mtls`: one push asks for a workload many times, and the next one again."""

    def effective_mtls(self, workload: Workload) -> EffectiveMTLS:
        """What the workload accepts, port by port."""
        key = (workload.namespace, workload.name)
        if key not in self.effective:
            mine = [one for one in self.policies if one.namespace in (workload.namespace, self.mesh.root_namespace)]
            self.effective[key] = compose_peer_authentication(mine, workload, self.mesh.root_namespace)
        return self.effective[key]

    @property
    def authorization_policies(self) -> tuple[AuthorizationPolicy, ...]:
        return self.configs.get("AuthorizationPolicy", ())

    @property
    def request_authentications(self) -> tuple[RequestAuthentication, ...]:
        return self.configs.get("RequestAuthentication", ())

    @property
    def virtual_services(self) -> tuple[VirtualService, ...]:
        return self.configs.get("VirtualService", ())

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        return self.configs.get("Gateway", ())

    @property
    def destination_rules(self) -> tuple[DestinationRule, ...]:
        return self.configs.get("DestinationRule", ())

    def rule_for(self, client: Workload, service: Service) -> DestinationRule | None:
        """The DestinationRule that a client follows for a service."""
        if not self.destination_rules:
            return None
        return destination_rule(
            self.destination_rules, client, service.namespace, service.host, self.mesh.root_namespace
        )

    @cached_property
    def some_pass_through(self) -> bool:
        """Whether a rule leads connections where the application meant (`loadBalancer.simple: PASSTHROUGH`)."""
        levels = (one for rule in self.destination_rules for one in (rule.policy, *(s.policy for s in rule.subsets)))
        policies = (one for level in levels if level for one in (level, *level.ports.values()))
        return any((one.load_balancer or {}).get("simple") == "PASSTHROUGH" for one in policies)

    @property
    def sidecar_scopes(self) -> tuple[SidecarScope, ...]:
        return self.configs.get("Sidecar", ())

    @property
    def envoy_filters(self) -> tuple[EnvoyFilter, ...]:
        return self.configs.get("EnvoyFilter", ())

    @property
    def telemetries(self) -> tuple[Telemetry, ...]:
        return self.configs.get("Telemetry", ())

    @property
    def wasm_plugins(self) -> tuple[WasmPlugin, ...]:
        return self.configs.get("WasmPlugin", ())

    def namespace_mode(self, namespace: str) -> MutualTLSMode | None:
        """The mode of a namespace as clients look it up; None when no policy says anything."""
        if namespace not in self._namespace_modes:
            self._namespace_modes[namespace] = namespace_mode(self.policies, namespace, self.mesh.root_namespace)
        return self._namespace_modes[namespace]

    @cached_property
    def _namespace_modes(self) -> dict[str, MutualTLSMode | None]:
        return {}

    @cached_property
    def needs_choice(self) -> bool:
        """Whether some service is not for everybody, or two have one host."""
        services = self.services.values()
        return any(one.export_to for one in services) or len({one.host for one in services}) < len(services)

    def service_named(self, host: str) -> Service | None:
        """The service of a host name."""
        return self._by_host.get(host)

    @cached_property
    def _by_host(self) -> dict[str, Service]:
        return {service.host: service for service in reversed([*self.services.values()])}

    def services_in_order(self) -> list[Service]:
        """All services, oldest first: where two want the same, Istio prefers the older one."""
        return sorted(self.services.values(), key=lambda service: (service.created, service.key))

    def services_of(self, workload: Workload) -> list[Service]:
        """The services that a workload stands behind."""
        return [service for service in self.services_in_order() if service.selects(workload)]


def target_port(port: ServicePort, workload: Workload) -> int | None:
    """The container port that a Service's port means on this workload; None if its name is not declared there."""
    if isinstance(port.target, int):
        return port.target
    if port.target.isdigit():
        return int(port.target)
    return next((declared.number for declared in workload.ports if declared.name == port.target), None)
