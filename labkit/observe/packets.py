"""What packets say to somebody who can only look at them: read from a pcap file, told apart. Pure.

`dpkt` takes packets, TLS records and ClientHellos apart (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 for the server name,
RFC 7301 for ALPN). Here it is decided what each packet carries, by following each direction of each connection: a TLS
record may begin in one packet and end in another one.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from socket import AF_INET, AF_INET6, inet_ntop

import dpkt

SHOWN_BYTES = 48
"""Of each packet, so many bytes are kept for the eye: enough to recognise it, too few for what it is about."""

LINKTYPE_RAW = 101
"""Packets without any header before that of IP."""

Address = tuple[str, int]


class Kind(Enum):
    """What a packet carries, for somebody on the wire."""

    HTTP_REQUEST = "HTTP request"
    HTTP_RESPONSE = "HTTP response"
    HTTP_BODY = "HTTP, continued"
    HTTP2 = "HTTP/2"
    HANDSHAKE = "TLS handshake"
    CIPHER_SPEC = "TLS change cipher spec"
    APPLICATION_DATA = "TLS application data"
    ALERT = "TLS alert"
    RECORD_PART = "TLS, continued"
    DATA = "data"
    OPEN = "TCP open"
    CLOSE = "TCP close"
    RESET = "TCP reset"
    ACK = "TCP ack"
    AGAIN = "TCP, sent again"

    @property
    def readable(self) -> bool:
        """Whether everybody on the way can read it."""
        return self in (Kind.HTTP_REQUEST, Kind.HTTP_RESPONSE, Kind.HTTP_BODY, Kind.HTTP2, Kind.DATA)

    @property
    def tls(self) -> bool:
        return self.value.startswith("TLS")


@dataclass(frozen=True)
class RawPacket:
    """A TCP packet of a capture."""

    time: float
    source: Address
    target: Address
    flags: int
    seq: int
    data: bytes


@dataclass(frozen=True)
class Packet:
    """A packet, and what it carries. Of its bytes only the first ones are kept."""

    time: float
    source: Address
    target: Address
    size: int
    kind: Kind
    detail: str = ""
    entropy: float = 0.0
    start: bytes = b""
    sni: str = ""
    alpn: tuple[str, ...] = ()

    @property
    def hex(self) -> str:
        return self.start.hex(" ")

    @property
    def text(self) -> str:
        return printable(self.start)


@dataclass(frozen=True)
class CaptureFile:
    """What a pcap file holds: its packets as they are, and the type of their outermost header."""

    linktype: int
    records: tuple[tuple[float, bytes], ...] = ()


def read_file(content: bytes) -> CaptureFile:
    """A pcap or pcapng file; one that ends in the middle of a packet is read up to there."""
    try:
        reader = dpkt.pcap.UniversalReader(io.BytesIO(content))
    except (ValueError, dpkt.Error):
        return CaptureFile(LINKTYPE_RAW)
    found: list[tuple[float, bytes]] = []
    try:
        for moment, packet in reader:
            found.append((float(moment), packet))
    except (dpkt.Error, struct.error, ValueError):
        pass  # cut off while it was written
    return CaptureFile(reader.datalink(), tuple(found))


_OUTER = {
    dpkt.pcap.DLT_EN10MB: dpkt.ethernet.Ethernet,
    dpkt.pcap.DLT_LINUX_SLL: dpkt.sll.SLL,
    dpkt.pcap.DLT_LINUX_SLL2: dpkt.sll2.SLL2,
    dpkt.pcap.DLT_NULL: dpkt.loopback.Loopback,
}


def tcp_packets(file: CaptureFile) -> Iterator[RawPacket]:
    """The TCP packets of a file; what is none, or is damaged, is left out."""
    outer = _OUTER.get(file.linktype)
    for moment, content in file.records:
        try:
            inner = outer(content).data if outer else _ip(content)
            if not isinstance(inner, dpkt.ip.IP | dpkt.ip6.IP6) or not isinstance(inner.data, dpkt.tcp.TCP):
                continue
        except (dpkt.Error, struct.error, IndexError):
            continue
        tcp = inner.data
        source, target = (_text(address) for address in (inner.src, inner.dst))
        yield RawPacket(moment, (source, tcp.sport), (target, tcp.dport), tcp.flags, tcp.seq, bytes(tcp.data))


def _ip(content: bytes) -> object:
    return dpkt.ip6.IP6(content) if content[:1] and content[0] >> 4 == 6 else dpkt.ip.IP(content)


def _text(address: bytes) -> str:
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def tell_apart(packets: Iterable[RawPacket]) -> list[Packet]:
    """Each packet with what it carries, in the order of their times."""
    flows: dict[tuple[Address, Address], _Flow] = {}
    found = []
    for raw in sorted(packets, key=lambda packet: packet.time):
        key = (raw.source, raw.target)
        if raw.flags & dpkt.tcp.TH_SYN and not raw.flags & dpkt.tcp.TH_ACK:
            flows.pop((raw.target, raw.source), None)
            flows[key] = _Flow()
        flow = flows.setdefault(key, _Flow())
        found.append(flow.take(raw))
    return found


def entropy(data: bytes) -> float:
    """Shannon's entropy in bits per byte: text has 4 to 5; what is encrypted comes near to 8, once it is long enough.

    Of n bytes it is at most log2(n), so short packets say little.
    """
    if not data:
        return 0.0
    size = len(data)
    return -sum(count / size * math.log2(count / size) for count in Counter(data).values()) + 0.0


def printable(data: bytes) -> str:
    """Bytes as text; a dot for what is no letter."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


