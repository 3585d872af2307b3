"""Token issuers for tests: their keys are made when they are needed, and never written anywhere."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Object = dict[str, Any]


def encoded(data: bytes) -> str:
    """base64url without padding, RFC 7515."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int, size: int = 0) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _json(value: Object) -> str:
    return encoded(json.dumps(value).encode())


class Issuer:
    """Signs tokens with RS256 or ES256."""

    def __init__(self, name: str, *, algorithm: str = "RS256", kid: str = "") -> None:
        self.name, self.algorithm, self.kid = name, algorithm, kid or name
        self._key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
            rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def key(self) -> Object:
        """The public key as a JWK."""
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if isinstance(self._key, rsa.RSAPrivateKey):
            numbers = self._key.public_key().public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), **common}
        point = self._key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32), **common}

    @property
    def jwks(self) -> str:
        return json.dumps({"keys": [self.key]})

    def token(self, subject: str = "alice", *, lifetime: float = 600, **claims: Any) -> str:
        """A token; a claim that is None is left out."""
        now = int(time.time())
        payload = {"iss": self.name, "sub": subject, "iat": now, "exp": now + int(lifetime), **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        signed = f"{_json({'alg': self.algorithm, 'kid': self.kid, 'typ': 'JWT'})}.{_json(payload)}"
        return f"{signed}.{encoded(self._sign(signed.encode()))}"

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def rule(issuer: Issuer, **fields: Any) -> Object:
    """A rule with the issuer's keys written in it."""
    return {"issuer": issuer.name, "jwks": issuer.jwks, **fields}


def bearer(token: str) -> tuple[str, str]:
    """Options of curl."""
    return "-H", f"Authorization: Bearer {token}"
