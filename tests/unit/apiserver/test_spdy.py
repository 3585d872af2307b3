"""SPDY/3.1 without a socket: frames, sessions, windows; and what a peer that breaks the rules gets."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.embedded.apiserver import spdy_frames as wire
from labkit.embedded.apiserver.spdy import (
    MAX_STREAMS,
    MAX_WINDOW,
    WINDOW,
    DataReceived,
    Event,
    Failed,
    PeerLeaves,
    PingAnswered,
    Session,
    StreamEnded,
    StreamOpened,
    StreamReplied,
    StreamWasReset,
    WindowOpened,
)
from labkit.embedded.apiserver.spdy_frames import (
    Away,
    Data,
    FrameReader,
    FrameWriter,
    GoAway,
    Headers,
    Ping,
    Reset,
    RstStream,
    Settings,
    SpdyError,
    SynReply,
    SynStream,
    WindowUpdate,
)

names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
headers = st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=6)
numbers = st.integers(1, 0x7FFFFFFF)
frames = st.one_of(
    st.builds(SynStream, numbers, headers, st.booleans(), st.booleans()),
    st.builds(SynReply, numbers, headers, st.booleans()),
    st.builds(Headers, numbers, headers, st.booleans()),
    st.builds(RstStream, numbers, st.sampled_from(Reset)),
    st.builds(GoAway, numbers, st.sampled_from(Away)),
    st.builds(Ping, st.integers(0, 0xFFFFFFFF)),
    st.builds(WindowUpdate, st.integers(0, 0x7FFFFFFF), numbers),
    st.builds(Settings, st.dictionaries(st.integers(1, 0xFFFFFF), st.integers(0, 0xFFFFFFFF), max_size=4)),
    st.builds(Data, numbers, st.binary(max_size=300), st.booleans()),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    return [data[a:b] for a, b in pairwise(sorted({0, len(data), *(place % (len(data) + 1) for place in places)}))]


def joined(pieces: list[wire.Frame]) -> list[wire.Frame]:
    """Pieces of one data frame put together again."""
    result: list[wire.Frame] = []
    for frame in pieces:
        last = result[-1] if result else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream_id == frame.stream_id and not last.fin:
            result[-1] = Data(frame.stream_id, last.data + frame.data, frame.fin)
        else:
            result.append(frame)
    return result


def control(number: int, payload: bytes, *, version: int = 3, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, number, flags << 24 | len(payload)) + payload


# Frames.


def test_the_dictionary_is_the_one_that_every_peer_knows():
    assert len(wire.DICTIONARY) == 1423
    assert zlib.adler32(wire.DICTIONARY) == 0xE3C6A7C2  # zlib names it so in the first bytes of each direction


def test_a_stream_that_kubectl_opens_is_understood():
    """The frame is built by hand, as the protocol's chapter 2.6.1 draws it."""
    block = struct.pack(">I", 1) + struct.pack(">I", 10) + b"streamtype" + struct.pack(">I", 5) + b"error"
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, wire.DICTIONARY)
    packed = packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = control(1, struct.pack(">IIH", 1, 0, 0) + packed)
    assert list(FrameReader().feed(frame)) == [SynStream(1, {"streamtype": "error"})]


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 10000), max_size=12))
def test_frames_survive_the_wire_however_it_is_cut(sent, places):
    writer, reader = FrameWriter(), FrameReader()
    data = b"".join(writer.encode(frame) for frame in sent)
    received = [frame for piece in cut(data, places) for frame in reader.feed(piece)]
    assert joined(received) == joined(sent)


@given(st.lists(headers, min_size=2, max_size=10))
def test_compression_of_headers_goes_on_from_frame_to_frame(blocks):
    writer, reader = FrameWriter(), FrameReader()
    for number, block in enumerate(blocks, 1):
        assert list(reader.feed(writer.encode(SynReply(number, block)))) == [SynReply(number, block)]


def test_a_long_data_frame_is_handed_out_before_it_is_complete():
    reader = FrameReader()
    head = struct.pack(">II", 5, 1 << 24 | 1_000_000)
    assert list(reader.feed(head + b"x" * 10)) == [Data(5, b"x" * 10, fin=False)]
    assert list(reader.feed(b"y" * 999_990)) == [Data(5, b"y" * 999_990, fin=True)]


def test_a_frame_of_an_unknown_type_is_ignored():
    assert list(FrameReader().feed(control(10, b"abc") + control(6, struct.pack(">I", 7)))) == [Ping(7)]


