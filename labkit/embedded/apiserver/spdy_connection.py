"""A SPDY connection with asyncio: a session over a pipe of bytes, and streams that can be read and written."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from labkit.embedded.apiserver.bytepipes import BytePipe
from labkit.embedded.apiserver.spdy import (
    DataReceived,
    Event,
    Failed,
    PeerLeaves,
    Session,
    StreamEnded,
    StreamOpened,
    StreamWasReset,
    WindowOpened,
)
from labkit.embedded.apiserver.spdy_frames import Reset

PIECE = 32 * 1024  # bytes of a data frame, so that streams take turns
OUTPUT_LIMIT = 256 * 1024  # bytes that wait for a slow client before whoever writes must wait
ANSWERS_LIMIT = 4 * 1024 * 1024  # ... before we stop listening to it, too: answers to its pings are among them
BACKLOG = 4 * 1024 * 1024
"""Received bytes that nobody has read yet. Above it all streams of the connection wait, as in Go's implementation."""
FAREWELL = 2.0  # seconds for a client to close its side, so that nothing is cut off


class SpdyStream:
    """One stream. Reading yields b"" at its end; writing to an ended stream drops the bytes."""

    def __init__(self, connection: SpdyConnection, stream_id: int, headers: dict[str, str]) -> None:
        self.stream_id = stream_id
        self.headers = headers
        self.was_reset = False
        self._connection = connection
        self._waiting: deque[bytes] = deque()
        self.ended = False  # the client sends nothing more
        self._wake = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes."""
        while not self._waiting:
            if self.ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = self._waiting.popleft()
        self._connection.used(self, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the client is slow."""
        view = memoryview(data)
        while view:
            room = await self._connection.room(self)
            if not room:
                return
            piece = view[: min(room, PIECE)]
            self._connection.send(self, bytes(piece))
            view = view[len(piece) :]

    def finish(self) -> None:
        """Send nothing more. Streams of one connection may be finished in any order."""
        self._connection.send(self, b"", fin=True)

    def reset(self, status: Reset = Reset.CANCEL) -> None:
        """End it in both directions; what was not read is dropped."""
        self._connection.drop(self, status)

    # What the connection calls

    def put(self, data: bytes) -> None:
        """Bytes came."""
        self._waiting.append(data)
        self._wake.set()

    def end(self, *, reset: bool = False) -> int:
        """Nothing more will come; after a reset, not even what is here. Returns how many bytes that drops."""
        dropped = 0
        if reset:
            self.was_reset = True
            dropped = sum(map(len, self._waiting))
            self._waiting.clear()
        self.ended = True
        self._wake.set()
        return dropped


class SpdyConnection:
    """The server's end. `opened` is called for each stream of the client; it refuses by `reset`."""

    def __init__(self, pipe: BytePipe, opened: Callable[[SpdyStream], None]) -> None:
        self._pipe = pipe
        self._opened = opened
        self._session = Session()
        self._streams: dict[int, SpdyStream] = {}
        self._backlog = 0
        self._ended = False
        self._output = asyncio.Event()  # there is something to send
        self._changed = asyncio.Event()  # something was sent or used: whoever waits looks again

    async def run(self) -> None:
        """Until the client leaves."""
        sender = asyncio.create_task(self._send_all(), name="spdy-sender")
        try:
            while data := await self._pipe.read():
                if not self._take(self._session.receive(data)):
                    break
                self._output.set()
                await self._until(lambda: self._backlog < BACKLOG and self._session.waiting < ANSWERS_LIMIT)
        finally:
            self._ended = True
            for stream in self._streams.values():
                stream.end()
            self._output.set()
            self._changed.set()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def close(self, reading: asyncio.Task[None]) -> None:
        """Wait a moment for the client to leave by itself (it has all it wants), then leave."""
        await asyncio.wait({reading}, timeout=FAREWELL)
        if not reading.done():
            self._session.go_away()
            reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if output := self._session.take_output():
            await self._pipe.write(output)
        await self._pipe.close()

    # What streams call

    async def room(self, stream: SpdyStream) -> int:
        """How many bytes a stream may send now; waits for at least one, 0 when it never will."""
        session = self._session

        def decided() -> bool:
            if self._ended or not session.writable(stream.stream_id):
                return True
            return session.waiting < OUTPUT_LIMIT and session.window(stream.stream_id) > 0

        await self._until(decided)
        return 0 if self._ended else session.window(stream.stream_id)

    def send(self, stream: SpdyStream, data: bytes, *, fin: bool = False) -> None:
        """Queue bytes of a stream."""
        self._session.send_data(stream.stream_id, data, fin=fin)
        self._output.set()
        self._forget_if_done(stream)

    def used(self, stream: SpdyStream, count: int) -> None:
        """A reader took bytes."""
        self._backlog -= count
        self._session.consumed(stream.stream_id, count)
        self._output.set()
        self._changed.set()

    def drop(self, stream: SpdyStream, status: Reset) -> None:
        """End a stream."""
        self._session.reset(stream.stream_id, status)
        self._streams.pop(stream.stream_id, None)
        if dropped := stream.end(reset=True):
            self.used(stream, dropped)
        self._output.set()
        self._changed.set()

    # Inside

    def _forget_if_done(self, stream: SpdyStream) -> None:
        if stream.ended and not self._session.writable(stream.stream_id):
            self._streams.pop(stream.stream_id, None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._ended:
            self._changed.clear()
            await self._changed.wait()

    async def _send_all(self) -> None:
        while True:
            await self._output.wait()
            self._output.clear()
            if output := self._session.take_output():
                self._changed.set()
                await self._pipe.write(output)

    def _take(self, events: list[Event]) -> bool:
        """Act on events; False when the connection ends."""
        for event in events:
            match event:
                case StreamOpened(stream_id, headers):
                    stream = self._streams[stream_id] = SpdyStream(self, stream_id, headers)
                    self._opened(stream)
                    if not stream.was_reset:
                        self._session.reply(stream_id)
                case DataReceived(stream_id, data) if stream_id in self._streams:
                    self._backlog += len(data)
                    self._streams[stream_id].put(data)
                case StreamEnded(stream_id) if stream_id in self._streams:
                    stream = self._streams[stream_id]
                    stream.end()
                    self._forget_if_done(stream)
                case StreamWasReset(stream_id) if stream_id in self._streams:
                    stream = self._streams.pop(stream_id)
                    if dropped := stream.end(reset=True):
                        self.used(stream, dropped)
                    self._changed.set()
                case WindowOpened():
                    self._changed.set()
                case PeerLeaves() | Failed():
                    return False
        return True
