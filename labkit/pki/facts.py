"""Reading a certificate: what a learner wants to know of it. Verifies nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from labkit.display import as_lines, as_table
from labkit.errors import InputError

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, repr=False)
class CertificateFacts:
    """The facts of one certificate. `uri_names` holds the SPIFFE ID of a workload certificate."""

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    serial: str
    fingerprint: str
    uri_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    is_ca: bool = False
    usages: tuple[str, ...] = ()
    key: str = ""
    pem: bytes = field(default=b"", repr=False, compare=False)

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID, or nothing: a certificate that proves no workload identity."""
        return next((name for name in self.uri_names if name.startswith("spiffe://")), "")

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before

    def valid_at(self, moment: datetime) -> bool:
        """Whether `moment` lies inside the validity."""
        return self.not_before <= moment <= self.not_after

    def remaining(self, moment: datetime | None = None) -> timedelta:
        """Time left at `moment` (now); negative when expired."""
        return self.not_after - (moment or datetime.now(UTC))

    def rows(self) -> list[tuple[str, str]]:
        """The facts as (name, value) pairs, empty ones left out."""
        pairs = [
            ("subject", self.subject or "(empty)"),
            ("issuer", self.issuer),
            ("URI SAN", ", ".join(self.uri_names)),
            ("DNS SAN", ", ".join(self.dns_names)),
            ("IP SAN", ", ".join(self.ip_addresses)),
            ("valid from", f"{self.not_before:%Y-%m-%d %H:%M:%S} UTC"),
            ("valid until", f"{self.not_after:%Y-%m-%d %H:%M:%S} UTC"),
            ("use", ", ".join(("certificate authority",) if self.is_ca else self.usages)),
            ("key", self.key),
            ("serial", self.serial),
            ("SHA-256", self.fingerprint),
        ]
        return [(name, value) for name, value in pairs if value]

    def __str__(self) -> str:
        return as_lines(self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_table(self.rows())


def describe_certificate(pem: bytes | str) -> CertificateFacts:
    """The facts of the first certificate in `pem`."""
    return describe_chain(pem)[0]


def describe_chain(pem: bytes | str) -> tuple[CertificateFacts, ...]:
    """The facts of every certificate in `pem`, in order."""
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise InputError(
            "This is not a certificate in PEM form.",
            meaning=str(error).split(". ")[0],
            next_step="Hand in text that starts with -----BEGIN CERTIFICATE-----.",
        ) from error
    return tuple(_facts(certificate, data) for certificate in certificates)


def _facts(certificate: x509.Certificate, pem: bytes) -> CertificateFacts:
    names = _extension(certificate, x509.SubjectAlternativeName)
    constraints = _extension(certificate, x509.BasicConstraints)
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        uri_names=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
        ip_addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))) if names else (),
        is_ca=bool(constraints and constraints.ca),
        usages=tuple(_USAGES.get(usage.dotted_string, usage.dotted_string) for usage in usages or ()),
        key=_key(certificate),
        pem=pem,
    )


# RFC 5280 section 4.2.1.12
_USAGES = {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}


def _key(certificate: x509.Certificate) -> str:
    public_key = certificate.public_key()
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"ECDSA {public_key.curve.name}"
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA {public_key.key_size}"
    return type(public_key).__name__.removesuffix("PublicKey").lstrip("_")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
