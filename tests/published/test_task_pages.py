"""What Istio's task pages print, as tables from -> to: code. Namespaces foo and bar have sidecars, legacy has none.

https://istio.io/latest/docs/tasks/security/authentication/mtls-migration/
https://istio.io/latest/docs/tasks/security/authentication/authn-policy/
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.outcomes import Outcome, Probe
from labkit.policy import World
from tests.published.objects import ROOT, peer_authentication, pod, service

# httpbin's Service: port 8000 named http leads to container port 80 (samples/httpbin/httpbin.yaml of those pages)
BASE: list[dict[str, Any]] = [
    one
    for namespace, sidecar in (("foo", True), ("bar", True), ("legacy", False))
    for one in (
        pod(namespace, "curl", sidecar=sidecar),
        pod(namespace, "httpbin", sidecar=sidecar),
        service(namespace, "httpbin", 8000, 80),
    )
]
HTTPBIN = {"app": "httpbin"}
MESH_STRICT = peer_authentication(ROOT, "default", "STRICT")
FOO_STRICT = peer_authentication("foo", "default", "STRICT")
BAR_HTTPBIN_STRICT = peer_authentication("bar", "httpbin", "STRICT", labels=HTTPBIN)
BAR_HTTPBIN_PORT = peer_authentication("bar", "httpbin", "STRICT", labels=HTTPBIN, ports={80: "DISABLE"})
FOO_HTTPBIN_DISABLE = peer_authentication("foo", "overwrite-example", "DISABLE", labels=HTTPBIN)
NAMESPACES = ("foo", "bar", "legacy")

# page and section, policies, the edges that print `000` and `command terminated with exit code 56`
PAGES = [
    ("mtls-migration: before", [], []),
    ("mtls-migration: lock down foo", [FOO_STRICT], [("legacy", "foo")]),
    ("mtls-migration: lock down the mesh", [MESH_STRICT], [("legacy", "foo"), ("legacy", "bar")]),
    ("authn-policy: auto mutual TLS", [], []),
    ("authn-policy: globally STRICT", [MESH_STRICT], [("legacy", "foo"), ("legacy", "bar")]),
    ("authn-policy: namespace-wide", [FOO_STRICT], [("legacy", "foo")]),
    ("authn-policy: per workload", [FOO_STRICT, BAR_HTTPBIN_STRICT], [("legacy", "foo"), ("legacy", "bar")]),
    ("authn-policy: per port", [FOO_STRICT, BAR_HTTPBIN_PORT], [("legacy", "foo")]),
    ("authn-policy: policy precedence", [FOO_STRICT, FOO_HTTPBIN_DISABLE], []),
]
CELLS = [
    pytest.param(policies, client, server, (client, server) in refused, id=f"{page}: curl.{client} to httpbin.{server}")
    for page, policies, refused in PAGES
    for client in NAMESPACES
    for server in NAMESPACES
    # the migration page has no httpbin in legacy
    if not (page.startswith("mtls-migration") and server == "legacy")
]


@pytest.mark.parametrize(("policies", "client", "server", "refused"), CELLS)
def test_curl_to_httpbin(policies: list[dict[str, Any]], client: str, server: str, refused: bool) -> None:
    verdict = World.of([*BASE, *policies]).predict(Probe(f"{client}/curl", f"{server}/httpbin", 8000))
    printed = (verdict.http_status, verdict.exit_code)
    assert printed == ((None, 56) if refused else (200, 0))


@pytest.mark.parametrize(
    ("policies", "client", "server", "outcome"),
    [
        pytest.param([], "foo", "bar", Outcome.MTLS, id="auto mTLS between sidecars: X-Forwarded-Client-Cert"),
        pytest.param([], "foo", "legacy", Outcome.PLAINTEXT, id="no sidecar, no X-Forwarded-Client-Cert"),
        pytest.param([], "legacy", "foo", Outcome.PLAINTEXT, id="PERMISSIVE takes plaintext"),
        pytest.param([FOO_HTTPBIN_DISABLE], "bar", "foo", Outcome.PLAINTEXT, id="clients follow DISABLE by themselves"),
        pytest.param([BAR_HTTPBIN_PORT], "foo", "bar", Outcome.PLAINTEXT, id="clients follow DISABLE on a port"),
    ],
)
def test_how_it_is_carried(policies: list[dict[str, Any]], client: str, server: str, outcome: Outcome) -> None:
    verdict = World.of([*BASE, *policies]).predict(Probe(f"{client}/curl", f"{server}/httpbin", 8000))
    assert verdict.outcome is outcome
