"""How configuration reaches Envoy, and what Envoy thinks of it: xDS over REST, by long polling, on a unix socket.

    POST /v3/discovery:{clusters,listeners,secrets}       a DiscoveryRequest; a DiscoveryResponse

1. A request names the version that the proxy runs. It is answered as soon as there is another one; until then it is
   held. So a change is on its way in the moment in which it is known, and nothing is asked in between.
2. The request after an answer is Envoy's verdict. It names the version of the answer: accepted (ACK). It names the
   old one: rejected (NACK); Envoy goes on with what it had, and says why in its log.
3. What was rejected is offered again after a while (1, 2, 4 ... 60 s), because the cause may be outside of the
   configuration, such as a port that an application held.
4. The socket lies in a directory that only this user may enter: private keys travel here. Who asks is told by the
   kernel (SO_PEERCRED), which proxy it is by `node.id`.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#rest-json-polling-subscriptions
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from labkit.embedded.controlplane.delivery import Delivery, Document
from labkit.embedded.controlplane.monitoring import Monitor
from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.model import Key
from labkit.embedded.controlplane.translation.proxy import CLUSTERS_FILE, LISTENERS_FILE

log = logging.getLogger(__name__)

CLUSTERS, LISTENERS, SECRETS = "clusters", "listeners", "secrets"

# Envoy's name of itself with all its extensions is 77 KB; it sends it with every request.
MAX_REQUEST_BYTES = 2**20
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0

SYNCED, STALE, NOT_SENT, ERROR = "SYNCED", "STALE", "NOT SENT", "ERROR"


@dataclass(frozen=True)
class Asked:
    """What matters of a DiscoveryRequest."""

    proxy: Key
    version: str
    names: tuple[str, ...]


def read_request(body: bytes) -> Asked:
    """Read a DiscoveryRequest. Raises ValueError when it is none of a sidecar.

    Envoy writes the fields in the order of their numbers: the version before the node, the names after it. Parsing
    the node's 77 KB would take longer than everything else here.
    """
    head, tail = body[:2000], body[-2000:]
    identity = re.search(rb'"node":\{"id":"([^"]*)"', head)
    if not identity:
        raise ValueError("the request names no node")
    version = re.match(rb'\{"version_info":"([^"]*)"', head)
    names = re.search(rb'"resource_names":(\["[^\]]*\])', tail)
    return Asked(
        proxy_key(identity[1].decode()),
        version[1].decode() if version else "",
        tuple(json.loads(names[1])) if names else (),
    )


def proxy_key(node_id: str) -> Key:
    """The pod of `sidecar~<address>~<pod>.<namespace>~<domain>`."""
    parts = node_id.split("~")
    name, dot, namespace = parts[2].rpartition(".") if len(parts) == 4 else ("", "", "")
    if not (name and dot and namespace):
        raise ValueError(f"{node_id!r} is no id of a proxy")
    return namespace, name


@dataclass
class Subscription:
    """One proxy's interest in one document, and what is known of it."""

    proxy: Key
    kind: str
    path: Path
    holding: int = 0
    """Requests that wait for news."""
    sent: Document | None = None
    sent_at: float = 0.0
    asked_at: float = 0.0
    """When the request came that `sent` was the answer to."""
    sent_to: int = 0
    """Process of the Envoy that got it."""
    awaiting: bool = False
    """Whether Envoy's verdict on `sent` is still to come."""
    acked: str = ""
    acked_at: float = 0.0
    rejected: Document | None = None
    error: str = ""
    retry_at: float = 0.0
    retries: int = 0
    forgiven: Document | None = None
    """What was last taken for a rejection and was none."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def connected(self) -> bool:
        return self.holding > 0 or self.awaiting

    def hear(self, version: str, process: int) -> bool:
        """Take what a request says; True when it rejects what was sent last."""
        verdict = self.awaiting and process == self.sent_to
        self.awaiting = False
        if verdict and self.sent and version != self.sent.version:
            if not self.rejected or self.rejected.version != self.sent.version:
                self.retries, self.error = 0, ""
            self.rejected = self.sent
            self.retry_at = time.monotonic() + min(FIRST_RETRY_SECONDS * 2**self.retries, LAST_RETRY_SECONDS)
            self.retries += 1
            return True
        if version != self.acked or verdict:
            self.acked, self.acked_at = version, time.time()
        if version and verdict:
            self.rejected, self.error, self.retries = None, "", 0
        return False

    def forgive(self, document: Document) -> None:
        """What was taken for a rejection was none: it is sent again at once."""
        self.forgiven = document
        if self.rejected is document:
            self.rejected, self.error, self.retries = None, "", 0
            self.changed.set()

    def due(self, document: Document | None, version: str) -> bool:
        """Whether a proxy that runs `version` is to be sent `document` now."""
        if document is None or document.version == version:
            return False
        rejected = self.rejected is not None and self.rejected.version == document.version
        return not rejected or time.monotonic() >= self.retry_at

    def patience(self, document: Document | None) -> float | None:
        """How long to wait at most before looking again."""
        if document and self.rejected and self.rejected.version == document.version:
            return max(self.retry_at - time.monotonic(), 0.01)
        return None

    def status(self, document: Document | None) -> str:
        """One of the four words of istioctl."""
        if document is None or not (self.acked or self.sent):
            return NOT_SENT
        if self.acked == document.version:
            return SYNCED
        return ERROR if self.rejected and self.rejected.version == document.version else STALE

    def settled(self, document: Document | None) -> bool:
        """Whether nothing more is to be heard of this document: taken, rejected, or nobody is there."""
        if document is None or not self.connected:
            return True
        return self.status(document) in (SYNCED, ERROR)


Rejected = Callable[[Subscription, Document], Awaitable[None]]
Taken = Callable[[Subscription], None]


class XdsServer:
    """Answers proxies from a Delivery; knows who runs what."""

    def __init__(
        self,
        delivery: Delivery,
        on_rejected: Rejected | None = None,
        on_taken: Taken | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self.delivery = delivery
        self.monitor = monitor or Monitor()
        self.on_rejected = on_rejected
        self.on_taken = on_taken
        """Told of a proxy that runs what it shall, or is gone; also where nothing was rejected before."""
        self.rejections = 0
        self._subscriptions: dict[tuple[Key, str, tuple[str, ...]], Subscription] = {}
        self._by_path: dict[Path, Subscription] = {}
        self._heard = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- serving

    async def start(self, path: Path) -> None:
        """Listen on a unix socket, in the place of whoever listened there before."""
        self._loop = asyncio.get_running_loop()
        self.delivery.watchers.append(self._on_document)
        self.delivery.removed.append(self._on_removed)
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post(r"/v3/discovery:{kind:clusters|listeners|secrets}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1, keepalive_timeout=3600
        )
        await self._runner.setup()
        await web.SockSite(self._runner, _listen(path)).start()

    async def stop(self) -> None:
        """Close all connections. Proxies keep what they have, and come back to who listens next."""
        if self._on_document in self.delivery.watchers:
            self.delivery.watchers.remove(self._on_document)
        for task in self._tasks:
            task.cancel()
        if self._runner:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        process, user = _peer(request)
        if user != os.getuid():
            raise web.HTTPForbidden(text="only proxies of the user who runs istiod are answered")
        try:
            asked = read_request(await request.read())
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        subscription = self._subscription(asked, request.match_info["kind"])
        before, asked_at = subscription.rejected, time.time()
        self._measure(subscription, asked, process)
        if subscription.hear(asked.version, process) and subscription.rejected:
            self._reject(subscription, subscription.rejected)
        elif before and not subscription.rejected:
            self._take(subscription)
        self._heard.set()
        document = await self._news(subscription, asked.version)
        body = document.response()
        response = web.Response(body=body, content_type="application/json")
        subscription.sent, subscription.sent_to, subscription.awaiting = document, process, True
        subscription.sent_at, subscription.asked_at = time.time(), asked_at
        self.monitor.sent(subscription.kind, len(body))
        try:
            await response.prepare(request)
            await response.write_eof()
        except BaseException:
            subscription.awaiting = False  # Envoy never saw it; its next request is no verdict
            raise
        return response

    def _measure(self, subscription: Subscription, asked: Asked, process: int) -> None:
        """Count how long it took until the proxy runs what it was sent last, if that is what it says now."""
        sent = subscription.sent
        if (
            sent is None
            or not subscription.awaiting
            or (asked.version, process) != (sent.version, subscription.sent_to)
        ):
            return
        now = time.time()
        since = max(sent.written, subscription.asked_at)  # a proxy that was not there could not be told
        self.monitor.taken(
            subscription.kind, push_seconds=now - subscription.sent_at, converged_seconds=max(now - since, 0.0)
        )

    def _subscription(self, asked: Asked, kind: str) -> Subscription:
        key = (asked.proxy, kind, asked.names)
        if key not in self._subscriptions:
            directory = self.delivery.directory(asked.proxy)
            paths = {CLUSTERS: directory / CLUSTERS_FILE, LISTENERS: directory / LISTENERS_FILE}
            path = paths.get(kind) or tls.secret_file(directory, asked.names[0] if asked.names else "")
            self._subscriptions[key] = self._by_path[path] = Subscription(asked.proxy, kind, path)
        return self._subscriptions[key]

    async def _news(self, subscription: Subscription, version: str) -> Document:
        """The document that is to be sent, as soon as there is one."""
        subscription.holding += 1
        try:
            while True:
                document = self.delivery.document(subscription.path)
                if document and subscription.due(document, version):
                    return document
                if document and document.version == version:
                    subscription.rejected = None  # what was rejected is no longer wanted
                    self._take(subscription)
                subscription.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(subscription.patience(document)):
                        await subscription.changed.wait()
        finally:
            subscription.holding -= 1

    def _on_document(self, path: Path) -> None:
        subscription = self._by_path.get(path)
        if subscription and self._loop:
            # Tests write from other threads.
            self._loop.call_soon_threadsafe(subscription.changed.set)

    def _reject(self, subscription: Subscription, document: Document) -> None:
        if subscription.retries > 1:
            return  # offered again, rejected again: said already
        log.warning("%s.%s rejects its %s %s", *reversed(subscription.proxy), subscription.kind, document.version)
        task = asyncio.ensure_future(self._judge(subscription, document))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(self, subscription: Subscription, document: Document) -> None:
        """Have the rejection explained, and count it. A secret's is counted once it is known to be one."""
        if subscription.kind != SECRETS:
            self._count(subscription)
        if self.on_rejected:
            await self.on_rejected(subscription, document)
        if subscription.kind == SECRETS and subscription.forgiven is not document:
            self._count(subscription)

    def _count(self, subscription: Subscription) -> None:
        self.rejections += 1
        self.monitor.rejected(subscription.kind)

    def _take(self, subscription: Subscription) -> None:
        if self.on_taken:
            self.on_taken(subscription)

    # -- knowing

    async def settled(self, paths: Iterable[Path], seconds: float) -> bool:
        """Wait until the proxies that listen have said what they think of these documents; False when not in time."""
        waiting = [self._by_path[path] for path in paths if path in self._by_path]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self._heard.clear()
                    waiting = [one for one in waiting if not one.settled(self.delivery.document(one.path))]
                    if not waiting:
                        return True
                    await self._heard.wait()
        return False

    def _on_removed(self, proxy: Key) -> None:
        # One that still asks may be back in a moment: a pod whose address was gone for one.
        for key, one in list(self._subscriptions.items()):
            if key[0] == proxy and not one.connected:
                self._by_path.pop(self._subscriptions.pop(key).path, None)
                self._take(one)

    def subscriptions(self, proxy: Key) -> Iterator[Subscription]:
        """What a proxy asks for."""
        return (one for key, one in self._subscriptions.items() if key[0] == proxy)


def _listen(path: Path) -> socket.socket:
    """A socket at `path`. The rename takes the place of another one, whose connections live on."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(aside))
    aside.chmod(0o600)
    listener.listen(512)
    listener.setblocking(False)
    aside.rename(path)
    return listener


def _peer(request: web.Request) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them; unix(7)."""
    connection: Any = request.transport and request.transport.get_extra_info("socket")
    if connection is None:
        raise web.HTTPForbidden(text="nobody is there any more")
    process, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return process, user
