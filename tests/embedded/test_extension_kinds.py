"""Sidecar, EnvoyFilter and WasmPlugin in a real Envoy: what each changes, and that nothing changes without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for

Object = dict[str, Any]

MODULE = Path(__file__).resolve().parents[2] / "assets/wasm/response-header.wasm"
HTTP, ADMIN = 8001, 8002


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server with two services of its own, and a client."""
    with Mesh("kinds") as mesh:
        mesh.pod("httpbin", ports=(HTTP, ADMIN))
        mesh.pod("sleep")
        mesh.service("httpbin", {"port": HTTP, "name": "http"})
        mesh.service("other", {"port": HTTP, "name": "http"}, app="httpbin")
        for port in (HTTP, ADMIN):
            mesh.http_app("httpbin", port)
        mesh.push()
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    """Each test takes away what it applied."""
    yield
    mesh.remove("Sidecar", "EnvoyFilter", "WasmPlugin")


def call(mesh: Mesh, service: str = "httpbin", port: int = HTTP, *options: str) -> Curled:
    return curl(mesh.seen_from("sleep", service), port, "/", *options)


def becomes(mesh: Mesh, what: str, is_so: Callable[[Curled], bool], service: str = "httpbin") -> None:
    wait_for(what, lambda: is_so(call(mesh, service, HTTP, "-i")))


def header(name: str, value: str) -> Callable[[Curled], bool]:
    return lambda seen: f"{name}: {value}" in seen.body.lower()


LUA = {
    "name": "envoy.filters.http.lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {
            "inline_string": 'function envoy_on_response(handle) handle:headers():add("x-lua", "was-here") end'
        },
    },
}


def insert_lua(context: str, operation: str = "INSERT_BEFORE", **match: Any) -> Object:
    chain = {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": {"filterChain": chain, **match}},
        "patch": {"operation": operation, "value": LUA},
    }
    return {"configPatches": [patch]}


# EnvoyFilter


def test_an_inserted_filter_runs_at_the_server_and_ends_with_its_object(mesh: Mesh) -> None:
    becomes(mesh, "an answer without the header", lambda seen: seen.status == 200 and "x-lua" not in seen.body)
    mesh.apply("EnvoyFilter", {"workloadSelector": {"labels": {"app": "httpbin"}}, **insert_lua("SIDECAR_INBOUND")})
    becomes(mesh, "the header of the filter", header("x-lua", "was-here"))
    (http,) = {
        tuple(one["name"] for one in filter_["typed_config"]["http_filters"])
        for chain in mesh.sidecars["httpbin"].listener()["filter_chains"]
        for filter_ in chain["filters"]
        if filter_["name"].endswith("http_connection_manager")
    }
    assert http[0] == "envoy.filters.http.lua", "without a filter to stand beside, it comes first"
    mesh.remove("EnvoyFilter")
    becomes(mesh, "the header to go", lambda seen: seen.status == 200 and "x-lua" not in seen.body)


@pytest.mark.parametrize(
    ("spec", "namespace"),
    [
        ({"workloadSelector": {"labels": {"app": "nobody"}}, **insert_lua("SIDECAR_INBOUND")}, "foo"),
        (insert_lua("SIDECAR_INBOUND"), "bar"),
        (insert_lua("GATEWAY"), "foo"),
        (insert_lua("SIDECAR_INBOUND", portNumber=1), "foo"),
        (insert_lua("SIDECAR_OUTBOUND", name="another"), "foo"),
    ],
    ids=["another workload", "another namespace", "another context", "another port", "another listener"],
)
def test_a_filter_for_others_changes_nothing_here(mesh: Mesh, spec: Object, namespace: str) -> None:
    mesh.apply("EnvoyFilter", spec, namespace=namespace)
    # What does arrive afterwards, in the same way, shows that this one had its time.
    mesh.apply("EnvoyFilter", merge_timeout("4s"), name="marker")
    wait_for("the marker", lambda: cluster_of(mesh, "sleep")["connect_timeout"] == "4s")
    assert "x-lua" not in call(mesh, "httpbin", HTTP, "-i").body


def merge_timeout(value: str) -> Object:
    match = {"context": "SIDECAR_OUTBOUND", "cluster": {"service": "httpbin.foo.svc.cluster.local"}}
    # In camelCase on purpose: both spellings are right in an EnvoyFilter.
    patch = {"operation": "MERGE", "value": {"connectTimeout": value}}
    return {"configPatches": [{"applyTo": "CLUSTER", "match": match, "patch": patch}]}


def cluster_of(mesh: Mesh, pod: str, service: str = "httpbin") -> Object:
    return mesh.sidecars[pod].cluster(HTTP, f"{service}.foo.svc.cluster.local")


def test_a_merge_replaces_a_value_in_the_matching_cluster_alone(mesh: Mesh) -> None:
    mesh.apply("EnvoyFilter", merge_timeout("3s"))
    wait_for("the new timeout", lambda: cluster_of(mesh, "sleep")["connect_timeout"] == "3s")
    assert cluster_of(mesh, "sleep", "other")["connect_timeout"] == "10s"
    assert call(mesh).status == 200


