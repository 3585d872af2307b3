"""`tcpdump`, as far as pods of the embedded cluster need it: the real bytes that cross to this pod's ports.

    tcpdump -i eth0 -U -w - tcp port 5000        a pcap file on standard output
    tcpdump -n -A port 80                        a line for each packet, and its text

The options and the words are those of https://www.tcpdump.org/manpages/tcpdump.1.html; other flags are refused. What
it shows and what it does not: see `segments` (headers are rebuilt) and `tap` (connections that come to this pod, not
those that it opens). The node does the work and this program writes it down.
"""

from __future__ import annotations

import getopt
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from labkit.embedded.wire import socket_path
from labkit.embedded.wire.segments import ACK, SNAPLEN, SYN, Segment, file_header, file_record, flag_text, packet

VERSION = "tcpdump version 4.99 (the embedded cluster's)"
INTERFACES = {"eth0": ("eth0",), "lo": ("lo",), "any": ("eth0", "lo")}
USAGE = "usage: tcpdump [-AlnqtUvxX] [-c count] [-i eth0|lo|any] [-s snaplen] [-w file] [expression]"
_FLAGS = ("version", "help", "immediate-mode", "packet-buffered", "list-interfaces")


class UsageError(Exception):
    """What the program cannot do, in tcpdump's words."""


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    expression: str = ""
    interface: str = "eth0"
    file: str = ""
    count: int = 0
    snaplen: int = SNAPLEN
    text: bool = False
    octets: bool = False
    times: bool = True
    quiet: bool = False


def read_options(arguments: Sequence[str]) -> Options:
    """The options of a command line. Raises UsageError."""
    try:
        pairs, rest = getopt.gnu_getopt(list(arguments), "AB:c:Di:lnpqs:tUvw:xX", _FLAGS)
    except getopt.GetoptError as error:
        raise UsageError(f"tcpdump: {error.msg}\n{USAGE}") from error
    found = dict(pairs)
    interface = found.get("-i", "eth0")
    if interface not in INTERFACES:
        raise UsageError(
            f"tcpdump: {interface}: No such device exists\n"
            "(pods of the embedded cluster have eth0, what crosses to their ports, and lo, between proxy and program)"
        )
    return Options(
        expression=" ".join(rest),
        interface=interface,
        file=found.get("-w", ""),
        count=_number(found, "-c", "packet count", 0),
        snaplen=_number(found, "-s", "snaplen", 0) or SNAPLEN,
        text="-A" in found,
        octets="-x" in found or "-X" in found,
        times="-t" not in found,
        quiet="-q" in found,
    )


def _number(found: Mapping[str, str], name: str, what: str, default: int) -> int:
    text = found.get(name)
    if text is None:
        return default
    if not text.isdigit() or (name == "-c" and int(text) == 0):
        raise UsageError(f"tcpdump: invalid {what} {text}")
    return int(text)


class Feed:
    """The connection to the node."""

    def __init__(self, environment: Mapping[str, str], options: Options) -> None:
        run_dir = Path(environment["POD_RUN"])  # .../p/<row>
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(socket_path(run_dir.parent.parent)))
        self._lines: BinaryIO = self._socket.makefile("rb")
        asked = {"row": int(run_dir.name), "filter": options.expression, "interfaces": INTERFACES[options.interface]}
        self._socket.sendall(json.dumps(asked).encode() + b"\n")
        self.about = json.loads(self._lines.readline() or b"{}")
        self.lost = 0

    def stop(self) -> None:
        """Enough: what is under way still arrives."""
        self._socket.shutdown(socket.SHUT_WR)

    def __iter__(self) -> Iterator[Segment]:
        for line in self._lines:
            head = json.loads(line)
            if "lost" in head:
                self.lost = head["lost"]
                return
            yield Segment.decode(head, self._lines.read(head["size"]))


