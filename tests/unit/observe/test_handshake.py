"""Our own TLS client against servers of this process: what it sees, and what it says when there is no TLS.

The same servers are asked by `openssl s_client`, and what it prints is read.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labkit.observe.handshake import connect, shake_hands
from labkit.observe.presented import read_s_client, s_client
from labkit.pki import CertificateAuthority, Leaf, describe_certificate
from tests.programs import program

ROOT = CertificateAuthority.self_signed("Root")
LEAF = ROOT.intermediate("Middle").issue(dns_names=["shop.example"])

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(talk: Talk) -> Iterator[int]:
    """A server on loopback that talks with each caller in turn, while the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), caller:
                    talk(caller)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def tls(tmp_path: Path, leaf: Leaf = LEAF, *, mutual: bool = False, newest: str = "TLSv1_3") -> Talk:
    """Opens TLS with a leaf, and asks for a certificate if it is to be mutual."""
    chain, key, root = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "root.pem"
    chain.write_bytes(leaf.chain_pem)
    key.write_bytes(leaf.key_pem)
    root.write_bytes(leaf.root_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["istio", "h2"])
    context.maximum_version = ssl.TLSVersion[newest]
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(root)

    def talk(caller: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(caller, server_side=True) as secure:
            secure.recv(1)

    return talk


def ask(port: int, *, server_name: str = "", alpn: tuple[str, ...] = ("istio",), limit: float = 5.0):  # type: ignore[no-untyped-def]
    return shake_hands(connect("127.0.0.1", port), server_name=server_name, alpn=alpn, limit=limit)


def test_the_whole_chain_is_seen(tmp_path: Path) -> None:
    with listening(tls(tmp_path)) as port:
        found = ask(port)
    assert (found.version, found.alpn, found.asks_for_certificate, found.failure) == ("TLSv1.3", "istio", False, "")
    leaf, middle = found.chain
    assert describe_certificate(leaf).dns_names == ("shop.example",)
    assert describe_certificate(middle).subject == "CN=Middle,O=cluster.local"


def test_who_asks_for_a_certificate(tmp_path: Path) -> None:
    with listening(tls(tmp_path, mutual=True)) as port:
        found = ask(port)
    assert found.asks_for_certificate and len(found.chain) == 2
    with listening(tls(tmp_path)) as port:
        assert not ask(port).asks_for_certificate


def test_expired_certificates_are_seen_and_not_refused(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    expired = ROOT.issue(dns_names=["old.example"], ttl=timedelta(days=1), not_before=past)
    with listening(tls(tmp_path, expired)) as port:
        found = ask(port)
    assert describe_certificate(found.chain[0]).not_after < datetime.now(UTC)


def test_older_versions_are_understood(tmp_path: Path) -> None:
    with listening(tls(tmp_path, newest="TLSv1_2")) as port:
        assert ask(port).version == "TLSv1.2"


def test_servers_that_speak_no_tls() -> None:
    def plain(caller: socket.socket) -> None:
        caller.recv(1024)
        caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(plain) as port:
        assert ask(port).failure == "it does not answer in TLS"
    with listening(lambda caller: caller.close()) as port:
        assert "closed during the handshake" in ask(port).failure or "reset" in ask(port).failure

    def silent(caller: socket.socket) -> None:
        caller.settimeout(5)
        while caller.recv(1024):
            pass

    with listening(silent) as port:
        assert ask(port, limit=0.2).failure == "nobody answered the handshake within 0.2 s"


def by_openssl(port: int) -> str:
    program("openssl", "its words were not read")
    command = s_client("127.0.0.1", port, "", ("istio",))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    return done.stdout.decode() + done.stderr.decode()


def test_openssls_words_are_read(tmp_path: Path) -> None:
    with listening(tls(tmp_path)) as port:
        ours, theirs = ask(port), read_s_client(by_openssl(port))
    assert [describe_certificate(one).fingerprint for one in theirs.chain] == [
        describe_certificate(one).fingerprint for one in ours.chain
    ]
    assert (theirs.version, theirs.cipher, theirs.alpn) == (ours.version, ours.cipher, ours.alpn)
    assert not theirs.asks_for_certificate
    with listening(tls(tmp_path, mutual=True)) as port:
        assert read_s_client(by_openssl(port)).asks_for_certificate


def test_openssls_refusals_are_read() -> None:
    with listening(lambda caller: caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert read_s_client(by_openssl(port)).failure == "it does not answer in TLS"
    assert read_s_client(by_openssl(port)).failure == "nobody listens there"
