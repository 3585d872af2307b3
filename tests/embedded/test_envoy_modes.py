"""What a real Envoy, configured by us, lets in; each success has a twin that must fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from labkit.pki import CertificateAuthority
from labkit.policy.inbound import Arrival, find_chain
from labkit.policy.modes import MutualTLSMode
from labkit.policy.protocols import Protocol
from tests.embedded.envoy_world import ISTIO_HTTP, ISTIO_TCP, Mesh, curl, http_status, talk, wait_for

GET = b"GET / HTTP/1.1\r\nHost: httpbin\r\n\r\n"

AUTO, HTTP, TCP, UNSERVED = 8000, 8001, 8002, 8003


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server with a port of each kind, a client with a sidecar, and a server without one."""
    with Mesh("modes") as mesh:
        mesh.pod("httpbin", ports=(AUTO, HTTP, TCP, UNSERVED))
        mesh.pod("sleep")
        mesh.pod("legacy", sidecar=False, ports=(AUTO,))
        mesh.service(
            "httpbin",
            {"port": AUTO, "name": "any"},
            {"port": HTTP, "name": "http"},
            {"port": TCP, "name": "tcp"},
        )
        mesh.service("legacy", {"port": AUTO, "name": "http"})
        for port in (AUTO, HTTP, UNSERVED):
            mesh.http_app("httpbin", port)
        mesh.tcp_app("httpbin", TCP)
        mesh.http_app("legacy", AUTO, sidecar=False)
        mesh.push()
        wait_for("the service", lambda: curl(mesh.seen_from("sleep", "httpbin"), AUTO).status == 200)
        yield mesh


def set_mode(mesh: Mesh, mode: str) -> None:
    """Set the namespace's mode and wait until the server's Envoy itself says so."""
    mesh.policy(mode)
    transports = {"DISABLE": {"raw_buffer"}, "PERMISSIVE": {"tls", "raw_buffer"}, "STRICT": {"tls"}}[mode]
    mesh.settled(
        "httpbin",
        lambda listener: (
            transports
            == {
                chain["filter_chain_match"]["transport_protocol"]
                for chain in listener["filter_chains"]
                if chain["name"] == f"0.0.0.0_{AUTO}"
            }
        ),
    )


ARRIVALS = {
    "plaintext HTTP": Arrival(http=True),
    "plaintext bytes": Arrival(),
    "mTLS announcing HTTP": Arrival(tls=True, alpn=(ISTIO_HTTP,), http=True),
    "mTLS announcing bytes": Arrival(tls=True, alpn=(ISTIO_TCP,)),
    "TLS of somebody else": Arrival(tls=True),
}


def knock(mesh: Mesh, port: int, arrival: Arrival) -> bytes:
    sent = GET if arrival.http else b"hello\n"
    leaf = mesh.leaf() if arrival.tls else None
    return talk(mesh.ip("httpbin"), port, sent, leaf=leaf, alpn=arrival.alpn, tls=arrival.tls)[0]


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT", "DISABLE"])
def test_every_arrival_at_every_kind_of_port_fares_as_istios_table_says(mesh: Mesh, mode: str) -> None:
    """HTTP, TCP and undetermined ports, five arrivals: taken by a chain that can answer, or refused."""
    set_mode(mesh, mode)
    wrong = []
    for port, protocol in ((AUTO, Protocol.UNDECLARED), (HTTP, Protocol.HTTP), (TCP, Protocol.TCP)):
        for name, arrival in ARRIVALS.items():
            rule = find_chain(protocol, MutualTLSMode(mode), arrival)
            answer = knock(mesh, port, arrival)
            if port == TCP:
                # The echo answers whatever reaches it in the clear; TLS that nobody ends dies in the handshake.
                expected = rule is not None and (rule.terminates or not arrival.tls)
                fits = answer == (b"echo:" + (GET if arrival.http else b"hello\n")) if expected else answer == b""
            else:
                expected = rule is not None and arrival.http and (rule.terminates or not arrival.tls)
                fits = answer.startswith(b"HTTP/1.1 200") == expected
            if not fits:
                wrong.append((port, name, str(rule), answer[:60]))
    assert not wrong


