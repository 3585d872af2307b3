"""The front door with TLS: whom each mode lets in, where certificates come from, and what a change of them does."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

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
    with Mesh("doors") as mesh:
        mesh.server("secured", http=(8001,))
        mesh.pod("front", namespace=ROOT, gateway=True, labels=LABELS, account="front")
        destination = {"host": "secured", "port": {"number": 8001}}
        mesh.apply(
            "VirtualService",
            {"hosts": ["*"], "gateways": ["test"], "http": [{"route": [{"destination": destination}]}]},
        )
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("Gateway")
    wait_for("the door to close", lambda: visit(mesh)[0] == 7)


def secret(mesh: Mesh, name: str, namespace: str = ROOT, event: str = "ADDED", **data: bytes) -> None:
    mesh.secret(name, namespace, event=event, **data)


def open_door(mesh: Mesh, mode: str, credential: str, *hosts: str, **tls: Any) -> None:
    settings = {"mode": mode, **({"credentialName": credential} if credential else {}), **tls}
    server = {"port": {"number": PORT, "name": "https", "protocol": "HTTPS"}, "hosts": hosts or ["*"], "tls": settings}
    mesh.apply("Gateway", {"selector": LABELS, "servers": [server]})


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
        # By TLS 1.3 the client is refused after its handshake: in the middle of HTTP/2 (16), in a write (55) or in a
        # read (56).
        assert code in (16, 35, 55, 56), words
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

    def told() -> bool:
        lines = mesh.sidecars["front"].printed().splitlines()
        return any(" NR filter_chain_not_found " in line and "other.example" in line for line in lines)

    wait_for("the access log", told)


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


def parsed(leaf: Leaf) -> x509.Certificate:
    return x509.load_pem_x509_certificate(leaf.cert_pem)


def presented(mesh: Mesh, *, sni: str = HOST, ciphers: str = "") -> tuple[str, str]:
    """The key type of the certificate that is presented, and its first name; empty where there is no handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    try:
        with (
            socket.create_connection((mesh.ip("front"), listen_port(PORT)), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=sni) as connection,
        ):
            certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    except OSError:
        return "", ""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    kind = "RSA" if isinstance(certificate.public_key(), rsa.RSAPublicKey) else "ECDSA"
    return kind, names.get_values_for_type(x509.DNSName)[0]


def rsa_pair(tmp_path: Path, name: str = HOST) -> tuple[bytes, bytes]:
    """A certificate with an RSA key, and that key; signed by itself."""
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} -keyout k -out c"
    command = [*make.split(), "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return (tmp_path / "c").read_bytes(), (tmp_path / "k").read_bytes()


ECDSA_ONLY, RSA_ONLY = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"


def test_of_two_certificates_the_one_is_presented_that_the_client_can_read(mesh: Mesh, tmp_path: Path) -> None:
    certificate, key = rsa_pair(tmp_path)
    secret(mesh, "rsa", cert=certificate, key=key)
    secret(mesh, "ecdsa", cert=SERVER.chain_pem, key=SERVER.key_pem)
    open_door(mesh, "SIMPLE", "", credentialNames=["rsa", "ecdsa"])
    wait_for("ECDSA", lambda: presented(mesh, ciphers=ECDSA_ONLY) == ("ECDSA", HOST))
    assert presented(mesh, ciphers=RSA_ONLY) == ("RSA", HOST)
    open_door(mesh, "SIMPLE", "", credentialNames=["ecdsa"])
    wait_for("RSA to be gone", lambda: presented(mesh, ciphers=RSA_ONLY) == ("", ""))
    assert presented(mesh, ciphers=ECDSA_ONLY) == ("ECDSA", HOST)


def test_of_two_certificates_the_one_is_presented_that_has_the_name(mesh: Mesh) -> None:
    other = CA.issue(dns_names=["other.example"])
    secret(mesh, "shop", cert=SERVER.chain_pem, key=SERVER.key_pem)
    secret(mesh, "other", cert=other.chain_pem, key=other.key_pem)
    open_door(mesh, "SIMPLE", "", credentialNames=["shop", "other"])
    wait_for("the first", lambda: presented(mesh)[1] == HOST)
    assert presented(mesh, sni="other.example")[1] == "other.example"
    assert presented(mesh, sni="third.example")[1] == HOST, "the first one, where none has the name"


def test_ciphers_of_a_server_are_its_only_ones(mesh: Mesh) -> None:
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem)
    suites = ["ECDHE-ECDSA-AES256-GCM-SHA384", "NO-SUCH-CIPHER"]
    open_door(mesh, "SIMPLE", "certs", cipherSuites=suites, maxProtocolVersion="TLSV1_2")
    wait_for("an answer", lambda: presented(mesh, ciphers=suites[0])[0] == "ECDSA")
    assert presented(mesh, ciphers=ECDSA_ONLY) == ("", "")


