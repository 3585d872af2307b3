"""DestinationRules with real traffic: what a client's proxy then sends, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.policy.calls import call_service, predict_call
from labkit.policy.workload import workload_from_pod
from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for

Object = dict[str, Any]
HTTP = 8001


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server with a sidecar, one without, and a client."""
    with Mesh("rules") as mesh:
        mesh.server("inside", http=(HTTP,), labels={"version": "v1"})
        mesh.server("outside", http=(HTTP,), sidecar=False)
        mesh.pod("sleep")
        mesh.push()
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("DestinationRule", "PeerAuthentication")


def apply(mesh: Mesh, host: str, *, namespace: str = "foo", name: str = "test", **spec: Any) -> None:
    mesh.apply("DestinationRule", {"host": host, **spec}, namespace=namespace, name=name)


def tls(mode: str, **more: Any) -> Object:
    return {"trafficPolicy": {"tls": {"mode": mode, **more}}}


def call(mesh: Mesh, service: str) -> Curled:
    return curl(mesh.seen_from("sleep", service), HTTP)


def seen(mesh: Mesh, service: str) -> str:
    """What a caller sees, in a word: mTLS, plaintext or 503."""
    answer = call(mesh, service)
    if answer.status != 200:
        return str(answer.status)
    return "mTLS" if answer.caller else "plaintext"


def cluster_of(mesh: Mesh, service: str, subset: str = "") -> Object:
    return mesh.sidecars["sleep"].cluster(HTTP, f"{service}.foo.svc.cluster.local", subset)


ROWS = [
    # service, PeerAuthentication, DestinationRule -> what is seen
    ("inside", "PERMISSIVE", None, "mTLS"),
    ("inside", "STRICT", None, "mTLS"),
    ("outside", "PERMISSIVE", None, "plaintext"),
    ("inside", "PERMISSIVE", tls("DISABLE"), "plaintext"),
    ("inside", "STRICT", tls("DISABLE"), "503"),
    ("inside", "STRICT", {"trafficPolicy": {"tls": {}}}, "503"),
    ("inside", "STRICT", tls("ISTIO_MUTUAL"), "mTLS"),
    ("inside", "DISABLE", tls("ISTIO_MUTUAL"), "503"),
    ("outside", "PERMISSIVE", tls("ISTIO_MUTUAL"), "503"),
    ("outside", "PERMISSIVE", tls("SIMPLE"), "503"),
    ("inside", "STRICT", tls("SIMPLE"), "503"),
    ("inside", "PERMISSIVE", tls("SIMPLE"), "503"),
    ("inside", "STRICT", tls("SIMPLE", credentialName="secret"), "503"),
    ("inside", "PERMISSIVE", tls("SIMPLE", credentialName="secret"), "plaintext"),
    ("inside", "STRICT", {"trafficPolicy": {"portLevelSettings": [{"port": {"number": HTTP}}]}}, "mTLS"),
    ("inside", "STRICT", {"subsets": [{"name": "v1", **tls("DISABLE")}]}, "mTLS"),  # no route names the subset
]


@pytest.mark.parametrize(("service", "mode", "spec", "expected"), ROWS, ids=[json.dumps(row) for row in ROWS])
def test_what_is_seen_is_what_the_rule_says_and_what_is_predicted(
    mesh: Mesh, service: str, mode: str, spec: Object | None, expected: str
) -> None:
    mesh.policy(mode)
    if spec is not None:
        apply(mesh, service, **spec)
    # Once, and then once more: the row holds, it does not only pass by.
    wait_for(f"{service} to be {expected}", lambda: seen(mesh, service) == expected)
    assert seen(mesh, service) == expected
    assert predicted(mesh, service, mode, spec) in (expected, "unknown")


def predicted(mesh: Mesh, service: str, mode: str, spec: Object | None) -> str:
    pods = [workload_from_pod(pod) for pod in mesh._pods.values()]
    client = next(one for one in pods if one.name == "sleep")
    metadata = {"name": service, "namespace": "foo"}
    port = {"port": HTTP, "name": "http"}
    obj = {"metadata": metadata, "spec": {"selector": {"app": service}, "ports": [port]}}
    policy = {"metadata": {"name": "default", "namespace": "foo"}, "spec": {"mtls": {"mode": mode}}}
    rules = (
        [] if spec is None else [{"metadata": {"name": "test", "namespace": "foo"}, "spec": {"host": service, **spec}}]
    )
    verdict = predict_call(client, call_service(obj, port, pods), [policy], destination_rules=rules)
    if verdict.refused and spec and "tls" in spec.get("trafficPolicy", {}):
        assert verdict.decided_by.kind == "DestinationRule" or mode == "DISABLE"
    return str(verdict.http_status) if verdict.refused else str(verdict.outcome)


