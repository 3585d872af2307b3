"""Auto mTLS: the decision for a Service, and the one for each of its endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import (
    ServiceTLS,
    Workload,
    client_tls,
    compose_peer_authentication,
    endpoint_tls_mode,
    namespace_mode,
    service_tls,
)
from labkit.policy.client_tls import auto_sni, expected_identities, offered_alpn
from labkit.policy.protocols import Protocol
from tests.published.objects import ROOT, peer_authentication

TLS = {"security.istio.io/tlsMode": "istio"}
WEB = {"app": "web"}
SERVER = Workload("foo", "web", {**WEB, **TLS}, injected=True)
NAKED = Workload("foo", "old", WEB)
CLIENT = Workload("bar", "curl", TLS, injected=True)
PRESET = Workload("foo", "x", {"security.istio.io/tlsMode": "off"}, injected=True)
OUTSIDE = Workload("default", "curl-outside")

Policies = list[dict[str, Any]]


def foo(mode: str, **more: Any) -> dict[str, Any]:
    return peer_authentication("foo", more.pop("name", "default"), mode, **more)


SERVICE = [
    ("no policy", [], {}, ServiceTLS.AUTO),
    ("namespace PERMISSIVE", [foo("PERMISSIVE")], {}, ServiceTLS.AUTO),
    ("namespace STRICT", [foo("STRICT")], {}, ServiceTLS.AUTO),
    ("namespace DISABLE", [foo("DISABLE")], {}, ServiceTLS.NONE),
    ("mesh DISABLE", [peer_authentication(ROOT, "m", "DISABLE")], {}, ServiceTLS.NONE),
    (
        "mesh DISABLE, namespace PERMISSIVE",
        [peer_authentication(ROOT, "m", "DISABLE"), foo("PERMISSIVE")],
        {},
        ServiceTLS.AUTO,
    ),
    ("a workload's DISABLE is not looked at", [foo("DISABLE", labels=WEB)], {}, ServiceTLS.AUTO),
    (
        "a workload's STRICT does not help",
        [foo("DISABLE"), foo("STRICT", name="w", labels=WEB)],
        {},
        ServiceTLS.NONE,
    ),
    ("another namespace's DISABLE", [peer_authentication("bar", "m", "DISABLE")], {}, ServiceTLS.AUTO),
    ("auto mTLS off", [foo("STRICT")], {"enable_auto_mtls": False}, ServiceTLS.NONE),
    ("outside the mesh", [foo("STRICT")], {"mesh_external": True}, ServiceTLS.NONE),
    ("headless, all with sidecar", [], {"original_destination": [SERVER]}, ServiceTLS.ISTIO_MUTUAL),
    ("headless, one without", [], {"original_destination": [SERVER, NAKED]}, ServiceTLS.NONE),
    ("headless, empty", [], {"original_destination": []}, ServiceTLS.NONE),
]


@pytest.mark.parametrize(("policies", "facts", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SERVICE])
def test_service(policies: Policies, facts: dict[str, Any], expected: ServiceTLS) -> None:
    decision, reason = service_tls(namespace_mode(policies, "foo"), **facts)
    assert decision is expected
    assert reason


ENDPOINT = [
    ("with a sidecar", SERVER, [], "istio"),
    ("without one", NAKED, [], "disabled"),
    (
        "with the label preset to another value",
        Workload("foo", "x", {"security.istio.io/tlsMode": "off"}),
        [],
        "disabled",
    ),
    ("STRICT", SERVER, [foo("STRICT")], "istio"),
    ("workload DISABLE", SERVER, [foo("DISABLE", labels=WEB)], "disabled"),
    ("port DISABLE", SERVER, [foo("STRICT", labels=WEB, ports={80: "DISABLE"})], "disabled"),
    ("another port DISABLE", SERVER, [foo("STRICT", labels=WEB, ports={81: "DISABLE"})], "istio"),
    ("port opened again under DISABLE", SERVER, [foo("DISABLE", labels=WEB, ports={80: "PERMISSIVE"})], "istio"),
    ("STRICT without a sidecar", NAKED, [foo("STRICT")], "disabled"),
]


@pytest.mark.parametrize(("endpoint", "policies", "expected"), [pytest.param(*row[1:], id=row[0]) for row in ENDPOINT])
def test_endpoint(endpoint: Workload, policies: Policies, expected: str) -> None:
    assert endpoint_tls_mode(endpoint, 80, compose_peer_authentication(policies, endpoint))[0] == expected


PORT_DISABLE = [foo("STRICT", labels=WEB, ports={80: "DISABLE"})]
OWN_DISABLE = [peer_authentication("bar", "m", "DISABLE")]
HOLE = [foo("DISABLE"), foo("STRICT", name="w", labels=WEB)]
CLIENTS = [
    ("sidecar to sidecar", CLIENT, SERVER, [], True, "tlsMode-istio"),
    ("sidecar to none", CLIENT, NAKED, [], False, "tlsMode-disabled"),
    ("none to sidecar", OUTSIDE, SERVER, [], False, ""),
    ("none to STRICT", OUTSIDE, SERVER, [foo("STRICT")], False, ""),
    ("sidecar to a DISABLE port", CLIENT, SERVER, PORT_DISABLE, False, "tlsMode-disabled"),
    ("sidecar to a DISABLE namespace", CLIENT, SERVER, [foo("DISABLE")], False, ""),
    ("the reverse hole", CLIENT, SERVER, HOLE, False, ""),
    ("the client's own policy has no part", CLIENT, SERVER, OWN_DISABLE, True, "tlsMode-istio"),
]


@pytest.mark.parametrize(
    ("client", "server", "policies", "mtls", "match"), [pytest.param(*row[1:], id=row[0]) for row in CLIENTS]
)
def test_client(client: Workload, server: Workload, policies: Policies, mtls: bool, match: str) -> None:
    decision = client_tls(client, server, 80, policies)
    assert (decision.mtls, decision.socket_match) == (mtls, match)
    assert decision.reason


@pytest.mark.parametrize(
    ("protocol", "http", "first"),
    [
        ("http", True, "istio-http/1.1"),
        ("http2", True, "istio-h2"),
        ("grpc", True, "istio-h2"),
        ("tcp", True, "istio-peer-exchange"),
        ("undeclared", True, "istio-http/1.1"),
        ("undeclared", False, "istio-peer-exchange"),
    ],
)
def test_offered_alpn(protocol: str, http: bool, first: str) -> None:
    offered = offered_alpn(Protocol(protocol), http=http)
    assert offered[0] == first
    assert "istio" in offered


def test_sni_names_port_subset_and_host() -> None:
    assert auto_sni(8000, "httpbin.foo.svc.cluster.local") == "outbound_.8000_._.httpbin.foo.svc.cluster.local"
    assert auto_sni(80, "h", "v2") == "outbound_.80_.v2_.h"


def test_expected_identities_are_those_of_the_endpoints() -> None:
    endpoints = [Workload("foo", "a", service_account="web"), Workload("foo", "b", service_account="web"), NAKED]
    assert expected_identities(endpoints) == (
        "spiffe://cluster.local/ns/foo/sa/default",
        "spiffe://cluster.local/ns/foo/sa/web",
    )
    assert expected_identities([]) == ()
    moved = expected_identities(endpoints[:1], "new.example", ["old.example", "new.example"])
    assert [one.split("/ns/")[0] for one in moved] == ["spiffe://new.example", "spiffe://old.example"]
