"""The front door with TLS: whom each mode lets in, where certificates come from, and what a change of them does."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.addresses import listen_port
from labkit.pki import CertificateAuthority, Leaf
from tests.embedded.envoy_world import Mesh, wait_for

Object = dict[str, Any]
ROOT, PORT, HOST = "istio-system", 443, "shop.example"
LABELS = {"istio": "ingressgateway"}

CA = CertificateAuthority.self_signed("our CA")
STRANGER = CertificateAuthority.self_signed("another CA")
SERVER = CA.issue(dns_names=[HOST])
CLIENTS = {
    "ours": CA.issue(common_name="client"),
    "another CA's": STRANGER.issue(common_name="client"),
    "expired": CA.issue(common_name="client", ttl=timedelta(hours=1), not_before=datetime.now(UTC) - timedelta(days=2)),
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    mesh = Mesh("doors")
    try:
        mesh.pod("secured", ports=(8001,))
        mesh.http_app("secured", 8001)
        mesh.service("secured", {"port": 8001, "name": "http"})
        mesh.pod("front", namespace=ROOT, gateway=True, labels=LABELS, account="front")
        destination = {"host": "secured", "port": {"number": 8001}}
        apply(
            mesh,
            "VirtualService",
            {"hosts": ["*"], "gateways": ["test"], "http": [{"route": [{"destination": destination}]}]},
        )
        yield mesh
    finally:
        mesh.close()


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.state.on_config("Gateway", "DELETED", {"metadata": {"name": "test", "namespace": "foo"}})
    mesh.push()
    wait_for("the door to close", lambda: visit(mesh)[0] == 7)


def apply(mesh: Mesh, kind: str, spec: Object) -> None:
    metadata = {"name": "test", "namespace": "foo", "creationTimestamp": "2026-01-01T00:00:00Z"}
    mesh.state.on_config(kind, "ADDED", {"kind": kind, "metadata": metadata, "spec": spec})
    mesh.push()


def secret(mesh: Mesh, name: str, namespace: str = ROOT, event: str = "ADDED", **data: bytes) -> None:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    mesh.state.on_secret(event, {"metadata": {"name": name, "namespace": namespace}, "data": encoded})
    mesh.push()


def open_door(mesh: Mesh, mode: str, credential: str, *hosts: str, **tls: Any) -> None:
    settings = {"mode": mode, **({"credentialName": credential} if credential else {}), **tls}
    server = {"port": {"number": PORT, "name": "https", "protocol": "HTTPS"}, "hosts": hosts or ["*"], "tls": settings}
    apply(mesh, "Gateway", {"selector": LABELS, "servers": [server]})


def visit(
    mesh: Mesh, client: Leaf | None = None, *options: str, host: str = HOST, ca: bytes = CA.root_pem
) -> tuple[int, int, str]:
    """curl's exit code, the status, and its words."""
    files = mesh.directory / "curl"
    files.mkdir(exist_ok=True)
    (files / "ca.pem").write_bytes(ca)
    more = list(options)
    if client:
        (files / "client.pem").write_bytes(client.chain_pem + client.key_pem)
        more += ["--cert", str(files / "client.pem")]
    port = listen_port(PORT)
    done = subprocess.run(
        [
            *("curl", "-q", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"),
            *("--cacert", str(files / "ca.pem"), "--resolve", f"{host}:{port}:{mesh.ip('front')}"),
            *(*more, f"https://{host}:{port}/"),
        ],
        capture_output=True,
        text=True,
    )
    return done.returncode, int(done.stdout or 0), done.stderr.strip()


def answers(mesh: Mesh, client: Leaf | None = None) -> None:
    wait_for("200", lambda: visit(mesh, client)[1] == 200)


@pytest.mark.parametrize(
    ("mode", "without", "with_ours"),
    [("SIMPLE", True, True), ("OPTIONAL_MUTUAL", True, True), ("MUTUAL", False, True)],
)
def test_each_mode_asks_what_it_says(mesh: Mesh, mode: str, without: bool, with_ours: bool) -> None:
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem, cacert=CA.root_pem)
    open_door(mesh, mode, "certs")
    answers(mesh, CLIENTS["ours"])
    code, status, words = visit(mesh)
    assert (status == 200) is without
    if not without:
        # By TLS 1.3 the client is refused after its handshake: in the middle of HTTP/2 (16), or in a read (56).
        assert code in (16, 35, 56), words
    if mode != "SIMPLE":
        for name in ("another CA's", "expired"):
            assert visit(mesh, CLIENTS[name])[1] == 0, name


