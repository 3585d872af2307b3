"""The containers that injection adds: istio-init, and istio-proxy beside an application or alone, as a gateway. Pure.

The templates are manifests/charts/istio-control/istio-discovery/files/injection-template.yaml and
gateway-injection-template.yaml of istio/istio, as far as they have a meaning here. What a pod itself says of its
container istio-proxy goes before the template (pkg/kube/inject/inject.go reapplyOverwrittenContainers); the image
`auto` stands for the template's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.embedded.controlplane.agent import XDS_MOUNT
from labkit.embedded.controlplane.translation.bootstrap import STATS_PORT
from labkit.embedded.controlplane.translation.model import EXCLUDE_INBOUND_ANNOTATION, PROBERS_ENV
from labkit.embedded.controlplane.translation.special import AGENT_PORT, READY_PATH, READY_PORT
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.proxy_config import ProxyConfig, ProxySettings
from labkit.policy.workload import AUTO_IMAGE, PROXY_CONTAINER

Object = dict[str, Any]

INIT_CONTAINER = "istio-init"
LOG_LEVEL_ANNOTATION = "sidecar.istio.io/logLevel"
ROOT_CONFIGMAP = "istio-ca-root-cert"
PROXY_USER = 1337
VOLUMES: list[Object] = [
    {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
    {"name": "istio-data", "emptyDir": {}},
    {
        "name": "istio-podinfo",
        "downwardAPI": {
            "items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
            ]
        },
    },
    {"name": "istiod-ca-cert", "configMap": {"name": ROOT_CONFIGMAP}},
    {"name": "istio-xds", "hostPath": {"path": f"/{XDS_MOUNT}", "type": "DirectoryOrCreate"}},
]
_MOUNTS = {
    "istio-envoy": "/etc/istio/proxy",
    "istio-data": "/var/lib/istio/data",
    "istio-podinfo": "/etc/istio/pod",
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-xds": f"/{XDS_MOUNT}",
}


@dataclass(frozen=True)
class InjectionSettings:
    """What the template needs to know of the mesh, from the ConfigMap `istio-sidecar-injector` and the settings."""

    revision: str
    image: str = "docker.io/istio/proxyv2:1.24.0"
    log_level: str = "warning"
    cluster_domain: str = "cluster.local"
    trust_domain: str = "cluster.local"
    root_namespace: str = ROOT_NAMESPACE
    proxy: ProxySettings = field(default_factory=ProxySettings)
    """meshConfig.defaultConfig."""
    proxy_configs: tuple[ProxyConfig, ...] = ()
    hold_application: bool = False
    """Helm's global.proxy.holdApplicationUntilProxyStarts."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    rewrite_probes: bool = True


_REDIRECTION = tuple(f"istio-iptables -p 15001 -z 15006 -u {PROXY_USER} -m REDIRECT -i * -x  -b *".split(" "))


