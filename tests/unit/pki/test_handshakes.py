"""Real TLS over loopback, with the certificates of labkit.pki and Python's ssl on both ends.

Each handshake that must succeed has twins that must fail, so that the success means something.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labkit.pki import CertificateAuthority, Leaf

SERVER_ID, CLIENT_ID = "spiffe://cluster.local/ns/foo/sa/server", "spiffe://cluster.local/ns/foo/sa/client"
PAST = datetime.now(UTC) - timedelta(days=30)
FUTURE = datetime.now(UTC) + timedelta(days=30)

ROOT = CertificateAuthority.self_signed("Root")
OTHER = CertificateAuthority.self_signed("Root")  # the same name, another key


def server_leaf(authority: CertificateAuthority = ROOT, **more: object) -> Leaf:
    names: dict[str, object] = {"spiffe_id": SERVER_ID, "dns_names": ["localhost"], "ip_addresses": ["127.0.0.1"]}
    return authority.issue(**{**names, **more})  # type: ignore[arg-type]


def client_leaf(authority: CertificateAuthority = ROOT, **more: object) -> Leaf:
    return authority.issue(**{"spiffe_id": CLIENT_ID, **more})  # type: ignore[arg-type]


def load(context: ssl.SSLContext, leaf: Leaf | None, directory: Path, name: str) -> None:
    if leaf:
        (directory / f"{name}.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
        context.load_cert_chain(directory / f"{name}.pem")


def shake(
    directory: Path,
    server: Leaf,
    client: Leaf | None,
    *,
    trusted: CertificateAuthority = ROOT,
    host: str = "localhost",
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> tuple[str, str]:
    """One mutual handshake and an echo; what each end read as the URI of the other, or the error that ended it."""
    for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for_server.verify_mode = ssl.CERT_REQUIRED
    for_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for_client.hostname_checks_common_name = False  # as curl, browsers and Envoy have it
    for context in (for_server, for_client):
        context.load_verify_locations(cadata=trusted.root_pem.decode())
        context.maximum_version = context.minimum_version = version
    load(for_server, server, directory, "server")
    load(for_client, client, directory, "client")
    seen: list[str] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(1.5)
        try:
            with for_server.wrap_socket(connection, server_side=True) as wrapped:
                seen.append(uri(wrapped))
                wrapped.sendall(wrapped.recv(5))
        except (ssl.SSLError, OSError):
            seen.append("refused")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1.5)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=1.5) as raw,
                for_client.wrap_socket(raw, server_hostname=host) as wrapped,
            ):
                peer = uri(wrapped)
                wrapped.sendall(b"hello")
                # Under TLS 1.3 the client learns only here that its certificate was refused.
                assert wrapped.recv(5) == b"hello"
        finally:
            thread.join(2)
    return peer, seen[0]


def uri(connection: ssl.SSLSocket) -> str:
    """The URI SAN as Python's ssl reads it: a second reader, which knows nothing of ours."""
    names = (connection.getpeercert() or {}).get("subjectAltName", ())
    return next((str(value) for kind, value in names if kind == "URI"), "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ends_read_each_others_identity(tmp_path: Path, version: ssl.TLSVersion) -> None:
    assert shake(tmp_path, server_leaf(), client_leaf(), version=version) == (SERVER_ID, CLIENT_ID)


def test_an_intermediate_is_trusted_through_its_root(tmp_path: Path) -> None:
    lower = ROOT.intermediate("Intermediate")
    assert shake(tmp_path, server_leaf(lower), client_leaf(lower)) == (SERVER_ID, CLIENT_ID)


def test_an_authority_loaded_from_pem_is_trusted_like_the_original(tmp_path: Path) -> None:
    loaded = CertificateAuthority.from_pem(ROOT.cert_pem, ROOT.key_pem)
    assert shake(tmp_path, server_leaf(loaded), client_leaf(loaded)) == (SERVER_ID, CLIENT_ID)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_names_and_addresses_of_the_server_count(tmp_path: Path, host: str) -> None:
    assert shake(tmp_path, server_leaf(), client_leaf(), host=host)[0] == SERVER_ID


def without_intermediate() -> Leaf:
    """A leaf whose holder forgot to present the intermediate."""
    leaf = server_leaf(ROOT.intermediate("Intermediate"))
    return Leaf(leaf.cert_pem, leaf.key_pem, leaf.cert_pem, leaf.root_pem)


def below_an_intermediate() -> Leaf:
    """A leaf of an authority that an intermediate was not allowed to make (path length 0)."""
    return server_leaf(ROOT.intermediate("Intermediate").intermediate("Too deep"))


BAD_SERVERS: list[tuple[str, Callable[[], Leaf], str]] = [
    ("another authority of the same name", lambda: server_leaf(OTHER), "localhost"),
    ("expired", lambda: server_leaf(not_before=PAST), "localhost"),
    ("not yet valid", lambda: server_leaf(not_before=FUTURE), "localhost"),
    ("another name", lambda: server_leaf(dns_names=["example.org"]), "localhost"),
    ("another address", lambda: server_leaf(ip_addresses=["127.0.0.2"]), "127.0.0.1"),
    ("the name only as common name", lambda: server_leaf(dns_names=[], common_name="localhost"), "localhost"),
    ("a client's certificate", lambda: server_leaf(server=False), "localhost"),
    ("the intermediate is missing", without_intermediate, "localhost"),
    ("an authority too deep", below_an_intermediate, "localhost"),
]


@pytest.mark.parametrize(("make", "host"), [pytest.param(*row[1:], id=row[0]) for row in BAD_SERVERS])
def test_a_client_refuses_a_server_with(tmp_path: Path, make: Callable[[], Leaf], host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(tmp_path, make(), client_leaf(), host=host)


BAD_CLIENTS: list[tuple[str, Callable[[], Leaf | None]]] = [
    ("no certificate", lambda: None),
    ("one of another authority", lambda: client_leaf(OTHER)),
    ("an expired one", lambda: client_leaf(not_before=PAST)),
    ("one that is not valid yet", lambda: client_leaf(not_before=FUTURE)),
    ("a server's certificate", lambda: client_leaf(client=False)),
]


@pytest.mark.parametrize("make", [pytest.param(row[1], id=row[0]) for row in BAD_CLIENTS])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_refuses_a_client_with(
    tmp_path: Path, make: Callable[[], Leaf | None], version: ssl.TLSVersion
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake(tmp_path, server_leaf(), make(), version=version)


def test_trusting_the_other_root_turns_the_verdict_around(tmp_path: Path) -> None:
    assert shake(tmp_path, server_leaf(OTHER), client_leaf(OTHER), trusted=OTHER) == (SERVER_ID, CLIENT_ID)
