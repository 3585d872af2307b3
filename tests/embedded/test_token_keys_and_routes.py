"""Keys that istiod fetches, and tokens at a gateway: who is let in there, and where claims lead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labkit.embedded.controlplane.issuer_keys import IssuerKeys, Pace
from tests.embedded.echoes import running
from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for, written
from tests.tokens import Issuer, bearer, rule

Object = dict[str, Any]
HTTP, PORT = 8001, 80
LABELS = {"istio": "ingressgateway"}
XFCC = "x-forwarded-client-cert"
NO_KEY = "Jwks doesn't have key to match kid or alg from Jwt"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server, and a gateway before it and another."""
    with Mesh("jwks") as mesh:
        mesh.server("httpbin", http=(HTTP,))
        mesh.server("editors", http=(HTTP,), sidecar=False)
        mesh.pod("front", gateway=True, labels=LABELS)
        mesh.push()
        yield mesh


@pytest.fixture
def keys(mesh: Mesh) -> Iterator[IssuerKeys]:
    """What fetches keys in istiod, in a hurry; it pushes by itself."""
    keys = IssuerKeys(mesh.state, lambda: mesh._loop.create_task(push(mesh)), pace=Pace(0.1, 0.05, 0.1))
    mesh.run(keys.__aenter__())
    mesh.run(keys.all_tried())
    yield keys
    mesh.run(keys.__aexit__(None, None, None))


async def push(mesh: Mesh) -> None:
    await mesh.pusher.push(mesh.state.take_dirt())


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("RequestAuthentication", "AuthorizationPolicy", "Gateway", "VirtualService")
    wait_for("the old rules", lambda: ask(mesh, *bearer("x.y.z")).status == 200)
    wait_for("the door to close", lambda: visit(mesh).exit_code == 7)
    assert not mesh.rejections


def apply(mesh: Mesh, kind: str, **spec: Any) -> None:
    mesh.apply(kind, spec)


def ask(mesh: Mesh, *options: str) -> Curled:
    return curl(mesh.ip("httpbin"), HTTP, "/", *options)


def visit(mesh: Mesh, *options: str) -> Curled:
    return curl(mesh.ip("front"), PORT, "/", "-H", "Host: shop.example", *options)


# Keys


@contextmanager
def serving(issuers: list[Issuer], port: int = 0) -> Iterator[int]:
    """A server of the keys of these issuers, whoever they are at the moment; its port."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if issuers else 503)
            self.end_headers()
            self.wfile.write(issuers[0].jwks.encode() if issuers else b"")

        def log_message(self, *_: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", port), Keys)) as taken:
        yield taken


def trust(mesh: Mesh, keys: IssuerKeys, issuer: Issuer, port: int) -> None:
    uri = f"http://localhost:{port}/keys"
    policy = written("RequestAuthentication", {"jwtRules": [{"issuer": issuer.name, "jwksUri": uri}]})
    mesh.run(keys.on_policy("ADDED", policy))
    mesh.push()
    mesh.settled("httpbin", lambda listener: issuer.name in str(listener))


def test_keys_are_there_with_the_object(mesh: Mesh, keys: IssuerKeys) -> None:
    issuer = Issuer("https://issuer.example")
    with serving([issuer]) as port:
        trust(mesh, keys, issuer, port)
        assert ask(mesh, *bearer(issuer.token())).status == 200
        assert ask(mesh, *bearer(Issuer(issuer.name).token())).status == 401


def test_while_the_server_of_keys_is_down_every_token_fails(mesh: Mesh, keys: IssuerKeys) -> None:
    issuer = Issuer("https://issuer.example")
    with serving([issuer]) as port:
        pass
    trust(mesh, keys, issuer, port)
    answer = ask(mesh, *bearer(issuer.token()))
    assert (answer.status, answer.body) == (401, NO_KEY)
    assert ask(mesh).status == 200
    with serving([issuer], port):
        wait_for("the keys", lambda: ask(mesh, *bearer(issuer.token())).status == 200)


def test_other_keys_are_noticed_and_an_outage_keeps_the_old(mesh: Mesh, keys: IssuerKeys) -> None:
    old, new = Issuer("https://issuer.example", kid="1"), Issuer("https://issuer.example", kid="2")
    served = [old]
    with serving(served) as port:
        trust(mesh, keys, old, port)
        served.clear()
        failed = keys.failed
        wait_for("a failed fetch", lambda: keys.failed > failed)
        assert ask(mesh, *bearer(old.token())).status == 200
        served.append(new)
        wait_for("the new key", lambda: ask(mesh, *bearer(new.token())).status == 200)
        answer = ask(mesh, *bearer(old.token()))
        assert (answer.status, answer.body) == (401, NO_KEY)


# A gateway


def open_door(mesh: Mesh, *routes: Object) -> None:
    server = {"port": {"number": PORT, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    apply(mesh, "Gateway", selector=LABELS, servers=[server])
    apply(mesh, "VirtualService", hosts=["shop.example"], gateways=["test"], http=list(routes))


def to(name: str, **match: Any) -> Object:
    route: Object = {"route": [{"destination": {"host": name, "port": {"number": HTTP}}}]}
    return {"match": [match], **route} if match else route


def test_a_gateway_checks_tokens_and_keeps_them(mesh: Mesh) -> None:
    issuer = Issuer("https://issuer.example")
    apply(mesh, "RequestAuthentication", jwtRules=[rule(issuer)], selector={"matchLabels": LABELS})
    apply(
        mesh,
        "AuthorizationPolicy",
        selector={"matchLabels": LABELS},
        rules=[{"from": [{"source": {"requestPrincipals": ["*"]}}]}],
    )
    open_door(mesh, to("httpbin"))
    wait_for("the door", lambda: visit(mesh, *bearer(issuer.token())).status == 200)
    assert visit(mesh).status == 403
    assert "authorization" not in visit(mesh, *bearer(issuer.token())).json["headers"]
    assert visit(mesh, *bearer(Issuer(issuer.name).token())).status == 401
    # The rules are for the gateway alone.
    assert ask(mesh, *bearer("x.y.z")).status == 200


def test_a_gateway_leads_by_what_a_token_says(mesh: Mesh) -> None:
    """https://istio.io/latest/docs/tasks/security/authentication/jwt-route/"""
    issuer = Issuer("https://issuer.example")
    apply(mesh, "RequestAuthentication", jwtRules=[rule(issuer)], selector={"matchLabels": LABELS})
    open_door(
        mesh,
        to("editors", headers={"@request.auth.claims.groups": {"exact": "editors"}}),
        to("editors", headers={"@request.auth.claims[nested][Role]": {"prefix": "ed"}}),
        to("httpbin", withoutHeaders={"@request.auth.claims.sub": {"exact": "mallory"}}),
    )
    wait_for("the door", lambda: visit(mesh).status == 200)

    def meets(**claims: Any) -> str:
        answer = visit(mesh, *bearer(issuer.token(**claims)))
        return {404: "nobody"}.get(answer.status) or ("httpbin" if answer.json["headers"].get(XFCC) else "editors")

    assert meets(groups=["users", "editors"]) == "editors"
    assert meets(groups="editors") == "editors"
    assert meets(groups="users") == "httpbin"
    assert meets(nested={"Role": "editor"}) == "editors"
    assert meets(nested={"role": "editor"}) == "httpbin"
    assert meets() == "httpbin"
    assert meets(subject="mallory") == "nobody"
    assert visit(mesh, *bearer("x.y.z")).status == 401
