"""The rows of Istio's own tests of its analyzers: which object is reported with which code, and which must not be.

pkg/config/analysis/analyzers/analyzers_test.go and its testdata of istio/istio; each test names its row there.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.published.analysis_objects import (
    Object,
    an,
    deployment,
    messages,
    namespace,
    pod,
    route,
    said,
    server,
    service,
)

INGRESS = {"istio": "ingressgateway"}


def test_istio_injection() -> None:
    """injection.yaml"""
    injected, canary = {"istio-injection": "enabled"}, {"istio.io/rev": "canary"}
    objects = [
        namespace("default", **injected),
        namespace("foo", **{"istio-injection": "disabled"}),
        namespace("bar"),
        namespace("canary-test", **canary),
        namespace("pidgeon-test", **{"istio.io/rev": "pidgeon"}),
        namespace("busted", **injected, **canary),
        pod("default/injectedpod", proxy=True),
        pod("default/noninjectedpod"),
        an("Pod", "default/podinjectiondisabled", {}, annotations={"sidecar.istio.io/inject": "false"}),
        pod("istio-system/istiod-canary", app="istiod"),
        pod("default/podinjectiondisabled-label", {"sidecar.istio.io/inject": "false"}),
        an(
            "Pod",
            "default/both",
            {},
            annotations={"sidecar.istio.io/inject": "true"},
            labels={"sidecar.istio.io/inject": "false"},
        ),
        namespace("multi-ns-1", **injected, **{"istio.io/dataplane-mode": "ambient"}),
        namespace("multi-ns-2", **canary, **{"istio.io/dataplane-mode": "ambient"}),
        namespace("ambient", **{"istio.io/dataplane-mode": "ambient"}),
        namespace("disabled", **{"istio-injection": "disabled", "istio.io/dataplane-mode": "ambient"}),
    ]
    assert said(objects, "IST0102", "IST0103", "IST0123") == [
        "IST0102 Namespace bar",
        "IST0103 Pod default/noninjectedpod",
        "IST0123 Namespace busted",
        "IST0123 Namespace multi-ns-1",
        "IST0123 Namespace multi-ns-2",
    ]


@pytest.mark.parametrize(
    ("labels", "listed"),
    [
        ({"istio-injection": "enabled", "istio.io/rev": "canary"}, "[istio-injection=enabled istio.io/rev=canary]"),
        (
            {"istio.io/rev": "canary", "istio.io/dataplane-mode": "ambient"},
            "[istio.io/rev=canary istio.io/dataplane-mode=ambient]",
        ),
        ({"istio-injection": "disabled", "istio.io/rev": "canary"}, ""),
        ({"istio-injection": "enabled"}, ""),
        ({"istio.io/rev": "canary"}, ""),
    ],
)
def test_labels_of_injection_are_listed_with_what_they_say(labels: dict[str, str], listed: str) -> None:
    """pkg/config/analysis/analyzers/injection/injection.go: beside istio-injection=disabled the others do not count."""
    said_of = [one.text for one in messages([namespace("shop", **labels)], "IST0123")]
    assert [listed in one for one in said_of] == ([True] if listed else [])


def injector(values: Any, revision: str = "") -> Object:
    name = f"istio-sidecar-injector-{revision}" if revision else "istio-sidecar-injector"
    return {**an("ConfigMap", f"istio-system/{name}"), "data": {"values": json.dumps(values)}}


def test_istio_injection_enable_namespaces_by_default() -> None:
    """injection-with-enableNamespacesByDefault-true.yaml, and its twin without"""
    objects = [namespace("bar"), namespace("foo", **{"istio-injection": "disabled"}), namespace("istio-system")]
    by_default = injector({"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}})
    assert said([*objects, by_default], "IST0102", "IST0148") == ["IST0148 Namespace bar"]
    not_by_default = injector({"sidecarInjectorWebhook": {"enableNamespacesByDefault": False}})
    assert said([*objects, not_by_default], "IST0102", "IST0148") == ["IST0102 Namespace bar"]


def test_istio_injection_proxy_image() -> None:
    """injection-image.yaml: by hub and tag, by a whole name, by revision; custom images and others left alone"""

    def proxied(where: str, image: str, **annotations: str) -> Object:
        containers = [{"name": "app", "image": "app"}, {"name": "istio-proxy", "image": image}]
        return an("Pod", where, {"containers": containers}, annotations=annotations)

    objects = [
        injector({"global": {"hub": "docker.io/istio", "tag": "1.24.1", "proxy": {"image": "proxyv2"}}}),
        injector({"global": {"proxy": {"image": "registry/proxyv2:canary"}}}, "canary"),
        namespace("default", **{"istio-injection": "enabled"}),
        namespace("revision", **{"istio.io/rev": "canary"}),
        namespace("unknown", **{"istio.io/rev": "nobody"}),
        namespace("free"),
        proxied("default/new", "docker.io/istio/proxyv2:1.24.1"),
        proxied("default/old", "docker.io/istio/proxyv2:1.23.0"),
        proxied("default/older", "docker.io/istio/proxyv2:1.2.0"),
        proxied("default/own", "mine", **{"sidecar.istio.io/proxyImage": "mine"}),
        proxied("revision/new", "registry/proxyv2:canary"),
        proxied("revision/old", "docker.io/istio/proxyv2:1.24.1"),
        proxied("unknown/old", "docker.io/istio/proxyv2:1.2.0"),
        proxied("free/old", "docker.io/istio/proxyv2:1.2.0"),
        pod("default/none"),
    ]
    assert said(objects, "IST0158") == ["IST0158 Namespace default", "IST0158 Namespace revision"]
    assert "(pod names: [old older])" in messages(objects, "IST0158")[0].text
    assert said([one for one in objects if one["kind"] != "ConfigMap"], "IST0158") == []
    for junk in ("text", 5, ["a"], {"global": "a"}, {"global": {"proxy": "a"}}):
        assert said([injector(junk), *objects[2:]]) == said(objects[2:])


def test_misannotated() -> None:
    """misannotated.yaml"""
    objects = [
        service(
            "httpbin",
            8000,
            annotations={"networking.istio.io/exportThree": "bar", "networking.istio.io/exportTo": "baz"},
        ),
        an(
            "Pod",
            "invalid-annotations",
            annotations={
                "readiness.status.sidecar.istio.io/initialDelaySeconds": "bar",
                "readiness.status.sidecar.istio.io/periodSeconds": "10",
            },
        ),
        service("details", 80, annotations={"kubernetes.io/psp": "my-privileged-psp"}),
        an(
            "Pod",
            "grafana-test",
            annotations={
                "proxy.istio.io/config": "{}",
                "helm.sh/hook": "test-success",
                "kubernetes.io/ingress.class": "istio",
            },
        ),
        an("Deployment", "fortio-deploy", annotations={"sidecar.istio.io/statsInclusionPrefixes": "cluster.outbound"}),
        an("Namespace", "staging", annotations={"kubernetes.io/ingress.class": "foo"}),
    ]
    assert said(objects, "IST0107", "IST0108", "IST0125", "IST0135") == [
        "IST0107 Deployment default/fortio-deploy",
        "IST0107 Namespace staging",
        "IST0107 Pod default/grafana-test",
        "IST0108 Service default/httpbin",
        "IST0125 Pod default/invalid-annotations",
        "IST0135 Deployment default/fortio-deploy",
    ]


HOSTS = [
    service("default/reviews", 42),
    service("default/reviews-2port", 80, 443),
    an("ServiceEntry", "default/external-reviews", {"hosts": ["external-reviews.org"]}),
    an("ServiceEntry", "default/eu-wildcard", {"hosts": ["*.eu.bookinfo.com"]}),
    an("ServiceEntry", "default-ignore/ignore", {"hosts": ["*"], "exportTo": ["."]}),
    an("ServiceEntry", "other/own", {"hosts": ["other.bookinfo.com"], "exportTo": ["."]}),
    an("ServiceEntry", "other/exported", {"hosts": ["abc.bookinfo.com"], "exportTo": ["default"]}),
    service("default/details", 9080, annotations={"networking.istio.io/exportTo": "banana"}),
    service("hello/hello", 9080, annotations={"networking.istio.io/exportTo": "hello1,hello2,."}),
]
HELLO = "hello.hello.svc.cluster.local"


@pytest.mark.parametrize(
    ("where", "spec", "codes"),
    [
        ("default/reviews", route("reviews+v1"), []),
        ("default/reviews-bogushost", route("reviews-bogus+v1"), ["IST0101"]),
        ("default/reviews-fqdn", route("reviews.default.svc.cluster.local+v1"), []),
        ("default/reviews-external", route("external-reviews.org"), []),
        ("default/reviews-bookinfo-eu", route("reviews.eu.bookinfo.com"), []),
        ("default/reviews-bookinfo-eu-wildcard", route("*.eu.bookinfo.com"), []),
        ("default/reviews-bookinfo-other", route("other.bookinfo.com"), ["IST0101"]),
        ("default/reviews-bogusport", route({"host": "reviews", "port": {"number": 999}}), ["IST0101"]),
        ("default/reviews-2port-missing", route("reviews-2port"), ["IST0112"]),
        ("default/reviews-2port-present", route({"host": "reviews-2port", "port": {"number": 80}}), []),
        ("istio-system/cross-namespace", route("reviews.default.svc.cluster.local"), []),
        ("istio-system/cross-namespace-details", route("details.default.svc.cluster.local"), ["IST0101"]),
        ("banana/banana-details", route("details.default.svc.cluster.local"), []),
        ("hello1/hello", route(HELLO), []),
        ("hello/hello", route(HELLO), []),
        ("hello/hello-export-to-bogus", route(HELLO, exportTo=["bogus"]), ["IST0101"]),
        ("default/vs-to-exportto-serviceentry", route("abc.bookinfo.com"), []),
    ],
)
def test_virtual_service_destination_hosts(where: str, spec: Object, codes: list[str]) -> None:
    """virtualservice_destinationhosts.yaml"""
    found = messages([*HOSTS, an("VirtualService", where, spec)], "IST0101", "IST0112")
    assert [one.code.code for one in found if "subset" not in one.text] == codes


def test_mirror_hosts() -> None:
    """virtualservice_destinationhosts.yaml, reviews-mirror and reviews-mirror-bogushost"""

    def mirrored(to: str) -> Object:
        spec = route("reviews")
        spec["http"][0]["mirror"] = {"host": to}
        return an("VirtualService", "default/mirror", spec)

    assert not messages([*HOSTS, mirrored("reviews")], "IST0101")
    (wrong,) = messages([*HOSTS, mirrored("reviews-bogus")], "IST0101")
    assert wrong.text == 'Referenced mirror host not found: "reviews-bogus"'


def test_virtual_service_destination_rules() -> None:
    """virtualservice_destinationrules.yaml: a subset must be one of a rule for the host."""
    rule = an("DestinationRule", "default/reviews", {"host": "reviews", "subsets": [{"name": "v1"}]})
    known = [service("default/reviews", 42), rule]
    assert not messages([*known, an("VirtualService", "default/reviews", route("reviews+v1"))], "IST0101")
    fqdn = route("reviews.default.svc.cluster.local+v1")
    assert not messages([*known, an("VirtualService", "other/reviews", fqdn)], "IST0101")
    (wrong,) = messages(
        [*known, an("VirtualService", "default/reviews-bogussubset", route("reviews+bogus"))], "IST0101"
    )
    assert wrong.text == 'Referenced host+subset in destinationrule not found: "reviews+bogus"'


def test_virtual_service_gateways() -> None:
    """virtualservice_gateways.yaml"""
    objects = [
        an("Gateway", "httpbin-gateway", {"selector": INGRESS}),
        an("Gateway", "another/crossnamespace-gw", {"selector": INGRESS}),
        an("VirtualService", "httpbin", {"hosts": ["*"], "gateways": ["httpbin-gateway"]}),
        an("VirtualService", "httpbin-bogus", {"hosts": ["*"], "gateways": ["httpbin-gateway-bogus"]}),
        an("VirtualService", "httpbin-mesh", {"hosts": ["*"], "gateways": ["mesh"]}),
        an("VirtualService", "default/cross-test", {"hosts": ["*"], "gateways": ["another/crossnamespace-gw"]}),
    ]
    assert said(objects, "IST0101", "IST0132") == [
        "IST0101 VirtualService default/httpbin-bogus",
        "IST0132 VirtualService default/cross-test",
        "IST0132 VirtualService default/httpbin",
        "IST0132 VirtualService default/httpbin-bogus",
    ]


@pytest.mark.parametrize(
    ("let_in", "hosts", "missing"),
    [
        (["testing-01.com"], ["testing-01.com"], False),
        (["testing-01.com"], ["wrong-01.com"], True),
        (["*.testing-02.com"], ["web.testing-02.com"], False),
        (["*.testing-02.com"], ["web.wrong.com"], True),
        (["*.api.testing-03.com"], ["user.api.testing-03.com", "profile.homepage.testing-03.com"], False),
        (["*.testing-01-04.com", "web.testing-02-04.com"], ["web.testing-02-04.com"], False),
        (["*.testing-01-04.com", "web.testing-02-04.com"], ["profile.user.testing-01-04.com"], False),
        (["*.testing-01-04.com", "web.testing-02-04.com"], ["user.testing-02-04.com"], True),
        # virtualservice_host_not_found_gateway_with_ns_prefix.yaml
        (["default/testing.com"], ["testing.com"], False),
        (["other/testing.com"], ["testing.com"], True),
        (["*/testing.com"], ["testing.com"], False),
        (["./testing.com"], ["testing.com"], True),
        (["*/*"], ["testing.com"], False),
    ],
)
def test_host_not_found_in_gateway(let_in: list[str], hosts: list[str], missing: bool) -> None:
    """virtualservice_host_not_found_gateway.yaml"""
    gateway = an("Gateway", "istio-system/gw", {"selector": INGRESS, "servers": [server(80, *let_in)]})
    routes = an("VirtualService", "default/vs", {"hosts": hosts, "gateways": ["istio-system/gw"]})
    assert bool(messages([gateway, routes], "IST0132")) is missing


def to(where: str, *hosts: str, gateways: list[str] | None = None, export: list[str] | None = None) -> Object:
    spec: dict[str, Any] = {"hosts": [*hosts]}
    if gateways:
        spec["gateways"] = gateways
    if export:
        spec["exportTo"] = export
    return an("VirtualService", where, spec)


def test_conflicting_mesh_gateway_hosts() -> None:
    """virtualservice_conflictingmeshgatewayhosts.yaml"""
    both = ["istio-ingressgateway", "mesh"]
    objects = [
        to("foo/productpage", "productpage"),
        to("foo/bogus-productpage", "productpage"),
        to("foo/reviews", "reviews"),
        to("bar/reviews", "reviews.foo.svc.cluster.local", gateways=["istio-ingressgateway"]),
        to("foo/ratings", "ratings", gateways=["mesh"]),
        to("bar/ratings", "ratings.foo.svc.cluster.local", "google.com", gateways=both),
        to("team1/ratings", "ratings", gateways=["mesh"], export=["."]),
        to("team2/ratings", "ratings.team1.svc.cluster.local", "google.com", gateways=both, export=["."]),
        to("team3/ratings", "ratings", gateways=["mesh"], export=["*"]),
        to("team4/ratings", "ratings.team3.svc.cluster.local", gateways=both),
    ]
    reported = ("bar/ratings", "foo/bogus-productpage", "foo/productpage", "foo/ratings", "team2/ratings")
    expected = [f"IST0109 VirtualService {one}" for one in (*reported, "team3/ratings", "team4/ratings")]
    assert said(objects, "IST0109") == expected


def test_route_rules_have_no_effect_on_ingress() -> None:
    """virtualservice_route_rule_no_effects_ingress.yaml"""
    at = "istio-system/gw"
    objects = [
        an("Gateway", at, {"selector": INGRESS, "servers": [server(80, "testing-01.com", "testing-02.com")]}),
        an("VirtualService", "default/test-01", route("ratings", hosts=["testing-01.com"], gateways=[at])),
        an("VirtualService", "default/test-02", route("ratings+v1", hosts=["testing-02.com"], gateways=[at])),
        service("default/ratings", 80),
        an("VirtualService", "default/ratings-01", route("ratings+v1", hosts=["ratings"])),
    ]
    assert said(objects, "IST0140") == ["IST0140 VirtualService default/test-01"]


def test_sidecar_selectors() -> None:
    """sidecar-selector.yaml, sidecar-default-selector.yaml"""

    def sidecar(where: str, **labels: str) -> Object:
        return an("Sidecar", where, {"workloadSelector": {"labels": labels}} if labels else {})

    objects = [
        pod("default/productpage", app="productpage"),
        pod("other/productpage-other", app="productpage"),
        pod("default/reviews", app="reviews"),
        pod("default/ratings", app="ratings-app", myapp="ratings-myapp"),
        sidecar("default/maps-correctly-no-conflicts", app="productpage"),
        sidecar("default/maps-to-nonexistent", app="bogus"),
        sidecar("other/maps-to-different-ns", app="reviews"),
        sidecar("default/dupe-1", app="reviews"),
        sidecar("default/dupe-2", app="reviews"),
        sidecar("default/overlap-1", app="ratings-app"),
        sidecar("default/overlap-2", myapp="ratings-myapp"),
        sidecar("ns1/no-selector"),
        sidecar("ns2/has-conflict-1"),
        sidecar("ns2/has-conflict-2"),
    ]
    assert said(objects, "IST0101", "IST0110", "IST0111") == [
        "IST0101 Sidecar default/maps-to-nonexistent",
        "IST0101 Sidecar other/maps-to-different-ns",
        "IST0110 Sidecar default/dupe-1",
        "IST0110 Sidecar default/dupe-2",
        "IST0110 Sidecar default/overlap-1",
        "IST0110 Sidecar default/overlap-2",
        "IST0111 Sidecar ns2/has-conflict-1",
        "IST0111 Sidecar ns2/has-conflict-2",
    ]


def test_authorization_policies() -> None:
    """authorizationpolicies.yaml"""
    enabled = {"istio-injection": "enabled"}

    def policy(where: str, labels: Object | None = None, **source: list[str]) -> Object:
        selector = {"selector": {"matchLabels": labels}} if labels else {}
        rules = {"rules": [{"from": [{"source": source}]}]} if source else {}
        return an("AuthorizationPolicy", where, {**selector, **rules})

    v1 = {"app": "httpbin", "version": "v1"}
    patterns = ["prod-*", "*-test", "*-bogus", "bogus-*", "*", "httpbin"]
    objects = [
        *(namespace(name, **enabled) for name in ("httpbin", "prod-httpbin", "httpbin-test")),
        policy("httpbin/httpbin", v1, namespaces=["httpbin"]),
        policy("istio-system/meshwide-httpbin"),
        policy("istio-system/meshwide-httpbin-v1", {"version": "bogus-version"}),
        policy("httpbin-empty/httpbin-empty-namespace-wide", namespaces=["httpbin"]),
        policy("httpbin/httpbin-namespace-wide", namespaces=["httpbin"]),
        policy("httpbin/httpbin-nopods", {"app": "bogus-label", "version": "v1"}, namespaces=["httpbin"]),
        policy("httpbin/httpbin-bogus-not-ns", v1, notNamespaces=patterns),
        policy("httpbin/httpbin-bogus-ns", v1, namespaces=patterns),
        pod("httpbin/httpbin-55bf89f8c9-wzfrh", v1),
        policy("test-ambient/no-workload", v1, namespaces=["httpbin"]),
        policy("test-ambient/valid-policy", {"app": "sleep"}, namespaces=["httpbin"]),
        an(
            "Pod",
            "test-ambient/sleep",
            labels={"app": "sleep"},
            annotations={"ambient.istio.io/redirection": "enabled"},
        ),
    ]
    assert said(objects, "IST0127", "IST0101", from_files=False) == [
        "IST0101 AuthorizationPolicy httpbin/httpbin-bogus-not-ns",
        "IST0101 AuthorizationPolicy httpbin/httpbin-bogus-not-ns",
        "IST0101 AuthorizationPolicy httpbin/httpbin-bogus-ns",
        "IST0101 AuthorizationPolicy httpbin/httpbin-bogus-ns",
        "IST0127 AuthorizationPolicy httpbin-empty/httpbin-empty-namespace-wide",
        "IST0127 AuthorizationPolicy httpbin/httpbin-nopods",
        "IST0127 AuthorizationPolicy istio-system/meshwide-httpbin-v1",
        "IST0127 AuthorizationPolicy test-ambient/no-workload",
    ]


def test_service_multiple_deployments() -> None:
    """deployment-multi-service.yaml, deployment-multi-service-different-ns.yaml, deployment-service-no-selector.yaml"""

    def two(app: str) -> list[Object]:
        return [
            service(f"bookinfo/{app}-{protocol}", {"port": 9080, "protocol": protocol}, selector={"app": app})
            for protocol in ("TCP", "HTTP")
        ]

    same_target = [
        service(
            f"bookinfo/conflicting-{port}", {"port": port, "targetPort": 9080}, selector={"app": "conflicting-ports"}
        )
        for port in (9080, 9090)
    ]
    reviews = [service(f"bookinfo/reviews-{port}", port, selector={"app": "reviews"}) for port in (9080, 9090)]
    objects = [
        namespace("bookinfo", **{"istio-injection": "enabled"}),
        deployment("bookinfo/multiple-svc-multiple-prot", app="details", version="v1"),
        *two("details"),
        deployment("bookinfo/conflicting-ports", app="conflicting-ports"),
        *same_target,
        deployment("bookinfo/reviews-v2", app="reviews"),
        *reviews,
        deployment("bookinfo/no-services", app="ratings"),
        deployment("bookinfo/multiple-without-port", app="productpage"),
        *two("productpage"),
        deployment(
            "bookinfo/deployment-out-mesh",
            app="productpage",
            annotations={"sidecar.istio.io/inject": "false"},
        ),
        service("bookinfo/no-selector", {"port": 9080, "protocol": "HTTP"}),
        service("other/different-ns", {"port": 9080, "protocol": "UDP"}, selector={"app": "reviews"}),
    ]
    assert said(objects, "IST0116", "IST0137") == [
        "IST0116 Deployment bookinfo/multiple-svc-multiple-prot",
        "IST0116 Deployment bookinfo/multiple-without-port",
        "IST0137 Deployment bookinfo/conflicting-ports",
    ]


def test_port_names() -> None:
    """service-no-port-name.yaml, service-port-name.yaml, service-no-port-name-system-namespace.yaml"""
    unnamed = {"protocol": "TCP", "port": 8080, "targetPort": 8080}
    objects = [
        service("my-namespace1/my-service1", unnamed, {**unnamed, "port": 8081}),
        service("my-namespace2/my-service2", {**unnamed, "name": "foo"}),
        service("my-namespace3/named", {**unnamed, "name": "http"}, {**unnamed, "name": "https-x", "port": 8443}),
        service("kube-system/unnamed", unnamed),
        service("istio-system/istiod", unnamed, labels={"istio": "pilot"}),
    ]
    assert said(objects, "IST0118") == [
        "IST0118 Service my-namespace1/my-service1",
        "IST0118 Service my-namespace1/my-service1",
        "IST0118 Service my-namespace2/my-service2",
    ]


@pytest.mark.parametrize(
    ("name", "wrong"), [("", True), ("nginx", True), ("tcp", True), ("http", False), ("https-x", False)]
)
def test_external_name_services(name: str, wrong: bool) -> None:
    """incorrect-port-name-external-name-service-type.yaml, correct-port-name-external-name-service-type.yaml"""
    one = service("nginx-ns/nginx", {"port": 443, **({"name": name} if name else {})})
    one["spec"]["type"] = "ExternalName"
    assert said([one], "IST0150", "IST0118") == (["IST0150 Service nginx-ns/nginx"] if wrong else [])


@pytest.mark.parametrize(
    ("port", "addresses", "missing"),
    [
        ({"protocol": "HTTPS"}, None, False),
        ({"protocol": "HTTPS"}, ["10.0.0.1"], False),
        ({}, None, True),
        ({"protocol": ""}, None, True),
        ({"protocol": "TCP"}, ["10.0.0.1"], False),
        ({"protocol": "TCP"}, None, True),
        # serviceentry-address-required-lowercase.yaml
        ({"protocol": "tcp"}, None, True),
    ],
)
def test_service_entry_addresses(port: Object, addresses: list[str] | None, missing: bool) -> None:
    """serviceentry-missing-addresses-protocol.yaml"""
    spec: Object = {"hosts": ["istio.io"], "ports": [{"number": 443, "name": "https", **port}]}
    entry = an("ServiceEntry", "default/one", {**spec, **({"addresses": addresses} if addresses else {})})
    assert bool(messages([entry], "IST0134")) is missing


def tls(mode: str, **more: Any) -> Object:
    return {"tls": {"mode": mode, **more}}


def at_port(mode: str, **more: Any) -> Object:
    return {"portLevelSettings": [{"port": {"number": 443}, **tls(mode, **more)}]}


CA = {"caCertificates": "/etc/certs/root.pem"}


@pytest.mark.parametrize(
    ("policy", "selector", "codes"),
    [
        (tls("SIMPLE"), {}, ["IST0128"]),
        (tls("MUTUAL"), {}, ["IST0128"]),
        (at_port("SIMPLE"), {}, ["IST0129"]),
        (tls("SIMPLE", credentialName="ca"), {}, ["IST0128"]),
        (tls("SIMPLE", credentialName="ca"), {"workloadSelector": {"matchLabels": {"app": "x"}}}, []),
        (at_port("SIMPLE", credentialName="ca"), {}, ["IST0129"]),
        (at_port("SIMPLE", credentialName="ca"), {"workloadSelector": {"matchLabels": {"app": "x"}}}, []),
        (at_port("MUTUAL"), {}, ["IST0129"]),
        ({**tls("SIMPLE"), **at_port("MUTUAL")}, {}, ["IST0128", "IST0129"]),
        ({**tls("SIMPLE", **CA), **at_port("MUTUAL", **CA)}, {}, []),
        (tls("ISTIO_MUTUAL"), {}, []),
        (tls("DISABLE"), {}, []),
    ],
)
def test_destination_rules_without_a_ca(policy: Object, selector: Object, codes: list[str]) -> None:
    """destinationrule-*.yaml"""
    rule = an("DestinationRule", "default/db-tls", {"host": "mydbserver.prod.svc", "trafficPolicy": policy, **selector})
    assert [one.code.code for one in messages([rule], "IST0128", "IST0129")] == codes


def test_subsets_that_select_no_pods() -> None:
    """destinationrule-subsets-not-select-pods.yaml, destinationrule-with-fake-host.yaml"""

    def rule(host: str, *versions: str) -> Object:
        subsets = [{"name": version, "labels": {"version": version}} for version in versions]
        return an("DestinationRule", "default/reviews", {"host": host, "subsets": subsets})

    known = [service("default/reviews", 80, selector={"app": "reviews"}), pod("default/r", app="reviews", version="v1")]
    (wrong,) = messages([*known, rule("reviews", "v1", "v4")], "IST0173", "IST0174")
    assert wrong.line() == (
        "Error [IST0173] (DestinationRule default/reviews) The Subset v4 defined in the DestinationRule does not "
        "select any pods. Which may lead to 503 UH (NoHealthyUpstream)."
    )
    (wrong,) = messages([*known, rule("fake-svc.default.svc.cluster.local", "v1")], "IST0173", "IST0174")
    assert wrong.code.code == "IST0174"
    assert not messages([*known, rule("reviews.default.svc.cluster.local", "v1")], "IST0173", "IST0174")


@pytest.mark.parametrize(
    ("container", "pod_level", "wrong"),
    [(1337, None, True), (None, 1337, True), (1338, 1000, False), (None, None, False)],
)
def test_the_proxys_user(container: int | None, pod_level: int | None, wrong: bool) -> None:
    """pod-sec-uid.yaml, pod-con-sec-uid.yaml, deployment-pod-sec-uid.yaml, deployment-con-sec-uid.yaml"""
    spec: Object = {"containers": [{"name": "app", "securityContext": {"runAsUser": container} if container else {}}]}
    spec |= {"securityContext": {"runAsUser": pod_level}} if pod_level else {}
    objects = [an("Pod", "default/pod", spec), deployment("default/deploy", spec=spec, app="x")]
    expected = ["IST0144 Deployment default/deploy", "IST0144 Pod default/pod"]
    assert said(objects, "IST0144") == (expected if wrong else [])


def test_image_auto() -> None:
    """image-auto.yaml"""
    spec = {"containers": [{"name": "istio-proxy", "image": "auto"}]}
    objects = [
        namespace("injected", **{"istio-injection": "enabled"}),
        namespace("not-injected", **{"istio-injection": "disabled"}),
        deployment("injected/gateway", spec=spec, app="gw"),
        deployment("not-injected/non-injected-gateway-deployment", spec=spec, app="gw"),
        deployment("not-injected/other", spec={"containers": [{"name": "istio-proxy", "image": "x"}]}, app="other"),
        an("Pod", "default/injected-pod", spec),
    ]
    assert said(objects, "IST0146", "IST0147") == [
        "IST0146 Deployment not-injected/non-injected-gateway-deployment",
        "IST0147 Pod default/injected-pod",
    ]