def test_a_rule_in_the_root_namespace_for_all_hosts_cuts_off_servers_without_a_sidecar(mesh: Mesh) -> None:
    wait_for("the start", lambda: seen(mesh, "outside") == "plaintext")
    apply(mesh, "*", namespace="istio-system", **tls("ISTIO_MUTUAL"))
    wait_for("the cut", lambda: seen(mesh, "outside") == "503")
    assert seen(mesh, "inside") == "mTLS"


def test_a_rule_that_is_not_exported_here_changes_nothing(mesh: Mesh) -> None:
    apply(mesh, "inside.foo.svc.cluster.local", namespace="istio-system", exportTo=["."], **tls("DISABLE"))
    apply(mesh, "outside", name="marker", trafficPolicy={"connectionPool": {"tcp": {"connectTimeout": "3s"}}})
    wait_for("the marker", lambda: cluster_of(mesh, "outside")["connect_timeout"] == "3s")
    assert seen(mesh, "inside") == "mTLS"


def test_subsets_are_clusters_with_the_endpoints_that_have_the_labels(mesh: Mesh) -> None:
    subsets = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]
    apply(mesh, "inside", subsets=subsets)
    wait_for("the subset", lambda: any("|v1|" in one["name"] for one in clusters(mesh)))
    addresses = [
        one["endpoint"]["address"]["socket_address"]["address"]
        for group in cluster_of(mesh, "inside", "v1")["load_assignment"]["endpoints"]
        for one in group["lb_endpoints"]
    ]
    assert addresses == [mesh.ip("inside")]
    assert "endpoints" not in cluster_of(mesh, "inside", "v2")["load_assignment"]
    sni = json.dumps(cluster_of(mesh, "inside", "v1"))
    assert f"outbound_.{HTTP}_.v1_.inside.foo.svc.cluster.local" in sni


def test_a_subsets_tls_counts_once_a_route_names_the_subset(mesh: Mesh) -> None:
    mesh.policy("STRICT")
    apply(mesh, "inside", subsets=[{"name": "v1", "labels": {"version": "v1"}, **tls("DISABLE")}])
    # A subset of that name may still be there from another rule: what is awaited is this one, without any TLS.
    wait_for("the subset", lambda: any(plaintext_subset(one) for one in clusters(mesh)))
    assert "transport_socket_matches" in cluster_of(mesh, "inside"), "the service itself is as it was"
    assert seen(mesh, "inside") == "mTLS"
    route = {"destination": {"host": "inside", "subset": "v1"}}
    metadata = {"name": "inside", "namespace": "foo", "creationTimestamp": "2026-01-01T00:00:00Z"}
    service = {"metadata": metadata, "spec": {"hosts": ["inside"], "http": [{"route": [route]}]}}
    mesh.state.on_config("VirtualService", "ADDED", service)
    mesh.push()
    try:
        wait_for("plaintext, and its refusal", lambda: seen(mesh, "inside") == "503")
    finally:
        mesh.state.on_config("VirtualService", "DELETED", service)
        mesh.push()
    wait_for("mTLS again", lambda: seen(mesh, "inside") == "mTLS")


def plaintext_subset(cluster: Object) -> bool:
    return "|v1|inside" in cluster["name"] and "transport_socket_matches" not in cluster


def clusters(mesh: Mesh) -> list[Object]:
    return mesh.sidecars["sleep"].config("active_clusters")


def test_pools_outliers_and_balancing_arrive_in_envoy(mesh: Mesh) -> None:
    policy = {
        "loadBalancer": {"simple": "RANDOM"},
        "connectionPool": {
            "tcp": {"maxConnections": 3, "connectTimeout": "1500ms", "tcpKeepalive": {"probes": 2, "time": "1m"}},
            "http": {"http1MaxPendingRequests": 4, "maxRequestsPerConnection": 1, "idleTimeout": "5s"},
        },
        "outlierDetection": {"consecutive5xxErrors": 7, "interval": "1s", "baseEjectionTime": "3m"},
    }
    before = cluster_of(mesh, "inside")
    assert before["lb_policy"] == "LEAST_REQUEST"
    assert "outlier_detection" not in before
    apply(mesh, "inside", trafficPolicy=policy)
    wait_for("the pool", lambda: cluster_of(mesh, "inside")["connect_timeout"] == "1.500s")
    now = cluster_of(mesh, "inside")
    assert now["lb_policy"] == "RANDOM"
    (limits,) = now["circuit_breakers"]["thresholds"]
    assert (limits["max_connections"], limits["max_pending_requests"]) == (3, 4)
    assert now["outlier_detection"]["consecutive_5xx"] == 7
    assert now["outlier_detection"]["base_ejection_time"] == "180s"
    assert now["upstream_connection_options"]["tcp_keepalive"] == {"keepalive_probes": 2, "keepalive_time": 60}
    assert call(mesh, "inside").status == 200
