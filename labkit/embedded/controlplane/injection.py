"""What the injection webhook adds to a pod: istio-init, istio-proxy, labels, annotations, rewritten probes. Pure.

Whether a pod is injected at all is decided by `labkit.policy.injection`. The template is that of
manifests/charts/istio-control/istio-discovery/files/injection-template.yaml of istio/istio, as far as it has a
meaning here:

1. `istio-init` comes last of the init containers, so that those of the application run before the redirection.
2. `istio-proxy` comes last of the containers, so that `kubectl exec` and `logs` go to the application; with
   `holdApplicationUntilProxyStarts` it comes first, and a postStart hook holds the others back until it is ready.
3. Probes of the application are rewritten to port 15020 (httpGet, tcpSocket and grpc; exec probes run inside).
4. Labels that the pod has already are kept.

Simplified: the volumes of the SDS socket and of the token for istiod are absent, because istiod delivers files;
there is `istio-xds` instead. No native sidecars.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from labkit.embedded.controlplane.agent import XDS_MOUNT
from labkit.embedded.controlplane.translation.bootstrap import STATS_PORT
from labkit.embedded.controlplane.translation.model import EXCLUDE_INBOUND_ANNOTATION, METRICS_ENV, PROBERS_ENV
from labkit.embedded.controlplane.translation.special import AGENT_PORT, READY_PATH, READY_PORT
from labkit.errors import InputError
from labkit.policy.injection import REVISION
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.proxy_config import ProxyConfig, ProxySettings, proxy_settings, read_proxy_settings
from labkit.policy.workload import (
    CANONICAL_NAME,
    CANONICAL_REVISION,
    PROXY_CONTAINER,
    TLS_MODE_ISTIO,
    TLS_MODE_LABEL,
    workload_from_pod,
    workload_name,
)

Object = dict[str, Any]

INIT_CONTAINER = "istio-init"
STATUS_ANNOTATION = "sidecar.istio.io/status"
REWRITE_ANNOTATION = "sidecar.istio.io/rewriteAppHTTPProbers"
CONFIG_ANNOTATION = "proxy.istio.io/config"
LOG_LEVEL_ANNOTATION = "sidecar.istio.io/logLevel"
DEFAULT_CONTAINER_ANNOTATIONS = (
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/default-logs-container",
)

ROOT_CONFIGMAP = "istio-ca-root-cert"
PROXY_USER = 1337

_PATCHED = {"metadata": ("labels", "annotations"), "spec": ("initContainers", "containers", "volumes")}
_PROBES = {"livenessProbe": "livez", "readinessProbe": "readyz", "startupProbe": "startupz"}
_VOLUMES: list[Object] = [
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


def injection_settings(values: Mapping[str, Any], *, revision: str) -> InjectionSettings:
    """Read Helm's values, as the ConfigMap holds them: global.proxy.image and global.proxy.logLevel."""
    proxy = (values.get("global") or {}).get("proxy") or {}
    default = InjectionSettings(revision)
    return InjectionSettings(
        revision=revision,
        image=str(proxy.get("image") or default.image),
        log_level=str(proxy.get("logLevel") or default.log_level),
    )


def inject(pod: Object, namespace: str, settings: InjectionSettings) -> Object:
    """The pod with a sidecar; `pod` itself is not changed."""
    pod = copy.deepcopy(pod)
    metadata, spec = pod.setdefault("metadata", {}), pod["spec"]
    labels, annotations = metadata.setdefault("labels", {}), metadata.setdefault("annotations", {})
    workload = workload_name(pod)
    probers = dict(_rewrite_probes(spec, annotations))
    started_with = _started_with(pod, namespace, settings)
    proxy = _proxy_container(pod, namespace, workload, settings, probers)
    _merge_metrics(annotations, proxy)
    _configure(proxy, started_with)
    init = _init_container(annotations, settings)
    _add_labels(labels, workload)
    _add_annotations(annotations, spec, settings)
    spec["initContainers"] = [*(spec.get("initContainers") or []), init]
    first = started_with.hold_application
    spec["containers"] = [proxy, *spec["containers"]] if first else [*spec["containers"], proxy]
    spec["volumes"] = [*(spec.get("volumes") or []), *copy.deepcopy(_VOLUMES)]
    return pod


def _started_with(pod: Object, namespace: str, settings: InjectionSettings) -> ProxySettings:
    """What the mesh, ProxyConfigs and the pod's own annotation want this proxy to be started with."""
    workload = replace(workload_from_pod(pod), namespace=namespace)
    written = pod["metadata"]["annotations"].get(CONFIG_ANNOTATION)
    try:
        content = yaml.safe_load(written or "") or {}
        annotation = read_proxy_settings(content)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"The annotation {CONFIG_ANNOTATION} of the pod cannot be read: {error}",
            next_step="Write it as YAML, for example 'holdApplicationUntilProxyStarts: true'.",
            field=CONFIG_ANNOTATION,
        ) from error
    return proxy_settings(
        settings.proxy_configs, workload, settings.root_namespace, mesh=settings.proxy, annotation=annotation
    )


