"""RequestAuthentications with real tokens and real proxies; the keys are made here and live as long as the test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.embedded.addresses import captured_ip
from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for
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
    mesh = Mesh("jwt")
    try:
        mesh.pod("httpbin", ports=(HTTP,))
        mesh.pod("sleep")
        mesh.service("httpbin", {"port": HTTP, "name": "http"})
        mesh.http_app("httpbin", HTTP)
        mesh.push()
        wait_for("the service", lambda: from_the_mesh(mesh).status == 200)
        yield mesh
    finally:
        mesh.close()


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    for kind in ("RequestAuthentication", "AuthorizationPolicy"):
        for one in mesh.state.configs(kind):
            metadata = {"name": one.meta.name, "namespace": one.meta.namespace}
            mesh.state.on_config(kind, "DELETED", {"metadata": metadata})
    mesh.push()
    mesh.settled("httpbin", lambda listener: not any(one in json.dumps(listener) for one in ("jwt_authn", "http.rbac")))
    assert not mesh.rejections


def obj(name: str, namespace: str = "foo", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": spec}


def check(mesh: Mesh, *rules: Object, name: str = "jwt", namespace: str = "foo", **spec: Any) -> None:
    """Apply a RequestAuthentication, and wait until the server's proxy runs it."""
    mesh.state.on_config("RequestAuthentication", "ADDED", obj(name, namespace, jwtRules=list(rules), **spec))
    taken(mesh)


def authz(mesh: Mesh, name: str = "authz", **spec: Any) -> Object:
    """Apply an AuthorizationPolicy, and wait until the server's proxy runs it."""
    policy = obj(name, **spec)
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
    address = mesh.state.snapshot().services["foo", "httpbin"].cluster_ip
    return curl(captured_ip(mesh.ip("sleep"), address), HTTP, path, *options)


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
