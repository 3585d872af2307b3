"""What is asked of a RequestAuthentication, in Istio's words.

pkg/config/validation/validation.go ValidateRequestAuthentication, validateJwtRule; pkg/config/security ParseJwksURI;
and a rule of the CustomResourceDefinition that needs an API server with CEL.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from labkit.errors import InputError
from labkit.policy.jwks import check_jwks
from labkit.policy.validation.common import duration, targets
from labkit.policy.validation.findings import Findings, Object, block, items, quoted
from labkit.policy.validation.headers import strict_name


def request_authentication(obj: Object) -> Findings:
    """A whole RequestAuthentication."""
    spec = block(obj, "spec")
    yield from targets(spec)
    for rule in items(spec, "jwtRules"):
        yield from _rule(rule or {})


def _rule(rule: Object) -> Findings:
    uri = str(rule.get("jwksUri") or rule.get("jwks_uri") or "")
    if "" in items(rule, "audiences"):
        yield "audience must be non-empty string"
    if not rule.get("issuer") and not uri:
        yield "issuer or jwksUri must be non-empty string"
    if uri:
        yield from _uri(uri)
    if rule.get("jwks"):
        yield from _keys(str(rule["jwks"]))
        if uri:
            yield "only one of jwks or jwksUri can be set"
    if not all(one.get("name") for one in items(rule, "fromHeaders")):
        yield "location header name must be non-empty string"
    if "" in items(rule, "fromParams"):
        yield "location query must be non-empty string"
    if "" in items(rule, "fromCookies"):
        yield "cookie name must be non-empty string"
    for one in items(rule, "outputClaimToHeaders"):
        if not one.get("claim") or not one.get("header"):
            yield "outputClaimToHeaders header and claim value must be non-empty string"
        else:
            yield from strict_name(str(one["header"]))
    yield from duration(rule.get("timeout"))


def _uri(uri: str) -> Findings:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        yield f"parse {quoted(uri)}: invalid port {quoted(':' + uri.rpartition(':')[2])} after host"
        return
    if parts.scheme not in ("http", "https"):
        yield f"URI scheme {quoted(parts.scheme)} is not supported"


def _keys(text: str) -> Findings:
    try:
        check_jwks(text)
    except InputError as error:
        yield f"jwks parse error: {error.what}"
