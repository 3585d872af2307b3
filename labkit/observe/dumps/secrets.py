"""The secrets of a proxy as `istioctl proxy-config secrets` shows them: certificates only, never a key. Pure.

istioctl/pkg/writer/envoy/configdump/configdump.go, istioctl/pkg/util/configdump/secret.go of istio/istio.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labkit.errors import InputError
from labkit.observe.dumps.dump import Dump, Secret
from labkit.observe.dumps.filters import Wanted
from labkit.pki import CertificateFacts, describe_chain

COLUMNS = (
    "RESOURCE NAME",
    "TYPE",
    "STATUS",
    "VALID CERT",
    "SERIAL NUMBER",
    "NOT AFTER",
    "NOT BEFORE",
    "TRUST DOMAIN",
)

CERT_CHAIN, CA = "Cert Chain", "CA"
_BUNDLE = "spiffe.SPIFFECertValidatorConfig"


@dataclass(frozen=True)
class Held:
    """One certificate that a proxy holds: its own (`Cert Chain`) or one that it trusts (`CA`)."""

    name: str
    kind: str
    status: str
    certificate: CertificateFacts | None = None
    trust_domain: str = ""


def select(dump: Dump, wanted: Wanted) -> list[Secret]:
    """The secrets that are asked for."""
    return [one for one in dump.secrets() if wanted.name in ("", one.name)]


def held(secrets: Iterable[Secret]) -> Iterator[Held]:
    """Their certificates; a secret without one that can be read is there, too."""
    for secret in secrets:
        kind, pems = _content(secret.content)
        found = [Held(secret.name, kind, secret.status, one, domain) for domain, one in _read(pems)]
        yield from found or [Held(secret.name, kind, secret.status)]


def _content(secret: Mapping[str, Any]) -> tuple[str, list[tuple[str, bytes]]]:
    """(type, PEM by trust domain); the trust domain is empty where it is to be read from the certificate."""
    if own := secret.get("tls_certificate"):
        return CERT_CHAIN, [("", _bytes_of(own.get("certificate_chain") or {}))]
    context = secret.get("validation_context") or {}
    # With several trust domains istiod sends a bundle for each, not one list of roots.
    custom = (context.get("custom_validator_config") or {}).get("typed_config") or {}
    if str(custom.get("@type", "")).endswith(_BUNDLE) or "trust_domains" in custom:
        domains = custom.get("trust_domains") or ()
        return CA, [(str(one.get("name", "")), _bytes_of(one.get("trust_bundle") or {})) for one in domains]
    return CA, [("", _bytes_of(context.get("trusted_ca") or {}))]


def _read(pems: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, CertificateFacts]]:
    for domain, pem in pems:
        try:
            chain = describe_chain(pem) if pem else ()
        except InputError:
            continue  # said as N/A: the proxy holds something that is no certificate
        for one in chain:
            yield domain or trust_domain(one), one


def trust_domain(certificate: CertificateFacts) -> str:
    """`cluster.local` of `spiffe://cluster.local/ns/...`."""
    return certificate.spiffe_id.removeprefix("spiffe://").partition("/")[0]


def rows(secrets: Iterable[Secret], now: datetime) -> Iterator[tuple[str, ...]]:
    """The cells of COLUMNS."""
    for one in held(secrets):
        certificate = one.certificate
        if certificate is None:
            yield one.name, one.kind, one.status, "false", "N/A", "N/A", "N/A", ""
            continue
        yield (
            one.name,
            one.kind,
            one.status,
            str(certificate.valid_at(now)).lower(),
            certificate.serial,
            _time(certificate.not_after),
            _time(certificate.not_before),
            one.trust_domain,
        )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _bytes_of(source: Mapping[str, Any]) -> bytes:
    if "inline_bytes" in source:
        return base64.b64decode(source["inline_bytes"])
    return str(source.get("inline_string") or "").encode()
