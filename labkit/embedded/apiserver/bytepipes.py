"""Two ways in which a client hands us a plain connection in both directions.

An HTTP upgrade gives the connection itself; a websocket carries its bytes in binary messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Protocol

from aiohttp import WSMsgType, web

HIGH_WATER = 256 * 1024
"""Bytes that may wait to be read before the client is made to wait."""


class BytePipe(Protocol):
    """A connection: `read` yields b"" at its end; writing to one that has ended is no error."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


class WebSocketPipe:
    """The bytes in a websocket's binary messages."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket

    async def read(self) -> bytes:
        """The next bytes."""
        async for message in self.socket:
            if message.type is WSMsgType.BINARY and message.data:
                return bytes(message.data)
        return b""

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the client is slow."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.send_bytes(data)

    async def close(self) -> None:
        """Close the websocket."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.close()


class UpgradedPipe:
    """The connection of a request that was answered with 101 Switching Protocols (RFC 9110, 7.8).

    It stands where aiohttp puts its reader of websockets: the server's protocol feeds it all bytes that come.
    """

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._paused = self._ended = False
        self._wake = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._response: web.StreamResponse | None = None

    async def accept(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        """Switch protocols: from now on the connection's bytes are ours."""
        response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", **headers})
        response.force_close()
        self._transport = request.transport
        request.protocol.set_parser(self)  # type: ignore[arg-type]  # before the client may send
        await response.prepare(request)
        self._response = response
        return response

    # What aiohttp calls

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes came."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        self._wake.set()
        return False, b""

    def feed_eof(self) -> None:
        """The client is gone."""
        self._ended = True
        self._wake.set()

    # What we call

    async def read(self) -> bytes:
        """The next bytes."""
        while not self._waiting:
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = self._waiting.popleft()
        self._size -= len(data)
        if self._paused and self._size < HIGH_WATER // 2 and self._transport:
            self._paused = False
            with contextlib.suppress(RuntimeError):  # it has closed meanwhile
                self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the client is slow."""
        assert self._response is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._response.write(data)

    async def close(self) -> None:
        """Send the rest and close the connection."""
        self.feed_eof()
        if self._transport:
            self._transport.close()
