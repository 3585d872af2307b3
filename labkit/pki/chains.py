"""Whether one certificate was signed by another. A look, no verification: times, names and uses are not judged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature


def is_signed_by(chain: Sequence[x509.Certificate], roots_pem: bytes) -> bool:
    """Whether a chain, leaf first, leads to one of some roots by signatures."""
    try:
        roots = x509.load_pem_x509_certificates(roots_pem)
    except ValueError:
        return False
    for one, issuer in itertools.pairwise(chain):
        if not _signed(one, issuer):
            return False
    return bool(chain) and any(_signed(chain[-1], root) or chain[-1] == root for root in roots)


def _signed(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
