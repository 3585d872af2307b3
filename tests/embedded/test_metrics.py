"""Istio's metrics as real proxies show them, read by the parser of Prometheus' own client library."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from labkit.embedded.controlplane import agent
from labkit.embedded.controlplane.translation.model import mesh_config
from tests.embedded.envoy_world import Curled, Mesh, curl, talk, wait_for

Object = dict[str, Any]
HTTP, TCP, NAKED = 8001, 8002, 8003
# https://istio.io/latest/docs/reference/config/metrics/, and proxy:testdata/metric of istio/proxy
# Read a second time, on purpose: not imported from translation/metrics_page.py, which is what is tested here.
LABELS = {
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
}
SERVED = {"destination_service": "httpbin.foo.svc.cluster.local"}
SLEEP, HTTPBIN = "spiffe://cluster.local/ns/foo/sa/sleep", "spiffe://cluster.local/ns/foo/sa/httpbin"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server for HTTP and TCP, a client of the mesh, a server without a sidecar; curl itself is a naked client."""
    with Mesh("metrics") as mesh:
        mesh.server("httpbin", http=(HTTP,), tcp=(TCP,), labels={"version": "v2"})
        mesh.server("legacy", http=(NAKED,), sidecar=False)
        mesh.pod("sleep")
        mesh.push()
        # Connections from before the Service was known end first.
        wait_for("the service", lambda: from_the_mesh(mesh).status == 200 and bool(samples(mesh, "httpbin", **SERVED)))
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("Telemetry")


def from_the_mesh(mesh: Mesh, path: str = "/", *options: str, service: str = "httpbin", port: int = HTTP) -> Curled:
    return curl(mesh.seen_from("sleep", service), port, path, *options)


def straight(mesh: Mesh, path: str) -> Curled:
    """A request on a connection of its own: those that stood keep their filters until they end."""
    return curl(mesh.ip("httpbin"), HTTP, path)


def page(mesh: Mesh, pod: str, port: int = 15090) -> str:
    with urllib.request.urlopen(f"http://{mesh.ip(pod)}:{port}/stats/prometheus", timeout=5) as answer:
        return str(answer.read().decode())


def samples(mesh: Mesh, pod: str, name: str = "istio_requests_total", **labels: str) -> list[Sample]:
    found = [s for family in text_string_to_metric_families(page(mesh, pod)) for s in family.samples]
    return [s for s in found if s.name == name and labels.items() <= s.labels.items()]


def count(mesh: Mesh, pod: str, name: str = "istio_requests_total", **labels: str) -> float:
    return sum(one.value for one in samples(mesh, pod, name, **labels))


def test_both_sides_of_a_request_in_the_mesh(mesh: Mesh) -> None:
    before = count(mesh, "httpbin", reporter="destination", connection_security_policy="mutual_tls")
    sent = count(mesh, "sleep", reporter="source", destination_workload="httpbin")
    assert from_the_mesh(mesh).status == 200
    wait_for(
        "the server to count",
        lambda: count(mesh, "httpbin", reporter="destination", connection_security_policy="mutual_tls") == before + 1,
    )
    wait_for("the client to count", lambda: count(mesh, "sleep", destination_workload="httpbin") == sent + 1)
    received = samples(mesh, "httpbin", source_workload="sleep", **SERVED)[0]
    assert set(received.labels) == LABELS
    assert received.labels | {} == {
        "reporter": "destination",
        "source_workload": "sleep",
        "source_canonical_service": "sleep",
        "source_canonical_revision": "latest",
        "source_workload_namespace": "foo",
        "source_principal": SLEEP,
        "source_app": "sleep",
        "source_version": "unknown",
        "source_cluster": "Kubernetes",
        "destination_workload": "httpbin",
        "destination_workload_namespace": "foo",
        "destination_principal": HTTPBIN,
        "destination_app": "httpbin",
        "destination_version": "v2",
        "destination_service": "httpbin.foo.svc.cluster.local",
        "destination_canonical_service": "httpbin",
        "destination_canonical_revision": "v2",
        "destination_service_name": "httpbin",
        "destination_service_namespace": "foo",
        "destination_cluster": "Kubernetes",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "mutual_tls",
    }
    sent_one = samples(mesh, "sleep", "istio_requests_total", destination_workload="httpbin")[0]
    # The client's word on the policy is always unknown; both principals it knows from the handshake.
    changed = {"reporter": "source", "connection_security_policy": "unknown"}
    assert sent_one.labels == received.labels | changed


def test_a_caller_without_a_sidecar_is_unknown(mesh: Mesh) -> None:
    assert curl(mesh.ip("httpbin"), HTTP, "/").status == 200
    wait_for("the server to count", lambda: count(mesh, "httpbin", connection_security_policy="none") >= 1)
    one = samples(mesh, "httpbin", "istio_requests_total", connection_security_policy="none")[0]
    told = {name.removeprefix("source_"): value for name, value in one.labels.items() if name.startswith("source_")}
    assert told.pop("canonical_revision") == "latest"
    assert set(told.values()) == {"unknown"}
    assert one.labels["destination_principal"] == "unknown"