# One direction of a connection

_REQUEST = re.compile(rb"([A-Z]{3,10}) (\S+) (HTTP/1\.[01])\r?\n")
_RESPONSE = re.compile(rb"(HTTP/1\.[01] \d{3}[^\r\n]*)")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
_MAY_BE_RECORD = re.compile(rb"[\x14-\x17]\x03?")


@dataclass
class _Flow:
    expected: int | None = None
    tls: bool = False
    encrypted: bool = False
    """After ChangeCipherSpec even handshakes cannot be read."""
    http2: bool = False
    http: bool = False
    rest: bytes = b""
    """The beginning of a TLS record whose end has not come yet."""
    seen: dict[str, object] = field(default_factory=dict)

    def take(self, raw: RawPacket) -> Packet:
        kind, detail = self.judge(raw)
        start = b"" if kind is Kind.AGAIN else _without_query(raw.data)[:SHOWN_BYTES]
        hello, self.seen = self.seen, {}
        return Packet(
            raw.time,
            raw.source,
            raw.target,
            len(raw.data),
            kind,
            detail,
            round(entropy(raw.data), 2),
            start,
            sni=str(hello.get("sni", "")),
            alpn=tuple(hello.get("alpn", ())),  # type: ignore[arg-type]
        )

    def judge(self, raw: RawPacket) -> tuple[Kind, str]:
        if raw.flags & dpkt.tcp.TH_RST:
            return Kind.RESET, "the connection was cut"
        if raw.flags & dpkt.tcp.TH_SYN:
            self.expected = (raw.seq + 1) % 2**32
            return Kind.OPEN, ""
        if not raw.data:
            return (Kind.CLOSE if raw.flags & dpkt.tcp.TH_FIN else Kind.ACK), ""
        if self.expected is not None and raw.seq != self.expected:
            if (self.expected - raw.seq) % 2**32 < 2**31:
                return Kind.AGAIN, ""
            self.rest = b""  # something is missing in between
        self.expected = (raw.seq + len(raw.data)) % 2**32
        return self.content(raw.data)

    def content(self, data: bytes) -> tuple[Kind, str]:
        if self.tls or _RECORD.match(self.rest + data):
            self.tls = True
            return self.records(data)
        undecided = self.rest + data
        self.rest = undecided if _MAY_BE_RECORD.fullmatch(undecided) else b""
        if data.startswith(_PREFACE[: len(data)]) or self.http2:
            first = not self.http2
            self.http2 = True
            return Kind.HTTP2, "the connection begins (PRI * HTTP/2.0)" if first else ""
        if match := _REQUEST.match(data):
            self.http = True
            method, target, version = (part.decode("ascii", "replace") for part in match.groups())
            path, mark, _ = target.partition("?")
            return Kind.HTTP_REQUEST, f"{method} {path}{'?...' if mark else ''} {version}"
        if match := _RESPONSE.match(data):
            self.http = True
            return Kind.HTTP_RESPONSE, match[1].decode("ascii", "replace").strip()
        return (Kind.HTTP_BODY if self.http else Kind.DATA), ""

    def records(self, data: bytes) -> tuple[Kind, str]:
        try:
            records, used = dpkt.ssl.tls_multi_factory(self.rest + data)
        except dpkt.ssl.SSL3Exception:
            self.rest = b""
            return Kind.RECORD_PART, ""
        self.rest = (self.rest + data)[used:]
        told = [self.record(record) for record in records]
        if not told:
            return Kind.RECORD_PART, ""
        kinds = [kind for kind, _ in told]
        # What the packet is about, if it carries several records.
        most = next(
            (one for one in (Kind.HANDSHAKE, Kind.ALERT, Kind.APPLICATION_DATA) if one in kinds), Kind.CIPHER_SPEC
        )
        return most, ", ".join(dict.fromkeys(word for _, word in told if word))

    def record(self, record: dpkt.ssl.TLSRecord) -> tuple[Kind, str]:
        content = bytes(record.data)
        if record.type == 23:
            return Kind.APPLICATION_DATA, ""
        if record.type == 20:
            self.encrypted = True
            return Kind.CIPHER_SPEC, ""
        if record.type == 21:
            return Kind.ALERT, "" if self.encrypted or len(content) != 2 else _ALERTS.get(content[1], str(content[1]))
        return Kind.HANDSHAKE, "" if self.encrypted else self.handshake(content)

    def handshake(self, content: bytes) -> str:
        name = _MESSAGES.get(content[0] if content else -1, "")
        try:
            message = dpkt.ssl.TLSHandshake(content).data
        except (dpkt.Error, dpkt.ssl.SSL3Exception, struct.error, IndexError):
            return name
        extensions = dict(getattr(message, "extensions", ()))
        words = [name]
        if content[0] == _CLIENT_HELLO:
            self.seen = {"sni": server_name(extensions), "alpn": offered_protocols(extensions)}
            words += [f"sni={self.seen['sni']}"] if self.seen["sni"] else []
            words += [f"alpn={','.join(offered_protocols(extensions))}"] if self.seen["alpn"] else []
        elif content[0] == _SERVER_HELLO:
            words += [_version(extensions, message.version), message.ciphersuite.name]
        return " ".join(words)


