"""What real proxies say of themselves, on a whole cluster, with istioctl's columns and words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from click.testing import CliRunner, Result

from labkit.cli import main
from labkit.errors import InputError, MeshError
from labkit.lab import Lab
from labkit.observe import proxy
from labkit.pki import CertificateAuthority
from tests.embedded.envoy_world import wait_for
from tests.embedded.proxy_words_world import GATEWAY, ROUTING, RULE, istio, small_mesh

pytestmark = pytest.mark.timeout(120)

NAME = "words"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_mesh(NAME, gateway=True) as lab:
        lab.set_mtls_mode("STRICT", "shop")
        lab.apply([RULE, GATEWAY, ROUTING])
        yield lab


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--cluster", f"embedded:{NAME}"])


def pod_of(lab: Lab, app: str, namespace: str = "shop") -> str:
    found = lab.cluster.objects("pods", namespace, labels={"app": app})
    return str(found[-1]["metadata"]["name"])


# -- proxy-config


def test_clusters_name_the_rule_that_made_them(lab: Lab) -> None:
    found = lab.proxy_config("clusters", "shop/client", fqdn="server.shop")
    assert list(found.table.columns) == ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"]
    host = "server.shop.svc.cluster.local"
    assert [row[:4] + row[5:] for row in found] == [
        (host, "5000", subset, "outbound", "server.shop") for subset in ("-", "v1", "v2")
    ]
    assert len(lab.proxy_config("clusters", "shop/client", fqdn="server.shop", subset="v2")) == 1
    (other,) = lab.proxy_config("clusters", "shop/client", fqdn="old.legacy")
    assert other[5] == ""


def test_routes_name_the_virtual_service_that_made_them(lab: Lab) -> None:
    found = lab.proxy_config("routes", "shop/client", name="server.shop.svc.cluster.local:5000")
    assert [row[3:] for row in found] == [("/healthz*", "server.shop"), ("/*", "server.shop")]
    (other,) = lab.proxy_config("routes", "shop/client", name="old.legacy.svc.cluster.local:5000")
    assert other[3:] == ("/*", "")


def test_listeners_show_the_mode_of_the_server(lab: Lab) -> None:
    inbound = lab.proxy_config("listeners", "shop/server", port=15006)
    assert list(inbound.table.columns) == ["ADDRESSES", "PORT", "MATCH", "DESTINATION"]
    assert ("Trans: tls; Addr: *:5000", "Cluster: inbound|5000||") in [row[2:] for row in inbound]
    assert not any("raw_buffer" in row[2] or row[2] == "Addr: *:5000" for row in inbound)
    lab.set_mtls_mode("PERMISSIVE", "shop")
    try:
        permissive = lab.proxy_config("listeners", "shop/server", port=15006)
        assert len(permissive) > len(inbound)
    finally:
        lab.set_mtls_mode("STRICT", "shop")


def test_endpoints_are_those_that_kubernetes_has(lab: Lab) -> None:
    (endpoint,) = lab.proxy_config("endpoints", "shop/client", cluster="outbound|5000||server.shop.svc.cluster.local")
    pod = lab.cluster.get("pods", pod_of(lab, "server"), "shop")
    assert endpoint[:3] == (f"{pod['status']['podIP']}:5000", "HEALTHY", "OK")
    assert not len(lab.proxy_config("endpoints", "shop/client", cluster="outbound|1||nobody"))


def test_secrets_show_certificates_and_never_a_key(lab: Lab) -> None:
    found = lab.proxy_config("secrets", "shop/server")
    own, root = found
    presented = lab.certificate_of("shop/server")
    assert own[:4] == ("default", "Cert Chain", "ACTIVE", "true")
    assert own[4] == presented.serial and own[7] == "cluster.local"
    assert root[:4] == ("ROOTCA", "CA", "ACTIVE", "true") and root[4] != presented.serial
    for text in (found.json(), found.yaml(), str(found), found._repr_html_()):
        assert "PRIVATE KEY" not in text
    (entry, _) = json.loads(found.json())
    assert entry["secret"]["tls_certificate"]["private_key"] == {"inline_string": "[redacted]"}
    assert "BEGIN CERTIFICATE" in entry["secret"]["tls_certificate"]["certificate_chain"]["inline_string"]


def test_all_of_it_from_the_command_line(lab: Lab) -> None:
    done = run("proxy-config", "all", f"{pod_of(lab, 'server')}.shop")
    assert done.exit_code == 0, done.output
    for column in ("ADDRESSES", "SERVICE FQDN", "VHOST NAME", "OUTLIER CHECK", "TRUST DOMAIN", "BOOTSTRAP"):
        assert column in done.stdout
    assert f"~{pod_of(lab, 'server')}.shop~" in done.stdout
    as_yaml = yaml.safe_load(run("proxy-config", "cluster", "deploy/server", "-n", "shop", "-o", "yaml").stdout)
    assert "outbound|5000||server.shop.svc.cluster.local" in [one["name"] for one in as_yaml]


def test_the_gateway_is_a_proxy_like_any_other(lab: Lab) -> None:
    found = lab.proxy_config("routes", "istio-system/istio-ingressgateway")
    assert ("/healthz*", "server.shop") in [row[3:] for row in found]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("secrets", "shop/server", "--port", "80"), "no filter --port"),
        (("everything", "shop/server"), "'everything' is no part"),
        (("clusters", "shop/nobody"), "no Deployment or pod 'nobody'"),
        (("clusters", "shop/server", "--direction", "up"), "'up' is no direction"),
    ],
)
def test_wrong_questions_are_refused_with_one_sentence(lab: Lab, arguments: tuple[str, ...], words: str) -> None:
    done = run("proxy-config", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_pod_without_a_proxy_has_no_words(lab: Lab) -> None:
    with pytest.raises(MeshError, match="has no sidecar"):
        lab.proxy_config("clusters", "legacy/old")
    with pytest.raises(InputError, match="no filter 'colour'"):
        lab.proxy_config("clusters", "shop/server", colour="red")


# -- proxy-log

MATCH = "transport socket match, socket {} selected for host with address"


def log_of(lab: Lab, workload: str) -> str:
    return lab.logs(workload, container="istio-proxy", tail=2000).text


def test_at_debug_the_client_says_which_socket_it_takes(lab: Lab) -> None:
    """The line is written when a client's proxy learns of an endpoint; at `warning` it is not."""
    assert lab.proxy_log("shop/client")["upstream"] == "warning"
    lab.delete("destinationrule/server", "shop")  # with its TLS there is one socket, and nothing to choose
    try:
        lab.restart("shop/server")
        assert "transport socket match" not in log_of(lab, "shop/client")
        said = lab.proxy_log("shop/client", "upstream:debug")
        assert said["upstream"] == "debug" and said["rbac"] == "warning"
        assert said.summary == "all loggers: warning, but upstream: debug"
        lab.restart("shop/server")
        lab.restart("legacy/old")
        wait_for(
            "both lines",
            lambda: all(MATCH.format(f"tlsMode-{one}") in log_of(lab, "shop/client") for one in ("istio", "disabled")),
        )
        lines = [line for line in log_of(lab, "shop/client").splitlines() if "transport socket match" in line]
        for app, namespace, mode in (("server", "shop", "istio"), ("old", "legacy", "disabled")):
            address = lab.cluster.get("pods", pod_of(lab, app, namespace), namespace)["status"]["podIP"]
            here = [line for line in lines if line.endswith(f"{address}:5000")]
            assert here and all(f"socket tlsMode-{mode} " in line for line in here)
    finally:
        lab.apply(RULE)
        lab.proxy_log("shop/client", reset=True)
    assert lab.proxy_log("shop/client")["upstream"] == "warning"


