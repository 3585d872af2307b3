"""Streams to a pod's node: logs, exec, attach, port-forward. The API server finds the kubelet and passes bytes on.

A websocket's messages of exec and attach go through as they come, in both directions, under the subprotocol that
client and kubelet agree on. SPDY, which kubectl used for all streams up to 1.29 and still uses for port-forward, ends
here (`remotecommand`, `portforwarding`): the kubelet speaks websockets only.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Mapping
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from labkit.embedded.apiserver import portforwarding, remotecommand
from labkit.embedded.apiserver.bytepipes import UpgradedPipe, WebSocketPipe
from labkit.embedded.apiserver.failures import (
    Cause,
    StatusError,
    bad_request,
    forbidden_field,
    invalid,
    invalid_object,
    not_found,
    unavailable,
)
from labkit.embedded.apiserver.resources import NODES, PODS
from labkit.embedded.apiserver.storage import Storage
from labkit.embedded.paths import ClusterPaths

Object = dict[str, Any]
Query = list[tuple[str, str]]

# Offered to the kubelet when a client names no subprotocol of its own, as some libraries do.
_DEFAULT_PROTOCOLS = ("v4.channel.k8s.io",)
_FORWARD_PROTOCOLS = ("v5.channel.k8s.io",)
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
        check_log_options(request.query)
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
        """exec, attach and portForward: an upgraded connection to the client, websockets to the kubelet."""
        url = self._container_url(verb, namespace, name, request.query)
        wanted = request.headers.get("Upgrade", "").lower()
        if wanted == "websocket":
            if verb == "portForward":
                return await self._forward_by_websocket(request, url, name)
            return await self._pass_websocket(request, url)
        if wanted == "spdy/3.1":
            if verb == "portForward":
                _negotiate(request, portforwarding.PROTOCOL)
                pipe = UpgradedPipe()
                response = await pipe.accept(request, _spdy(portforwarding.PROTOCOL))
                await portforwarding.SpdyPortForward(pipe, name, self._dialler(url)).run()
                return response
            return await self._run_by_spdy(request, url)
        raise bad_request("Upgrade request required: this is a stream, over a websocket or SPDY/3.1")

    async def _run_by_spdy(self, request: web.Request, url: str) -> web.StreamResponse:
        _negotiate(request, remotecommand.PROTOCOL)
        kubelet = await self._kubelet(url, _query(request), (remotecommand.KUBELET_PROTOCOL,))
        async with kubelet:
            pipe = UpgradedPipe()
            response = await pipe.accept(request, _spdy(remotecommand.PROTOCOL))
            await remotecommand.SpdyCommand(pipe, kubelet, remotecommand.wanted_streams(request.query)).run()
        return response

    async def _forward_by_websocket(self, request: web.Request, url: str, name: str) -> web.StreamResponse:
        offered = _offered(request)
        if portforwarding.TUNNEL in offered:
            tunnel = web.WebSocketResponse(protocols=(portforwarding.TUNNEL,), max_msg_size=0)
            await tunnel.prepare(request)
            await portforwarding.SpdyPortForward(WebSocketPipe(tunnel), name, self._dialler(url)).run()
            return tunnel
        ports = portforwarding.ports_of(request.query.getall("ports", []))
        if offered and portforwarding.CHANNELS not in offered:
            raise bad_request(f"of the subprotocols {', '.join(offered)} none is {portforwarding.CHANNELS}")
        socket = web.WebSocketResponse(protocols=(portforwarding.CHANNELS,) if offered else (), max_msg_size=0)
        await socket.prepare(request)
        await portforwarding.forward_channels(socket, name, ports, self._dialler(url))
        return socket

    def _dialler(self, url: str) -> portforwarding.Dial:
        def dial(port: int) -> Awaitable[aiohttp.ClientWebSocketResponse]:
            return self._kubelet(url, [("port", str(port))], _FORWARD_PROTOCOLS)

        return dial

    async def _pass_websocket(self, request: web.Request, url: str) -> web.StreamResponse:
        offered = _offered(request)
        async with await self._kubelet(url, _query(request), offered or _DEFAULT_PROTOCOLS) as upstream:
            chosen = (upstream.protocol,) if upstream.protocol and offered else ()
            downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await downstream.prepare(request)
            await _join(downstream, upstream)
        return downstream

    async def _kubelet(self, url: str, query: Query, protocols: tuple[str, ...]) -> aiohttp.ClientWebSocketResponse:
        """A websocket to the kubelet. Raises what it says when it refuses."""
        try:
            return await self.session().ws_connect(
                url, params=query, protocols=protocols, max_msg_size=0, autoping=True
            )
        except aiohttp.WSServerHandshakeError as error:
            raise await self._handshake_failure(url, query, error) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unavailable(f"error trying to reach the kubelet: {error}") from None

    async def _handshake_failure(self, url: str, query: Query, error: aiohttp.WSServerHandshakeError) -> StatusError:
        """A failed handshake hides the kubelet's words, so ask again without one."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.session().get(url, params=query) as answer:
                if answer.status != 200:
                    return await _refused(answer)
        return StatusError(error.status or 500, "BadRequest", f"the kubelet refused the stream: {error.message}")


_LEAST = {"tailLines": 0, "limitBytes": 1, "sinceSeconds": 1}


def check_log_options(query: Mapping[str, str]) -> None:
    """The rules of PodLogOptions. Raises 400 for what is no number and 422 for numbers that mean nothing."""
    causes: list[Cause] = []
    for key, least in _LEAST.items():
        text = query.get(key)
        if text is None:
            continue
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        if int(text) < least:
            hint = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
            causes.append(invalid(key, int(text), hint))
    if "sinceSeconds" in query and "sinceTime" in query:
        causes.append(forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if causes:
        raise invalid_object("PodLogOptions", "", "", causes)


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


def _offered(request: web.Request) -> tuple[str, ...]:
    """The subprotocols that a websocket's client offers."""
    headers = request.headers.getall("Sec-WebSocket-Protocol", [])
    return tuple(word.strip() for header in headers for word in header.split(",") if word.strip())


def _negotiate(request: web.Request, ours: str) -> None:
    """The version of a stream's protocol over SPDY. Raises 403, as Kubernetes does, if the client has not ours."""
    headers = request.headers.getall("X-Stream-Protocol-Version", [])
    offered = [word.strip() for header in headers for word in header.split(",") if word.strip()]
    if offered and ours not in offered:
        text = f"unable to negotiate protocol: client supports [{' '.join(offered)}], server accepts [{ours}]"
        raise StatusError(403, "Forbidden", f"unable to upgrade: {text}")


def _spdy(protocol: str) -> dict[str, str]:
    return {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol}


def _query(request: web.Request) -> Query:
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
            await downstream.close(code=_sendable(upstream.close_code))


def _sendable(code: int | None) -> int:
    """The other side's close code, if it may be sent (RFC 6455, 7.4); 1011 for a connection that broke."""
    if code is None:
        return 1000
    return code if 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999 else 1011


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, sink: _Socket) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