def test_what_verifies_clients_may_have_a_credential_of_its_own(mesh: Mesh) -> None:
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem, cacert=STRANGER.root_pem)
    secret(mesh, "clients", ca_crt=CA.root_pem)
    open_door(mesh, "MUTUAL", "certs", caCertCredentialName="clients")
    answers(mesh, CLIENTS["ours"])
    assert visit(mesh, CLIENTS["another CA's"])[1] == 0
    open_door(mesh, "MUTUAL", "certs")
    wait_for("the other authority", lambda: visit(mesh, CLIENTS["another CA's"])[1] == 200)
    assert visit(mesh, CLIENTS["ours"])[1] == 0


def test_a_client_must_have_a_name_or_a_hash_that_is_listed(mesh: Mesh) -> None:
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem, cacert=CA.root_pem)
    known, unknown = CA.issue(common_name="a", dns_names=["known.example"]), CA.issue(common_name="b", dns_names=["b"])
    open_door(mesh, "MUTUAL", "certs", subjectAltNames=["known.example"])
    answers(mesh, known)
    assert visit(mesh, unknown)[1] == 0
    digest = parsed(unknown).fingerprint(hashes.SHA256()).hex()
    open_door(mesh, "MUTUAL", "certs", verifyCertificateHash=[digest])
    answers(mesh, unknown)
    assert visit(mesh, known)[1] == 0


def test_certificates_from_files_and_a_missing_file_cuts_one_server_alone(mesh: Mesh, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    for name, pem in zip(paths, (SERVER.chain_pem, SERVER.key_pem, CA.root_pem), strict=True):
        paths[name].write_bytes(pem)
    files = {"serverCertificate": str(paths["cert"]), "privateKey": str(paths["key"])}
    port = {"number": PORT, "name": "https", "protocol": "HTTPS"}
    broken = {**files, "privateKey": str(tmp_path / "nowhere.pem"), "mode": "SIMPLE"}
    servers = [
        {"port": port, "hosts": [HOST], "tls": {"mode": "MUTUAL", **files, "caCertificates": str(paths["ca"])}},
        {"port": {**port, "name": "other"}, "hosts": ["other.example"], "tls": broken},
    ]
    mesh.apply("Gateway", {"selector": LABELS, "servers": servers})
    answers(mesh, CLIENTS["ours"])
    assert visit(mesh)[1] == 0
    assert visit(mesh, CLIENTS["another CA's"])[1] == 0
    assert presented(mesh, sni="other.example") == ("", "")
    wait_for("Envoy's words", lambda: any(kind == "secrets" for _, kind, _ in mesh.rejections))
    broken["privateKey"] = str(paths["key"])
    mesh.apply("Gateway", {"selector": LABELS, "servers": servers})
    wait_for("the mended server", lambda: presented(mesh, sni="other.example") == ("ECDSA", HOST))


def test_a_renewed_file_is_in_force_without_a_word(mesh: Mesh, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def write(leaf: Leaf) -> None:
        for path, pem in ((certificate, leaf.chain_pem), (key, leaf.key_pem)):
            aside = path.with_suffix(".new")
            aside.write_bytes(pem)
            aside.replace(path)

    write(SERVER)
    open_door(mesh, "SIMPLE", "", serverCertificate=str(certificate), privateKey=str(key))
    wait_for("the file", lambda: presented(mesh)[1] == HOST)
    write(CA.issue(dns_names=["renewed.example"]))
    wait_for("the renewed one", lambda: presented(mesh)[1] == "renewed.example")


def test_a_revoked_client_is_refused(mesh: Mesh) -> None:
    gone, now = CA.issue(common_name="gone"), datetime.now(UTC)
    serial = parsed(gone).serial_number
    revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
    authority = x509.load_pem_x509_certificate(CA.root_pem)
    key = serialization.load_pem_private_key(CA.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - timedelta(hours=1))
        .next_update(now + timedelta(hours=1))
        .add_revoked_certificate(revoked.build())
        .sign(key, hashes.SHA256())
    )
    pem = crl.public_bytes(serialization.Encoding.PEM)
    secret(mesh, "certs", cert=SERVER.chain_pem, key=SERVER.key_pem, cacert=CA.root_pem, crl=pem)
    open_door(mesh, "MUTUAL", "certs")
    answers(mesh, CLIENTS["ours"])
    assert visit(mesh, gone)[1] == 0