def test_a_server_without_a_sidecar_is_known_to_its_clients(mesh: Mesh) -> None:
    assert from_the_mesh(mesh, service="legacy", port=NAKED).status == 200
    wait_for("the client to count", lambda: count(mesh, "sleep", destination_workload="legacy") >= 1)
    one = samples(mesh, "sleep", "istio_requests_total", destination_workload="legacy")[0]
    assert one.labels["destination_service"] == "legacy.foo.svc.cluster.local"
    assert one.labels["source_principal"] == one.labels["destination_principal"] == "unknown"


def test_the_application_never_sees_who_the_proxies_say_they_are(mesh: Mesh) -> None:
    inside = json.loads(from_the_mesh(mesh).body)["headers"]
    assert "x-envoy-peer-metadata" not in inside
    forged = curl(mesh.ip("httpbin"), HTTP, "/", "-H", "x-envoy-peer-metadata: nobody")
    assert "x-envoy-peer-metadata" not in json.loads(forged.body)["headers"]


def test_what_strict_refuses_is_no_request_of_the_server(mesh: Mesh) -> None:
    mesh.policy("STRICT")
    mesh.settled("httpbin", lambda listener: "raw_buffer" not in json.dumps(listener))
    before = count(mesh, "httpbin")
    assert curl(mesh.ip("httpbin"), HTTP, "/").exit_code == 56
    assert from_the_mesh(mesh).status == 200
    wait_for("the server to count", lambda: count(mesh, "httpbin") == before + 1)
    assert mesh.sidecars["httpbin"].counters("no_filter_chain_match")
    mesh.no_policy()
    wait_for("plaintext again", lambda: curl(mesh.ip("httpbin"), HTTP, "/").status == 200)


def test_the_length_of_requests_is_counted_in_buckets(mesh: Mesh) -> None:
    assert from_the_mesh(mesh).status == 200
    for name in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"):
        wait_for(name, lambda name=name: count(mesh, "httpbin", f"{name}_count", source_workload="sleep") >= 1)
        edges = {one.labels["le"] for one in samples(mesh, "httpbin", f"{name}_bucket", source_workload="sleep")}
        assert {"1", "5", "10", "100", "1000", "+Inf"} <= edges
    assert count(mesh, "httpbin", "istio_response_bytes_sum", source_workload="sleep") > 0


def test_connections_of_tcp(mesh: Mesh) -> None:
    assert talk(mesh.seen_from("sleep", "httpbin"), TCP, b"hello", tls=False)[0] == b"echo:hello"
    mtls = {"connection_security_policy": "mutual_tls", "source_principal": SLEEP, "request_protocol": "tcp"}
    wait_for("the connection to end", lambda: count(mesh, "httpbin", "istio_tcp_connections_closed_total", **mtls) >= 1)
    assert count(mesh, "httpbin", "istio_tcp_connections_opened_total", **mtls) >= 1
    assert count(mesh, "httpbin", "istio_tcp_received_bytes_total", **mtls) == 5
    assert count(mesh, "httpbin", "istio_tcp_sent_bytes_total", **mtls) == 10
    one = samples(mesh, "httpbin", "istio_tcp_connections_opened_total", **mtls)[0]
    assert LABELS - one.labels.keys() == {"response_code", "grpc_response_status"}
    # The namespace stands in the certificate; the rest of the source is not told to TCP servers.
    assert one.labels["source_workload_namespace"] == "foo"
    assert count(mesh, "sleep", "istio_tcp_connections_opened_total", destination_workload="httpbin") >= 1
    assert not samples(mesh, "httpbin", "istio_tcp_connections_opened_total", connection_security_policy="none")


def telemetry(mesh: Mesh, spec: Object, *, name: str = "test", namespace: str = "foo") -> None:
    mesh.apply("Telemetry", spec, name=name, namespace=namespace)


def of_httpbin(**more: Any) -> Object:
    return {"selector": {"matchLabels": {"app": "httpbin"}}, **more}


def by(name: str, **more: Any) -> Object:
    return {"providers": [{"name": name}], **more}


def test_a_metric_is_switched_off_on_one_side_alone(mesh: Mesh) -> None:
    off = {"match": {"metric": "REQUEST_COUNT", "mode": "SERVER"}, "disabled": True}
    telemetry(mesh, {"metrics": [{"providers": [{"name": "prometheus"}], "overrides": [off]}]})
    mesh.settled("httpbin", lambda listener: "istio_requests_total" not in json.dumps(listener))
    lasted = "istio_request_duration_milliseconds_count"
    wait_for("the counters to come to rest", lambda: count(mesh, "httpbin") == count(mesh, "httpbin", lasted))
    received, sent = count(mesh, "httpbin"), count(mesh, "sleep")
    assert straight(mesh, "/").status == 200
    assert from_the_mesh(mesh, service="legacy", port=NAKED).status == 200
    wait_for("the client to count", lambda: count(mesh, "sleep") == sent + 1)
    wait_for("what is not switched off", lambda: count(mesh, "httpbin", lasted) == received + 1)
    assert count(mesh, "httpbin") == received


