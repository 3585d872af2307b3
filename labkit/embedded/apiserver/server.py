"""The server: TLS and token at the door, routes to discovery, resources and streams, errors as Status objects."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hmac
import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from aiohttp import web

from labkit.embedded import addresses
from labkit.embedded.apiclient import COMPONENT_AGENT
from labkit.embedded.apiserver import discovery, identity, openapi_protobuf, seeds
from labkit.embedded.apiserver.admission import Admission
from labkit.embedded.apiserver.customresources import kinds_of
from labkit.embedded.apiserver.failures import StatusError, method_not_allowed, no_such_path, too_large, unauthorized
from labkit.embedded.apiserver.handlers import Handlers
from labkit.embedded.apiserver.openapi import OpenAPI
from labkit.embedded.apiserver.proxying import Proxy
from labkit.embedded.apiserver.registry import Registry
from labkit.embedded.apiserver.requests import parse_accept, parse_target
from labkit.embedded.apiserver.resources import CRDS, SERVICES, Catalogue
from labkit.embedded.apiserver.reviews import ADMINISTRATOR, User, current_user, impersonated
from labkit.embedded.apiserver.storage import Change, Record, Storage, encode
from labkit.embedded.apiserver.streams import Streams
from labkit.embedded.apiserver.subresources import Subresources
from labkit.embedded.paths import ClusterPaths
from labkit.errors import MachineError

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024  # Kubernetes' own limit of a request body
EVENTS = "/events"
EVENTS_LIVE = timedelta(hours=1)
PRUNE_SECONDS = 300.0  # exactness does not matter, waking up does
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})  # for anonymous probes, as in Kubernetes


class ApiServer:
    """One embedded cluster's API server. `start` returns when it answers; `stop` when it no longer does."""

    def __init__(self, *, paths: ClusterPaths, block: int, port: int = 6443) -> None:
        self.paths = paths
        self.block = block
        self.port = port
        self.address = addresses.node_ip(block)
        self._runner: web.AppRunner | None = None
        self._storage: Storage | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._last_used = time.monotonic()
        self._in_use = 0

    @property
    def last_used(self) -> float:
        """When somebody other than the cluster's own components asked last; a cluster that nobody uses may end."""
        return time.monotonic() if self._in_use else self._last_used

    async def start(self) -> None:
        """Open the store, seed it, listen. Raises MachineError when the port is taken."""
        self.paths.make()
        identity.ensure_certificates(self.paths, self.address)
        self._token = identity.ensure_token(self.paths.pki_dir / "admin-token")
        identity.ensure_token(self.paths.pki_dir / "kubelet-token")
        self._storage = storage = Storage(self.paths.database)
        self._catalogue = Catalogue()
        self._openapi_documents = OpenAPI(self._catalogue)
        for record in storage.records(CRDS):
            self._serve_definition(record)
        storage.listen(CRDS, self._on_definition)
        storage.listen(SERVICES, self._on_service)
        self._admission = Admission(storage, self._catalogue)
        self._registry = registry = Registry(storage, self._catalogue, self._admission, self.block)
        self._streams = Streams(storage, self.paths)
        self._proxy = Proxy(storage, self._streams)
        self._handlers = Handlers(registry, Subresources(registry, self._streams, self._proxy, self._token))
        await seeds.plant(registry, self.block, self.port)
        await self._listen()
        self._pruning = asyncio.create_task(self._prune_events())
        identity.write_kubeconfig(self.paths, self.address, self.port, self._token)
        log.info("API server at https://%s:%d", self.address, self.port)

    async def _listen(self) -> None:
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5, keepalive_timeout=75
        )
        await runner.setup()
        site = web.TCPSite(runner, self.address, self.port, ssl_context=identity.server_tls(self.paths), backlog=512)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            assert self._storage is not None
            self._storage.close()
            raise MachineError(
                f"The API server cannot listen on {self.address}:{self.port}: {error.strerror or error}.",
                meaning="Another cluster or program has this address.",
                next_step="Run 'labkit status' to see which clusters run, or choose another name or block.",
                address=self.address,
                port=self.port,
            ) from error
        self._runner = runner

    async def _prune_events(self) -> None:
        """Forget Events after an hour, as Kubernetes does, so that a cluster of days does not fill with them."""
        while self._storage:
            oldest = (datetime.now(UTC) - EVENTS_LIVE).strftime("%Y-%m-%dT%H:%M:%SZ")
            for record in self._storage.records(EVENTS):
                event = record.load()
                last = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
                if str(last) < oldest:
                    self._storage.remove(EVENTS, record.namespace, record.name)
            await asyncio.sleep(PRUNE_SECONDS)

    async def stop(self) -> None:
        """End all requests, close the store."""
        if self._pruning:
            self._pruning.cancel()
        if self._runner:
            self._handlers.end_watches()
            await self._runner.cleanup()
            self._runner = None
            closers: tuple[Admission | Proxy | Streams, ...] = (self._admission, self._proxy, self._streams)
            for part in closers:
                await part.close()
        if self._storage:
            self._storage.close()
            self._storage = None

    # Custom kinds come and go.

    def _serve_definition(self, record: Record) -> None:
        self._catalogue.set_custom(record.name, kinds_of(record.load()))

    def _on_definition(self, change: Change) -> None:
        if change.after:
            self._serve_definition(change.after)
        elif change.before and self._storage:
            spec = change.before.load()["spec"]
            resource = f"{spec['group']}/{spec['names']['plural']}"
            for record in self._storage.records(resource):
                self._storage.remove(resource, record.namespace, record.name)
            self._catalogue.drop_custom(change.before.name)
            self._handlers.end_watches(resource)

    def _on_service(self, change: Change) -> None:
        """The Service of the API server itself comes back, as the real one's does."""
        gone = change.before if change.after is None else None
        if gone and (gone.namespace, gone.name) == ("default", "kubernetes"):
            self._replanting = asyncio.ensure_future(seeds.plant(self._registry, self.block, self.port))

    # Requests.

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            if user := self._authenticate(request):
                # Of this connection's task: its next request sets it anew.
                current_user.set(impersonated(request.headers, user))
            with self._noted(request):
                return await self._route(request)
        except StatusError as failure:
            return _failure(failure)
        except web.HTTPRequestEntityTooLarge:
            return _failure(too_large(BODY_LIMIT))
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path_qs)
            return _failure(StatusError(500, "InternalError", "Internal error occurred: see the cluster's log"))

    @contextlib.contextmanager
    def _noted(self, request: web.Request) -> Iterator[None]:
        """Keep `last_used` true: a request of a person counts from its start to its end, a watch of hours too."""
        if request.headers.get("User-Agent", "").startswith(COMPONENT_AGENT):
            yield
            return
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
            self._last_used = time.monotonic()

    def _authenticate(self, request: web.Request) -> User | None:
        """Who asks; None is anybody, who may see whether the server lives. Raises 401."""
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        if user := identity.certificate_user(certificate, time.time()):
            return user
        header = request.headers.get("Authorization", "")
        scheme, _, token = header.partition(" ")
        given = token.strip().encode(errors="surrogateescape")  # what is no UTF-8 in a header, aiohttp hands on so
        if scheme.lower() == "bearer" and hmac.compare_digest(given, self._token.encode()):
            return ADMINISTRATOR
        if header or request.path not in OPEN_PATHS:
            raise unauthorized()
        return None

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path in ("/healthz", "/livez", "/readyz") or path.startswith(("/livez/", "/readyz/", "/healthz/")):
            return web.Response(text=self._health(request, path))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if target := parse_target(parts):
            return await self._handlers.handle(request, target)
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed() if parts[0] in ("api", "apis", "version") else no_such_path()
        if parts[0] == "openapi":
            return await self._openapi(request, parts[1:])
        return self._document(request, [part for part in parts if part])

    def _health(self, request: web.Request, path: str) -> str:
        """`ok`, or with ?verbose the list of what was looked at: every part that can stop without the server."""
        if "verbose" not in request.query or path.count("/") > 1:
            return "ok"
        looked = {"ping": True, "storage": self._storage is not None, "events": self._pruning is not None}
        lines = [f"[{'+' if good else '-'}]{name} {'ok' if good else 'failed'}" for name, good in looked.items()]
        return "\n".join([*lines, f"{path.removeprefix('/')} check passed", ""])

    async def _openapi(self, request: web.Request, parts: list[str]) -> web.Response:
        """OpenAPI v3 in JSON; v2 in JSON, and in the protobuf that kubectl wants."""
        media = "application/json"
        if parts == ["v3"]:
            return web.Response(body=encode(self._openapi_documents.index()), content_type="application/json")
        if parts[:2] == ["v3", "api"] and len(parts) == 3:
            made = await self._openapi_documents.v3("", parts[2])
        elif parts[:2] == ["v3", "apis"] and len(parts) == 4:
            made = await self._openapi_documents.v3(parts[2], parts[3])
        elif parts == ["v2"]:
            # kubectl names protobuf first, or alone; whoever reads JSON says so first.
            accepted = request.headers.get("Accept", "*/*").split(",")[0]
            if "protobuf" in accepted:
                made, media = await self._openapi_documents.v2(protobuf=True), openapi_protobuf.MEDIA_TYPE
            else:
                made = await self._openapi_documents.v2(protobuf=False)
        else:
            made = None
        if made is None:
            raise no_such_path()
        headers = {"Content-Type": media}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=made, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=gzip.decompress(made), headers=headers)

    def _document(self, request: web.Request, parts: list[str]) -> web.Response:
        """What the server says about itself."""
        aggregated = parse_accept(request.headers.get("Accept", "")).discovery
        found = None
        if parts in (["api"], ["apis"]) and aggregated:
            body = encode(discovery.aggregated(self._catalogue, aggregated, core=parts == ["api"]))
            media = f"application/json;g=apidiscovery.k8s.io;v={aggregated};as=APIGroupDiscoveryList"
            return web.Response(body=body, headers={"Content-Type": media})
        if not parts:
            found = discovery.paths(self._catalogue)
        elif parts == ["version"]:
            found = discovery.VERSION
        elif parts == ["api"]:
            found = discovery.api_versions(f"{self.address}:{self.port}")
        elif parts == ["apis"]:
            found = discovery.api_groups(self._catalogue)
        elif parts[0] == "api" and len(parts) == 2:
            found = discovery.api_resources(self._catalogue, "", parts[1])
        elif parts[0] == "apis" and len(parts) == 2:
            found = discovery.api_group(self._catalogue, parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            found = discovery.api_resources(self._catalogue, parts[1], parts[2])
        if found is None:
            raise no_such_path()
        return web.Response(body=encode(found), content_type="application/json")


def _failure(failure: StatusError) -> web.Response:
    body = json.dumps(failure.as_status()).encode()
    response = web.Response(body=body, status=failure.code, content_type="application/json")
    if failure.code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="kubernetes"'
    return response


__all__ = ["ApiServer"]
