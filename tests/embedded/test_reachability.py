"""Who reaches whom: clients and servers with and without a sidecar, under every pair of policies, with real traffic.

The combinations are those that Istio's own integration test goes through (tests/integration/security/
reachability_test.go): PeerAuthentication for the mesh times a DestinationRule for `*.local`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.outcomes import RequestKind
from labkit.policy.calls import call_service, predict_call
from labkit.policy.workload import workload_from_pod
from tests.embedded.envoy_world import Mesh, curl, talk, wait_for

Object = dict[str, Any]
HTTP, TCP = 8001, 8002
PORTS = {"http": HTTP, "tcp": TCP}

MODES = ("PERMISSIVE", "STRICT", "DISABLE")
RULES = (None, "DISABLE", "ISTIO_MUTUAL")

# What the server meets, for a client with a sidecar; a naked client sends plaintext whatever is configured.
WITH_SIDECAR = {
    # (PeerAuthentication, DestinationRule): (server with a sidecar, server without)
    ("PERMISSIVE", None): ("mTLS", "plaintext"),
    ("STRICT", None): ("mTLS", "plaintext"),
    ("DISABLE", None): ("plaintext", "plaintext"),
    ("PERMISSIVE", "DISABLE"): ("plaintext", "plaintext"),
    ("STRICT", "DISABLE"): ("refused", "plaintext"),
    ("DISABLE", "DISABLE"): ("plaintext", "plaintext"),
    ("PERMISSIVE", "ISTIO_MUTUAL"): ("mTLS", "refused"),
    ("STRICT", "ISTIO_MUTUAL"): ("mTLS", "refused"),
    ("DISABLE", "ISTIO_MUTUAL"): ("refused", "refused"),
}
NAKED = {"PERMISSIVE": "plaintext", "DISABLE": "plaintext", "STRICT": "refused"}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """One of each: `inside` and `sleep` have a sidecar, `outside` has none; curl itself is the naked client."""
    with Mesh("reach") as mesh:
        mesh.pod("inside", ports=(HTTP, TCP))
        mesh.pod("outside", ports=(HTTP, TCP), sidecar=False)
        mesh.pod("naked", sidecar=False)
        mesh.pod("sleep")
        for name in ("inside", "outside"):
            mesh.service(name, *({"port": number, "name": protocol} for protocol, number in PORTS.items()))
        mesh.http_app("inside", HTTP)
        mesh.http_app("outside", HTTP, sidecar=False)
        mesh.tcp_app("inside", TCP)
        mesh.tcp_app("outside", TCP, sidecar=False)
        mesh.push()
        yield mesh


def configure(mesh: Mesh, mode: str, rule: str | None) -> None:
    created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    name = {"name": "default", "namespace": "istio-system", **created}
    mesh.state.on_config("PeerAuthentication", "ADDED", {"metadata": name, "spec": {"mtls": {"mode": mode}}})
    mesh.state.on_config(
        "DestinationRule",
        "ADDED" if rule else "DELETED",
        {"metadata": name, "spec": {"host": "*.local", "trafficPolicy": {"tls": {"mode": rule or "DISABLE"}}}},
    )
    mesh.push()


def met(mesh: Mesh, client: str, server: str, protocol: str) -> str:
    """What happened to one request, seen at the server."""
    port = PORTS[protocol]
    address = mesh.ip(server)
    if client == "sleep":
        address = mesh.seen_from("sleep", server)
    if protocol == "tcp":
        # Whether the bytes travelled in mTLS an echo does not tell.
        return "answered" if talk(address, port, b"ping pong", tls=False)[0] else "refused"
    answer = curl(address, port)
    if answer.status != 200:
        return "refused"
    return "mTLS" if answer.caller else "plaintext"


def expected(mode: str, rule: str | None, client: str, server: str) -> str:
    if client == "sleep":
        return WITH_SIDECAR[mode, rule][server == "outside"]
    return NAKED[mode] if server == "inside" else "plaintext"


def predicted(mesh: Mesh, mode: str, rule: str | None, client: str, server: str, protocol: str) -> str:
    workloads = {one.name: one for one in map(workload_from_pod, mesh._pods.values())}
    port = {"port": PORTS[protocol], "name": protocol}
    service = {"metadata": {"name": server, "namespace": "foo"}, "spec": {"selector": {"app": server}, "ports": [port]}}
    root = {"name": "default", "namespace": "istio-system"}
    rules = [{"metadata": root, "spec": {"host": "*.local", "trafficPolicy": {"tls": {"mode": rule}}}}] if rule else []
    verdict = predict_call(
        workloads[client],
        call_service(service, port, workloads.values()),
        [{"metadata": root, "spec": {"mtls": {"mode": mode}}}],
        request=RequestKind.HTTP if protocol == "http" else RequestKind.TCP,
        destination_rules=rules,
    )
    return "refused" if verdict.refused else str(verdict.outcome)


EDGES = tuple(itertools.product(("sleep", "naked"), ("inside", "outside"), PORTS))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", MODES)
def test_every_edge_is_as_the_table_says_and_as_predicted(mesh: Mesh, mode: str, rule: str | None) -> None:
    configure(mesh, mode, rule)
    for client, server, protocol in EDGES:
        wanted = expected(mode, rule, client, server)
        assert predicted(mesh, mode, rule, client, server, protocol) == wanted, (client, server, protocol)
        seen_as = wanted if protocol == "http" or wanted == "refused" else "answered"
        edge = f"{client} -> {server} ({protocol}) to be {seen_as}"
        wait_for(edge, lambda c=client, s=server, p=protocol, w=seen_as: met(mesh, c, s, p) == w)  # type: ignore[misc]
    # And once more at the end, when nothing changes any more: no edge only passed by.
    for client, server, protocol in EDGES:
        wanted = expected(mode, rule, client, server)
        seen_as = wanted if protocol == "http" or wanted == "refused" else "answered"
        assert met(mesh, client, server, protocol) == seen_as, (client, server, protocol)