def test_the_meshs_own_certificates_for_istio_mutual(mesh: Mesh) -> None:
    open_door(mesh, "ISTIO_MUTUAL", "")
    wait_for("mTLS", lambda: visit(mesh, mesh.leaf(), "--insecure")[1] == 200)
    assert visit(mesh, CLIENTS["ours"], "--insecure")[1] == 0
    assert visit(mesh, None, "--insecure")[1] == 0


def test_plain_http_and_another_ca_at_the_client_fail(mesh: Mesh) -> None:
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem)
    open_door(mesh, "SIMPLE", "certs")
    answers(mesh)
    assert visit(mesh, ca=STRANGER.root_pem)[0] == 60, "curl does not trust the server"
    address = f"http://{mesh.ip('front')}:{listen_port(PORT)}/"
    assert subprocess.run(["curl", "-q", "-sS", "--max-time", "5", address], capture_output=True).returncode in (52, 56)


def test_names_choose_the_server_and_an_unknown_one_is_cut(mesh: Mesh) -> None:
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem)
    open_door(mesh, "SIMPLE", "certs", HOST)
    answers(mesh)
    assert visit(mesh, host="other.example")[0] == 35


SHAPES = {
    "generic": {"cert": SERVER.chain_pem, "key": SERVER.key_pem, "cacert": CA.root_pem},
    "tls with ca": {"tls_crt": SERVER.chain_pem, "tls_key": SERVER.key_pem, "ca_crt": CA.root_pem},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_secret_is_read(mesh: Mesh, shape: str) -> None:
    name = shape.replace(" ", "-")
    secret(mesh, name, **SHAPES[shape])
    open_door(mesh, "MUTUAL", name)
    answers(mesh, CLIENTS["ours"])
    assert visit(mesh)[1] == 0


def test_the_ca_may_stand_in_a_secret_of_its_own(mesh: Mesh) -> None:
    secret(mesh, "split", tls_crt=SERVER.chain_pem, tls_key=SERVER.key_pem, ca_crt=STRANGER.root_pem)
    secret(mesh, "split-cacert", cacert=CA.root_pem)
    open_door(mesh, "MUTUAL", "split")
    answers(mesh, CLIENTS["ours"])
    assert visit(mesh, CLIENTS["another CA's"])[1] == 0


def test_a_secret_in_another_namespace_is_not_found_and_one_that_comes_is(mesh: Mesh) -> None:
    secret(mesh, "late", "foo", cert=SERVER.chain_pem, key=SERVER.key_pem)
    open_door(mesh, "SIMPLE", "late")
    wait_for("an open port that cuts handshakes", lambda: visit(mesh)[0] == 35)
    secret(mesh, "late", cert=SERVER.chain_pem, key=SERVER.key_pem)
    answers(mesh)


def test_a_changed_secret_is_in_force_without_a_new_listener(mesh: Mesh) -> None:
    secret(mesh, "rotating", cert=SERVER.chain_pem, key=SERVER.key_pem)
    open_door(mesh, "SIMPLE", "rotating")
    answers(mesh)
    updates = mesh.sidecars["front"].counters("listener_manager.lds.update_success")
    new = STRANGER.issue(dns_names=[HOST])
    secret(mesh, "rotating", event="MODIFIED", cert=new.chain_pem, key=new.key_pem)
    wait_for("the new certificate", lambda: visit(mesh, ca=STRANGER.root_pem)[1] == 200)
    assert visit(mesh)[0] == 60
    assert mesh.sidecars["front"].counters("listener_manager.lds.update_success") == updates


def test_a_secret_made_by_openssl_works(mesh: Mesh, tmp_path: Path) -> None:
    make = f"""
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=root -keyout ca.key -out ca.crt &&
    openssl req -newkey rsa:2048 -nodes -subj /CN={HOST} -keyout s.key -out s.csr &&
    printf 'subjectAltName=DNS:{HOST}' > ext &&
    openssl x509 -req -days 1 -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ext -out s.crt
    """
    subprocess.run(["sh", "-c", make], cwd=tmp_path, check=True, capture_output=True)
    pems = {name: (tmp_path / name).read_bytes() for name in ("s.crt", "s.key", "ca.crt")}
    secret(mesh, "openssl", cert=pems["s.crt"], key=pems["s.key"])
    open_door(mesh, "SIMPLE", "openssl")
    wait_for("200", lambda: visit(mesh, ca=pems["ca.crt"])[1] == 200)
