"""The search for secrets finds each sort, also as JSON writes it into a notebook, and passes what is public."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import nbformat
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from labkit.pki import CertificateAuthority
from tests.notebooks.leaks import leaks_below, leaks_in
from tests.tokens import Issuer

PKCS8, TRADITIONAL = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
KEYS = {
    "EC, PKCS 8": (lambda: ec.generate_private_key(ec.SECP256R1()), PKCS8),
    "EC": (lambda: ec.generate_private_key(ec.SECP256R1()), TRADITIONAL),
    "RSA": (lambda: rsa.generate_private_key(65537, 2048), TRADITIONAL),
}


def pem(sort: str) -> str:
    make, written = KEYS[sort]
    return make().private_bytes(serialization.Encoding.PEM, written, serialization.NoEncryption()).decode()


@pytest.mark.parametrize("sort", KEYS)
def test_keys_are_found_as_text_and_as_a_secret_holds_them(sort: str) -> None:
    key = pem(sort)
    assert leaks_in(json.dumps({"text": [f"key: {key}"]})) == ["a private key"]
    assert leaks_in(base64.b64encode(key.encode()).decode()) == ["a private key in base64"]


def test_tokens_and_known_secrets_are_found_in_an_output(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    output = nbformat.v4.new_output("stream", text=f"Bearer {Issuer('lab').token()} and swordfish")
    notebook.cells = [nbformat.v4.new_code_cell("lab", outputs=[output])]
    nbformat.write(notebook, tmp_path / "05_leaky.ipynb")
    (tmp_path / "06_clean.html").write_text("<p>nothing</p>")
    assert leaks_below(tmp_path, ["swordfish", ""]) == {
        "05_leaky.ipynb": ["a token (JWT)", "a secret that is known"],
    }


def test_certificates_and_public_keys_are_no_secrets() -> None:
    words = CertificateAuthority.self_signed("example.com").cert_pem.decode()
    assert leaks_in(f"{words} {base64.b64encode(words.encode()).decode()} {json.dumps(Issuer('lab').jwks)}") == []
