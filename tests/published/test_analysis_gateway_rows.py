"""The rows of Istio's own tests of its analyzers that are about gateways.

pkg/config/analysis/analyzers/analyzers_test.go and its testdata of istio/istio; each test names its row there.
"""

from __future__ import annotations

import base64

import pytest

from labkit.pki import CertificateAuthority
from tests.published.analysis_objects import Object, an, messages, pod, said, server, service

INGRESS = {"istio": "ingressgateway"}


def gateway(where: str, *servers: Object, **selector: str) -> Object:
    return an("Gateway", where, {"selector": selector or INGRESS, "servers": [*servers]})


def https(name: str, host: str = "a.example.com") -> Object:
    return server(443, host, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": name})


def secret(where: str, **data: bytes) -> Object:
    coded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {**an("Secret", where), "data": coded}


def test_without_a_workload() -> None:
    """gateway-no-workload.yaml; the same with the pod does not fire."""
    one = gateway("httpbin-gateway", server(80, "*"), app="my-gateway")
    assert [m.line() for m in messages([one], "IST0101")] == [
        'Error [IST0101] (Gateway default/httpbin-gateway) Referenced selector not found: "app=my-gateway"'
    ]
    assert not messages([one, pod("default/gw", app="my-gateway")], "IST0101")


@pytest.mark.parametrize(
    ("port", "offered", "missing"),
    [
        (8002, {"port": 80}, True),  # gateway-no-port.yaml
        (80, {"port": 80}, False),  # gateway-correct-port.yaml
        (8003, {"port": 8003}, False),  # gateway-custom-ingressgateway.yaml
        (8004, {"port": 8003, "targetPort": 8003}, True),  # gateway-custom-ingressgateway-badport.yaml
        (8004, {"port": 8003}, True),  # gateway-custom-ingressgateway-badport-notarget.yaml
        (8003, {"port": 8080, "targetPort": 8003}, False),  # gateway-custom-ingressgateway-translation.yaml
    ],
)
def test_ports_of_the_service(port: int, offered: Object, missing: bool) -> None:
    """gateway-*port*.yaml"""
    objects = [
        pod("default/gw", myapp="private"),
        service("default/gw", offered, selector={"myapp": "private"}),
        service("default/other", {"port": 8002}, {"port": 8004}, selector={"myapp": "other"}),
        gateway("httpbin-gateway", server(port, "*"), myapp="private"),
    ]
    assert said(objects, "IST0162") == (["IST0162 Gateway default/httpbin-gateway"] if missing else [])


def test_without_a_cluster_the_default_gateway_is_there() -> None:
    """istioctl analyze --use-kube=false adds it, and so it is here."""
    one = gateway("shop/web", server(80, "*"), server(443, "*", protocol="HTTPS"))
    assert not messages([one], "IST0101", "IST0162")
    assert said([one], "IST0101", from_files=False) == ["IST0101 Gateway shop/web"]


def test_secrets() -> None:
    """gateway-secrets.yaml"""
    leaf = CertificateAuthority.self_signed("ca").issue(dns_names=["a.example.com"])
    objects = [
        secret("istio-system/httpbin-credential", tls_crt=leaf.cert_pem, tls_key=leaf.key_pem),
        pod("istio-system/ingress", INGRESS),
        pod("default/custom-gateway", myapp="custom-gateway"),
        gateway("defaultgateway-noerrors", https("httpbin-credential")),
        gateway("defaultgateway-bogusCredentialName", https("httpbin-credential-bogus")),
        gateway("customgateway-wrongnamespace", https("httpbin-credential"), myapp="custom-gateway"),
        gateway("bogusgateway", https("httpbin-credential"), istio="custom-gateway"),
        gateway("nocredential", server(443, "a.example.com", protocol="HTTPS", tls={"mode": "SIMPLE"})),
    ]
    assert said(objects, "IST0101") == [
        "IST0101 Gateway default/bogusgateway",
        "IST0101 Gateway default/customgateway-wrongnamespace",
        "IST0101 Gateway default/defaultgateway-bogusCredentialName",
    ]


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({"tls_crt": "cert", "tls_key": "key"}, False),
        ({"cert": "cert", "key": "key"}, False),
        ({"crt": "cert", "key": "key"}, True),
        ({"tls_crt": "cert"}, True),
        ({"tls_crt": "bogus", "tls_key": "key"}, True),
    ],
)
def test_invalid_secrets(data: dict[str, str], wrong: bool) -> None:
    """gateway-secrets-validation.yaml"""
    leaf = CertificateAuthority.self_signed("ca").issue(dns_names=["a.example.com"])
    content = {"cert": leaf.cert_pem, "key": leaf.key_pem, "bogus": b"bogus"}
    objects = [
        pod("istio-system/ingress", INGRESS),
        secret("istio-system/one", **{name: content[what] for name, what in data.items()}),
        gateway("defaultgateway", https("one")),
    ]
    assert said(objects, "IST0161", "IST0101") == (["IST0161 Gateway default/defaultgateway"] if wrong else [])


