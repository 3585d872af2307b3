"""Whose tokens a workload checks, and how: what RequestAuthentications mean.

https://istio.io/latest/docs/reference/config/security/request_authentication/
https://istio.io/latest/docs/reference/config/security/jwt/

1. A request without a token passes: whether one is needed is said by an AuthorizationPolicy.
2. A request with a token that no rule accepts is answered 401.
3. The rules of all objects that select a workload count together: those of its namespace, and of the root namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.durations import seconds
from labkit.policy.selection import selected, selector_labels
from labkit.policy.workload import Workload

DEFAULT_TIMEOUT_SECONDS = 5.0
"""How long istiod waits for keys (`timeout` of a rule)."""

SPACE_DELIMITED = frozenset({"scope", "permission"})
"""Claims that are lists in one string, whatever a rule says."""


@dataclass(frozen=True)
class KeySource:
    """Where istiod finds an issuer's keys: at `uri`, or without one where the issuer's own OpenID document says."""

    issuer: str
    uri: str = ""

    def __str__(self) -> str:
        return self.uri or f"the OpenID document of {self.issuer}"


@dataclass(frozen=True)
class FromHeader:
    """A header that may hold the token, after `prefix`."""

    name: str
    prefix: str = ""


@dataclass(frozen=True)
class ClaimHeader:
    """A claim that the application is told in a header."""

    claim: str
    header: str


@dataclass(frozen=True)
class JwtRule:
    """One issuer. Without any place the token is looked for in `Authorization: Bearer` and in `?access_token=`."""

    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    jwks_uri: str = ""
    from_headers: tuple[FromHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimHeader, ...] = ()
    forward_original_token: bool = False
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    space_delimited_claims: tuple[str, ...] = ()

    @property
    def source(self) -> KeySource | None:
        """Where its keys have to be fetched; None if they are written in the rule."""
        return None if self.jwks else KeySource(self.issuer, self.jwks_uri)


@dataclass(frozen=True)
class RequestAuthentication:
    """One parsed RequestAuthentication."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[JwtRule, ...] = ()

    @property
    def sources(self) -> dict[KeySource, float]:
        """The keys that it needs from elsewhere, and how long to wait for them."""
        return {one.source: one.timeout_seconds for one in self.rules if one.source}


def parse_request_authentication(obj: Mapping[str, Any]) -> RequestAuthentication:
    """Read a RequestAuthentication. Raises InputError for a rule without an issuer or with a bad duration."""
    meta, spec = read_meta(obj, kind="RequestAuthentication"), obj.get("spec") or {}
    return RequestAuthentication(
        meta=meta,
        selector=selector_labels(spec),
        rules=tuple(_rule(one or {}, meta) for one in spec.get("jwtRules") or ()),
    )


def jwt_rules(
    policies: Iterable[RequestAuthentication], workload: Workload, root_namespace: str
) -> tuple[JwtRule, ...]:
    """All rules that count for a workload, by issuer."""
    # pilot/pkg/security/authn/policy_applier.go newPolicyApplier
    found = (rule for policy in selected(policies, workload, root_namespace) for rule in policy.rules)
    return tuple(sorted(found, key=lambda rule: rule.issuer))


def _rule(written: Mapping[str, Any], meta: Meta) -> JwtRule:
    issuer = str(written.get("issuer") or "")
    uri = str(written.get("jwksUri") or written.get("jwks_uri") or "")
    if not issuer and not uri:
        raise InputError(
            f"RequestAuthentication {meta} has a rule without an issuer.",
            meaning="A rule says whose tokens it checks: what the claim iss must be.",
            next_step="Write issuer: as the tokens have it in iss.",
            field="spec.jwtRules.issuer",
        )
    timeout = written.get("timeout")
    return JwtRule(
        issuer=issuer,
        audiences=_texts(written, "audiences"),
        jwks=str(written.get("jwks") or ""),
        jwks_uri=uri,
        from_headers=tuple(
            FromHeader(str(one.get("name") or ""), str(one.get("prefix") or ""))
            for one in written.get("fromHeaders") or ()
        ),
        from_params=_texts(written, "fromParams"),
        from_cookies=_texts(written, "fromCookies"),
        output_payload_to_header=str(written.get("outputPayloadToHeader") or ""),
        output_claim_to_headers=tuple(
            ClaimHeader(str(one.get("claim") or ""), str(one.get("header") or ""))
            for one in written.get("outputClaimToHeaders") or ()
        ),
        forward_original_token=bool(written.get("forwardOriginalToken")),
        timeout_seconds=seconds(str(timeout), f"timeout of RequestAuthentication {meta}")
        if timeout
        else DEFAULT_TIMEOUT_SECONDS,
        space_delimited_claims=_texts(written, "spaceDelimitedClaims"),
    )


def _texts(written: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(str(one) for one in written.get(name) or ())
