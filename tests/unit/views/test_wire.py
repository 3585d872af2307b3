"""Captures as they are shown: connections, packets, comparisons, files; from packets with known bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.embedded.wire.segments import ACK, FIN, PSH, RST, SYN, Segment, file_header, file_record
from labkit.errors import InputError
from labkit.observe.packets import read_file, tcp_packets
from labkit.observe.recording import Recording, read_recording, servers_of
from labkit.views.wire import REFUSED, ROWS, Wire

CLIENT, OTHER, SERVER = ("127.64.2.1", 40000), ("127.64.0.1", 40001), ("127.64.3.1", 5000)
NAMES = {"127.64.2.1": "shop/client"}
REQUEST = b"GET /chat HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n\r\n"
RECORD = b"\x17\x03\x03\x01\x00" + bytes(range(256))


def segments(client: tuple[str, int], *pieces: bytes, end: int = FIN, start: float = 100.0) -> list[Segment]:
    """A connection in which both sides speak in turn, and the server ends it."""
    found, seq = [Segment(start, client, SERVER, SYN, 0)], {client: 1, SERVER: 1}
    ends = (client, SERVER)
    for number, data in enumerate(pieces):
        source, target = ends[number % 2], ends[1 - number % 2]
        found.append(Segment(start + number + 1, source, target, PSH | ACK, seq[source], seq[target], data))
        seq[source] += len(data)
    return [*found, Segment(start + 50, SERVER, client, end | ACK, seq[SERVER], seq[client])]


def wire_of(*talks: list[Segment]) -> Wire:
    content = file_header() + b"".join(file_record(one) for talk in talks for one in talk)
    return Wire(Recording("shop/server", read_file(content), NAMES))


@pytest.fixture
def before() -> Wire:
    return wire_of(segments(CLIENT, REQUEST, ANSWER))


@pytest.fixture
def after() -> Wire:
    return wire_of(segments(CLIENT, RECORD, RECORD))


def test_connections_in_words(before: Wire, after: Wire) -> None:
    (readable,), (secret,) = before.all_connections(), after.all_connections()
    assert readable.row() == ("shop/client", 5000, 4, 50, "readable", "", "", "closed by the server")
    assert secret.row() == ("shop/client", 5000, 4, 522, "TLS", "", "", "closed by the server")
    assert (before.readable, before.encrypted, after.readable, after.encrypted) == (True, False, False, True)


def test_a_mixed_capture_is_neither(before: Wire) -> None:
    mixed = wire_of(segments(CLIENT, RECORD), segments(OTHER, REQUEST, ANSWER))
    assert mixed.readable and not mixed.encrypted
    assert "2 connections (1 TLS, 1 readable)" in mixed.title
    assert [one.peer for one in mixed.all_connections()] == ["shop/client", "127.64.0.1"]


def test_nothing_is_neither() -> None:
    nothing = wire_of()
    assert not nothing.readable and not nothing.encrypted and nothing.with_data() == []
    assert "nothing crossed" in repr(nothing) and nothing.packets.empty and "nothing crossed" in nothing._repr_html_()
    silent = wire_of(segments(CLIENT))
    assert not silent.readable and not silent.encrypted and "no data" in silent.title


def test_who_is_refused_has_spoken() -> None:
    refused = wire_of(segments(CLIENT, REQUEST, end=RST))
    assert refused.all_connections()[0].ended == REFUSED
    assert "1 plaintext connection refused by the server, after 31 bytes had been sent" in repr(refused)
    assert "refused" not in repr(wire_of(segments(CLIENT, RECORD, end=RST)))  # TLS that is cut told nothing


def test_rows_of_packets(before: Wire) -> None:
    asked, answered = before.packets.to_dict("records")
    assert asked == {
        "TIME": "1.0000",
        "DIRECTION": "in",
        "PEER": "shop/client",
        "PORT": 5000,
        "SIZE": 31,
        "KIND": "HTTP request",
        "WHAT": "GET /chat HTTP/1.1",
        "ENTROPY": "4.1",
        "HEX": REQUEST.hex(" "),
        "TEXT": "GET /chat HTTP/1.1..Host: x....",
    }
    assert (answered["DIRECTION"], answered["TEXT"]) == ("out", "HTTP/1.1 200 OK....")


def test_long_captures_are_shown_in_part() -> None:
    long = wire_of(segments(CLIENT, *[b"x"] * (ROWS + 5)))
    assert "5 packets more: .packets has them all" in repr(long) and len(long.packets) == ROWS + 5


def test_text_and_page_show_the_same(before: Wire) -> None:
    for shown in (repr(before), before._repr_html_()):
        for words in ("On the wire to shop/server", "GET /chat HTTP/1.1", "47 45 54 20", "shop/client", "4.1"):
            assert words in shown
    assert "<script>" not in wire_of(segments(CLIENT, b"<script>"))._repr_html_()


def test_side_by_side(before: Wire, after: Wire) -> None:
    rows = {name: (left, right) for name, left, right in before.beside(after).rows()}
    assert rows["bytes that can be read"] == ("50", "0") and rows["bytes in TLS records"] == ("0", "522")
    assert rows["who asks for what"] == ("GET /chat HTTP/1.1", "-")
    assert rows["the first bytes of data"][0].startswith("GET /chat")
    assert rows["the same in hex"][1] == RECORD[:16].hex(" ")
    assert float(rows["entropy, bits per byte"][0]) < 5 < float(rows["entropy, bits per byte"][1])
    both = before.beside(after)
    assert "The wire to shop/server, twice" in repr(both) and "BEFORE" in both._repr_html_()
    nothing = {name: (left, right) for name, left, right in wire_of().beside(wire_of()).rows()}
    assert set(nothing.values()) == {("0", "0"), ("-", "-")}


# Files


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_what_is_saved_is_what_is_read(before: Wire, tmp_path: Path, form: str) -> None:
    done = before.save(tmp_path / f"x.{form}")
    assert "keep it to yourself" in str(done) and "tshark -r" in str(done)
    again = Wire(read_recording(tmp_path / f"x.{form}"))
    assert again.all_packets() == before.all_packets() and again.server == f"x.{form}"
    assert again.requests == ["GET /chat HTTP/1.1"]


def test_comments_say_what_was_rebuilt(before: Wire, after: Wire, tmp_path: Path) -> None:
    assert "keep it" not in str(after.save(tmp_path / "x.pcapng"))
    assert b"headers of TCP and IP around them are rebuilt" in (tmp_path / "x.pcapng").read_bytes()


def test_other_names_are_no_captures(before: Wire, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no capture"):
        before.save(tmp_path / "x.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_recording(tmp_path / "nowhere.pcap")
    (tmp_path / "x.pcap").write_text("hello")
    with pytest.raises(InputError, match="holds no packets"):
        read_recording(tmp_path / "x.pcap")


def test_who_is_the_server_without_a_beginning() -> None:
    whole = segments(CLIENT, REQUEST, ANSWER) + segments(OTHER, REQUEST, ANSWER)
    middle = [one for one in whole if not one.flags & SYN]
    for some in (whole, middle, middle[:1], middle[1:2]):
        content = file_header() + b"".join(file_record(one) for one in some)
        assert servers_of(list(tcp_packets(read_file(content)))) == {SERVER}


def test_a_file_from_a_shell(before: Wire, tmp_path: Path) -> None:
    before.save(tmp_path / "x.pcapng")
    shown = CliRunner().invoke(main, ["capture", "--read", str(tmp_path / "x.pcapng")])
    assert shown.exit_code == 0 and "GET /chat HTTP/1.1" in shown.stdout
    data = json.loads(CliRunner().invoke(main, ["capture", "-r", str(tmp_path / "x.pcapng"), "--json"]).stdout)
    assert data["packets"][0]["kind"] == "HTTP request" and data["connections"][0]["on_the_wire"] == "readable"
    assert CliRunner().invoke(main, ["capture", "-r", str(tmp_path / "y.pcap")]).exit_code == 2
    assert CliRunner().invoke(main, ["capture"]).exit_code == 2