def test_levels_from_the_command_line(lab: Lab) -> None:
    done = run("proxy-log", "shop/server", "--level", "rbac:debug,http:info")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{pod_of(lab, 'server')}.shop:\nactive loggers:\n")
    assert "  rbac: debug\n" in done.stdout and "  http: info\n" in done.stdout
    assert "  rbac: debug\n" in proxy.ask_proxy(lab.cluster, "shop/server", "logging", method="POST")
    assert "  rbac: warning\n" in run("proxy-log", "shop/server", "--reset").stdout
    wrong = run("proxy-log", "shop/server", "--level", "rback:debug")
    assert wrong.exit_code == 2 and "Did you mean rbac" in wrong.stderr
    assert "trace, debug, info" in run("proxy-log", "shop/server", "--level", "loud").stderr


# -- describe


def test_a_strict_pod_is_described_as_istioctl_does(lab: Lab) -> None:
    found = lab.describe("shop/server")
    name = pod_of(lab, "server")
    assert found.text.splitlines()[:3] == [
        f"Pod: {name}.shop",
        "   Pod Revision: default",
        "   Pod Ports: 5000 (app), 15090 (istio-proxy)",
    ]
    assert (found.mode, found.policies) == ("STRICT", ("default.shop",))
    assert found.text.index("Workload mTLS mode: STRICT") < found.text.index(
        "Applied PeerAuthentication:\n   default.shop"
    )
    (port,) = found.routing
    assert (port.port, port.destination_rule, port.virtual_service) == (5000, "server.shop", "server.shop")
    (way,) = found.exposed
    assert way.gateway == "shop/front" and way.url.startswith("http://")
    assert found.warnings == () and found.found.command == f"istioctl x describe pod {name}.shop"


def test_described_again_after_the_change(lab: Lab) -> None:
    lab.delete("peerauthentication/default", "shop")
    try:
        found = lab.describe("shop/server")
        assert (found.mode, found.policies) == ("PERMISSIVE", ())
        assert "Applied PeerAuthentication" not in found.text
        by_port = {"mtls": {"mode": "STRICT"}, "portLevelMtls": {5000: {"mode": "DISABLE"}}}
        policy = istio("PeerAuthentication", "ports", {"selector": {"matchLabels": {"app": "server"}}, **by_port})
        lab.apply(policy)
        found = lab.describe("shop/server")
        assert (found.mode, found.port_modes, found.policies) == ("STRICT", {5000: "DISABLE"}, ("ports.shop",))
        assert "   Port Level mTLS mode:\n      5000: DISABLE" in found.text
        assert lab.describe("shop/client").mode == "PERMISSIVE"
        lab.delete(policy)
    finally:
        lab.set_mtls_mode("STRICT", "shop")


