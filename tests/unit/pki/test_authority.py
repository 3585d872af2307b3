"""Issuing: what stands in a certificate, as OpenSSL reads it, and what is refused."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from labkit.errors import InputError
from labkit.pki import ROOT_TTL, WORKLOAD_TTL, CertificateAuthority, describe_certificate, describe_chain
from tests.programs import program

SPIFFE = "spiffe://cluster.local/ns/foo/sa/httpbin"


@pytest.fixture(scope="module")
def root() -> CertificateAuthority:
    return CertificateAuthority.self_signed("Test root", organization="cluster.local")


def openssl(*arguments: str, stdin: bytes = b"") -> str:
    openssl = program("openssl", "certificates were read with cryptography alone")
    done = subprocess.run([openssl, *arguments], input=stdin, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


def test_openssl_reads_a_workload_certificate_as_istio_issues_it(root: CertificateAuthority) -> None:
    text = openssl("x509", "-noout", "-text", stdin=root.issue(spiffe_id=SPIFFE).cert_pem)
    assert "X509v3 Subject Alternative Name: critical" in text
    assert f"URI:{SPIFFE}" in text
    assert "Subject: \n" in text or "Subject:\n" in text
    assert "Issuer: O = cluster.local, CN = Test root" in text.replace("O=", "O = ").replace("CN=", "CN = ")
    assert "CA:FALSE" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    assert "ASN1 OID: prime256v1" in text


def test_openssl_verifies_a_chain_and_refuses_another_root(root: CertificateAuthority, tmp_path: object) -> None:
    from pathlib import Path

    directory = Path(str(tmp_path))
    leaf = root.intermediate("Test intermediate").issue(spiffe_id=SPIFFE)
    files = {
        "leaf.pem": leaf.cert_pem,
        "chain.pem": leaf.chain_pem,
        "root.pem": root.cert_pem,
        "other.pem": CertificateAuthority.self_signed("Test root").cert_pem,
    }
    for name, pem in files.items():
        (directory / name).write_bytes(pem)
    verify = ["verify", "-untrusted", str(directory / "chain.pem"), "-CAfile"]
    assert "leaf.pem: OK" in openssl(*verify, str(directory / "root.pem"), str(directory / "leaf.pem"))
    assert "OK" not in openssl(*verify, str(directory / "other.pem"), str(directory / "leaf.pem"))


def test_a_workload_certificate_lives_a_day_and_a_root_ten_years(root: CertificateAuthority) -> None:
    now = datetime.now(UTC)
    leaf, anchor = describe_certificate(root.issue(spiffe_id=SPIFFE).cert_pem), describe_certificate(root.cert_pem)
    second = timedelta(seconds=2)
    assert abs(leaf.remaining(now) - WORKLOAD_TTL) < second
    assert abs(anchor.remaining(now) - ROOT_TTL) < second
    assert leaf.valid_at(now) and anchor.valid_at(now)


def test_time_is_a_parameter(root: CertificateAuthority) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    facts = describe_certificate(root.issue(dns_names=["a"], ttl=timedelta(hours=1), not_before=start).cert_pem)
    assert (facts.not_before, facts.not_after) == (start, start + timedelta(hours=1))
    naive = describe_certificate(root.issue(dns_names=["a"], not_before=datetime(2020, 1, 1)).cert_pem)
    assert naive.not_before == start


@pytest.mark.parametrize(
    ("client", "server", "usages"),
    [(True, True, ("server", "client")), (True, False, ("client",)), (False, True, ("server",))],
)
def test_usages(root: CertificateAuthority, client: bool, server: bool, usages: tuple[str, ...]) -> None:
    leaf = root.issue(dns_names=["a"], client=client, server=server)
    assert describe_certificate(leaf.cert_pem).usages == usages


def test_the_presented_chain_holds_the_intermediates_and_not_the_root(root: CertificateAuthority) -> None:
    lower = root.intermediate("Test intermediate")
    assert [one.subject for one in describe_chain(root.issue(common_name="x").chain_pem)] == ["CN=x"]
    chain = describe_chain(lower.issue(common_name="x").chain_pem)
    assert [one.is_ca for one in chain] == [False, True]
    assert chain[0].issuer == chain[1].subject
    assert lower.issue(common_name="x").root_pem == root.cert_pem == lower.root_pem


@pytest.mark.parametrize("kind", ["root", "intermediate"])
def test_an_authority_survives_the_way_through_pem(root: CertificateAuthority, kind: str) -> None:
    authority = root if kind == "root" else root.intermediate("Test intermediate")
    loaded = CertificateAuthority.from_pem(authority.chain_pem, authority.key_pem)
    assert (loaded.cert_pem, loaded.root_pem) == (authority.cert_pem, root.cert_pem)
    leaf = loaded.issue(spiffe_id=SPIFFE)
    assert len(describe_chain(leaf.chain_pem)) == (1 if kind == "root" else 2)


def test_an_authority_with_an_rsa_key_made_elsewhere_can_issue(root: CertificateAuthority) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "RSA root")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    leaf = CertificateAuthority.from_pem(certificate.public_bytes(serialization.Encoding.PEM), key_pem).issue(
        spiffe_id=SPIFFE
    )
    issued = x509.load_pem_x509_certificate(leaf.cert_pem)
    issued.verify_directly_issued_by(certificate)
    assert describe_certificate(leaf.cert_pem).issuer == "CN=RSA root"


def test_bad_authorities_are_one_clear_error(root: CertificateAuthority) -> None:
    leaf, other = root.issue(common_name="x"), CertificateAuthority.self_signed("Other")
    for cert, key, words in (
        (b"nonsense", root.key_pem, "not readable PEM"),
        (root.cert_pem, b"nonsense", "not readable PEM"),
        (root.cert_pem, other.key_pem, "does not belong"),
        (leaf.cert_pem, leaf.key_pem, "not a certificate authority"),
    ):
        with pytest.raises(InputError, match=words):
            CertificateAuthority.from_pem(cert, key)


def test_bad_requests_are_one_clear_error(root: CertificateAuthority) -> None:
    with pytest.raises(InputError, match="not usable"):
        root.issue(ip_addresses=["not an address"])
    with pytest.raises(InputError, match="not usable"):
        root.issue(dns_names=["höst.example"])
    with pytest.raises(InputError, match="neither"):
        root.issue(common_name="x", client=False, server=False)
    with pytest.raises(InputError, match="must be positive"):
        root.issue(common_name="x", ttl=timedelta(0))


def test_keys_are_never_shown(root: CertificateAuthority) -> None:
    leaf = root.issue(spiffe_id=SPIFFE)
    lower = root.intermediate("Test intermediate")
    for shown in (repr(leaf), str(leaf), repr(root), repr(lower), repr(describe_certificate(leaf.cert_pem))):
        assert "PRIVATE" not in shown
        assert len(shown) < 700
    assert SPIFFE in repr(leaf)


def test_facts_show_as_rows_and_as_a_table(root: CertificateAuthority) -> None:
    facts = describe_certificate(root.issue(spiffe_id=SPIFFE, ip_addresses=["127.0.0.1", "::1"]).cert_pem.decode())
    assert facts.spiffe_id == SPIFFE
    assert facts.ip_addresses == ("127.0.0.1", "::1")
    assert f"URI SAN      {SPIFFE}" in str(facts)
    assert "DNS SAN" not in str(facts)
    assert facts.fingerprint in facts._repr_html_()


def test_serial_and_fingerprint_are_those_that_openssl_prints(root: CertificateAuthority) -> None:
    pem = root.issue(dns_names=["a.example"]).cert_pem
    facts = describe_certificate(pem)
    printed = openssl("x509", "-noout", "-serial", "-fingerprint", "-sha256", stdin=pem).replace(":", "").lower()
    assert facts.fingerprint in printed
    assert facts.serial.lstrip("0") in printed


@pytest.mark.parametrize("pem", [b"", b"nonsense", "nonsense"])
def test_what_is_no_certificate_is_one_clear_error(pem: bytes | str) -> None:
    with pytest.raises(InputError, match="not a certificate"):
        describe_certificate(pem)