def compressed(raw: bytes) -> bytes:
    packer = zlib.compressobj(zdict=wire.DICTIONARY)
    return struct.pack(">I", 1) + packer.compress(raw) + packer.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(control(6, b"\0\0\0\1", version=2), id="another version"),
        pytest.param(control(1, b"\0" * 5), id="too short"),
        pytest.param(struct.pack(">HHI", 0x8003, 1, 0xFFFFFF), id="a control frame of 16 MiB"),
        pytest.param(control(2, b"\0\0\0\1" + b"no zlib"), id="headers without zlib"),
        pytest.param(control(2, b"\0\0\0\1" + zlib.compress(b"\0\0\0\0")), id="zlib without the dictionary"),
        pytest.param(control(2, compressed(b"\0\0\0\1" + b"\xff" * 4)), id="a header longer than all"),
        pytest.param(control(2, compressed(b"\0\0")), id="headers without their number"),
        pytest.param(control(2, compressed(b"\0" * 10_000_000)), id="headers that inflate to 10 MB"),
        pytest.param(
            control(2, compressed(struct.pack(">I", 2) + (b"\0\0\0\1a" + b"\0\0\0\0") * 2)), id="a header twice"
        ),
        pytest.param(control(4, struct.pack(">I", 0xFFFFFFFF)), id="four thousand million settings"),
        pytest.param(struct.pack(">II", 0, 1), id="data of stream 0"),
        pytest.param(b"\xff" * 20, id="noise"),
    ],
)
def test_what_is_no_spdy_ends_the_connection_with_goaway(garbage: bytes):
    session = Session()
    with pytest.raises(SpdyError):
        list(FrameReader().feed(garbage))
    events = session.receive(garbage)
    assert isinstance(events[-1], Failed)
    assert list(FrameReader().feed(session.take_output()))[-1] == GoAway(0, Away.PROTOCOL_ERROR)
    assert session.receive(garbage) == []


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=200), frames.map(lambda f: FrameWriter().encode(f))), max_size=6))
def test_no_input_makes_a_session_raise(pieces):
    session = Session()
    for piece in pieces:
        for event in session.receive(piece):
            if isinstance(event, StreamOpened):
                session.reply(event.stream_id)
                session.send_data(event.stream_id, b"answer", fin=True)
    list(FrameReader().feed(session.take_output()))


# Two sessions with each other.


class Pair:
    """A client and a server with a perfect wire between them."""

    def __init__(self) -> None:
        self.client, self.server = Session(client=True), Session()

    def at_server(self) -> list[Event]:
        return self.server.receive(self.client.take_output())

    def at_client(self) -> list[Event]:
        return self.client.receive(self.server.take_output())

    def stream(self) -> int:
        number = self.client.open({"streamtype": "data"})
        assert self.at_server() == [StreamOpened(number, {"streamtype": "data"})]
        self.server.reply(number)
        assert self.at_client() == [StreamReplied(number, {})]
        return number


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_stream_carries_bytes_both_ways_until_both_have_ended_it(pair: Pair):
    number = pair.stream()
    pair.client.send_data(number, b"question", fin=True)
    assert pair.at_server() == [DataReceived(number, b"question"), StreamEnded(number)]
    assert not pair.client.writable(number) and pair.server.writable(number)
    pair.server.send_data(number, b"answer", fin=True)
    assert pair.at_client() == [DataReceived(number, b"answer"), StreamEnded(number)]
    pair.server.send_data(number, b"more")
    assert pair.server.take_output() == b""


def test_the_numbers_of_streams_are_odd_for_clients(pair: Pair):
    assert [pair.client.open({}), pair.client.open({})] == [1, 3]
    assert pair.server.open({}) == 2


def test_a_stream_that_is_reset_is_gone_at_both_ends(pair: Pair):
    number = pair.stream()
    pair.server.reset(number, Reset.REFUSED_STREAM)
    assert pair.at_client() == [StreamWasReset(number, Reset.REFUSED_STREAM)]
    pair.client.send_data(number, b"late")
    assert pair.client.take_output() == b"" and not pair.client.writable(number)


def test_data_that_crosses_a_reset_is_dropped_silently(pair: Pair):
    number = pair.stream()
    pair.client.send_data(number, b"on its way")
    pair.server.reset(number)
    assert pair.at_server() == []


def test_data_of_a_stream_that_never_was_is_answered_with_reset():
    session = Session()
    assert session.receive(FrameWriter().encode(Data(9, b"x"))) == []
    assert list(FrameReader().feed(session.take_output())) == [RstStream(9, Reset.INVALID_STREAM)]


def test_data_behind_the_end_of_a_stream_resets_it():
    session, writer = Session(), FrameWriter()
    session.receive(writer.encode(SynStream(1, fin=True)))
    assert session.receive(writer.encode(Data(1, b"x"))) == [StreamWasReset(1, Reset.STREAM_ALREADY_CLOSED)]


def test_a_ping_is_answered_with_its_number(pair: Pair):
    number = pair.client.ping()
    assert pair.at_server() == []
    assert pair.at_client() == [PingAnswered(number)]
    assert pair.server.take_output() == pair.client.take_output() == b""  # an answer is not answered


