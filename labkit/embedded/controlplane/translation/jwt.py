"""RequestAuthentication as Envoy's JWT filter. Pure: keys that istiod has fetched come in the snapshot.

The form is that of pilot/pkg/security/authn/policy_applier.go (convertToEnvoyJwtConfig) of istio/istio:
1. One provider for each rule. What a token says is kept as dynamic metadata, where AuthorizationPolicies read it.
2. A token that is there must be valid for its provider; one that is missing is no fault (`allow_missing`).
3. With several providers it is enough if any one accepts: they may look for their tokens in the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
from labkit.policy.jwks import NOBODYS_JWKS, is_usable
from labkit.policy.request_authentication import SPACE_DELIMITED, JwtRule, KeySource, jwt_rules

JWT_FILTER = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"
"""Under which key the filter keeps a token's claims in its metadata."""

_MESSAGE = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"


def jwt_filters(snapshot: Snapshot, proxy: Sidecar) -> list[Config]:
    """The filter that checks a workload's tokens, none if no rule is for it."""
    rules = jwt_rules(snapshot.request_authentications, proxy.workload, snapshot.mesh.root_namespace)
    if not rules:
        return []
    providers = {f"origins-{index}": _provider(rule, snapshot.jwks, proxy) for index, rule in enumerate(rules)}
    requirement = {"match": {"prefix": "/"}, "requires": _requirement(list(providers))}
    fields: Config = {"providers": providers, "rules": [requirement], "bypass_cors_preflight": True}
    return [typed(JWT_FILTER, _MESSAGE, **fields)]


def _requirement(providers: list[str]) -> Config:
    lenient = [_any([_named(one), {"allow_missing": {}}]) for one in providers]
    if len(lenient) == 1:
        return lenient[0]
    return _any([*map(_named, providers), {"requires_all": {"requirements": lenient}}])


def _named(provider: str) -> Config:
    return {"provider_name": provider}


def _any(requirements: Iterable[Config]) -> Config:
    return {"requires_any": {"requirements": list(requirements)}}


def _provider(rule: JwtRule, fetched: Mapping[KeySource, str], proxy: Sidecar) -> Config:
    keys = rule.jwks if rule.source is None else fetched.get(rule.source, "")
    provider: Config = {
        # One that Envoy cannot read would make it refuse the listener, and whatever changes there later.
        "local_jwks": {"inline_string": keys if is_usable(keys) else NOBODYS_JWKS},
        "payload_in_metadata": PAYLOAD,
        "normalize_payload_in_metadata": {
            "space_delimited_claims": sorted({*rule.space_delimited_claims, *SPACE_DELIMITED})
        },
    }
    optional: Config = {
        "issuer": rule.issuer,
        "audiences": list(rule.audiences),
        "forward": rule.forward_original_token,
        "forward_payload_header": rule.output_payload_to_header,
        "from_headers": [_header(one.name, one.prefix) for one in rule.from_headers],
        "from_params": list(rule.from_params),
        "from_cookies": list(rule.from_cookies),
        "claim_to_headers": [
            {"header_name": one.header, "claim_name": one.claim} for one in rule.output_claim_to_headers
        ],
        # A gateway may choose its route by claims, which are known only now.
        "clear_route_cache": proxy.gateway,
    }
    return {**provider, **{name: value for name, value in optional.items() if value}}


def _header(name: str, prefix: str) -> Config:
    return {"name": name, "value_prefix": prefix} if prefix else {"name": name}


# What others read of a token


def claim(path: Iterable[str], value: Config) -> Config:
    """A MetadataMatcher for one claim."""
    return {"filter": JWT_FILTER, "path": [{"key": one} for one in (PAYLOAD, *path)], "value": value}


def text_claim(path: Iterable[str], text: Config) -> Config:
    """A MetadataMatcher for a claim that is such a text, or a list in which one stands. Numbers are no text."""
    matcher = {"string_match": text}
    return claim(path, {"or_match": {"value_matchers": [{"list_match": {"one_of": matcher}}, matcher]}})
