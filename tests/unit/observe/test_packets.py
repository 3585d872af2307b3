"""Packets told apart: HTTP in clear, TLS with what its handshake shows, entropy; from real TLS of Python's ssl."""

from __future__ import annotations

import contextlib
import math
import os
import ssl
import struct
from collections.abc import Iterable
from itertools import count

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.wire.segments import ACK, FIN, PSH, RST, SYN, Segment, file_header, file_record, packet
from labkit.observe.packets import (
    SHOWN_BYTES,
    CaptureFile,
    Kind,
    Packet,
    entropy,
    printable,
    read_file,
    tcp_packets,
    tell_apart,
)
from labkit.pki import CertificateAuthority

CLIENT, SERVER = ("127.64.2.1", 40000), ("127.64.3.1", 5000)
REQUEST = b"GET /chat HTTP/1.1\r\nHost: x\r\n\r\n"


class Talk:
    """A connection as segments."""

    def __init__(self) -> None:
        self.clock = count(1000)
        self.seq = {True: 100, False: 7000}
        self.segments: list[Segment] = []

    def say(self, data: bytes = b"", flags: int = PSH | ACK, *, client: bool = True, seq: int | None = None) -> Talk:
        source, target = (CLIENT, SERVER) if client else (SERVER, CLIENT)
        number = self.seq[client] if seq is None else seq
        segment = Segment(float(next(self.clock)), source, target, flags, number, self.seq[not client], data)
        self.segments.append(segment)
        if seq is None:
            self.seq[client] += len(data) + bool(flags & (SYN | FIN))
        return self

    def open(self) -> Talk:
        return self.say(flags=SYN).say(flags=SYN | ACK, client=False).say(flags=ACK)

    def packets(self) -> list[Packet]:
        return tell_apart(tcp_packets(read_file(file_of(self.segments))))


def file_of(segments: Iterable[Segment]) -> bytes:
    return file_header() + b"".join(file_record(one) for one in segments)


def kinds(packets: Iterable[Packet]) -> list[Kind]:
    return [one.kind for one in packets]


# HTTP


def test_http_is_told_by_its_first_line() -> None:
    talk = Talk().open().say(REQUEST).say(b"HTTP/1.1 200 OK\r\n\r\nhello", client=False).say(b"more", client=False)
    found = talk.say(flags=FIN | ACK).packets()
    assert kinds(found) == [
        *(Kind.OPEN, Kind.OPEN, Kind.ACK),
        *(Kind.HTTP_REQUEST, Kind.HTTP_RESPONSE, Kind.HTTP_BODY, Kind.CLOSE),
    ]
    assert [one.detail for one in found if one.kind.readable] == ["GET /chat HTTP/1.1", "HTTP/1.1 200 OK", ""]
    assert (found[3].source, found[3].target, found[3].size) == (CLIENT, SERVER, len(REQUEST))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Kind.HTTP2),
        (b"get / http/1.1\r\n", Kind.DATA),
        (b"GET / HTTP/1.1", Kind.DATA),  # no end of the line
        (b"\x16\x03", Kind.DATA),
        (b"\x16\x04\x00\x00\x05hello", Kind.DATA),  # no version of TLS
        (b"\x16\x03\x01\x00\x05\x63ello", Kind.HANDSHAKE),
        (b"\x17\x03\x03\x10\x00" + bytes(100), Kind.RECORD_PART),
        (b"\x15\x03\x03\x00\x02\x02\x74", Kind.ALERT),
        (bytes(range(256)), Kind.DATA),
    ],
)
def test_the_first_bytes_decide(data: bytes, kind: Kind) -> None:
    (found,) = Talk().say(data).packets()
    assert found.kind is kind


def test_alerts_in_clear_are_named() -> None:
    (found,) = Talk().say(b"\x15\x03\x03\x00\x02\x02\x74").packets()
    assert found.detail == "certificate required"


def test_http2_goes_on() -> None:
    found = Talk().say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").say(b"\0\0\1\4\0\0\0\0\0x").packets()
    assert kinds(found) == [Kind.HTTP2, Kind.HTTP2]


