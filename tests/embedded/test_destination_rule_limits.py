"""DestinationRules with limits of time, the PROXY protocol, revocation, and certificates that a gateway shows."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labkit.embedded.addresses import listen_port
from labkit.pki import CertificateAuthority
from tests.embedded.echoes import EchoHTTP, QuietServer, running
from tests.embedded.envoy_world import Curled, Mesh, curl, talk, wait_for

Object = dict[str, Any]
HTTP, TCP, TLS, GRPC = 8001, 8002, 8443, 8004
ROOT, NAME = "istio-system", "secured.foo.svc.cluster.local"
LABELS = {"istio": "egressgateway"}

CA = CertificateAuthority.self_signed("the server's CA")
CLIENT = CA.issue(common_name="gateway")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A server with a sidecar, one without, one that asks for certificates, a client and an egress gateway."""
    with Mesh("limits") as mesh, running(asking(mesh, tmp_path_factory.mktemp("server"))):
        mesh.pod("inside", ports=(TCP,))
        mesh.tcp_app("inside", TCP)
        mesh.pod("naked", ports=(TCP,), sidecar=False)
        mesh.tcp_app("naked", TCP, sidecar=False)
        mesh.pod("sleep")
        mesh.pod("egress", namespace=ROOT, gateway=True, labels=LABELS)
        for name in ("inside", "naked"):
            mesh.service(name, {"port": TCP, "name": "tcp"}, {"port": GRPC, "name": "grpc"})
        mesh.service("secured", {"port": TLS, "name": "http"})
        mesh.push()
        wait_for("the service", lambda: answer(mesh, "inside") == b"echo:ping")
        yield mesh


