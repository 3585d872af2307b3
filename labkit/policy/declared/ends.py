"""Why a server's side does what it does, and the calls that reach no server. Pure."""

from __future__ import annotations

from dataclasses import replace

from labkit.outcomes import Outcome, RequestKind, Verdict
from labkit.policy.client_tls import ClientTLS
from labkit.policy.declared.answers import Way
from labkit.policy.declared.groups import Group
from labkit.policy.declared.reasons import Because, Rule
from labkit.policy.declared.routing import Branch
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import EffectiveMTLS
from labkit.policy.prediction import UNCAPTURED_PORTS, Edge


def why_received(
    group: Group, edge: Edge, sent: ClientTLS, effective: EffectiveMTLS, verdict: Verdict
) -> tuple[Because, ...]:
    """Why the server's side does what it does."""
    if not group.injected:
        said = "the server has no sidecar, so its application meets what is sent"
        if verdict.outcome is Outcome.REFUSED and sent.mtls:
            said = "the server has no sidecar: its application meets a TLS handshake that it cannot read"
        return (Because(Rule.NO_SERVER_SIDECAR, said),)
    if not edge.captured or edge.port in UNCAPTURED_PORTS:
        said = f"port {edge.port} is kept from the server's sidecar"
        if verdict.outcome is Outcome.REFUSED:
            said += ", and its application cannot read mTLS"
        return (Because(Rule.NOT_CAPTURED, said),)
    mode = effective.mode_for_port(edge.port)
    said = f"port {edge.port} of the server is {mode}, so its sidecar accepts {mode.accepts}"
    found = (Because(Rule.PEER_AUTHENTICATION, said, effective.decided_by_for_port(edge.port)),)
    by_mode = mode is MutualTLSMode.STRICT or sent.mtls
    if verdict.outcome is Outcome.REFUSED and not by_mode and not sent.own_tls:
        wrong = verdict.reasons[-1].rstrip(".")
        return (*found, Because(Rule.PROTOCOL, f"{wrong[:1].lower()}{wrong[1:]}"))
    return found


def outside(verdict: Verdict, request: RequestKind) -> tuple[Verdict, tuple[Because, ...]]:
    """A host outside of the mesh meets TLS of the client's proxy. Around the application's own, nobody opens it."""
    if request is not RequestKind.TLS:
        return replace(verdict, outcome=Outcome.TLS), ()
    why = Because(Rule.DOUBLE_TLS, "the application sends TLS already, so the host finds TLS within TLS")
    refused = replace(verdict, outcome=Outcome.REFUSED, http_status=None, exit_code=None, error="connection closed")
    return refused, (why,)


def ended(branch: Branch) -> Way:
    """The client's own proxy answers."""
    outcome = Outcome.REFUSED if branch.refuses else Outcome.UNKNOWN
    sends = "nothing: its own proxy answers"
    return Way(
        outcome, branch.because, branch.share, branch.when, sends=sends, http_status=branch.status, accepts="nothing"
    )


def nobody(client: Group, branch: Branch, request: RequestKind, why: Because) -> Way:
    """A call of a host behind which nobody stands."""
    # With a sidecar: 503 and the flag UH. Without one the exit code is curl's 7, or 56 where a proxy on the node
    # accepts first: not predicted.
    by_proxy = client.injected and request is RequestKind.HTTP and not branch.passed_on
    return Way(
        Outcome.REFUSED,
        (*branch.because, why),
        branch.share,
        branch.when,
        sends="mTLS or plaintext" if client.injected else "plaintext",
        accepts="nothing",
        http_status=503 if by_proxy else None,
        error="no healthy upstream" if by_proxy else "connection refused",
    )
