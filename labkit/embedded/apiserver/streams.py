"""Streams to a pod's node: logs, exec, attach, port-forward. The API server finds the kubelet and passes bytes on.

Nothing of the streams is understood here: a websocket's messages go through as they come, in both directions, under
the subprotocol that client and kubelet agree on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from labkit.embedded.apiserver.failures import StatusError, bad_request, not_found, unavailable
from labkit.embedded.apiserver.resources import NODES, PODS
from labkit.embedded.apiserver.storage import Storage
from labkit.embedded.paths import ClusterPaths

Object = dict[str, Any]

# Offered to the kubelet when a client names no subprotocol of its own, as some libraries do.
_DEFAULT_PROTOCOLS = ("v4.channel.k8s.io",)
_CONNECT_SECONDS = 5.0  # a kubelet on the same machine answers in milliseconds or not at all


class Streams:
    """Connections to kubelets on behalf of clients."""

    def __init__(self, storage: Storage, paths: ClusterPaths) -> None:
        self.storage = storage
        self.paths = paths
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    def session(self) -> aiohttp.ClientSession:
        """The connection pool towards kubelets, which the cluster's CA vouches for."""
        if self._session is None:
            context = ssl.create_default_context(cafile=self.paths.pki_dir / "ca.crt")
            token = (self.paths.pki_dir / "kubelet-token").read_text().strip()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=0),
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                auto_decompress=False,
            )
        return self._session

    def kubelet_url(self, node_name: str) -> str:
        """Where the kubelet of a node answers. Raises 404 or 503."""
        record = self.storage.get(NODES, "", node_name)
        if record is None:
            raise not_found("nodes", "", node_name)
        status = record.load().get("status") or {}
        addresses = {a.get("type"): a.get("address") for a in status.get("addresses") or []}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        if not addresses.get("InternalIP") or not port:
            raise unavailable(f"the node {node_name} has not said yet where its kubelet listens")
        return f"https://{addresses['InternalIP']}:{port}"

    def _container_url(self, verb: str, namespace: str, name: str, query: Mapping[str, str]) -> str:
        record = self.storage.get(PODS, namespace, name)
        if record is None:
            raise not_found("pods", "", name)
        spec = record.load().get("spec") or {}
        if not spec.get("nodeName"):
            raise bad_request(f"pod {name} does not have a host assigned")
        root = self.kubelet_url(spec["nodeName"])
        if verb == "portForward":
            return f"{root}/portForward/{namespace}/{name}"
        return f"{root}/{verb}/{namespace}/{name}/{_container(spec, name, query.get('container', ''))}"

    async def logs(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """GET pods/<name>/log"""
        url = self._container_url("containerLogs", namespace, name, request.query)
        try:
            async with self.session().get(url, params=_query(request)) as answer:
                if answer.status != 200:
                    raise await _refused(answer)
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(request)
                with contextlib.suppress(ConnectionResetError):
                    async for block in answer.content.iter_any():
                        await response.write(block)
                    await response.write_eof()
                return response
        except aiohttp.ClientError as error:
            raise unavailable(f"error trying to reach the kubelet: {error}") from None

    async def upgrade(self, request: web.Request, verb: str, namespace: str, name: str) -> web.StreamResponse:
        """exec, attach and portForward: a websocket to the client, another to the kubelet."""
        url = self._container_url(verb, namespace, name, request.query)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            # What kubectl up to 1.29 does first; it reads this message to its user.
            raise bad_request(
                "Upgrade request required: this API server streams over websockets; use kubectl 1.30 or newer, or set "
                "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true with kubectl 1.29"
            )
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = tuple(word.strip() for word in offered.split(",") if word.strip()) or _DEFAULT_PROTOCOLS
        try:
            upstream = await self.session().ws_connect(
                url, params=_query(request), protocols=protocols, max_msg_size=0, autoping=True
            )
        except aiohttp.WSServerHandshakeError as error:
            raise await self._handshake_failure(url, request, error) from None
        except aiohttp.ClientError as error:
            raise unavailable(f"error trying to reach the kubelet: {error}") from None
        async with upstream:
            chosen = (upstream.protocol,) if upstream.protocol and offered else ()
            downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await downstream.prepare(request)
            await _join(downstream, upstream)
        return downstream

    async def _handshake_failure(
        self, url: str, request: web.Request, error: aiohttp.WSServerHandshakeError
    ) -> StatusError:
        """A failed handshake hides the kubelet's words, so ask again without one."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.session().get(url, params=_query(request)) as answer:
                if answer.status != 200:
                    return await _refused(answer)
        return StatusError(error.status or 500, "BadRequest", f"the kubelet refused the stream: {error.message}")


def _container(spec: Object, pod: str, wanted: str) -> str:
    every = [c["name"] for key in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(key) or []]
    if wanted:
        if wanted not in every:
            raise bad_request(f"container {wanted} is not valid for pod {pod}")
        return wanted
    names = [container["name"] for container in spec.get("containers") or []]
    if len(names) == 1:
        return str(names[0])
    inits = [container["name"] for container in spec.get("initContainers") or []]
    more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise bad_request(f"a container name must be specified for pod {pod}, choose one of: [{' '.join(names)}]{more}")


def _query(request: web.Request) -> list[tuple[str, str]]:
    return [(key, value) for key, value in request.query.items() if key != "container"]


async def _refused(answer: aiohttp.ClientResponse) -> StatusError:
    text = (await answer.text(errors="replace")).strip() or answer.reason or ""
    reasons = {400: "BadRequest", 404: "NotFound", 401: "Unauthorized", 403: "Forbidden"}
    code = answer.status if answer.status in reasons else 500
    return StatusError(code, reasons.get(code, "InternalError"), text)


async def _join(downstream: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """Pass messages both ways until one side closes."""
    there = asyncio.ensure_future(_pump(downstream, upstream))
    back = asyncio.ensure_future(_pump(upstream, downstream))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (there, back):
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await upstream.close()
        with contextlib.suppress(ConnectionError, RuntimeError):
            await downstream.close(code=upstream.close_code or 1000)


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, sink: _Socket) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
