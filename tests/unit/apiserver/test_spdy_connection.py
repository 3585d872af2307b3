"""A SPDY connection and what stands on it, over a pipe in memory: slow readers, peers that go away, lone streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from labkit.embedded.apiserver import portforwarding, spdy_connection
from labkit.embedded.apiserver.failures import StatusError, unavailable
from labkit.embedded.apiserver.portforwarding import SpdyPortForward, ports_of
from labkit.embedded.apiserver.remotecommand import wanted_streams
from labkit.embedded.apiserver.spdy import (
    DataReceived,
    Event,
    PingAnswered,
    Session,
    StreamEnded,
    StreamReplied,
    StreamWasReset,
)
from labkit.embedded.apiserver.spdy_connection import SpdyConnection, SpdyStream


class MemoryPipe:
    """Our end; the test holds the other as a client's session."""

    def __init__(self) -> None:
        self.client = Session(client=True)
        self.events: list[Event] = []
        self.closed = False
        self.slow = asyncio.Event()  # cleared: the client reads nothing
        self.slow.set()
        self._come: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self) -> None:
        """What the client's session has to say."""
        self._come.put_nowait(self.client.take_output())

    def leave(self) -> None:
        self._come.put_nowait(b"")

    async def read(self) -> bytes:
        return await self._come.get()

    async def write(self, data: bytes) -> None:
        await self.slow.wait()
        self.events += self.client.receive(data)

    async def close(self) -> None:
        self.closed = True

    def data(self, stream_id: int) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream_id == stream_id)


