"""Which parts of a Secret a gateway uses for TLS. Pure.

pilot/pkg/credentials/kube/secrets.go of istio/istio; the Secret's type does not matter.
https://istio.io/latest/docs/tasks/traffic-management/ingress/secure-ingress/#key-formats
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CA_SUFFIX = "-cacert"

PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))
"""Tried in this order; both halves must be there."""
CA_KEYS = ("cacert", "ca.crt")
CRL_KEYS = ("crl", "ca.crl")


@dataclass(frozen=True)
class Credential:
    """What is served under a `credentialName`; what is missing is empty. All of it PEM."""

    certificate: str = ""
    key: str = ""
    ca: str = ""
    crl: str = ""
    """Which certificates of that CA are revoked."""

    @property
    def complete(self) -> bool:
        """Whether a server can be opened with it."""
        return bool(self.certificate and self.key)


def read_credential(secrets: Mapping[str, Mapping[str, bytes]], name: str) -> Credential:
    """The credential `name` from the Secrets of the gateway pod's namespace, by name.

    The CA comes from the Secret `<name>-cacert` if there is one, else from the Secret itself.
    """
    data = secrets.get(name) or {}
    certificate, key = next(((data[a], data[b]) for a, b in PAIRS if data.get(a) and data.get(b)), (b"", b""))
    own = secrets.get(name + CA_SUFFIX)
    source = data if own is None else own
    ca, crl = (next((source[one] for one in keys if source.get(one)), b"") for keys in (CA_KEYS, CRL_KEYS))
    return Credential(*(one.decode("ascii", "replace") for one in (certificate, key, ca, crl)))


def is_credential(data: Mapping[str, bytes]) -> bool:
    """Whether a Secret holds anything of the kind."""
    return any(name in data for pair in (*PAIRS, CA_KEYS) for name in pair)
