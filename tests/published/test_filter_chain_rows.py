"""The inbound filter chains of each protocol and mode.

pilot/pkg/networking/core/filterchain_options.go and listener_inbound.go; the inspectors are those of
listener_test.go, TestInboundListenerFilters.
"""

from __future__ import annotations

import pytest

from labkit.policy import MutualTLSMode, Protocol, inbound_filter_chains
from labkit.policy.inbound import needs_http_inspector, needs_tls_inspector

MESH = "{istio, istio-peer-exchange, istio-http/1.0, istio-http/1.1, istio-h2}"
MESH_HTTP = "{istio-http/1.0, istio-http/1.1, istio-h2}"
MESH_TCP = "{istio-peer-exchange, istio}"
PLAIN_HTTP = "{http/1.1, h2c}"

TABLE = {
    ("http", "DISABLE"): ["raw_buffer -> HTTP"],
    ("http", "PERMISSIVE"): [f"tls + ALPN{MESH} -> terminate mTLS, HTTP", "raw_buffer -> HTTP"],
    ("http", "STRICT"): ["tls -> terminate mTLS, HTTP"],
    ("tcp", "DISABLE"): ["raw_buffer -> TCP"],
    ("tcp", "PERMISSIVE"): [
        f"tls + ALPN{MESH} -> terminate mTLS, TCP",
        "tls -> not terminated, TCP",
        "raw_buffer -> TCP",
    ],
    ("tcp", "STRICT"): ["tls -> terminate mTLS, TCP"],
    ("undeclared", "DISABLE"): [f"raw_buffer + ALPN{PLAIN_HTTP} -> HTTP", "raw_buffer -> TCP"],
    ("undeclared", "PERMISSIVE"): [
        f"tls + ALPN{MESH_HTTP} -> terminate mTLS, HTTP",
        f"raw_buffer + ALPN{PLAIN_HTTP} -> HTTP",
        f"tls + ALPN{MESH_TCP} -> terminate mTLS, TCP",
        "raw_buffer -> TCP",
        "tls -> not terminated, TCP",
    ],
    ("undeclared", "STRICT"): [f"tls + ALPN{MESH_HTTP} -> terminate mTLS, HTTP", "tls -> terminate mTLS, TCP"],
}
SAME_AS = {"http": "http http2 http_proxy grpc grpc-web", "tcp": "tcp tls https mongo redis mysql"}
CELLS = [
    pytest.param(protocol, mode, rules, id=f"{protocol} {mode}")
    for (row, mode), rules in TABLE.items()
    for protocol in SAME_AS.get(row, row).split()
]


@pytest.mark.parametrize(("protocol", "mode", "rules"), CELLS)
def test_chains(protocol: str, mode: str, rules: list[str]) -> None:
    assert [str(rule) for rule in inbound_filter_chains(Protocol(protocol), MutualTLSMode(mode))] == rules


# ports 80 http, 81 undeclared, 82 tcp, 1000 in no Service (passthrough: undeclared)
INSPECTORS = [
    ("PERMISSIVE", True, {"http": False, "undeclared": True, "tcp": False}),
    ("DISABLE", False, {"http": False, "undeclared": True, "tcp": False}),
    ("STRICT", True, {"http": False, "undeclared": False, "tcp": False}),
]


@pytest.mark.parametrize(("mode", "tls", "http"), INSPECTORS)
def test_inspectors(mode: str, tls: bool, http: dict[str, bool]) -> None:
    assert needs_tls_inspector(MutualTLSMode(mode)) is tls
    assert {name: needs_http_inspector(Protocol(name), MutualTLSMode(mode)) for name in http} == http
