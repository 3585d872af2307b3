"""Another certificate authority while traffic runs: nobody is cut off, and without the overlap everybody would be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from labkit.embedded.controlplane.authority import MeshTrust
from labkit.pki import CertificateAuthority
from tests.embedded.envoy_world import Mesh, curl, talk, wait_for
from tests.embedded.test_envoy_changes import GET, Load

HTTP = 8001


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """A STRICT server and its client."""
    with Mesh("roots") as mesh:
        mesh.server("httpbin", http=(HTTP,))
        mesh.pod("sleep")
        mesh.policy("STRICT")
        wait_for("the service", lambda: curl(service_address(mesh), HTTP).status == 200)
        yield mesh


def service_address(mesh: Mesh) -> str:
    return mesh.seen_from("sleep", "httpbin")


def issuer_shown(mesh: Mesh) -> x509.Name | None:
    """Who issued the certificate that the server presents right now."""
    _, certificate = talk(mesh.ip("httpbin"), HTTP, GET, leaf=mesh.leaf(), alpn=("istio-http/1.1",))
    return certificate.issuer if certificate else None


def name_of(authority: CertificateAuthority) -> x509.Name:
    return x509.load_pem_x509_certificate(authority.cert_pem).subject


def test_a_new_root_takes_over_without_a_failed_request(mesh: Mesh) -> None:
    new = CertificateAuthority.self_signed("the new root")
    with Load(service_address(mesh), HTTP) as load:
        wait_for("traffic", lambda: load.answered > 50)
        asyncio.run(mesh.pusher.change_trust(MeshTrust(new, (new.root_pem,))))
        wait_for("the new certificate", lambda: issuer_shown(mesh) == name_of(new))
        after = load.answered
        wait_for("traffic under it", lambda: load.answered > after + 200)
    assert load.failed == []


def test_a_certificate_of_a_root_that_nobody_was_told_of_is_refused(mesh: Mesh) -> None:
    """The twin: what the overlap prevents."""
    stranger = CertificateAuthority.self_signed("a stranger")
    leaf = stranger.issue(spiffe_id="spiffe://cluster.local/ns/foo/sa/sleep")
    assert talk(mesh.ip("httpbin"), HTTP, GET, leaf=leaf, alpn=("istio-http/1.1",))[0] == b""
    mesh.certificates.trust((mesh.authority.root_pem, stranger.root_pem), datetime.now(UTC))
    mesh.pusher.renew()
    wait_for("trust", lambda: talk(mesh.ip("httpbin"), HTTP, GET, leaf=leaf, alpn=("istio-http/1.1",))[0] != b"")


def test_the_old_root_is_trusted_until_certificates_under_it_have_ended(mesh: Mesh) -> None:
    old_leaf, new = mesh.leaf(), CertificateAuthority.self_signed("the new root")
    asyncio.run(mesh.pusher.change_trust(MeshTrust(new, (new.root_pem,))))
    wait_for("the new certificate", lambda: issuer_shown(mesh) == name_of(new))
    assert talk(mesh.ip("httpbin"), HTTP, GET, leaf=old_leaf, alpn=("istio-http/1.1",))[0].startswith(b"HTTP/1.1 200")
    mesh.ahead = timedelta(hours=25)
    mesh.pusher.renew()
    wait_for(
        "the old root to be forgotten",
        lambda: talk(mesh.ip("httpbin"), HTTP, GET, leaf=old_leaf, alpn=("istio-http/1.1",))[0] == b"",
    )


def test_an_intermediate_is_presented_with_its_chain_and_accepted(mesh: Mesh) -> None:
    root = CertificateAuthority.self_signed("a company's root")
    below = root.intermediate("the mesh's authority")
    asyncio.run(mesh.pusher.change_trust(MeshTrust(below, (root.root_pem,))))
    wait_for("the new certificate", lambda: issuer_shown(mesh) == name_of(below))
    assert curl(service_address(mesh), HTTP).status == 200
