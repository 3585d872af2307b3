"""A certificate in readable form, laid out as `openssl x509 -text -noout` prints it. Pure; no program is run.

What is left out are the bytes of the key and of the signature, which tell a reader nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from labkit.errors import InputError

_SIGNATURES = {
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.3.101.112": "ED25519",
}
_SHORT = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
}
_KEY_USES = (
    ("digital_signature", "Digital Signature"),
    ("content_commitment", "Non Repudiation"),
    ("key_encipherment", "Key Encipherment"),
    ("data_encipherment", "Data Encipherment"),
    ("key_agreement", "Key Agreement"),
    ("key_cert_sign", "Certificate Sign"),
    ("crl_sign", "CRL Sign"),
)
_EXTENDED = {
    "1.3.6.1.5.5.7.3.1": "TLS Web Server Authentication",
    "1.3.6.1.5.5.7.3.2": "TLS Web Client Authentication",
}


def certificate_text(pem: bytes | str) -> str:
    """The first certificate of a PEM text, readable."""
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        certificate = x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise InputError("This is not a certificate in PEM form.", meaning=str(error).split(". ")[0]) from error
    return "\n".join(line.rstrip() for line in _lines(certificate))


def chain_text(certificates: Sequence[x509.Certificate]) -> str:
    """The chain as `openssl s_client -showcerts` lists it."""
    lines = ["Certificate chain"]
    for index, one in enumerate(certificates):
        lines += [
            f" {index} s:{_name(one.subject)}",
            f"   i:{_name(one.issuer)}",
            f"   a:PKEY: {_key_algorithm(one)}, {_bits(one)} (bit); sigalg: {_signature(one)}",
            f"   v:NotBefore: {_time(one.not_valid_before_utc)}; NotAfter: {_time(one.not_valid_after_utc)}",
        ]
    return "\n".join(line.rstrip() for line in lines)


def _lines(one: x509.Certificate) -> Iterator[str]:
    yield "Certificate:"
    yield "    Data:"
    yield f"        Version: {one.version.value + 1} (0x{one.version.value:x})"
    yield "        Serial Number:"
    yield f"            {_colons(one.serial_number)}"
    yield f"        Signature Algorithm: {_signature(one)}"
    yield f"        Issuer: {_name(one.issuer)}"
    yield "        Validity"
    yield f"            Not Before: {_time(one.not_valid_before_utc)}"
    yield f"            Not After : {_time(one.not_valid_after_utc)}"
    yield f"        Subject: {_name(one.subject)}"
    yield "        Subject Public Key Info:"
    yield f"            Public Key Algorithm: {_key_algorithm(one)}"
    yield f"                Public-Key: ({_bits(one)} bit)"
    public_key = one.public_key()
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        yield f"                NIST CURVE: {public_key.curve.name}"
    if list(one.extensions):
        yield "        X509v3 extensions:"
    for extension in one.extensions:
        name, values = _extension(extension.value)
        yield f"            {name}: {'critical' if extension.critical else ''}"
        for value in values:
            yield f"                {value}"
    yield f"    Signature Algorithm: {_signature(one)}"


def _extension(value: Any) -> tuple[str, list[str]]:
    if isinstance(value, x509.BasicConstraints):
        length = "" if value.path_length is None else f", pathlen:{value.path_length}"
        return "X509v3 Basic Constraints", [f"CA:{'TRUE' if value.ca else 'FALSE'}{length}"]
    if isinstance(value, x509.KeyUsage):
        return "X509v3 Key Usage", [", ".join(text for name, text in _KEY_USES if getattr(value, name))]
    if isinstance(value, x509.ExtendedKeyUsage):
        uses = (_EXTENDED.get(use.dotted_string, use.dotted_string) for use in value)
        return "X509v3 Extended Key Usage", [", ".join(uses)]
    if isinstance(value, x509.SubjectKeyIdentifier):
        return "X509v3 Subject Key Identifier", [_hex(value.digest)]
    if isinstance(value, x509.AuthorityKeyIdentifier):
        return "X509v3 Authority Key Identifier", [_hex(value.key_identifier or b"")]
    if isinstance(value, x509.SubjectAlternativeName):
        return "X509v3 Subject Alternative Name", [", ".join(_alternative(one) for one in value)]
    return str(value.oid.dotted_string), ["(not shown)"]


def _alternative(one: x509.GeneralName) -> str:
    kinds = {
        x509.UniformResourceIdentifier: "URI",
        x509.DNSName: "DNS",
        x509.IPAddress: "IP Address",
        x509.RFC822Name: "email",
    }
    return f"{kinds.get(type(one), type(one).__name__)}:{one.value}"


def _name(name: x509.Name) -> str:
    parts = (f"{_SHORT.get(one.oid, one.oid.dotted_string)} = {one.value!s}" for one in name)
    return ", ".join(parts)


def _time(moment: datetime) -> str:
    return f"{moment:%b} {moment.day:>2} {moment:%H:%M:%S %Y} GMT"


def _signature(one: x509.Certificate) -> str:
    oid = one.signature_algorithm_oid.dotted_string
    return _SIGNATURES.get(oid, oid)


def _key_algorithm(one: x509.Certificate) -> str:
    public_key = one.public_key()
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return "id-ecPublicKey"
    if isinstance(public_key, rsa.RSAPublicKey):
        return "rsaEncryption"
    return type(public_key).__name__.removesuffix("PublicKey").lstrip("_").upper()


def _bits(one: x509.Certificate) -> int:
    return int(getattr(one.public_key(), "key_size", 256))


def _colons(number: int) -> str:
    text = f"{number:x}"
    return _pairs(text.zfill(len(text) + len(text) % 2))


def _hex(data: bytes) -> str:
    return _pairs(data.hex().upper())


def _pairs(text: str) -> str:
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))
