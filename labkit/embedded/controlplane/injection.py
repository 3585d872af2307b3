"""What the injection webhook adds to a pod: istio-init, istio-proxy, labels, annotations, rewritten probes. Pure.

Whether a pod is injected at all is decided by `labkit.policy.injection`, and how by its annotation
`inject.istio.io/templates`: `sidecar`, or `gateway` for a proxy that stands alone, as Helm's chart `gateway` has it.
The containers are made in `injected_containers`. For a sidecar:

1. `istio-init` comes last of the init containers, so that those of the application run before the redirection.
2. `istio-proxy` comes last of the containers, so that `kubectl exec` and `logs` go to the application; with
   `holdApplicationUntilProxyStarts` it comes first, and a postStart hook holds the others back until it is ready.
3. Probes of the application are rewritten to port 15020 (httpGet, tcpSocket and grpc; exec probes run inside).
4. Labels that the pod has already are kept.

A gateway has no redirection, no probes to rewrite, and no label that it speaks mTLS: its ports are its own.

Simplified: the volumes of the SDS socket and of the token for istiod are absent, because istiod delivers files;
there is `istio-xds` instead. No native sidecars.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from labkit.embedded.controlplane.injected_containers import (
    INIT_CONTAINER,
    ROOT_CONFIGMAP,
    VOLUMES,
    InjectionSettings,
    gateway_container,
    init_container,
    merged,
    sidecar_container,
)
from labkit.embedded.controlplane.translation.model import METRICS_ENV
from labkit.embedded.controlplane.translation.special import AGENT_PORT
from labkit.errors import InputError
from labkit.policy.injection import REVISION
from labkit.policy.proxy_config import ProxySettings, proxy_settings, read_proxy_settings
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

__all__ = ["ROOT_CONFIGMAP", "InjectionSettings", "inject", "injection_settings", "make_patch"]

STATUS_ANNOTATION = "sidecar.istio.io/status"
REWRITE_ANNOTATION = "sidecar.istio.io/rewriteAppHTTPProbers"
CONFIG_ANNOTATION = "proxy.istio.io/config"
TEMPLATES_ANNOTATION = "inject.istio.io/templates"
SIDECAR, GATEWAY = "sidecar", "gateway"
TEMPLATES = (GATEWAY, SIDECAR)
DEFAULT_CONTAINER_ANNOTATIONS = (
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/default-logs-container",
)

_PATCHED = {"metadata": ("labels", "annotations"), "spec": ("initContainers", "containers", "volumes")}
_PROBES = {"livenessProbe": "livez", "readinessProbe": "readyz", "startupProbe": "startupz"}


def injection_settings(values: Mapping[str, Any], *, revision: str) -> InjectionSettings:
    """Read Helm's values, as the ConfigMap holds them: global.proxy and sidecarInjectorWebhook."""
    proxy = (values.get("global") or {}).get("proxy") or {}
    webhook = values.get("sidecarInjectorWebhook") or {}
    default = InjectionSettings(revision)
    return InjectionSettings(
        revision=revision,
        image=str(proxy.get("image") or default.image),
        log_level=str(proxy.get("logLevel") or default.log_level),
        hold_application=bool(proxy.get("holdApplicationUntilProxyStarts")),
        resources=proxy.get("resources") or {},
        rewrite_probes=webhook.get("rewriteAppHTTPProbe") is not False,
    )


def inject(pod: Object, namespace: str, settings: InjectionSettings) -> Object:
    """The pod with a proxy; `pod` itself is not changed. Raises InputError for an annotation that makes no sense."""
    pod = copy.deepcopy(pod)
    metadata = pod.setdefault("metadata", {})
    labels, annotations = metadata.setdefault("labels", {}), metadata.setdefault("annotations", {})
    template = _template(annotations)
    own = _take_own(pod["spec"])
    started_with = _started_with(pod, namespace, settings)
    workload = workload_name(pod)
    if template == GATEWAY:
        _inject_gateway(pod, namespace, workload, settings, started_with, own)
    else:
        _inject_sidecar(pod, namespace, workload, settings, started_with, own)
    _add_labels(labels, workload, sidecar=template == SIDECAR)
    pod["spec"]["volumes"] = [*(pod["spec"].get("volumes") or []), *copy.deepcopy(VOLUMES)]
    return pod