def test_of_two_filters_the_one_with_the_higher_priority_has_the_last_word(mesh: Mesh) -> None:
    mesh.apply("EnvoyFilter", {**merge_timeout("3s"), "priority": 5}, name="a")
    mesh.apply("EnvoyFilter", {**merge_timeout("2s"), "priority": -5}, name="b")
    mesh.apply("EnvoyFilter", merge_timeout("1s"), name="c", namespace="istio-system")
    wait_for("the winner's timeout", lambda: cluster_of(mesh, "sleep")["connect_timeout"] == "3s")


def test_what_envoy_refuses_leaves_the_last_good_configuration(mesh: Mesh) -> None:
    becomes(mesh, "an answer", lambda seen: seen.status == 200)
    nonsense = {"name": "nonsense", "typed_config": {"@type": "type.googleapis.com/no.such.Filter"}}
    spec = insert_lua("SIDECAR_INBOUND")
    spec["configPatches"][0]["patch"]["value"] = nonsense
    mesh.apply("EnvoyFilter", spec)
    wait_for("Envoy's refusal", lambda: "no.such.Filter" in mesh.sidecars["httpbin"].printed())
    assert call(mesh).status == 200


# WasmPlugin


def plugin(**spec: Any) -> Object:
    return {"url": f"file://{MODULE}", "pluginConfig": {"greeting": "hello"}, **spec}


def test_a_plugin_runs_with_its_configuration_where_it_is_selected(mesh: Mesh) -> None:
    becomes(mesh, "an answer without the header", lambda seen: seen.status == 200 and "x-wasm" not in seen.body)
    mesh.apply("WasmPlugin", plugin(selector={"matchLabels": {"app": "httpbin"}}))
    becomes(
        mesh, "the plugin's header", header("x-wasm-plugin", json.dumps({"greeting": "hello"}, separators=(",", ":")))
    )
    mesh.apply("WasmPlugin", plugin(selector={"matchLabels": {"app": "nobody"}}))
    becomes(mesh, "the header to go", lambda seen: seen.status == 200 and "x-wasm" not in seen.body)


def test_a_plugin_for_clients_runs_once_and_at_the_client(mesh: Mesh) -> None:
    mesh.apply("WasmPlugin", plugin(match=[{"mode": "CLIENT"}]))
    becomes(mesh, "the plugin's header", lambda seen: seen.body.count("x-wasm-plugin") == 1)
    inbound = json.dumps(mesh.sidecars["httpbin"].listener())
    assert "wasm" not in inbound


def test_a_module_that_is_not_there_is_refused_and_nothing_changes(mesh: Mesh) -> None:
    becomes(mesh, "an answer", lambda seen: seen.status == 200)
    mesh.apply("WasmPlugin", plugin(url="file:///no/such/module.wasm"))
    wait_for("Envoy's refusal", lambda: "/no/such/module.wasm" in mesh.sidecars["httpbin"].printed())
    assert call(mesh).status == 200


# Sidecar


def egress(*hosts: str, **spec: Any) -> Object:
    return {"egress": [{"hosts": list(hosts)}], **spec}


def names(mesh: Mesh, pod: str = "sleep") -> set[str]:
    return {one["name"] for one in mesh.sidecars[pod].config("active_clusters") if one["name"].startswith("outbound|")}


def test_a_proxy_is_told_of_the_named_services_alone(mesh: Mesh) -> None:
    everything = {f"outbound|{HTTP}||{name}.foo.svc.cluster.local" for name in ("httpbin", "other")}
    wait_for("all services", lambda: names(mesh) == everything)
    mesh.apply("Sidecar", egress("./httpbin.foo.svc.cluster.local"))
    wait_for("one service", lambda: names(mesh) == {f"outbound|{HTTP}||httpbin.foo.svc.cluster.local"})
    assert call(mesh).caller.endswith("/sa/sleep"), "what is named is sent mTLS"


@pytest.mark.parametrize("policy", ["ALLOW_ANY", "REGISTRY_ONLY"])
def test_what_is_not_named_is_passed_on_or_blocked_as_the_mode_says(mesh: Mesh, policy: str) -> None:
    mesh.apply("Sidecar", egress("~/*", outboundTrafficPolicy={"mode": policy}))
    wait_for("no service", lambda: names(mesh) == set())
    if policy == "REGISTRY_ONLY":
        wait_for("the block", lambda: call(mesh).status == 502)
    else:
        # There is no kube-proxy in this small world, so what is passed on meets nobody: 503 or a reset, never 502.
        wait_for("the passage", lambda: call(mesh).status not in (200, 502))
        listener = mesh.sidecars["sleep"].config("listeners")
        assert "PassthroughCluster" in json.dumps(listener)


def test_ingress_leads_to_another_port_of_the_application(mesh: Mesh) -> None:
    ingress = [{"port": {"number": HTTP, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": f"127.0.0.1:{ADMIN}"}]
    mesh.apply("Sidecar", {"workloadSelector": {"labels": {"app": "httpbin"}}, "ingress": ingress})
    wait_for("the new way", lambda: call(mesh).status == 200 and call(mesh).json["port"] == ADMIN)
