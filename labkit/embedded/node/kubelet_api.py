"""The kubelet's HTTPS API: logs, exec, attach, port-forward, the list of pods. The API server is its only client.

Certificates come from the cluster's own CA, and a caller needs the token that both read from the cluster's
directory; another user of the machine can do neither.
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import os
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from aiohttp import web

from labkit.embedded.node import portforward
from labkit.embedded.node.container import Container
from labkit.embedded.node.logs import LogFile, LogOptions, read_log
from labkit.embedded.node.pod import PodWorker
from labkit.embedded.node.sandbox import NodeContext
from labkit.embedded.node.streams import PROTOCOLS, StreamOptions, attach_to_container, exec_in_container
from labkit.embedded.paths import ClusterPaths
from labkit.errors import MachineError
from labkit.pki import CertificateAuthority

KUBELET_PORT = 10250
TTL = timedelta(days=365)  # issued anew at each start
PORT_PATIENCE = 1.0  # seconds; see _listen
HEARTBEAT = 30.0  # seconds between websocket pings: a client that vanished must not keep a program running


def kubelet_token(paths: ClusterPaths) -> str:
    """The token that the API server shows to the kubelet; whoever comes first makes it."""
    file = paths.pki_dir / "kubelet-token"
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    return file.read_text().strip()


def server_context(paths: ClusterPaths, address: str, name: str) -> ssl.SSLContext:
    """TLS with a fresh certificate of the cluster's CA for the node's address and name."""
    authority = CertificateAuthority.from_pem(
        (paths.pki_dir / "ca.crt").read_bytes(), (paths.pki_dir / "ca.key").read_bytes()
    )
    leaf = authority.issue(
        ip_addresses=[address], dns_names=[name], common_name=f"system:node:{name}", ttl=TTL, client=False
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate, key = paths.pki_dir / "kubelet.crt", paths.pki_dir / "kubelet.key"
    certificate.write_bytes(leaf.chain_pem)
    key.touch(mode=0o600)
    key.write_bytes(leaf.key_pem)
    context.load_cert_chain(certificate, key)
    return context


class KubeletApi:
    """Serves the pods that `workers` yields."""

    def __init__(self, node: NodeContext, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._paths = node.paths
        self._address = node.host_ip
        self._node_name = node.node_name
        self._logs = node.logs
        self._workers = workers
        self._runner: web.AppRunner | None = None
        self._token = ""

    async def start(self) -> None:
        """Listen. Raises MachineError when the port is taken."""
        self._token = kubelet_token(self._paths)
        app = web.Application(middlewares=[self._authenticate])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._pods),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._container_logs),
                web.get("/exec/{namespace}/{pod}/{container}", self._exec),
                web.get("/attach/{namespace}/{pod}/{container}", self._attach),
                web.get("/portForward/{namespace}/{pod}", self._port_forward),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        context = server_context(self._paths, self._address, self._node_name)
        try:
            await self._listen(context)
        except OSError as error:
            await self.stop()
            raise MachineError(
                f"The kubelet cannot listen on {self._address}:{KUBELET_PORT}: {error.strerror}.",
                meaning="Another program uses this address, perhaps another cluster.",
                next_step="Run 'labkit status' to see clusters, and 'labkit down' to end one.",
                address=self._address,
                port=KUBELET_PORT,
            ) from error

    async def _listen(self, context: ssl.SSLContext) -> None:
        """Take the port; for a moment, what a killed supervisor was just starting may still hold it."""
        assert self._runner is not None
        deadline = time.monotonic() + PORT_PATIENCE
        while True:
            try:
                await web.TCPSite(self._runner, self._address, KUBELET_PORT, ssl_context=context).start()
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _authenticate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), self._token.encode()):
            raise web.HTTPUnauthorized(text="Unauthorized")
        return await handler(request)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, _: web.Request) -> web.Response:
        pods = [worker.pod for worker in self._workers()]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})

    def _find_pod(self, request: web.Request) -> PodWorker:
        namespace, name = (request.match_info[key] for key in ("namespace", "pod"))
        same = (w for w in self._workers() if (w.record.namespace, w.record.name) == (namespace, name))
        worker = max(same, key=_created, default=None)  # a pod that is still ending may have the name, too
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{name}" not found on {self._node_name}')
        return worker

    def _find(self, request: web.Request) -> tuple[PodWorker, Container]:
        worker, wanted = self._find_pod(request), request.match_info["container"]
        container = worker.container(wanted)
        if container is None:
            raise web.HTTPNotFound(text=f"container {wanted} is not valid for pod {worker.record.name}")
        return worker, container

    # Logs

    async def _container_logs(self, request: web.Request) -> web.StreamResponse:
        worker, container = self._find(request)
        options = _log_options(request)
        previous = request.query.get("previous") in ("1", "true")
        # A container that waits for its next start has ended: its last run is the previous one, too.
        before = previous and "waiting" not in container.record.state
        attempt = container.record.attempt - (1 if before else 0)
        path = container.log_file(attempt)
        if attempt < 1 or not path.exists():
            raise web.HTTPBadRequest(text=_no_log(worker, container, previous))
        file = self._logs.watch(path) if not previous else LogFile(path)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        ended = container.ended_event(attempt)
        with contextlib.suppress(ConnectionError):
            async for piece in read_log(file, options, ended):
                await response.write(piece)
            await response.write_eof()
        return response

    # Streams

    async def _websocket(self, request: web.Request, protocols: tuple[str, ...] = PROTOCOLS) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=protocols, heartbeat=HEARTBEAT, max_msg_size=0)
        if not socket.can_prepare(request).ok:
            raise web.HTTPBadRequest(text="the kubelet streams over websockets only")
        await socket.prepare(request)
        return socket

    def _running(self, request: web.Request) -> Container:
        worker, container = self._find(request)
        if not container.record.running:
            raise web.HTTPBadRequest(text=f"container {container.name} of pod {worker.record.name} is not running")
        return container

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._running(request)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least 1 command for the container")
        socket = await self._websocket(request)
        await exec_in_container(socket, container, command, StreamOptions.of(request.query))
        return socket

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        container = self._running(request)
        socket = await self._websocket(request)
        log = self._logs.watch(container.log_file())
        ended = container.ended_event(container.record.attempt)
        await attach_to_container(socket, container, StreamOptions.of(request.query), log, ended)
        return socket

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._find_pod(request)
        port = request.query.get("port", "")
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise web.HTTPBadRequest(text=f'unable to parse "{port}" as a port')
        socket = await self._websocket(request, portforward.PROTOCOLS)
        await portforward.forward(socket, worker.sandbox, worker.record.name, int(port))
        return socket


def _created(worker: PodWorker) -> tuple[str, int]:
    metadata = worker.pod["metadata"]
    return str(metadata.get("creationTimestamp", "")), 0 if "deletionTimestamp" in metadata else 1


def _log_options(request: web.Request) -> LogOptions:
    query = request.query
    try:
        since = time.time() - float(query["sinceSeconds"]) if "sinceSeconds" in query else None
        if "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"]).timestamp()
        tail = int(query["tailLines"]) if "tailLines" in query else None
        limit = int(query["limitBytes"]) if "limitBytes" in query else None
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"invalid log option: {error}") from error
    flags = {key: query.get(key, "").lower() in ("1", "true") for key in ("follow", "timestamps")}
    return LogOptions(flags["follow"], flags["timestamps"], tail, since, limit)


def _no_log(worker: PodWorker, container: Container, previous: bool) -> str:
    pod, name = worker.record.name, container.name
    if previous:
        return f'previous terminated container "{name}" in pod "{pod}" not found'
    why = (container.record.state.get("waiting") or {}).get("reason", "PodInitializing")
    return f'container "{name}" in pod "{pod}" is waiting to start: {why}'
