"""A TLS client of our own, which only shakes hands: what the other side presents, and what it asks for.

It verifies nobody and presents nothing, so that an expired or a wrong certificate is seen and not refused.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

ISTIO_ALPN = ("istio-peer-exchange", "istio")
"""What sidecars offer each other (pilot/pkg/networking/util ALPNInMesh); without it a PERMISSIVE sidecar takes a client
for an application that speaks TLS itself, and passes it on."""
WEB_ALPN = ("h2", "http/1.1")

PATIENCE = 5.0
_AFTERTHOUGHT = 0.3
"""Seconds that a server has to say that it misses a certificate: with TLS 1.3 it says so after the handshake."""


@dataclass(frozen=True)
class Handshake:
    """What a TLS server presented. Without a chain, `failure` says why there is none."""

    chain: tuple[bytes, ...] = ()
    """The certificates as PEM, the leaf first."""
    version: str = ""
    cipher: str = ""
    alpn: str = ""
    asks_for_certificate: bool = False
    failure: str = ""

    @property
    def certificates(self) -> list[x509.Certificate]:
        """The chain, read."""
        return [x509.load_pem_x509_certificate(one) for one in self.chain]


def connect(address: str, port: int, *, limit: float = PATIENCE) -> socket.socket:
    """A connection; raises OSError."""
    return socket.create_connection((address, port), timeout=limit)


def shake_hands(
    connection: Any, *, server_name: str = "", alpn: Sequence[str] = ISTIO_ALPN, limit: float = PATIENCE
) -> Handshake:
    """Shake hands over an open connection (a socket, or what acts like one). It is closed afterwards."""
    context = _context(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=server_name or None)
    connection.settimeout(limit)
    try:
        _step(connection, client.do_handshake, incoming, outgoing)
        # Read now: once the server has refused us, there is nothing left to read.
        cipher = (client.cipher() or ("",))[0]
        found = Handshake(_chain(client), client.version() or "", cipher, client.selected_alpn_protocol() or "")
        return replace(found, asks_for_certificate=_is_asked(connection, client, incoming, outgoing))
    except ssl.SSLError as error:
        return Handshake(failure=_why(error))
    except TimeoutError:
        return Handshake(failure=f"nobody answered the handshake within {limit:g} s")
    except OSError as error:
        return Handshake(failure=f"the connection was closed during the handshake ({error.strerror or error})")
    finally:
        with contextlib.suppress(OSError):
            connection.close()


def _context(alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what is weak is to be seen, too
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with contextlib.suppress(ssl.SSLError):
        context.set_ciphers("ALL:@SECLEVEL=0")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _step(connection: Any, act: Any, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> Any:
    """Do one act of TLS, carrying bytes to and fro until it is done."""
    while True:
        try:
            result = act()
        except ssl.SSLWantReadError:
            _flush(connection, outgoing)
            if data := connection.recv(65536):
                incoming.write(data)
            else:
                raise ConnectionResetError(0, "closed by the other side") from None
        else:
            _flush(connection, outgoing)
            return result


def _flush(connection: Any, outgoing: ssl.MemoryBIO) -> None:
    if data := outgoing.read():
        connection.sendall(data)


def _is_asked(connection: Any, client: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> bool:
    """Whether the server now says that it misses our certificate."""
    connection.settimeout(_AFTERTHOUGHT)
    try:
        _step(connection, lambda: client.read(1), incoming, outgoing)
    except ssl.SSLError as error:
        return "CERTIFICATE_REQUIRED" in (error.reason or "") or "HANDSHAKE_FAILURE" in (error.reason or "")
    except OSError:
        return False
    return False


def _chain(client: ssl.SSLObject) -> tuple[bytes, ...]:
    # Public from Python 3.13 on; before, the object below has it.
    for owner in (client, getattr(client, "_sslobj", None)):
        read = getattr(owner, "get_unverified_chain", None)
        found = read() if read else None
        if found:
            return tuple(_pem(one) for one in found)
    leaf = client.getpeercert(binary_form=True)
    return (_pem(leaf),) if leaf else ()


def _pem(certificate: Any) -> bytes:
    der = certificate if isinstance(certificate, bytes) else None
    if der is None:
        import _ssl

        der = certificate.public_bytes(_ssl.ENCODING_DER)
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _why(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING"):
        return "it does not answer in TLS"
    return f"the handshake failed: {reason.lower().replace('_', ' ')}"
