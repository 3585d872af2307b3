"""What will happen on one edge: both sides' decisions put together into a Verdict.

It predicts what the policies and the sidecars do. That the application then answers 200 is assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labkit.outcomes import DecidingPolicy, Outcome, Probe, RequestKind, Verdict
from labkit.policy.client_tls import ClientTLS, Policies, ServiceRule, client_tls, offered_alpn
from labkit.policy.inbound import Arrival, FilterChainRule, find_chain
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import ROOT_NAMESPACE, EffectiveMTLS, compose_peer_authentication
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.workload import Workload

# Never redirected to the sidecar, so no policy touches them: Envoy's metrics, its health, the agent.
# https://istio.io/latest/docs/ops/deployment/application-requirements/#ports-used-by-istio
UNCAPTURED_PORTS = frozenset({15020, 15021, 15090})

RESET = "Recv failure: Connection reset by peer"
UPSTREAM_RESET = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"


@dataclass(frozen=True)
class Edge:
    """One client calling one endpoint: `port` is the container's port, `protocol` what the Service declares.

    `by_service` is False for a call to a pod's own address, which the client's sidecar passes on as it is. `arrives_as`
    is what the server's sidecar takes the port for, if not for the same: of several Services the oldest says it.
    """

    client: Workload
    server: Workload
    port: int
    protocol: Protocol = Protocol.UNDECLARED
    request: RequestKind = RequestKind.HTTP
    by_service: bool = True
    arrives_as: Protocol | None = None
    captured: bool = True
    """False where the server's pod keeps the port from its sidecar (excludeInboundPorts)."""

    @property
    def inbound_protocol(self) -> Protocol:
        """What the port is to the server's sidecar."""
        if self.arrives_as is not None:
            return self.arrives_as
        return self.protocol if self.by_service else Protocol.UNDECLARED

    @property
    def proxied_as_http(self) -> bool:
        """Whether the client's sidecar speaks HTTP itself, and so answers 503 where a naked client sees a reset."""
        handling = self.protocol.handled_as if self.by_service else Handling.AUTO
        by_detection = handling is Handling.AUTO and self.request is RequestKind.HTTP
        return self.client.injected and (handling is Handling.HTTP or by_detection)


def predict(
    client: Workload,
    server: Workload,
    port: int,
    policies: Policies = (),
    *,
    protocol: Protocol = Protocol.UNDECLARED,
    request: RequestKind = RequestKind.HTTP,
    root_namespace: str = ROOT_NAMESPACE,
    enable_auto_mtls: bool = True,
    by_service: bool = True,
    original_destination: Sequence[Workload] | None = None,
    rule: ServiceRule | None = None,
    probe: Probe | None = None,
) -> Verdict:
    """What happens when `client` calls `port` (the container's) of `server`: what each side does, who decides, and
    what the caller sees.

    1. The client's sidecar encrypts or not (`client_tls`); without a sidecar the application's bytes go out as
       they are.
    2. A server without a sidecar, or a port that is not captured, gets those bytes unchanged.
    3. Else the server's sidecar looks for the filter chain of its mode on that port; without one it cuts the
       connection.
    """
    policies = list(policies)
    edge = Edge(client, server, port, protocol, request, by_service)
    sent = _sent(edge, policies, root_namespace, enable_auto_mtls, original_destination, rule)
    return predict_edge(edge, sent, compose_peer_authentication(policies, server, root_namespace), probe)


def predict_edge(edge: Edge, sent: ClientTLS, effective: EffectiveMTLS, probe: Probe | None = None) -> Verdict:
    """The same from what is known already: what the client's sidecar sends, and what the server accepts."""
    verdict = _received(edge, sent, effective)
    if sent.decided_by and (verdict.refused or not edge.server.injected):
        verdict = replace(verdict, decided_by=sent.decided_by)
    return replace(verdict, probe=probe, reasons=(_sentence(sent.reason), *verdict.reasons))


