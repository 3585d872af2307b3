"""The front door for what is not HTTP: TLS that stays closed and is led by its SNI, TCP, the mesh's own TLS."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from labkit.embedded.addresses import listen_port
from labkit.pki import CertificateAuthority, Leaf
from tests.embedded.envoy_world import ISTIO_TCP, Mesh, curl, talk, wait_for

Object = dict[str, Any]
ROOT = "istio-system"
LABELS = {"istio": "ingressgateway"}
TLS_PORT, TCP_PORT, AUTO_PORT = 443, 9000, 15443
BACKEND_TLS, BACKEND_TCP, BACKEND_HTTP = 8443, 8002, 8001

CA = CertificateAuthority.self_signed("our CA")
NAMES = ("one.example", "two.example", "deep.wild.example")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """Two servers with TLS of their own, the first with a sidecar; a gateway; a client with a sidecar."""
    with Mesh("closeddoors") as mesh:
        ports = (BACKEND_HTTP, BACKEND_TCP, BACKEND_TLS)
        mesh.pod("one", ports=ports)
        mesh.pod("two", ports=ports, sidecar=False)
        for pod in ("one", "two"):
            leaf = CA.issue(dns_names=[f"{pod}.example", "*.wild.example"])
            mesh.https_app(pod, BACKEND_TLS, leaf, sidecar=pod == "one")
            mesh.tcp_app(pod, BACKEND_TCP, sidecar=pod == "one")
            mesh.http_app(pod, BACKEND_HTTP, sidecar=pod == "one")
            mesh.service(
                pod,
                {"port": TLS_PORT, "targetPort": BACKEND_TLS, "name": "https"},
                {"port": BACKEND_TCP, "name": "tcp"},
                {"port": BACKEND_HTTP, "name": "http"},
            )
        mesh.pod("front", namespace=ROOT, gateway=True, labels=LABELS, account="front")
        mesh.pod("client")
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("Gateway", "VirtualService", "DestinationRule", "PeerAuthentication", "AuthorizationPolicy")
    wait_for("the doors to close", lambda: all(refused(mesh, port) for port in (TLS_PORT, TCP_PORT, AUTO_PORT)))


def refused(mesh: Mesh, port: int) -> bool:
    return curl(mesh.ip("front"), port).exit_code == 7


def open_door(mesh: Mesh, *servers: Object) -> None:
    mesh.apply("Gateway", {"selector": LABELS, "servers": list(servers)})


def door(protocol: str, port: int, *hosts: str, **tls: Any) -> Object:
    written: Object = {"port": {"number": port, "name": f"p{port}", "protocol": protocol}, "hosts": list(hosts or "*")}
    return {**written, "tls": tls} if tls else written


def to(host: str, port: int, weight: int | None = None, **more: Any) -> Object:
    destination = {"host": host, "port": {"number": port}, **more}
    return {"destination": destination, **({} if weight is None else {"weight": weight})}


def tls_route(*names: str, to: list[Object], **match: Any) -> Object:
    return {"match": [{"sniHosts": list(names), **match}], "route": to}


def route(mesh: Mesh, *hosts: str, name: str = "test", gateway: str = "test", day: int = 1, **spec: Any) -> None:
    written = {"hosts": list(hosts or "*"), "gateways": [gateway], **spec}
    mesh.apply("VirtualService", written, name=name, day=day)


def visit(mesh: Mesh, name: str, address: str = "", port: int = TLS_PORT) -> tuple[int, str]:
    """curl's exit code, and the port at which the server answered; its certificate is verified by our CA."""
    (mesh.directory / "ca.pem").write_bytes(CA.root_pem)
    wire = listen_port(port)
    done = subprocess.run(
        [
            *("curl", "-q", "-sS", "--max-time", "5", "--cacert", str(mesh.directory / "ca.pem")),
            *("--resolve", f"{name}:{wire}:{address or mesh.ip('front')}", f"https://{name}:{wire}/"),
        ],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def served(mesh: Mesh, name: str, **where: Any) -> bool:
    return visit(mesh, name, **where)[0] == 0


def cut(mesh: Mesh, name: str, **where: Any) -> bool:
    """Whether the connection is closed in the middle of the handshake."""
    return visit(mesh, name, **where)[0] == 35


# PASSTHROUGH


@pytest.mark.parametrize("protocol", ["TLS", "HTTPS"])
def test_a_closed_connection_goes_where_its_sni_says_and_no_other_is_taken(mesh: Mesh, protocol: str) -> None:
    open_door(mesh, door(protocol, TLS_PORT, mode="PASSTHROUGH"))
    assert refused(mesh, TLS_PORT), "without a route nothing listens"
    ways = [tls_route(f"{name}.example", to=[to(name, TLS_PORT)]) for name in ("one", "two")]
    route(mesh, *NAMES, tls=ways)
    # Each server's certificate is for its own name alone, and curl verifies it: nobody opened it on the way.
    wait_for("both", lambda: served(mesh, "one.example") and served(mesh, "two.example"))
    assert cut(mesh, "deep.wild.example"), "no route"
    assert talk(mesh.ip("front"), TLS_PORT, b"GET / HTTP/1.0\r\n\r\n", tls=False)[0] == b"", "no TLS at all"


def test_a_pattern_takes_the_names_below_it_and_a_name_goes_first(mesh: Mesh) -> None:
    open_door(mesh, door("TLS", TLS_PORT, mode="PASSTHROUGH"))
    everything = tls_route("*.example", to=[to("two", TLS_PORT)])
    route(mesh, "*.example", tls=[everything, tls_route("one.example", to=[to("one", TLS_PORT)])])
    wait_for("all three", lambda: all(served(mesh, name) for name in NAMES))
    assert cut(mesh, "example.org")


def test_a_server_lets_in_its_hosts_alone_and_a_rewritten_http_route_is_not_heard(mesh: Mesh) -> None:
    open_door(mesh, door("TLS", TLS_PORT, "one.example", mode="PASSTHROUGH"))
    route(mesh, "one.example", tls=[tls_route("one.example", to=[to("one", TLS_PORT)])])
    route(mesh, "two.example", name="other", tls=[tls_route("two.example", to=[to("two", TLS_PORT)])])
    teapot = {"directResponse": {"status": 418}}
    route(mesh, "one.example", name="http", http=[teapot])
    wait_for("one", lambda: served(mesh, "one.example"))
    assert cut(mesh, "two.example"), "its host is not the server's"


@pytest.mark.parametrize(
    ("match", "taken"),
    [
        ({"port": TLS_PORT}, True),
        ({"port": 444}, False),
        ({"gateways": ["foo/test"]}, True),
        ({"gateways": ["mesh"]}, False),
        ({"sourceLabels": {"app": "nobody"}}, False),
        ({"sourceLabels": {"app": "front"}}, True),
        ({"sourceNamespace": "bar"}, False),
    ],
    ids=str,
)
def test_which_matches_count_at_a_gateway(mesh: Mesh, match: Object, taken: bool) -> None:
    open_door(mesh, door("TLS", TLS_PORT, mode="PASSTHROUGH"))
    ways = [
        tls_route("two.example", to=[to("two", TLS_PORT)]),
        tls_route("one.example", to=[to("one", TLS_PORT)], **match),
    ]
    route(mesh, *NAMES, gateway="foo/test", tls=ways)
    wait_for("the marker", lambda: served(mesh, "two.example"))
    assert served(mesh, "one.example") is taken


def test_weights_share_connections_and_a_missing_destination_closes_them(mesh: Mesh) -> None:
    open_door(mesh, door("TLS", TLS_PORT, mode="PASSTHROUGH"))
    ways = tls_route("deep.wild.example", to=[to("one", TLS_PORT, 30), to("two", TLS_PORT, 70)])
    nowhere = tls_route("one.example", to=[to("nobody", TLS_PORT)])
    route(mesh, *NAMES, tls=[ways, nowhere])
    wait_for("an answer", lambda: served(mesh, "deep.wild.example"))
    seen = Counter(presented(mesh, "deep.wild.example") for _ in range(60))
    assert seen.keys() == {"one.example", "two.example"}
    assert 5 <= seen["one.example"] <= 35
    assert cut(mesh, "one.example")


def presented(mesh: Mesh, name: str) -> str:
    """The first name of the certificate that is presented for an SNI name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=CA.root_pem.decode())
    with (
        socket.create_connection((mesh.ip("front"), listen_port(TLS_PORT)), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


def test_strict_servers_get_the_gateways_mtls_around_the_clients_own(mesh: Mesh) -> None:
    mesh.policy("STRICT")
    open_door(mesh, door("TLS", TLS_PORT, mode="PASSTHROUGH"))
    route(mesh, *NAMES, tls=[tls_route(f"{name}.example", to=[to(name, TLS_PORT)]) for name in ("one", "two")])
    wait_for("one", lambda: served(mesh, "one.example"))
    mesh.apply("DestinationRule", {"host": "one", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}, namespace=ROOT)
    rule = {"host": "one.foo.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    mesh.apply("DestinationRule", rule)
    wait_for("STRICT to refuse the client's TLS", lambda: not served(mesh, "one.example"))
    assert served(mesh, "two.example")


def test_two_gateways_and_one_name_the_older_one_has_it(mesh: Mesh) -> None:
    open_door(mesh, door("TLS", TLS_PORT, mode="PASSTHROUGH"))
    route(mesh, "deep.wild.example", tls=[tls_route("deep.wild.example", to=[to("two", TLS_PORT)])])
    route(mesh, *NAMES, name="young", day=2, tls=[tls_route("deep.wild.example", to=[to("one", TLS_PORT)])])
    wait_for("an answer", lambda: served(mesh, "deep.wild.example"))
    assert {presented(mesh, "deep.wild.example") for _ in range(5)} == {"two.example"}
    assert not mesh.rejections


# TCP


def tcp_answer(mesh: Mesh, port: int = TCP_PORT, **options: Any) -> bytes:
    return talk(mesh.ip("front"), port, b"ping", **{"tls": False, **options})[0]


def test_tcp_goes_by_its_route_and_without_one_the_port_is_closed(mesh: Mesh) -> None:
    open_door(mesh, door("TCP", TCP_PORT))
    assert refused(mesh, TCP_PORT)
    route(mesh, tcp=[{"match": [{"port": 1}], "route": [to("one", BACKEND_TCP)]}])
    assert refused(mesh, TCP_PORT), "the route is for another port"
    route(mesh, tcp=[{"match": [{"port": TCP_PORT}], "route": [to("one", BACKEND_TCP)]}])
    wait_for("the echo", lambda: tcp_answer(mesh) == b"echo:ping")
    mesh.policy("STRICT")
    wait_for("mTLS from the gateway", lambda: tcp_answer(mesh) == b"echo:ping")
    assert talk(mesh.ip("one"), BACKEND_TCP, b"ping", tls=False)[0] == b"", "whoever comes past the door is refused"


def test_authorization_holds_for_tcp_at_the_door(mesh: Mesh) -> None:
    open_door(mesh, door("TCP", TCP_PORT))
    route(mesh, tcp=[{"route": [to("one", BACKEND_TCP)]}])
    wait_for("the echo", lambda: tcp_answer(mesh) == b"echo:ping")
    deny = {"selector": {"matchLabels": LABELS}, "action": "DENY"}
    rules = [{"to": [{"operation": {"ports": [str(TCP_PORT)]}}]}]
    mesh.apply("AuthorizationPolicy", {**deny, "rules": rules}, namespace=ROOT)
    wait_for("the denial", lambda: tcp_answer(mesh) == b"")


def test_tls_that_is_opened_at_the_door_goes_on_as_tcp(mesh: Mesh) -> None:
    own = CA.issue(dns_names=["tcp.example"])
    mesh.secret("tcp-certs", ROOT, cert=own.chain_pem, key=own.key_pem, cacert=CA.root_pem)
    open_door(mesh, door("TLS", TCP_PORT, "tcp.example", mode="MUTUAL", credentialName="tcp-certs"))
    ways = [tls_route("tcp.example", to=[to("two", BACKEND_TCP)])]
    route(mesh, "tcp.example", tls=ways)
    assert refused(mesh, TCP_PORT), "what is opened has no SNI to go by: tls routes do not count"
    route(mesh, "tcp.example", tcp=[{"route": [to("one", BACKEND_TCP)]}])
    ours, stranger = CA.issue(common_name="c"), CertificateAuthority.self_signed("else").issue(common_name="c")

    def answer(leaf: Leaf | None, name: str = "tcp.example") -> bytes:
        return talk(mesh.ip("front"), TCP_PORT, b"ping", leaf=leaf, sni=name)[0]

    wait_for("the echo", lambda: answer(ours) == b"echo:ping")
    assert answer(None) == b""
    assert answer(stranger) == b""
    assert answer(ours, "other.example") == b""
    assert tcp_answer(mesh) == b"", "plaintext"


# AUTO_PASSTHROUGH


def test_the_meshs_own_tls_goes_where_its_sni_says_and_nothing_else_does(mesh: Mesh) -> None:
    open_door(mesh, door("TLS", AUTO_PORT, "*.local", mode="AUTO_PASSTHROUGH"))

    def sni(host: str, port: int = BACKEND_TCP, subset: str = "") -> str:
        return f"outbound_.{port}_.{subset}_.{host}.foo.svc.cluster.local"

    def answer(name: str, alpn: str = ISTIO_TCP, leaf: Leaf | None = None) -> bytes:
        leaf = leaf or mesh.leaf("client")
        return talk(mesh.ip("front"), AUTO_PORT, b"ping", leaf=leaf, alpn=(alpn,), sni=name)[0]

    wait_for("the echo", lambda: answer(sni("one")) == b"echo:ping")
    assert answer(sni("one"), alpn="h2") == b"", "not the mesh's ALPN"
    assert answer(sni("two")) == b"", "an endpoint without mTLS is left out"
    assert answer(sni("nobody")) == b""
    assert answer("one.example") == b""
    assert answer(sni("one", subset="v1")) == b""
    rule = {"host": "one", "subsets": [{"name": "v1", "labels": {"app": "one"}}]}
    mesh.apply("DestinationRule", rule)
    wait_for("the subset", lambda: answer(sni("one", subset="v1")) == b"echo:ping")
    mesh.policy("STRICT")
    stranger = CertificateAuthority.self_signed("else").issue(spiffe_id="spiffe://cluster.local/ns/foo/sa/client")
    wait_for("the server's sidecar to ask", lambda: answer(sni("one"), leaf=stranger) == b"")
    assert answer(sni("one")) == b"echo:ping"


def test_hosts_limit_what_auto_passthrough_leads_to(mesh: Mesh) -> None:
    open_door(mesh, door("TLS", AUTO_PORT, "*.bar.svc.cluster.local", mode="AUTO_PASSTHROUGH"))
    assert refused(mesh, AUTO_PORT)


# Sidecars


def from_client(mesh: Mesh, service: str = "one") -> dict[str, Any]:
    return {"address": mesh.seen_from("client", service), "port": TLS_PORT}


def test_a_sidecar_sends_tls_by_its_sni_and_the_rest_past_the_routes(mesh: Mesh) -> None:
    assert served(mesh, "one.example", **from_client(mesh))
    route(
        mesh,
        "one",
        "two.example",
        gateway="mesh",
        tls=[tls_route("two.example", to=[to("two", TLS_PORT)])],
    )
    wait_for("the other server", lambda: served(mesh, "two.example", **from_client(mesh)))
    assert not served(mesh, "one.example", **from_client(mesh)), "passed on to the ClusterIP, where nobody listens here"
    assert served(mesh, "two.example", **from_client(mesh, "two")), "the other service is not touched"


def test_routes_for_other_clients_and_tcp_routes_do_not_count_for_a_port_of_tls(mesh: Mesh) -> None:
    other = tls_route("one.example", to=[to("nobody", TLS_PORT)], sourceLabels={"app": "somebody"})
    route(mesh, "one", gateway="mesh", tls=[other], tcp=[{"route": [to("nobody", TLS_PORT)]}])
    marker = {"hosts": ["two"], "http": [{"directResponse": {"status": 202}}]}
    mesh.apply("VirtualService", marker, name="marker")
    address = mesh.seen_from("client", "two")
    wait_for("the marker", lambda: curl(address, BACKEND_HTTP).status == 202)
    assert served(mesh, "one.example", **from_client(mesh))
