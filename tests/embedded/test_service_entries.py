"""ServiceEntries and WorkloadEntries with real traffic: hosts that Kubernetes does not know."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.addresses import captured_ip
from labkit.pki import CertificateAuthority
from labkit.policy.service_entry import entry_from_group
from tests.embedded.echoes import EchoHTTP, running
from tests.embedded.envoy_world import Curled, Mesh, curl, talk, wait_for

Object = dict[str, Any]
HTTP = 8001
OUTSIDE = "127.0.0.1"
"""A server outside of the cluster is one of this machine, at an address that is in no cluster's block."""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Mesh("entries") as mesh:
        mesh.server("inside", http=(HTTP,))
        mesh.pod("sleep")
        mesh.pod("stranger", namespace="bar")
        mesh.service("virtual", {"port": HTTP, "name": "http"}, app="vm")
        mesh.push()
        yield mesh


@pytest.fixture(scope="module")
def plain_port() -> Iterator[int]:
    """A plain HTTP server outside."""
    with running(ThreadingHTTPServer((OUTSIDE, 0), EchoHTTP)) as port:
        yield port


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    """An authority of the world outside: not the mesh's."""
    return CertificateAuthority.self_signed()


@pytest.fixture(scope="module")
def tls_port(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An HTTPS server outside that is api.example.com."""
    leaf = authority.issue(dns_names=["api.example.com"], client=False)
    file: Path = tmp_path_factory.mktemp("outside") / "server.pem"
    file.write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = ThreadingHTTPServer((OUTSIDE, 0), EchoHTTP)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server) as port:
        yield port


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("ServiceEntry", "WorkloadEntry", "DestinationRule", "PeerAuthentication")


def apply(mesh: Mesh, kind: str, name: str, spec: Object) -> None:
    mesh.apply(kind, spec, name=name)


def port(number: int, *, protocol: str = "HTTP", **more: Any) -> Object:
    return {"number": number, "name": protocol.lower(), "protocol": protocol, **more}


def entry(host: str, *ports: Object, **more: Any) -> Object:
    return {"hosts": [host], "ports": [*ports], "location": "MESH_EXTERNAL", "resolution": "STATIC", **more}


def call(mesh: Mesh, host: str, number: int, *, client: str = "sleep", namespace: str = "foo") -> Curled:
    """Call a host as a redirected pod does: where the node's name files lead it."""
    return curl(mesh.seen_from(client, host, namespace), number, "/", "-H", f"Host: {host}")


def cluster_of(mesh: Mesh, number: int, host: str) -> Object:
    return mesh.sidecars["sleep"].cluster(number, host)


def test_an_outside_host_by_static_address_is_reached_in_plaintext(mesh: Mesh, plain_port: int) -> None:
    spec = entry("api.example.com", port(80, targetPort=plain_port), endpoints=[{"address": OUTSIDE}])
    apply(mesh, "ServiceEntry", "api", spec)
    wait_for("the host", lambda: call(mesh, "api.example.com", 80).status == 200)
    answer = call(mesh, "api.example.com", 80)
    assert answer.json["port"] == plain_port and answer.json["headers"]["host"] == "api.example.com"
    cluster = cluster_of(mesh, 80, "api.example.com")
    assert "transport_socket_matches" not in cluster and cluster["type"] == "STATIC"


def test_nobody_answers_where_an_entry_has_no_endpoint(mesh: Mesh) -> None:
    apply(mesh, "ServiceEntry", "nobody", entry("nobody.example.com", port(80)))
    wait_for("503", lambda: call(mesh, "nobody.example.com", 80).status == 503)
    assert "no healthy upstream" in call(mesh, "nobody.example.com", 80).body


def test_a_name_is_resolved_by_the_proxy(mesh: Mesh, plain_port: int) -> None:
    ports = port(80, targetPort=plain_port)
    apply(
        mesh,
        "ServiceEntry",
        "dns",
        entry("localhost.example", ports, resolution="DNS", endpoints=[{"address": "localhost"}]),
    )
    wait_for("the name", lambda: call(mesh, "localhost.example", 80).status == 200)
    assert cluster_of(mesh, 80, "localhost.example")["type"] == "STRICT_DNS"
    # The twin: a name that leads nowhere.
    apply(mesh, "ServiceEntry", "dns", entry("localhost.example", ports, resolution="DNS"))
    wait_for("503", lambda: call(mesh, "localhost.example", 80).status == 503)


def test_a_proxy_originates_tls_as_the_rule_says(
    mesh: Mesh, authority: CertificateAuthority, tls_port: int, tmp_path: Path
) -> None:
    spec = entry("api.example.com", port(80, targetPort=tls_port), endpoints=[{"address": OUTSIDE}])
    apply(mesh, "ServiceEntry", "api", spec)
    wait_for("bytes that the server cannot read", lambda: call(mesh, "api.example.com", 80).status == 503)

    def rule(**tls: Any) -> None:
        policy = {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE", **tls}}]}
        apply(mesh, "DestinationRule", "api", {"host": "api.example.com", "trafficPolicy": policy})

    trusted, other = tmp_path / "trusted.pem", tmp_path / "other.pem"
    trusted.write_bytes(authority.root_pem)
    other.write_bytes(CertificateAuthority.self_signed().root_pem)
    rule(caCertificates=str(trusted), sni="api.example.com", subjectAltNames=["api.example.com"])
    wait_for("TLS", lambda: call(mesh, "api.example.com", 80).status == 200)
    rule(caCertificates=str(trusted))  # SNI and name follow from the request's host
    wait_for("the socket", lambda: "sni" not in str(cluster_of(mesh, 80, "api.example.com")["transport_socket"]))
    wait_for("TLS by the host's name", lambda: call(mesh, "api.example.com", 80).status == 200)
    for wrong in (
        {"caCertificates": str(other)},
        {"caCertificates": str(trusted), "subjectAltNames": ["other.example.com"]},
        {},  # the machine's own authorities do not know this one
    ):
        rule(**wrong)
        wait_for(f"the refusal of {wrong}", lambda: call(mesh, "api.example.com", 80).status == 503)
    rule(insecureSkipVerify=True)
    wait_for("whoever answers", lambda: call(mesh, "api.example.com", 80).status == 200)


@pytest.mark.parametrize(
    "tls",
    [
        {"sni": "api.example.com"},
        {"caCertificates": "system", "sni": "api.example.com"},
        {"sni": "api.example.com", "subjectAltNames": ["api.example.com"]},
    ],
    ids=["nothing said", "the system's", "with a name"],
)
def test_without_an_authority_of_its_own_a_rule_trusts_those_of_the_system(
    mesh: Mesh, tls_port: int, tls: dict[str, Any]
) -> None:
    spec = entry("api.example.com", port(80, targetPort=tls_port), endpoints=[{"address": OUTSIDE}])
    apply(mesh, "ServiceEntry", "api", spec)
    for settings, status in (({"insecureSkipVerify": True}, 200), (tls, 503), ({"insecureSkipVerify": True}, 200)):
        policy = {"host": "api.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE", **settings}}}
        apply(mesh, "DestinationRule", "api", policy)
        wait_for(f"{status}", lambda wanted=status: call(mesh, "api.example.com", 80).status == wanted)
        verified = "trusted_ca" in str(cluster_of(mesh, 80, "api.example.com")["transport_socket"])
        assert verified == (settings is tls)  # Envoy has taken it, and refuses by it


