"""RequestAuthentications with real tokens and real proxies; the keys are made here and live as long as the test."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.policy.authorization import Request, authorize, parse_authorization_policy
from labkit.policy.workload import workload_from_pod
from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for, written
from tests.tokens import Issuer, bearer, rule

Object = dict[str, Any]
HTTP = 8001
NO_KEY = "Jwks doesn't have key to match kid or alg from Jwt"
DENIED = "RBAC: access denied"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("https://issuer.example")


@pytest.fixture(scope="module")
def other() -> Issuer:
    """Another one, with a key on a curve."""
    return Issuer("other@example", algorithm="ES256")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server, and a client of the mesh; curl itself is a client without a sidecar."""
    with Mesh("jwt") as mesh:
        mesh.server("httpbin", http=(HTTP,))
        mesh.pod("sleep")
        mesh.push()
        wait_for("the service", lambda: from_the_mesh(mesh).status == 200)
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("RequestAuthentication", "AuthorizationPolicy")
    mesh.settled("httpbin", lambda listener: not any(one in json.dumps(listener) for one in ("jwt_authn", "http.rbac")))
    assert not mesh.rejections


def check(mesh: Mesh, *rules: Object, name: str = "jwt", namespace: str = "foo", **spec: Any) -> None:
    """Apply a RequestAuthentication, and wait until the server's proxy runs it."""
    obj = written("RequestAuthentication", {"jwtRules": list(rules), **spec}, name=name, namespace=namespace)
    mesh.state.on_config("RequestAuthentication", "ADDED", obj)
    taken(mesh)


def authz(mesh: Mesh, name: str = "authz", **spec: Any) -> Object:
    """Apply an AuthorizationPolicy, and wait until the server's proxy runs it."""
    policy = written("AuthorizationPolicy", spec, name=name)
    mesh.state.on_config("AuthorizationPolicy", "ADDED", policy)
    taken(mesh)
    return policy


def taken(mesh: Mesh) -> None:
    """Push, and wait until the server's proxy runs what was pushed: what it says of itself has changed."""
    before = json.dumps(mesh.sidecars["httpbin"].listener())
    mesh.push()
    mesh.settled("httpbin", lambda listener: json.dumps(listener) != before)


def ask(mesh: Mesh, path: str = "/", *options: str) -> Curled:
    """Ask on a new connection, which follows the newest rules."""
    return curl(mesh.ip("httpbin"), HTTP, path, *options)


def from_the_mesh(mesh: Mesh, path: str = "/", *options: str) -> Curled:
    return curl(mesh.seen_from("sleep", "httpbin"), HTTP, path, *options)


