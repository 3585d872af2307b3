"""An issuer of tokens (JWT) for lessons: a throw-away key, made when it is needed, and tokens signed with it.

Proxies get the public half (a JWKS). Tokens and the private half never show themselves. RFC 7515, 7517 and 7519.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from labkit.display import as_lines, as_table
from labkit.pki.folder import Folder

MINUTES = 10
_SIZE = 32  # bytes of a number on the curve P-256


@dataclass(frozen=True, repr=False)
class Token:
    """A signed token. It shows its claims, never itself: whoever has it may use it until it expires."""

    claims: Mapping[str, Any]
    signed_by: str
    text: str = field(repr=False)

    @property
    def header(self) -> dict[str, str]:
        """The request header that carries it, for `lab.probe(..., headers=token.header)`."""
        return {"Authorization": f"Bearer {self.text}"}

    def rows(self) -> list[tuple[str, str]]:
        """What it says, as (name, value) pairs."""
        until = datetime.fromtimestamp(self.claims["exp"], UTC)
        return [
            ("issuer (iss)", str(self.claims["iss"])),
            ("subject (sub)", str(self.claims["sub"])),
            ("valid until (exp)", f"{until:%Y-%m-%d %H:%M:%S} UTC"),
            ("signed by", self.signed_by),
            ("the token", "(hidden)"),
        ]

    def __str__(self) -> str:
        return as_lines(self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_table(self.rows())


class TokenIssuer:
    """Signs tokens with ES256, and publishes the key to check them with."""

    def __init__(self, name: str, key_pem: bytes = b"") -> None:
        self.name = name
        key = load_pem_private_key(key_pem, password=None) if key_pem else ec.generate_private_key(ec.SECP256R1())
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("an issuer's key is on the curve P-256")
        self._key = key

    @property
    def key_pem(self) -> bytes:
        """The private key, to be kept in a file of its owner alone."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def jwks(self) -> str:
        """The public key as a JSON Web Key Set: this is what proxies are given."""
        point = self._key.public_key().public_numbers()
        numbers = {"x": _number(point.x), "y": _number(point.y)}
        key = {"kty": "EC", "crv": "P-256", "kid": self.name, "alg": "ES256", "use": "sig", **numbers}
        return json.dumps({"keys": [key]})

    def token(self, subject: str, *, minutes: float = MINUTES, **claims: Any) -> Token:
        """A token for somebody. With negative `minutes` it has expired already."""
        return self._sign(subject, minutes, claims, f"the key of {self.name}")

    def forged(self, subject: str) -> Token:
        """The same claims, signed by somebody who does not have the issuer's key."""
        return TokenIssuer(self.name)._sign(subject, MINUTES, {}, "another key")

    def _sign(self, subject: str, minutes: float, claims: Mapping[str, Any], signed_by: str) -> Token:
        now = int(time.time())
        said = {"iss": self.name, "sub": subject, "iat": now, "exp": now + int(60 * minutes), **claims}
        text = f"{_part({'alg': 'ES256', 'kid': self.name, 'typ': 'JWT'})}.{_part(said)}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_SIZE, "big") + s.to_bytes(_SIZE, "big")
        return Token(said, signed_by, f"{text}.{_encoded(signature)}")

    def __str__(self) -> str:
        return as_lines(self.rows())

    __repr__ = __str__

    def rows(self) -> list[tuple[str, str]]:
        """What may be known of it."""
        return [("issuer", self.name), ("signs with", "ES256"), ("public key", self.jwks), ("private key", "(hidden)")]

    def _repr_html_(self) -> str:
        return as_table(self.rows())


def issuer_in(folder: Folder, name: str) -> TokenIssuer | None:
    """The issuer whose key lies in a folder, or None."""
    file = folder.key(name)
    return TokenIssuer(name, file.read_bytes()) if file.is_file() else None


def _encoded(data: bytes) -> str:
    """base64url without padding, RFC 7515."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _encoded(value.to_bytes(_SIZE, "big"))


def _part(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())
