"""The mesh's certificate authority: one root, a certificate for every pod with a sidecar.

1. The root is made once and kept in the Secret `istio-ca-secret` of the control plane's namespace, with Istio's
   keys, so that a restarted istiod issues under the same root and running pods keep trusting each other.
2. A pod's certificate has one URI SAN, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
3. Who has an authority already plugs it in: the Secret `cacerts` with ca-cert.pem, ca-key.pem, cert-chain.pem and
   root-cert.pem (one root or several) comes first.
4. When the Secret changes, the authority changes in two steps, so that no handshake fails: first every proxy trusts
   the old and the new root, then every proxy gets a certificate of the new one. A root that is gone from the Secret
   stays trusted for as long as a certificate under it may live.
5. A certificate lives 24 hours (DEFAULT_WORKLOAD_CERT_TTL) and is renewed when half of that is left. Istio adds a
   jitter of 1 %, so that thousands of pods do not renew at once; a handful of pods need none.

Sources: security/pkg/pki/ca/ca.go, security/pkg/nodeagent/cache/secretcache.go of istio/istio.
Simplified: keys are made here and delivered with the certificate, because istiod and the pods share one machine
and one user. In Istio the pod makes its key, sends a signing request, and the key never leaves the pod.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from labkit.embedded.apiclient import SECRETS, ApiClient, ApiError
from labkit.embedded.controlplane.delivery import Delivery
from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.model import MeshConfig, Sidecar
from labkit.embedded.controlplane.translation.proxy import make_secret_file
from labkit.errors import InputError
from labkit.pki import CertificateAuthority, Leaf, describe_certificate
from labkit.policy.identity import spiffe_id

log = logging.getLogger(__name__)

PLUGGED_IN_NAME = "cacerts"
SECRET_NAME = "istio-ca-secret"  # noqa: S105 - the name of an object
SECRET_TYPE = "istio.io/ca-root"  # noqa: S105
RENEWAL_RATIO = 0.5  # SECRET_GRACE_PERIOD_RATIO


@dataclass(frozen=True)
class MeshTrust:
    """Who issues certificates, and the roots that proxies trust (PEM, one certificate each)."""

    issuer: CertificateAuthority
    roots: tuple[bytes, ...]

    @property
    def bundle(self) -> bytes:
        """All roots in one file."""
        return b"".join(self.roots)


async def load_trust(api: ApiClient, namespace: str, trust_domain: str) -> MeshTrust:
    """The authority in the Secret, which is made when there is none. An authority that is plugged in comes first."""
    for name in (PLUGGED_IN_NAME, SECRET_NAME):
        try:
            secret = await api.get(SECRETS, name, namespace)
            log.info("using the certificate authority in the secret %s/%s", namespace, name)
            return trust_from_secret(secret)
        except ApiError as error:
            if error.status != 404:
                raise
    authority = CertificateAuthority.self_signed(organization=trust_domain)
    try:
        await api.create(SECRETS, secret_of(authority, namespace))
        log.info("made a root certificate, kept in the secret %s/%s", namespace, SECRET_NAME)
        return MeshTrust(authority, (authority.root_pem,))
    except ApiError as error:
        if error.status != 409:
            raise
    # Another istiod was faster: its root is the mesh's.
    return trust_from_secret(await api.get(SECRETS, SECRET_NAME, namespace))


def trust_from_secret(secret: dict[str, Any]) -> MeshTrust:
    """Read the Secret. Raises InputError when it does not hold a usable authority.

    https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/
    """
    name, namespace = secret["metadata"]["name"], secret["metadata"].get("namespace", "istio-system")
    data = secret.get("data") or {}
    try:
        certificate, key = (base64.b64decode(data[one]) for one in ("ca-cert.pem", "ca-key.pem"))
        chain, roots = (base64.b64decode(data.get(one) or "") for one in ("cert-chain.pem", "root-cert.pem"))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"The secret {name} does not hold ca-cert.pem and ca-key.pem.",
            meaning="Without the mesh's authority no certificate can be issued.",
            next_step=f"Restore the secret, or delete it and restart istiod and all pods: kubectl delete secret "
            f"{name} -n {namespace}",
        ) from error
    trusted = _certificates(roots)
    links = {**dict.fromkeys(_certificates(certificate)), **dict.fromkeys(_certificates(chain))}
    own = [*links, *(root for root in trusted if _issued(links, root))][:8]
    issuer = CertificateAuthority.from_pem(b"".join(dict.fromkeys(own)), key)
    if issuer.root_pem not in trusted and trusted:
        raise InputError(
            f"The authority in the secret {name} was not issued by a root in its root-cert.pem.",
            meaning="No proxy would trust the certificates that it issues.",
            next_step="Put the root at the end of the chain into root-cert.pem; several roots may stand there.",
        )
    return MeshTrust(issuer, tuple(dict.fromkeys((*trusted, issuer.root_pem))))


def _certificates(pem: bytes) -> list[bytes]:
    """Each certificate of a PEM file by itself, written as we write them."""
    if not pem.strip():
        return []
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InputError("A certificate in the authority's secret is not readable PEM.", meaning=str(error)) from error
    return [one.public_bytes(serialization.Encoding.PEM) for one in found]


def _issued(links: Iterable[bytes], root: bytes) -> bool:
    """Whether the last link was issued by this root."""
    *_, last = (x509.load_pem_x509_certificate(one) for one in links)
    try:
        last.verify_directly_issued_by(x509.load_pem_x509_certificate(root))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def secret_of(authority: CertificateAuthority, namespace: str) -> dict[str, Any]:
    """The Secret with the authority; the two empty keys are for an intermediate, which a self-signed root lacks."""
    data = {"ca-cert.pem": authority.cert_pem, "ca-key.pem": authority.key_pem, "cert-chain.pem": b"", "key.pem": b""}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET_NAME,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "labkit"},
        },
        "type": SECRET_TYPE,
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


class Certificates:
    """Gives every sidecar a valid certificate and the roots to trust, and says when the next one must be renewed."""

    def __init__(
        self, authority: CertificateAuthority, delivery: Delivery, ttl: timedelta, roots: Iterable[bytes] = ()
    ) -> None:
        self.authority = authority
        self.ttl = ttl
        self.issued = 0
        self._delivery = delivery
        self._roots = tuple(dict.fromkeys((authority.root_pem, *roots)))
        self._leaving: dict[bytes, datetime] = {}
        self._issuer = x509.load_pem_x509_certificate(authority.cert_pem)
        self._valid: dict[tuple[str, str], tuple[str, datetime]] = {}

    @property
    def bundle(self) -> str:
        """All roots that are trusted now, as one PEM text: those of the authority first, then those that leave."""
        return b"".join((*self._roots, *self._leaving)).decode()

    def trust(self, roots: Iterable[bytes], now: datetime) -> None:
        """Trust these roots. Those that were trusted until now leave when the last certificate under them has ended."""
        before, self._roots = self._roots, tuple(dict.fromkeys(roots))
        for root in before:
            self._leaving.setdefault(root, now + self.ttl)
        self._leaving = {root: end for root, end in self._leaving.items() if root not in self._roots}

    def issue_under(self, authority: CertificateAuthority) -> None:
        """Issue under another authority from now on. `ensure` then gives every sidecar a new certificate."""
        if authority.cert_pem != self.authority.cert_pem:
            self.authority = authority
            self._issuer = x509.load_pem_x509_certificate(authority.cert_pem)
            self._valid.clear()

    def ensure(self, mesh: MeshConfig, sidecar: Sidecar, now: datetime) -> None:
        """Deliver the roots, and a certificate unless a good one is there already."""
        self._leaving = {root: end for root, end in self._leaving.items() if end > now}
        directory = self._delivery.directory(sidecar.key)
        root = make_secret_file(tls.root_secret(self.bundle))
        self._delivery.write(tls.secret_file(directory, tls.ROOT_SECRET), root)
        identity = spiffe_id(mesh.trust_domain, sidecar.workload.namespace, sidecar.workload.service_account)
        known = self._valid.get(sidecar.key) or self._delivered(sidecar)
        if known and known[0] == identity and self._renewal(known[1]) > now:
            self._valid[sidecar.key] = known
            return
        leaf = self.authority.issue(spiffe_id=identity, ttl=self.ttl)
        self.issued += 1
        self._deliver(sidecar, leaf)
        self._valid[sidecar.key] = identity, describe_certificate(leaf.cert_pem).not_after

    def forget(self, key: tuple[str, str]) -> None:
        """The sidecar is gone."""
        self._valid.pop(key, None)

    def next_renewal(self) -> datetime | None:
        """When the first certificate must be renewed, or the first root is trusted no longer."""
        renewals = (self._renewal(not_after) for _, not_after in self._valid.values())
        return min((*renewals, *self._leaving.values()), default=None)

    def _renewal(self, not_after: datetime) -> datetime:
        return not_after - self.ttl * (1 - RENEWAL_RATIO)

    def _deliver(self, sidecar: Sidecar, leaf: Leaf) -> None:
        path = tls.secret_file(self._delivery.directory(sidecar.key), tls.WORKLOAD_SECRET)
        secret = tls.workload_secret(leaf.chain_pem.decode(), leaf.key_pem.decode())
        self._delivery.write(path, make_secret_file(secret))

    def _delivered(self, sidecar: Sidecar) -> tuple[str, datetime] | None:
        """What an istiod before this one has delivered, if it was issued under this root."""
        path = tls.secret_file(self._delivery.directory(sidecar.key), tls.WORKLOAD_SECRET)
        content = self._delivery.read(path)
        try:
            pem = content["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"] if content else ""
            facts = describe_certificate(pem.encode())
            x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(self._issuer)
        except (KeyError, IndexError, InputError, ValueError, TypeError, InvalidSignature):
            return None
        return facts.spiffe_id, facts.not_after


def utc_now() -> datetime:
    """The clock of the control plane."""
    return datetime.now(UTC)
