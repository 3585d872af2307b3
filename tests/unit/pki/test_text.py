"""Our own rendering of certificates, held line by line against what openssl prints."""

from __future__ import annotations

import subprocess

import pytest
from cryptography import x509

from labkit.errors import InputError
from labkit.pki import CertificateAuthority
from labkit.pki.chains import is_signed_by
from labkit.pki.text import certificate_text, chain_text
from tests.programs import program

ROOT = CertificateAuthority.self_signed("Shop Root", organization="cluster.local")
MIDDLE = ROOT.intermediate("Shop Intermediate")
WORKLOAD = MIDDLE.issue(spiffe_id="spiffe://cluster.local/ns/shop/sa/web")
SERVER = ROOT.issue(
    dns_names=["shop.example", "*.shop.example"],
    ip_addresses=["127.0.0.1"],
    common_name="shop.example",
    organizations=["Shop"],
    client=False,
)


def by_openssl(pem: bytes) -> str:
    openssl = program("openssl", "certificates were not compared with its words")
    command = [openssl, "x509", "-noout", "-text"]
    return subprocess.run(command, input=pem, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("pem", [ROOT.cert_pem, MIDDLE.cert_pem, WORKLOAD.cert_pem, SERVER.cert_pem])
def test_every_line_of_ours_is_one_of_openssls(pem: bytes) -> None:
    theirs = {line.rstrip().replace("P-256", "secp256r1") for line in by_openssl(pem).splitlines()}
    ours = certificate_text(pem).splitlines()
    assert [line for line in ours if line not in theirs] == []
    assert len(ours) > 15


def test_the_chain_as_s_client_lists_it() -> None:
    chain = x509.load_pem_x509_certificates(WORKLOAD.chain_pem)
    assert chain_text(chain).splitlines()[:5] == [
        "Certificate chain",
        " 0 s:",
        "   i:O = cluster.local, CN = Shop Intermediate",
        "   a:PKEY: id-ecPublicKey, 256 (bit); sigalg: ecdsa-with-SHA256",
        chain_text(chain).splitlines()[4],
    ]
    assert " 1 s:O = cluster.local, CN = Shop Intermediate" in chain_text(chain)


def test_what_is_no_certificate_is_said_to_be_none() -> None:
    with pytest.raises(InputError, match="not a certificate"):
        certificate_text("nonsense")


def test_who_signed_a_chain() -> None:
    workload = x509.load_pem_x509_certificates(WORKLOAD.chain_pem)
    assert is_signed_by(workload, ROOT.root_pem)
    assert not is_signed_by(workload, CertificateAuthority.self_signed("Shop Root").root_pem)
    assert not is_signed_by(workload[:1], ROOT.root_pem), "the intermediate is missing"
    assert not is_signed_by(workload, b"nonsense")
    assert not is_signed_by([], ROOT.root_pem)
