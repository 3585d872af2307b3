"""Certificates: what a workload or a gateway presents right now, and how long those of the mesh still live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE
from labkit.errors import InputError
from labkit.observe import references
from labkit.pki.expiry import WARN_BEFORE, parse_duration

if TYPE_CHECKING:
    from labkit.views.certificates import Certificates, PresentedCertificate
    from labkit.views.results import Manifest


class CertificateQuestions:
    """What Lab can tell of certificates.

    lab.certificates(*namespaces, warn_before="7d")      the expiry table: every proxy's own, gateways' credentials, the
                                             roots; .table .warnings .soonest
    lab.certificate(workload, port)          what is presented at that port right now, read by a TLS client of our own:
                                             .certificate .chain .asks_for_certificate .signed_by_mesh .text .pem;
                                             server_name="shop.example" for a gateway
    lab.openssl(workload, port)              the same as openssl shows it, with the command
    """

    cluster: Cluster

    def certificates(self, *namespaces: str, warn_before: str | timedelta = WARN_BEFORE) -> Certificates:
        """How long every certificate of the mesh still lives, as the proxies hold them."""
        from labkit.observe.expiry import read_expiring
        from labkit.views.certificates import Certificates

        limit, now = parse_duration(warn_before), datetime.now(UTC)
        for name in namespaces:
            self.cluster.get(NAMESPACE, name)
        return Certificates(tuple(read_expiring(self.cluster, namespaces, now, limit)), now, limit)

    def certificate(self, workload: str, port: int = 0, *, server_name: str = "") -> PresentedCertificate:
        """What a pod of a workload, or a gateway, presents at a port right now; 0 is its first."""
        from labkit.observe.presented import read_presented
        from labkit.views.certificates import PresentedCertificate

        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise InputError(f"{port!r} is no port.", next_step="Write a number between 1 and 65535.", port=port)
        pod = references.find_pod(self.cluster, workload)
        return PresentedCertificate(read_presented(self.cluster, pod, port, server_name))

    def openssl(self, workload: str, port: int = 0, *, server_name: str = "") -> Manifest:
        """The same as `openssl s_client` and `openssl x509 -text` show it."""
        return self.certificate(workload, port, server_name=server_name).text