def chain_of(edge: Edge, sent: ClientTLS, mode: MutualTLSMode) -> FilterChainRule | None:
    """The filter chain of the server's sidecar that takes the connection."""
    return find_chain(edge.inbound_protocol, mode, _arrival(edge, sent))


def _sent(
    edge: Edge,
    policies: Policies,
    root_namespace: str,
    enable_auto_mtls: bool,
    original_destination: Sequence[Workload] | None,
    rule: ServiceRule | None,
) -> ClientTLS:
    if edge.client.injected and not edge.by_service:
        return ClientTLS(False, "a call to a pod's own address is passed on as it is, without mTLS")
    return client_tls(
        edge.client,
        edge.server,
        edge.port,
        policies,
        root_namespace,
        enable_auto_mtls=enable_auto_mtls,
        original_destination=original_destination,
        rule=rule,
    )


def _received(edge: Edge, sent: ClientTLS, effective: EffectiveMTLS) -> Verdict:
    if edge.client.injected and edge.proxied_as_http and edge.request is not RequestKind.HTTP:
        reason = f"The client's sidecar expects HTTP on this port and cannot read {_words(edge.request)}."
        return _refused(edge, sent, "HTTP", reason, DecidingPolicy(), exit_code=None)
    if sent.own_tls:
        return _foreign_tls(edge, sent, effective)
    if not edge.server.injected:
        return _without_sidecar(edge, sent)
    if edge.port in UNCAPTURED_PORTS or not edge.captured:
        return _uncaptured(edge, sent)
    mode, decider = effective.mode_for_port(edge.port), effective.decided_by_for_port(edge.port)
    chain = chain_of(edge, sent, mode)
    if chain is None or _meets_wrong_bytes(edge, sent, chain):
        reason = _why_refused(edge, sent, mode, decider, chain)
        exit_code = None if edge.request is RequestKind.TLS and not sent.mtls else 56
        return _refused(edge, sent, mode.accepts, reason, decider, exit_code=exit_code)
    reason = f"The sidecar of {edge.server} accepts {mode.accepts} on port {edge.port}: {mode}, by {decider}."
    return _passed(edge, sent, mode.accepts, reason, decider)


def _foreign_tls(edge: Edge, sent: ClientTLS, effective: EffectiveMTLS) -> Verdict:
    """The client's sidecar sends TLS that is not the mesh's (DestinationRule SIMPLE or MUTUAL)."""
    mode = effective.mode_for_port(edge.port)
    captured = edge.server.injected and edge.captured and edge.port not in UNCAPTURED_PORTS
    if captured and (mode is MutualTLSMode.STRICT or edge.inbound_protocol.handled_as is Handling.HTTP):
        reason = f"The sidecar of {edge.server} opens mTLS of the mesh alone: port {edge.port} is {mode}."
        return _refused(edge, sent, mode.accepts, reason, sent.decided_by or DecidingPolicy(), exit_code=None)
    reason = f"It passes if the application of {edge.server} speaks TLS itself and its certificate is accepted."
    return Verdict(Outcome.UNKNOWN, (reason,), client_sends=sent.sends, server_accepts=mode.accepts)


def _arrival(edge: Edge, sent: ClientTLS) -> Arrival:
    http = edge.request is RequestKind.HTTP
    if sent.mtls:
        return Arrival(tls=True, alpn=offered_alpn(edge.protocol, http=http))
    return Arrival(tls=edge.request is RequestKind.TLS, http=http)


def _meets_wrong_bytes(edge: Edge, sent: ClientTLS, chain: FilterChainRule) -> bool:
    """A chain took the connection and still cannot serve it."""
    own_tls = edge.request is RequestKind.TLS and not sent.mtls
    if chain.terminates:
        return own_tls  # it demands a client certificate of the mesh
    # Unopened TLS at an HTTP parser, mesh TLS at the application, or a protocol that is not HTTP where HTTP must be.
    return sent.mtls or (chain.http and edge.request is not RequestKind.HTTP)