def test_labels_are_added_changed_and_removed(mesh: Mesh) -> None:
    tags = {
        "request_host": {"value": "request.host"},
        "source_cluster": {"value": "'blue'"},
        "grpc_response_status": {"operation": "REMOVE"},
    }
    spec = {"metrics": [{"overrides": [{"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": tags}]}]}
    telemetry(mesh, spec)
    mesh.settled("httpbin", lambda listener: "request_host" in json.dumps(listener))
    assert curl(mesh.ip("httpbin"), HTTP, "/", "-H", "Host: httpbin.foo").status == 200
    wait_for("the label", lambda: bool(samples(mesh, "httpbin", "istio_requests_total", request_host="httpbin.foo")))
    one = samples(mesh, "httpbin", "istio_requests_total", request_host="httpbin.foo")[0]
    assert one.labels["source_cluster"] == "blue"
    assert "grpc_response_status" not in one.labels
    lasted = samples(mesh, "httpbin", "istio_request_duration_milliseconds_count")[-1]
    assert "request_host" not in lasted.labels  # another metric


def test_access_logs_can_be_off_filtered_and_in_json(mesh: Mesh) -> None:
    def logged(path: str) -> list[str]:
        return [line for line in mesh.sidecars["httpbin"].printed().splitlines() if path in line]

    assert straight(mesh, "/told").status == 200
    wait_for("the line", lambda: len(logged("/told")) == 1)
    assert '"GET /told HTTP/1.1" 200 - via_upstream - "-"' in logged("/told")[0]
    assert "inbound|8001||" in logged("/told")[0]

    telemetry(mesh, of_httpbin(accessLogging=[by("envoy", filter={"expression": "response.code >= 400"})]))
    mesh.settled("httpbin", lambda listener: "response.code >= 400" in json.dumps(listener))
    assert straight(mesh, "/quiet").status == 200
    assert straight(mesh, "/broken").status == 404
    wait_for("the line of the error", lambda: len(logged("/broken")) == 1)
    assert not logged("/quiet")

    telemetry(mesh, of_httpbin(accessLogging=[by("envoy", disabled=True)]))
    mesh.settled("httpbin", lambda listener: "FileAccessLog" not in json.dumps(listener))
    assert straight(mesh, "/broken").status == 404

    telemetry(mesh, of_httpbin(accessLogging=[by("json")]))
    settings = {"extensionProviders": [{"name": "json", "envoyFileAccessLog": {"logFormat": {"labels": {}}}}]}
    mesh.state.on_mesh(mesh_config(settings, root_namespace="istio-system"))
    mesh.push()
    mesh.settled("httpbin", lambda listener: "json_format" in json.dumps(listener))
    assert straight(mesh, "/as-json").status == 200
    wait_for("the line", lambda: len(logged("/as-json")) == 1)
    line = json.loads(logged("/as-json")[0])
    assert line["response_code"] == 200 and line["authority"] and line["upstream_cluster"] == "inbound|8001||"
    assert len(logged("/broken")) == 1  # the one before logs were off


def test_an_expression_that_envoy_cannot_read_is_refused_and_changes_nothing(mesh: Mesh) -> None:
    telemetry(mesh, of_httpbin(accessLogging=[by("envoy", filter={"expression": "response.code >="})]))
    wait_for("the rejection", lambda: any(one[1] == "listeners" for one in mesh.rejections), 5)
    assert from_the_mesh(mesh).status == 200


def test_the_application_s_own_metrics_stand_on_the_same_page(mesh: Mesh) -> None:
    own = json.dumps({"scrape": "true", "port": str(HTTP), "path": "/metrics?of=app"})
    mesh.pod("shop", ports=(HTTP,), env={"ISTIO_PROMETHEUS_ANNOTATIONS": own})
    # Nobody listens there yet: the page is without them, and complete.
    assert "istio_" in page(mesh, "shop", 15020) or "envoy_" in page(mesh, "shop", 15020)
    mesh.http_app("shop", HTTP)
    wait_for("the application's page", lambda: '"path": "/metrics?of=app"' in page(mesh, "shop", 15020))
    assert "envoy_server_uptime" in page(mesh, "shop", 15020)
    assert '"path"' not in page(mesh, "shop", 15090)


def test_pilot_agent_shows_the_metrics_as_scrapers_see_them(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert from_the_mesh(mesh).status == 200
    environment = mesh.sidecars["httpbin"].environment

    def shown(path: str) -> str:
        assert agent.main(["request", "GET", path], environment) == 0
        return capsys.readouterr().out

    wait_for(
        "the request", lambda: 'istio_requests_total{reporter="destination"' in shown("/stats/prometheus?usedonly")
    )
    assert "envoy_istio_" not in shown("stats/prometheus")
    # The twin: another path is Envoy's own.
    assert "istio_requests_total.istio." in shown("stats")