async def settle() -> None:
    """Let everything that can run run."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def pipe() -> MemoryPipe:
    return MemoryPipe()


@contextlib.asynccontextmanager
async def running(pipe: MemoryPipe) -> AsyncIterator[list[SpdyStream]]:
    streams: list[SpdyStream] = []
    connection = SpdyConnection(pipe, streams.append)
    reading = asyncio.create_task(connection.run())
    try:
        yield streams
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_stream_is_read_to_its_end_and_answered(pipe: MemoryPipe):
    async with running(pipe) as streams:
        number = pipe.client.open({"streamtype": "data"})
        pipe.client.send_data(number, b"question", fin=True)
        pipe.send()
        await settle()
        assert [await streams[0].read(), await streams[0].read(), await streams[0].read()] == [b"question", b"", b""]
        await streams[0].write(b"answer")
        streams[0].finish()
        await settle()
        assert pipe.events == [StreamReplied(number, {}), DataReceived(number, b"answer"), StreamEnded(number)]


async def test_a_writer_waits_for_a_slow_client_and_pings_are_still_answered(pipe: MemoryPipe):
    async with running(pipe) as streams:
        number = pipe.client.open({})
        pipe.send()
        await settle()
        pipe.slow.clear()
        writing = asyncio.create_task(streams[0].write(b"x" * 5_000_000))
        await settle()
        assert not writing.done()
        ping = pipe.client.ping()
        pipe.send()
        await settle()
        pipe.slow.set()
        await asyncio.wait_for(writing, 5)
        await settle()
        assert len(pipe.data(number)) == 5_000_000
        assert PingAnswered(ping) in pipe.events


async def test_what_nobody_reads_stops_the_connection_at_the_backlog(pipe: MemoryPipe, monkeypatch: Any):
    monkeypatch.setattr(spdy_connection, "BACKLOG", 100_000)
    async with running(pipe) as streams:
        number = pipe.client.open({})
        for _ in range(10):
            pipe.client.send_data(number, b"x" * 50_000)
            pipe.send()
        await settle()
        assert pipe._come.qsize() == 8
        total = 0
        while total < 500_000:
            total += len(await asyncio.wait_for(streams[0].read(), 5))
        assert pipe._come.qsize() == 0


async def test_dropping_a_stream_frees_the_backlog_for_others(pipe: MemoryPipe, monkeypatch: Any):
    monkeypatch.setattr(spdy_connection, "BACKLOG", 100_000)
    async with running(pipe) as streams:
        full, other = pipe.client.open({}), pipe.client.open({})
        pipe.client.send_data(full, b"x" * 200_000)
        pipe.send()
        pipe.client.send_data(other, b"hello")
        pipe.send()
        await settle()
        streams[0].reset()
        assert await asyncio.wait_for(streams[1].read(), 5) == b"hello"


@pytest.mark.parametrize("how", ["leaves", "resets", "resets after its end"])
async def test_a_writer_does_not_wait_for_a_client_that_is_gone(pipe: MemoryPipe, how: str):
    async with running(pipe) as streams:
        number = pipe.client.open({})
        if how == "resets after its end":
            pipe.client.send_data(number, b"", fin=True)
        pipe.send()
        await settle()
        pipe.slow.clear()
        writing = asyncio.create_task(streams[0].write(b"x" * 5_000_000))
        await settle()
        if how == "leaves":
            pipe.leave()
        else:
            pipe.client.reset(number)
            pipe.send()
        await asyncio.wait_for(writing, 5)
        assert await asyncio.wait_for(streams[0].read(), 5) == b""


async def refuse(port: int) -> Any:
    raise unavailable(f"no kubelet for {port}")


async def test_a_forward_that_the_kubelet_refuses_says_why_on_the_error_stream(pipe: MemoryPipe):
    serving = asyncio.create_task(SpdyPortForward(pipe, "web", refuse).run())
    error = pipe.client.open({"streamtype": "error", "port": "80", "requestid": "0"})
    data = pipe.client.open({"streamtype": "data", "port": "80", "requestid": "0"})
    pipe.send()
    await settle()
    assert pipe.data(error) == b"error forwarding port 80 to pod web, uid : no kubelet for 80"
    assert StreamEnded(error) in pipe.events and StreamEnded(data) in pipe.events
    pipe.leave()
    await asyncio.wait_for(serving, 5)
    assert pipe.closed


async def test_streams_without_request_id_are_paired_by_their_numbers(pipe: MemoryPipe):
    serving = asyncio.create_task(SpdyPortForward(pipe, "web", refuse).run())
    first = pipe.client.open({"streamtype": "error", "port": "80"})
    pipe.client.open({"streamtype": "data", "port": "80"})
    pipe.send()
    await settle()
    assert pipe.data(first).endswith(b"no kubelet for 80")
    pipe.leave()
    await asyncio.wait_for(serving, 5)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"streamtype": "data"},
        {"streamtype": "other", "port": "80"},
        {"streamtype": "data", "port": "0"},
        {"streamtype": "data", "port": "65536"},
        {"streamtype": "data", "port": "²"},
    ],
)
async def test_a_stream_that_names_no_port_is_reset(pipe: MemoryPipe, headers: dict[str, str]):
    serving = asyncio.create_task(SpdyPortForward(pipe, "web", refuse).run())
    number = pipe.client.open(headers)
    pipe.send()
    await settle()
    assert [type(event) for event in pipe.events] == [StreamWasReset] and pipe.events[0].stream_id == number
    pipe.leave()
    await asyncio.wait_for(serving, 5)


async def test_a_lone_stream_is_reset_after_a_while(pipe: MemoryPipe, monkeypatch: Any):
    monkeypatch.setattr(portforwarding, "PAIR_SECONDS", 0.01)
    serving = asyncio.create_task(SpdyPortForward(pipe, "web", refuse).run())
    number = pipe.client.open({"streamtype": "error", "port": "80", "requestid": "7"})
    pipe.send()
    await asyncio.sleep(0.1)
    assert [type(event) for event in pipe.events] == [StreamReplied, StreamWasReset]
    assert pipe.events[1].stream_id == number
    pipe.leave()
    await asyncio.wait_for(serving, 5)


def test_ports_of_a_query_may_be_in_one_word_or_in_many():
    assert ports_of(["80,81", "82"]) == [80, 81, 82]


@pytest.mark.parametrize("values", [[], [""], ["0"], ["65536"], ["80,"], ["http"], ["-1"], ["1"] * 128])
def test_what_is_no_port_is_refused(values: list[str]):
    with pytest.raises(StatusError) as refused:
        ports_of(values)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    "query, wanted",
    [
        ({"stdout": "true", "stderr": "true"}, {"error", "stdout", "stderr"}),
        ({"stdin": "1", "stdout": "1"}, {"error", "stdin", "stdout"}),
        ({"stdin": "true", "stdout": "true", "stderr": "true", "tty": "true"}, {"error", "stdin", "stdout", "resize"}),
        ({"stdout": "false"}, {"error"}),
    ],
)
def test_the_query_says_which_streams_the_client_opens(query: dict[str, str], wanted: set[str]):
    assert wanted_streams(query) == wanted
