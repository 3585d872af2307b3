"""exec and attach over SPDY, as kubectl up to 1.29 speaks it; translated to the kubelet's websocket channels.

The client opens one stream for each of error, stdin, stdout, stderr and resize that it wants (header `streamtype`)
and says so in the query. The error stream carries the final Status as JSON (version 4 of the protocol).
https://github.com/kubernetes/kubernetes/tree/master/staging/src/k8s.io/kubelet/pkg/cri/streaming/remotecommand
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping

from aiohttp import ClientWebSocketResponse, WSMsgType

from labkit.embedded.apiserver.bytepipes import BytePipe
from labkit.embedded.apiserver.spdy_connection import SpdyConnection, SpdyStream
from labkit.embedded.apiserver.spdy_frames import Reset

PROTOCOL = "v4.channel.k8s.io"
KUBELET_PROTOCOL = "v5.channel.k8s.io"  # it can say that the input has ended
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
STREAM_SECONDS = 30.0  # for the client to open its streams, as in the kubelet
RESIZE_LIMIT = 4096  # bytes of a message about the terminal's size
_CHANNELS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}


def wanted_streams(query: Mapping[str, str]) -> set[str]:
    """The streams that the client is going to open."""
    flags = {name for name in ("stdin", "stdout", "stderr", "tty") if query.get(name, "").lower() in ("1", "true")}
    wanted = {"error"} | flags - {"tty"}
    if "tty" in flags:
        wanted = (wanted - {"stderr"}) | {"resize"}
    return wanted


class SpdyCommand:
    """One program with its streams."""

    def __init__(self, pipe: BytePipe, kubelet: ClientWebSocketResponse, wanted: set[str]) -> None:
        self._connection = SpdyConnection(pipe, self._opened)
        self._kubelet = kubelet
        self._wanted = wanted
        self._streams: dict[str, SpdyStream] = {}
        self._complete = asyncio.Event()

    async def run(self) -> None:
        """Until the program ends or the client leaves."""
        reading = asyncio.create_task(self._connection.run(), name="remote-command")
        talking = asyncio.create_task(self._talk(), name="remote-command-streams")
        try:
            await asyncio.wait({reading, talking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            await self._connection.close(reading)

    def _opened(self, stream: SpdyStream) -> None:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._wanted or kind in self._streams:
            stream.reset(Reset.PROTOCOL_ERROR)
            return
        self._streams[kind] = stream
        if len(self._streams) == len(self._wanted):
            self._complete.set()

    async def _talk(self) -> None:
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                await self._complete.wait()
        except TimeoutError:
            return
        sending = [asyncio.create_task(self._send_input()), asyncio.create_task(self._send_sizes())]
        try:
            await self._receive()
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            for stream in self._streams.values():
                stream.finish()

    async def _receive(self) -> None:
        by_channel = {_CHANNELS[kind]: stream for kind, stream in self._streams.items() if kind != "stdin"}
        async for message in self._kubelet:
            if message.type is not WSMsgType.BINARY or len(message.data) < 2:
                continue
            if stream := by_channel.get(message.data[0]):
                await stream.write(message.data[1:])

    async def _send_input(self) -> None:
        stream = self._streams.get("stdin")
        with contextlib.suppress(ConnectionError, RuntimeError):
            while stream and (data := await stream.read()):
                await self._kubelet.send_bytes(bytes((STDIN,)) + data)
            if stream:
                await self._kubelet.send_bytes(bytes((CLOSE, STDIN)))

    async def _send_sizes(self) -> None:
        """The stream is a sequence of JSON objects, cut anywhere; a message is one of them."""
        stream = self._streams.get("resize")
        text = ""
        with contextlib.suppress(ConnectionError, RuntimeError):
            while stream and (data := await stream.read()):
                text = (text + data.decode(errors="replace"))[-RESIZE_LIMIT:].lstrip()
                while text:
                    try:
                        size, end = json.JSONDecoder().raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    await self._kubelet.send_bytes(bytes((RESIZE,)) + json.dumps(size).encode())