_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_MESSAGES = {
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
}
_ALERTS = {
    0: "close notify",
    10: "unexpected message",
    20: "bad record mac",
    40: "handshake failure",
    42: "bad certificate",
    45: "certificate expired",
    46: "certificate unknown",
    48: "unknown ca",
    51: "decrypt error",
    70: "protocol version",
    80: "internal error",
    112: "unrecognized name",
    116: "certificate required",
    120: "no application protocol",
}
_VERSIONS = {0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


def server_name(extensions: Mapping[int, bytes]) -> str:
    """The SNI of a ClientHello, RFC 6066 section 3: a list of one name, of type host_name."""
    content = extensions.get(0, b"")
    return content[5:].decode("ascii", "replace") if len(content) > 5 and content[2] == 0 else ""


def offered_protocols(extensions: Mapping[int, bytes]) -> tuple[str, ...]:
    """The ALPN of a ClientHello, RFC 7301 section 3.1: a list of names, each behind its length."""
    content, found = extensions.get(16, b"")[2:], []
    while content:
        size = content[0]
        found.append(content[1 : 1 + size].decode("ascii", "replace"))
        content = content[1 + size :]
    return tuple(found)


def _version(extensions: Mapping[int, bytes], written: int) -> str:
    # supported_versions: since 1.3 the version in front stays that of 1.2.
    chosen = extensions.get(43, b"")
    number = int.from_bytes(chosen, "big") if len(chosen) == 2 else written
    return _VERSIONS.get(number, hex(number))


def _without_query(data: bytes) -> bytes:
    """A request without what stands behind `?`: keys travel there."""
    match = _REQUEST.match(data)
    if not match or b"?" not in match[2]:
        return data[:SHOWN_BYTES]
    path = match[2].partition(b"?")[0]
    return data[: match.start(2)] + path + b"?..." + data[match.end(2) :]
