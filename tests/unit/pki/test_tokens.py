"""An issuer of tokens: what it signs can be checked with its public key, and nothing shows a secret."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from labkit.pki.folder import Folder
from labkit.pki.tokens import Token, TokenIssuer, issuer_in


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify(token: Token, jwks: str) -> None:
    """As RFC 7515 says, with nothing but the published key."""
    (key,) = json.loads(jwks)["keys"]
    x, y = (int.from_bytes(decoded(key[name]), "big") for name in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    signed, _, signature = token.text.rpartition(".")
    raw = decoded(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    public.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))


def test_a_token_is_signed_with_the_key_that_is_published_and_a_forged_one_is_not() -> None:
    issuer = TokenIssuer("lab-issuer")
    good, forged = issuer.token("alice", groups=["writers"]), issuer.forged("alice")
    verify(good, issuer.jwks)
    with pytest.raises(InvalidSignature):
        verify(forged, issuer.jwks)
    head, payload, _ = (decoded(part) for part in (*good.text.split(".")[:2], ""))
    assert json.loads(head) == {"alg": "ES256", "kid": "lab-issuer", "typ": "JWT"}
    claims = json.loads(payload)
    assert (claims["iss"], claims["sub"], claims["groups"]) == ("lab-issuer", "alice", ["writers"])
    assert 590 < claims["exp"] - time.time() <= 600
    assert issuer.token("late", minutes=-5).claims["exp"] < time.time()


def test_what_is_shown_holds_neither_the_token_nor_the_private_key() -> None:
    issuer = TokenIssuer("lab-issuer")
    token = issuer.token("alice")
    private = issuer.key_pem.decode().splitlines()[1]
    for shown in (str(issuer), repr(issuer), issuer._repr_html_(), str(token), repr(token), token._repr_html_()):
        assert private not in shown
        assert token.text not in shown and token.text.rpartition(".")[2] not in shown
    assert '"d"' not in issuer.jwks, "the private number of a JWK"


def test_an_issuer_is_found_again_by_its_key(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "minted")
    assert issuer_in(folder, "lab-issuer") is None
    issuer = TokenIssuer("lab-issuer")
    folder.save_key("lab-issuer", issuer.key_pem)
    assert folder.key("lab-issuer").stat().st_mode & 0o777 == 0o600
    again = issuer_in(folder, "lab-issuer")
    assert again is not None
    verify(again.token("alice"), issuer.jwks)
    assert issuer_in(folder, "another") is None