def test_conflicts() -> None:
    """conflicting-gateways.yaml, gateway-different-port.yaml"""
    alpha, beta = gateway("alpha", server(80, "foo.bar")), gateway("beta", server(80, "foo.bar", protocol="TCP"))
    assert [one.line() for one in messages([alpha, beta], "IST0145")] == [
        "Error [IST0145] (Gateway default/alpha) Conflict with gateways default/beta (workload selector "
        "istio=ingressgateway, port 80, hosts foo.bar).",
        "Error [IST0145] (Gateway default/beta) Conflict with gateways default/alpha (workload selector "
        "istio=ingressgateway, port 80, hosts foo.bar).",
    ]
    assert not messages([alpha, gateway("beta", server(81, "foo.bar"))], "IST0145")
    assert not messages([alpha, gateway("beta", server(80, "other.bar"))], "IST0145")
    assert not messages([alpha, gateway("beta", server(80, "foo.bar"), app="other")], "IST0145")


def test_conflicts_with_several_ports_and_none() -> None:
    """conflicting-gateways-multiple-ports.yaml, conflicting-gateways-invalid-port.yaml"""
    alpha = gateway("alpha", server(80, "foo.bar"), server(443, "foo.bar", protocol="HTTPS"))
    assert len(messages([alpha, gateway("beta", server(8080, "x.y"), server(80, "*.bar"))], "IST0145")) == 2
    without = gateway("beta", {"hosts": ["foo.bar"]})
    assert not messages([without, gateway("alpha", {"hosts": ["foo.bar"]})], "IST0145")


def test_duplicate_certificates() -> None:
    """gateway-duplicate-certificate.yaml"""
    internal = {**INGRESS, "type": "internal"}
    objects = [
        gateway("istio-system/01-test-01", https("test-01")),
        gateway("istio-system/02-test-01", https("test-01")),
        gateway("istio-system/01-test-02", https("test-02")),
        gateway("istio-system/02-test-02", https("test-02"), **internal),
        gateway("default/01-test-03", https("test-03")),
        gateway("istio-system/02-test-03", https("test-03"), **internal),
        gateway("istio-system/01-test-04", https("01-test-04")),
        gateway("istio-system/02-test-04", https("02-test-04")),
        gateway("default/03-test-06", server(80, "03.test-06.com")),
    ]
    assert said(objects, "IST0138") == [
        "IST0138 Gateway default/01-test-03",
        "IST0138 Gateway istio-system/01-test-01",
        "IST0138 Gateway istio-system/01-test-02",
        "IST0138 Gateway istio-system/02-test-01",
    ]


def test_claims_without_request_authentication() -> None:
    """virtualservice_jwtclaimroute.yaml"""

    def routed(header: str) -> Object:
        match = [{"headers": {header: {"exact": "x"}}}]
        http = [{"match": match, "route": [{"destination": {"host": "x"}}]}]
        return an("VirtualService", "foo", {"hosts": ["*"], "gateways": ["gw"], "http": http})

    def reads(**labels: str) -> Object:
        return an("RequestAuthentication", "istio-system/jwt", {"selector": {"matchLabels": labels}})

    around = [gateway("gw", server(80, "*")), pod("istio-system/ingress", INGRESS)]
    claim = routed("@request.auth.claims.foo")
    (wrong,) = messages([*around, claim], "IST0149")
    assert "(key: @request.auth.claims.foo)" in wrong.text and "(default/gw) pod (ingress)" in wrong.text
    assert not messages([*around, claim, reads(**INGRESS)], "IST0149")
    assert messages([*around, claim, reads(app="other")], "IST0149")
    assert not messages([*around, routed("x-user")], "IST0149")