def _why_refused(
    edge: Edge, sent: ClientTLS, mode: MutualTLSMode, decider: DecidingPolicy, chain: FilterChainRule | None
) -> str:
    server = f"The sidecar of {edge.server}"
    by = f"port {edge.port} is {mode}, by {decider}"
    if edge.request is RequestKind.TLS and not sent.mtls:
        if chain and chain.terminates:
            return f"{server} demands a client certificate of the mesh: {by}."
        return f"{server} has no place for the application's own TLS on a port that is declared HTTP: {by}."
    if chain and chain.http and not sent.mtls:
        return f"{server} expects HTTP on port {edge.port} and cannot read {_words(edge.request)}."
    if sent.mtls:
        return f"{server} does not open mTLS: {by}."
    return f"{server} accepts {mode.accepts} and cuts plaintext: {by}."


def _without_sidecar(edge: Edge, sent: ClientTLS) -> Verdict:
    if sent.mtls:
        reason = f"{edge.server} has no sidecar: its application meets a TLS handshake that it cannot read."
        return _refused(edge, sent, "plaintext only", reason, DecidingPolicy(), exit_code=56)
    reason = f"{edge.server} has no sidecar, so no policy is enforced there."
    return _passed(edge, sent, "anything", reason, DecidingPolicy())


def _uncaptured(edge: Edge, sent: ClientTLS) -> Verdict:
    reason = f"Port {edge.port} is not redirected to the sidecar, so no policy touches it"
    if sent.mtls:
        return _refused(
            edge, sent, "plaintext only", f"{reason}, and nobody opens mTLS.", DecidingPolicy(), exit_code=56
        )
    return _passed(edge, sent, "anything", f"{reason}.", DecidingPolicy())


def _passed(edge: Edge, sent: ClientTLS, accepts: str, reason: str, decider: DecidingPolicy) -> Verdict:
    if sent.mtls:
        outcome = Outcome.MTLS
    else:
        outcome = Outcome.TLS if edge.request is RequestKind.TLS else Outcome.PLAINTEXT
    return Verdict(
        outcome=outcome,
        reasons=(reason,),
        decided_by=decider,
        client_sends=_sends(edge, sent),
        server_accepts=accepts,
        http_status=200 if edge.request is RequestKind.HTTP else None,
        exit_code=0,
    )


# What callers see: https://istio.io/latest/docs/tasks/security/authentication/authn-policy/ (curl: code 000, exit 56)
def _refused(
    edge: Edge, sent: ClientTLS, accepts: str, reason: str, decider: DecidingPolicy, *, exit_code: int | None
) -> Verdict:
    by_proxy = edge.proxied_as_http and edge.request is RequestKind.HTTP
    # A failed TLS handshake shows as exit 35, 56 or 60, by TLS version and by who gives up first: not predicted.
    handshake = exit_code is None
    return Verdict(
        outcome=Outcome.REFUSED,
        reasons=(reason,),
        decided_by=decider,
        client_sends=_sends(edge, sent),
        server_accepts=accepts,
        http_status=503 if by_proxy else None,
        exit_code=0 if by_proxy else exit_code,
        error=UPSTREAM_RESET if by_proxy else "connection closed" if handshake else RESET,
    )


def _sends(edge: Edge, sent: ClientTLS) -> str:
    return "the application's own TLS" if edge.request is RequestKind.TLS and not sent.mtls else sent.sends


def _words(request: RequestKind) -> str:
    return "the application's own TLS" if request is RequestKind.TLS else "other bytes"


def _sentence(text: str) -> str:
    # Names such as foo/curl keep their case; a sentence in our own words gets a capital.
    head = text if "/" in text.partition(" ")[0] else text[:1].upper() + text[1:]
    return head if head.endswith(".") else f"{head}."
