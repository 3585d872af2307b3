"""Ports 15021, 15020 and 15090, and the application's probes behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.embedded.controlplane.translation.bootstrap import make_bootstrap
from labkit.embedded.controlplane.translation.special import (
    make_agent_listener,
    make_probe_clusters,
    make_ready_listener,
)
from tests.unit.controlplane.objects import make_pod, make_world

PROBERS = {
    "/app-health/app/readyz": {
        "httpGet": {"path": "/ok?a=1", "port": 80, "httpHeaders": [{"name": "Host", "value": "me"}]},
        "timeoutSeconds": 3,
    },
    "/app-health/app/livez": {"tcpSocket": {"port": 5432}},
    "/app-health/app/startupz": {"grpc": {"port": 9000, "service": "x"}},
}


def sidecar_with_probes() -> Any:
    return make_world(make_pod(probers=PROBERS))[1]


def routes_of(listener: dict[str, Any]) -> list[dict[str, Any]]:
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return routes


def test_readiness_is_answered_on_the_pods_address() -> None:
    listener = make_ready_listener(sidecar_with_probes())
    assert listener["address"]["socket_address"] == {"address": "127.99.5.1", "port_value": 15021}
    assert "/healthz/ready" in str(listener)


def test_an_http_probe_goes_to_the_original_path_host_and_port_with_its_timeout() -> None:
    route = next(r for r in routes_of(make_agent_listener(sidecar_with_probes())) if r["name"].endswith("readyz"))
    assert route["match"] == {"path": "/app-health/app/readyz"}
    assert route["route"]["regex_rewrite"]["substitution"] == "/ok?a=1"
    assert route["route"]["host_rewrite_literal"] == "me"
    assert route["route"]["timeout"] == "3s"
    cluster = next(c for c in make_probe_clusters(sidecar_with_probes()) if c["name"] == "probe|app|readyz")
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "127.99.5.2", "port_value": 20080}


def test_tcp_and_grpc_probes_are_answered_from_health_checks() -> None:
    clusters = {c["name"]: c for c in make_probe_clusters(sidecar_with_probes())}
    assert "tcp_health_check" in clusters["probe|app|livez"]["health_checks"][0]
    assert clusters["probe|app|startupz"]["health_checks"][0]["grpc_health_check"] == {"service_name": "x"}
    assert "health_checks" not in clusters["probe|app|readyz"]


def test_only_the_metrics_of_the_admin_interface_can_be_reached_from_outside() -> None:
    environment = {"POD_NAMESPACE": "foo", "POD_NAME": "httpbin", "INSTANCE_IP": "127.99.5.1"}
    bootstrap = make_bootstrap(environment, Path("/xds"), Path("/run/a.sock"))
    assert bootstrap["admin"]["address"]["pipe"] == {"path": "/run/a.sock", "mode": 0o600}
    stats, admin, relay = bootstrap["static_resources"]["listeners"]
    assert [route["match"] for route in routes_of(stats)] == [{"path": "/stats/prometheus"}]
    assert admin["address"]["socket_address"] == {"address": "127.99.5.2", "port_value": 15000}, "inside of the pod"
    assert relay["address"]["pipe"] == {"path": "/run/xds-relay.sock", "mode": 0o600}


def test_a_sidecar_asks_istiod_and_while_that_is_away_a_listener_that_pauses() -> None:
    environment = {"POD_NAMESPACE": "foo", "POD_NAME": "httpbin", "INSTANCE_IP": "127.99.5.1"}
    bootstrap = make_bootstrap(environment, Path("/run/xds.sock"), Path("/run/1/a.sock"))
    clusters = {each["name"]: each for each in bootstrap["static_resources"]["clusters"]}
    first, second = clusters["xds-grpc"]["load_assignment"]["endpoints"]
    paths = [each["lb_endpoints"][0]["endpoint"]["address"]["pipe"]["path"] for each in (first, second)]
    assert paths == ["/run/xds.sock", "/run/1/xds-relay.sock"]
    for source in bootstrap["dynamic_resources"].values():
        assert source["api_config_source"]["cluster_names"] == ["xds-grpc"]
    relay = bootstrap["static_resources"]["listeners"][-1]
    assert routes_of(relay)[0]["route"]["retry_policy"]["retry_back_off"]["max_interval"] == "1s"


def test_the_node_is_named_as_istio_names_it() -> None:
    environment = {
        "POD_NAMESPACE": "foo",
        "POD_NAME": "httpbin-1",
        "INSTANCE_IP": "127.99.5.1",
        "ISTIO_META_WORKLOAD_NAME": "httpbin",
        "ISTIO_META_POD_PORTS": '[{"containerPort":80}]',
    }
    node = make_bootstrap(environment, Path("/xds"), Path("/run/a.sock"))["node"]
    assert node["id"] == "sidecar~127.99.5.1~httpbin-1.foo~foo.svc.cluster.local"
    assert node["cluster"] == "httpbin.foo"
    assert node["metadata"]["POD_PORTS"] == [{"containerPort": 80}]