def init_container(annotations: Mapping[str, str], settings: InjectionSettings) -> Object:
    """What switches the redirection on, but for the proxy's own ports and those that the pod excludes."""
    own = [STATS_PORT, READY_PORT, AGENT_PORT]
    excluded = [port for port in re.split(r"[,\s]+", annotations.get(EXCLUDE_INBOUND_ANNOTATION) or "") if port]
    ports = ",".join([*map(str, own), *excluded])
    return {
        "name": INIT_CONTAINER,
        "image": settings.image,
        "args": [*_REDIRECTION, "-d", ports, "--log_output_level=default:info"],
        "resources": _resources(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }


def sidecar_container(
    pod: Object, namespace: str, workload: str, settings: InjectionSettings, probers: Object
) -> Object:
    """The proxy beside an application; `probers` are the application's own probes, by their new paths."""
    ready = {"httpGet": {"path": READY_PATH, "port": READY_PORT}, "timeoutSeconds": 3}
    return {
        **_proxy("sidecar", pod, namespace, workload, settings, probers),
        "startupProbe": {**ready, "failureThreshold": 600, "periodSeconds": 1},
        "readinessProbe": {**ready, "failureThreshold": 4, "periodSeconds": 15},
        "resources": dict(settings.resources) or _resources(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": PROXY_USER,
            "runAsNonRoot": True,
            "runAsUser": PROXY_USER,
        },
    }


def gateway_container(pod: Object, namespace: str, workload: str, settings: InjectionSettings) -> Object:
    """The proxy that stands alone. Resources and security are what the pod itself says."""
    ready = {"httpGet": {"path": READY_PATH, "port": READY_PORT}, "timeoutSeconds": 3}
    return {
        **_proxy("router", pod, namespace, workload, settings, {}),
        "readinessProbe": {**ready, "failureThreshold": 4, "periodSeconds": 15},
    }


def _proxy(
    role: str, pod: Object, namespace: str, workload: str, settings: InjectionSettings, probers: Object
) -> Object:
    level = pod["metadata"]["annotations"].get(LOG_LEVEL_ANNOTATION) or settings.log_level
    return {
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "args": [
            *("proxy", role, "--domain", f"$(POD_NAMESPACE).svc.{settings.cluster_domain}"),
            *(f"--proxyLogLevel={level}", "--log_output_level=default:info"),
        ],
        "ports": [{"containerPort": STATS_PORT, "name": "http-envoy-prom", "protocol": "TCP"}],
        "env": _environment(pod, namespace, workload, settings, probers),
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in _MOUNTS.items()],
    }


_LIST_KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath"}
"""By which field entries of a list are the same one, as in Kubernetes' strategic merge."""


def merged(template: Object, own: Object) -> Object:
    """The template's container, with what the pod says of it itself."""
    said = {key: value for key, value in own.items() if (key, value) != ("image", AUTO_IMAGE)}
    return _merged(template, said)


def _merged(under: Object, over: Object) -> Object:
    result = dict(under)
    for name, value in over.items():
        before = under.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            result[name] = _merged(before, value)
        elif isinstance(before, list) and isinstance(value, list) and (key := _LIST_KEYS.get(name)):
            new = {entry.get(key) for entry in value}
            result[name] = [*(entry for entry in before if entry.get(key) not in new), *value]
        elif value is not None:
            result[name] = value
    return result


def _environment(
    pod: Object, namespace: str, workload: str, settings: InjectionSettings, probers: Object
) -> list[Object]:
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "INSTANCE_IP": "status.podIP",
        "SERVICE_ACCOUNT": "spec.serviceAccountName",
        "HOST_IP": "status.hostIP",
        "ISTIO_META_NODE_NAME": "spec.nodeName",
    }
    containers = pod["spec"]["containers"]
    ports = [port for container in containers for port in container.get("ports") or ()]
    values = {
        "PROXY_CONFIG": "{}",
        "ISTIO_META_POD_PORTS": json.dumps(ports, separators=(",", ":")),
        "ISTIO_META_APP_CONTAINERS": ",".join(container["name"] for container in containers),
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_META_WORKLOAD_NAME": workload,
        "ISTIO_META_OWNER": _owner(pod, namespace, workload),
        "ISTIO_META_MESH_ID": settings.trust_domain,
        "TRUST_DOMAIN": settings.trust_domain,
    }
    if probers:
        values[PROBERS_ENV] = json.dumps(probers, separators=(",", ":"))
    return [
        *(
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in fields.items()
        ),
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _owner(pod: Object, namespace: str, workload: str) -> str:
    references = pod["metadata"].get("ownerReferences") or ()
    owner: Object = next((o for o in references if o.get("controller")), {"kind": "Pod", "apiVersion": "v1"})
    kind, version = owner["kind"], owner["apiVersion"]
    if kind == "ReplicaSet" and workload != owner.get("name"):
        kind = "Deployment"
    return f"kubernetes://apis/{version}/namespaces/{namespace}/{kind.lower()}s/{workload}"


def _resources() -> Object:
    return {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
