"""Certificate authorities, the leaves they issue, and reading a certificate. Uses `cryptography`; no network."""

from labkit.pki.authority import ROOT_TTL, WORKLOAD_TTL, CertificateAuthority, Leaf
from labkit.pki.facts import CertificateFacts, describe_certificate, describe_chain

__all__ = [
    "ROOT_TTL",
    "WORKLOAD_TTL",
    "CertificateAuthority",
    "CertificateFacts",
    "Leaf",
    "describe_certificate",
    "describe_chain",
]
