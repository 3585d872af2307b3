"""Key sets as JSON (RFC 7517): whether Envoy could read one, and which stands where there is none. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from labkit.errors import InputError

_NEEDED = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
"""What a key of each type consists of, https://www.rfc-editor.org/rfc/rfc7518#section-6."""

_ALGORITHMS = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",), "oct": ("HS",)}
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

NOBODYS_JWKS = json.dumps(
    {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-521",
                "alg": "ES512",
                "kid": "keys-could-not-be-fetched",
                "x": "AJOYSrylXHueMoOPVVEyzjJmjTGdINlb2cEC0DNjLKBtee8jt8iNZgrPFAHBFvqKRgRTm9jtoR8rh1hXbMoTZXbz",
                "y": "AQjPO7gJtSidJU6jHpN87BLEqLj2uVF7QQc46AWbwqJ19MNG8HF0oJ1ZcsVcYwCJ4tM18lpnqXbH1tkoQ-m--Qew",
            }
        ]
    },
    separators=(",", ":"),
)
"""What a proxy is given while an issuer's keys are unknown, as in Istio: a key whose private half nobody has, so every
token fails. The point was found by hashing, see the tests, and not by multiplying with a private key.
"""


def check_jwks(text: str) -> None:
    """Raise InputError, with the reason, for a key set in which a proxy would find no key.

    Keys that it cannot use beside one that it can are no fault: Envoy leaves them aside. Without any it would refuse
    its whole configuration.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The key set is no JSON: {error}", field="jwks") from error
    keys = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(keys, list) or not keys:
        raise InputError('The key set has no keys in a list "keys".', field="jwks")
    faults = [_fault(one) for one in keys]
    if all(faults):
        said = "; ".join(f"key {index} {fault}" for index, fault in enumerate(faults))
        raise InputError(f"The key set has no key that can be used: {said}.", field="jwks")


@lru_cache(maxsize=256)
def is_usable(text: str) -> bool:
    """Whether a proxy would find a key in it."""
    try:
        check_jwks(text)
    except InputError:
        return False
    return True


def _fault(key: Any) -> str:
    """Why a key cannot be used; empty if it can."""
    kind = key.get("kty") if isinstance(key, dict) else None
    if kind not in _NEEDED:
        return f"has kty {kind!r}, not one of {', '.join(_NEEDED)}"
    missing = [one for one in _NEEDED[kind] if not isinstance(key.get(one), str) or not key[one]]
    if missing:
        return f"of kty {kind} has no {' and no '.join(missing)}"
    algorithm = str(key.get("alg") or "")
    if algorithm and not algorithm.startswith(_ALGORITHMS[kind]):
        return f"of kty {kind} has alg {algorithm!r}"
    return _wrong_numbers(kind, key, algorithm)


def _wrong_numbers(kind: str, key: Mapping[str, str], algorithm: str) -> str:
    # Imported here: it is heavy, and most who read policies never see a key.
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        if kind == "RSA":
            rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
        elif kind == "EC":
            if key["crv"] not in _CURVES or algorithm not in ("", _CURVES[key["crv"]]):
                return f"is on the curve {key['crv']!r}, which does not fit"
            curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
            ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), curves[key["crv"]]).public_key()
        elif kind == "OKP" and (key["crv"] != "Ed25519" or len(_decoded(key["x"])) != 32):
            return "of kty OKP is not one of Ed25519"
        elif kind == "oct":
            _decoded(key["k"])
    except (ValueError, binascii.Error) as error:
        return f"of kty {kind} cannot be read: {str(error).rstrip('.')}"
    return ""


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text), "big")


def _decoded(text: str) -> bytes:
    """base64url without padding, as RFC 7515 asks for and Envoy insists on."""
    if "=" in text:
        raise ValueError("it is padded")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