def test_a_naked_client_of_a_strict_port_is_reset_in_curls_words(mesh: Mesh) -> None:
    """Twin: under PERMISSIVE the same request is answered."""
    set_mode(mesh, "STRICT")
    refused = curl(mesh.ip("httpbin"), AUTO)
    assert (refused.exit_code, refused.status) == (56, 0)
    assert refused.error == "curl: (56) Recv failure: Connection reset by peer"
    set_mode(mesh, "PERMISSIVE")
    assert curl(mesh.ip("httpbin"), AUTO).status == 200


@pytest.mark.parametrize("port", [AUTO, HTTP])
def test_a_sidecar_passes_strict_and_the_application_is_told_who_calls(mesh: Mesh, port: int) -> None:
    set_mode(mesh, "STRICT")
    answer = curl(mesh.seen_from("sleep", "httpbin"), port)
    assert answer.status == 200
    assert answer.caller == "spiffe://cluster.local/ns/foo/sa/sleep"
    assert answer.json["from"] == "127.0.0.6"


def test_plaintext_under_permissive_names_no_caller(mesh: Mesh) -> None:
    set_mode(mesh, "PERMISSIVE")
    answer = curl(mesh.ip("httpbin"), AUTO)
    assert (answer.status, answer.caller) == (200, "")


