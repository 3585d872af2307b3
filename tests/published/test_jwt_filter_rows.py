"""Istio's form of the JWT filter: pilot/pkg/security/authn/policy_applier_test.go, TestJwtFilter and
TestConvertToEnvoyJwtConfig of istio/istio. Keys are those of this test: what is compared is the form.

Not compared: filters with remote keys, which need PILOT_JWT_ENABLE_REMOTE_JWKS.
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.embedded.controlplane.translation import model, order
from labkit.embedded.controlplane.translation.jwt import jwt_filters
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.policy.authorization import parse_authorization_policy
from labkit.policy.jwks import NOBODYS_JWKS
from labkit.policy.request_authentication import KeySource, parse_request_authentication
from labkit.policy.workload import Workload
from tests.tokens import Issuer

Object = dict[str, Any]

FOO, BAR = "https://secret.foo.com", "https://secret.bar.com"
URI = "http://localhost/oauth2/v3/certs"
INLINE, FETCHED = Issuer(BAR).jwks, Issuer(FOO).jwks
DEFAULT_CLAIMS = ["permission", "scope"]


def named(provider: str) -> Object:
    return {"provider_name": provider}


def any_of(*requirements: Object) -> Object:
    return {"requires_any": {"requirements": list(requirements)}}


MISSING: Object = {"allow_missing": {}}
ONE = any_of(named("origins-0"), MISSING)
TWO = any_of(
    named("origins-0"),
    named("origins-1"),
    {"requires_all": {"requirements": [ONE, any_of(named("origins-1"), MISSING)]}},
)


def provider(issuer: str, keys: str, **fields: Any) -> Object:
    claims = fields.pop("claims", DEFAULT_CLAIMS)
    return {
        "issuer": issuer,
        "local_jwks": {"inline_string": keys},
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": claims},
        **fields,
    }


FOO_RULE = {"issuer": FOO, "jwksUri": URI}
BAR_RULE = {"issuer": BAR, "jwks": INLINE}
FOO_PROVIDER, BAR_PROVIDER = provider(FOO, FETCHED), provider(BAR, INLINE)
ROWS: list[Any] = [
    pytest.param([[]], None, id="Empty policy"),
    pytest.param([[FOO_RULE]], (ONE, [FOO_PROVIDER]), id="Single JWT policy"),
    # Sorted by issuer.
    pytest.param([[FOO_RULE], [BAR_RULE]], (TWO, [BAR_PROVIDER, FOO_PROVIDER]), id="Multi JWTs policy"),
    pytest.param([[FOO_RULE, BAR_RULE]], (TWO, [BAR_PROVIDER, FOO_PROVIDER]), id="Multiple JWT rule"),
    pytest.param([[BAR_RULE]], (ONE, [BAR_PROVIDER]), id="JWT policy with inline Jwks"),
    pytest.param([[{"issuer": FOO}]], (ONE, [provider(FOO, NOBODYS_JWKS)]), id="Empty Jwks URI"),
    pytest.param(
        [[{"issuer": FOO, "jwksUri": "http://site.not.exist"}]],
        (ONE, [provider(FOO, NOBODYS_JWKS)]),
        id="Unreachable Jwks URI",
    ),
    pytest.param(
        [[{**FOO_RULE, "forwardOriginalToken": True}]],
        (ONE, [provider(FOO, FETCHED, forward=True)]),
        id="Forward original token",
    ),
    pytest.param(
        [[{**FOO_RULE, "forwardOriginalToken": True, "outputPayloadToHeader": "x-foo"}]],
        (ONE, [provider(FOO, FETCHED, forward=True, forward_payload_header="x-foo")]),
        id="Output payload",
    ),
    pytest.param(
        [[{**FOO_RULE, "outputClaimToHeaders": [{"header": "x-jwt-key1", "claim": "value1"}]}]],
        (
            ONE,
            [
                provider(
                    FOO,
                    FETCHED,
                    claim_to_headers=[{"header_name": "x-jwt-key1", "claim_name": "value1"}],
                )
            ],
        ),
        id="Output claim to header",
    ),
    pytest.param(
        [[{**FOO_RULE, "spaceDelimitedClaims": ["custom_scope", "roles"]}]],
        (ONE, [provider(FOO, FETCHED, claims=["custom_scope", "permission", "roles", "scope"])]),
        id="Single JWT policy with custom space delimited claims",
    ),
    pytest.param(
        [[{**FOO_RULE, "audiences": ["a"], "fromCookies": ["c"], "fromParams": ["p"], "fromHeaders": [{"name": "h"}]}]],
        (
            ONE,
            [
                provider(
                    FOO,
                    FETCHED,
                    audiences=["a"],
                    from_cookies=["c"],
                    from_params=["p"],
                    from_headers=[{"name": "h"}],
                )
            ],
        ),
        id="places",
    ),
]


def world(policies: list[list[Object]], *, gateway: bool = False, **configs: Any) -> tuple[Snapshot, Sidecar]:
    parsed = tuple(
        parse_request_authentication({"metadata": {"name": str(n), "namespace": "foo"}, "spec": {"jwtRules": rules}})
        for n, rules in enumerate(policies)
    )
    snapshot = Snapshot(configs={"RequestAuthentication": parsed, **configs}, jwks={KeySource(FOO, URI): FETCHED})
    return snapshot, model.Sidecar(Workload(namespace="foo", name="a", injected=True), gateway=gateway)


@pytest.mark.parametrize(("policies", "expected"), ROWS)
def test_the_filter_has_istios_form(policies: list[list[Object]], expected: tuple[Object, list[Object]] | None) -> None:
    found = jwt_filters(*world(policies))
    if expected is None:
        assert found == []
        return
    requirement, providers = expected
    (one,) = found
    config = one["typed_config"]
    assert one["name"] == "envoy.filters.http.jwt_authn"
    assert config["rules"] == [{"match": {"prefix": "/"}, "requires": requirement}]
    assert config["providers"] == {f"origins-{index}": each for index, each in enumerate(providers)}
    assert config["bypass_cors_preflight"] is True


def test_a_gateway_chooses_its_route_anew() -> None:
    (one,) = jwt_filters(*world([[FOO_RULE]], gateway=True))
    assert one["typed_config"]["providers"]["origins-0"]["clear_route_cache"] is True


def test_tokens_are_checked_after_custom_and_before_all_other_policies() -> None:
    """pilot/pkg/networking/core/listener_builder.go buildHTTPConnectionManager."""
    policies = tuple(
        parse_authorization_policy(
            {"metadata": {"name": action.lower(), "namespace": "foo"}, "spec": {"action": action, "rules": [{}]}}
        )
        for action in ("ALLOW", "DENY", "CUSTOM", "AUDIT")
    )
    snapshot, proxy = world([[FOO_RULE]], AuthorizationPolicy=policies)
    for side in (order.Side.INBOUND, order.Side.GATEWAY):
        names = [one["name"].removeprefix("envoy.filters.http.") for one in order.http_filters(snapshot, proxy, side)]
        assert [one for one in names if one in ("rbac", "jwt_authn")] == ["rbac", "jwt_authn", "rbac", "rbac", "rbac"]
    outbound = order.http_filters(snapshot, proxy, order.Side.OUTBOUND)
    assert not [one for one in outbound if one["name"].endswith(("rbac", "jwt_authn"))]
    assert not [one for one in order.network_filters(snapshot, proxy, order.Side.INBOUND) if "jwt" in one["name"]]