# pkg/kube/inject/webhook.go selectTemplates, RunTemplate
def _template(annotations: Mapping[str, str]) -> str:
    names = [one.strip() for one in annotations.get(TEMPLATES_ANNOTATION, SIDECAR).split(",")]
    unknown = [one for one in names if one not in TEMPLATES]
    if unknown:
        raise InputError(
            f'requested template "{unknown[0]}" not found; have {", ".join(TEMPLATES)}',
            next_step=f"Write one of them in the annotation {TEMPLATES_ANNOTATION}.",
            field=TEMPLATES_ANNOTATION,
        )
    return GATEWAY if GATEWAY in names else SIDECAR


def _take_own(spec: Object) -> Object:
    """What the pod itself says of its container istio-proxy, which the template is to complete."""
    own: Object = next((one for one in spec["containers"] if one["name"] == PROXY_CONTAINER), {})
    spec["containers"] = [one for one in spec["containers"] if one is not own]
    return own


def _inject_sidecar(
    pod: Object, namespace: str, workload: str, settings: InjectionSettings, started_with: ProxySettings, own: Object
) -> None:
    spec, annotations = pod["spec"], pod["metadata"]["annotations"]
    probers = dict(_rewrite_probes(spec, annotations, default=settings.rewrite_probes))
    proxy = sidecar_container(pod, namespace, workload, settings, probers)
    _merge_metrics(annotations, proxy)
    _configure(proxy, started_with)
    _add_annotations(annotations, spec, settings, inits=[INIT_CONTAINER])
    spec["initContainers"] = [*(spec.get("initContainers") or []), init_container(annotations, settings)]
    proxy = merged(proxy, own)
    first = started_with.hold_application
    spec["containers"] = [proxy, *spec["containers"]] if first else [*spec["containers"], proxy]


def _inject_gateway(
    pod: Object, namespace: str, workload: str, settings: InjectionSettings, started_with: ProxySettings, own: Object
) -> None:
    spec, annotations = pod["spec"], pod["metadata"]["annotations"]
    proxy = gateway_container(pod, namespace, workload, settings)
    _merge_metrics(annotations, proxy)
    _configure(proxy, replace(started_with, hold_application=False))
    pod["metadata"]["labels"].setdefault(REVISION, settings.revision)
    _add_annotations(annotations, spec, settings, inits=[])
    spec["containers"] = [*spec["containers"], merged(proxy, own)]


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
    found = proxy_settings(
        settings.proxy_configs, workload, settings.root_namespace, mesh=settings.proxy, annotation=annotation
    )
    return replace(found, hold_application=found.hold_application or settings.hold_application)


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


def _add_labels(labels: Object, workload: str, *, sidecar: bool) -> None:
    if sidecar:
        labels.setdefault(TLS_MODE_LABEL, TLS_MODE_ISTIO)
    name = labels.get("app.kubernetes.io/name") or labels.get("app") or workload
    labels.setdefault(CANONICAL_NAME, name)
    version = labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    labels.setdefault(CANONICAL_REVISION, version)


def _add_annotations(annotations: Object, spec: Object, settings: InjectionSettings, *, inits: list[str]) -> None:
    annotations[REVISION] = settings.revision
    for name in DEFAULT_CONTAINER_ANNOTATIONS if spec["containers"] else ():
        annotations.setdefault(name, spec["containers"][0]["name"])
    annotations[STATUS_ANNOTATION] = json.dumps(
        {
            "initContainers": inits or None,
            "containers": [PROXY_CONTAINER],
            "volumes": [volume["name"] for volume in VOLUMES],
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
    if own.get("port") == str(AGENT_PORT):  # they say so already, as those of Helm's gateways do
        return
    if own.get("port"):
        proxy["env"].append({"name": METRICS_ENV, "value": json.dumps(own, separators=(",", ":"))})
    new = {"scrape": "true", "port": str(AGENT_PORT), "path": "/stats/prometheus"}
    annotations.update({_SCRAPED + name: value for name, value in new.items()})


# Probes


def _rewrite_probes(spec: Object, annotations: Mapping[str, str], *, default: bool) -> Iterator[tuple[str, Object]]:
    """Point the probes at the proxy, in place; yields what each was, by its new path."""
    if annotations.get(REWRITE_ANNOTATION, "true" if default else "false") == "false":
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
