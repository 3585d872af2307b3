"""Port-forward for clients, in the two forms that they speak; the kubelet is asked in a third, simpler one.

SPDY (kubectl): one connection; for each forwarded connection a pair of streams, `error` and `data`, with the headers
`streamtype`, `port` and `requestid`. Since 1.31 kubectl sends the same bytes inside a websocket.
Channels (Python and JavaScript clients): one websocket; the n-th port of the query has the channels 2n (data) and
2n+1 (error), each of which begins with the port's number in two bytes, the low one first.
https://github.com/kubernetes/kubernetes/tree/master/staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from labkit.embedded.apiserver.bytepipes import BytePipe
from labkit.embedded.apiserver.failures import StatusError, bad_request
from labkit.embedded.apiserver.spdy_connection import SpdyConnection, SpdyStream
from labkit.embedded.apiserver.spdy_frames import Reset

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
CHANNELS = "v4.channel.k8s.io"
DATA, ERROR, CLOSE = 0, 1, 255  # channels of the kubelet's websocket
PAIR_SECONDS = 30.0  # for the second stream of a pair, as in the kubelet
MOST_PORTS = 127  # their channels have one byte

Dial = Callable[[int], Awaitable[ClientWebSocketResponse]]
"""Opens the kubelet's websocket for a connection to this port. Raises StatusError."""


@dataclass
class _Pair:
    data: SpdyStream | None = None
    error: SpdyStream | None = None


class SpdyPortForward:
    """The forwarded connections of one SPDY connection."""

    def __init__(self, pipe: BytePipe, pod: str, dial: Dial) -> None:
        self._connection = SpdyConnection(pipe, self._opened)
        self._pod = pod
        self._dial = dial
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client leaves."""
        reading = asyncio.create_task(self._connection.run(), name="portforward")
        try:
            await reading
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._connection.close(reading)

    def _opened(self, stream: SpdyStream) -> None:
        kind, port = stream.headers.get("streamtype"), stream.headers.get("port", "")
        if kind not in ("data", "error") or not _is_port(port):
            stream.reset(Reset.PROTOCOL_ERROR)
            return
        # Clients before 1.3 sent no request id: their two streams follow each other, the error's first.
        number = stream.stream_id - (2 if kind == "data" else 0)
        key = stream.headers.get("requestid") or f"#{number}"
        pair = self._pairs.setdefault(key, _Pair())
        if getattr(pair, kind) is not None:
            stream.reset(Reset.PROTOCOL_ERROR)
            return
        setattr(pair, kind, stream)
        if pair.data and pair.error:
            del self._pairs[key]
            self._start(self._forward(pair.data, pair.error, int(port)))
        else:
            self._start(self._expire(key, pair))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _expire(self, key: str, pair: _Pair) -> None:
        """A stream alone is of no use."""
        await asyncio.sleep(PAIR_SECONDS)
        if self._pairs.get(key) is pair:
            del self._pairs[key]
            for stream in (pair.data, pair.error):
                if stream:
                    stream.reset()

    async def _forward(self, data: SpdyStream, error: SpdyStream, port: int) -> None:
        try:
            kubelet = await self._dial(port)
        except StatusError as failure:
            await error.write(_failure(port, self._pod, failure.message))
        else:
            async with kubelet:
                await self._carry(data, error, port, kubelet)
        finally:
            error.finish()
            data.finish()

    async def _carry(self, data: SpdyStream, error: SpdyStream, port: int, kubelet: ClientWebSocketResponse) -> None:
        sending = asyncio.create_task(_send(data, kubelet))
        try:
            async for message in kubelet:
                if message.type is not WSMsgType.BINARY or not message.data:
                    continue
                if message.data[0] == DATA:
                    await data.write(message.data[1:])
                elif message.data[0] == ERROR:
                    await error.write(_failure(port, self._pod, message.data[1:].decode(errors="replace")))
                if data.was_reset:
                    break
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send(data: SpdyStream, kubelet: ClientWebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        while piece := await data.read():
            await kubelet.send_bytes(bytes((DATA,)) + piece)
        if data.was_reset:
            await kubelet.close()
        else:
            await kubelet.send_bytes(bytes((CLOSE, DATA)))


def _failure(port: int, pod: str, text: str) -> bytes:
    """In the kubelet's words; kubectl prints them after its own."""
    return f"error forwarding port {port} to pod {pod}, uid : {text}".encode()


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535


def ports_of(values: list[str]) -> list[int]:
    """The ports of a query like `ports=80,81&ports=82`. Raises 400."""
    words = [word for value in values for word in value.split(",")]
    if not words:
        raise bad_request('query parameter "ports" is required')
    for word in words:
        if not _is_port(word):
            raise bad_request(f'unable to parse "{word}" as a port: a number from 1 to 65535 is wanted')
    if len(words) > MOST_PORTS:
        raise bad_request(f"{len(words)} ports are too many for one connection; {MOST_PORTS} are possible")
    return [int(word) for word in words]


async def forward_channels(socket: web.WebSocketResponse, pod: str, ports: list[int], dial: Dial) -> None:
    """The connections of one websocket with channels, one to each port, until all have ended."""
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send_bytes(bytes((channel,)) + struct.pack("<H", port))
    kubelets: dict[int, asyncio.Future[ClientWebSocketResponse]] = {
        index: asyncio.get_running_loop().create_future() for index in range(len(ports))
    }
    carriers = [
        asyncio.create_task(_carry_channel(socket, pod, index, port, dial, kubelets[index]))
        for index, port in enumerate(ports)
    ]
    receiving = asyncio.create_task(_receive_channels(socket, kubelets))
    everything = asyncio.gather(*carriers)
    ends: set[asyncio.Future[Any]] = {everything, receiving}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        everything.cancel()
        receiving.cancel()
        await asyncio.gather(everything, *carriers, receiving, return_exceptions=True)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.close()


async def _carry_channel(
    socket: web.WebSocketResponse,
    pod: str,
    index: int,
    port: int,
    dial: Dial,
    ready: asyncio.Future[ClientWebSocketResponse],
) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        try:
            kubelet = await dial(port)
        except StatusError as failure:
            ready.cancel()
            await socket.send_bytes(bytes((2 * index + 1,)) + _failure(port, pod, failure.message))
            return
        async with kubelet:
            ready.set_result(kubelet)
            async for message in kubelet:
                if message.type is not WSMsgType.BINARY or not message.data:
                    continue
                if message.data[0] == DATA:
                    await socket.send_bytes(bytes((2 * index,)) + message.data[1:])
                elif message.data[0] == ERROR:
                    text = _failure(port, pod, message.data[1:].decode(errors="replace"))
                    await socket.send_bytes(bytes((2 * index + 1,)) + text)


async def _receive_channels(
    socket: web.WebSocketResponse, kubelets: dict[int, asyncio.Future[ClientWebSocketResponse]]
) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or len(message.data) < 2 or message.data[0] % 2:
            continue
        ready = kubelets.get(message.data[0] // 2)
        if ready is None:
            continue
        await asyncio.wait({ready})
        if not ready.cancelled():
            with contextlib.suppress(ConnectionError, RuntimeError):  # that port has ended; others may live
                await ready.result().send_bytes(bytes((DATA,)) + message.data[1:])
