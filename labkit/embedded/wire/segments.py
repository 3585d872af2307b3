"""What crosses a connection, as TCP segments, and as the packets of a pcap file. Pure.

The bytes of a segment are those that crossed. The headers around them are made here, because a hop sees a byte stream
and not the kernel's packets: addresses, ports, sequence numbers and flags are right and consistent; the sizes of the
pieces are those in which the bytes arrived; bare acknowledgements are left out. Packets have no Ethernet header
(LINKTYPE_RAW), since there is none that would be true.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-03.html, RFC 791, RFC 9293
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from socket import inet_aton
from typing import Any

Address = tuple[str, int]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
FLAG_LETTERS = ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "."))

LARGEST = 32 * 1024
"""Bytes in one segment at most; an IP packet has 16 bits for its length."""

LINKTYPE_RAW = 101
SNAPLEN = 262144
_WINDOW = 65535
_HEADERS = 40


@dataclass(frozen=True)
class Segment:
    """One TCP segment."""

    time: float
    source: Address
    target: Address
    flags: int
    seq: int
    ack: int = 0
    data: bytes = b""

    def encode(self, **more: Any) -> bytes:
        """As a line of JSON, and the data behind it; `more` is told along."""
        head = {
            "t": self.time,
            "from": self.source,
            "to": self.target,
            "flags": self.flags,
            "seq": self.seq,
            "ack": self.ack,
            "size": len(self.data),
        }
        return json.dumps(head | more).encode() + b"\n" + self.data

    @classmethod
    def decode(cls, head: dict[str, Any], data: bytes) -> Segment:
        """Back from `encode`, whose line was read as `head`."""
        source, target = (tuple(head[key]) for key in ("from", "to"))
        return cls(head["t"], source, target, head["flags"], head["seq"], head["ack"], data)


def packet(segment: Segment) -> bytes:
    """The segment as an IPv4 packet."""
    addresses = inet_aton(segment.source[0]) + inet_aton(segment.target[0])
    fields = (segment.source[1], segment.target[1], segment.seq, segment.ack, 5 << 4, segment.flags, _WINDOW, 0, 0)
    tcp = struct.pack("!HHIIBBHHH", *fields) + segment.data
    pseudo = addresses + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + addresses
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def file_header(snaplen: int = SNAPLEN) -> bytes:
    """The beginning of a pcap file."""
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, LINKTYPE_RAW)


def file_record(segment: Segment, snaplen: int = SNAPLEN) -> bytes:
    """The segment as a record of a pcap file; of a long one, the first `snaplen` bytes."""
    whole = packet(segment)
    kept = whole[:snaplen]
    seconds = int(segment.time)
    microseconds = min(int((segment.time - seconds) * 1e6), 999_999)
    return struct.pack("<IIII", seconds, microseconds, len(kept), len(whole)) + kept


def flag_text(flags: int) -> str:
    """As tcpdump writes them: S, S., P., F., R."""
    return "".join(letter for bit, letter in FLAG_LETTERS if flags & bit) or "none"
