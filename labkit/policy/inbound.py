"""What the inbound side of a sidecar does with a connection: Istio's filter chains, as a table.

The control plane writes Envoy's listener from this table, and the prediction looks arrivals up in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from labkit.policy.modes import MutualTLSMode
from labkit.policy.protocols import Handling, Protocol, protocol_of

__all__ = [
    "ARRIVES_AS_HTTP",
    "CIPHER_SUITES",
    "MESH_ALPN",
    "MESH_HTTP_ALPN",
    "MESH_TCP_ALPN",
    "MIN_TLS_VERSION",
    "SERVER_ALPN_HTTP",
    "SERVER_ALPN_TCP",
    "Arrival",
    "FilterChainRule",
    "Handling",
    "Protocol",
    "find_chain",
    "inbound_filter_chains",
    "needs_http_inspector",
    "needs_tls_inspector",
    "protocol_of",
]

# What the client's sidecar offers, so that the server's knows it from an application's own TLS.
# pilot/pkg/networking/core/filterchain_options.go, pilot/pkg/networking/util/util.go
MESH_HTTP_ALPN = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_TCP_ALPN = ("istio-peer-exchange", "istio")
MESH_ALPN = ("istio", "istio-peer-exchange", *MESH_HTTP_ALPN)
# What the HTTP inspector reports for plaintext HTTP.
ARRIVES_AS_HTTP = ("http/1.1", "h2c")
# What the server's side offers; never "istio".
SERVER_ALPN_HTTP = ("h2", "http/1.1")
SERVER_ALPN_TCP = ("istio-peer-exchange", "h2", "http/1.1")

# pilot/pkg/security/authn/utils/utils.go, pilot/pkg/security/model/authentication.go
# https://istio.io/latest/docs/tasks/security/tls-configuration/workload-min-tls-version/
MIN_TLS_VERSION, MAX_TLS_VERSION = "TLSv1_2", "TLSv1_3"
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)


@dataclass(frozen=True)
class FilterChainRule:
    """One filter chain: what it matches, whether it terminates mTLS, and what it hands the bytes to."""

    transport: str  # Envoy's transport_protocol: "tls" or "raw_buffer"
    alpn: tuple[str, ...] = ()  # application_protocols; empty matches any
    terminates: bool = False  # ends mTLS here, and demands a client certificate
    http: bool = False  # parsed as HTTP, else passed on as bytes

    def __str__(self) -> str:
        alpn = f" + ALPN{{{', '.join(self.alpn)}}}" if self.alpn else ""
        ends = "terminate mTLS, " if self.terminates else "not terminated, " if self.transport == "tls" else ""
        return f"{self.transport}{alpn} -> {ends}{'HTTP' if self.http else 'TCP'}"


def _rule(transport: str, alpn: tuple[str, ...] = (), *, ends: bool = False, http: bool = False) -> FilterChainRule:
    return FilterChainRule(transport, alpn, terminates=ends, http=http)


# pilot/pkg/networking/core/filterchain_options.go, pilot/pkg/networking/core/listener_inbound.go
_TABLE = MappingProxyType(
    {
        (Handling.HTTP, MutualTLSMode.DISABLE): (_rule("raw_buffer", http=True),),
        (Handling.HTTP, MutualTLSMode.PERMISSIVE): (
            _rule("tls", MESH_ALPN, ends=True, http=True),
            _rule("raw_buffer", http=True),
        ),
        (Handling.HTTP, MutualTLSMode.STRICT): (_rule("tls", ends=True, http=True),),
        (Handling.TCP, MutualTLSMode.DISABLE): (_rule("raw_buffer"),),
        (Handling.TCP, MutualTLSMode.PERMISSIVE): (
            _rule("tls", MESH_ALPN, ends=True),
            _rule("tls"),
            _rule("raw_buffer"),
        ),
        (Handling.TCP, MutualTLSMode.STRICT): (_rule("tls", ends=True),),
        (Handling.AUTO, MutualTLSMode.DISABLE): (
            _rule("raw_buffer", ARRIVES_AS_HTTP, http=True),
            _rule("raw_buffer"),
        ),
        (Handling.AUTO, MutualTLSMode.PERMISSIVE): (
            _rule("tls", MESH_HTTP_ALPN, ends=True, http=True),
            _rule("raw_buffer", ARRIVES_AS_HTTP, http=True),
            _rule("tls", MESH_TCP_ALPN, ends=True),
            _rule("raw_buffer"),
            _rule("tls"),
        ),
        (Handling.AUTO, MutualTLSMode.STRICT): (
            _rule("tls", MESH_HTTP_ALPN, ends=True, http=True),
            _rule("tls", ends=True),
        ),
    }
)


def _effective(mode: MutualTLSMode) -> MutualTLSMode:
    """A mode after inheritance is never UNSET; a caller that has not composed gets Istio's default."""
    return MutualTLSMode.PERMISSIVE if mode is MutualTLSMode.UNSET else mode


def inbound_filter_chains(protocol: Protocol, mode: MutualTLSMode) -> tuple[FilterChainRule, ...]:
    """The filter chains of a port, in Istio's order. Passthrough chains are those of an undeclared port."""
    return _TABLE[protocol.handled_as, _effective(mode)]


# pilot/pkg/networking/core/listener_test.go TestInboundListenerFilters
def needs_tls_inspector(mode: MutualTLSMode) -> bool:
    """Without it, under DISABLE, TLS bytes look like any others and reach the application unopened."""
    return _effective(mode) is not MutualTLSMode.DISABLE


def needs_http_inspector(protocol: Protocol, mode: MutualTLSMode) -> bool:
    """Whether the proxy must look whether plaintext is HTTP: on undeclared ports, where plaintext is accepted."""
    return protocol.handled_as is Handling.AUTO and _effective(mode) is not MutualTLSMode.STRICT


@dataclass(frozen=True)
class Arrival:
    """A connection as it reaches the server's proxy: TLS or not, the ALPN offered, plaintext HTTP or not."""

    tls: bool = False
    alpn: tuple[str, ...] = ()
    http: bool = False


def find_chain(protocol: Protocol, mode: MutualTLSMode, arrival: Arrival) -> FilterChainRule | None:
    """The chain that takes the connection, or None: Envoy closes it (to curl: reset, exit 56).

    Envoy prefers a chain whose ALPN matches to one without ALPN, whatever the order.
    """
    chains = inbound_filter_chains(protocol, mode)
    seen_as_tls = arrival.tls and needs_tls_inspector(mode)
    transport = "tls" if seen_as_tls else "raw_buffer"
    offered = arrival.alpn if seen_as_tls else _inspected(protocol, mode, arrival)
    candidates = [chain for chain in chains if chain.transport == transport]
    exact = next((chain for alpn in offered for chain in candidates if alpn in chain.alpn), None)
    return exact or next((chain for chain in candidates if not chain.alpn), None)


def _inspected(protocol: Protocol, mode: MutualTLSMode, arrival: Arrival) -> tuple[str, ...]:
    plain_http = arrival.http and not arrival.tls
    return ARRIVES_AS_HTTP[:1] if plain_http and needs_http_inspector(protocol, mode) else ()