class _Text:
    """Packets as lines."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.first: dict[tuple[object, object], int] = {}

    def __call__(self, segment: Segment) -> bytes:
        lines = [self.line(segment)]
        if self.options.text:
            lines.append(packet(segment).replace(b"\r\n", b"\n").translate(_PRINTABLE).decode("ascii"))
        if self.options.octets:
            lines += _octets(packet(segment))
        return "\n".join(lines).encode() + b"\n"

    def line(self, segment: Segment) -> str:
        clock = f"{datetime.fromtimestamp(segment.time):%H:%M:%S.%f} " if self.options.times else ""
        ends = " > ".join(f"{host}.{port}" for host, port in (segment.source, segment.target))
        if self.options.quiet:
            return f"{clock}IP {ends}: tcp {len(segment.data)}"
        seq, ack = self.relative(segment)
        number = f"{seq}:{seq + len(segment.data)}" if segment.data else str(seq)
        words = [f"Flags [{flag_text(segment.flags)}]", f"seq {number}"]
        if segment.flags & ACK:
            words.append(f"ack {ack}")
        return f"{clock}IP {ends}: {', '.join(words)}, length {len(segment.data)}"

    def relative(self, segment: Segment) -> tuple[int, int]:
        mine, other = (segment.source, segment.target), (segment.target, segment.source)
        if not segment.flags & ACK:  # a connection begins
            self.first.pop(other, None)
            self.first[mine] = segment.seq
            return segment.seq, 0
        if segment.flags & SYN:
            self.first[mine] = segment.seq
            return segment.seq, 1
        start, there = self.first.setdefault(mine, segment.seq), self.first.setdefault(other, segment.ack - 1)
        return (segment.seq - start) % 2**32, (segment.ack - there) % 2**32


_PRINTABLE = bytes(code if 32 <= code < 127 or code in (9, 10) else ord(".") for code in range(256))


def _octets(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        text = row.translate(_PRINTABLE).decode("ascii").replace("\n", ".").replace("\t", ".")
        yield f"\t0x{start:04x}:  {pairs:<39}  {text}"


_STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run until a signal, or until as many packets as wanted have come; the exit code."""
    if {"--version", "-D", "--list-interfaces", "--help"} & set(arguments):
        print(
            "1.eth0 [Up, Running]\n2.lo [Up, Running, Loopback]\n3.any"
            if {"-D", "--list-interfaces"} & set(arguments)
            else f"{VERSION}\n{USAGE}"
        )
        return 0
    try:
        options = read_options(arguments)
        feed = Feed(environment, options)
        if "error" in feed.about or not feed.about:
            raise UsageError(f"tcpdump: {feed.about.get('error', 'the node does not answer')}")
    except UsageError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyError, OSError) as error:
        print(f"tcpdump: eth0: You don't have permission to capture here: {error!r}", file=sys.stderr)
        return 1
    for number in _STOPPED_BY:
        signal.signal(number, lambda *_: feed.stop())
    print(_greeting(options, feed.about), file=sys.stderr, flush=True)
    count = 0
    with ExitStack() as stack, suppress(BrokenPipeError):  # nobody reads; nothing more to say
        out = sys.stdout.fileno()
        if options.file not in ("", "-"):
            file = Path(environment["POD_ROOT"], options.file.lstrip("/"))
            out = stack.enter_context(file.open("wb", buffering=0)).fileno()
        count = _write(out, options, feed)
    # Python puts signals back to their defaults before it has ended: one more would turn success into a failure.
    for number in _STOPPED_BY:
        signal.signal(number, signal.SIG_IGN)
    print(
        f"{count} packets captured\n{count} packets received by filter\n{feed.lost} packets dropped by kernel",
        file=sys.stderr,
    )
    return 0


def _write(out: int, options: Options, feed: Feed) -> int:
    count = 0
    show = _Text(options)
    if options.file:
        _put(out, file_header(options.snaplen))
    for segment in feed:
        _put(out, file_record(segment, options.snaplen) if options.file else show(segment))
        count += 1
        if options.count and count == options.count:
            break
    return count


def _put(out: int, data: bytes) -> None:
    # Not through Python's buffers: they lost bytes here when a signal came in the middle of a write to a pipe.
    left = memoryview(data)
    while left:
        left = left[os.write(out, left) :]


def _greeting(options: Options, about: Mapping[str, object]) -> str:
    lines = []
    if unseen := about.get("unseen"):
        lines.append(f"tcpdump: not seen here, because they were open before: {unseen} connections")
    for port in about.get("closed") or ():  # type: ignore[attr-defined]
        lines.append(f"tcpdump: port {port}: its program shares it with nobody, so it is not seen here")
    where = f"listening on {options.interface}, link-type RAW (Raw IP), snapshot length {options.snaplen} bytes"
    return "\n".join([*lines, f"tcpdump: {where}" if options.file else where])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
