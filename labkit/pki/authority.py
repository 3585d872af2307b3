"""Certificate authorities and the leaves that they issue. No network, no clock but the one handed in.

Keys are ECDSA P-256. Istio's agent asks for RSA 2048 by default; a workload cannot tell the difference, both are
accepted by Envoy with Istio's own cipher list, and a lab issues many certificates while a learner waits:

    key          make a key   sign        (one core, cryptography 50)
    ECDSA P-256     0.01 ms   0.04 ms
    RSA 2048          37 ms   0.21 ms

What this module does not do: verify peers (Envoy and OpenSSL do), store keys (the caller does), revoke.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labkit.errors import InputError

# https://istio.io/latest/docs/reference/commands/pilot-agent/ SECRET_TTL; pilot/pkg/bootstrap/istio_ca.go
WORKLOAD_TTL = timedelta(hours=24)
# security/pkg/cmd/constants.go: a self-signed root lives 3650 days
ROOT_TTL = timedelta(days=3650)
# Clocks of two machines differ; a certificate that is valid a little before it was made never looks "not yet valid".
# Istio back-dates by two minutes as well (security/pkg/pki/util/generate_cert.go, ClockSkewGracePeriod).
CLOCK_SKEW = timedelta(minutes=2)

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Leaf:
    """A certificate with its key. `chain_pem` is what a server presents: the leaf, then the intermediates."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    root_pem: bytes = field(repr=False)

    def __repr__(self) -> str:
        certificate = x509.load_pem_x509_certificate(self.cert_pem)
        return f"Leaf({_short(certificate)}, until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC)"


class CertificateAuthority:
    """A certificate authority: `self_signed()` makes a root, `from_pem()` loads one, `intermediate()` makes a child."""

    def __init__(
        self, certificate: x509.Certificate, key: SigningKey, parents: Sequence[x509.Certificate] = ()
    ) -> None:
        """Use the class methods. `parents` runs from the issuer of `certificate` up to the root."""
        self._certificate = certificate
        self._key = key
        self._parents = tuple(parents)

    @classmethod
    def self_signed(
        cls,
        common_name: str = "",
        *,
        organization: str = "cluster.local",
        ttl: timedelta = ROOT_TTL,
        not_before: datetime | None = None,
    ) -> CertificateAuthority:
        """A new root. Istio's self-signed root has only an organization, the trust domain, in its subject."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name, organization)
        certificate = _ca_certificate(subject, subject, key, key, None, ttl, not_before)
        return cls(certificate, key)

    @classmethod
    def from_pem(cls, cert_pem: bytes, key_pem: bytes) -> CertificateAuthority:
        """Load an authority: its certificate (followed by its parents, if it is an intermediate) and its key."""
        try:
            certificates = x509.load_pem_x509_certificates(cert_pem)
            key = serialization.load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError) as error:
            raise InputError(
                "The certificate or the key of the certificate authority is not readable PEM.",
                meaning=str(error).split(". ")[0],
                next_step="Hand in two PEM blocks: BEGIN CERTIFICATE and an unencrypted BEGIN PRIVATE KEY.",
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
            raise InputError(f"A key of type {type(key).__name__} cannot sign certificates; use ECDSA or RSA.")
        if certificates[0].public_key() != key.public_key():
            raise InputError(
                f"The key does not belong to the certificate {_short(certificates[0])}.",
                next_step="Hand in the key that the certificate was made with.",
            )
        if not _is_ca(certificates[0]):
            raise InputError(
                f"{_short(certificates[0])} is not a certificate authority (no CA:TRUE in its basic constraints).",
                next_step="Hand in a CA certificate, or make one with CertificateAuthority.self_signed().",
            )
        return cls(certificates[0], key, certificates[1:])

    @property
    def cert_pem(self) -> bytes:
        return _pem(self._certificate)

    @property
    def chain_pem(self) -> bytes:
        """This authority's certificate, then its parents up to and including the root."""
        return b"".join(_pem(certificate) for certificate in (self._certificate, *self._parents))

    @property
    def root_pem(self) -> bytes:
        """The trust anchor: what a peer must hold to verify the leaves of this authority."""
        return _pem((self._certificate, *self._parents)[-1])

    @property
    def key_pem(self) -> bytes:
        """The private key. Whoever holds it can issue any identity; write it with mode 0600 only."""
        return _key_pem(self._key)

    def intermediate(
        self,
        common_name: str,
        *,
        organization: str = "cluster.local",
        ttl: timedelta = timedelta(days=365),
        not_before: datetime | None = None,
    ) -> CertificateAuthority:
        """A new authority below this one, which may issue leaves but no further authorities."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name, organization)
        certificate = _ca_certificate(subject, self._certificate.subject, key, self._key, self, ttl, not_before)
        return CertificateAuthority(certificate, key, (self._certificate, *self._parents))

    def issue(
        self,
        *,
        spiffe_id: str = "",
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        common_name: str = "",
        organizations: Sequence[str] = (),
        ttl: timedelta = WORKLOAD_TTL,
        not_before: datetime | None = None,
        client: bool = True,
        server: bool = True,
    ) -> Leaf:
        """Issue a leaf with a new key; `client` and `server` are its extended key usages.

        A workload certificate, as istiod issues it, has the SPIFFE ID as its only URI SAN and an empty subject.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign_leaf(
            key.public_key(),
            _alternative_names(spiffe_id, dns_names, ip_addresses),
            _name(common_name, *organizations),
            _validity(ttl, not_before),
            _usages(client, server),
        )
        # The root is the trust anchor that the peer already has; it does not belong into the presented chain.
        presented = [certificate, self._certificate, *self._parents][:-1]
        return Leaf(
            cert_pem=_pem(certificate),
            key_pem=_key_pem(key),
            chain_pem=b"".join(_pem(link) for link in presented),
            root_pem=self.root_pem,
        )

    def _sign_leaf(
        self,
        public_key: ec.EllipticCurvePublicKey,
        names: x509.SubjectAlternativeName | None,
        subject: x509.Name,
        validity: tuple[datetime, datetime],
        usages: list[x509.ObjectIdentifier],
    ) -> x509.Certificate:
        builder = (
            _builder(subject, self._certificate.subject, validity)
            .public_key(public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_authority_key_identifier(self._certificate), critical=False)
        )
        if names:
            # RFC 5280 section 4.2.1.6: with an empty subject the alternative names are critical.
            builder = builder.add_extension(names, critical=not list(subject))
        return builder.sign(self._key, _digest(self._key))

    def __repr__(self) -> str:
        kind = "intermediate" if self._parents else "root"
        return f"CertificateAuthority({kind} {_short(self._certificate)})"


