"""What AuthorizationPolicies read in a token, and what they decide by it."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.authorization import Request, authorize, parse_authorization_policy
from labkit.policy.claims import claim_path, claim_texts, principal_matches, routing_claim
from labkit.policy.workload import Workload

CLAIMS: dict[str, Any] = {
    "iss": "https://a.example/realm",
    "sub": "alice",
    "aud": ["shop", "bank"],
    "azp": "app",
    "groups": ["admins", "users"],
    "nested": {"role": "editor", "roles": ["x", "y"]},
    "level": 7,
    "active": True,
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("https://a.example/realm/alice", True),
        ("https://a.example/realm/bob", False),
        ("https://a.example/alice", False),
        ("*", True),
        ("https://a.example/realm/*", True),
        ("https://b.example/realm/*", False),
        ("https://a.example/realm/al*", True),
        ("https://a.example/realm/bo*", False),
        ("https://a.example/*", False),
        ("*/alice", True),
        ("*/bob", False),
        ("*realm/alice", True),
        ("*other/alice", False),
        ("*lice", True),
        ("*ob", False),
        ("*/*", False),
        ("alice", False),
        ("https*", True),
        ("http:*", False),
    ],
)
def test_a_request_principal_is_issuer_and_subject(pattern: str, expected: bool) -> None:
    assert principal_matches(pattern, CLAIMS) is expected


def test_an_issuer_without_a_slash_may_be_a_prefix() -> None:
    claims = {"iss": "testing@secure.istio.io", "sub": "alice"}
    assert principal_matches("testing@*", claims)
    assert not principal_matches("other@*", claims)


@pytest.mark.parametrize("claims", [{}, {"iss": "a"}, {"sub": "a"}, {"iss": "a", "sub": ""}, {"iss": "a", "sub": 7}])
def test_a_principal_takes_both(claims: dict[str, Any]) -> None:
    assert not principal_matches("*", claims)


@pytest.mark.parametrize(
    ("key", "path", "texts"),
    [
        ("request.auth.audiences", ("aud",), ("shop", "bank")),
        ("request.auth.presenter", ("azp",), ("app",)),
        ("request.auth.claims[groups]", ("groups",), ("admins", "users")),
        ("request.auth.claims[nested][role]", ("nested", "role"), ("editor",)),
        ("request.auth.claims[nested][roles]", ("nested", "roles"), ("x", "y")),
        ("request.auth.claims[nested]", ("nested",), ()),
        ("request.auth.claims[level]", ("level",), ()),
        ("request.auth.claims[active]", ("active",), ()),
        ("request.auth.claims[missing][role]", ("missing", "role"), ()),
        ("request.auth.claims[groups][role]", ("groups", "role"), ()),
        ("request.headers[x]", (), None),
        ("request.auth.principal", (), None),
    ],
)
def test_a_key_names_a_claim(key: str, path: tuple[str, ...], texts: tuple[str, ...] | None) -> None:
    assert claim_path(key) == path
    if texts is not None:
        assert claim_texts(CLAIMS, path) == texts


@pytest.mark.parametrize(
    ("rule", "with_token", "without"),
    [
        ({"from": [{"source": {"requestPrincipals": ["*"]}}]}, True, False),
        ({"from": [{"source": {"notRequestPrincipals": ["*"]}}]}, False, True),
        ({"when": [{"key": "request.auth.claims[groups]", "values": ["admins"]}]}, True, False),
        ({"when": [{"key": "request.auth.claims[groups]", "values": ["adm*"]}]}, True, False),
        ({"when": [{"key": "request.auth.claims[groups]", "values": ["nobody"]}]}, False, False),
        ({"when": [{"key": "request.auth.claims[groups]", "notValues": ["nobody"]}]}, True, True),
        ({"when": [{"key": "request.auth.claims[groups]", "notValues": ["admins"]}]}, False, True),
        ({"when": [{"key": "request.auth.principal", "values": ["*/alice"]}]}, True, False),
    ],
)
def test_a_policy_decides_by_the_token(rule: dict[str, Any], with_token: bool, without: bool) -> None:
    obj = {"metadata": {"name": "a", "namespace": "foo"}, "spec": {"rules": [rule]}}
    policies, workload = [parse_authorization_policy(obj)], Workload(namespace="foo", name="a")
    assert authorize(policies, workload, Request(claims=CLAIMS)).allowed is with_token
    assert authorize(policies, workload, Request()).allowed is without


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("@request.auth.claims.sub", ("sub",)),
        ("@request.auth.claims.a.B", ("a", "B")),
        ("@request.auth.claims[a][b.c]", ("a", "b.c")),
        ("@Request.Auth.Claims.sub", ("sub",)),
        ("@request.auth.claims", ()),
        ("@request.auth.claims.", ()),
        ("@request.auth.claims[]", ()),
        ("@request.auth.claimsub", ()),
        ("x-user", ()),
    ],
)
def test_some_headers_of_a_route_mean_claims(header: str, path: tuple[str, ...]) -> None:
    """Rows in the manner of pkg/jwt/routing_test.go."""
    assert routing_claim(header) == path