def test_goaway_is_told_and_ends_new_streams(pair: Pair):
    pair.server.go_away()
    pair.server.go_away()
    assert pair.at_client() == [PeerLeaves(Away.OK)]
    pair.client.open({})
    assert pair.at_server() == []


@pytest.mark.parametrize("first, second", [(1, 1), (3, 1), (2, 4), (0, 1)])
def test_a_number_that_may_not_be_used_ends_the_connection(first: int, second: int):
    session, writer = Session(), FrameWriter()
    events = session.receive(writer.encode(SynStream(first)) + writer.encode(SynStream(second)))
    assert isinstance(events[-1], Failed)


def test_too_many_streams_are_refused_and_the_others_live_on():
    session, writer = Session(), FrameWriter()
    opened = session.receive(b"".join(writer.encode(SynStream(2 * n + 1)) for n in range(MAX_STREAMS + 1)))
    assert len(opened) == MAX_STREAMS
    last = 2 * MAX_STREAMS + 1
    assert list(FrameReader().feed(session.take_output())) == [RstStream(last, Reset.REFUSED_STREAM)]
    assert session.writable(last - 2) and not session.writable(last)


# Windows.


def test_a_peer_without_flow_control_never_stops_us(pair: Pair):
    """Go's spdystream gives no windows back, so a window must not be waited for."""
    number = pair.stream()
    pair.server.send_data(number, b"x" * 10 * WINDOW)
    assert pair.server.window(number) == MAX_WINDOW


def test_a_peer_that_gives_windows_back_is_held_to_them(pair: Pair):
    number = pair.stream()
    pair.server.send_data(number, b"x" * 40_000)
    pair.at_client()
    pair.client.consumed(number, 40_000)
    assert pair.at_server() == [WindowOpened(0), WindowOpened(number)]
    assert pair.server.window(number) == WINDOW
    pair.server.send_data(number, b"x" * WINDOW)
    assert pair.server.window(number) == 0


def test_the_window_of_the_connection_bounds_all_streams(pair: Pair):
    one, two = pair.stream(), pair.stream()
    pair.server.receive(FrameWriter().encode(Settings({wire.INITIAL_WINDOW_SIZE: 1_000_000})))
    assert pair.server.window(one) == WINDOW
    pair.server.send_data(one, b"x" * 60_000)
    assert pair.server.window(two) == WINDOW - 60_000


def test_an_initial_window_changes_streams_that_are_open(pair: Pair):
    number = pair.stream()
    pair.server.send_data(number, b"x" * 1000)
    assert pair.server.receive(FrameWriter().encode(Settings({wire.INITIAL_WINDOW_SIZE: 1500}))) == [WindowOpened(0)]
    assert pair.server.window(number) == 500
    pair.server.receive(FrameWriter().encode(Settings({wire.INITIAL_WINDOW_SIZE: 100})))
    assert pair.server.window(number) == 0  # it is below zero, which is allowed


def test_a_window_that_overflows_resets_its_stream(pair: Pair):
    number = pair.stream()
    events = pair.server.receive(FrameWriter().encode(WindowUpdate(number, MAX_WINDOW)))
    assert events == [StreamWasReset(number, Reset.FLOW_CONTROL_ERROR)]


def test_an_overflowing_window_of_the_connection_ends_it(pair: Pair):
    assert isinstance(pair.server.receive(FrameWriter().encode(WindowUpdate(0, MAX_WINDOW)))[-1], Failed)


def test_windows_are_given_back_in_steps_of_half_a_window(pair: Pair):
    number = pair.stream()
    pair.server.consumed(number, WINDOW // 2 - 1)
    assert pair.server.take_output() == b""
    pair.server.consumed(number, 1)
    given = list(FrameReader().feed(pair.server.take_output()))
    assert given == [WindowUpdate(0, WINDOW // 2), WindowUpdate(number, WINDOW // 2)]


@given(st.lists(st.binary(min_size=1, max_size=WINDOW), max_size=12), st.lists(st.integers(0, 500_000), max_size=8))
def test_bytes_arrive_whole_and_in_order_within_the_windows(pieces, places):
    """A peer that keeps windows gets everything, and never more at once than it allowed."""
    pair = Pair()
    number = pair.stream()
    pair.server.receive(FrameWriter().encode(Settings({wire.INITIAL_WINDOW_SIZE: WINDOW})))
    received = b""
    for piece in pieces:
        while piece:
            room = pair.server.window(number)
            assert room > 0
            pair.server.send_data(number, piece[:room])
            piece = piece[room:]
            for part in cut(pair.server.take_output(), places):
                for event in pair.client.receive(part):
                    assert isinstance(event, DataReceived)
                    received += event.data
                    pair.client.consumed(number, len(event.data))
            pair.at_server()
            # At most half a window has not been given back.
            assert pair.server.window(number) > WINDOW // 2
    assert received == b"".join(pieces)