def test_policies_are_named_as_the_proxy_names_them(lab: Lab) -> None:
    assert "RBAC policies" not in lab.describe("shop/server").text
    policy = istio("AuthorizationPolicy", "only-get", {"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]})
    lab.apply(policy)
    try:
        assert "RBAC policies: ns[shop]-policy[only-get]-rule[0]" in lab.describe("shop/server").text
    finally:
        lab.delete(policy)


def test_a_pod_without_a_sidecar_is_described_too(lab: Lab) -> None:
    found = lab.describe("legacy/old")
    assert f"WARNING: {pod_of(lab, 'old', 'legacy')}.legacy is not part of mesh; no Istio sidecar" in found.warnings
    assert (found.mode, found.routing) == ("", ())
    assert "Effective PeerAuthentication" not in found.text
    service = lab.describe("svc/legacy/old")
    assert 'Service "old.legacy" has no Istio pods.  (1 pods in service).' in service.text


def test_describe_from_the_command_line(lab: Lab) -> None:
    done = run("describe", "pod", "server", "-n", "shop")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"Pod: {pod_of(lab, 'server')}\n")
    assert json.loads(run("describe", "po", "shop/server", "--json").stdout)["mode"] == "STRICT"
    service = run("describe", "svc", "server.shop")
    assert service.stdout.startswith("Service: server.shop\n   Port: http 5000/HTTP targets pod port 5000\n")
    assert "PeerAuthentication" not in service.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pod", "shop/nobody"), "no Deployment or pod 'nobody'"),
        (("pod", "nowhere/server"), "namespace 'nowhere' does not exist"),
        (("service", "shop/nobody"), "no Service 'nobody' in namespace 'shop'"),
        (("shop/server",), "Write 'pod' or 'service'"),
    ],
)
def test_what_cannot_be_described(lab: Lab, arguments: tuple[str, ...], words: str) -> None:
    done = run("describe", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


# -- analyze


def test_analyze_the_cluster(lab: Lab) -> None:
    found = lab.analyze(namespace="shop")
    assert [one.line() for one in found if one.code.tool == "istioctl"] == [
        "Error [IST0173] (DestinationRule shop/server) The Subset v2 defined in the DestinationRule does not select "
        "any pods. Which may lead to 503 UH (NoHealthyUpstream)."
    ]
    assert found.command == "istioctl analyze -n shop"
    done = run("analyze", "-n", "shop", "--tool", "istioctl")
    assert done.exit_code == 1 and done.stdout.startswith("Error [IST0173]")
    assert run("analyze", "-n", "shop", "-S", "IST0173", "-S", "KIA0203").exit_code == 0


def test_analyze_a_change_before_it_is_applied(lab: Lab) -> None:
    assert "IST0101" not in lab.analyze(namespace="shop").codes
    change = istio("VirtualService", "old", {"hosts": ["old"], "http": [{"route": [{"destination": {"host": "odl"}}]}]})
    source = yaml.safe_dump(change)
    done = CliRunner().invoke(
        main, ["analyze", "-", "--tool", "istioctl", "-n", "shop", "--cluster", f"embedded:{NAME}"], input=source
    )
    assert "Error [IST0101] (VirtualService shop/old standard input:" in done.stdout
    assert lab.cluster.find("virtualservices", "old", "shop") is None
    wide = istio("PeerAuthentication", "two", {"mtls": {"mode": "DISABLE"}})
    done = CliRunner().invoke(main, ["analyze", "-", "--cluster", f"embedded:{NAME}"], input=yaml.safe_dump(wide))
    assert "[KIA0002] (PeerAuthentication shop/default)" in done.stdout


def test_a_gateways_secret_is_looked_for_where_its_pods_are(lab: Lab) -> None:
    tls = {"mode": "SIMPLE", "credentialName": "shop-cert"}
    servers = [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"], "tls": tls}]
    gateway = istio("Gateway", "secure", {"selector": {"istio": "ingressgateway"}, "servers": servers})
    lab.apply(gateway)
    try:
        assert "IST0101" in lab.analyze(namespace="shop").codes
        leaf = CertificateAuthority.self_signed("ca").issue(dns_names=["shop.example"])
        data = {"tls.crt": leaf.cert_pem.decode(), "tls.key": leaf.key_pem.decode()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-cert", "namespace": "istio-system"}}
        lab.apply({**secret, "stringData": data})
        assert "IST0101" not in lab.analyze(namespace="shop").codes
        lab.delete({**secret, "stringData": data})
    finally:
        lab.delete(gateway)
