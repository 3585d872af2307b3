"""The mesh's certificate authority: one root, a certificate for every pod with a sidecar.

1. The root is made once and kept in the Secret `istio-ca-secret` of the control plane's namespace, with Istio's
   keys, so that a restarted istiod issues under the same root and running pods keep trusting each other.
2. A pod's certificate has one URI SAN, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
3. It lives 24 hours (DEFAULT_WORKLOAD_CERT_TTL) and is renewed when half of that is left. Istio adds a jitter of
   1 %, so that thousands of pods do not renew at once; a handful of pods need none.

Sources: security/pkg/pki/ca/ca.go, security/pkg/nodeagent/cache/secretcache.go of istio/istio.
Simplified: keys are made here and delivered with the certificate, because istiod and the pods share one machine
and one user. In Istio the pod makes its key, sends a signing request, and the key never leaves the pod.
"""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from labkit.embedded.apiclient import SECRETS, ApiClient, ApiError
from labkit.embedded.controlplane.delivery import Delivery
from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.model import MeshConfig, Sidecar
from labkit.embedded.controlplane.translation.proxy import make_secret_file
from labkit.errors import InputError
from labkit.pki import CertificateAuthority, Leaf, describe_certificate
from labkit.policy.identity import spiffe_id

log = logging.getLogger(__name__)

SECRET_NAME = "istio-ca-secret"  # noqa: S105 - the name of an object
SECRET_TYPE = "istio.io/ca-root"  # noqa: S105
RENEWAL_RATIO = 0.5  # SECRET_GRACE_PERIOD_RATIO


async def load_authority(api: ApiClient, namespace: str, trust_domain: str) -> CertificateAuthority:
    """The authority in the Secret, which is made when there is none."""
    try:
        secret = await api.get(SECRETS, SECRET_NAME, namespace)
        log.info("using the root certificate in the secret %s/%s", namespace, SECRET_NAME)
        return authority_from_secret(secret)
    except ApiError as error:
        if error.status != 404:
            raise
    authority = CertificateAuthority.self_signed(organization=trust_domain)
    try:
        await api.create(SECRETS, secret_of(authority, namespace))
        log.info("made a root certificate, kept in the secret %s/%s", namespace, SECRET_NAME)
        return authority
    except ApiError as error:
        if error.status != 409:
            raise
    # Another istiod was faster: its root is the mesh's.
    return authority_from_secret(await api.get(SECRETS, SECRET_NAME, namespace))


def authority_from_secret(secret: dict[str, Any]) -> CertificateAuthority:
    """Read the Secret. Raises InputError when it does not hold a usable authority."""
    data = secret.get("data") or {}
    try:
        certificate, key = (base64.b64decode(data[name]) for name in ("ca-cert.pem", "ca-key.pem"))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"The secret {SECRET_NAME} does not hold ca-cert.pem and ca-key.pem.",
            meaning="Without the mesh's root no certificate can be issued.",
            next_step=f"Restore the secret, or delete it and restart istiod and all pods: kubectl delete secret "
            f"{SECRET_NAME} -n {secret['metadata'].get('namespace', 'istio-system')}",
        ) from error
    return CertificateAuthority.from_pem(certificate, key)


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
    """Gives every sidecar a valid certificate, and says when the next one must be renewed."""

    def __init__(self, authority: CertificateAuthority, delivery: Delivery, ttl: timedelta) -> None:
        self.authority = authority
        self.ttl = ttl
        self.issued = 0
        self._delivery = delivery
        self._root_pem = authority.root_pem.decode()
        self._issuer = x509.load_pem_x509_certificate(authority.cert_pem)
        self._valid: dict[tuple[str, str], tuple[str, datetime]] = {}

    def ensure(self, mesh: MeshConfig, sidecar: Sidecar, now: datetime) -> None:
        """Deliver the root, and a certificate unless a good one is there already."""
        directory = self._delivery.directory(sidecar.key)
        root = make_secret_file(tls.root_secret(self._root_pem))
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
        """When the first certificate must be renewed."""
        return min((self._renewal(not_after) for _, not_after in self._valid.values()), default=None)

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
