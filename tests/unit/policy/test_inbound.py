"""Which filter chain takes a connection, for everything that can arrive."""

from __future__ import annotations

import pytest

from labkit.policy import MutualTLSMode, Protocol, find_chain, inbound_filter_chains
from labkit.policy.inbound import Arrival, needs_http_inspector, needs_tls_inspector

PLAIN_HTTP = Arrival(http=True)
PLAIN_BYTES = Arrival()
MESH_HTTP = Arrival(tls=True, alpn=("istio-http/1.1", "istio", "http/1.1"))
MESH_BYTES = Arrival(tls=True, alpn=("istio-peer-exchange", "istio"))
OWN_TLS = Arrival(tls=True, alpn=("h2", "http/1.1"))

CUT = None
# protocol, mode, arrival, (terminates, http) of the chain that takes it
ROWS = [
    ("http", "STRICT", PLAIN_HTTP, CUT),
    ("http", "STRICT", MESH_HTTP, (True, True)),
    ("http", "STRICT", OWN_TLS, (True, True)),
    ("http", "PERMISSIVE", PLAIN_HTTP, (False, True)),
    ("http", "PERMISSIVE", MESH_HTTP, (True, True)),
    ("http", "PERMISSIVE", OWN_TLS, CUT),
    ("http", "DISABLE", PLAIN_HTTP, (False, True)),
    ("http", "DISABLE", MESH_HTTP, (False, True)),  # no TLS inspector: looks like any bytes
    ("tcp", "STRICT", PLAIN_BYTES, CUT),
    ("tcp", "STRICT", MESH_BYTES, (True, False)),
    ("tcp", "PERMISSIVE", PLAIN_BYTES, (False, False)),
    ("tcp", "PERMISSIVE", MESH_BYTES, (True, False)),
    ("tcp", "PERMISSIVE", OWN_TLS, (False, False)),
    ("tcp", "DISABLE", MESH_BYTES, (False, False)),
    ("undeclared", "STRICT", PLAIN_HTTP, CUT),
    ("undeclared", "STRICT", PLAIN_BYTES, CUT),
    ("undeclared", "STRICT", MESH_HTTP, (True, True)),
    ("undeclared", "STRICT", MESH_BYTES, (True, False)),
    ("undeclared", "PERMISSIVE", PLAIN_HTTP, (False, True)),
    ("undeclared", "PERMISSIVE", PLAIN_BYTES, (False, False)),
    ("undeclared", "PERMISSIVE", MESH_HTTP, (True, True)),
    ("undeclared", "PERMISSIVE", MESH_BYTES, (True, False)),
    ("undeclared", "PERMISSIVE", OWN_TLS, (False, False)),
    ("undeclared", "DISABLE", PLAIN_HTTP, (False, True)),
    ("undeclared", "DISABLE", PLAIN_BYTES, (False, False)),
    ("undeclared", "DISABLE", OWN_TLS, (False, False)),
]


@pytest.mark.parametrize(("protocol", "mode", "arrival", "expected"), ROWS)
def test_the_chain_that_takes_a_connection(
    protocol: str, mode: str, arrival: Arrival, expected: tuple[bool, bool] | None
) -> None:
    chain = find_chain(Protocol(protocol), MutualTLSMode(mode), arrival)
    assert (chain and (chain.terminates, chain.http)) == expected


@pytest.mark.parametrize("protocol", Protocol)
def test_a_mode_that_nobody_composed_counts_as_permissive(protocol: Protocol) -> None:
    unset, permissive = MutualTLSMode.UNSET, MutualTLSMode.PERMISSIVE
    assert inbound_filter_chains(protocol, unset) == inbound_filter_chains(protocol, permissive)
    assert needs_tls_inspector(unset) and needs_http_inspector(protocol, unset) == needs_http_inspector(
        protocol, permissive
    )


@pytest.mark.parametrize("protocol", Protocol)
def test_strict_never_has_a_chain_for_plaintext(protocol: Protocol) -> None:
    assert all(chain.terminates for chain in inbound_filter_chains(protocol, MutualTLSMode.STRICT))


@pytest.mark.parametrize("protocol", Protocol)
def test_disable_never_terminates(protocol: Protocol) -> None:
    assert not any(chain.terminates for chain in inbound_filter_chains(protocol, MutualTLSMode.DISABLE))
