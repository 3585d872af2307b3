"""What RequestAuthentications say, whom they select, and which key sets can be used."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1, EllipticCurvePublicKey

from labkit.errors import InputError
from labkit.policy.jwks import NOBODYS_JWKS, check_jwks
from labkit.policy.request_authentication import (
    ClaimHeader,
    FromHeader,
    JwtRule,
    KeySource,
    RequestAuthentication,
    jwt_rules,
    parse_request_authentication,
)
from labkit.policy.validation import validate
from labkit.policy.workload import Workload
from tests.tokens import Issuer, encoded

Object = dict[str, Any]


def obj(*rules: Object | None, name: str = "jwt", namespace: str = "foo", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    return {"kind": "RequestAuthentication", "metadata": metadata, "spec": {"jwtRules": list(rules), **spec}}


def test_every_field_is_read() -> None:
    written = {
        "issuer": "a",
        "audiences": ["x", "y"],
        "jwksUri": "http://keys",
        "fromHeaders": [{"name": "x-token"}, {"name": "x-jwt", "prefix": "JWT "}],
        "fromParams": ["token"],
        "fromCookies": ["session"],
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"claim": "sub", "header": "x-subject"}],
        "forwardOriginalToken": True,
        "timeout": "500ms",
        "spaceDelimitedClaims": ["roles"],
    }
    (rule,) = parse_request_authentication(obj(written)).rules
    assert rule == JwtRule(
        issuer="a",
        audiences=("x", "y"),
        jwks_uri="http://keys",
        from_headers=(FromHeader("x-token"), FromHeader("x-jwt", "JWT ")),
        from_params=("token",),
        from_cookies=("session",),
        output_payload_to_header="x-payload",
        output_claim_to_headers=(ClaimHeader("sub", "x-subject"),),
        forward_original_token=True,
        timeout_seconds=0.5,
        space_delimited_claims=("roles",),
    )


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ({"issuer": "a", "jwks": "{}"}, None),
        ({"issuer": "a", "jwksUri": "http://b"}, KeySource("a", "http://b")),
        ({"issuer": "a", "jwks_uri": "http://b"}, KeySource("a", "http://b")),
        ({"issuer": "a"}, KeySource("a")),
        ({"jwksUri": "http://b"}, KeySource("", "http://b")),
    ],
)
def test_keys_are_written_or_fetched_or_discovered(rule: Object, source: KeySource | None) -> None:
    policy = parse_request_authentication(obj(rule))
    assert policy.rules[0].source == source
    assert policy.sources == ({source: 5.0} if source else {})


@pytest.mark.parametrize("rule", [{}, None, {"issuer": "a", "timeout": "soon"}])
def test_what_cannot_be_read_is_one_error(rule: Object | None) -> None:
    with pytest.raises(InputError):
        parse_request_authentication(obj(rule))


def server(namespace: str = "foo", **labels: str) -> Workload:
    return Workload(namespace=namespace, name="httpbin", labels={"app": "httpbin", **labels})


def read(*rules: str, **where: Any) -> RequestAuthentication:
    return parse_request_authentication(obj(*({"issuer": one} for one in rules), **where))


HTTPBIN = {"matchLabels": {"app": "httpbin"}}


@pytest.mark.parametrize(
    ("policies", "issuers"),
    [
        ((), ""),
        ((read(),), ""),
        ((read("a"),), "a"),
        ((read("b", "a"), read("c", name="x")), "abc"),
        ((read("a", selector=HTTPBIN), read("b", selector={"matchLabels": {"app": "other"}})), "a"),
        ((read("a", namespace="bar"),), ""),
        ((read("b"), read("a", namespace="istio-system")), "ab"),
        ((read("a", namespace="istio-system", selector=HTTPBIN),), "a"),
        ((read("a", namespace="istio-system", selector={"matchLabels": {"app": "other"}}),), ""),
        ((read("a", targetRefs=[{"kind": "Gateway", "name": "a"}]),), ""),
    ],
)
def test_the_rules_of_all_that_select_a_workload_count(
    policies: tuple[RequestAuthentication, ...], issuers: str
) -> None:
    assert "".join(one.issuer for one in jwt_rules(policies, server(), "istio-system")) == issuers


# Key sets: what Envoy 1.40 takes and refuses, tried with `envoy --mode validate`.

RSA, EC = Issuer("a").key, Issuer("b", algorithm="ES256").key


def keys(*written: Object) -> str:
    return json.dumps({"keys": list(written)})


@pytest.mark.parametrize(
    "text",
    [
        keys(RSA),
        keys(EC),
        keys(RSA, EC),
        keys({"kty": "XYZ"}, RSA),
        keys(RSA, {"kty": "RSA", "n": "AQAB"}),
        keys({name: RSA[name] for name in ("kty", "n", "e")}),
        keys({**RSA, "alg": "RSA-OAEP", "use": "enc"}, EC),
        keys({"kty": "oct", "k": "AAAA"}),
        keys({"kty": "OKP", "crv": "Ed25519", "x": encoded(bytes(32))}),
        NOBODYS_JWKS,
    ],
)
def test_a_key_set_with_a_key_is_taken(text: str) -> None:
    check_jwks(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no keys"),
        (json.dumps(RSA), "no keys"),
        (keys(), "no keys"),
        (keys({"kty": "XYZ"}), "key 0 has kty 'XYZ'"),
        ('{"keys": [7]}', "key 0 has kty None"),
        (keys({"kty": "RSA", "x5c": ["AAAA"]}), "has no n and no e"),
        (keys({**RSA, "n": 7}), "has no n"),
        (keys({**RSA, "n": "***"}), "cannot be read"),
        (keys({**RSA, "e": "AQAB=="}), "padded"),
        (keys({**RSA, "n": "AQAB"}), "cannot be read"),
        (keys({**RSA, "alg": "ES256"}), "has alg 'ES256'"),
        (keys({**EC, "x": EC["y"]}), "cannot be read"),
        (keys({**EC, "crv": "P-999"}), "does not fit"),
        (keys({**EC, "alg": "ES512"}), "does not fit"),
        (keys({"kty": "OKP", "crv": "X25519", "x": encoded(bytes(32))}), "Ed25519"),
    ],
)
def test_a_key_set_without_one_says_why(text: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        check_jwks(text)
    assert words in raised.value.what


def test_nobody_has_the_key_for_what_could_not_be_fetched() -> None:
    """Its point is the first that a hash of a sentence hits, so it was made without a private key."""
    (key,) = json.loads(NOBODYS_JWKS)["keys"]
    for count in range(10):
        digest = hashlib.shake_256(b"labkit: a key that nobody has" + bytes([count])).digest(65)
        try:
            point = EllipticCurvePublicKey.from_encoded_point(SECP521R1(), b"\x02\x00" + digest).public_numbers()
        except ValueError:
            continue  # no point of the curve
        break
    assert (key["x"], key["y"]) == tuple(encoded(one.to_bytes(66, "big")) for one in (point.x, point.y))


# What Istio says when one is applied


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"issuer": "a", "jwks": keys(RSA)}, ""),
        ({"issuer": "a", "jwksUri": "https://a.example/keys"}, ""),
        ({"issuer": "a", "jwksUri": "http://a:8000/keys"}, ""),
        ({"issuer": "a"}, ""),
        ({}, "issuer or jwksUri must be non-empty string"),
        ({"issuer": "a", "audiences": [""]}, "audience must be non-empty string"),
        ({"issuer": "a", "jwksUri": "ftp://a"}, 'URI scheme "ftp" is not supported'),
        ({"issuer": "a", "jwks": "{}"}, "jwks parse error: "),
        ({"issuer": "a", "jwks": keys(RSA), "jwksUri": "http://a"}, "only one of jwks or jwksUri can be set"),
        ({"issuer": "a", "fromHeaders": [{"prefix": "x"}]}, "location header name must be non-empty string"),
        ({"issuer": "a", "fromParams": [""]}, "location query must be non-empty string"),
        ({"issuer": "a", "fromCookies": [""]}, "cookie name must be non-empty string"),
        (
            {"issuer": "a", "outputClaimToHeaders": [{"claim": "a"}]},
            "outputClaimToHeaders header and claim value must be non-empty string",
        ),
        (
            {"issuer": "a", "outputClaimToHeaders": [{"claim": "a", "header": ":authority"}]},
            "header name :authority is not a valid header name",
        ),
        ({"issuer": "a", "timeout": "0s"}, "duration must be greater than 1ms"),
    ],
)
def test_the_webhook_says(rule: Object, words: str) -> None:
    errors = validate("RequestAuthentication", obj(rule)).errors
    assert len(errors) == bool(words)
    assert words in "".join(errors)
