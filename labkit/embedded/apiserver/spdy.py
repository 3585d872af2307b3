"""One end of a SPDY/3.1 connection without its socket: bytes go in, events and bytes come out.

    events = session.receive(bytes from the peer)
    session.reply(...), session.send_data(...), ...
    bytes for the peer = session.take_output()

The peers are Kubernetes' clients with Go's `spdystream`. It has no flow control: it sends no WINDOW_UPDATE and ignores
those that it gets, so windows must not stop us there. They do as soon as a peer shows that it keeps them, by a
WINDOW_UPDATE or by the setting of its initial window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.embedded.apiserver.spdy_frames import (
    INITIAL_WINDOW_SIZE,
    Away,
    Data,
    Frame,
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

WINDOW = 65536
"""Initial window of a stream and of the connection (2.6.8)."""
MAX_WINDOW = 0x7FFFFFFF
MAX_STREAMS = 1000
"""Open streams that a peer may have. A forwarded connection takes two."""


@dataclass(frozen=True)
class StreamOpened:
    """The peer opened a stream, which waits for `reply` or `reset`."""

    stream_id: int
    headers: dict[str, str]


@dataclass(frozen=True)
class StreamReplied:
    """The peer accepted our stream."""

    stream_id: int
    headers: dict[str, str]


@dataclass(frozen=True)
class DataReceived:
    """Bytes of a stream; whoever has used them says so with `consumed`."""

    stream_id: int
    data: bytes


@dataclass(frozen=True)
class StreamEnded:
    """The peer sends nothing more on this stream."""

    stream_id: int


@dataclass(frozen=True)
class StreamWasReset:
    """The peer ended this stream in both directions."""

    stream_id: int
    status: int


@dataclass(frozen=True)
class WindowOpened:
    """More may be sent, on this stream or (0) on all."""

    stream_id: int


@dataclass(frozen=True)
class PingAnswered:
    """Our ping came back."""

    ping_id: int


@dataclass(frozen=True)
class PeerLeaves:
    """The peer opens no more streams and wants the connection to end."""

    status: int


@dataclass(frozen=True)
class Failed:
    """The peer broke the protocol; a GOAWAY is in the output, and nothing more is received."""

    reason: str


Event = (
    StreamOpened
    | StreamReplied
    | DataReceived
    | StreamEnded
    | StreamWasReset
    | WindowOpened
    | PingAnswered
    | PeerLeaves
    | Failed
)


@dataclass
class _Stream:
    window: int  # bytes that we may send
    consumed: int = 0  # received bytes that were used and not yet given back to the peer
    ours_open: bool = True  # we may send
    theirs_open: bool = True  # the peer may send


@dataclass
class _Peer:
    """What we know of the other end."""

    keeps_windows: bool = False
    initial_window: int = WINDOW
    window: int = WINDOW  # of the connection: bytes that we may send
    consumed: int = 0
    last_stream: int = 0
    leaves: bool = False


@dataclass
class Session:
    """One end of a connection. `client` says which: it decides who has the odd numbers."""

    client: bool = False
    failed: bool = False
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _peer: _Peer = field(default_factory=_Peer)
    _reader: FrameReader = field(default_factory=FrameReader)
    _writer: FrameWriter = field(default_factory=FrameWriter)
    _output: bytearray = field(default_factory=bytearray)
    _away: bool = False

    def __post_init__(self) -> None:
        self._next_stream = self._next_ping = 1 if self.client else 2

    # Output

    @property
    def waiting(self) -> int:
        """Bytes that wait for `take_output`."""
        return len(self._output)

    def take_output(self) -> bytes:
        """The bytes to send now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def _send(self, frame: Frame) -> None:
        self._output += self._writer.encode(frame)

    # What we do

    def open(self, headers: dict[str, str]) -> int:
        """Open a stream and return its number."""
        stream_id = self._next_stream
        self._next_stream += 2
        self._streams[stream_id] = _Stream(self._peer.initial_window)
        self._send(SynStream(stream_id, headers))
        return stream_id

    def reply(self, stream_id: int, headers: dict[str, str] | None = None) -> None:
        """Accept a stream of the peer."""
        if stream_id in self._streams:
            self._send(SynReply(stream_id, headers or {}))

    def window(self, stream_id: int) -> int:
        """How many bytes may be sent on a stream now; 0 for one that cannot be written to."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.ours_open:
            return 0
        return max(0, min(stream.window, self._peer.window)) if self._peer.keeps_windows else MAX_WINDOW

    def writable(self, stream_id: int) -> bool:
        """Whether a stream is open in our direction, whatever its window."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.ours_open and not self.failed

    def send_data(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes within the window; with `fin` they are the last. Nothing happens on a stream that has ended."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.ours_open or not (data or fin):
            return
        stream.window -= len(data)
        self._peer.window -= len(data)
        self._send(Data(stream_id, data, fin))
        if fin:
            stream.ours_open = False
            self._forget_if_done(stream_id)

    def reset(self, stream_id: int, status: Reset = Reset.CANCEL) -> None:
        """End a stream in both directions."""
        if self._streams.pop(stream_id, None):
            self._send(RstStream(stream_id, status))

    def consumed(self, stream_id: int, count: int) -> None:
        """Received bytes were used: give the peer its window back, in steps of half a window."""
        self._peer.consumed += count
        if self._peer.consumed >= WINDOW // 2:
            self._send(WindowUpdate(0, self._peer.consumed))
            self._peer.consumed = 0
        stream = self._streams.get(stream_id)
        if stream is None or not stream.theirs_open:
            return
        stream.consumed += count
        if stream.consumed >= WINDOW // 2:
            self._send(WindowUpdate(stream_id, stream.consumed))
            stream.consumed = 0

    def ping(self) -> int:
        """Ask for an answer and return its number."""
        ping_id = self._next_ping
        self._next_ping = ping_id + 2 if ping_id < MAX_WINDOW - 2 else 2 - ping_id % 2
        self._send(Ping(ping_id))
        return ping_id

    def go_away(self, status: Away = Away.OK) -> None:
        """Say that the connection ends."""
        if not self._away:
            self._away = True
            self._send(GoAway(self._peer.last_stream, status))

    # What the peer does

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes mean. Never raises: a broken peer is the event Failed."""
        events: list[Event] = []
        if self.failed:
            return events
        try:
            for frame in self._reader.feed(data):
                self._receive(frame, events)
        except SpdyError as error:
            self.failed = True
            self.go_away(Away.PROTOCOL_ERROR)
            events.append(Failed(str(error)))
        return events

    def _receive(self, frame: Frame, events: list[Event]) -> None:
        match frame:
            case Data():
                self._on_data(frame, events)
            case SynStream():
                self._on_stream(frame, events)
            case SynReply(stream_id, headers, fin) if self._streams.get(stream_id):
                events.append(StreamReplied(stream_id, headers))
                self._on_end(stream_id, fin, events)
            case Headers(stream_id, _, fin):
                self._on_end(stream_id, fin, events)
            case RstStream(stream_id, status) if self._streams.pop(stream_id, None):
                events.append(StreamWasReset(stream_id, status))
            case WindowUpdate(stream_id, delta):
                self._on_window(stream_id, delta, events)
            case Settings(values) if INITIAL_WINDOW_SIZE in values:
                self._on_initial_window(values[INITIAL_WINDOW_SIZE], events)
            case Ping(ping_id):
                if ping_id % 2 == self._next_ping % 2:
                    events.append(PingAnswered(ping_id))
                else:
                    self._send(Ping(ping_id))
            case GoAway(_, status):
                self._peer.leaves = True
                events.append(PeerLeaves(status))

    def _on_stream(self, frame: SynStream, events: list[Event]) -> None:
        number = frame.stream_id
        if number == 0 or number % 2 != (0 if self.client else 1):
            raise SpdyError(f"the peer may not open a stream with the number {number}")
        if number <= self._peer.last_stream:
            raise SpdyError(f"the stream {number} was opened after {self._peer.last_stream}")
        self._peer.last_stream = number
        if self._away or self._peer.leaves:
            return
        if len(self._streams) >= MAX_STREAMS:
            self._send(RstStream(number, Reset.REFUSED_STREAM))
            return
        self._streams[number] = _Stream(self._peer.initial_window, ours_open=not frame.unidirectional)
        events.append(StreamOpened(number, frame.headers))
        self._on_end(number, frame.fin, events)

    def _on_data(self, frame: Data, events: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None or not stream.theirs_open:
            self.consumed(0, len(frame.data))  # nobody will use it
            if stream is not None:
                self.reset(frame.stream_id, Reset.STREAM_ALREADY_CLOSED)
                events.append(StreamWasReset(frame.stream_id, Reset.STREAM_ALREADY_CLOSED))
            elif frame.stream_id > max(self._peer.last_stream, self._next_stream):
                self._send(RstStream(frame.stream_id, Reset.INVALID_STREAM))
            return
        if frame.data:
            events.append(DataReceived(frame.stream_id, frame.data))
        self._on_end(frame.stream_id, frame.fin, events)

    def _on_end(self, stream_id: int, fin: bool, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if fin and stream is not None and stream.theirs_open:
            stream.theirs_open = False
            events.append(StreamEnded(stream_id))
            self._forget_if_done(stream_id)

    def _forget_if_done(self, stream_id: int) -> None:
        stream = self._streams[stream_id]
        if not stream.ours_open and not stream.theirs_open:
            del self._streams[stream_id]

    def _on_window(self, stream_id: int, delta: int, events: list[Event]) -> None:
        self._peer.keeps_windows = True
        if stream_id == 0:
            self._peer.window += delta
            if self._peer.window > MAX_WINDOW:
                raise SpdyError("the window of the connection is too large")
        elif stream := self._streams.get(stream_id):
            stream.window += delta
            if stream.window > MAX_WINDOW:
                self.reset(stream_id, Reset.FLOW_CONTROL_ERROR)
                events.append(StreamWasReset(stream_id, Reset.FLOW_CONTROL_ERROR))
                return
        events.append(WindowOpened(stream_id))

    def _on_initial_window(self, size: int, events: list[Event]) -> None:
        if size > MAX_WINDOW:
            raise SpdyError(f"an initial window of {size}")
        self._peer.keeps_windows = True
        for stream in self._streams.values():
            stream.window += size - self._peer.initial_window
        self._peer.initial_window = size
        events.append(WindowOpened(0))


__all__ = [
    "MAX_STREAMS",
    "WINDOW",
    "DataReceived",
    "Event",
    "Failed",
    "PeerLeaves",
    "PingAnswered",
    "Session",
    "StreamEnded",
    "StreamOpened",
    "StreamReplied",
    "StreamWasReset",
    "WindowOpened",
]
