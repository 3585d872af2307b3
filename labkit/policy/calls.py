"""Which edges a call takes: from a host and a port, over the Service, to the endpoints, and to one verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit.outcomes import Outcome, Probe, RequestKind, Verdict
from labkit.policy.authorization import AuthorizationPolicy, Request, authorize, parse_authorization_policy
from labkit.policy.client_tls import Policies, ServiceRule
from labkit.policy.destination_rule import DestinationRule, destination_rule, full_name, parse_destination_rule
from labkit.policy.identity import TRUST_DOMAIN, spiffe_id
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.prediction import UNCAPTURED_PORTS, predict
from labkit.policy.protocols import Handling, Protocol, protocol_of
from labkit.policy.workload import Workload, labels_match, workload_from_pod

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """One workload that may take a call, and its container port."""

    workload: Workload
    port: int


@dataclass(frozen=True)
class Call:
    """A host and port as the client meets them, with the endpoints that may take the call.

    `by_service` is False for a pod's own address, which sidecars pass on as it is.
    """

    host: str
    endpoints: tuple[Endpoint, ...] = ()
    protocol: Protocol = Protocol.UNDECLARED
    by_service: bool = True
    headless: bool = False
    service: tuple[str, str] = ("", "")
    """Namespace and name of the Service, if it is one."""
    service_port: int = 0

    @property
    def servers(self) -> tuple[Workload, ...]:
        return tuple(endpoint.workload for endpoint in self.endpoints)


# https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
def service_name(host: str, namespace: str) -> tuple[str, str]:
    """(namespace, name) of the Service that a host name means within `namespace`."""
    parts = host.split(".")
    return (parts[1] if len(parts) > 1 else namespace), parts[0]


def resolve_call(
    host: str, port: int, namespace: str, services: Iterable[Object], pods: Sequence[Object]
) -> Call | None:
    """The call that `host:port` means in `namespace`, or None when no Service and no pod answers to it."""
    for pod in pods:
        if host and (pod.get("status") or {}).get("podIP") == host:
            return Call(host, (Endpoint(workload_from_pod(pod), port),), by_service=False)
    where, name = service_name(host, namespace)
    for service in services:
        metadata, spec = service["metadata"], service.get("spec") or {}
        addressed = spec.get("clusterIP") == host and host != "None"
        if not addressed and (metadata.get("namespace") or "default", metadata["name"]) != (where, name):
            continue
        for service_port in spec.get("ports") or ():
            if service_port.get("port") == port:
                workloads = [workload_from_pod(pod) for pod in pods if not is_over(pod)]
                return call_service(service, service_port, workloads, host=host)
    return None


def call_service(service: Object, service_port: Object, workloads: Iterable[Workload], *, host: str = "") -> Call:
    """The call of one port of a Service: who of `workloads` may take it, and on which container port.

    Only ready pods are endpoints. While none is ready all count, because what the policies will do with the call
    is asked, and not whether the application is up already.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    selector, namespace = spec.get("selector"), metadata.get("namespace") or "default"
    selected = [
        one for one in workloads if selector and one.namespace == namespace and labels_match(selector, one.labels)
    ]
    standing = [one for one in selected if one.ready] or selected
    return Call(
        host=host or f"{metadata['name']}.{namespace}",
        endpoints=tuple(Endpoint(one, port) for one in standing if (port := target_port(service_port, one))),
        protocol=protocol_of(service_port),
        headless=spec.get("clusterIP") == "None",
        service=(namespace, metadata["name"]),
        service_port=int(service_port["port"]),
    )


def target_port(service_port: Object, workload: Workload) -> int | None:
    """Where a Service's port leads in a pod; a name that the pod does not declare leads nowhere."""
    target = service_port.get("targetPort") or service_port["port"]
    if isinstance(target, int) or str(target).isdigit():
        return int(target)
    return next((one.number for one in workload.ports if one.name == target), None)