def test_a_server_that_asks_for_a_certificate_is_reached_by_mutual_and_not_by_simple(
    mesh: Mesh, authority: CertificateAuthority, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("root", "server", "chain", "key")}
    own = authority.issue(dns_names=["api.example.com"], client=False)
    client = authority.issue(dns_names=["client.example.com"])
    files["root"].write_bytes(authority.root_pem)
    files["server"].write_bytes(own.chain_pem + own.key_pem)
    files["chain"].write_bytes(client.chain_pem)
    files["key"].write_bytes(client.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["server"])
    context.load_verify_locations(files["root"])
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer((OUTSIDE, 0), EchoHTTP)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server) as number:
        spec = entry("api.example.com", port(80, targetPort=number), endpoints=[{"address": OUTSIDE}])
        apply(mesh, "ServiceEntry", "api", spec)
        trusted = {"caCertificates": str(files["root"]), "sni": "api.example.com"}
        shown = {"clientCertificate": str(files["chain"]), "privateKey": str(files["key"])}
        for mode, status in (({"mode": "MUTUAL", **shown}, 200), ({"mode": "SIMPLE"}, 503)):
            policy = {"host": "api.example.com", "trafficPolicy": {"tls": {**mode, **trusted}}}
            apply(mesh, "DestinationRule", "api", policy)
            wait_for(f"{status} by {mode}", lambda wanted=status: call(mesh, "api.example.com", 80).status == wanted)


def test_a_wrong_host_name_is_no_match_for_the_certificate(
    mesh: Mesh, authority: CertificateAuthority, tls_port: int, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.root_pem)
    for host in ("api.example.com", "evil.example.com"):
        spec = entry(host, port(80, targetPort=tls_port), endpoints=[{"address": OUTSIDE}])
        apply(mesh, "ServiceEntry", host, spec)
        tls = {"mode": "SIMPLE", "caCertificates": str(trusted)}
        apply(mesh, "DestinationRule", host, {"host": host, "trafficPolicy": {"tls": tls}})
    wait_for("the right one", lambda: call(mesh, "api.example.com", 80).status == 200)
    wait_for("the wrong one", lambda: call(mesh, "evil.example.com", 80).status == 503)


