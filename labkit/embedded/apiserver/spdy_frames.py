"""SPDY/3.1 on the wire: bytes to frames and frames to bytes. No socket, no state of streams.

kubectl streams port-forward (and, up to 1.29, exec and attach) in this protocol; nothing else on earth still does.
https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/

    data     0 | stream (31 bits)                  flags (8) | length (24) | data
    control  1 | version (15) | type (16)          flags (8) | length (24) | fields of the type

Headers are compressed by one zlib stream for each direction of a connection, with a dictionary that both ends know.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

VERSION = 3
CONTROL_LIMIT = 65536
"""Bytes of a control frame, and of headers once they are inflated. Kubernetes' are below 300."""

_FIN, _UNIDIRECTIONAL = 1, 2
_CONTROL = 0x80000000
_STREAM_BITS = 0x7FFFFFFF

# Appendix of the protocol: words as they stand in a header block (a length, then the word), then bits of values.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status|200 OK|version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_VALUES = (
    "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052"
    "03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = (word for part in _WORDS.split("|") for word in ([part] if part == "200 OK" else part.split()))
    return b"".join(struct.pack(">I", len(word)) + word.encode() for word in words) + _VALUES.encode()


DICTIONARY = _dictionary()


class Reset(IntEnum):
    """Why a stream is reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9


class Away(IntEnum):
    """Why a connection ends."""

    OK = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


INITIAL_WINDOW_SIZE = 7  # the one setting that matters here


class SpdyError(Exception):
    """The peer does not speak the protocol: the connection cannot go on."""


@dataclass(frozen=True)
class SynStream:
    """Opens a stream."""

    stream_id: int
    headers: dict[str, str] = field(default_factory=dict)
    fin: bool = False
    unidirectional: bool = False


@dataclass(frozen=True)
class SynReply:
    """Accepts a stream."""

    stream_id: int
    headers: dict[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class RstStream:
    """Ends a stream in both directions at once."""

    stream_id: int
    status: int


@dataclass(frozen=True)
class Settings:
    """Settings of the sender, by number."""

    values: dict[int, int]


@dataclass(frozen=True)
class Ping:
    """Wants an answer with the same number."""

    ping_id: int


@dataclass(frozen=True)
class GoAway:
    """No new streams from now on."""

    last_stream_id: int
    status: int = Away.OK


@dataclass(frozen=True)
class Headers:
    """More headers of a stream."""

    stream_id: int
    headers: dict[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class WindowUpdate:
    """So many more bytes may be sent; stream 0 stands for the connection."""

    stream_id: int
    delta: int


@dataclass(frozen=True)
class Data:
    """Bytes of a stream. A reader hands out long frames in pieces; the last carries the end."""

    stream_id: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | Headers | WindowUpdate | Data
_TYPES = {SynStream: 1, SynReply: 2, RstStream: 3, Settings: 4, Ping: 6, GoAway: 7, Headers: 8, WindowUpdate: 9}


class FrameWriter:
    """Frames to bytes."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """The bytes of one frame. Frames must be sent in the order in which they were encoded."""
        if isinstance(frame, Data):
            flags = _FIN if frame.fin else 0
            return struct.pack(">II", frame.stream_id, flags << 24 | len(frame.data)) + frame.data
        flags, payload = self._payload(frame)
        return struct.pack(">HHI", 0x8000 | VERSION, _TYPES[type(frame)], flags << 24 | len(payload)) + payload

    def _payload(self, frame: Frame) -> tuple[int, bytes]:
        match frame:
            case SynStream(stream_id, headers, fin, unidirectional):
                flags = (_FIN if fin else 0) | (_UNIDIRECTIONAL if unidirectional else 0)
                return flags, struct.pack(">IIH", stream_id, 0, 0) + self._compress(headers)
            case SynReply(stream_id, headers, fin) | Headers(stream_id, headers, fin):
                return _FIN if fin else 0, struct.pack(">I", stream_id) + self._compress(headers)
            case RstStream(one, two) | GoAway(one, two) | WindowUpdate(one, two):
                return 0, struct.pack(">II", one, two)
            case Ping(ping_id):
                return 0, struct.pack(">I", ping_id)
            case Settings(values):
                pairs = b"".join(struct.pack(">II", key, value) for key, value in values.items())
                return 0, struct.pack(">I", len(values)) + pairs
        raise TypeError(frame)

    def _compress(self, headers: dict[str, str]) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                block += struct.pack(">I", len(text)) + text
        return self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class FrameReader:
    """Bytes to frames, however the bytes are cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)
        self._stream_id = 0  # of the data frame that is being read
        self._left: int | None = None  # bytes of it that are still to come
        self._fin = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now. Raises SpdyError."""
        self._buffer += data
        while True:
            if self._left is not None:
                frame: Frame | None = self._piece_of_data()
            elif len(self._buffer) >= 8:
                first, second = struct.unpack_from(">II", self._buffer)
                length = second & 0xFFFFFF
                if not first & _CONTROL:
                    self._begin_data(first, second >> 24, length)
                    continue
                if length > CONTROL_LIMIT:
                    raise SpdyError(f"a control frame of {length} bytes")
                if len(self._buffer) < 8 + length:
                    return
                payload = bytes(self._buffer[8 : 8 + length])
                del self._buffer[: 8 + length]
                frame = self._control(first, second >> 24, payload)
                if frame is None:
                    continue
            else:
                return
            if frame is None:
                return
            yield frame

    def _begin_data(self, stream_id: int, flags: int, length: int) -> None:
        if stream_id == 0:
            raise SpdyError("data of stream 0")
        del self._buffer[:8]
        self._stream_id, self._left, self._fin = stream_id, length, bool(flags & _FIN)

    def _piece_of_data(self) -> Data | None:
        assert self._left is not None
        if self._left and not self._buffer:
            return None
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(piece)
        if self._left:
            return Data(self._stream_id, piece)
        self._left = None
        return Data(self._stream_id, piece, self._fin)

    def _control(self, first: int, flags: int, payload: bytes) -> Frame | None:
        """One control frame; None for a type that nobody needs, which a reader ignores."""
        version, number = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"version {version} instead of {VERSION}")
        try:
            return self._fields(number, flags, payload)
        except struct.error:
            raise SpdyError(f"a control frame of type {number} is too short") from None

    def _fields(self, number: int, flags: int, payload: bytes) -> Frame | None:
        fin = bool(flags & _FIN)
        if number == 1:
            stream_id = struct.unpack_from(">IIH", payload)[0] & _STREAM_BITS
            return SynStream(stream_id, self._inflate(payload[10:]), fin, bool(flags & _UNIDIRECTIONAL))
        if number in (2, 8):
            stream_id = struct.unpack_from(">I", payload)[0] & _STREAM_BITS
            kind: type[SynReply | Headers] = SynReply if number == 2 else Headers
            return kind(stream_id, self._inflate(payload[4:]), fin)
        if number in (3, 7, 9):
            one, two = struct.unpack_from(">II", payload)
            one &= _STREAM_BITS
            if number == 9:
                return WindowUpdate(one, two & _STREAM_BITS)
            return RstStream(one, two) if number == 3 else GoAway(one, two)
        if number == 4:
            (count,) = struct.unpack_from(">I", payload)
            if count * 8 > len(payload) - 4:
                raise SpdyError(f"{count} settings in {len(payload)} bytes")
            pairs = struct.iter_unpack(">II", payload[4 : 4 + 8 * count])
            return Settings({key & 0xFFFFFF: value for key, value in pairs})
        if number == 6:
            return Ping(struct.unpack_from(">I", payload)[0])
        return None

    def _inflate(self, block: bytes) -> dict[str, str]:
        try:
            raw = self._decompressor.decompress(block, CONTROL_LIMIT)
        except zlib.error as error:
            raise SpdyError(f"headers cannot be inflated: {error}") from None
        if self._decompressor.unconsumed_tail or self._decompressor.eof:
            raise SpdyError("headers are too large, or their compression ended")
        return _headers(raw)


def _headers(raw: bytes) -> dict[str, str]:
    """Names in lower case; several values of a name are separated by NUL."""
    position = 4
    headers: dict[str, str] = {}

    def text() -> str:
        nonlocal position
        (length,) = struct.unpack_from(">I", raw, position)
        position += 4 + length
        if position > len(raw):
            raise SpdyError("a header is longer than its block")
        return raw[position - length : position].decode("utf-8", "replace")

    try:
        (count,) = struct.unpack_from(">I", raw)
        for _ in range(count):
            name = text().lower()
            if name in headers:
                raise SpdyError(f"the header {name!r} comes twice")
            headers[name] = text()
    except struct.error:
        raise SpdyError("a header block is too short") from None
    return headers
