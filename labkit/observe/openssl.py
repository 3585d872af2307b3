"""Certificates as the `openssl` program shows them; where there is none, in a rendering of our own that looks alike."""

from __future__ import annotations

import shutil
import subprocess

from labkit.pki.text import certificate_text

X509 = ("x509", "-noout", "-text")
_LIMIT = 10.0


def show_certificate(pem: bytes) -> tuple[str, str]:
    """(the text, who wrote it) of the first certificate of a PEM text."""
    if program := shutil.which("openssl"):
        try:
            done = subprocess.run([program, *X509], input=pem, capture_output=True, timeout=_LIMIT, check=True)
            return done.stdout.decode("utf-8", "replace").rstrip(), f"openssl {' '.join(X509)}"
        except (OSError, subprocess.SubprocessError):
            pass  # an openssl that cannot print a certificate is as good as none
    return certificate_text(pem), "labkit (no openssl on this machine)"
