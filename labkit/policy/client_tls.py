"""What the client's sidecar sends: auto mTLS, decided once per Service and once more per endpoint.

A DestinationRule that sets `tls` (`labkit.policy.destination_rule`) is asked before anything here, and overrides it:
the first rule of `service_tls` (for the whole Envoy cluster) and of `endpoint_tls_mode` (for one endpoint).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from labkit.outcomes import DecidingPolicy
from labkit.policy.destination_rule import ClientTLSMode, ClientTLSSettings
from labkit.policy.identity import TRUST_DOMAIN, spiffe_id
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import (
    ROOT_NAMESPACE,
    EffectiveMTLS,
    PeerAuthentication,
    compose_peer_authentication,
    namespace_mode,
)
from labkit.policy.protocols import Handling, Protocol
from labkit.policy.workload import TLS_MODE_ISTIO, TLS_MODE_LABEL, Workload

Policies = Iterable[PeerAuthentication | Mapping[str, Any]]


class ServiceTLS(StrEnum):
    """How the Envoy cluster of a Service is set up."""

    AUTO = "auto mTLS"  # two transport socket matches, chosen per endpoint
    ISTIO_MUTUAL = "ISTIO_MUTUAL"  # one socket for all endpoints
    NONE = "plaintext"  # no transport socket at all


# The names of the transport socket matches, in Istio's order; Envoy's debug log shows them.
SOCKET_MATCH_ISTIO = "tlsMode-istio"
SOCKET_MATCH_DISABLED = "tlsMode-disabled"


@dataclass(frozen=True)
class ServiceRule:
    """What a DestinationRule says of the TLS towards one port of a Service: None when it leaves it to auto mTLS.

    `endpoint_tls` is what endpoints are marked by (`DestinationRule.endpoint_tls`), which is read differently.
    """

    tls: ClientTLSSettings | None
    decider: DecidingPolicy
    selected: bool = False
    endpoint_tls: ClientTLSSettings | None = None


@dataclass(frozen=True)
class ClientTLS:
    """What a client sends to one endpoint, and why. `socket_match` is the match that Envoy's log will name."""

    mtls: bool
    reason: str
    socket_match: str = ""
    decided_by: DecidingPolicy | None = None
    """The DestinationRule that decided, if one did."""
    own_tls: bool = False
    """The sidecar sends TLS that is not the mesh's (SIMPLE or MUTUAL)."""

    @property
    def sends(self) -> str:
        if self.own_tls:
            return "TLS that is not the mesh's"
        return "mTLS" if self.mtls else "plaintext"


# pilot/pkg/networking/core/cluster_tls.go buildUpstreamTLSSettings, applyUpstreamTLSSettings
# https://istio.io/latest/docs/ops/configuration/traffic-management/tls-configuration/#auto-mtls
def service_tls(
    mode: MutualTLSMode | None,
    *,
    enable_auto_mtls: bool = True,
    mesh_external: bool = False,
    original_destination: Sequence[Workload] | None = None,
) -> tuple[ServiceTLS, str]:
    """How clients address a Service as a whole, with the reason; `mode` is that of its namespace (`namespace_mode`).

    The rules, without a DestinationRule:

    1. No TLS if auto mTLS is switched off for the mesh, or the Service is outside it (ServiceEntry).
    2. No TLS if the *namespace* mode of the Service is DISABLE. Workload-specific and port-level policies are not
       looked at here: a STRICT workload in a DISABLE namespace is sent plaintext, and refuses it.
    3. Else auto mTLS: each endpoint is sent mTLS or plaintext by what its metadata says (`endpoint_tls_mode`). No
       policy at all counts as PERMISSIVE here.
    4. A cluster that sends to the original destination (a headless Service) cannot choose per endpoint. Its
       endpoints are handed in as `original_destination`: it uses mTLS for all or for none; for all only if every
       one of them can answer it, so that nobody is cut off.
    """
    if not enable_auto_mtls:
        return ServiceTLS.NONE, "auto mTLS is switched off for the mesh"
    if mesh_external:
        return ServiceTLS.NONE, "the service is outside the mesh"
    if mode is MutualTLSMode.DISABLE:
        return ServiceTLS.NONE, "the mode of the service's namespace is DISABLE, so clients send plaintext there"
    if original_destination is None:
        return ServiceTLS.AUTO, "auto mTLS"
    if original_destination and all(endpoint.tls_mode == TLS_MODE_ISTIO for endpoint in original_destination):
        return ServiceTLS.ISTIO_MUTUAL, "every endpoint of the headless service has a sidecar"
    return ServiceTLS.NONE, "not every endpoint of the headless service has a sidecar"