def _name(common_name: str, *organizations: str) -> x509.Name:
    pairs = [(NameOID.ORGANIZATION_NAME, name) for name in organizations] + [(NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs if value])


def _validity(ttl: timedelta, not_before: datetime | None) -> tuple[datetime, datetime]:
    """The window; without `not_before` it starts a little in the past and ends `ttl` from now."""
    if ttl <= timedelta(0):
        raise InputError(
            "The time to live of a certificate must be positive.",
            next_step="For an expired one, hand in a `not_before` in the past.",
        )
    if not_before is None:
        now = datetime.now(UTC)
        return now - CLOCK_SKEW, now + ttl
    start = not_before if not_before.tzinfo else not_before.replace(tzinfo=UTC)
    return start, start + ttl


def _builder(subject: x509.Name, issuer: x509.Name, validity: tuple[datetime, datetime]) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )


def _ca_certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signing_key: SigningKey,
    parent: CertificateAuthority | None,
    ttl: timedelta,
    not_before: datetime | None,
) -> x509.Certificate:
    # Only an intermediate is limited to leaves; a root may have authorities below it.
    path_length = 0 if parent else None
    builder = (
        _builder(subject, issuer, _validity(ttl, not_before))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if parent:
        builder = builder.add_extension(_authority_key_identifier(parent._certificate), critical=False)
    return builder.sign(signing_key, _digest(signing_key))


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _usages(client: bool, server: bool) -> list[x509.ObjectIdentifier]:
    usages: list[x509.ObjectIdentifier] = []
    if server:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    if client:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    if not usages:
        raise InputError("A certificate that may be used neither by a client nor by a server is of no use.")
    return usages


def _alternative_names(
    spiffe_id: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
) -> x509.SubjectAlternativeName | None:
    names: list[x509.GeneralName] = []
    try:
        if spiffe_id:
            names.append(x509.UniformResourceIdentifier(spiffe_id))
        names += [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ip_address(address)) for address in ip_addresses]
    except ValueError as error:
        raise InputError(
            f"A name for the certificate is not usable: {error}.",
            next_step="DNS names are ASCII; addresses are IPv4 or IPv6; a SPIFFE ID starts with spiffe://.",
        ) from error
    return x509.SubjectAlternativeName(names) if names else None


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    # The issuer's own identifier when it has one (a CA made elsewhere may number differently), else from its key.
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public_key = issuer.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _digest(key: SigningKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: SigningKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _short(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return str(next(iter(names)).value)
    except (x509.ExtensionNotFound, StopIteration):
        return certificate.subject.rfc4514_string() or "(no name)"