def test_a_token_that_is_there_must_be_right_and_none_is_right_too(mesh: Mesh, issuer: Issuer, other: Issuer) -> None:
    check(mesh, rule(issuer))
    assert ask(mesh).status == 200
    assert ask(mesh, "/", *bearer(issuer.token())).status == 200
    forged = Issuer(issuer.name).token()
    wrong = {
        forged: "Jwt verification fails",
        issuer.token(lifetime=-120): "Jwt is expired",
        issuer.token(nbf=2**31): "Jwt not yet valid",
        other.token(): "Jwt issuer is not configured",
        Issuer(issuer.name, kid="unknown").token(): NO_KEY,
        "x.y.z": "Jwt header is an invalid Base64url encoded",
        "word": "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    }
    for token, words in wrong.items():
        answer = ask(mesh, "/", *bearer(token))
        assert (answer.status, answer.body) == (401, words)


def test_mutual_tls_and_tokens_are_two_things(mesh: Mesh, issuer: Issuer) -> None:
    check(mesh, rule(issuer))
    wait_for("the check on the client's connection", lambda: from_the_mesh(mesh, "/", *bearer("x.y.z")).status == 401)
    answer = from_the_mesh(mesh, "/", *bearer(issuer.token()))
    assert (answer.status, answer.caller) == (200, "spiffe://cluster.local/ns/foo/sa/sleep")


def test_a_wrong_audience_is_refused_before_any_policy_is_asked(mesh: Mesh, issuer: Issuer) -> None:
    check(mesh, rule(issuer, audiences=["shop", "bank"]))
    assert ask(mesh, "/", *bearer(issuer.token(aud="shop"))).status == 200
    assert ask(mesh, "/", *bearer(issuer.token(aud=["other", "bank"]))).status == 200
    for token in (issuer.token(aud="other"), issuer.token()):
        answer = ask(mesh, "/", *bearer(token))
        assert (answer.status, answer.body) == (403, "Audiences in Jwt are not allowed")


def test_only_an_authorization_policy_demands_a_token(mesh: Mesh, issuer: Issuer) -> None:
    check(mesh, rule(issuer))
    authz(mesh, rules=[{"from": [{"source": {"requestPrincipals": ["*"]}}]}])
    assert ask(mesh, "/", *bearer(issuer.token())).status == 200
    refused = ask(mesh)
    assert (refused.status, refused.body) == (403, DENIED)
    assert ask(mesh, "/", *bearer("x.y.z")).status == 401


def test_without_a_request_authentication_no_token_is_read(mesh: Mesh, issuer: Issuer) -> None:
    authz(mesh, rules=[{"from": [{"source": {"requestPrincipals": ["*"]}}]}])
    assert ask(mesh, "/", *bearer(issuer.token())).status == 403


def when(key: str, *values: str, **other: list[str]) -> Object:
    return {"rules": [{"when": [{"key": key, **({"values": list(values)} if values else {}), **other}]}]}


def source(**fields: Any) -> Object:
    return {"rules": [{"from": [{"source": fields}]}]}


def deny(spec: Object) -> Object:
    return {"action": "DENY", **spec}


CLAIMS: Object = {
    "aud": ["shop", "bank"],
    "azp": "app",
    "groups": ["admins", "users"],
    "team": "red",
    "scope": "read write",
    "nested": {"role": "editor", "roles": ["x", "y"]},
    "level": 7,
    "http://a.example/claim": "url",
}
ROWS = [
    # what is written; whether it lets in who has the token, and who has none
    (source(requestPrincipals=["https://issuer.example/alice"]), True, False),
    (source(requestPrincipals=["https://issuer.example/bob"]), False, False),
    (source(requestPrincipals=["https://issuer.example/*"]), True, False),
    (source(requestPrincipals=["https://other.example/*"]), False, False),
    (source(requestPrincipals=["*/alice"]), True, False),
    (source(requestPrincipals=["*/bob"]), False, False),
    (source(requestPrincipals=["*example/alice"]), True, False),
    (source(requestPrincipals=["*lice"]), True, False),
    (source(requestPrincipals=["*"]), True, False),
    (source(requestPrincipals=["x/y", "*/alice"]), True, False),
    (source(notRequestPrincipals=["*"]), False, True),
    (source(notRequestPrincipals=["*/bob"]), True, True),
    (deny(source(notRequestPrincipals=["*"])), True, False),
    (deny(source(requestPrincipals=["*/alice"])), False, True),
    (when("request.auth.principal", "*/alice"), True, False),
    (when("request.auth.principal", "*/bob"), False, False),
    (when("request.auth.audiences", "bank"), True, False),
    (when("request.auth.audiences", "other"), False, False),
    (when("request.auth.presenter", "app"), True, False),
    (when("request.auth.presenter", "other"), False, False),
    (when("request.auth.claims[groups]", "admins"), True, False),
    (when("request.auth.claims[groups]", "adm*"), True, False),
    (when("request.auth.claims[groups]", "*ers"), True, False),
    (when("request.auth.claims[groups]", "*"), True, False),
    (when("request.auth.claims[groups]", "guests"), False, False),
    (when("request.auth.claims[team]", "red", "blue"), True, False),
    (when("request.auth.claims[team]", "green"), False, False),
    (when("request.auth.claims[team]", notValues=["green"]), True, True),
    (when("request.auth.claims[team]", notValues=["red"]), False, True),
    (when("request.auth.claims[scope]", "write"), True, False),
    (when("request.auth.claims[scope]", "admin"), False, False),
    (when("request.auth.claims[nested][role]", "editor"), True, False),
    (when("request.auth.claims[nested][role]", "admin"), False, False),
    (when("request.auth.claims[nested][roles]", "y"), True, False),
    (when("request.auth.claims[http://a.example/claim]", "url"), True, False),
    (when("request.auth.claims[level]", "7"), False, False),
    (deny(when("request.auth.claims[groups]", "admins")), False, True),
    (deny(when("request.auth.claims[groups]", notValues=["admins"])), True, False),
]


@pytest.mark.parametrize(("spec", "with_token", "without"), ROWS, ids=[json.dumps(row[0]) for row in ROWS])
def test_envoy_reads_a_token_as_the_table_and_the_pure_rules_do(
    mesh: Mesh, issuer: Issuer, spec: Object, with_token: bool, without: bool
) -> None:
    check(mesh, rule(issuer))
    policy = authz(mesh, **spec)
    server = workload_from_pod(mesh._pods["httpbin"])
    # `scope` is a list in one string, which the filter takes apart.
    claims = {**CLAIMS, "iss": issuer.name, "sub": "alice", "scope": CLAIMS["scope"].split()}
    asks = ((with_token, bearer(issuer.token(**CLAIMS)), claims), (without, (), {}))
    for expected, options, said in asks:
        answer = ask(mesh, "/", *options)
        assert (answer.status, expected or answer.body) == ((200, True) if expected else (403, DENIED))
        request = Request(port=HTTP, claims=said)
        assert authorize([parse_authorization_policy(policy)], server, request).allowed is expected


def test_a_claim_can_be_named_as_a_list_in_one_string(mesh: Mesh, issuer: Issuer) -> None:
    check(mesh, rule(issuer, spaceDelimitedClaims=["roles"]))
    authz(mesh, **when("request.auth.claims[roles]", "editor"))
    assert ask(mesh, "/", *bearer(issuer.token(roles="admin editor"))).status == 200
    assert ask(mesh, "/", *bearer(issuer.token(roles="admin"))).status == 403
    check(mesh, rule(issuer), name="jwt")
    assert ask(mesh, "/", *bearer(issuer.token(roles="admin editor"))).status == 403


def test_several_issuers_are_checked_each_with_its_keys(mesh: Mesh, issuer: Issuer, other: Issuer) -> None:
    check(mesh, rule(issuer), name="one")
    check(mesh, rule(other), name="two", namespace="istio-system", selector={"matchLabels": {"app": "httpbin"}})
    authz(mesh, **source(requestPrincipals=[f"{other.name}/*"]))
    assert ask(mesh, "/", *bearer(other.token())).status == 200
    assert ask(mesh, "/", *bearer(issuer.token())).status == 403
    assert ask(mesh).status == 403
    stranger = Issuer("stranger")
    assert ask(mesh, "/", *bearer(stranger.token())).status == 401
    assert ask(mesh, "/", *bearer(Issuer(other.name, algorithm="ES256", kid=other.kid).token())).status == 401


def test_a_policy_for_others_checks_nothing_here(mesh: Mesh, issuer: Issuer) -> None:
    selectors: tuple[Object, ...] = (
        {"selector": {"matchLabels": {"app": "other"}}},
        {"targetRefs": [{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "httpbin"}]},
    )
    for index, spec in enumerate(selectors):
        other = written("RequestAuthentication", {"jwtRules": [rule(issuer)], **spec}, name=f"other{index}")
        mesh.state.on_config("RequestAuthentication", "ADDED", other)
    elsewhere = written("RequestAuthentication", {"jwtRules": [rule(issuer)]}, name="elsewhere", namespace="bar")
    mesh.state.on_config("RequestAuthentication", "ADDED", elsewhere)
    authz(mesh, rules=[{}])  # what is waited for
    assert ask(mesh, "/", *bearer("x.y.z")).status == 200


def test_a_token_is_looked_for_where_the_rule_says(mesh: Mesh, issuer: Issuer) -> None:
    token = issuer.token()
    check(mesh, rule(issuer))
    authz(mesh, **source(requestPrincipals=["*"]))
    assert ask(mesh, f"/?access_token={token}").status == 200
    assert ask(mesh, f"/?token={token}").status == 403
    assert ask(mesh, "/", "-H", f"x-token: {token}").status == 403
    places = {
        "fromHeaders": [{"name": "x-token"}, {"name": "x-jwt", "prefix": "JWT "}],
        "fromParams": ["token"],
        "fromCookies": ["session"],
    }
    check(mesh, rule(issuer, **places))
    assert ask(mesh, "/", "-H", f"x-token: {token}").status == 200
    assert ask(mesh, "/", "-H", f"x-jwt: JWT {token}").status == 200
    assert ask(mesh, f"/?token={token}").status == 200
    assert ask(mesh, "/", "-H", f"Cookie: session={token}").status == 200
    # The usual places are not looked at any more.
    assert ask(mesh, f"/?access_token={token}").status == 403
    assert ask(mesh, "/", *bearer(token)).status == 403
    assert ask(mesh, "/?token=x.y.z").status == 401


def test_the_application_sees_the_token_only_if_it_may(mesh: Mesh, issuer: Issuer) -> None:
    token = issuer.token()
    check(mesh, rule(issuer))
    assert "authorization" not in ask(mesh, "/", *bearer(token)).json["headers"]
    check(mesh, rule(issuer, forwardOriginalToken=True))
    assert ask(mesh, "/", *bearer(token)).json["headers"]["authorization"] == f"Bearer {token}"


def test_the_application_is_told_what_a_token_says(mesh: Mesh, issuer: Issuer) -> None:
    told = [{"claim": "sub", "header": "x-subject"}, {"claim": "nested.role", "header": "x-role"}]
    check(mesh, rule(issuer, outputPayloadToHeader="x-payload", outputClaimToHeaders=told))
    headers = ask(mesh, "/", *bearer(issuer.token(**CLAIMS))).json["headers"]
    payload = headers["x-payload"]
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (said["sub"], said["team"]) == ("alice", "red")
    assert (headers["x-subject"], headers["x-role"]) == ("alice", "editor")
    # Who has no token cannot tell the application anything in its place.
    own = ask(mesh, "/", "-H", "x-subject: admin", "-H", "x-payload: e30", "-H", "x-role: admin").json["headers"]
    assert not {"x-payload", "x-subject", "x-role"} & own.keys()
    check(mesh, rule(issuer))
    assert not {"x-payload", "x-subject"} & ask(mesh, "/", *bearer(issuer.token())).json["headers"].keys()


def test_a_preflight_request_of_a_browser_needs_no_token(mesh: Mesh, issuer: Issuer) -> None:
    check(mesh, rule(issuer))
    preflight = ("-X", "OPTIONS", "-H", "Origin: http://a", "-H", "Access-Control-Request-Method: GET")
    assert ask(mesh, "/", *preflight, *bearer("x.y.z")).status == 501  # the application knows no OPTIONS
    assert ask(mesh, "/", "-X", "OPTIONS", *bearer("x.y.z")).status == 401


def test_a_custom_policy_is_asked_before_tokens_are_checked(mesh: Mesh, issuer: Issuer) -> None:
    check(mesh, rule(issuer))
    spec = {"action": "CUSTOM", "provider": {"name": "none"}, "rules": [{}]}
    policy = written("AuthorizationPolicy", spec, name="custom")
    mesh.state.on_config("AuthorizationPolicy", "ADDED", policy)
    taken(mesh)
    assert ask(mesh, "/", *bearer("x.y.z")).status == 403


def test_keys_that_envoy_cannot_read_leave_nobody_in_and_everything_else_working(mesh: Mesh, issuer: Issuer) -> None:
    """The webhook refuses them; the fixture sees that no proxy refuses its configuration."""
    check(mesh, rule(issuer, jwks='{"keys": []}'))
    answer = ask(mesh, "/", *bearer(issuer.token()))
    assert (answer.status, answer.body) == (401, NO_KEY)
    assert ask(mesh).status == 200
