"""The lines of `istioctl x describe`, from objects and dumps, each with a twin that says the opposite.

Forms and cases: istioctl/pkg/describe/describe.go and describe_test.go of istio/istio.
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.observe.describe.pods import protocol_text, revision_of, write_pod, write_service
from labkit.observe.describe.routing import (
    destination_rule_name,
    rbac_policies,
    virtual_service_name,
    write_destination_rule,
    write_virtual_service,
)
from labkit.observe.describe.words import Writer
from labkit.observe.dumps import Dump

Object = dict[str, Any]


def pod(**changes: Any) -> Object:
    metadata: Object = {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "version": "v1"}, "uid": "u1"}
    metadata.update(changes.pop("metadata", {}))
    containers = [
        {"name": "web", "ports": [{"containerPort": 9080, "name": "main"}, {"containerPort": 53, "protocol": "UDP"}]},
        {"name": "istio-proxy", "ports": [{"containerPort": 15090}]},
    ]
    ready = [{"name": "web", "ready": True}, {"name": "istio-proxy", "ready": True}]
    return {
        "metadata": metadata,
        "spec": {"containers": containers, **changes.pop("spec", {})},
        "status": {"phase": "Running", "containerStatuses": ready, **changes.pop("status", {})},
    }


def said(one: Object, home: str = "default", **options: bool) -> Writer:
    writer = Writer(home)
    write_pod(writer, one, **options)
    return writer


def test_the_first_lines_of_a_pod() -> None:
    writer = said(pod(metadata={"annotations": {"istio.io/rev": "asm-1-24"}}))
    assert writer.lines == [
        "Pod: web-1.shop",
        "   Pod Revision: asm-1-24",
        "   Pod Ports: 9080 (web), 53/UDP (web), 15090 (istio-proxy)",
    ]
    assert not writer.warnings
    assert said(pod(), home="shop").lines[0] == "Pod: web-1"


def test_the_revision_is_also_read_from_the_sidecars_status() -> None:
    assert revision_of(pod(metadata={"annotations": {"sidecar.istio.io/status": '{"revision": "canary"}'}})) == "canary"
    assert revision_of(pod(metadata={"annotations": {"sidecar.istio.io/status": "no json"}})) == ""


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"spec": {"containers": [{"name": "web"}]}}, "WARNING: web-1.shop is not part of mesh; no Istio sidecar"),
        (
            {"status": {"containerStatuses": [{"name": "web", "ready": False}]}},
            "WARNING: Pod web-1.shop Container web NOT READY",
        ),
        (
            {"status": {"initContainerStatuses": [{"name": "istio-init", "ready": False}]}},
            "WARNING: Pod web-1.shop Init Container istio-init NOT READY",
        ),
        ({"status": {"phase": "Pending"}}, "Pod is not Running (Pending)"),
        (
            {"spec": {"securityContext": {"runAsUser": 1337}}},
            "WARNING: User ID (UID) 1337 is reserved for the sidecar proxy.",
        ),
        (
            {"metadata": {"labels": {"app": "web"}}},
            "Suggestion: add required service revision label for Istio telemetry. "
            "See https://istio.io/latest/docs/ops/deployment/application-requirements/.",
        ),
    ],
)
def test_what_is_wrong_with_a_pod_is_a_warning(changes: Object, warning: str) -> None:
    assert said(pod(**changes)).warnings == [warning]
    assert not said(pod()).warnings


def test_unmeshed_pods_can_be_passed_over() -> None:
    bare = pod(spec={"containers": [{"name": "web"}]})
    assert not said(bare, ignore_unmeshed=True).warnings
    assert "   Pod does not expose ports" in said(bare).lines


# pkg/config/kube/conversion_test.go and istioctl's findProtocolForPort
@pytest.mark.parametrize(
    ("port", "text"),
    [
        ({"port": 80, "name": "http"}, "HTTP"),
        ({"port": 80, "name": "grpc-web-x"}, "GRPC-Web"),
        ({"port": 80, "name": "http2-x"}, "HTTP2"),
        ({"port": 80, "name": "web"}, "UnsupportedProtocol"),
        ({"port": 80, "name": "web", "appProtocol": "https"}, "HTTPS"),
        ({"port": 80}, "auto-detect"),
        ({"port": 27017, "name": "mongo"}, "Mongo"),
    ],
)
def test_protocols_are_written_as_istio_writes_them(port: Object, text: str) -> None:
    assert protocol_text(port) == text


def test_ports_of_a_service() -> None:
    ports = [
        {"name": "http", "port": 80, "targetPort": 9080},
        {"name": "tcp", "port": 90, "targetPort": "main"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "http-x", "port": 91, "targetPort": "nobody"},
    ]
    writer = Writer("shop")
    write_service(writer, {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": ports}}, pod())
    assert writer.lines == [
        "Service: web",
        "   Port: http 80/HTTP targets pod port 9080",
        "   Port: tcp 90/TCP targets pod port 9080",
        "   no suitable port for manifest: u1",
    ]


def rule(spec: Object) -> Object:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"host": "web", **spec}}


SUBSETS = {"subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]}
V1, V3 = [{"version": "v1"}], [{"version": "v3"}]


def of_rule(one: Object, pods: list[dict[str, str]]) -> Writer:
    writer = Writer("default")
    write_destination_rule(writer, one, pods, 0)
    return writer


def test_subsets_that_a_pod_is_in_and_not_in() -> None:
    head = 'DestinationRule: web.shop for "web"'
    matching = of_rule(rule(SUBSETS), V1)
    assert matching.lines == [
        head,
        "   Matching subsets: v1",
        "      (Non-matching subsets v2)",
        "   No Traffic Policy",
    ]
    assert not matching.warnings
    none = of_rule(rule(SUBSETS), V3)
    assert none.warnings == ["WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets v1,v2)"]
    assert of_rule(rule({}), V1).lines == [head, "   No Traffic Policy"]


def test_what_a_rule_says_of_tls() -> None:
    policy = {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "connectionPool": {},
        "outlierDetection": {},
        "portLevelSettings": [{"port": {"number": 8080}, "tls": {"mode": "DISABLE"}, "loadBalancer": {}}],
    }
    assert of_rule(rule({"trafficPolicy": policy}), V1).lines[1:] == [
        "   Traffic Policy TLS Mode: ISTIO_MUTUAL",
        "   Policies: connection pool/outlier detection",
        "   Port Level Settings:",
        "    8080:",
        "      TLS Mode: DISABLE",
        "      Policies: load balancer",
    ]


def to(subset: str = "", weight: int = 0, host: str = "web") -> Object:
    destination = {"host": host, **({"subset": subset} if subset else {})}
    return {"destination": destination, **({"weight": weight} if weight else {})}


def of_routes(http: list[Object], *, with_rule: bool = True, **spec: Any) -> Writer:
    writer = Writer("default")
    routes = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"http": http, **spec}}
    service = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {}}
    write_virtual_service(writer, routes, service, rule(SUBSETS) if with_rule else None, V1, 0)
    return writer


def test_routes_that_reach_the_pod() -> None:
    prefix = {"uri": {"prefix": "/api"}, "headers": {"x": {"exact": "y"}}}
    found = of_routes([{"match": [prefix], "route": [to("v1", 90), to("v2", 10)]}, {"route": [to("v2")]}])
    assert found.lines == [
        "VirtualService: web.shop",
        '   Route to host "web" subset "v1" with weight 90%',
        "   Match: /api* when headers are x=y",
        "   1 additional destination(s) that will not reach this pod",
    ]
    assert of_routes([{"route": [to()]}]).lines[1:] == ["   1 HTTP route(s)"]
    other = of_routes([{"route": [to("", 30), to("", 70, "other")]}]).lines[1:]
    assert other == ['   Route to host "web" with weight 30%', '   Route to host "other" with weight 70%']


def test_routes_that_do_not_reach_the_pod() -> None:
    found = of_routes([{"route": [to("v2")]}])
    assert found.warnings == ["WARNING: No destinations match pod subsets (checked 1 HTTP routes)"]
    assert found.lines[-1] == "      Route to non-matching subset v2 for (everything)"
    unknown = of_routes([{"route": [to("v9")]}])
    assert unknown.lines[-1] == "      Warning: Route to UNKNOWN subset v9; check DestinationRule web.shop"
    nothing = of_routes([{"route": [to("v1")]}], with_rule=False)
    assert nothing.lines[-1] == "      Warning: Route to subset v1 but NO DESTINATION RULE defining subsets!"


def test_routes_of_tcp() -> None:
    found = of_routes([], tcp=[{"match": [{"port": 80}], "route": [to()]}])
    assert found.lines == ["VirtualService: web.shop", "   port:80"]
    missed = of_routes([], tcp=[{"route": [to(host="other")]}])
    assert missed.warnings == ["WARNING: No destinations match pod subsets (checked 1 TCP routes)"]


# -- dumps, as Istio's proxies write them: routes by RDS, named by their port

HOST = "web.shop.svc.cluster.local"
PATH = "/apis/networking.istio.io/v1/namespaces/shop/{}/web"


def config(kind: str) -> Object:
    return {"metadata": {"filter_metadata": {"istio": {"config": PATH.format(kind)}}}}


def dump(*, routes: list[Object] = (), name: str = "80", clusters: list[Object] = (), filters: Any = ()) -> Dump:  # type: ignore[assignment]
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": {"http_filters": list(filters)}}
    inbound = {"traffic_direction": "INBOUND", "filter_chains": [{"filters": [manager]}]}
    return Dump(
        (
            {"@type": "x.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": one} for one in clusters]},
            {
                "@type": "x.RoutesConfigDump",
                "dynamic_route_configs": [{"route_config": {"name": name, "virtual_hosts": list(routes)}}],
            },
            {"@type": "x.ListenersConfigDump", "dynamic_listeners": [{"active_state": {"listener": inbound}}]},
        )
    )


def test_the_rule_behind_an_outbound_cluster() -> None:
    made = {"name": f"outbound|80||{HOST}", **config("destination-rule")}
    assert destination_rule_name(dump(clusters=[made]), HOST, 80) == ("shop", "web")
    assert destination_rule_name(dump(clusters=[made]), HOST, 81) == ("", "")
    assert destination_rule_name(dump(clusters=[{"name": f"outbound|80||{HOST}"}]), HOST, 80) == ("", "")


def test_the_virtual_service_behind_a_route() -> None:
    route = {"match": {"prefix": "/"}, "route": {"cluster": f"outbound|80|v1|{HOST}"}, **config("virtual-service")}
    sidecar = {"name": f"{HOST}:80", "domains": [HOST, "web"], "routes": [route]}
    assert virtual_service_name(dump(routes=[sidecar]), HOST, 80) == ("shop", "web")
    assert virtual_service_name(dump(routes=[sidecar]), "other.shop.svc.cluster.local", 80) == ("", "")
    gateway = {"name": "shop.example:80", "domains": ["shop.example"], "routes": [route]}
    assert virtual_service_name(dump(routes=[gateway], name="http.8080"), HOST, 80) == ("shop", "web")
    elsewhere = {**route, "route": {"weighted_clusters": {"clusters": [{"name": "outbound|80||x.y"}]}}}
    other = {"name": "shop.example:80", "domains": ["shop.example"], "routes": [elsewhere]}
    assert virtual_service_name(dump(routes=[other], name="http.8080"), HOST, 80) == ("", "")


def test_the_policies_of_the_inbound_chain() -> None:
    policies: Object = {"ns[shop]-policy[allow]-rule[0]": {}, "ns[shop]-policy[allow]-rule[1]": {}}
    rbac = {"name": "envoy.filters.http.rbac", "typed_config": {"rules": {"policies": policies}}}
    assert rbac_policies(dump(filters=[rbac])) == list(policies)
    assert rbac_policies(dump(filters=[{"name": "envoy.filters.http.router"}])) == []
