"""Fetches the keys of token issuers, and keeps them fresh: RequestAuthentications say where, proxies get them.

The rules are those of pilot/pkg/model/jwks_resolver.go of istio/istio:
1. istiod asks, and not the proxy: in plaintext, or over TLS with the machine's own authorities.
2. Without a `jwksUri` the issuer's OpenID document says where (https://openid.net/specs/openid-connect-discovery-1_0.html).
3. Keys are asked for again every 20 minutes. What cannot be fetched leaves the old keys in force; where there are none,
   every token fails.
Istio asks while it pushes, once, and then goes on in the background. Here a push never waits: a new object is held
back instead, until its keys are there or could not be fetched, for five seconds at most.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from labkit.embedded.addresses import wire_port
from labkit.embedded.controlplane.state import State
from labkit.errors import InputError
from labkit.policy.jwks import check_jwks
from labkit.policy.request_authentication import KeySource, parse_request_authentication

log = logging.getLogger(__name__)

Object = dict[str, Any]

FRESH_SECONDS = 20 * 60.0
RETRY_SECONDS = 1.0
EAGER_TRIES = 8
"""So often a failed fetch is repeated at once, RETRY_SECONDS apart; then every PATIENT_SECONDS."""
PATIENT_SECONDS = 60.0
HOLD_SECONDS = 5.0
MAX_BYTES = 2**20
DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Pace:
    """How long to wait: until keys are asked for again, between the first tries after a failure, and between later."""

    fresh: float = FRESH_SECONDS
    retry: float = RETRY_SECONDS
    patient: float = PATIENT_SECONDS


@dataclass
class _Watched:
    """One source that somebody asks for."""

    timeout: float
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class IssuerKeys:
    """Use as `async with IssuerKeys(state, poke) as keys:`; `on_policy` takes events as an Informer calls handlers."""

    kind = "RequestAuthentication"

    def __init__(
        self, state: State, poke: Callable[[], None], *, pace: Pace | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.fetched = 0
        self.failed = 0
        self._state = state
        self._poke = poke
        self._pace = pace or Pace()
        self._tls = tls
        self._watched: dict[KeySource, _Watched] = {}
        self._holding = False
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_MeshResolver(self._state),
            ssl=self._tls or True,
            force_close=True,
            # The cluster's addresses change with its Services.
            use_dns_cache=False,
        )
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [one.task for one in self._watched.values() if one.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watched.clear()
        if self._session:
            await self._session.close()

    async def on_policy(self, event: str, obj: Object) -> None:
        """Hold an object back until its keys have been asked for, then hand it on."""
        if event != "DELETED" and self._holding:
            await self._first_answers(self._watch(_sources(obj)))
        self._state.on_config(self.kind, event, obj)
        self.follow()

    async def all_tried(self) -> None:
        """Wait until everything that is known to be needed has been asked for once. From now on objects are held."""
        self.follow()
        await self._first_answers(self._watched.values())
        self._holding = True

    def follow(self) -> None:
        """Ask for what RequestAuthentications need now, and for nothing else."""
        wanted = {source: seconds for one in self._state.configs(self.kind) for source, seconds in one.sources.items()}
        for source in self._watched.keys() - wanted.keys():
            if task := self._watched.pop(source).task:
                task.cancel()
            self._state.on_jwks(source, None)
        self._watch(wanted)

    def _watch(self, wanted: dict[KeySource, float]) -> list[_Watched]:
        for source, seconds in wanted.items():
            if source in self._watched:
                self._watched[source].timeout = seconds
            else:
                watched = self._watched[source] = _Watched(seconds)
                watched.task = asyncio.create_task(self._keep(source, watched))
        return [self._watched[source] for source in wanted]

    async def _first_answers(self, watched: Iterable[_Watched]) -> None:
        waiting = [asyncio.ensure_future(one.tried.wait()) for one in watched if not one.tried.is_set()]
        if waiting:
            await asyncio.wait(waiting, timeout=HOLD_SECONDS)
            for one in waiting:
                one.cancel()

    async def _keep(self, source: KeySource, watched: _Watched) -> None:
        failures = 0
        while True:
            try:
                keys = await self._fetch(source, watched.timeout)
            except Exception as error:  # whatever a stranger answers, it must not end the watch
                failures += 1
                self.failed += 1
                if failures == 1:
                    log.warning("the keys of token issuer %s cannot be fetched: %s", source, _words(error))
                pause = self._pace.retry if failures < EAGER_TRIES else self._pace.patient
            else:
                if failures:
                    log.info("the keys of token issuer %s are there after %d failures", source, failures)
                failures = 0
                self.fetched += 1
                self._state.on_jwks(source, keys)
                self._poke()
                pause = self._pace.fresh
            watched.tried.set()
            await asyncio.sleep(pause)

    async def _fetch(self, source: KeySource, seconds: float) -> str:
        async with asyncio.timeout(seconds):
            uri = source.uri or await self._discover(source.issuer)
            keys = await self._get(uri)
        check_jwks(keys)
        return keys

    async def _discover(self, issuer: str) -> str:
        address = issuer.rstrip("/") + DISCOVERY
        document = json.loads(await self._get(address))
        uri = document.get("jwks_uri") if isinstance(document, dict) else None
        if not isinstance(uri, str):
            raise InputError(f"The OpenID document {address} has no jwks_uri.")
        return uri

    async def _get(self, uri: str) -> str:
        assert self._session is not None, "use IssuerKeys as a context manager"
        url = URL(uri)
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(f"{uri!r} is no address of the form http://HOST/PATH or https://HOST/PATH.")
        # An address is not looked up, so its port has to be moved here.
        url = url.with_port(wire_port(url.host, url.port or 0))
        async with self._session.get(url) as response:
            body = b""
            async for part in response.content.iter_chunked(2**16):
                body += part
                if len(body) > MAX_BYTES:
                    raise InputError(f"{uri} answers more than {MAX_BYTES} bytes.")
            if not 200 <= response.status < 300:
                raise InputError(f"{uri} answers {response.status}: {body[:100].decode(errors='replace')!r}")
            return body.decode()


class _MeshResolver(AbstractResolver):
    """Names of Services lead into the cluster; all others are looked up as everybody does."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._others = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self._state.address_of(host, port)
        if found is None:
            return await self._others.resolve(host, port, family)
        address, wire = found
        return [
            {
                "hostname": host,
                "host": address,
                "port": wire,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        await self._others.close()


def _sources(obj: Object) -> dict[KeySource, float]:
    try:
        return parse_request_authentication(obj).sources
    except InputError:
        return {}  # it will be ignored, and the log says why


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not accepted, because no authority of this machine vouches for it ({error})"
    return str(error) or repr(error)
