"""The front door with real traffic: what a gateway pod opens, whom it lets through, and how it calls on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkit.embedded.addresses import listen_port
from tests.embedded.envoy_world import Curled, Mesh, curl, http_status, wait_for

Object = dict[str, Any]
ROOT, PORT, REFUSED = "istio-system", 80, 7
GATEWAY_LABELS = {"istio": "ingressgateway"}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A gateway pod, a server with a sidecar and one without."""
    with Mesh("gateways") as mesh:
        mesh.server("secured", http=(8001,))
        mesh.server("plain", http=(8001,), sidecar=False)
        mesh.pod("front", namespace=ROOT, gateway=True, labels=GATEWAY_LABELS, account="front")
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("Gateway", "VirtualService", "DestinationRule", "PeerAuthentication")
    wait_for("the door to close", lambda: visit(mesh).exit_code == REFUSED)


def open_door(mesh: Mesh, *hosts: str, selector: Object = GATEWAY_LABELS, **server: Any) -> None:
    port = {"number": PORT, "name": "http", "protocol": "HTTP"}
    mesh.apply("Gateway", {"selector": selector, "servers": [{"port": port, "hosts": hosts or ["*"], **server}]})


def route(mesh: Mesh, host: str, **http: Any) -> None:
    destination = {"host": host, "port": {"number": 8001}}
    spec = {
        "hosts": ["shop.example"],
        "gateways": ["test"],
        "http": [{"route": [{"destination": destination}], **http}],
    }
    mesh.apply("VirtualService", spec)


def visit(mesh: Mesh, path: str = "/", *options: str, host: str = "shop.example") -> Curled:
    return curl(mesh.ip("front"), PORT, path, "-H", f"Host: {host}", *options)


def sees(mesh: Mesh, status: int, **options: Any) -> None:
    wait_for(f"status {status}", lambda: visit(mesh, **options).status == status)


def test_without_a_gateway_refused_with_one_and_no_route_404(mesh: Mesh) -> None:
    assert visit(mesh).exit_code == REFUSED
    assert http_status(mesh.ip("front"), 15021, "/healthz/ready") == 200
    open_door(mesh)
    sees(mesh, 404)


def test_a_gateway_for_other_pods_opens_nothing(mesh: Mesh) -> None:
    open_door(mesh, selector={"istio": "another"})
    assert visit(mesh).exit_code == REFUSED


def test_a_route_serves_its_host_and_no_other(mesh: Mesh) -> None:
    open_door(mesh)
    route(mesh, "secured")
    sees(mesh, 200)
    assert visit(mesh, host="shop.example:8080").status == 200
    assert visit(mesh, host="other.example").status == 404


def test_strict_is_met_by_the_gateways_own_identity(mesh: Mesh) -> None:
    mesh.policy("STRICT")
    open_door(mesh)
    route(mesh, "secured")
    sees(mesh, 200)
    answer = visit(mesh, "/", "-H", "X-Forwarded-Client-Cert: URI=spiffe://forged")
    assert answer.caller == f"spiffe://cluster.local/ns/{ROOT}/sa/front"
    assert "forged" not in answer.body
    assert curl(mesh.ip("secured"), 8001).exit_code != 0  # whoever comes past the door without a certificate


def test_a_server_without_sidecar_gets_plaintext_until_a_rule_demands_mtls(mesh: Mesh) -> None:
    open_door(mesh)
    route(mesh, "plain")
    sees(mesh, 200)
    assert "x-forwarded-client-cert" not in visit(mesh).json["headers"]
    mesh.apply("DestinationRule", {"host": "*", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}, namespace=ROOT)
    sees(mesh, 503)


def test_a_rewritten_request_reaches_the_servers_other_path(mesh: Mesh) -> None:
    open_door(mesh)
    route(mesh, "secured", match=[{"uri": {"prefix": "/probe"}}], rewrite={"uri": "/healthz/ready"})
    sees(mesh, 200, path="/probe")
    assert visit(mesh, "/probe").json["path"] == "/healthz/ready"
    assert visit(mesh, "/else").status == 404


def test_what_one_route_catches_does_not_hide_what_another_of_the_same_host_asks_for(mesh: Mesh) -> None:
    open_door(mesh)
    spec: Object = {"hosts": ["shop.example"], "gateways": ["test"]}
    mesh.apply("VirtualService", {**spec, "http": [{"directResponse": {"status": 201}}]}, name="a-catches-all")
    asked = {"match": [{"uri": {"prefix": "/narrow"}}], "directResponse": {"status": 202}}
    mesh.apply("VirtualService", {**spec, "http": [asked]}, name="b-narrow")
    sees(mesh, 202, path="/narrow")
    assert visit(mesh, "/wide").status == 201


def test_the_gateways_own_readiness_can_be_asked_through_its_door(mesh: Mesh) -> None:
    """A route back to the gateway's Service, to the port of its agent, as external health checks need it."""
    service = f"front.{ROOT}.svc.cluster.local"
    ports = ({"port": PORT, "name": "http2"}, {"port": 15021, "name": "status-port"})
    mesh.service("front", *ports, namespace=ROOT)
    mesh.push()
    try:
        open_door(mesh)
        probe = {"match": [{"uri": {"exact": "/probe"}}], "rewrite": {"uri": "/healthz/ready"}}
        back = {"destination": {"host": service, "port": {"number": 15021}}}
        spec = {"hosts": ["*"], "gateways": ["test"], "http": [{**probe, "route": [back]}]}
        mesh.apply("VirtualService", spec)
        sees(mesh, 200, path="/probe")
        assert visit(mesh, "/probe", host="anybody.example").status == 200
        assert visit(mesh, "/healthz/ready").status == 404, "nothing leads there but the probe"
        mesh.apply("VirtualService", {**spec, "http": [{"match": probe["match"], "route": [back]}]})
        sees(mesh, 404, path="/probe")  # the agent answers, and knows no such path
    finally:
        mesh.state.on_service("DELETED", {"metadata": {"name": "front", "namespace": ROOT}})
        mesh.push()


def test_https_redirect_sends_away_and_routes_nothing(mesh: Mesh) -> None:
    open_door(mesh, tls={"httpsRedirect": True})
    route(mesh, "secured")
    sees(mesh, 301)
    where = visit(mesh, "/a", "-o", "/dev/null", "-w", "%{redirect_url}\n%{http_code}")
    assert where.body.startswith("https://shop.example/a")


def test_a_gateway_listens_on_the_target_port_of_its_service(mesh: Mesh) -> None:
    mesh.service("front", {"port": PORT, "name": "http2", "targetPort": 8080}, namespace=ROOT)
    mesh.push()
    try:
        open_door(mesh)
        wait_for("the target port", lambda: http_status(mesh.ip("front"), 8080, "/") == 404)
        assert http_status(mesh.ip("front"), listen_port(PORT), "/") == 0
    finally:
        mesh.state.on_service("DELETED", {"metadata": {"name": "front", "namespace": ROOT}})
        mesh.push()
