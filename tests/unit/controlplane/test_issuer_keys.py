"""Keys are fetched from real HTTP servers on loopback; each success has a twin that must fail."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from labkit.embedded.controlplane import issuer_keys
from labkit.embedded.controlplane.issuer_keys import IssuerKeys, Pace
from labkit.embedded.controlplane.state import State
from labkit.pki import CertificateAuthority
from labkit.policy.request_authentication import KeySource
from tests.tokens import Issuer
from tests.unit.controlplane.objects import make_pod, make_service, make_state

Object = dict[str, Any]

QUICK = Pace(fresh=0.05, retry=0.02, patient=0.05)
SLOW = Pace(fresh=60, retry=60)
ISSUER = "https://issuer.example"


class Server:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.status = 200
        self.asked: list[str] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.host}{request.path}")
        if request.path == "/never":
            await asyncio.sleep(60)
        if request.path == "/elsewhere":
            raise web.HTTPFound("/keys")
        text = self.answers.get(request.path)
        return web.Response(text=text, status=self.status) if text is not None else web.Response(status=404)

    @asynccontextmanager
    async def running(
        self, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Server]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, address, port, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as server:
        yield server


@asynccontextmanager
async def fetching(state: State | None = None, pace: Pace = QUICK, **options: Any) -> AsyncIterator[IssuerKeys]:
    """What istiod has when it is ready; `pokes` counts how often it would push."""
    state = state or make_state(make_pod())
    pokes: list[int] = []
    async with IssuerKeys(state, lambda: pokes.append(1), pace=pace, **options) as keys:
        keys.pokes, keys.state = pokes, state  # type: ignore[attr-defined]
        await keys.all_tried()
        yield keys


def policy(uri: str = "", *, issuer: str = ISSUER, name: str = "jwt", **fields: Any) -> Object:
    rule = {"issuer": issuer, **({"jwksUri": uri} if uri else {}), **fields}
    return {"metadata": {"namespace": "foo", "name": name}, "spec": {"jwtRules": [rule]}}


def known(keys: IssuerKeys) -> dict[KeySource, str]:
    return dict(keys._state.snapshot().jwks)


async def until(condition: Any, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_object_is_handed_on_with_its_keys(server: Server) -> None:
    server.answers["/keys"] = Issuer(ISSUER).jwks
    uri = f"http://127.0.0.1:{server.port}/keys"
    async with fetching(pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy(uri))
        assert known(keys) == {KeySource(ISSUER, uri): server.answers["/keys"]}
        assert len(keys._state.configs("RequestAuthentication")) == 1
        assert (keys.fetched, keys.failed) == (1, 0)
        assert keys._state.affected(keys._state.dirt) == {("foo", "httpbin")}


async def test_keys_that_are_written_are_not_fetched(server: Server) -> None:
    async with fetching() as keys:
        await keys.on_policy("ADDED", policy(jwks=Issuer(ISSUER).jwks))
        await asyncio.sleep(0.1)
        assert (known(keys), keys.fetched, keys.failed) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ("no json", 200, "The key set is no JSON"),
        ('{"keys": []}', 200, "no keys"),
        ("[" * 100_000, 200, "The key set is no JSON"),
        (None, 200, "answers 404"),
        ("broken", 500, "answers 500: 'broken'"),
        ("x" * (issuer_keys.MAX_BYTES + 1), 200, "more than"),
    ],
    ids=["text", "empty", "deep", "missing", "broken", "huge"],
)
async def test_what_is_no_key_set_is_said_and_the_object_counts_all_the_same(
    server: Server, answer: str | None, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    if answer is not None:
        server.answers["/keys"], server.status = answer, status
    async with fetching() as keys:
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/keys"))
        await keys.on_policy("MODIFIED", policy(f"http://127.0.0.1:{server.port}/keys", audiences=["a"]))
        assert known(keys) == {}
        assert len(keys._state.configs("RequestAuthentication")) == 1
        await until(lambda: keys.failed > 2)
        assert [words in record.getMessage() for record in caplog.records] == [True]


async def test_an_address_that_is_none_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with fetching(pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy(issuer="testing@secure.istio.io"))
        assert "'testing@secure.istio.io/.well-known/openid-configuration' is no address" in caplog.text


async def test_a_server_that_comes_late_is_found(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.answers["/keys"] = Issuer(ISSUER).jwks
    async with server.running():
        port = server.port
    async with fetching() as keys:
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{port}/keys"))
        assert known(keys) == {}
        keys._state.take_dirt()
        async with server.running(port=port):
            await until(lambda: known(keys))
        assert keys._state.affected(keys._state.dirt) == {("foo", "httpbin")}
        assert keys.pokes  # type: ignore[attr-defined]


async def test_other_keys_are_noticed_and_faults_keep_the_old(server: Server) -> None:
    first, second = Issuer(ISSUER).jwks, Issuer(ISSUER).jwks
    server.answers["/keys"] = first
    async with fetching() as keys:
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/keys"))
        server.status = 503
        await until(lambda: keys.failed > 3)
        assert list(known(keys).values()) == [first]
        keys._state.take_dirt()
        count = keys.fetched
        server.status = 200
        await until(lambda: keys.fetched > count)
        assert not keys._state.dirt
        server.answers["/keys"] = second
        await until(lambda: list(known(keys).values()) == [second])
        assert keys._state.affected(keys._state.dirt) == {("foo", "httpbin")}


async def test_nobody_is_asked_for_what_nobody_needs(server: Server) -> None:
    server.answers["/keys"] = Issuer(ISSUER).jwks
    async with fetching() as keys:
        obj = policy(f"http://127.0.0.1:{server.port}/keys")
        await keys.on_policy("ADDED", obj)
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/keys", name="same"))
        await keys.on_policy("DELETED", obj)
        assert known(keys)
        await keys.on_policy("DELETED", policy(name="same"))
        assert known(keys) == {}
        count = len(server.asked)
        await asyncio.sleep(0.2)
        assert len(server.asked) == count


async def test_a_server_that_never_answers_holds_an_object_for_the_rules_time_alone(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with fetching(pace=SLOW) as keys:
        async with asyncio.timeout(2):
            await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/never", timeout="200ms"))
        assert "no answer in time" in caplog.text
        assert len(keys._state.configs("RequestAuthentication")) == 1


async def test_no_object_is_held_for_longer_than_the_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "HOLD_SECONDS", 0.1)
    async with fetching(pace=SLOW) as keys, asyncio.timeout(2):
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/never", timeout="30s"))
        assert len(keys._state.configs("RequestAuthentication")) == 1


async def test_nothing_is_held_while_istiod_starts(server: Server) -> None:
    server.answers["/keys"] = Issuer(ISSUER).jwks
    async with IssuerKeys(make_state(make_pod()), lambda: None, pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/keys"))
        assert (known(keys), len(keys._state.configs("RequestAuthentication"))) == ({}, 1)
        await keys.all_tried()
        assert known(keys)


async def test_the_issuer_itself_says_where_its_keys_are(server: Server) -> None:
    issuer = f"http://127.0.0.1:{server.port}/realm/"
    server.answers["/keys"] = Issuer(issuer).jwks
    document = "/realm/.well-known/openid-configuration"
    server.answers[document] = f'{{"jwks_uri": "http://127.0.0.1:{server.port}/keys"}}'
    async with fetching(pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy(issuer=issuer))
        assert known(keys) == {KeySource(issuer): server.answers["/keys"]}
        assert [one.partition("/")[2] for one in server.asked] == [document[1:], "keys"]


async def test_a_document_without_an_address_is_said(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.answers["/.well-known/openid-configuration"] = "{}"
    async with fetching(pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy(issuer=f"http://127.0.0.1:{server.port}"))
        assert known(keys) == {}
        assert "has no jwks_uri" in caplog.text


async def test_a_redirect_is_followed(server: Server) -> None:
    server.answers["/keys"] = Issuer(ISSUER).jwks
    async with fetching(pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy(f"http://127.0.0.1:{server.port}/elsewhere"))
        assert known(keys)


@pytest.mark.parametrize("host", ["keys.auth", "keys.auth.svc", "keys.auth.svc.cluster.local"])
async def test_a_name_of_a_service_leads_to_its_address_and_its_port_on_the_wire(host: str) -> None:
    server = Server()
    server.answers["/keys"] = Issuer(ISSUER).jwks
    service = make_service("keys", "auth", column=31, ports=({"name": "http", "port": 80},))
    async with (
        server.running("127.99.0.31", 20080),
        fetching(make_state(make_pod(), services=(service,)), pace=SLOW) as keys,
    ):
        await keys.on_policy("ADDED", policy(f"http://{host}/keys"))
        assert known(keys)
        assert server.asked == [f"{host}/keys"]


async def test_a_headless_service_leads_to_a_pod_and_one_without_pods_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    server.answers["/keys"] = Issuer(ISSUER).jwks
    pod = make_pod("keys", "auth", row=7, ports=(8000,))
    full = make_service("keys", "auth", column=None, ports=({"name": "http", "port": 8000},))
    empty = make_service("nobody", "auth", column=None, ports=({"name": "http", "port": 8000},))
    state = make_state(make_pod(), pod, services=(full, empty))
    async with server.running("127.99.7.1", 8000), fetching(state, pace=SLOW) as keys:
        await keys.on_policy("ADDED", policy("http://keys.auth.svc.cluster.local:8000/keys"))
        assert len(known(keys)) == 1
        await keys.on_policy("ADDED", policy("http://nobody.auth.svc.cluster.local:8000/keys", name="other"))
        assert len(known(keys)) == 1
        assert "nobody.auth.svc.cluster.local" in caplog.text


def tls_of(authority: CertificateAuthority, directory: Path) -> ssl.SSLContext:
    leaf = authority.issue(dns_names=["localhost"], client=False)
    path = directory / "server.pem"
    path.write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_tls_is_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    authority = CertificateAuthority.self_signed()
    server = Server()
    server.answers["/keys"] = Issuer(ISSUER).jwks
    trusting = ssl.create_default_context(cadata=authority.cert_pem.decode())
    async with server.running(tls=tls_of(authority, tmp_path)):
        obj = policy(f"https://localhost:{server.port}/keys")
        async with fetching(pace=SLOW, tls=trusting) as keys:
            await keys.on_policy("ADDED", obj)
            assert known(keys)
        async with fetching(pace=SLOW) as keys:
            await keys.on_policy("ADDED", obj)
            assert known(keys) == {}
            assert "its certificate is not accepted" in caplog.text
        async with fetching(pace=SLOW, tls=trusting) as keys:
            await keys.on_policy("ADDED", policy(f"https://127.0.0.1:{server.port}/keys"))
            assert known(keys) == {}