# pilot/pkg/xds/endpoints/mtls_checker.go
def endpoint_tls_mode(
    endpoint: Workload, port: int, effective: EffectiveMTLS, rule_tls: ClientTLSSettings | None = None
) -> tuple[str, str]:
    """The `tlsMode` that clients are told of one endpoint port, with the reason: "istio" or "disabled".

    `effective` is what the policies make the endpoint accept (`compose_peer_authentication`), `rule_tls` what a
    DestinationRule says (`DestinationRule.endpoint_tls`). The rules:

    0. With `rule_tls`, an endpoint is enabled if and only if that is ISTIO_MUTUAL, and it has the label of 1.
    1. An endpoint whose label `security.istio.io/tlsMode` is not `istio` is disabled. Injection sets the label.
    2. An endpoint whose effective mode for this container port is DISABLE is disabled; workload-specific and
       port-level policies count here.
    3. Else it is `istio`.
    """
    if endpoint.tls_mode != TLS_MODE_ISTIO:
        return "disabled", f"{endpoint} has no label {TLS_MODE_LABEL}=istio, so it has no sidecar to answer mTLS"
    if rule_tls is not None:
        if rule_tls.mode is ClientTLSMode.ISTIO_MUTUAL:
            return TLS_MODE_ISTIO, "a DestinationRule says ISTIO_MUTUAL"
        return "disabled", f"a DestinationRule says {rule_tls.mode}"
    if effective.mode_for_port(port) is MutualTLSMode.DISABLE:
        return "disabled", f"port {port} of {endpoint} is DISABLE, by {effective.decided_by_for_port(port)}"
    return TLS_MODE_ISTIO, f"{endpoint} has a sidecar, so auto mTLS chooses mTLS"


def client_tls(
    client: Workload,
    endpoint: Workload,
    port: int,
    policies: Policies = (),
    root_namespace: str = ROOT_NAMESPACE,
    *,
    enable_auto_mtls: bool = True,
    original_destination: Sequence[Workload] | None = None,
    rule: ServiceRule | None = None,
) -> ClientTLS:
    """What `client` sends to `port` (the container's) of one endpoint of a Service: mTLS or not, and why.

    A client without a sidecar sends whatever its application sends. Both decisions must be for mTLS: the one for
    the Service and the one for the endpoint.
    """
    if not client.injected or (rule and rule.tls is not None):  # then no policy is asked
        return tls_towards(client, endpoint, port, None, EffectiveMTLS(), rule=rule)
    policies = list(policies)
    return tls_towards(
        client,
        endpoint,
        port,
        namespace_mode(policies, endpoint.namespace, root_namespace),
        compose_peer_authentication(policies, endpoint, root_namespace),
        enable_auto_mtls=enable_auto_mtls,
        original_destination=original_destination,
        rule=rule,
    )