def _configure(proxy: Object, wanted: ProxySettings) -> None:
    """Bring the settings into the container, as Istio's template does."""
    config: Object = {}
    if wanted.concurrency is not None:
        config["concurrency"] = wanted.concurrency
        proxy["args"] += ["--concurrency", str(wanted.concurrency)]
    if wanted.environment:
        config["proxyMetadata"] = dict(wanted.environment)
    if wanted.hold_application:
        config["holdApplicationUntilProxyStarts"] = True
        proxy["lifecycle"] = {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    own = next(one for one in proxy["env"] if one["name"] == "PROXY_CONFIG")
    own["value"] = json.dumps(config, separators=(",", ":"))
    proxy["env"] += [{"name": name, "value": value} for name, value in wanted.environment.items()]


def make_patch(before: Object, after: Object) -> list[Object]:
    """The JSON patch between two pods that differ where `inject` changes them, RFC 6902."""
    patch: list[Object] = [] if "metadata" in before else [{"op": "add", "path": "/metadata", "value": {}}]
    for part, names in _PATCHED.items():
        for name in names:
            new = after[part].get(name)
            if before.get(part, {}).get(name) != new:
                # "add" puts a member in, or in the place of the one that is there.
                patch.append({"op": "add", "path": f"/{part}/{name}", "value": new})
    return patch


def _add_labels(labels: Object, workload: str) -> None:
    labels.setdefault(TLS_MODE_LABEL, TLS_MODE_ISTIO)
    name = labels.get("app.kubernetes.io/name") or labels.get("app") or workload
    labels.setdefault(CANONICAL_NAME, name)
    version = labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    labels.setdefault(CANONICAL_REVISION, version)


def _add_annotations(annotations: Object, spec: Object, settings: InjectionSettings) -> None:
    annotations[REVISION] = settings.revision
    for name in DEFAULT_CONTAINER_ANNOTATIONS:
        annotations.setdefault(name, spec["containers"][0]["name"])
    annotations[STATUS_ANNOTATION] = json.dumps(
        {
            "initContainers": [INIT_CONTAINER],
            "containers": [PROXY_CONTAINER],
            "volumes": [volume["name"] for volume in _VOLUMES],
            "imagePullSecrets": None,
            "revision": settings.revision,
        },
        separators=(",", ":"),
    )


# Metrics

MERGE_ANNOTATION = "prometheus.istio.io/merge-metrics"
_SCRAPED = "prometheus.io/"


def _merge_metrics(annotations: Object, proxy: Object) -> None:
    """Point whoever scrapes this pod to the sidecar, which adds the application's own metrics to its page.

    https://istio.io/latest/docs/ops/integrations/prometheus/#option-1-metrics-merging ; a pod that says
    `prometheus.io/scrape: "false"`, or that it wants no merging, keeps its annotations.
    """
    own = {name: annotations[_SCRAPED + name] for name in ("scrape", "path", "port") if _SCRAPED + name in annotations}
    if annotations.get(MERGE_ANNOTATION) == "false" or own.get("scrape") == "false":
        return
    if own.get("port"):
        proxy["env"].append({"name": METRICS_ENV, "value": json.dumps(own, separators=(",", ":"))})
    new = {"scrape": "true", "port": str(AGENT_PORT), "path": "/stats/prometheus"}
    annotations.update({_SCRAPED + name: value for name, value in new.items()})


# Probes


def _rewrite_probes(spec: Object, annotations: Mapping[str, str]) -> Iterator[tuple[str, Object]]:
    """Point the probes at the proxy, in place; yields what each was, by its new path."""
    if annotations.get(REWRITE_ANNOTATION) == "false":
        return
    for container in spec["containers"]:
        for kind, suffix in _PROBES.items():
            probe = container.get(kind)
            found = next((way for way in ("httpGet", "tcpSocket", "grpc") if probe and way in probe), None)
            if not found:
                continue
            path = f"/app-health/{container['name']}/{suffix}"
            settings = {**probe.pop(found)}
            settings["port"] = _port_number(settings["port"], container)
            probe["httpGet"] = {"path": path, "port": AGENT_PORT, "scheme": "HTTP"}
            yield path, {found: settings, "timeoutSeconds": probe.get("timeoutSeconds") or 1}


def _port_number(port: int | str, container: Object) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    named = (p["containerPort"] for p in container.get("ports") or () if p.get("name") == port)
    # A name that is declared nowhere fails the probe, as it does with the kubelet; no application has port 0.
    return int(next(named, 0))


# Containers


_REDIRECTION = tuple(f"istio-iptables -p 15001 -z 15006 -u {PROXY_USER} -m REDIRECT -i * -x  -b *".split(" "))


def _init_container(annotations: Mapping[str, str], settings: InjectionSettings) -> Object:
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


def _proxy_container(
    pod: Object, namespace: str, workload: str, settings: InjectionSettings, probers: Object
) -> Object:
    annotations = pod["metadata"]["annotations"]
    level = annotations.get(LOG_LEVEL_ANNOTATION) or settings.log_level
    ready = {"httpGet": {"path": READY_PATH, "port": READY_PORT}, "timeoutSeconds": 3}
    return {
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "args": [
            *("proxy", "sidecar", "--domain", f"$(POD_NAMESPACE).svc.{settings.cluster_domain}"),
            *(f"--proxyLogLevel={level}", "--log_output_level=default:info"),
        ],
        "ports": [{"containerPort": STATS_PORT, "name": "http-envoy-prom", "protocol": "TCP"}],
        "env": _environment(pod, namespace, workload, settings, probers),
        "startupProbe": {**ready, "failureThreshold": 600, "periodSeconds": 1},
        "readinessProbe": {**ready, "failureThreshold": 4, "periodSeconds": 15},
        "resources": _resources(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": PROXY_USER,
            "runAsNonRoot": True,
            "runAsUser": PROXY_USER,
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in _MOUNTS.items()],
    }


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