def asking(mesh: Mesh, directory: Path) -> ThreadingHTTPServer:
    """A pod without a sidecar whose server speaks TLS and asks for a certificate."""
    mesh.pod("secured", ports=(TLS,), sidecar=False)
    leaf = CA.issue(dns_names=[NAME])
    (directory / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    context.load_verify_locations(cadata=CA.root_pem.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    server = QuietServer((mesh.ip("secured"), listen_port(TLS)), Greeter)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


class Greeter(EchoHTTP):
    """403 for who shows no certificate."""

    def do_GET(self) -> None:
        shown = self.connection.getpeercert()
        self.send_response(200 if shown else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("DestinationRule", "VirtualService", "Gateway")


def rule(mesh: Mesh, host: str, **policy: Any) -> None:
    mesh.apply("DestinationRule", {"host": host, "trafficPolicy": policy})


def answer(mesh: Mesh, service: str) -> bytes:
    return talk(mesh.seen_from("sleep", service), TCP, b"ping", tls=False)[0]


def cluster(mesh: Mesh, service: str, port: int) -> Object:
    return mesh.sidecars["sleep"].cluster(port, f"{service}.foo.svc.cluster.local")


# Time


def stays_open(mesh: Mesh, *, talking: bool, seconds: float = 1.0) -> bool:
    """Whether a connection is still there after a while, with or without bytes on it."""
    with socket.create_connection((mesh.seen_from("sleep", "inside"), TCP), timeout=5) as connection:
        connection.settimeout(0.05)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if talking:
                    connection.sendall(b"ping")
                if connection.recv(65536) == b"":
                    return False
            except TimeoutError:
                continue
            except OSError:
                return False
        return True


@pytest.mark.parametrize(
    ("limit", "talking", "silent"),
    [({"maxConnectionDuration": "300ms"}, False, False), ({"idleTimeout": "300ms"}, True, False), ({}, True, True)],
    ids=str,
)
def test_connections_end_when_their_time_is_over(mesh: Mesh, limit: Object, talking: bool, silent: bool) -> None:
    rule(mesh, "inside", connectionPool={"tcp": {"connectTimeout": "3s", **limit}})
    wait_for("the rule", lambda: cluster(mesh, "inside", TCP)["connect_timeout"] == "3s")
    wait_for("its listener", lambda: stays_open(mesh, talking=False) is silent)
    assert stays_open(mesh, talking=True) is talking


def test_limits_without_traffic_of_their_own_arrive_in_envoy(mesh: Mesh) -> None:
    rule(
        mesh,
        "inside",
        loadBalancer={"simple": "ROUND_ROBIN", "warmup": {"duration": "30s", "aggression": 2, "minimumPercent": 5}},
        connectionPool={"http": {"maxConcurrentStreams": 7}, "tcp": {"maxConnections": 0}},
        retryBudget={"percent": 30, "minRetryConcurrency": 4},
    )
    wait_for("the rule", lambda: "round_robin_lb_config" in cluster(mesh, "inside", GRPC))
    now = cluster(mesh, "inside", GRPC)
    slow = now["round_robin_lb_config"]["slow_start_config"]
    assert (slow["slow_start_window"], slow["aggression"]["default_value"]) == ("30s", 2)
    assert slow["min_weight_percent"] == {"value": 5}
    (limits,) = now["circuit_breakers"]["thresholds"]
    assert limits["retry_budget"] == {"budget_percent": {"value": 30}, "min_retry_concurrency": 4}
    assert limits["max_connections"] == 4294967295, "0 is no limit"
    (options,) = now["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"]["http2_protocol_options"] == {"max_concurrent_streams": 7}
    assert not mesh.rejections


def test_the_proxy_protocol_says_first_who_calls(mesh: Mesh) -> None:
    assert answer(mesh, "naked") == b"echo:ping"
    rule(mesh, "naked", proxyProtocol={"version": "V1"})
    wait_for("the header", lambda: answer(mesh, "naked").startswith(b"echo:PROXY TCP4 "))
    rule(mesh, "naked", proxyProtocol={"version": "V2"})
    wait_for("the other version", lambda: answer(mesh, "naked").startswith(b"echo:\r\n\r\n\x00\r\nQUIT\n"))
    rule(mesh, "inside", proxyProtocol={"version": "V1"})
    wait_for("a sidecar's refusal: it expects TLS", lambda: answer(mesh, "inside") == b"")


# Revocation


def revoked(*certificates: x509.Certificate) -> bytes:
    """The authority's list of revoked certificates."""
    issuer = x509.load_pem_x509_certificate(CA.root_pem)
    key = serialization.load_pem_private_key(CA.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(hours=1))
    for one in certificates:
        gone = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now).build()
        builder = builder.add_revoked_certificate(gone)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_server_whose_certificate_is_revoked_is_not_spoken_to(mesh: Mesh, tmp_path: Path) -> None:
    def status() -> int:
        return curl(mesh.seen_from("sleep", "secured"), TLS, "/", "-H", f"Host: {NAME}").status

    _, certificate = talk(mesh.ip("secured"), TLS, b"GET / HTTP/1.0\r\n\r\n", sni=NAME)
    assert certificate is not None
    for name, content in (("ca", CA.root_pem), ("none", revoked()), ("all", revoked(certificate))):
        (tmp_path / name).write_bytes(content)
    for name, expected in (("none", 403), ("all", 503)):
        settings = {"mode": "SIMPLE", "caCertificates": str(tmp_path / "ca"), "caCrl": str(tmp_path / name)}
        rule(mesh, "secured", tls=settings, connectionPool={"http": {"maxRequestsPerConnection": 1}})
        wait_for(f"{expected} with the list {name}", lambda expected=expected: status() == expected)  # type: ignore[misc]


# An egress gateway


def test_a_gateway_originates_mutual_tls_with_a_certificate_from_a_secret(mesh: Mesh) -> None:
    """https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination"""
    port = {"number": 8080, "name": "http", "protocol": "HTTP"}
    mesh.apply("Gateway", {"selector": LABELS, "servers": [{"port": port, "hosts": ["*"]}]})
    to = {"destination": {"host": NAME, "port": {"number": TLS}}}
    mesh.apply("VirtualService", {"hosts": [NAME], "gateways": ["test"], "http": [{"route": [to]}]})

    def visit() -> Curled:
        return curl(mesh.ip("egress"), 8080, "/", "-H", f"Host: {NAME}")

    def says(mode: str) -> None:
        tls = {"mode": mode, "credentialName": "client-credential", "sni": NAME}
        policy: Object = {"tls": tls, "connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
        mesh.apply("DestinationRule", {"host": NAME, "trafficPolicy": policy}, namespace=ROOT)

    says("SIMPLE")
    wait_for("503: there is no Secret to verify the server with", lambda: visit().status == 503)
    mesh.secret("client-credential", ROOT, tls_crt=CLIENT.chain_pem, tls_key=CLIENT.key_pem, ca_crt=CA.root_pem)
    wait_for("403: the server is verified, and asks in vain", lambda: visit().status == 403)
    says("MUTUAL")
    wait_for("200: it is shown the certificate", lambda: visit().status == 200)
    mesh.secret(
        "client-credential",
        ROOT,
        tls_crt=CLIENT.chain_pem,
        tls_key=CLIENT.key_pem,
        ca_crt=CertificateAuthority.self_signed().root_pem,
    )
    wait_for("503: another authority", lambda: visit().status == 503)
