"""A pod and its Services, without its proxy: ports, readiness, labels, protocols. Pure."""

from __future__ import annotations

import json
from typing import Any

from labkit.cluster import Obj
from labkit.observe.describe.words import REQUIREMENTS, Writer
from labkit.observe.objects import PROXY, annotations_of, is_injected, labels_of
from labkit.policy import workload_from_pod
from labkit.policy.calls import target_port
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.workload import CANONICAL_NAME, CANONICAL_REVISION

PROXY_USER = 1337

# Labels that tell a service's name or revision, https://istio.io/latest/docs/ops/deployment/application-requirements/
_NAMES = (CANONICAL_NAME, "app.kubernetes.io/name", "app")
_REVISIONS = (CANONICAL_REVISION, "app.kubernetes.io/version", "version")

# pkg/config/protocol/instance.go: how Istio writes them
_WRITTEN = {
    Protocol.GRPC_WEB: "GRPC-Web",
    Protocol.MONGO: "Mongo",
    Protocol.REDIS: "Redis",
    Protocol.MYSQL: "MySQL",
    Protocol.UNDECLARED: "UnsupportedProtocol",
}


def revision_of(pod: Obj) -> str:
    """The revision of the control plane that injected the pod."""
    annotations = annotations_of(pod)
    if told := annotations.get("istio.io/rev"):
        return told
    try:
        return str(json.loads(annotations.get("sidecar.istio.io/status") or "{}").get("revision") or "")
    except (ValueError, AttributeError):
        return ""


def write_pod(writer: Writer, pod: Obj, *, ignore_unmeshed: bool = False) -> None:
    """The first lines: who it is, its ports, and what is wrong with it."""
    containers = pod["spec"].get("containers") or []
    ports = [_port(port, one["name"]) for one in containers for port in one.get("ports") or ()]
    for one in containers:
        if one["name"] != PROXY and (one.get("securityContext") or {}).get("runAsUser") == PROXY_USER:
            writer.warn(f"WARNING: User ID (UID) {PROXY_USER} is reserved for the sidecar proxy.")
    writer.say(f"Pod: {writer.name(pod)}")
    writer.say(f"Pod Revision: {revision_of(pod)}", 3)
    writer.say(f"Pod Ports: {', '.join(ports)}" if ports else "Pod does not expose ports", 3)
    phase = pod.get("status", {}).get("phase", "")
    if phase != "Running":
        writer.warn(f"Pod is not Running ({phase})", 3)
        return
    _write_readiness(writer, pod)
    if ignore_unmeshed:
        return
    if not is_injected(pod):
        writer.warn(f"WARNING: {writer.name(pod)} is not part of mesh; no Istio sidecar")
        return
    if (pod["spec"].get("securityContext") or {}).get("runAsUser") == PROXY_USER:
        writer.warn(f"WARNING: User ID (UID) {PROXY_USER} is reserved for the sidecar proxy.", 3)
    for what, known in (("name", _NAMES), ("revision", _REVISIONS)):
        if not any(labels_of(pod).get(label) for label in known):
            writer.warn(f"Suggestion: add required service {what} label for Istio telemetry. See {REQUIREMENTS}.")


def _port(port: dict[str, Any], container: str) -> str:
    protocol = port.get("protocol") or "TCP"
    return f"{port['containerPort']}{'' if protocol == 'TCP' else f'/{protocol}'} ({container})"


def _write_readiness(writer: Writer, pod: Obj) -> None:
    status = pod.get("status", {})
    for kind, states in (("", status.get("containerStatuses")), ("Init ", status.get("initContainerStatuses"))):
        for state in states or ():
            if not state.get("ready"):
                writer.warn(f"WARNING: Pod {writer.name(pod)} {kind}Container {state['name']} NOT READY")


def write_service(writer: Writer, service: Obj, pod: Obj) -> None:
    """The Service and where its ports lead in this pod. UDP never meets a proxy."""
    writer.say(f"Service: {writer.name(service)}")
    for port in tcp_ports(service):
        target = target_port(port, workload_from_pod(pod))
        if target is None:
            writer.warn(f"no suitable port for manifest: {pod['metadata'].get('uid', '')}", 3)
        else:
            said = f"{port['port']}/{protocol_text(port)} targets pod port {target}"
            writer.say(f"Port: {port.get('name', '')} {said}", 3)


def tcp_ports(service: Obj) -> list[dict[str, Any]]:
    """The ports of a Service but those of UDP and SCTP."""
    return [one for one in service["spec"].get("ports") or () if (one.get("protocol") or "TCP") == "TCP"]


def protocol_text(port: dict[str, Any]) -> str:
    """HTTP, TCP, auto-detect ...; UnsupportedProtocol for a name that tells none, which is detected, too."""
    if not port.get("name") and not port.get("appProtocol"):
        return "auto-detect"
    protocol = protocol_of(port)
    return _WRITTEN.get(protocol, protocol.value.upper())
