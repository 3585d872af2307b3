"""Identities with real traffic: what the application is told, whom a moving trust domain lets in, and rotation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from labkit.pki import Leaf
from tests.embedded.envoy_world import ISTIO_HTTP, ISTIO_TCP, Mesh, curl, talk, wait_for

HTTP, TCP = 8001, 8002
GET = b"GET / HTTP/1.1\r\nHost: httpbin\r\n\r\n"
ME = "spiffe://cluster.local/ns/foo/sa/sleep"
SERVER = "spiffe://cluster.local/ns/foo/sa/httpbin"
XFCC = "x-forwarded-client-cert"


def build(mesh: Mesh) -> None:
    """A STRICT server and its client."""
    mesh.server("httpbin", http=(HTTP,), tcp=(TCP,))
    mesh.pod("sleep")
    mesh.policy("STRICT")
    wait_for("the service", lambda: curl(service_address(mesh), HTTP).status == 200)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Mesh("identity") as mesh:
        build(mesh)
        yield mesh


@pytest.fixture(autouse=True)
def as_it_was(mesh: Mesh) -> Iterator[None]:
    before = mesh.state.mesh
    yield
    mesh.state.on_mesh(before)
    mesh.policy("STRICT")
    wait_for("mTLS", lambda: reached(mesh))


def service_address(mesh: Mesh) -> str:
    return mesh.seen_from("sleep", "httpbin")


def reached(mesh: Mesh) -> bool:
    """Whether the client's proxy and the server's accept each other, on a connection of its own."""
    return talk(service_address(mesh), TCP, b"hello", tls=False)[0] == b"echo:hello"


def told(mesh: Mesh, leaf: Leaf, *headers: bytes) -> str:
    """What the application is told of a caller who comes with a certificate of its own."""
    request = GET[:-2] + b"".join(one + b"\r\n" for one in headers) + b"\r\n"
    answer, _ = talk(mesh.ip("httpbin"), HTTP, request, leaf=leaf, alpn=(ISTIO_HTTP,), until=b'"port": ')
    body = answer.partition(b"\r\n\r\n")[2]
    return str(json.loads(body)["headers"].get(XFCC, "")) if body else ""


def hash_of(leaf: Leaf) -> str:
    certificate = x509.load_pem_x509_certificate(leaf.cert_pem)
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def delivered(mesh: Mesh, pod: str) -> bytes:
    """The certificate that istiod gave to a proxy, as PEM."""
    content = json.loads((mesh.delivery.directory(("foo", pod)) / "sds" / "default.json").read_text())
    return str(content["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"]).encode()


# X-Forwarded-Client-Cert


def test_the_application_is_told_who_calls_exactly_as_istio_tells_it(mesh: Mesh) -> None:
    """Envoy's format, with By and Hash, an empty Subject, and the caller's URI; no DNS names, no certificate."""
    header = curl(service_address(mesh), HTTP).json["headers"][XFCC]
    der = x509.load_pem_x509_certificate(delivered(mesh, "sleep")).public_bytes(Encoding.DER)
    assert header == f'By={SERVER};Hash={sha256(der).hexdigest()};Subject="";URI={ME}'


def test_what_an_application_claims_of_itself_is_not_passed_on_by_its_proxy(mesh: Mesh) -> None:
    forged = f"{XFCC}: By={SERVER};URI=spiffe://cluster.local/ns/foo/sa/admin"
    answer = curl(service_address(mesh), HTTP, "/", "-H", forged)
    assert "admin" not in answer.body
    assert answer.caller == ME


def test_who_comes_by_mtls_is_added_behind_what_the_caller_says(mesh: Mesh) -> None:
    """APPEND_FORWARD: a gateway before the server may say for whom it calls; the last one is who really called."""
    leaf = mesh.leaf()
    said = told(mesh, leaf, b"x-forwarded-client-cert: By=spiffe://a;URI=spiffe://b")
    assert said == f'By=spiffe://a;URI=spiffe://b,By={SERVER};Hash={hash_of(leaf)};Subject="";URI={ME}'


def test_plaintext_tells_nothing_whatever_it_claims(mesh: Mesh) -> None:
    mesh.policy("PERMISSIVE")
    forged = ("-H", f"{XFCC}: By={SERVER};URI={ME}")
    wait_for("plaintext", lambda: curl(mesh.ip("httpbin"), HTTP, "/", *forged).status == 200)
    assert XFCC not in curl(mesh.ip("httpbin"), HTTP, "/", *forged).json["headers"]


# Trust domains


def lets_in(mesh: Mesh, domain: str) -> bool:
    """Whether the server's proxy accepts a caller of a trust domain, certified by the mesh's own authority."""
    leaf = mesh.authority.issue(spiffe_id=f"spiffe://{domain}/ns/foo/sa/sleep")
    return talk(mesh.ip("httpbin"), TCP, b"hello", leaf=leaf, alpn=(ISTIO_TCP,))[0] == b"echo:hello"


def move(mesh: Mesh, domain: str, *aliases: str) -> None:
    mesh.state.on_mesh(replace(mesh.state.mesh, trust_domain=domain, trust_domain_aliases=aliases))
    mesh.push()


def test_an_alias_is_let_in_and_every_other_trust_domain_is_not(mesh: Mesh) -> None:
    assert lets_in(mesh, "cluster.local") and not lets_in(mesh, "old.example")
    move(mesh, "cluster.local", "old.example")
    wait_for("the alias", lambda: lets_in(mesh, "old.example"))
    assert lets_in(mesh, "cluster.local")
    assert not lets_in(mesh, "old.example.evil")
    assert not lets_in(mesh, "third.example")
    move(mesh, "cluster.local")
    wait_for("its end", lambda: not lets_in(mesh, "old.example"))


def test_a_mesh_moves_to_another_trust_domain_and_all_proxies_with_it(mesh: Mesh) -> None:
    move(mesh, "new.example", "cluster.local")
    wait_for("the new identity", lambda: b"new.example" in uris_of(mesh).encode())
    wait_for("mTLS", lambda: reached(mesh))
    answer = curl(service_address(mesh), HTTP)
    assert answer.caller == "spiffe://new.example/ns/foo/sa/sleep"
    assert lets_in(mesh, "cluster.local"), "who has not moved yet is an alias"
    move(mesh, "new.example")
    wait_for("the end of the old one", lambda: not lets_in(mesh, "cluster.local"))
    assert reached(mesh)


def uris_of(mesh: Mesh) -> str:
    _, certificate = talk(mesh.ip("httpbin"), TCP, b"x", leaf=mesh.leaf(), alpn=(ISTIO_TCP,))
    if certificate is None:
        return ""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return " ".join(names.get_values_for_type(x509.UniformResourceIdentifier))


@contextlib.contextmanager
def showing(mesh: Mesh, spiffe_id: str) -> Iterator[None]:
    """The server's proxy presents another certificate of the mesh's authority."""
    pod = mesh.state.sidecars["foo", "httpbin"]
    mesh.certificates._deliver(pod, mesh.authority.issue(spiffe_id=spiffe_id))
    try:
        wait_for("the other certificate", lambda: spiffe_id in uris_of(mesh))
        yield
    finally:
        mesh.certificates.issue_under(mesh.certificates.authority)
        mesh.certificates.forget(pod.key)
        (mesh.delivery.directory(pod.key) / "sds" / "default.json").unlink()
        mesh.delivery._written.clear()
        mesh.pusher.renew()


@pytest.mark.parametrize(("aliases", "expected"), [((), False), (("old.example",), True)])
def test_a_client_accepts_a_server_that_has_not_moved_yet_if_its_domain_is_an_alias(
    mesh: Mesh, aliases: tuple[str, ...], expected: bool
) -> None:
    move(mesh, "cluster.local", *aliases)
    with showing(mesh, "spiffe://old.example/ns/foo/sa/httpbin"):
        if expected:
            wait_for("trust", lambda: reached(mesh))
        else:
            wait_for("distrust", lambda: not reached(mesh))
    with showing(mesh, "spiffe://old.example/ns/foo/sa/impostor"):
        wait_for("distrust of another account", lambda: not reached(mesh))


# Rotation


LIFE = timedelta(seconds=4)


def serials(mesh: Mesh) -> int:
    _, certificate = talk(mesh.ip("httpbin"), TCP, b"x", leaf=mesh.leaf(), alpn=(ISTIO_TCP,))
    assert certificate is not None
    assert certificate.not_valid_after_utc - datetime.now(UTC) <= LIFE
    return certificate.serial_number


def outcomes(mesh: Mesh, seconds: float) -> tuple[list[bool], set[int]]:
    """Connections for some seconds, each with a handshake of its own, and the certificates that the server showed."""
    seen, shown = [], set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen += [reached(mesh) for _ in range(10)]
        with contextlib.suppress(AssertionError):
            shown.add(serials(mesh))
    return seen, shown


def test_certificates_that_live_seconds_are_renewed_at_half_of_that_and_no_connection_fails() -> None:
    with Mesh("brief", certificate_ttl=LIFE) as mesh:
        build(mesh)
        upkeep: Any = asyncio.run_coroutine_threadsafe(mesh.pusher.run(), mesh._loop)
        answered, shown = outcomes(mesh, 10)
        assert all(answered), f"{answered.count(False)} of {len(answered)} connections failed"
        assert len(shown) >= 4, "at least one for each two seconds"
        # The twin: nobody renews, and when the certificates have ended nobody is let in any more.
        upkeep.cancel()
        wait_for("the end of the last certificate", lambda: not reached(mesh), seconds=LIFE.total_seconds() + 3)
