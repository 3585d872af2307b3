"""The mesh's authority as Secrets hold it, and how long roots are trusted."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.controlplane.authority import Certificates, trust_from_secret
from labkit.embedded.controlplane.delivery import Delivery
from labkit.errors import InputError
from labkit.pki import CertificateAuthority

ROOT = CertificateAuthority.self_signed("root")
BELOW = ROOT.intermediate("below")
OTHER = CertificateAuthority.self_signed("other")


def secret(authority: CertificateAuthority, *, chain: bytes = b"", roots: bytes = b"") -> dict[str, Any]:
    data = {"ca-cert.pem": authority.cert_pem, "ca-key.pem": authority.key_pem}
    data |= {"cert-chain.pem": chain, "root-cert.pem": roots}
    return {
        "metadata": {"name": "cacerts", "namespace": "istio-system"},
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def test_a_self_signed_authority_is_its_own_root() -> None:
    trust = trust_from_secret(secret(ROOT))
    assert trust.roots == (ROOT.root_pem,)
    assert trust.issuer.cert_pem == ROOT.cert_pem


@pytest.mark.parametrize("chain", [b"", BELOW.cert_pem, BELOW.chain_pem], ids=["no chain", "without root", "with root"])
def test_an_intermediate_finds_its_root_however_the_chain_is_written(chain: bytes) -> None:
    trust = trust_from_secret(secret(BELOW, chain=chain, roots=ROOT.root_pem))
    assert trust.issuer.root_pem == ROOT.root_pem
    leaf = trust.issuer.issue(spiffe_id="spiffe://cluster.local/ns/a/sa/b")
    assert leaf.chain_pem.count(b"BEGIN CERTIFICATE") == 2, "the leaf and the intermediate, not the root"


def test_two_roots_are_both_trusted() -> None:
    trust = trust_from_secret(secret(BELOW, chain=BELOW.chain_pem, roots=OTHER.root_pem + ROOT.root_pem))
    assert set(trust.roots) == {ROOT.root_pem, OTHER.root_pem}


def test_an_authority_that_no_root_has_issued_is_refused() -> None:
    with pytest.raises(InputError, match="not issued by a root"):
        trust_from_secret(secret(BELOW, chain=BELOW.chain_pem, roots=OTHER.root_pem))


@pytest.mark.parametrize("missing", ["ca-cert.pem", "ca-key.pem"])
def test_a_secret_that_lacks_a_half_is_refused(missing: str) -> None:
    broken = secret(ROOT)
    del broken["data"][missing]
    with pytest.raises(InputError, match="does not hold"):
        trust_from_secret(broken)


def test_a_root_that_is_replaced_leaves_when_certificates_under_it_have_ended(tmp_path: Path) -> None:
    certificates = Certificates(ROOT, Delivery(tmp_path), timedelta(hours=1))
    now = datetime.now(UTC)
    assert certificates.next_renewal() is None
    certificates.trust((OTHER.root_pem,), now)
    assert certificates.bundle.encode() == OTHER.root_pem + ROOT.root_pem
    assert certificates.next_renewal() == now + timedelta(hours=1)
    certificates.trust((ROOT.root_pem,), now)
    assert certificates.bundle.encode() == ROOT.root_pem + OTHER.root_pem, "back again: now the other one leaves"
