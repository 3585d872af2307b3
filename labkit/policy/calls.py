"""Which edge a call takes: from a client, a host and a port, over the Service, to the endpoints and their verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit.outcomes import Outcome, Probe, Verdict
from labkit.policy.client_tls import Policies
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.prediction import predict
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.workload import Workload, labels_match, workload_from_pod

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A host and port as the client meets them: the endpoints, and the container's port behind the Service's."""

    host: str
    servers: tuple[Workload, ...]
    port: int
    protocol: Protocol = Protocol.UNDECLARED
    by_service: bool = True
    headless: bool = False


# https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
def service_name(host: str, namespace: str) -> tuple[str, str]:
    """(namespace, name) of the Service that a host name means within `namespace`."""
    parts = host.split(".")
    return (parts[1] if len(parts) > 1 else namespace), parts[0]


def resolve_call(
    host: str, port: int, namespace: str, services: Iterable[Object], pods: Sequence[Object]
) -> Call | None:
    """The endpoints that `host:port` reaches from `namespace`, or None when no Service and no pod answers to it."""
    for pod in pods:
        if (pod.get("status") or {}).get("podIP") == host:
            return Call(host, (workload_from_pod(pod),), port, by_service=False)
    where, name = service_name(host, namespace)
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        addressed = spec.get("clusterIP") == host and host != "None"
        if not addressed and (metadata["namespace"], metadata["name"]) != (where, name):
            continue
        for service_port in spec.get("ports") or ():
            if service_port["port"] == port:
                return _through(service, service_port, host, pods)
    return None


def _through(service: Object, service_port: Object, host: str, pods: Sequence[Object]) -> Call:
    spec = service["spec"]
    selector = spec.get("selector") or {}
    here = [pod for pod in pods if pod["metadata"]["namespace"] == service["metadata"]["namespace"]]
    chosen = [pod for pod in here if selector and labels_match(selector, pod["metadata"].get("labels") or {})]
    ready = [pod for pod in chosen if _is_ready(pod)] or chosen
    servers = tuple(workload_from_pod(pod) for pod in ready)
    target = service_port.get("targetPort", service_port["port"])
    if isinstance(target, str):  # a named port of the container
        ports = (port.number for server in servers for port in server.ports if port.name == target)
        target = next(ports, service_port["port"])
    headless = spec.get("clusterIP") == "None"
    return Call(host, servers, int(target), protocol_of(service_port), headless=headless)


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def predict_call(
    client: Workload,
    call: Call,
    policies: Policies,
    *,
    root_namespace: str = ROOT_NAMESPACE,
    probe: Probe | None = None,
) -> Verdict:
    """The verdict for a call: that of its endpoints, or "it depends" when they differ."""
    if not call.servers:
        reason = f"No pod stands behind {call.host}."
        return Verdict(Outcome.UNKNOWN, (reason,), probe=probe)
    policies = list(policies)
    verdicts = [
        predict(
            client,
            server,
            call.port,
            policies,
            protocol=call.protocol,
            root_namespace=root_namespace,
            by_service=call.by_service,
            original_destination=call.servers if call.headless else None,
            probe=probe,
        )
        for server in call.servers
    ]
    counts = Counter(verdict.outcome for verdict in verdicts)
    if len(counts) == 1:
        return verdicts[0]
    shares = ", ".join(f"{number} of {len(verdicts)} {outcome}" for outcome, number in counts.items())
    reason = f"It depends on the endpoint that is met: {shares}."
    return replace(verdicts[0], outcome=Outcome.UNKNOWN, reasons=(reason,), http_status=None, exit_code=None, error="")
