"""tcpdump's filter expressions, and the options of the program."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.wire.expression import Matches, parse
from labkit.embedded.wire.segments import ACK, PSH, SYN, Segment, flag_text
from labkit.embedded.wire.tcpdump import Options, UsageError, _Text, read_options
from labkit.errors import InputError

A, B = ("127.64.1.1", 40000), ("127.64.2.1", 5000)
C = ("127.64.3.1", 80)


@pytest.mark.parametrize(
    ("text", "there", "back", "other"),
    [
        ("", True, True, True),
        ("tcp", True, True, True),
        ("port 5000", True, True, False),
        ("tcp port 5000", True, True, False),
        ("dst port 5000", True, False, False),
        ("src port 5000", False, True, False),
        ("port 80", False, False, True),
        ("port http", False, False, True),
        ("port 80 or 5000", True, True, True),
        ("portrange 4000-6000", True, True, False),
        ("host 127.64.2.1", True, True, False),
        ("src host 127.64.1.1", True, False, True),
        ("host 127.64.1.1 and 127.64.3.1", False, False, True),
        ("not port 80", True, True, False),
        ("! port 80 && tcp", True, True, False),
        ("not (port 80 or port 5000)", False, False, False),
        ("port 80 or port 5000 and host 127.64.9.9", False, False, False),  # from the left, as there
        ("port 80 or (port 5000 and host 127.64.9.9)", False, False, True),
        ("tcp and host 127.64.2.1 and (port 5000 or port 80)", True, True, False),
    ],
)
def test_expressions(text: str, there: bool, back: bool, other: bool) -> None:
    matches = parse(text)
    assert [matches(A, B), matches(B, A), matches(A, C)] == [there, back, other]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port", "syntax error"),
        ("port x", "illegal port 'x'"),
        ("port 70000", "illegal port '70000'"),
        ("host server", "unknown host 'server'"),
        ("(port 80", "syntax error"),
        ("port 80)", "syntax error"),
        ("port 80 port 81", "syntax error"),
        ("and", "syntax error"),
        ("udp", "syntax error"),
        ("not", "syntax error"),
    ],
)
def test_what_is_no_expression(text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"can't parse filter expression: {words}"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("port 5000", True),
        ("port 80", False),  # no client calls from there
        ("dst port 80", False),
        ("dst port 5000 and src host 127.64.1.1", None),
        ("not dst port 5000", False),
        ("host 127.64.2.1 and port 5000", True),
        ("src port 40000 or dst port 5000", True),
        ("src port 40000", False),
        ("host 127.64.1.1 and port 80", False),
        ("host 127.64.1.1", None),
    ],
)
def test_one_end_alone_may_decide(text: str, known: bool | None) -> None:
    assert parse(text)(None, B) is known


PORTS = st.integers(1, 5)
EXPRESSIONS = st.recursive(
    st.one_of(
        st.builds("{} port {}".format, st.sampled_from(["src", "dst"]), PORTS),
        st.builds("{} host 127.64.1.{}".format, st.sampled_from(["src", "dst"]), PORTS),
    ),
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("(not {})".format, inner),
    ),
)


@given(EXPRESSIONS, PORTS)
def test_what_is_decided_beforehand_holds_for_everybody(text: str, port: int) -> None:
    matches: Matches = parse(text)
    early = matches(None, ("127.64.2.1", port))
    late = {matches((f"127.64.1.{client}", 40000), ("127.64.2.1", port)) for client in range(7)}
    assert late == {early} if early is not None else late <= {True, False}


# The program


def test_options() -> None:
    assert read_options(["-i", "any", "-nU", "-w", "-", "-c", "3", "tcp", "port", "80"]) == Options(
        expression="tcp port 80", interface="any", file="-", count=3
    )
    assert read_options(["-nA", "--immediate-mode", "port 80"]).text
    assert read_options(["-s", "0"]).snaplen == read_options([]).snaplen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-Z", "x"], "usage: tcpdump"),
        (["-i", "eth1"], "eth1: No such device exists"),
        (["-c", "x"], "invalid packet count x"),
        (["-c", "0"], "invalid packet count 0"),
    ],
)
def test_options_that_there_are_not(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_options(arguments)


def test_lines_as_tcpdump_writes_them() -> None:
    show = _Text(Options(times=False))
    opened = [
        Segment(1.0, A, B, SYN, 100),
        Segment(1.1, B, A, SYN | ACK, 500, 101),
        Segment(1.2, A, B, ACK, 101, 501),
    ]
    lines = [show(one).decode() for one in [*opened, Segment(1.3, A, B, PSH | ACK, 101, 501, b"hello\n\0")]]
    assert lines == [
        "IP 127.64.1.1.40000 > 127.64.2.1.5000: Flags [S], seq 100, length 0\n",
        "IP 127.64.2.1.5000 > 127.64.1.1.40000: Flags [S.], seq 500, ack 1, length 0\n",
        "IP 127.64.1.1.40000 > 127.64.2.1.5000: Flags [.], seq 1, ack 1, length 0\n",
        "IP 127.64.1.1.40000 > 127.64.2.1.5000: Flags [P.], seq 1:8, ack 1, length 7\n",
    ]
    assert _Text(Options(times=False, quiet=True))(opened[0]).decode() == (
        "IP 127.64.1.1.40000 > 127.64.2.1.5000: tcp 0\n"
    )
    assert flag_text(0) == "none"


def test_octets_and_text_begin_with_the_header_of_ip() -> None:
    segment = Segment(1.3, A, B, PSH | ACK, 101, 501, b"hello\r\n\0")
    _, text = _Text(Options(times=False, text=True))(segment).decode().split("\n", 1)
    assert text.startswith("E..0..@.@") and text.endswith("hello\n.\n")
    _, *rows = _Text(Options(times=False, octets=True))(segment).decode().splitlines()
    assert rows[0].startswith("\t0x0000:  4500 0030 0000 4000 4006 ") and len(rows) == 3
    assert re.search(r"7f40 0101  E\.\.0\.\.@\.@\...\.@\.\.$", rows[0])
    assert rows[2].endswith("hello...") and " 6865 6c6c 6f0d 0a00  " in rows[2]
