"""Workload identity: SPIFFE IDs and trust domains. Reads and writes names; holds no certificate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.errors import InputError

TRUST_DOMAIN = "cluster.local"


# https://istio.io/latest/docs/concepts/security/#istio-identity ; pkg/spiffe/spiffe.go
@dataclass(frozen=True)
class SpiffeID:
    """`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the URI SAN of a workload certificate."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def principal(self) -> str:
        """As AuthorizationPolicy and metrics of older releases write it: without the scheme."""
        return str(self).removeprefix("spiffe://")


# The trust domain is a host name in lower case (SPIFFE-ID specification, section 2.1); Istio replaces @ by a dot.
_PATTERN = re.compile(r"spiffe://(?P<td>[a-z0-9._-]+)/ns/(?P<ns>[^/\s]+)/sa/(?P<sa>[^/\s]+)")


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> str:
    """The SPIFFE ID of a service account, as text."""
    # pkg/spiffe/spiffe.go: a trust domain may come from an e-mail-like value
    text = str(SpiffeID(trust_domain.replace("@", "."), namespace, service_account))
    parse_spiffe_id(text)
    return text


def parse_spiffe_id(text: str) -> SpiffeID:
    """Read a SPIFFE ID as Istio writes it."""
    match = _PATTERN.fullmatch(text)
    if not match:
        raise InputError(
            f"{text!r} is not the SPIFFE ID of a workload.",
            next_step="Its form is spiffe://<trust domain>/ns/<namespace>/sa/<service account>.",
            value=text,
        )
    return SpiffeID(match["td"], match["ns"], match["sa"])


# pilot/pkg/security/authn/utils/utils.go ; https://istio.io/latest/docs/tasks/security/authentication/mtls-migration/
def trust_domain_san_prefixes(
    trust_domain: str = "", aliases: Iterable[str] = (), ca_trust_domains: Iterable[str] = ()
) -> tuple[str, ...]:
    """The URI SAN prefixes that a workload accepts from a peer; the order is kept, duplicates are dropped.

    The mesh's trust domain comes first, then its aliases, then the trust domains of further CA certificates.
    The prefix ends in a slash, so that `cluster.local` does not let `cluster.local.example` in. Namespace and
    service account are not looked at here: that is the part of AuthorizationPolicy.
    """
    domains = dict.fromkeys(domain for domain in (trust_domain, *aliases, *ca_trust_domains) if domain)
    return tuple(f"spiffe://{domain}/" for domain in domains)


# pilot/pkg/security/trustdomain/bundle.go
def principals_meant(principal: str, trust_domains: Sequence[str]) -> tuple[str, ...]:
    """The principals that a policy means by one: the mesh's trust domain and its aliases (in this order) are one.

    `cluster.local` stands for the mesh's own trust domain, whatever it is called. What is no whole
    `domain/ns/x/sa/y`, or has `*` for a domain, is kept as it is written; so is a domain that nobody here has.
    """
    parts = principal.split("/")
    if len(parts) != 5 or parts[0] == "*":
        return (principal,)
    written, rest = parts[0], "/".join(parts[1:])
    if written != TRUST_DOMAIN and not any(_alike(written, one) for one in trust_domains):
        return (principal,)
    found = (principal if _ends(one, written) else f"{one}/{rest}" for one in trust_domains)
    return tuple(dict.fromkeys(found))


def trust_domains_meant(written: str, trust_domains: Sequence[str]) -> tuple[str, ...]:
    """The trust domains that a policy means by one."""
    return tuple(trust_domains) if written in trust_domains else (written,)


def _alike(one: str, other: str) -> bool:
    return one == other or any(
        _ends(*pair) or (pair[1].endswith("*") and pair[0].startswith(pair[1][:-1]))
        for pair in ((one, other), (other, one))
    )


def _ends(text: str, pattern: str) -> bool:
    return pattern.startswith("*") and text.endswith(pattern[1:])