def is_over(pod: Object) -> bool:
    """The pod has ended, or is being deleted: no call reaches it."""
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return finished or bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def predict_call(
    client: Workload,
    call: Call,
    policies: Policies,
    *,
    request: RequestKind = RequestKind.HTTP,
    root_namespace: str = ROOT_NAMESPACE,
    enable_auto_mtls: bool = True,
    destination_rules: Iterable[DestinationRule | Object] = (),
    authorization_policies: Iterable[AuthorizationPolicy | Object] = (),
    path: str = "/",
    probe: Probe | None = None,
) -> Verdict:
    """The verdict for a call: that of its endpoints, or "it depends" when they differ."""
    if call.protocol is Protocol.UDP:
        return Verdict(Outcome.UNKNOWN, ("UDP is not captured by sidecars.",), probe=probe)
    policies = list(policies)
    rule = _rule(client, call, destination_rules, root_namespace)
    verdicts = [
        predict(
            client,
            endpoint.workload,
            endpoint.port,
            policies,
            protocol=call.protocol,
            request=request,
            root_namespace=root_namespace,
            enable_auto_mtls=enable_auto_mtls,
            by_service=call.by_service,
            original_destination=call.servers if call.headless else None,
            rule=rule,
            probe=probe,
        )
        for endpoint in call.endpoints
    ]
    guards = [
        one if isinstance(one, AuthorizationPolicy) else parse_authorization_policy(one)
        for one in authorization_policies
    ]
    if guards:
        verdicts = [
            _authorized(verdict, client, endpoint, call, guards, path, root_namespace)
            for verdict, endpoint in zip(verdicts, call.endpoints, strict=True)
        ]
    return _together(verdicts) if verdicts else _nobody(client, call, request, probe)


def _rule(
    client: Workload, call: Call, rules: Iterable[DestinationRule | Object], root_namespace: str
) -> ServiceRule | None:
    namespace, name = call.service
    if not name or not client.injected:
        return None
    parsed = [one if isinstance(one, DestinationRule) else parse_destination_rule(one) for one in rules]
    host = full_name(name, namespace)
    found = destination_rule(parsed, client, namespace, host, root_namespace)
    if found is None:
        return None
    return service_rule(found, call.service_port)


def service_rule(rule: DestinationRule, port: int, subset: str = "") -> ServiceRule:
    """What a DestinationRule says of the TLS towards a Service port, or towards one subset there."""
    tls = rule.traffic_policy(port, subset).tls
    return ServiceRule(tls, rule.decider, bool(rule.selector), rule.endpoint_tls(port, subset))


def _authorized(
    verdict: Verdict,
    client: Workload,
    endpoint: Endpoint,
    call: Call,
    policies: Sequence[AuthorizationPolicy],
    path: str,
    root_namespace: str,
) -> Verdict:
    """The verdict after the server's proxy has asked who may call: for what it let in."""
    server = endpoint.workload
    if verdict.outcome not in (Outcome.MTLS, Outcome.PLAINTEXT, Outcome.TLS) or not server.injected:
        return verdict
    if endpoint.port in UNCAPTURED_PORTS:
        return verdict
    http = call.protocol.handled_as is not Handling.TCP and verdict.outcome is not Outcome.TLS
    identity = spiffe_id(TRUST_DOMAIN, client.namespace, client.service_account).removeprefix("spiffe://")
    request = Request(
        principal=identity if verdict.outcome is Outcome.MTLS else "",
        source_ip=client.address,
        host=call.host,
        path=path,
        port=endpoint.port,
        destination_ip=server.address,
        http=http,
    )
    decision = authorize(policies, server, request, root_namespace)
    if decision.allowed:
        return verdict
    return replace(
        verdict,
        outcome=Outcome.REFUSED,
        reasons=(*verdict.reasons, f"{decision.reason[:1].upper()}{decision.reason[1:]}."),
        decided_by=decision.decider(root_namespace),
        http_status=403 if http else None,
        exit_code=0 if http else None,
        error="RBAC: access denied" if http else "connection closed",
    )


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for all endpoints. Where they differ the caller's luck decides, so nothing is predicted."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    if len(counts) == 1:
        return verdicts[0]
    shares = ", ".join(f"{number} of {len(verdicts)} {outcome}" for outcome, number in sorted(counts.items()))
    each = dict.fromkeys(verdict.reasons[-1] for verdict in verdicts)
    return replace(
        verdicts[0],
        outcome=Outcome.UNKNOWN,
        reasons=(f"It depends on the endpoint that is met: {shares}.", *each),
        http_status=None,
        exit_code=None,
        error="",
    )


def _nobody(client: Workload, call: Call, request: RequestKind, probe: Probe | None) -> Verdict:
    # With a sidecar: 503 and the flag UH. Without one the exit code is curl's 7, or 56 where a proxy on the node
    # accepts first: not predicted.
    by_proxy = client.injected and request is RequestKind.HTTP
    return Verdict(
        Outcome.REFUSED,
        (f"No pod stands behind {call.host}.",),
        http_status=503 if by_proxy else None,
        error="no healthy upstream" if by_proxy else "connection refused",
        probe=probe,
    )