def test_queries_are_left_out_and_only_the_beginning_is_kept() -> None:
    long = b"POST /a?key=secret HTTP/1.1\r\nAuthorization: Bearer hidden-far-behind-the-beginning\r\n\r\n"
    (found,) = Talk().say(long).packets()
    assert found.detail == "POST /a?... HTTP/1.1" and "secret" not in found.text
    assert found.text.startswith("POST /a?... HTTP/1.1..") and len(found.start) == SHOWN_BYTES
    assert "hidden" not in found.text and found.size == len(long)


def test_resets_count_more_than_their_data() -> None:
    assert kinds(Talk().say(REQUEST).say(flags=RST | ACK, client=False).packets()) == [Kind.HTTP_REQUEST, Kind.RESET]


# TLS, real


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    place = tmp_path_factory.mktemp("tls")
    authority = CertificateAuthority.self_signed("test")
    leaf = authority.issue(dns_names=["server.shop"])
    certificate, key = place / "tls.crt", place / "tls.key"
    certificate.write_bytes(leaf.chain_pem)
    key.write_bytes(leaf.key_pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    server.set_alpn_protocols(["istio"])
    client = ssl.create_default_context(cadata=authority.root_pem.decode())
    client.set_alpn_protocols(["istio-peer-exchange", "istio"])
    return client, server


def tls_talk(sides: tuple[ssl.SSLContext, ssl.SSLContext], *, piece: int = 65000) -> Talk:
    """A handshake, and a word each way, in pieces of at most so many bytes."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = sides[0].wrap_bio(to_client, to_server, server_hostname="server.shop")
    server = sides[1].wrap_bio(to_server, to_client, server_side=True)
    talk = Talk().open()

    def cross(out: ssl.MemoryBIO) -> None:
        data = out.read()
        for start in range(0, len(data), piece):
            talk.say(data[start : start + piece], client=out is to_server)
        out.write(data)

    for _ in range(3):
        for side, out in ((client, to_server), (server, to_client)):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            cross(out)
    client.write(REQUEST * 20)
    cross(to_server)
    return talk


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("piece", [65000, 1460, 100, 7, 1])
def test_handshakes_are_read_however_they_are_cut(
    sides: tuple[ssl.SSLContext, ssl.SSLContext], version: ssl.TLSVersion, piece: int
) -> None:
    for side in sides:
        side.minimum_version = side.maximum_version = version
    found = tls_talk(sides, piece=piece).packets()
    hello = next(one for one in found if one.sni)
    assert hello.sni == "server.shop" and hello.alpn == ("istio-peer-exchange", "istio")
    assert hello.detail == "ClientHello sni=server.shop alpn=istio-peer-exchange,istio"
    answer = next(one.detail for one in found if one.detail.startswith("ServerHello"))
    assert ("TLS 1.3" if version is ssl.TLSVersion.TLSv1_3 else "TLS 1.2") in answer
    assert Kind.APPLICATION_DATA in kinds(found)
    early = {Kind.DATA} if piece < 3 else set()  # before three bytes are there, nobody can know
    assert {one.kind for one in found if one.kind.readable} <= early


def test_certificates_are_hidden_since_tls_1_3(sides: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    told = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for side in sides:
            side.minimum_version = side.maximum_version = version
        talk = tls_talk(sides)
        told[version] = (
            any("Certificate" in one.detail for one in talk.packets()),
            any(b"server.shop" in one.data for one in talk.segments if one.source == SERVER),
        )
    assert told == {ssl.TLSVersion.TLSv1_2: (True, True), ssl.TLSVersion.TLSv1_3: (False, False)}


# TCP


def test_what_is_sent_again_is_not_read_twice() -> None:
    talk = Talk().open().say(REQUEST)
    talk.say(REQUEST, seq=talk.seq[True] - len(REQUEST)).say(b"and on")
    assert kinds(talk.packets())[3:] == [Kind.HTTP_REQUEST, Kind.AGAIN, Kind.HTTP_BODY]


def test_after_a_gap_reading_goes_on() -> None:
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    talk = Talk().open().say(record).say(record[:10])
    talk.seq[True] += 27  # the rest was lost
    assert kinds(talk.say(record).packets())[-1] is Kind.APPLICATION_DATA


def test_numbers_of_bytes_may_run_over() -> None:
    talk = Talk()
    talk.seq[True] = 2**32 - 10
    talk.open().say(REQUEST)
    talk.seq[True] %= 2**32
    assert kinds(talk.say(b"and on").packets())[3:] == [Kind.HTTP_REQUEST, Kind.HTTP_BODY]


def test_a_port_that_is_used_again_begins_anew() -> None:
    talk = Talk().open().say(b"\x17\x03\x03\x00\x01x").say(flags=FIN | ACK)
    assert kinds(talk.open().say(REQUEST).packets())[-1] is Kind.HTTP_REQUEST


# Files


def test_files_are_read_up_to_where_they_break_off() -> None:
    whole = file_of(Talk().open().say(REQUEST).segments)
    assert len(read_file(whole).records) == 4
    for size in range(24, len(whole)):
        found = tell_apart(tcp_packets(read_file(whole[:size])))
        assert len(found) <= 4
    for nothing in (b"", b"\0" * 40, b"tcpdump: no", whole[:20]):
        assert read_file(nothing).records == ()


@pytest.mark.parametrize(
    ("linktype", "head"),
    [
        (1, bytes(12) + b"\x08\x00"),
        (113, struct.pack("!HHH8sH", 0, 1, 6, bytes(8), 0x0800)),
        (276, struct.pack("!HHIHBB8s", 0x0800, 0, 2, 1, 0, 6, bytes(8))),
        (101, b""),
    ],
    ids=["Ethernet", "Linux cooked", "Linux cooked 2", "raw"],
)
def test_real_tcpdumps_have_other_outer_headers(linktype: int, head: bytes) -> None:
    (segment,) = Talk().say(REQUEST).segments
    (found,) = tell_apart(tcp_packets(CaptureFile(linktype, ((1.0, head + packet(segment)),))))
    assert (found.source, found.target, found.detail) == (CLIENT, SERVER, "GET /chat HTTP/1.1")


def test_ipv6_and_what_is_no_tcp() -> None:
    tcp = dpkt.tcp.TCP(sport=40000, dport=80, seq=1, flags=PSH | ACK, data=REQUEST)
    six = dpkt.ip6.IP6(src=bytes(15) + b"\1", dst=bytes(15) + b"\2", nxt=6, plen=len(tcp), data=tcp)
    udp = dpkt.ip.IP(src=b"\1\2\3\4", dst=b"\1\2\3\5", p=17, data=dpkt.udp.UDP(sport=1, dport=2, data=b"x"))
    records = ((1.0, bytes(six)), (2.0, bytes(udp)), (3.0, b""), (4.0, b"\x45rubbish"))
    (found,) = tell_apart(tcp_packets(CaptureFile(101, records)))
    assert (found.source, found.detail) == (("::1", 40000), "GET /chat HTTP/1.1")


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80), st.integers(0, 63)), max_size=12))
def test_nothing_that_comes_breaks_it(pieces: list[tuple[bool, bytes, int]]) -> None:
    talk = Talk()
    for client, data, flags in pieces:
        talk.say(data, flags, client=client)
    found = talk.packets()
    assert sum(one.size for one in found) == sum(len(data) for _, data, _ in pieces)


@given(st.binary(max_size=300))
def test_broken_tls_is_still_tls(data: bytes) -> None:
    (found,) = Talk().say(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc" + data).packets()
    assert found.kind in (Kind.HANDSHAKE, Kind.RECORD_PART, Kind.ALERT, Kind.APPLICATION_DATA, Kind.CIPHER_SPEC)


# Entropy


def test_entropy_of_known_texts() -> None:
    assert entropy(b"") == entropy(b"aaaa") == 0.0
    assert entropy(b"ab" * 10) == 1.0 and entropy(bytes(range(256))) == 8.0
    assert 4 < entropy(REQUEST) < 5
    assert entropy(os.urandom(4000)) > 7.9


@given(st.binary(min_size=1, max_size=300))
def test_entropy_stays_within_its_limits(data: bytes) -> None:
    assert 0 <= entropy(data) <= min(8, math.log2(len(data))) + 1e-9
    assert entropy(data) == pytest.approx(entropy(bytes(sorted(data))))


def test_bytes_as_text() -> None:
    assert printable(b"a\r\n\xff~") == "a...~"


def test_our_own_checksums_are_right() -> None:
    (segment,) = Talk().say(b"odd").segments
    ours = packet(segment)
    ip = dpkt.ip.IP(ours)
    ip.sum = ip.data.sum = 0  # dpkt fills them in
    assert bytes(ip) == ours