def test_a_host_inside_the_mesh_is_sent_mtls_where_its_workload_answers_it(mesh: Mesh) -> None:
    spec = entry("part.of.mesh", port(HTTP), location="MESH_INTERNAL", workloadSelector={"labels": {"app": "inside"}})
    apply(mesh, "ServiceEntry", "part", spec)
    mesh.policy("STRICT")
    wait_for("mTLS", lambda: call(mesh, "part.of.mesh", HTTP).status == 200)
    assert call(mesh, "part.of.mesh", HTTP).caller == "spiffe://cluster.local/ns/foo/sa/sleep"
    # The twin: said to be outside, it is sent plaintext, and STRICT refuses that.
    apply(mesh, "ServiceEntry", "part", {**spec, "location": "MESH_EXTERNAL"})
    wait_for("the refusal", lambda: call(mesh, "part.of.mesh", HTTP).status == 503)


def test_a_workload_entry_stands_behind_a_service_of_kubernetes(mesh: Mesh, plain_port: int) -> None:
    def status() -> int:
        return curl(mesh.seen_from("sleep", "virtual"), HTTP).status

    wait_for("nobody", lambda: status() == 503)
    vm = {"address": OUTSIDE, "labels": {"app": "vm"}, "ports": {"http": plain_port}}
    apply(mesh, "WorkloadEntry", "vm", vm)
    wait_for("the machine", lambda: status() == 200)
    # With a service account it counts as part of the mesh, so it is sent mTLS, which this one cannot answer.
    apply(mesh, "WorkloadEntry", "vm", {**vm, "serviceAccount": "vm"})
    wait_for("mTLS", lambda: status() == 503)


def test_a_selector_chooses_the_machines_of_a_group_beside_pods(mesh: Mesh, plain_port: int) -> None:
    group = {"metadata": {"name": "vms", "namespace": "foo"}, "spec": {"template": {"labels": {"app": "db"}}}}
    vm = entry_from_group(group, OUTSIDE)
    spec = entry(
        "db.example.com",
        port(80, targetPort=plain_port),
        location="MESH_INTERNAL",
        workloadSelector={"labels": {"app": "db"}},
    )
    apply(mesh, "ServiceEntry", "db", spec)
    wait_for("nobody", lambda: call(mesh, "db.example.com", 80).status == 503)
    apply(mesh, "WorkloadEntry", "vms-1", {**vm["spec"], "labels": {"app": "other"}})
    assert call(mesh, "db.example.com", 80).status == 503
    apply(mesh, "WorkloadEntry", "vms-1", vm["spec"])
    wait_for("the machine", lambda: call(mesh, "db.example.com", 80).status == 200)
    assert call(mesh, "db.example.com", 80).json["port"] == plain_port
    apply(mesh, "WorkloadEntry", "vms-1", {**vm["spec"], "address": "127.0.0.2", "ports": {"http": 1}})
    wait_for("a machine that does not answer", lambda: call(mesh, "db.example.com", 80).status == 503)


def test_what_is_not_exported_is_not_there_for_others(mesh: Mesh, plain_port: int) -> None:
    spec = entry("api.example.com", port(80, targetPort=plain_port), endpoints=[{"address": OUTSIDE}], exportTo=["."])
    apply(mesh, "ServiceEntry", "api", spec)
    wait_for("the own namespace", lambda: call(mesh, "api.example.com", 80).status == 200)
    assert call(mesh, "api.example.com", 80, client="stranger").exit_code == 7
    apply(mesh, "ServiceEntry", "api", {**spec, "exportTo": ["bar"]})
    wait_for("the other one", lambda: call(mesh, "api.example.com", 80, client="stranger").status == 200)


def test_what_nobody_registered_is_refused_under_registry_only_and_not_taken_under_allow_any(mesh: Mesh) -> None:
    pod = mesh.ip("sleep")
    assert curl(pod, 15001, "/", "-H", "Host: unknown.example.com").exit_code == 7
    allowed = mesh.state.mesh
    mesh.state.on_mesh(replace(allowed, outbound_policy="REGISTRY_ONLY"))
    mesh.push()
    try:
        wait_for("502", lambda: curl(pod, 15001, "/", "-H", "Host: unknown.example.com").status == 502)
        assert talk(pod, 15001, b"hello", tls=False)[0] == b""
        assert talk(pod, 15001, b"hello")[0] == b""  # TLS
        assert curl(captured_ip(pod, mesh.cluster_ip("inside")), HTTP).status == 200  # what is registered still works
    finally:
        mesh.state.on_mesh(allowed)
        mesh.push()
    wait_for("nobody", lambda: curl(pod, 15001, "/").exit_code == 7, 60)
