"""What crossed to a server, as it is shown: a card, its connections, its packets; and two captures side by side."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labkit.errors import InputError
from labkit.observe.capture import IMAGE, Session, Target
from labkit.observe.packets import (
    LINKTYPE_RAW,
    SHOWN_BYTES,
    Address,
    CaptureFile,
    Kind,
    Packet,
    tcp_packets,
    tell_apart,
)
from labkit.observe.recording import Recording
from labkit.views.page import card, table
from labkit.views.results import BLUE, ORANGE, Done
from labkit.views.wire_page import packets_page

if TYPE_CHECKING:
    from labkit.views.tables import Table
    from labkit.views.wire_pairs import Beside

ROWS = 40
"""Packets that are shown at most; `.packets` has all."""

COMMENTS = {
    # Only the tcpdump of the embedded cluster writes packets that begin with IP; see labkit.observe.capture.
    LINKTYPE_RAW: "Captured on labkit's embedded cluster: the bytes in the packets are those that crossed between the "
    "pods; the headers of TCP and IP around them are rebuilt, and bare acknowledgements are left out."
}

_COLUMNS = ("TIME", "DIRECTION", "PEER", "PORT", "SIZE", "KIND", "WHAT", "ENTROPY", "HEX", "TEXT")
_CONNECTIONS = ("PEER", "PORT", "PACKETS", "BYTES", "ON THE WIRE", "SNI", "ALPN", "ENDED")
_SHOWN_HEX, _SHOWN_WORDS = 12, 48

REFUSED = "reset by the server"


@dataclass(frozen=True)
class Connection:
    """One connection to the server, as somebody on the wire could describe it."""

    peer: str
    port: int
    packets: int
    bytes: int
    kinds: tuple[Kind, ...]
    sni: str
    alpn: tuple[str, ...]
    ended: str

    @property
    def readable(self) -> bool:
        return any(kind.readable for kind in self.kinds)

    @property
    def encrypted(self) -> bool:
        return any(kind.tls for kind in self.kinds) and not self.readable

    @property
    def on_the_wire(self) -> str:
        if self.encrypted:
            return "TLS"
        return "readable" if self.readable else "no data"

    def row(self) -> tuple[object, ...]:
        """For a table."""
        alpn = ", ".join(self.alpn)
        return self.peer, self.port, self.packets, self.bytes, self.on_the_wire, self.sni, alpn, self.ended


class Wire:
    """What crosses to a server while somebody looks. It goes on until `stop()`, or the end of its `with` block.

    .packets .connections     tables; .requests: the HTTP requests that everybody could read
    .readable .encrypted      whether anything could be read; whether all data was TLS
    .save("before.pcapng")    a file that Wireshark and tshark read; .beside(other): both next to each other
    """

    def __init__(self, session: Session | Recording) -> None:
        self._session = session
        self._read: tuple[CaptureFile, list[Packet]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def wait(self, seconds: float) -> None:
        """Let it go on for so long."""
        self._session.wait(seconds)

    def stop(self) -> Wire:
        """End it, and show what was seen."""
        self._session.stop()
        return self

    # -- what was seen ------------------------------------------------------------------------------------------

    @property
    def server(self) -> str:
        return self._session.server

    @property
    def running(self) -> bool:
        return self._session.running

    @property
    def notes(self) -> list[str]:
        return self._session.notes

    def all_packets(self) -> list[Packet]:
        """Every packet, those that open and close connections too."""
        return self._contents()[1]

    def with_data(self) -> list[Packet]:
        """The packets that carry something, and resets: a connection that is refused ends by one."""
        return [
            one for one in self.all_packets() if (one.size and one.kind is not Kind.AGAIN) or one.kind is Kind.RESET
        ]

    @property
    def packets(self) -> Table:
        """The packets that carry something, as a DataFrame."""
        from labkit.views.tables import make_table

        return make_table(_COLUMNS, self._rows(self.with_data(), SHOWN_BYTES))

    @property
    def connections(self) -> Table:
        """One row for each connection."""
        from labkit.views.tables import make_table

        return make_table(_CONNECTIONS, [one.row() for one in self.all_connections()])

    def all_connections(self) -> list[Connection]:
        """One for each, in the order in which they were seen first."""
        found: dict[tuple[Address, Address], list[Packet]] = {}
        for packet in self.all_packets():
            found.setdefault(self._ends(packet), []).append(packet)
        return [self._connection(peer, server, packets) for (peer, server), packets in found.items()]

    @property
    def requests(self) -> list[str]:
        return [one.detail for one in self.all_packets() if one.kind is Kind.HTTP_REQUEST]

    @property
    def readable(self) -> bool:
        return any(one.readable for one in self.all_connections())

    @property
    def encrypted(self) -> bool:
        found = [one for one in self.all_connections() if one.on_the_wire != "no data"]
        return bool(found) and all(one.encrypted for one in found)

    def as_data(self) -> dict[str, Any]:
        """Everything that is shown, for a script."""
        rows = (dict(zip(_COLUMNS, row, strict=True)) for row in self._rows(self.with_data(), SHOWN_BYTES))
        connections = (dict(zip(_CONNECTIONS, one.row(), strict=True)) for one in self.all_connections())
        return {
            "server": self.server,
            "seconds": round(self._session.seconds, 1),
            "encrypted": self.encrypted,
            "readable": self.readable,
            "connections": [_lowered(one) for one in connections],
            "packets": [_lowered(one) for one in rows],
            "notes": self.notes,
        }

    # -- files and comparisons ----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Done:
        """Write all packets, whole, as pcapng with a comment, or as pcap if the name ends so."""
        import dpkt

        path = Path(path)
        if path.suffix not in (".pcap", ".pcapng"):
            raise InputError(f"{path} names no capture.", next_step="End its name in .pcapng or .pcap.")
        file, out = self._session.file(), io.BytesIO()
        if path.suffix == ".pcap":
            writer = dpkt.pcap.Writer(out, snaplen=2**18, linktype=file.linktype)
        else:
            text = COMMENTS.get(file.linktype, "Captured by tcpdump in an ephemeral container.").encode()
            comment = dpkt.pcapng.PcapngOptionLE(code=dpkt.pcapng.PCAPNG_OPT_COMMENT, data=text)
            header = dpkt.pcapng.SectionHeaderBlockLE(opts=[comment, dpkt.pcapng.PcapngOptionLE()])
            writer = dpkt.pcapng.Writer(out, snaplen=2**18, linktype=file.linktype, shb=header)
        for moment, packet in file.records:
            writer.writepkt(packet, ts=moment)
        path.write_bytes(out.getvalue())
        # Wireshark takes ports such as 5000 for those of other protocols, unless it is to look at the bytes first.
        command = f"tshark -r {path} -o tcp.try_heuristic_first:TRUE"
        lines = ("All that crossed is in it, readable passwords and tokens too: keep it to yourself.",)
        return Done(f"Written: {path}, {len(file.records)} packets", lines if self.readable else (), (command,))

    def beside(self, other: Wire) -> Beside:
        """This capture and another one of the same server next to each other."""
        from labkit.views.wire_pairs import Beside

        sides = ["INSIDE" if one._session.inside else "OUTSIDE" for one in (self, other)]
        return Beside(self, other) if sides[0] == sides[1] else Beside(self, other, (sides[0], sides[1]))

    # -- on the screen ------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        found = self.all_connections()
        words = Counter(one.on_the_wire for one in found)
        told = ", ".join(f"{count} {word}" for word, count in words.items()) or "nothing crossed"
        state = "seen so far" if self.running else f"seen in {self._session.seconds:.0f} s"
        inside = f"Inside {self.server}, from the proxy to the application"
        where = inside if self._session.inside else f"On the wire to {self.server}"
        plural = "" if len(found) == 1 else "s"
        return f"{where}, {state}: {f'{len(found)} connection{plural} ({told})' if found else told}"

    @property
    def kubectl(self) -> tuple[str, ...]:
        """How one does it by hand."""
        return tuple(self._command(target) for target in self._session.targets[:1])

    def _command(self, target: Target) -> str:
        return (
            f"kubectl debug -n {target.namespace} {target.pod} --profile=netadmin --image={IMAGE} -it -- "
            f"tcpdump -i {target.interface} -nA '{target.expression}'"
        )

    def _lines(self) -> list[str]:
        lines = self.notes
        refused = [one for one in self.all_connections() if one.readable and one.ended == REFUSED]
        if refused:
            sent = sum(one.bytes for one in refused)
            plural = "" if len(refused) == 1 else "s"
            lines.append(
                f"{len(refused)} plaintext connection{plural} refused by the server, after {sent} bytes had been sent "
                "that everybody on the way could read"
            )
        hidden = len(self.with_data()) - ROWS
        return [*lines, *([f"{hidden} packets more: .packets has them all"] if hidden > 0 else [])]

    def __repr__(self) -> str:
        parts = [self.title, *(f"  {line}" for line in self._lines())]
        if connections := self.all_connections():
            parts += ["", plain_table(_CONNECTIONS, [one.row() for one in connections])]
        if packets := self.with_data()[:ROWS]:
            parts += ["", plain_table(_COLUMNS, self._rows(packets, _SHOWN_HEX))]
        return "\n".join([*parts, *(f"  $ {line}" for line in self.kubectl)])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        shown = card(self.title, self._lines(), self.kubectl, colour=ORANGE if self.readable else BLUE)
        if connections := self.all_connections():
            shown += table(_CONNECTIONS, [one.row() for one in connections])
        if packets := self.with_data()[:ROWS]:
            zero = self.all_packets()[0].time
            shown += packets_page(packets, zero, self.is_inward, lambda one: self._peer(self._ends(one)[0]))
        return shown

    # -- inside -------------------------------------------------------------------------------------------------

    def _contents(self) -> tuple[CaptureFile, list[Packet]]:
        if self._read is None or not self._session.ended:
            file = self._session.file()
            if self._read is None or len(file.records) != len(self._read[0].records):
                self._read = (file, tell_apart(tcp_packets(file)))
        return self._read

    def is_inward(self, packet: Packet) -> bool:
        """Whether a packet goes to the server."""
        return self._session.is_server(packet.target)

    def _ends(self, packet: Packet) -> tuple[Address, Address]:
        """The client's end and the server's."""
        there = (packet.source, packet.target)
        return there if self.is_inward(packet) else (packet.target, packet.source)

    def _peer(self, end: Address) -> str:
        return self._session.names.get(end[0], end[0])

    def _rows(self, packets: Sequence[Packet], octets: int) -> list[tuple[object, ...]]:
        every = self.all_packets()
        zero = every[0].time if every else 0.0
        rows: list[tuple[object, ...]] = []
        for one in packets:
            peer, server = self._ends(one)
            start = one.start[:octets]
            rows.append(
                (
                    f"{one.time - zero:.4f}",
                    "in" if self.is_inward(one) else "out",
                    self._peer(peer),
                    server[1],
                    one.size,
                    one.kind.value,
                    one.detail if octets > _SHOWN_HEX else _shortened(one.detail),
                    f"{one.entropy:.1f}" if one.size else "",
                    start.hex(" ") + (" ..." if len(one.start) > octets else ""),
                    one.text,
                )
            )
        return rows

    def _connection(self, peer: Address, server: Address, packets: Sequence[Packet]) -> Connection:
        kinds = tuple(dict.fromkeys(one.kind for one in packets))
        hello = next((one for one in packets if one.sni or one.alpn), None)
        ends = [one for one in packets if one.kind in (Kind.RESET, Kind.CLOSE)]
        last = next((one for one in ends if one.kind is Kind.RESET), ends[0] if ends else None)
        ended = ""
        if last is not None:
            who = "client" if last.source == peer else "server"
            ended = f"{'reset' if last.kind is Kind.RESET else 'closed'} by the {who}"
        return Connection(
            self._peer(peer),
            server[1],
            len(packets),
            sum(one.size for one in packets if one.kind is not Kind.AGAIN),
            kinds,
            hello.sni if hello else "",
            hello.alpn if hello else (),
            ended,
        )


def _shortened(words: str) -> str:
    return words if len(words) <= _SHOWN_WORDS else f"{words[: _SHOWN_WORDS - 4]} ..."


def _lowered(row: dict[str, Any]) -> dict[str, Any]:
    return {key.lower().replace(" ", "_"): value for key, value in row.items()}


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table for a terminal."""
    from tabulate import tabulate

    return str(tabulate(rows, headers=columns, tablefmt="plain", disable_numparse=True))
