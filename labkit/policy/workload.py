"""A workload as the policies see it: a pod reduced to what selection, identity and mTLS depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

AUTO_IMAGE = "auto"
"""The image of a container istio-proxy that injection is to complete."""

PROXY_CONTAINER = "istio-proxy"

# https://istio.io/latest/docs/reference/config/labels/ ; pilot/pkg/model/endpointshards, pkg/kube/inject
TLS_MODE_LABEL = "security.istio.io/tlsMode"
TLS_MODE_ISTIO = "istio"
CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"


@dataclass(frozen=True)
class ContainerPort:
    """A port that a container declares. Undeclared ports can be served too: the declaration only informs."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True)
class Workload:
    """One pod, or all pods of a template: namespace, name, labels, identity, ports, and whether it has a sidecar."""

    namespace: str
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    ports: tuple[ContainerPort, ...] = ()
    injected: bool = False
    address: str = ""
    owner: str = ""
    """The name of what made the pod: its Deployment, or another owner."""
    # What a workload is does not change when it becomes ready.
    ready: bool = field(default=True, compare=False)

    @property
    def tls_mode(self) -> str:
        """What clients are told of this endpoint: `istio` means that its sidecar can answer mTLS.

        It is read from the label that injection sets, not from the containers; that is how a stale label fools
        clients in life, too.
        """
        return self.labels.get(TLS_MODE_LABEL, "disabled")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else self.namespace


def labels_match(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every label of `selector` is present and equal in `labels`; an empty selector matches all."""
    return all(labels.get(key) == value for key, value in selector.items())


def is_owned(template: Mapping[str, Any]) -> bool:
    """Whether somebody else answers for a template: a ReplicaSet of a Deployment is its Deployment's business."""
    return any(owner.get("controller") for owner in (template.get("metadata") or {}).get("ownerReferences") or ())


def has_pods(template: Mapping[str, Any], labels: Iterable[Mapping[str, str]]) -> bool:
    """Whether one of these pods, by its labels, is of the template."""
    selector = ((template.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return bool(selector) and any(labels_match(selector, one) for one in labels)


def workload_from_pod(pod: Mapping[str, Any]) -> Workload:
    """The workload of a Pod object, or of a pod template with `metadata` and `spec`."""
    metadata = pod.get("metadata") or {}
    spec = pod.get("spec") or {}
    return Workload(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name") or metadata.get("generateName", ""),
        labels=dict(metadata.get("labels") or {}),
        service_account=spec.get("serviceAccountName") or "default",
        ports=_ports(spec),
        injected=has_sidecar(pod),
        address=(pod.get("status") or {}).get("podIP") or "",
        ready=is_ready(pod),
        owner=workload_name(pod),
    )


def workload_name(pod: Mapping[str, Any]) -> str:
    """The name of what made the pod: its Deployment, or its other owner, or itself.

    pkg/kube/inject/webhook.go GetDeployMetaFromPod: a ReplicaSet whose name ends in the pod's template hash belongs
    to the Deployment before it.
    """
    metadata = pod.get("metadata") or {}
    owner: Mapping[str, Any] = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), {})
    name = owner.get("name") or metadata.get("name") or (metadata.get("generateName") or "").removesuffix("-")
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash")
    if owner.get("kind") == "ReplicaSet" and template_hash:
        return str(name).removesuffix(f"-{template_hash}")
    return str(name)


def has_sidecar(pod: Mapping[str, Any], *, complete: bool = False) -> bool:
    """Whether the pod has an `istio-proxy` container; with `complete`, one that injection need not finish.

    A native sidecar is an init container with restartPolicy Always, so both lists are looked through.
    """
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    named = [container for container in containers if container.get("name") == PROXY_CONTAINER]
    return any(not complete or one.get("image") != AUTO_IMAGE for one in named)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Ready by the pod's condition; without any status it counts as ready, so that manifests can be judged."""
    status = pod.get("status") or {}
    conditions = {one.get("type"): one.get("status") for one in status.get("conditions") or ()}
    return bool(conditions.get("Ready", "False" if status.get("phase") else "True") == "True")


def _ports(spec: Mapping[str, Any]) -> tuple[ContainerPort, ...]:
    """The ports of the application's containers; those of the proxy are not the workload's."""
    return tuple(
        ContainerPort(int(port["containerPort"]), port.get("name") or "", port.get("protocol") or "TCP")
        for container in spec.get("containers") or ()
        if container.get("name") != PROXY_CONTAINER
        for port in container.get("ports") or ()
    )