def test_a_sidecar_reaches_a_tcp_port_under_strict(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    address = mesh.seen_from("sleep", "httpbin")
    assert talk(address, TCP, b"hello", tls=False)[0] == b"echo:hello"
    assert talk(mesh.ip("httpbin"), TCP, b"hello", tls=False)[0] == b""


def test_a_port_that_no_service_names_is_guarded_as_well(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    assert curl(mesh.ip("httpbin"), UNSERVED).exit_code == 56
    answer, _ = talk(mesh.ip("httpbin"), UNSERVED, GET, leaf=mesh.leaf(), alpn=(ISTIO_HTTP,))
    assert answer.startswith(b"HTTP/1.1 200")


def strangers(mesh: Mesh) -> dict[str, object]:
    """Clients whose certificate must not do."""
    other = CertificateAuthority.self_signed()
    me = "spiffe://cluster.local/ns/foo/sa/sleep"
    past = datetime.now(UTC) - timedelta(days=2)
    return {
        "no certificate": None,
        "another CA": other.issue(spiffe_id=me),
        "another trust domain": mesh.authority.issue(spiffe_id="spiffe://evil.example/ns/foo/sa/sleep"),
        "a trust domain that begins alike": mesh.authority.issue(
            spiffe_id="spiffe://cluster.local.evil/ns/foo/sa/sleep"
        ),
        "no SPIFFE ID": mesh.authority.issue(dns_names=["sleep.foo"]),
        "expired": mesh.authority.issue(spiffe_id=me, not_before=past, ttl=timedelta(hours=1)),
        "for servers only": mesh.authority.issue(spiffe_id=me, client=False),
    }


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE"])
def test_only_a_certificate_of_this_mesh_opens_an_mtls_connection(mesh: Mesh, mode: str) -> None:
    set_mode(mesh, mode)
    address = mesh.ip("httpbin")
    good, _ = talk(address, AUTO, GET, leaf=mesh.leaf(), alpn=(ISTIO_HTTP,))
    assert good.startswith(b"HTTP/1.1 200")
    let_in = [
        name
        for name, leaf in strangers(mesh).items()
        if talk(address, AUTO, GET, leaf=leaf, alpn=(ISTIO_HTTP,))[0]  # type: ignore[arg-type]
    ]
    assert not let_in


def test_the_server_presents_its_service_account(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    _, certificate = talk(mesh.ip("httpbin"), AUTO, GET, leaf=mesh.leaf(), alpn=(ISTIO_HTTP,))
    assert certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://cluster.local/ns/foo/sa/httpbin"]
    assert not list(certificate.subject)


def test_auto_mtls_sends_plaintext_to_a_server_without_a_sidecar(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    answer = curl(mesh.seen_from("sleep", "legacy"), AUTO)
    assert (answer.status, answer.caller) == (200, "")
    assert answer.json["from"] == mesh.ip("sleep"), "the client's proxy sends from the client's address"


def test_one_disabled_port_of_a_strict_workload_takes_plaintext_and_clients_follow(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    mesh.policy("STRICT", name="one-port", app="httpbin", ports={AUTO: "DISABLE"})
    try:
        wait_for("the port to open", lambda: curl(mesh.ip("httpbin"), AUTO).status == 200)
        assert curl(mesh.ip("httpbin"), HTTP).exit_code == 56
        sleep = mesh.seen_from("sleep", "httpbin")
        wait_for("clients to send plaintext", lambda: curl(sleep, AUTO).caller == "")
        assert curl(sleep, HTTP).caller == "spiffe://cluster.local/ns/foo/sa/sleep"
    finally:
        mesh.no_policy("one-port")


def test_a_strict_workload_in_a_disabled_namespace_refuses_auto_mtls_clients(mesh: Mesh) -> None:
    """A hole that Istio has: the cluster has no TLS at all, by the namespace's mode alone."""
    mesh.policy("DISABLE")
    mesh.policy("STRICT", name="strict", app="httpbin")
    try:
        sleep = mesh.seen_from("sleep", "httpbin")
        wait_for("the clash", lambda: curl(sleep, HTTP).status == 503)
        assert "upstream connect error or disconnect/reset before headers" in curl(sleep, HTTP).body
    finally:
        mesh.no_policy("strict")
        mesh.policy("PERMISSIVE")
    wait_for("peace", lambda: curl(sleep, HTTP).status == 200)


def test_a_server_with_another_identity_than_expected_is_not_spoken_to(mesh: Mesh) -> None:
    """Who holds a good certificate of the mesh is still not the service that was meant.

    By TCP, because each connection there is a new one to the server, too.
    """
    set_mode(mesh, "STRICT")
    sleep = mesh.seen_from("sleep", "httpbin")
    assert talk(sleep, TCP, b"hello", tls=False)[0] == b"echo:hello"
    pod = mesh.state.sidecars["foo", "httpbin"]
    try:
        mesh.certificates._deliver(pod, mesh.leaf("impostor"))
        wait_for("the client to notice", lambda: talk(sleep, TCP, b"hello", tls=False)[0] == b"")
    finally:
        mesh.certificates.forget(pod.key)
        (mesh.delivery.directory(pod.key) / "sds" / "default.json").unlink()
        mesh.delivery._written.clear()
        mesh.pusher.renew()
    wait_for("trust to return", lambda: talk(sleep, TCP, b"hello", tls=False)[0] == b"echo:hello")


def test_the_proxys_own_ports_answer_without_a_certificate_under_strict(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    address = mesh.ip("httpbin")
    assert http_status(address, 15021, "/healthz/ready") == 200
    assert http_status(address, 15020, "/stats/prometheus") == 200
    assert http_status(address, 15090, "/stats/prometheus") == 200


@pytest.mark.parametrize("path", ["/quitquitquit", "/config_dump", "/", "/stats/prometheus/../../config_dump"])
def test_the_admin_interface_is_not_reached_through_the_metrics_ports(mesh: Mesh, path: str) -> None:
    assert http_status(mesh.ip("httpbin"), 15090, path) == 404
    assert http_status(mesh.ip("httpbin"), 15020, path) == 404


def test_a_refused_connection_is_logged_as_filter_chain_not_found(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    curl(mesh.ip("httpbin"), AUTO)
    log = mesh.sidecars["httpbin"]
    wait_for("the log", lambda: '"- - -" 0 NR filter_chain_not_found' in log.printed())


def test_an_answered_request_is_logged_in_istios_format(mesh: Mesh) -> None:
    set_mode(mesh, "STRICT")
    curl(mesh.seen_from("sleep", "httpbin"), HTTP, "/logged")
    sni = f"outbound_.{HTTP}_._.httpbin.foo.svc.cluster.local default"

    def line() -> str:
        lines = mesh.sidecars["httpbin"].printed().splitlines()
        return next((each for each in lines if '"GET /logged HTTP/1.1" 200 - via_upstream' in each), "")

    wait_for("the log", lambda: bool(line()))
    assert line().endswith(sni)
    assert f"inbound|{HTTP}||" in line()


def test_envoy_rejected_nothing_of_all_this(mesh: Mesh) -> None:
    for sidecar in mesh.sidecars.values():
        rejected = {name: count for name, count in sidecar.counters("update_rejected").items() if count}
        assert not rejected, sidecar.printed()