def tls_towards(
    client: Workload,
    endpoint: Workload,
    port: int,
    mode: MutualTLSMode | None,
    effective: EffectiveMTLS,
    *,
    enable_auto_mtls: bool = True,
    mesh_external: bool = False,
    original_destination: Sequence[Workload] | None = None,
    rule: ServiceRule | None = None,
) -> ClientTLS:
    """The same from what is known already: the mode of the service's namespace, and what the endpoint accepts."""
    if not client.injected:
        return ClientTLS(False, f"{client} has no sidecar, so nothing encrypts what it sends")
    if rule and rule.tls is not None:
        return _by_rule(rule, rule.tls)
    service, why = service_tls(
        mode,
        enable_auto_mtls=enable_auto_mtls,
        mesh_external=mesh_external,
        original_destination=original_destination,
    )
    if service is not ServiceTLS.AUTO:
        return ClientTLS(service is ServiceTLS.ISTIO_MUTUAL, why)
    marked_by = rule.endpoint_tls if rule else None
    tls_mode, why = endpoint_tls_mode(endpoint, port, effective, marked_by)
    decider = rule.decider if rule and marked_by is not None else None
    if tls_mode == TLS_MODE_ISTIO:
        return ClientTLS(True, why, SOCKET_MATCH_ISTIO, decider)
    return ClientTLS(False, why, SOCKET_MATCH_DISABLED, decider)


def _by_rule(rule: ServiceRule, settings: ClientTLSSettings) -> ClientTLS:
    """What a DestinationRule makes a sidecar send: the same to all endpoints, whether they can answer or not."""
    mode, said = settings.mode, f"{rule.decider.kind} {rule.decider.namespace}/{rule.decider.name} says {settings.mode}"
    own = mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL)
    if own and settings.credential_name and not rule.selected:
        return ClientTLS(
            False, f"{said}, but a sidecar ignores credentialName without workloadSelector", "", rule.decider
        )
    words = {
        ClientTLSMode.DISABLE: "so clients send plaintext",
        ClientTLSMode.ISTIO_MUTUAL: "so clients send mTLS, to endpoints without a sidecar too",
        ClientTLSMode.SIMPLE: "so clients send TLS of their own, without a certificate of the mesh",
        ClientTLSMode.MUTUAL: "so clients send TLS with a certificate that is not the mesh's",
    }
    return ClientTLS(mode is ClientTLSMode.ISTIO_MUTUAL, f"{said}, {words[mode]}", "", rule.decider, own_tls=own)


def offered_alpn(protocol: Protocol, *, http: bool) -> tuple[str, ...]:
    """The ALPN that a client's sidecar offers under mTLS, when the traffic is HTTP/1.1 or not.

    Real Istio replaces the cluster's list per request (the filter `istio.alpn`), by the HTTP version used.
    """
    # pilot/pkg/networking/core/cluster_tls.go, pilot/pkg/xds/filters/filters.go
    treated_as_http = protocol.handled_as is Handling.HTTP or (protocol.handled_as is Handling.AUTO and http)
    if not treated_as_http:
        return ("istio-peer-exchange", "istio")
    if protocol in (Protocol.HTTP2, Protocol.GRPC):
        return ("istio-h2", "istio", "h2")
    return ("istio-http/1.1", "istio", "http/1.1")


def auto_sni(service_port: int, host: str, subset: str = "") -> str:
    """The SNI that a client's sidecar sends under mTLS; `host` is the Service's full name."""
    # pilot/pkg/model/push_context.go BuildDNSSrvSubsetKey
    return f"outbound_.{service_port}_.{subset}_.{host}"


# pilot/pkg/model/push_context.go initServiceAccounts, pkg/spiffe/spiffe.go ExpandWithTrustDomains
def expected_identities(
    endpoints: Iterable[Workload], trust_domain: str = TRUST_DOMAIN, aliases: Iterable[str] = ()
) -> tuple[str, ...]:
    """The SPIFFE IDs that a client accepts from a Service: those of its endpoints' service accounts, sorted.

    Each is matched exactly, in the mesh's trust domain and in each of its aliases: while a mesh moves to another trust
    domain, some servers still show the old one. None known means no check: any certificate of the mesh's CA passes.
    """
    accounts = {(endpoint.namespace, endpoint.service_account) for endpoint in endpoints}
    domains = dict.fromkeys((trust_domain, *aliases))
    return tuple(sorted({spiffe_id(domain, *account) for domain in domains for account in accounts}))
